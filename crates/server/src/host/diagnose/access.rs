//! The files of credentials.

use tidegate_config::{Place, Settings};

use crate::config::cached_sites::token_fault;
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

/// A token of the admin listener that cannot be used, or that everybody may read.
pub(super) fn admin_token(settings: &Settings) -> Option<Diagnostic> {
    let (is_usable, reason) = token_fault(settings)?;
    let warning = Diagnostic::warning("admin", Place::of("admin").key("token"), reason);
    Some(Diagnostic {
        is_error: !is_usable,
        ..warning
    })
}
