//! The listeners that are open, as the main thread holds them.

use std::io;
use std::mem;
use std::os::fd::OwnedFd;

use crate::accept::address::Address;
use crate::accept::inherited::unless_among;
use crate::accept::listener::{BoundSection, NextListener, OpenListener};
use crate::accept::unix_socket::{FileId, SocketFile};

/// The listeners that are open, in the order of the configuration, with a descriptor of each of
/// their sockets beside those of the workers.
#[derive(Default)]
pub(super) struct OpenListeners(Vec<OpenListener>);

impl OpenListeners {
    /// What the next configuration is compared with.
    pub(super) fn bound(&self) -> Vec<BoundSection> {
        self.0.iter().map(|open| open.bound.clone()).collect()
    }

    /// The addresses at which clients can connect.
    pub(super) fn addresses(&self) -> Vec<Address> {
        let open = self.0.iter().filter(|open| open.bound.is_open);
        open.map(|open| open.bound.address.clone()).collect()
    }

    /// Opens new listeners, and drops those that `next` does not have: the workers hold their
    /// sockets until all clients in the backlog are served. Returns warnings.
    pub(super) fn replace(&mut self, next: Vec<NextListener>) -> Vec<String> {
        for one in next
            .iter()
            .map(NextListener::bound)
            .filter(|one| !one.is_open)
        {
            tracing::error!(
                "not listening on {} until there is a certificate that can be used",
                one.address
            );
        }
        let mut before = mem::take(&mut self.0);
        let is_reload = !before.is_empty();
        let mut warnings = Vec::new();
        let listeners = next.into_iter().filter_map(|next| match next {
            NextListener::New(open) => {
                if is_reload && open.bound.is_open {
                    tracing::info!("listening on {}", open.bound.address);
                }
                Some(open)
            }
            NextListener::Kept(bound) => {
                let found = before.iter().position(|open| open.bound.id == bound.id)?;
                let before = before.swap_remove(found);
                let has_changed = before.bound.access != bound.access;
                let open = OpenListener { bound, ..before };
                if has_changed {
                    warnings.extend(set_access(&open));
                }
                Some(open)
            }
        });
        self.0 = listeners.collect();
        for removed in before {
            tracing::info!("no longer listening on {}", removed.bound.address);
        }
        warnings
    }

    /// Duplicates of the sockets, none twice, each with the file of a Unix socket if that is
    /// removed with it.
    pub(super) fn duplicates(&self) -> io::Result<Vec<(OwnedFd, Option<FileId>)>> {
        let mut all = Vec::new();
        for open in &self.0 {
            let first = all.len();
            for socket in &open.sockets {
                if let Some(socket) = unless_among(socket, &all[first..])? {
                    all.push((socket, open.file.as_ref().map(SocketFile::id)));
                }
            }
        }
        Ok(all)
    }

    /// Removes the files of Unix sockets with them from now on: another process left them, and may
    /// have given them another mode.
    pub(super) fn own(&mut self) {
        for open in &mut self.0 {
            if let Some(file) = &mut open.file {
                file.own();
            }
            set_access(open);
        }
    }

    /// Drops all, and leaves the files of Unix sockets to another process.
    pub(super) fn hand_over(&mut self) {
        let files = self.0.drain(..).filter_map(|open| open.file);
        files.for_each(SocketFile::leave);
    }

    /// Drops all, before the workers close theirs.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Gives the file of a Unix socket the mode and the owner of its section. A warning if that fails.
fn set_access(open: &OpenListener) -> Option<String> {
    let (file, access) = open.file.as_ref().zip(open.bound.access)?;
    let error = file.set_access(access).err()?;
    let address = &open.bound.address;
    let warning = format!("cannot set the mode and the owner of {address}: {error}");
    tracing::error!("{warning}");
    Some(warning)
}
