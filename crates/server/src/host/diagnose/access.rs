//! The files of credentials.

use tidegate_config::Settings;

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
