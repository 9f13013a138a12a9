//! `[tls]`: policy, file names, and whether keys that belong together are set.
//!
//! The files are not read here.

use std::path::PathBuf;

use toml::Spanned;

use super::report::Report;
use crate::{CertificateFiles, ClientAuth, Tls, ValueError, raw, rules};

/// Checks the section.
pub(super) fn tls(raw: raw::Tls, report: &mut Report<'_>) -> Tls {
    let default = Tls::default();
    let min_version = report.checked(raw.min_version, default.min_version, |name| {
        rules::tls_version(&name)
    });
    let ktls = report.checked(raw.ktls, default.ktls, |name| rules::ktls(&name));
    let hsts = report.checked(raw.hsts, default.hsts, rules::hsts);
    let asked = raw.client_auth.as_ref().map(Spanned::span);
    let client_auth = report.checked(raw.client_auth, ClientAuth::Off, |name| {
        rules::client_auth(&name)
    });
    let directory = report.directory_of(raw.client_ca.as_ref());
    let client_ca = report.checked(raw.client_ca, None, |text| {
        Ok((!text.is_empty()).then(|| directory.join(text)))
    });
    let missing = report.checked(raw.missing, default.missing, |name| {
        rules::missing_certificates(&name)
    });
    let certificates = raw.certificates.into_iter();
    let tls = Tls {
        min_version,
        ktls,
        hsts,
        client_auth,
        client_ca,
        missing,
        certificates: certificates
            .filter_map(|entry| certificate(entry, report))
            .collect(),
    };
    let with_authorities = tls.client_ca.is_some() || report.was_refused_anywhere("tls.client-ca");
    if let (Some(span), true, false) = (asked, tls.client_auth != ClientAuth::Off, with_authorities)
    {
        let reason = "what clients show is checked against authorities: set tls.client-ca";
        report.refuse(&span, &ValueError::new(reason));
    }
    tls
}

/// The entry, its paths relative to the file's directory; `None` if one is missing.
fn certificate(
    raw: Spanned<raw::CertificateFiles>,
    report: &mut Report<'_>,
) -> Option<CertificateFiles> {
    let offset = raw.span().start;
    let raw::CertificateFiles { cert, key } = raw.into_inner();
    let cert = file(cert, (offset, "tls.certificates.cert"), report);
    let key = file(key, (offset, "tls.certificates.key"), report);
    Some(CertificateFiles {
        cert: cert?,
        key: key?,
    })
}

/// A required file name; `place` is the offset and the key for the report if it is missing.
fn file(
    typed: raw::Field<String>,
    place: (usize, &str),
    report: &mut Report<'_>,
) -> Option<PathBuf> {
    let Some(typed) = typed else {
        let (offset, key) = place;
        report.missing(offset, key, "required: a PEM file");
        return None;
    };
    let directory = report.directory_of(Some(&typed));
    report.required(typed, |text| match text.as_str() {
        "" => Err(ValueError::new("empty: name a PEM file")),
        text => Ok(directory.join(text)),
    })
}
