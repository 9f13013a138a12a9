//! The owners of Unix sockets.

use std::io;

use tidegate_config::{Place, Settings};

use crate::host::diagnose::diagnostic::Diagnostic;
use crate::host::users::{group, user};
use crate::privilege::identity::{Identity, IdentityError};

/// A `server.user` that cannot be taken on: by nobody on this host, or not by this user.
pub(super) fn server_user(settings: &Settings) -> Option<Diagnostic> {
    let error = Identity::of(&settings.server).err()?;
    let key = match &error {
        IdentityError::Unknown { key, .. } => key,
        _ => "user",
    };
    // Another user may start it: `doctor` and `run` are strict.
    let is_error = !matches!(error, IdentityError::Refused { .. });
    let place = Place::of("server").key(key);
    Some(Diagnostic {
        is_error,
        ..Diagnostic::warning("user", place, error.to_string())
    })
}

/// Users and groups of `[[listen]]` that this host lacks.
pub(super) fn unknown_owners(settings: &Settings) -> Vec<Diagnostic> {
    let listeners = settings.listen.iter().enumerate();
    let all = listeners.flat_map(|(number, listen)| {
        let place = |key| Place::of("listen").item(number).key(key);
        [
            unknown(user(&listen.owner), place("owner")),
            unknown(group(&listen.group), place("group")),
        ]
    });
    all.flatten().collect()
}

fn unknown(found: io::Result<Option<u32>>, place: Place) -> Option<Diagnostic> {
    let reason = found.err()?.to_string();
    Some(Diagnostic {
        is_error: true,
        ..Diagnostic::warning("listen", place, reason)
    })
}
