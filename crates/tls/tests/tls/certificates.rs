//! Certificates: which is for whom, and what is refused.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustls::crypto::aws_lc_rs;
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::{SignatureScheme, SupportedCipherSuite};
use tidegate_tls::{Acceptor, Certificate, CertificateFiles, Certificates, Error, Settings};

use crate::kit::{Authority, ClientSettings, Kind, client_config, connect, key_pair, shake};

const ECDSA: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
const RSA: SignatureScheme = SignatureScheme::RSA_PSS_SHA256;

#[test]
fn chosen_by_name_and_key() {
    let authority = Authority::new();
    let files = [
        authority.issue("default", &["example.com", "192.0.2.1"], Kind::Rsa),
        authority.issue("default-ecdsa", &["example.com"], Kind::Ecdsa),
        authority.issue("wild", &["*.example.com"], Kind::Ecdsa),
        authority.issue("exact", &["WWW.example.com"], Kind::Ecdsa),
        authority.issue("other", &["other.test"], Kind::Rsa),
    ];
    let provider = aws_lc_rs::default_provider();
    let certificates = Certificates::load(&files, &provider, SystemTime::now()).unwrap();
    let both = &[RSA, ECDSA][..];
    let cases = [
        (None, both, "default-ecdsa"),
        (None, &[RSA], "default"),
        (None, &[ECDSA], "default-ecdsa"),
        (None, &[], "default-ecdsa"),
        (Some("example.com"), both, "default-ecdsa"),
        (Some("example.com"), &[RSA], "default"),
        (Some("EXAMPLE.com"), &[RSA], "default"),
        (Some("example.com."), &[RSA], "default"),
        (Some("www.example.com"), both, "exact"),
        (Some("a.example.com"), both, "wild"),
        (Some("a.b.example.com"), both, "default-ecdsa"),
        (Some("other.test"), both, "other"),
        (Some("other.test"), &[ECDSA], "other"),
        (Some("unknown.test"), both, "default-ecdsa"),
        (Some("test"), both, "default-ecdsa"),
    ];
    for (name, schemes, expected) in cases {
        let chosen = certificates.choose(name, schemes).unwrap();
        let stem = chosen.files().certificate.file_stem().unwrap();
        assert_eq!(stem, expected, "{name:?} {schemes:?}");
    }
    let told: Vec<_> = certificates
        .iter()
        .map(|one| (one.names().join(" "), one.algorithm()))
        .collect();
    assert_eq!(told[0], ("example.com 192.0.2.1".to_owned(), "RSA"));
    assert_eq!(told[3], ("www.example.com".to_owned(), "ECDSA"));
}

#[test]
fn a_client_that_knows_only_rsa_gets_rsa() {
    let authority = Authority::new();
    let files = vec![
        authority.issue("ecdsa", &["localhost"], Kind::Ecdsa),
        authority.issue("rsa", &["localhost"], Kind::Rsa),
    ];
    let acceptor = Acceptor::new(Settings::new(files.clone())).unwrap();
    let served = |suites: Vec<SupportedCipherSuite>| {
        let settings = ClientSettings {
            suites,
            ..ClientSettings::default()
        };
        let mut client = connect(&client_config(&authority, settings), "localhost");
        shake(&acceptor, &mut client).unwrap();
        client.peer_certificates().unwrap()[0].to_vec()
    };
    let der = |files: &CertificateFiles| {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        CertificateDer::from_pem_file(&files.certificate)
            .unwrap()
            .to_vec()
    };
    let rsa_only = vec![cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256];
    assert_eq!(served(rsa_only), der(&files[1]));
    assert_eq!(
        served(aws_lc_rs::DEFAULT_CIPHER_SUITES.to_vec()),
        der(&files[0])
    );
}

#[test]
fn every_form_of_key() {
    let authority = Authority::new();
    for kind in [Kind::Ecdsa, Kind::Rsa] {
        let key = key_pair(kind);
        let certificate = authority.write("server.pem", &authority.sign(&["localhost"], &key));
        let label = match kind {
            Kind::Ecdsa => "EC PRIVATE KEY",
            Kind::Rsa => "RSA PRIVATE KEY",
        };
        let older = pem(label, last_octet_string(&key.serialize_der()));
        // openssl ecparam writes the parameters first.
        let with_parameters = format!(
            "{}{older}",
            pem("EC PARAMETERS", b"\x06\x08*\x86H\xce=\x03\x01\x07")
        );
        for form in [key.serialize_pem(), older, with_parameters] {
            let files = CertificateFiles {
                certificate: certificate.clone(),
                key: authority.write("server.key", &form),
            };
            load(&files, SystemTime::now()).unwrap();
        }
        // Both in one file.
        let together = fs::read_to_string(&certificate).unwrap() + &key.serialize_pem();
        let path = authority.write("together.pem", &together);
        let files = CertificateFiles {
            certificate: path.clone(),
            key: path,
        };
        load(&files, SystemTime::now()).unwrap();
    }
}

