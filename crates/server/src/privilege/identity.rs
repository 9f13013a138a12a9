//! The user of the process and its capabilities.

use std::ffi::CString;
use std::fs::{DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use nix::unistd::{Gid, Uid, User, initgroups, setgroups, setresgid, setresuid};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getegid, geteuid, getrlimit, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};
use tidegate_config::{Server, Settings};

use crate::host::users::{group, user};

/// Memory that may be locked by a user who is not root: the rings of io_uring count here. That of
/// config/systemd/tidegate.service.
const LOCKED_BYTES: u64 = 512 << 20;

/// What root keeps without `server.user`: files of others, and limits, as before.
const KEPT_BY_ROOT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_RESOURCE);

/// What config/systemd/tidegate.service grants: ports below 1024.
const GRANTED: CapabilitySet = CapabilitySet::NET_BIND_SERVICE;

/// The user to become.
#[derive(Clone)]
pub(crate) struct Identity {
    /// `None`: the one that the process has.
    next: Option<Next>,
}

#[derive(Clone)]
struct Next {
    name: String,
    user: Uid,
    group: Gid,
}

/// Why `server.user` cannot be taken on.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The host has no such user or group.
    #[error("server.{key}: {reason}: name one that it has, or none")]
    Unknown {
        /// `user` or `group`.
        key: &'static str,
        /// What is wrong.
        reason: io::Error,
    },
    /// A number without an account has no group.
    #[error(
        "server.user: this host has no account {0}, so its group is not known: set server.group"
    )]
    NoGroup(u32),
    /// Capabilities cannot be given up.
    #[error("cannot give up capabilities (capset, PR_SET_NO_NEW_PRIVS): {0}")]
    Capabilities(io::Error),
    /// Only root becomes another user.
    #[error(
        "server.user: cannot become `{name}`: {cause}. Start the server as root, or as that user, \
         or leave the key out"
    )]
    Refused {
        /// As configured.
        name: String,
        /// The cause.
        cause: String,
    },
}

impl Identity {
    pub(crate) fn of(server: &Server) -> Result<Self, IdentityError> {
        let unknown = |key| move |reason| IdentityError::Unknown { key, reason };
        let Some(id) = user(&server.user).map_err(unknown("user"))? else {
            return Ok(Self { next: None });
        };
        let named = group(&server.group).map_err(unknown("group"))?;
        let account = || User::from_uid(Uid::from_raw(id)).ok().flatten();
        let group = match named {
            Some(group) => Gid::from_raw(group),
            None => account().ok_or(IdentityError::NoGroup(id))?.gid,
        };
        if geteuid().as_raw() == id {
            // Nothing to do, as with User= of systemd beside it.
            return Ok(Self { next: None });
        }
        let name = server.user.clone();
        if !geteuid().is_root() {
            let cause = "this process is not root's".to_owned();
            return Err(IdentityError::Refused { name, cause });
        }
        Ok(Self {
            next: Some(Next {
                name,
                user: Uid::from_raw(id),
                group,
            }),
        })
    }

    /// The user's number.
    pub(super) fn id(&self) -> u32 {
        let next = self.next.as_ref().map(|next| next.user.as_raw());
        next.unwrap_or(geteuid().as_raw())
    }

    /// The group's number.
    pub(super) fn group(&self) -> u32 {
        let next = self.next.as_ref().map(|next| next.group.as_raw());
        next.unwrap_or(getegid().as_raw())
    }

    /// Has the next user lock what the service's unit allows: root's memory was not counted.
    pub(super) fn raise_limits(&self) {
        if self.next.is_none() {
            return;
        }
        let limit = getrlimit(Resource::Memlock);
        let raise = |limit: Option<u64>| limit.map(|limit| limit.max(LOCKED_BYTES));
        let raised = Rlimit {
            current: raise(limit.current),
            maximum: raise(limit.maximum),
        };
        if let Err(error) = setrlimit(Resource::Memlock, raised) {
            tracing::debug!(%error, "the limit of locked memory stays as it is");
        }
    }

