//! The files of authorities of origins.

use tidegate_config::{Place, Settings};

use crate::config::client_tls::authorities;
use crate::error::Error;
use crate::host::diagnose::diagnostic::Diagnostic;

/// The files of authorities that cannot be used. Blocking.
pub(super) fn authorities_of_origins(settings: &Settings) -> Vec<Diagnostic> {
    let mut faults = Vec::new();
    for (number, site) in settings.sites.iter().enumerate() {
        for (position, origin) in site.origins.iter().enumerate() {
            let Some(path) = &origin.ca else { continue };
            if let Err(error) = authorities(path) {
                let place = Place::of("site").item(number).key("origin");
                faults.push(fault(place.item(position).key("ca"), path.clone(), &error));
            }
        }
    }
    faults
}

fn fault(place: Place, path: std::path::PathBuf, error: &Error) -> Diagnostic {
    Diagnostic {
        is_error: true,
        path: Some(path),
        ..Diagnostic::warning("origin", place, error.to_string())
    }
}
