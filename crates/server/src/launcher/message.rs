//! The messages between a server and its launcher: JSON, with descriptors beside it.

use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{self, Path, PathBuf};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longer than any message: a command line and two paths.
const MESSAGE_BYTES: usize = 64 * 1024;

/// The descriptors of a message: the socket for its answer, and one more.
const DESCRIPTORS_MAX: usize = 2;

/// What the launcher is told at its start that it may do, each in a message.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Permit {
    /// Start this program as the successor.
    Start(Program),
    /// Open this file to read it.
    Read(OsString),
    /// Open this file to append to it, or make it.
    Append(OsString),
    /// Bind and remove the Unix socket at this path, and give it this mode and owner.
    Unix(OsString, SocketAccess),
    /// Bind sockets to this port.
    Port(u16),
    /// The last message: requests follow.
    NothingElse,
}

/// What the server asks for. Beside it: the socket for the answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Starts the new binary. Its standard input is beside it, too.
    Successor,
    Read(OsString),
    Append(OsString),
    Bind {
        address: SocketAddr,
        shared: bool,
        only_v6: bool,
    },
    BindUnix {
        path: OsString,
    },
    SetAccess {
        path: OsString,
        id: ParsedFileId,
    },
    RemoveUnix {
        path: OsString,
        id: ParsedFileId,
    },
}

/// The answer of the launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is done; an open file or socket is beside it.
    Done,
    /// A Unix socket is bound: the number of its file, with the socket beside it.
    Bound(ParsedFileId),
    /// The launcher was not told that it may.
    Refused,
    /// With this error number.
    Failed(i32),
    /// The new process runs.
    Started(u32),
    /// Why it does not, or how it ended.
    Said(String),
}

/// What the server says about a process that the launcher started.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Conversation {
    Kill,
}

/// Permissions and owner of a Unix socket: mode, user, group.
pub(crate) type SocketAccess = (u32, u32, u32);

/// A file's device and inode, as bytes.
pub(crate) type ParsedFileId = [u8; 16];

/// The command line of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// The process that it is to replace.
    pub(crate) predecessor: u32,
}

impl Program {
    /// As this process was started. The path is the one that it was called by, so that a symbolic
    /// link may be moved to a new binary; else that of its file. To be called at the start: later
    /// the file may have been replaced.
    pub(crate) fn of_process() -> io::Result<Self> {
        let mut arguments: Vec<OsString> = env::args_os().collect();
        let called = arguments
            .first()
            .and_then(|name| called_path(name.as_ref()));
        arguments.drain(..arguments.len().min(1));
        let path = match env::current_exe() {
            Ok(file) => {
                let is_same =
                    |called: &PathBuf| called.canonicalize().is_ok_and(|found| found == file);
                called.filter(is_same).unwrap_or(file)
            }
            // Without /proc.
            Err(error) => called.ok_or(error)?,
        };
        Ok(Self {
            path,
            arguments,
            predecessor: std::process::id(),
        })
    }
}

/// The absolute path of a program that was called by `name`.
fn called_path(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return path::absolute(name).ok();
    }
    let path = env::var_os("PATH")?;
    let mut places = env::split_paths(&path).map(|directory| directory.join(name));
    places.find(|place| place.is_file())
}

/// Sends a message with `descriptors`.
pub(crate) fn send(
    socket: impl AsFd,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let message = serde_json::to_vec(message)?;
    if message.len() > MESSAGE_BYTES {
        return Err(ErrorKind::ArgumentListTooLong.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(descriptors));
    }
    let flags = SendFlags::NOSIGNAL;
    sendmsg(socket, &[IoSlice::new(&message)], &mut control, flags)?;
    Ok(())
}

/// Waits for the next message, with its descriptors in their order. The end of the other process
/// is an error.
pub(crate) fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<(T, Vec<OwnedFd>)> {
    let mut message = vec![0; MESSAGE_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        let mut buffers = [IoSliceMut::new(&mut message)];
        recvmsg(&socket, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    if received.bytes == 0 {
        return Err(io::Error::new(ErrorKind::UnexpectedEof, "it has ended"));
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(ErrorKind::InvalidData.into());
    }
    let descriptors = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect(),
        _ => Vec::new(),
    });
    let descriptors = descriptors.collect();
    Ok((
        serde_json::from_slice(&message[..received.bytes])?,
        descriptors,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_the_name_it_was_called_by() {
        assert_eq!(
            called_path(Path::new("/usr/./bin/x")),
            Some("/usr/bin/x".into())
        );
        let here = env::current_dir().unwrap();
        assert_eq!(called_path(Path::new("./x")), Some(here.join("x")));
        let shell = called_path(Path::new("sh")).unwrap();
        assert!(shell.is_absolute() && shell.ends_with("sh"));
        assert_eq!(called_path(Path::new("no such program")), None);
    }
}
