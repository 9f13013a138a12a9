//! What `doctor` says of privileges. It tries each bound, in a thread that ends with it.

use std::path::PathBuf;
use std::thread;

use rustix::process::geteuid;
use tidegate_config::{Settings, Symlinks};

use crate::host::finding::{Finding, Verdict, finding};
use crate::privilege::identity::Identity;
use crate::privilege::reach::Reach;
use crate::privilege::{calls, core_dumps, files};

/// Places of a list that are told.
const TOLD_MAX: usize = 6;

/// The user, the files and the calls of a server with `settings` on this host. Blocking; no dump of
/// this process is made from then on.
pub(crate) fn findings(settings: &Settings) -> Vec<Finding> {
    vec![
        finding("user", user(settings)),
        finding("landlock", landlock(settings)),
        finding("seccomp", seccomp(settings)),
        finding("core dumps", dumps(settings)),
    ]
}

fn user(settings: &Settings) -> Verdict {
    let identity = match Identity::of(&settings.server) {
        Ok(identity) => identity,
        Err(error) => return Verdict::Bad(error.into()),
    };
    match identity.id() {
        0 => Verdict::Fair(
            "root serves: set server.user to a user who can read the roots and nothing more"
                .to_owned(),
        ),
        id if id == geteuid().as_raw() => Verdict::Good(format!(
            "{id}, who starts it, without capabilities and without new privileges"
        )),
        id => Verdict::Good(format!(
            "{id} ({}) from the start on, without capabilities and without new privileges",
            settings.server.user
        )),
    }
}

fn landlock(settings: &Settings) -> Verdict {
    if !settings.sandbox.landlock {
        let text = "off (sandbox.landlock): files are bounded by their modes alone";
        return Verdict::Fair(text.to_owned());
    }
    let Some(version) = files::version() else {
        return Verdict::Fair(
            "this kernel has none: files are bounded by their modes alone (CONFIG_SECURITY_LANDLOCK, \
             and landlock in lsm=)"
                .to_owned(),
        );
    };
    let reach = Reach::of(settings, []);
    let text = format!("ABI {version}: {}", reached(&reach));
    if settings
        .sites
        .iter()
        .any(|site| site.symlinks == Symlinks::Follow)
    {
        return Verdict::Fair(format!(
            "{text}; reading is not bounded, since symlinks = \"follow\" leads anywhere"
        ));
    }
    Verdict::Good(text)
}

fn reached(reach: &Reach) -> String {
    let kinds = [
        ("reads below", &reach.read),
        ("appends below", &reach.logs),
        ("writes below", &reach.cache),
        ("makes sockets in", &reach.sockets),
    ];
    let told = kinds.into_iter().filter(|(_, places)| !places.is_empty());
    let told: Vec<_> = told
        .map(|(verb, places)| format!("{verb} {}", listed(places.iter())))
        .collect();
    told.join("; ")
}

fn listed<'a>(places: impl ExactSizeIterator<Item = &'a PathBuf>) -> String {
    let more = places.len().saturating_sub(TOLD_MAX);
    let told: Vec<_> = places
        .take(TOLD_MAX)
        .map(|place| place.display().to_string())
        .collect();
    match more {
        0 => told.join(" "),
        more => format!("{} and {more} more", told.join(" ")),
    }
}

fn seccomp(settings: &Settings) -> Verdict {
    if !settings.sandbox.seccomp {
        return Verdict::Fair("off (sandbox.seccomp): all system calls are allowed".to_owned());
    }
    let tried = thread::Builder::new().spawn(calls::try_bounds);
    match tried.map(thread::JoinHandle::join) {
        Ok(Ok(Ok(true))) => Verdict::Good(format!(
            "{} system calls are allowed, and another one was refused",
            calls::count()
        )),
        Ok(Ok(Ok(false))) => Verdict::Fair(
            "this kernel has none: all system calls are allowed (CONFIG_SECCOMP_FILTER)".to_owned(),
        ),
        Ok(Ok(Err(error))) => Verdict::Bad(error.into()),
        Ok(Err(_)) => Verdict::Bad("the thread that tries it has panicked".into()),
        Err(error) => Verdict::Bad(error.into()),
    }
}

fn dumps(settings: &Settings) -> Verdict {
    if settings.sandbox.core_dumps {
        return Verdict::Fair(
            "a crash may leave keys on the disk: sandbox.core-dumps = false keeps it from that"
                .to_owned(),
        );
    }
    Verdict::good_if(
        core_dumps::forbid(),
        "of this server none is made".to_owned(),
        "but RLIMIT_CORE cannot be lowered here",
    )
}
