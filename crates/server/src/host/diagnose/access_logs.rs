//! The files of access logs.

use tidegate_config::{LogTarget, Place, Settings};

use crate::host::diagnose::diagnostic::{ACCESS_LOG, Diagnostic};
use crate::observe::access_log::probe;

/// Faults of the files of access logs, each told once. One that this user may not write is a
/// likely mistake only, since the server may run as another. Blocking.
pub(super) fn access_logs(settings: &Settings) -> Vec<Diagnostic> {
    let common = (Place::of("access-log"), &settings.access_log.path);
    let sites = settings.sites.iter().enumerate().map(|(number, site)| {
        let place = Place::of("site").item(number).key("access-log");
        (place, &site.access_log.path)
    });
    let mut seen = Vec::new();
    let mut faults = Vec::new();
    for (place, target) in std::iter::once(common).chain(sites) {
        let is_used = settings
            .sites
            .iter()
            .any(|site| site.access_log.path == *target);
        if is_used && !seen.contains(&target) {
            seen.push(target);
            faults.extend(fault(place.key("path"), target));
        }
    }
    faults
}

fn fault(place: Place, target: &LogTarget) -> Option<Diagnostic> {
    let error = probe(target).err()?;
    let path = match target {
        LogTarget::File(path) => Some(path.clone()),
        _ => None,
    };
    Some(Diagnostic {
        is_error: !error.is_permission(),
        path,
        ..Diagnostic::warning(ACCESS_LOG, place, error.to_string())
    })
}
