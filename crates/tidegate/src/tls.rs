//! Problems with the files of `[tls]`, told at the lines that name them.

use std::path::Path;

use tidegate_config::{Error as ConfigError, Source, Tls};
use tidegate_server::TlsError;

/// Checks the files that `[tls]` names, if there are certificates among them.
pub(crate) fn check(source: &Source, tls: &Tls) -> Result<(), ConfigError> {
    tidegate_server::check_tls(tls).map_err(|error| placed(source, tls, &error))
}

/// `error` at the line that names the file at fault.
pub(crate) fn placed(source: &Source, tls: &Tls, error: &TlsError) -> ConfigError {
    let reason = error.to_string();
    match error.path().and_then(|path| key_of(path, tls)) {
        Some((number, key)) => source.refuse_certificate(number, key, &reason),
        None if error.is_of_authorities() => source.refuse_tls("client-ca", &reason),
        None => source.refuse_tls("certificates", &reason),
    }
}

/// The certificate, by its number from 0, and the key of it that name `path`.
fn key_of(path: &Path, tls: &Tls) -> Option<(usize, &'static str)> {
    tls.certificates
        .iter()
        .enumerate()
        .find_map(|(number, files)| match path {
            path if path == files.key => Some((number, "key")),
            path if path == files.cert => Some((number, "cert")),
            _ => None,
        })
}
