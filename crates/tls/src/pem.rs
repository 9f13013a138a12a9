//! Reads certificates and keys from PEM files, in the variants that other programs write.

use std::fs::FileType;
use std::io::Read;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::certificate_error::{FILE_BYTES_MAX, Reason};
use crate::opener::open;

/// Labels that OpenSSL has for certificates beside `CERTIFICATE`.
const OTHER_LABELS: [&str; 2] = ["TRUSTED CERTIFICATE", "X509 CERTIFICATE"];

/// Byte order marks, which editors and shells of Windows write.
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";
const UTF16_MARKS: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// Every certificate of a file, in order; a file without any is an error. Bytes that follow one in
/// its section (OpenSSL's trust settings) are kept.
pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Reason> {
    let bytes = read(path)?;
    let text = text(&bytes)?;
    let renamed = with_usual_labels(text);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(renamed.as_bytes()).collect();
    let chain = chain.map_err(Reason::NotPem)?;
    if chain.is_empty() {
        return Err(Reason::NoCertificate(labels(text)));
    }
    Ok(chain)
}

/// The first private key of a file.
pub(crate) fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, Reason> {
    let bytes = read(path)?;
    let text = text(&bytes)?;
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Ok(key),
        Err(_) if mentions_encryption(text) => Err(Reason::EncryptedKey),
        Err(pem::Error::NoItemsFound) => Err(Reason::NoKey(labels(text))),
        Err(error) => Err(Reason::NotPem(error)),
    }
}

/// Reads a file.
fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, Reason> {
    let file = open(path).map_err(Reason::Unreadable)?;
    let kind = file.metadata().map_err(Reason::Unreadable)?.file_type();
    if !kind.is_file() {
        return Err(Reason::NotRegular(name(kind)));
    }
    // Allocated at its final size: a reallocation would leave a copy of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(FILE_BYTES_MAX + 1));
    let mut start = file.take(FILE_BYTES_MAX as u64 + 1);
    start.read_to_end(&mut bytes).map_err(Reason::Unreadable)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(Reason::TooLarge);
    }
    Ok(bytes)
}

fn name(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "directory"
    } else if kind.is_fifo() {
        "pipe"
    } else if kind.is_socket() {
        "socket"
    } else {
        "device"
    }
}

/// The text of a file, without a byte order mark.
fn text(bytes: &[u8]) -> Result<&[u8], Reason> {
    match bytes {
        [] => Err(Reason::Empty),
        // A SEQUENCE whose length takes more than a byte.
        [0x30, 0x80..=0xff, ..] => Err(Reason::Binary),
        _ if UTF16_MARKS.iter().any(|mark| bytes.starts_with(mark)) => Err(Reason::Utf16),
        [b'-', 0, ..] | [0, b'-', ..] => Err(Reason::Utf16),
        _ => Ok(bytes.strip_prefix(UTF8_MARK).unwrap_or(bytes)),
    }
}

/// `text` with the label of every certificate changed to that of RFC 7468.
fn with_usual_labels(text: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::from_utf8_lossy(text).into_owned());
    for other in OTHER_LABELS {
        for side in ["BEGIN", "END"] {
            let label = format!("-----{side} {other}-----");
            text = Zeroizing::new(text.replace(&label, &format!("-----{side} CERTIFICATE-----")));
        }
    }
    text
}

/// The labels of the sections in `text`.
fn labels(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let labels = text.lines().filter_map(|line| {
        let label = line.trim_end().strip_prefix("-----BEGIN ")?;
        label.strip_suffix("-----")
    });
    let labels: Vec<&str> = labels.collect();
    labels.join(", ")
}

/// PKCS#8 has it in the label, the older formats in a header of the section.
fn mentions_encryption(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}
