//! Problems with the files of `[tls]`, told at the lines that name them.

use std::path::Path;

use tidegate_config::{Error as ConfigError, Source, Tls};
use tidegate_server::TlsError;

use crate::shell;

/// Checks the files that `[tls]` names, if there are certificates among them. Returns what is wrong
/// with those that are served all the same.
pub(crate) fn check(source: &Source, tls: &Tls) -> Result<Vec<ConfigError>, ConfigError> {
    let problems = tidegate_server::check_tls(tls);
    let problems = problems.map_err(|error| placed(source, tls, &error))?;
    let warnings = problems.iter().map(|problem| {
        let reason = format!("warning: {problem}");
        placed_at(source, tls, Some(&problem.path), &reason)
    });
    Ok(warnings.collect())
}

/// `error` at the line that names the file at fault.
pub(crate) fn placed(source: &Source, tls: &Tls, error: &TlsError) -> ConfigError {
    if error.is_of_authorities() {
        let hint = tls.client_ca.as_deref().and_then(shell::hint);
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        return source.refuse_tls("client-ca", &format!("{error}{hint}"));
    }
    placed_at(source, tls, error.path(), &error.to_string())
}

/// `reason` at the line that names `path`, which has a certificate or a key.
fn placed_at(source: &Source, tls: &Tls, path: Option<&Path>, reason: &str) -> ConfigError {
    let hint = path.and_then(shell::hint).map(|hint| format!("; {hint}"));
    let reason = format!("{reason}{}", hint.unwrap_or_default());
    match path.and_then(|path| key_of(path, tls)) {
        Some((number, key)) => source.refuse_certificate(number, key, &reason),
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
