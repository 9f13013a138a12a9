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

use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use tidegate_config::{LogTarget, Settings};

use crate::error::Error;
use crate::host::limits;
use crate::launcher::{self, Permit, Program};
use crate::privilege::files::Fence;
use crate::privilege::identity::Identity;
use crate::signals::Signals;

pub use identity::IdentityError;
pub use reach::Reach;

/// How often a start that waits for a file system looks for a signal.
const SIGNAL_WAIT: Duration = Duration::from_millis(50);

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
    let identity = Identity::of(&settings.server)?;
    identity.raise_limits();
    limits::raise();
    let mut told = Vec::new();
    let launcher = match start_launcher(settings) {
        Ok(child) => Some(child),
        Err(error) => {
            told.push(format!(
                "no upgrade by USR2: cannot start the launcher: {error}"
            ));
            None
        }
    };
    let mut fence = None;
    if settings.sandbox.landlock {
        let files = files.into_iter().map(Path::to_owned).collect();
        fence = build_unless_stopped((settings.clone(), files, identity.clone()), signals)?;
        if fence.is_none() {
            launcher::end();
            return Ok(None);
        }
    }
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

fn start_launcher(settings: &Settings) -> std::io::Result<Child> {
    launcher::start(&Program::of_process()?, &permits(settings))
}

/// What the launcher may do for a server with `settings`.
fn permits(settings: &Settings) -> Vec<Permit> {
    let tls = &settings.tls;
    let keys = tls.certificates.iter();
    let keys = keys.flat_map(|files| [&files.cert, &files.key]);
    let keys = keys.chain(&tls.client_ca);
    let logs = settings.sites.iter().map(|site| &site.access_log.path);
    let logs = logs.filter_map(|target| match target {
        LogTarget::File(path) => Some(path),
        _ => None,
    });
    let sockets = settings
        .listen
        .iter()
        .filter_map(|listen| listen.unix_path());
    let sockets = sockets.chain(settings.server.control.as_deref());
    let ports = settings.listen.iter().map(|listen| &listen.address);
    let ports = ports.filter_map(|address| address.rsplit_once(':')?.1.parse().ok());
    let keys = keys.map(|path| Permit::Read(path.into()));
    let logs = logs.map(|path| Permit::Append(path.into()));
    let sockets = sockets.map(|path| Permit::Unix(path.into()));
    keys.chain(logs)
        .chain(sockets)
        .chain(ports.map(Permit::Port))
        .collect()
}

/// Finds and opens what a server with these settings, of these files, reaches, in a thread of its own,
/// since a file system may not answer. The thread has ended when this returns. `None`: a signal to stop
/// came first.
fn build_unless_stopped(
    (settings, files, identity): (Settings, Vec<PathBuf>, Identity),
    signals: &mut Signals,
) -> Result<Option<(Reach, Fence)>, Error> {
    let (sender, built) = sync_channel(1);
    let thread = thread::Builder::new().name("fence".to_owned());
    let enclose = move || {
        identity.make_cache(&settings);
        let mut wanted = Reach::of(&settings, files.iter().map(PathBuf::as_path));
        let fence = Fence::around(&mut wanted);
        let _ = sender.send((wanted, fence));
    };
    let thread = thread.spawn(enclose).map_err(Error::OpenThread)?;
    loop {
        match built.recv_timeout(SIGNAL_WAIT) {
            Ok((wanted, fence)) => {
                // It has sent, and does nothing more.
                let _ = thread.join();
                return Ok(Some((wanted, fence.map_err(Error::Landlock)?)));
            }
            Err(RecvTimeoutError::Timeout) if signals.has_stop() => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => panic!("the fence panicked"),
        }
    }
}
