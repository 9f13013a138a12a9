//! What this process may do, and how it gives the rest up before it serves anybody.
//!
//! [`confine`] runs while the process has one thread, so that all threads and rings of later have
//! the same bounds. It starts the launcher first, which stays outside.

mod calls;
mod core_dumps;
mod files;
#[cfg(test)]
mod forbidden_test;
pub(crate) mod identity;
mod reach;
pub(crate) mod report;

use std::io;
use std::path::{self, Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use rustix::process::{getegid, geteuid};
use tidegate_config::{LogTarget, Settings};

use crate::accept::unix_socket::Access;
use crate::error::Error;
use crate::host::limits;
use crate::launcher::{self, Permit, Program};
use crate::observe::access_log::probe;
use crate::privilege::files::Fence;
use crate::privilege::identity::Identity;
use crate::signals::Signals;

pub use identity::IdentityError;
pub use reach::Reach;

/// How often a start that waits for a file system looks for a signal.
const SIGNAL_WAIT: Duration = Duration::from_millis(50);

/// As many links as the kernel follows.
const LINKS_MAX: usize = 40;

/// A process that has given up what serving does not need.
pub struct Confined {
    /// The files that the process can reach; `None`: all that its user can.
    pub reach: Option<Arc<Reach>>,
    launcher: Option<Child>,
    /// What there was to say before there was a log.
    told: Vec<String>,
}

/// Starts the launcher, becomes `server.user`, and closes what `[sandbox]` says. `files` are those
/// of the configuration. To be called once, while the process has one thread. `None`: a signal to
/// stop came first.
///
/// # Errors
///
/// If the user is unknown or cannot be taken on, or the kernel refuses a bound that it has.
pub fn confine<'a>(
    settings: &'a Settings,
    files: impl IntoIterator<Item = &'a Path>,
    signals: &mut Signals,
) -> Result<Option<Confined>, Error> {
    signals.take_stops()?;
    let files: Vec<PathBuf> = files.into_iter().map(Path::to_owned).collect();
    let identity = Identity::of(&settings.server)?;
    identity.raise_limits();
    limits::raise();
    let mut told = Vec::new();
    let of_process = files.iter().find(|file| is_of_process(file));
    if let Some(file) = of_process {
        let file = file.display();
        told.push(format!(
            "no upgrade by USR2, which would read the configuration again: {file} is of this process"
        ));
    }
    let launcher = match start_launcher(settings, &identity, of_process.is_none()) {
        Ok(child) => Some(child),
        Err(error) => {
            told.push(format!(
                "no upgrade by USR2: cannot start the launcher: {error}"
            ));
            None
        }
    };
    let (served, user) = (settings.clone(), identity.clone());
    let enclosed = unless_stopped(signals, move || enclose(&served, &files, &user))?;
    let Some(fence) = enclosed else {
        launcher::end();
        return Ok(None);
    };
    let fence = fence?;
    if !settings.sandbox.core_dumps {
        core_dumps::forbid();
    }
    identity.take_on()?;
    let mut reach = None;
    if let Some((wanted, fence)) = fence {
        if fence.close().map_err(Error::Landlock)? {
            reach = Some(Arc::new(wanted));
        } else {
            told.push("this kernel has no landlock: files are bounded by their modes alone".into());
        }
    }
    if settings.sandbox.seccomp && !calls::restrict()? {
        told.push("this kernel has no seccomp: system calls are not bounded".into());
    }
    Ok(Some(Confined {
        reach,
        launcher,
        told,
    }))
}

impl Confined {
    /// Logs what there was to say, and looks after the launcher. Call it once there is a log.
    pub(crate) fn begin(self) -> Result<(), Error> {
        for line in self.told {
            tracing::info!("{line}");
        }
        tidegate_tls::open_files_by(launcher::open_to_read);
        let watched = self.launcher.map(launcher::watch).transpose();
        watched.map(drop).map_err(Error::LauncherThread)
    }
}

fn start_launcher(
    settings: &Settings,
    identity: &Identity,
    has_successor: bool,
) -> io::Result<Child> {
    let program = Program::of_process()?;
    let start = has_successor.then(|| Permit::Start(program.clone()));
    let permits = permits(settings, (identity.id(), identity.group()));
    launcher::start(&program, start.into_iter().chain(permits).collect())
}

/// Whether a file of the configuration is standard input or another descriptor, by whatever links.
/// It is another one in a new process, which the one that asks for that could choose. Blocking.
fn is_of_process(file: &Path) -> bool {
    let mut next = file.to_owned();
    for _ in 0..LINKS_MAX {
        let directory = path::absolute(&next).ok();
        let directory = directory.and_then(|path| path.parent()?.canonicalize().ok());
        if next == Path::new("-") || directory.is_some_and(|path| path.starts_with("/proc")) {
            return true;
        }
        match next.read_link() {
            Ok(target) => next = next.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => return false,
        }
    }
    true
}

