//! The listeners that are open, as the main thread holds them.

use std::io;
use std::mem;
use std::os::fd::OwnedFd;

use crate::accept::address::Address;
use crate::accept::inherited::unless_among;
use crate::accept::listener::{BoundSection, NextListener, OpenListener};
use crate::accept::unix_socket::SocketFile;

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
    /// sockets until all clients in the backlog are served.
    pub(super) fn replace(&mut self, next: Vec<NextListener>) {
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
        let listeners = next.into_iter().filter_map(|next| match next {
            NextListener::New(open) => {
                if is_reload && open.bound.is_open {
                    tracing::info!("listening on {}", open.bound.address);
                }
                Some(open)
            }
            NextListener::Kept(bound) => {
                let found = before.iter().position(|open| open.bound.id == bound.id)?;
                let open = before.swap_remove(found);
                Some(OpenListener { bound, ..open })
            }
        });
        self.0 = listeners.collect();
        for removed in before {
            tracing::info!("no longer listening on {}", removed.bound.address);
        }
    }

    /// Duplicates of the sockets, none twice, each with whether the file of a Unix socket is removed
    /// with it.
    pub(super) fn duplicates(&self) -> io::Result<Vec<(OwnedFd, bool)>> {
        let mut all = Vec::new();
        for open in &self.0 {
            let first = all.len();
            for socket in &open.sockets {
                if let Some(socket) = unless_among(socket, &all[first..])? {
                    all.push((socket, open.file.is_some()));
                }
            }
        }
        Ok(all)
    }

    /// Removes the files of Unix sockets with them from now on: another process left them.
    pub(super) fn own(&mut self) {
        let files = self.0.iter_mut().filter_map(|open| open.file.as_mut());
        files.for_each(SocketFile::own);
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