#[test]
fn what_is_refused_and_in_which_words() {
    let authority = Authority::new();
    let good = authority.issue("good", &["localhost"], Kind::Ecdsa);
    let other = authority.issue("other", &["localhost"], Kind::Rsa);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let encrypted_older = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let garbage_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n";
    let write = |name: &str, content: &str| authority.write(name, content);
    let empty = write("empty.pem", "");
    let cases = [
        (
            &good.certificate,
            &other.key,
            &other.key,
            "does not fit the certificate in",
        ),
        (&good.certificate, &empty, &empty, "has no private key"),
        (
            &good.certificate,
            &good.certificate,
            &good.certificate,
            "has no private key",
        ),
        (
            &good.certificate,
            &write("1.key", encrypted),
            &authority.path("1.key"),
            "is encrypted",
        ),
        (
            &good.certificate,
            &write("2.key", encrypted_older),
            &authority.path("2.key"),
            "is encrypted",
        ),
        (
            &good.certificate,
            &write("3.key", garbage_key),
            &authority.path("3.key"),
            "cannot be used",
        ),
        (
            &good.certificate,
            &authority.path("none"),
            &authority.path("none"),
            "cannot be read: No such file",
        ),
        (
            &good.certificate,
            &authority.path(""),
            &authority.path(""),
            "cannot be read: Is a directory",
        ),
        (&empty, &good.key, &empty, "has no certificate"),
        (&good.key, &good.key, &good.key, "has no certificate"),
        (
            &write("1.pem", garbage),
            &good.key,
            &authority.path("1.pem"),
            "certificate 1 of the chain cannot be parsed",
        ),
        (
            &write("2.pem", cut),
            &good.key,
            &authority.path("2.pem"),
            "is not valid PEM",
        ),
        (
            &authority.path("none"),
            &good.key,
            &authority.path("none"),
            "cannot be read: No such file",
        ),
    ];
    for (certificate, key, at_fault, words) in cases {
        let error = refused(certificate, key);
        let start = format!("{}: ", at_fault.display());
        assert!(
            error.starts_with(&start) && error.contains(words),
            "{error}"
        );
    }
}

#[test]
fn the_whole_chain_must_be_valid_now() {
    let authority = Authority::new();
    let key = key_pair(Kind::Ecdsa);
    let leaf = |from: i32, to: i32| {
        authority.sign_with(&["localhost"], &key, |params| {
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(to, 1, 1);
        })
    };
    let good = leaf(2000, 2100);
    let key_path = authority.write("server.key", &key.serialize_pem());
    let with = |chain: &str| refused(&authority.write("server.pem", chain), &key_path);
    let cases = [
        (
            leaf(2000, 2001),
            "certificate 1 of the chain (CN=rcgen self signed cert) expired on Jan  1 00:00:00 2001",
        ),
        (
            leaf(2099, 2100),
            "certificate 1 of the chain (CN=rcgen self signed cert) is not valid before Jan  1 00:00:00 2099",
        ),
        (
            good.clone() + &leaf(2000, 2001),
            "certificate 2 of the chain",
        ),
    ];
    for (chain, words) in cases {
        let error = with(&chain);
        assert!(error.contains(words), "{error}");
    }
    let files = CertificateFiles {
        certificate: authority.write("server.pem", &(good + &leaf(2000, 2050))),
        key: key_path,
    };
    let certificate = load(&files, SystemTime::now()).unwrap();
    // 2050-01-01, the earlier of the two.
    let expected = SystemTime::UNIX_EPOCH + Duration::from_hours(701_280);
    assert_eq!(certificate.not_after(), expected);
    load(&files, expected).unwrap();
    load(&files, expected + Duration::from_secs(1)).unwrap_err();
}

#[test]
fn a_listener_without_certificates_and_bad_authorities() {
    let error = Acceptor::new(Settings::new(Vec::new())).unwrap_err();
    assert!(matches!(error, Error::NoCertificates));
    let authority = Authority::new();
    let mut settings = Settings::new(vec![authority.issue("good", &["localhost"], Kind::Ecdsa)]);
    let authorities = authority.write("authorities.pem", "");
    settings.client_authentication = tidegate_tls::ClientAuthentication::Require { authorities };
    let error = Acceptor::new(settings).unwrap_err().to_string();
    assert!(
        error.ends_with("authorities.pem: not usable as client authorities: has no certificate"),
        "{error}"
    );
}

fn load(
    files: &CertificateFiles,
    now: SystemTime,
) -> Result<Certificate, tidegate_tls::CertificateError> {
    Certificate::load(files, &aws_lc_rs::default_provider(), now)
}

fn refused(certificate: &Path, key: &Path) -> String {
    let files = CertificateFiles {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
    };
    Acceptor::new(Settings::new(vec![files]))
        .unwrap_err()
        .to_string()
}

/// The key inside a PKCS#8 structure: SEC1 or PKCS#1, in its last field, which is an OCTET STRING.
fn last_octet_string(pkcs8: &[u8]) -> &[u8] {
    (0..pkcs8.len())
        .filter(|&start| pkcs8[start] == 4)
        .find_map(|start| {
            let (length, header) = match pkcs8.get(start + 1..)? {
                [0x82, high, low, ..] => (usize::from(u16::from_be_bytes([*high, *low])), 4),
                [0x81, length, ..] => (usize::from(*length), 3),
                [length, ..] => (usize::from(*length), 2),
                [] => return None,
            };
            let content = start + header;
            (content + length == pkcs8.len()).then(|| &pkcs8[content..])
        })
        .unwrap()
}

fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let bits = chunk
            .iter()
            .fold(0u32, |bits, &byte| bits << 8 | u32::from(byte))
            << (8 * (3 - chunk.len()));
        for place in 0..4 {
            let character = if place <= chunk.len() {
                ALPHABET[(bits >> (18 - 6 * place)) as usize & 63]
            } else {
                b'='
            };
            text.push(character.into());
        }
    }
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}