/// What the launcher may do for a server with `settings`, which serves as this user and group.
fn permits(settings: &Settings, (user, group): (u32, u32)) -> Vec<Permit> {
    let tls = &settings.tls;
    let keys = tls.certificates.iter();
    let keys = keys.flat_map(|files| [&files.cert, &files.key]);
    let keys = keys.chain(&tls.client_ca);
    let logs = settings.sites.iter().map(|site| &site.access_log.path);
    let logs = logs.filter_map(|target| match target {
        LogTarget::File(path) => Some(path),
        _ => None,
    });
    // What binds a socket of an unknown owner tells of that.
    let sockets = (settings.listen.iter())
        .filter_map(|listen| Some((listen.unix_path()?, Access::of(listen).ok()?)));
    let control = settings.server.control.as_deref();
    let sockets = sockets.chain(control.map(|path| (path, Access::for_own_user())));
    let ports = settings.listen.iter().map(|listen| &listen.address);
    let ports = ports.filter_map(|address| address.rsplit_once(':')?.1.parse().ok());
    let keys = keys.map(|path| Permit::Read(path.into()));
    let logs = logs.map(|path| Permit::Append(path.into()));
    let sockets =
        sockets.map(|(path, access)| Permit::Unix(path.into(), access.of_user(user, group)));
    keys.chain(logs)
        .chain(sockets)
        .chain(ports.map(Permit::Port))
        .collect()
}

/// What a server with `settings` needs that neither this process nor its launcher may do, but a
/// launcher that is told of it: a key of root's, a log in a directory of root's, another owner of a
/// socket. Blocking.
pub fn unpermitted(settings: &Settings) -> Option<String> {
    let permitted = launcher::permits_of_another_user()?;
    let own = (geteuid().as_raw(), getegid().as_raw());
    let all = permits(settings, own).into_iter();
    let mut new = all.filter(|permit| !permitted.contains(permit));
    new.find_map(|permit| match permit {
        Permit::Read(path) => {
            let opened = launcher::open_to_read(path.as_ref());
            let is_denied = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
            opened.is_err_and(is_denied).then_some(path)
        }
        Permit::Append(path) => {
            let opened = probe(&LogTarget::File(PathBuf::from(&path)));
            opened
                .is_err_and(|error| error.is_permission())
                .then_some(path)
        }
        Permit::Unix(path, (_, user, group)) => {
            let is_changed = |old: &Permit| match old {
                Permit::Unix(known, (_, owner, of)) => {
                    *known == path && ((owner, of) != (&user, &group) || user != own.0)
                }
                _ => false,
            };
            permitted.iter().any(is_changed).then_some(path)
        }
        // An error of binding tells.
        _ => None,
    })
    .map(|path| path.to_string_lossy().into_owned())
}

/// Makes the directory of the cache, and finds and opens what a server with these settings, of these
/// files, reaches, if landlock is to bound it. Blocking.
fn enclose(
    settings: &Settings,
    files: &[PathBuf],
    identity: &Identity,
) -> Result<Option<(Reach, Fence)>, Error> {
    identity.make_cache(settings);
    if !settings.sandbox.landlock {
        return Ok(None);
    }
    let mut wanted = Reach::of(settings, files.iter().map(PathBuf::as_path));
    let fence = Fence::around(&mut wanted).map_err(Error::Landlock)?;
    Ok(Some((wanted, fence)))
}

/// Does `work` in a thread of its own, since a file system may not answer. The thread has ended when
/// this returns. `None`: a signal to stop came first.
fn unless_stopped<T: Send + 'static>(
    signals: &mut Signals,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>, Error> {
    let (sender, done) = sync_channel(1);
    let thread = thread::Builder::new().name("fence".to_owned());
    let thread = thread.spawn(move || drop(sender.send(work())));
    let thread = thread.map_err(Error::OpenThread)?;
    loop {
        match done.recv_timeout(SIGNAL_WAIT) {
            Ok(result) => {
                // It has sent, and does nothing more.
                let _ = thread.join();
                return Ok(Some(result));
            }
            Err(RecvTimeoutError::Timeout) if signals.has_stop() => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => panic!("the fence panicked"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_descriptor_is_of_the_process_by_whatever_link() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        symlink("/dev/stdin", at("input")).unwrap();
        symlink("input", at("link")).unwrap();
        symlink("/dev", at("dev")).unwrap();
        std::fs::write(at("file"), "").unwrap();
        symlink("file", at("to file")).unwrap();
        for file in ["-", "/dev/stdin", "/dev/fd/63", "/proc/self/fd/0"] {
            assert!(is_of_process(Path::new(file)), "{file}");
        }
        for (name, is) in [
            ("link", true),
            ("dev/stdin", true),
            ("file", false),
            ("to file", false),
            ("none", false),
        ] {
            assert_eq!(is_of_process(&at(name)), is, "{name}");
        }
    }
}
