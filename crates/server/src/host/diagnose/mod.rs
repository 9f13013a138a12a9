//! Faults of a configuration on this host, and likely mistakes: for `check`, `doctor` and `run` in
//! the same words.
//!
//! The checks of `tidegate_config` have passed. They read neither files nor certificates.

mod access;
mod access_logs;
mod certificates;
mod diagnostic;
mod exposed;
mod files;
mod http2;
mod names;
mod origins;
mod owners;
mod redirects;
mod secrets;
mod sockets;

use tidegate_config::{Place, Settings};

pub use diagnostic::{ACCESS_LOG, CERTIFICATE, Diagnostic};
pub use files::lacks_index;

/// Checks the files, directories and certificates that `settings` name. Blocking, for as long as a
/// file system does not answer.
pub fn diagnose(settings: &Settings) -> Vec<Diagnostic> {
    let sites = settings.sites.iter().enumerate();
    let mut all: Vec<_> = sites
        .flat_map(|(number, site)| files::files(site, &Place::of("site").item(number)))
        .collect();
    all.extend(access::credentials(settings));
    all.extend(access::tokens(settings));
    all.extend(secrets::open_secrets(settings));
    all.extend(names::catch_all_names(settings));
    all.extend(http2::http2(settings));
    all.extend(owners::server_user(settings));
    all.extend(owners::unknown_owners(settings));
    all.extend(sockets::occupied(settings));
    all.extend(redirects::redirects_to_nowhere(settings));
    all.extend(certificates::certificates(settings));
    all.extend(exposed::trusted_strangers(settings));
    all.extend(exposed::open_admin(settings));
    all.extend(access_logs::access_logs(settings));
    all.extend(origins::authorities_of_origins(settings));
    all
}
