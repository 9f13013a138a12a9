//! The choice of certificates, and the errors of bad ones.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme, SupportedCipherSuite};
use tidegate_tls::{Acceptor, Certificate, CertificateFiles, Certificates, Error, Settings};

use crate::kit::{Authority, ClientSettings, Kind, client_config, connect, key_pair, shake};
use crate::skip::skipped;

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
    let certificates = Certificates::load(&files, &provider).unwrap();
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
            load(&files).unwrap();
        }
        // Both in one file.
        let together = fs::read_to_string(&certificate).unwrap() + &key.serialize_pem();
        let path = authority.write("together.pem", &together);
        let files = CertificateFiles {
            certificate: path.clone(),
            key: path,
        };
        load(&files).unwrap();
    }
}

#[test]
fn refused_files_and_their_messages() {
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
        (&good.certificate, &empty, &empty, "is empty"),
        (
            &good.certificate,
            &good.certificate,
            &good.certificate,
            "has no private key, but CERTIFICATE",
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
            "is a directory and not a regular file",
        ),
        (&empty, &good.key, &empty, "is empty"),
        (
            &good.key,
            &good.certificate,
            &good.key,
            "has no certificate, but PRIVATE KEY",
        ),
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
            "is not valid PEM: the line `-----END CERTIFICATE-----` is missing",
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
fn certificates_that_are_not_valid_now_are_reported_and_served() {
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
    let with = |chain: &str| CertificateFiles {
        certificate: authority.write("server.pem", chain),
        key: key_path.clone(),
    };
    let cases = [
        (
            leaf(2000, 2001),
            "certificate 1 of the chain (CN=rcgen self signed cert) expired on Jan  1 00:00:00 2001 +00:00; clients refuse it, but it is served",
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
        let acceptor = Acceptor::new(Settings::new(vec![with(&chain)])).unwrap();
        assert!(acceptor.is_ready());
        let problems = acceptor.problems();
        assert_eq!(problems.len(), 1);
        let problem = problems[0].to_string();
        assert!(problem.contains(words), "{problem}");
    }
    let certificate = load(&with(&(good + &leaf(2000, 2050)))).unwrap();
    // 2050-01-01, the earlier of the two.
    let expected = SystemTime::UNIX_EPOCH + Duration::from_hours(701_280);
    assert_eq!(certificate.not_after(), expected);
    assert_eq!(certificate.untimely(expected).count(), 0);
    let after = certificate.untimely(expected + Duration::from_secs(1));
    let positions: Vec<_> = after.map(|untimely| untimely.position).collect();
    assert_eq!(positions, [2]);
}

#[test]
fn files_as_other_programs_leave_them() {
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"], Kind::Ecdsa);
    let text = [&files.certificate, &files.key].map(|path| fs::read_to_string(path).unwrap());
    let changes: [fn(&str) -> String; 5] = [
        |text| format!("\u{feff}{text}"),
        |text| text.replace('\n', "\r\n"),
        |text| format!("Bag Attributes\n    friendlyName: caf\u{e9}\nsubject=CN = a\n{text}"),
        |text| text.replace(" CERTIFICATE-", " TRUSTED CERTIFICATE-"),
        |text| text.replace(" CERTIFICATE-", " X509 CERTIFICATE-"),
    ];
    for (number, change) in changes.iter().enumerate() {
        let files = CertificateFiles {
            certificate: authority.write("odd.pem", &change(&text[0])),
            key: authority.write("odd.key", &change(&text[1])),
        };
        let acceptor = Acceptor::new(Settings::new(vec![files]));
        let acceptor = acceptor.unwrap_or_else(|error| panic!("{number}: {error}"));
        let config = client_config(&authority, ClientSettings::default());
        shake(&acceptor, &mut connect(&config, "localhost")).unwrap();
    }
    // A converter's output is no text at all.
    let utf16: Vec<u8> = text[0].encode_utf16().flat_map(u16::to_le_bytes).collect();
    let der = [0x30, 0x82, 1, 0].to_vec();
    for (bytes, words) in [(utf16, "is UTF-16"), (der, "is binary (DER or PKCS#12)")] {
        let path = authority.path("odd");
        fs::write(&path, &bytes).unwrap();
        let error = refused(&path, &files.key);
        assert!(error.contains(words), "{error}");
        let error = refused(&files.certificate, &path);
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_chain_is_sent_from_the_own_certificate_on() {
    let root = Authority::new();
    let middle_key = key_pair(Kind::Ecdsa);
    let mut middle_params = CertificateParams::default();
    let middle = root.sign_with(&[], &middle_key, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "middle");
        middle_params = params.clone();
    });
    let issuer = Issuer::new(middle_params, middle_key);
    let key = key_pair(Kind::Ecdsa);
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap().pem();
    let top = fs::read_to_string(root.file()).unwrap();
    let key = root.write("key", &key.serialize_pem());
    for chain in [
        [&leaf, &middle, &top],
        [&top, &middle, &leaf],
        [&leaf, &top, &middle],
        [&middle, &leaf, &top],
    ] {
        let files = CertificateFiles {
            certificate: root.write("chain.pem", &chain.map(String::as_str).concat()),
            key: key.clone(),
        };
        assert_eq!(load(&files).unwrap().names()[..], ["localhost"]);
        let acceptor = Acceptor::new(Settings::new(vec![files])).unwrap();
        let config = client_config(&root, ClientSettings::default());
        let mut client = connect(&config, "localhost");
        shake(&acceptor, &mut client).unwrap();
        let sent: Vec<_> = client.peer_certificates().unwrap().to_vec();
        let expected = [&leaf, &middle, &top]
            .map(|one| CertificateDer::from_pem_slice(one.as_bytes()).unwrap());
        assert_eq!(sent, expected);
    }
}

/// Runs openssl in the authority's directory; `None` where it is not installed.
fn openssl(authority: &Authority, arguments: &[&str]) -> Option<()> {
    let run = Command::new("openssl")
        .args(arguments)
        .current_dir(authority.directory.path())
        .output();
    match run {
        Ok(output) => assert!(output.status.success(), "{arguments:?}: {output:?}"),
        Err(error) => {
            skipped(format_args!("openssl: {error} (apt-get install openssl)"));
            return None;
        }
    }
    Some(())
}

#[test]
fn certificates_for_keys_that_cannot_be_used_are_named() {
    let authority = Authority::new();
    let rows: [(&[&str], &str); 5] = [
        (&["-algorithm", "ED448"], "Ed448"),
        (
            &["-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"],
            "RSA-PSS",
        ),
        (
            &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"],
            "RSA of 1024 bits",
        ),
        (
            &[
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:secp256k1",
            ],
            "1.3.132.0.10",
        ),
        (
            &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"],
            "",
        ),
    ];
    for (kind, words) in rows {
        let generate = [&["genpkey", "-out", "key"], kind].concat();
        let request = [
            "req", "-x509", "-new", "-key", "key", "-subj", "/CN=a", "-out", "pem",
        ];
        if openssl(&authority, &generate).is_none() {
            return;
        }
        openssl(&authority, &request);
        let files = CertificateFiles {
            certificate: authority.path("pem"),
            key: authority.path("key"),
        };
        if words.is_empty() {
            load(&files).unwrap();
            continue;
        }
        let error = load(&files).unwrap_err().to_string();
        let start = format!(
            "{}: the certificate is for a key",
            files.certificate.display()
        );
        assert!(
            error.starts_with(&start) && error.contains(words),
            "{error}"
        );
    }
}

#[test]
fn x509_of_version_1_and_trust_settings_of_openssl_are_served() {
    let authority = Authority::new();
    let lines: [&[&str]; 5] = [
        &["ecparam", "-name", "prime256v1", "-genkey", "-out", "key"],
        &[
            "req", "-new", "-key", "key", "-subj", "/CN=a", "-out", "request",
        ],
        &[
            "x509", "-req", "-in", "request", "-signkey", "key", "-out", "v1",
        ],
        &[
            "x509",
            "-in",
            "v1",
            "-trustout",
            "-addtrust",
            "serverAuth",
            "-out",
            "trusted",
        ],
        &["x509", "-in", "v1", "-outform", "DER", "-out", "der"],
    ];
    for line in lines {
        if openssl(&authority, line).is_none() {
            return;
        }
    }
    let der = fs::read(authority.path("der")).unwrap();
    for name in ["v1", "trusted"] {
        let files = CertificateFiles {
            certificate: authority.path(name),
            key: authority.path("key"),
        };
        let acceptor = Acceptor::new(Settings::new(vec![files])).unwrap();
        let mut config = Arc::unwrap_or_clone(client_config(&authority, ClientSettings::default()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(Any(Arc::clone(&seen))));
        // This client cannot parse it, but is shown it.
        let _ = shake(&acceptor, &mut connect(&Arc::new(config), "localhost"));
        assert_eq!(*seen.lock().unwrap(), der, "{name}");
    }
}

/// Trusts any certificate, and keeps the last.
#[derive(Debug)]
struct Any(Arc<Mutex<Vec<u8>>>);

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = end_entity.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![ECDSA, RSA]
    }
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
        error.ends_with("authorities.pem: not usable as client authorities: is empty"),
        "{error}"
    );
}

fn load(files: &CertificateFiles) -> Result<Certificate, tidegate_tls::CertificateError> {
    Certificate::load(files, &aws_lc_rs::default_provider())
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
