//! From a decoded path to what it leads to.

use std::cell::RefCell;
use std::ffi::CString;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use rustix::fs::{FileType, Statx};
use tidegate_uring::{Fd, Ring};

use crate::cache::{Cache, Entry};
use crate::error::{Error, RootError};
use crate::file::{Content, File, Identity, fields, file_type, is_settled};
use crate::mime::Types;
use crate::root::{Root, allow_waiting, stat};

/// The one hidden name that is public by its nature (RFC 8615).
const WELL_KNOWN: &[u8] = b".well-known";

/// How a site is served.
#[derive(Clone, Debug)]
pub struct Config {
    /// The directory.
    pub root: PathBuf,
    /// File names tried in order for a path that ends in a slash.
    pub index: Vec<String>,
    /// Whether names that begin with a dot are served.
    pub hidden_files: bool,
    /// Media types.
    pub types: Types,
    /// Files of at most this many bytes are kept in memory.
    pub inline_max: usize,
    /// Bytes of such files for each core.
    pub hot_bytes: u64,
    /// Descriptors of larger files kept open for each core.
    pub open_files: usize,
    /// How long a looked-up file is trusted before it is looked at again.
    pub valid: Duration,
}

/// What a path leads to.
pub enum Found {
    /// A file to send.
    File(Rc<File>),
    /// A directory, by a path without its final slash.
    Directory,
}

/// One site, as one core serves it.
pub struct Site {
    config: Config,
    ring: Ring,
    root: Root,
    cache: RefCell<Cache>,
}

impl Site {
    /// Opens the root. Called once for each core, while starting.
    pub fn open(config: Config, ring: &Ring) -> Result<Self, RootError> {
        Ok(Self {
            root: Root::open(&config.root)?,
            cache: RefCell::new(Cache::new(
                config.hot_bytes,
                config.open_files,
                config.valid,
            )),
            ring: ring.clone(),
            config,
        })
    }

    /// What `path` is known to lead to, without waiting; `None`: ask [`Site::find`].
    pub fn cached(&self, path: &[u8], now: Instant) -> Option<Rc<File>> {
        let entry = self.cache.borrow().get(path)?;
        (now < entry.trusted_until).then_some(entry.file)
    }

    /// What `path` leads to: decoded, beginning with a slash, without dot segments.
    ///
    /// Dropped: the lookup is cancelled, and nothing of it stays.
    pub async fn find(&self, path: &[u8], now: Instant) -> Result<Found, Error> {
        if !self.config.hidden_files && is_hidden(path) {
            return Err(Error::NotFound);
        }
        let known = self.cache.borrow().get(path);
        if let Some(entry) = known {
            if now < entry.trusted_until || self.is_unchanged(path, &entry, now).await {
                return Ok(Found::File(entry.file));
            }
            self.cache.borrow_mut().remove(path);
        }
        let mut found = self.look_up(path).await;
        if let Err(Error::Busy(_)) = found {
            self.cache.borrow_mut().close_files();
            found = self.look_up(path).await;
        }
        if let Ok(Found::File(file)) = &found {
            self.cache.borrow_mut().insert(path, file, now);
        }
        found
    }

    /// Looks at a file again whose time is over. Meanwhile it is trusted for another period, so
    /// that one request looks and the others are not kept waiting.
    async fn is_unchanged(&self, path: &[u8], entry: &Entry, now: Instant) -> bool {
        if !entry.file.settled {
            return false;
        }
        self.cache.borrow_mut().insert(path, &entry.file, now);
        for name in self.names(path) {
            if let Ok(seen) = self.root.stat(&self.ring, &name).await {
                return Identity::of(&seen) == entry.file.identity;
            }
        }
        false
    }

    async fn look_up(&self, path: &[u8]) -> Result<Found, Error> {
        let mut absent = Error::NotFound;
        for name in self.names(path) {
            match self.open_file(&name).await {
                Err(Error::NotFound) => {}
                Err(error) => absent = error,
                // An index that is a directory.
                Ok(Found::Directory) if path.ends_with(b"/") => {}
                Ok(found) => return Ok(found),
            }
        }
        Err(absent)
    }

    /// The names below the root that `path` may mean, in order.
    fn names(&self, path: &[u8]) -> Vec<CString> {
        let relative = path.strip_prefix(b"/").unwrap_or(path);
        let names: Vec<Vec<u8>> = if relative.is_empty() || relative.ends_with(b"/") {
            let index = self.config.index.iter();
            index
                .map(|name| [relative, name.as_bytes()].concat())
                .collect()
        } else {
            vec![relative.to_vec()]
        };
        // A name with a NUL byte names nothing.
        names.into_iter().flat_map(CString::new).collect()
    }

    async fn open_file(&self, name: &CString) -> Result<Found, Error> {
        let fd = self.root.file(&self.ring, name).await?;
        let seen = stat(&self.ring, &fd).await?;
        match file_type(&seen) {
            FileType::RegularFile => {}
            FileType::Directory => return Ok(Found::Directory),
            _ => return Err(Error::NotFound),
        }
        allow_waiting(&fd)?;
        let content_type = self.config.types.of(name.as_bytes());
        Ok(Found::File(Rc::new(File {
            len: seen.stx_size,
            fields: fields(&seen, &content_type),
            identity: Identity::of(&seen),
            settled: is_settled(&seen, SystemTime::now()),
            content: self.content(fd, &seen).await?,
        })))
    }

    /// The bytes of a small file; a larger one stays where it is.
    async fn content(&self, fd: Fd, seen: &Statx) -> Result<Content, Error> {
        let len = match usize::try_from(seen.stx_size) {
            Ok(len) if len <= self.config.inline_max => len,
            _ => return Ok(Content::File(fd)),
        };
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            let offset = bytes.len() as u64;
            let (count, buffer) = self.ring.read(&fd, bytes, Some(offset)).await;
            bytes = buffer;
            if count? == 0 {
                // It shrank since it was looked at: what is sent from the file itself will come
                // out short and end the connection.
                return Ok(Content::File(fd));
            }
        }
        bytes.truncate(len);
        Ok(Content::Memory(bytes.into()))
    }
}

fn is_hidden(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/')
        .any(|segment| segment.starts_with(b".") && segment != WELL_KNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_begin_with_a_dot_are_hidden() {
        let table: [(&[u8], bool); 9] = [
            (b"/", false),
            (b"/a", false),
            (b"/a.b/c.d", false),
            (b"/.a", true),
            (b"/a/.b", true),
            (b"/.git/config", true),
            (b"/a/.b/c", true),
            (b"/.well-known/security.txt", false),
            (b"/.well-known/.secret", true),
        ];
        for (path, hidden) in table {
            assert_eq!(is_hidden(path), hidden, "{}", path.escape_ascii());
        }
    }
}