    /// Makes the directory of the cache, which the next user is to write to.
    pub(super) fn make_cache(&self, settings: &Settings) {
        let Some(disk) = &settings.cache.disk else {
            return;
        };
        if disk.path.exists() {
            return;
        }
        let made = make_directory(&disk.path);
        let owned = made.and_then(|directory| match &self.next {
            Some(next) => fchown(
                directory,
                Some(next.user.as_raw()),
                Some(next.group.as_raw()),
            ),
            None => Ok(()),
        });
        // What opens the cache tells what is wrong with its place.
        if let Err(error) = owned {
            tracing::debug!(%error, "the cache is not made yet");
        }
    }

    /// Becomes the next user, for good: no mode of a program gives rights back. Gives all
    /// capabilities up; root without `server.user` those that serving has no use for.
    pub(super) fn take_on(&self) -> Result<(), IdentityError> {
        let is_root = self.next.is_none() && geteuid().is_root();
        let kept = if is_root {
            KEPT_BY_ROOT
        } else {
            CapabilitySet::empty()
        };
        // First, since the next user may not.
        bound_capabilities(kept);
        if let Some(next) = &self.next {
            next.take_on()?;
        }
        drop_capabilities(kept).map_err(IdentityError::Capabilities)?;
        set_no_new_privs(true).map_err(|errno| IdentityError::Capabilities(errno.into()))
    }
}

impl Next {
    fn take_on(&self) -> Result<(), IdentityError> {
        let groups = || {
            match User::from_uid(self.user) {
                Ok(Some(account)) => initgroups(&CString::new(account.name)?, self.group),
                _ => setgroups(&[self.group]),
            }
            .map_err(io::Error::from)
        };
        let groups: io::Result<()> = groups();
        let taken = groups
            .and_then(|()| Ok(setresgid(self.group, self.group, self.group)?))
            .and_then(|()| Ok(setresuid(self.user, self.user, self.user)?));
        taken.map_err(|cause: io::Error| IdentityError::Refused {
            name: self.name.clone(),
            cause: cause.to_string(),
        })
    }
}

/// Makes a directory for its owner alone, and those above that are missing, which all may enter.
fn make_directory(path: &Path) -> io::Result<File> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    if let Some(above) = above.filter(|above| !above.exists()) {
        let above = make_directory(above)?;
        // Whatever the umask.
        above.set_permissions(Permissions::from_mode(0o755))?;
    }
    DirBuilder::new().mode(0o700).create(path)?;
    // Not what somebody puts in its place.
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
    File::options().read(true).custom_flags(flags).open(path)
}

/// Takes all but `kept` out of what a program could get back. Where that is not allowed,
/// `no_new_privs` keeps them from coming back.
fn bound_capabilities(kept: CapabilitySet) {
    for capability in CapabilitySet::all().difference(kept).iter() {
        let _ = remove_capability_from_bounding_set(capability);
    }
}

fn drop_capabilities(kept: CapabilitySet) -> io::Result<()> {
    // An error is of a kernel without ambient capabilities.
    let _ = clear_ambient_capability_set();
    let held = rustix::thread::capabilities(None)?;
    let next = CapabilitySets {
        effective: held.effective & kept,
        permitted: held.permitted & kept,
        inheritable: CapabilitySet::empty(),
    };
    match set_capabilities(None, next) {
        // A service manager's filter forbids the call: what it granted stays.
        Err(Errno::PERM) if (kept | GRANTED).contains(held.permitted) => Ok(()),
        other => Ok(other?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_its_owner_s_and_all_may_enter_those_above() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/cache");
        make_directory(&path).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let above = [path.parent(), path.parent().and_then(Path::parent)];
        assert_eq!(mode(&path), 0o700);
        assert_eq!(above.map(|path| mode(path.unwrap())), [0o755, 0o755]);
    }
}
