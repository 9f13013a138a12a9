//! The files of credentials.

use tidegate_access::read_secret;
use tidegate_config::{Place, Settings};

use crate::config::credentials::faults;
use crate::host::diagnose::diagnostic::Diagnostic;

/// The files of credentials that cannot be used.
pub(super) fn credentials(settings: &Settings) -> impl Iterator<Item = Diagnostic> {
    let faults = faults(settings).into_iter();
    faults.map(|(place, reason)| Diagnostic {
        topic: "credentials",
        place,
        is_error: true,
        reason,
        path: None,
    })
}

/// The tokens that cannot be used.
pub(super) fn tokens(settings: &Settings) -> impl Iterator<Item = Diagnostic> {
    let of_fleet = settings
        .fleet
        .as_ref()
        .and_then(|fleet| fleet.token.as_deref());
    let all = [
        ("admin", settings.admin.token.as_deref()),
        ("fleet", of_fleet),
    ];
    all.into_iter().filter_map(|(section, path)| {
        let error = read_secret(path?).err()?;
        let place = Place::of(section).key("token");
        Some(Diagnostic {
            is_error: true,
            ..Diagnostic::warning(section, place, error.to_string())
        })
    })
}
