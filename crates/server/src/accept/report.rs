//! Whether the addresses can be listened on, for `tidegate doctor`.

use tidegate_config::Settings;

use crate::accept::listener;
use crate::host::finding::{Finding, Verdict, finding};

/// Tries every address of `settings`, without listening. Blocking, for as long as a name server does
/// not answer.
pub fn listen_report(settings: &Settings) -> Finding {
    let admin = Some(&*settings.admin.listen).filter(|address| !address.is_empty());
    let verdict = match listener::refused(settings, admin) {
        None => Verdict::Good("every address can be listened on".to_owned()),
        Some(error) => Verdict::Bad(error.into()),
    };
    finding("listen", verdict)
}
