//! Handshakes that succeed, and their results.

use std::io::Write;
use std::ops::RangeInclusive;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{ALL_CIPHER_SUITES, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection};
use tidegate_tls::{
    Acceptor, Alpn, CertificateFiles, ClientAuthentication, Failed, Handshake, KernelFeatures,
    LeastVersion, Progress, Settings,
};

use crate::kit::{
    Authority, ClientSettings, Kind, client_config, client_input, client_output, connect, exchange,
    read_certificates, read_key, session, shake, shake_in_pieces, simple,
};

#[test]
fn every_suite_of_both_versions() {
    let authority = Authority::new();
    let ecdsa = authority.issue("ecdsa", &["localhost"], Kind::Ecdsa);
    let rsa = authority.issue("rsa", &["localhost"], Kind::Rsa);
    let acceptor = Acceptor::new(Settings::new(vec![ecdsa, rsa])).unwrap();
    assert_eq!(ALL_CIPHER_SUITES.len(), 9);
    for &suite in ALL_CIPHER_SUITES {
        let settings = ClientSettings {
            suites: vec![suite],
            ..ClientSettings::default()
        };
        let config = client_config(&authority, settings);
        let (mut session, mut client, connected) = session(&acceptor, &config);
        let name = suite.suite().as_str().unwrap().replace("TLS13_", "TLS_");
        assert_eq!(connected.suite, name);
        assert_eq!(connected.version, suite.version().version);
        assert_eq!(connected.alpn.as_deref(), Some(&b"http/1.1"[..]));
        assert_eq!(connected.server_name.as_deref(), Some("localhost"));
        assert_eq!(connected.covered[..], ["localhost"]);
        assert!(!connected.resumed);
        assert_eq!(connected.client, None);
        exchange(&mut session, &mut client, b"some bytes");
    }
}

/// Suites that HTTP/2 forbids with TLS 1.2 (RFC 9113, appendix A), by their numbers in IANA's registry.
#[rustfmt::skip] // rows
const FORBIDDEN: [RangeInclusive<u16>; 24] = [
    0x0000..=0x001b, 0x001e..=0x0046, 0x0067..=0x006d, 0x0084..=0x009d, 0x00a0..=0x00a1,
    0x00a4..=0x00a9, 0x00ac..=0x00c5, 0x00ff..=0x00ff, 0xc001..=0xc02a, 0xc02d..=0xc02e,
    0xc031..=0xc051, 0xc054..=0xc055, 0xc058..=0xc05b, 0xc05e..=0xc05f, 0xc062..=0xc06b,
    0xc06e..=0xc07b, 0xc07e..=0xc07f, 0xc082..=0xc085, 0xc088..=0xc089, 0xc08c..=0xc08f,
    0xc092..=0xc09d, 0xc0a0..=0xc0a1, 0xc0a4..=0xc0a5, 0xc0a8..=0xc0a9,
];

#[test]
fn no_suite_is_forbidden_for_http2() {
    let forbidden: usize = FORBIDDEN.iter().map(ExactSizeIterator::len).sum();
    assert_eq!(forbidden, 276);
    assert!(FORBIDDEN.iter().any(|range| range.contains(&0xc013)));
    for suite in ALL_CIPHER_SUITES {
        let number = u16::from(suite.suite());
        let is_forbidden = FORBIDDEN.iter().any(|range| range.contains(&number));
        assert!(!is_forbidden, "{:?}", suite.suite());
    }
}

/// HTTP/2 is agreed on with each suite of TLS 1.2.
#[test]
fn every_suite_is_good_for_http2() {
    let authority = Authority::new();
    let ecdsa = authority.issue("ecdsa", &["localhost"], Kind::Ecdsa);
    let rsa = authority.issue("rsa", &["localhost"], Kind::Rsa);
    let acceptor = Acceptor::new(Settings::new(vec![ecdsa, rsa])).unwrap();
    let acceptor = acceptor.offering(Alpn::Http2OrHttp1);
    for &suite in ALL_CIPHER_SUITES {
        let settings = ClientSettings {
            suites: vec![suite],
            ..ClientSettings::default()
        };
        let connected = session(&acceptor, &client_config(&authority, settings)).2;
        assert_eq!(
            connected.alpn.as_deref(),
            Some(&b"h2"[..]),
            "{:?}",
            suite.suite()
        );
    }
}

#[test]
fn in_pieces_of_every_size() {
    let (authority, acceptor) = simple();
    let config = client_config(&authority, ClientSettings::default());
    for piece in [1, 2, 3, 5, 7, 100] {
        let mut client = connect(&config, "localhost");
        let handshake = shake_in_pieces(&acceptor, &mut client, piece).unwrap();
        exchange(&mut handshake.into_user().unwrap(), &mut client, b"whole");
    }
}

#[test]
fn a_ticket_is_good_at_every_clone_of_the_acceptor_and_after_a_reload() {
    let (authority, acceptor) = simple();
    for version in [ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3] {
        let suites = ALL_CIPHER_SUITES
            .iter()
            .copied()
            .filter(|suite| suite.version().version == version);
        let settings = ClientSettings {
            suites: suites.collect(),
            ..ClientSettings::default()
        };
        let config = client_config(&authority, settings);
        let (_, _, first) = session(&acceptor, &config);
        assert!(!first.resumed);
        let other_core = acceptor.clone();
        let (_, _, second) = std::thread::scope(|scope| {
            let there = scope.spawn(|| session(&other_core, &config));
            there.join().unwrap()
        });
        assert!(second.resumed, "{version:?}");
        assert_eq!(second.covered[..], ["localhost"]);
        assert_eq!(second.server_name.as_deref(), Some("localhost"));
        acceptor.reload().unwrap();
        let (_, _, third) = session(&acceptor, &config);
        assert!(third.resumed, "{version:?}");
    }
}

#[test]
fn data_that_comes_with_the_last_record_of_the_handshake_is_kept() {
    let (authority, acceptor) = simple();
    let config = client_config(&authority, ClientSettings::default());
    let mut client = connect(&config, "localhost");
    let mut handshake = Handshake::new(&acceptor).unwrap();
    let mut out = Vec::new();
    handshake
        .feed(&client_output(&mut client), &mut out)
        .unwrap();
    client_input(&mut client, &out).unwrap();
    client
        .writer()
        .write_all(b"GET / HTTP/1.1\r\n\r\n")
        .unwrap();
    client.writer().flush().unwrap();
    let sent = client_output(&mut client);
    client
        .writer()
        .write_all(b"GET /2 HTTP/1.1\r\n\r\n")
        .unwrap();
    let second = client_output(&mut client);

    // The second request's record is cut: the kernel must not be given the rest.
    let (start, rest) = second.split_at(10);
    out.clear();
    let progress = handshake.feed(&[&sent, start].concat(), &mut out).unwrap();
    assert_eq!(progress, Progress::Finished);
    assert_eq!(handshake.missing(), rest.len());
    assert_eq!(handshake.take_plaintext(), b"GET / HTTP/1.1\r\n\r\n");
    for (index, &byte) in rest.iter().enumerate() {
        assert_eq!(handshake.missing(), rest.len() - index);
        handshake.feed(&[byte], &mut out).unwrap();
    }
    assert_eq!(handshake.missing(), 0);
    assert_eq!(handshake.take_plaintext(), b"GET /2 HTTP/1.1\r\n\r\n");
    client_input(&mut client, &out).unwrap();
    exchange(&mut handshake.into_user().unwrap(), &mut client, b"answer");
}

#[test]
fn the_missing_bytes_of_a_record_begin_with_its_header() {
    let (authority, acceptor) = simple();
    let config = client_config(&authority, ClientSettings::default());
    let mut client = connect(&config, "localhost");
    let mut handshake = shake(&acceptor, &mut client).unwrap();
    assert_eq!(handshake.missing(), 0);
    handshake.feed(&[23, 3], &mut Vec::new()).unwrap();
    assert_eq!(handshake.missing(), 3);
}

#[test]
fn the_kernel_is_for_tls_1_3_where_it_has_the_suite() {
    let (authority, acceptor) = simple();
    let features = tidegate_tls::kernel::probe();
    for &suite in ALL_CIPHER_SUITES {
        let settings = ClientSettings {
            suites: vec![suite],
            ..ClientSettings::default()
        };
        let config = client_config(&authority, settings);
        let mut client = connect(&config, "localhost");
        let Ok(handshake) = shake(&acceptor, &mut client) else {
            continue; // A suite for RSA, and the certificate is not.
        };
        let expected = tidegate_tls::Suite::of(suite).is_some_and(|suite| features.has(suite));
        assert_eq!(handshake.suits_kernel(&features), expected);
        assert!(!handshake.suits_kernel(&KernelFeatures::none()));
    }
}

#[test]
fn client_certificates_requested_or_required() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let server = authority.issue("server", &["localhost"], Kind::Ecdsa);
    let key = crate::kit::key_pair(Kind::Ecdsa);
    let pem = authority.sign_with(&["client"], &key, |params| {
        let name = &mut params.distinguished_name;
        *name = rcgen::DistinguishedName::new();
        name.push(rcgen::DnType::CommonName, "alice");
    });
    let known = tidegate_tls::CertificateFiles {
        certificate: authority.write("client.pem", &pem),
        key: authority.write("client.key", &key.serialize_pem()),
    };
    let unknown = stranger.issue("client", &["client"], Kind::Ecdsa);
    let authorities = authority.file();
    let request = ClientAuthentication::Request {
        authorities: authorities.clone(),
    };
    let require = ClientAuthentication::Require { authorities };
    let cases = [
        (&request, None, Some(None)),
        (&request, Some(&known), Some(Some("CN=alice"))),
        (&request, Some(&unknown), None),
        (&require, None, None),
        (&require, Some(&known), Some(Some("CN=alice"))),
        (&require, Some(&unknown), None),
    ];
    for (authentication, identity, expected) in cases {
        let mut settings = Settings::new(vec![server.clone()]);
        settings.client_authentication = authentication.clone();
        let acceptor = Acceptor::new(settings).unwrap();
        let settings = ClientSettings {
            identity: identity.cloned(),
            ..ClientSettings::default()
        };
        let config = client_config(&authority, settings);
        for resumed in [false, true] {
            let mut client = connect(&config, "localhost");
            let connected = shake(&acceptor, &mut client).map(|h| h.connected().unwrap());
            match (expected, connected) {
                (None, Err(_)) => {}
                (Some(subject), Ok(connected)) => {
                    assert_eq!(connected.client.as_deref(), subject);
                    assert_eq!(connected.resumed, resumed);
                }
                (expected, connected) => panic!("{expected:?}: {connected:?}"),
            }
        }
    }
}

#[test]
fn tls_1_3_only_when_set_so() {
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"], Kind::Ecdsa);
    let mut settings = Settings::new(vec![files]);
    settings.least_version = LeastVersion::Tls13;
    let acceptor = Acceptor::new(settings).unwrap();
    let old = ALL_CIPHER_SUITES
        .iter()
        .copied()
        .filter(|suite| suite.tls13().is_none());
    let settings = ClientSettings {
        suites: old.collect(),
        ..ClientSettings::default()
    };
    let config = client_config(&authority, settings);
    let mut client = connect(&config, "localhost");
    let error = shake(&acceptor, &mut client).err().unwrap();
    assert!(matches!(error, Failed::Tls(_)), "{error}");
}

#[test]
fn no_protocol_in_common_is_refused() {
    let (authority, acceptor) = simple();
    let settings = ClientSettings {
        alpn: vec![b"gopher".to_vec()],
        ..ClientSettings::default()
    };
    let config = client_config(&authority, settings);
    let error = shake(&acceptor, &mut connect(&config, "localhost")).err();
    assert!(matches!(
        error,
        Some(Failed::Tls(rustls::Error::NoApplicationProtocol))
    ));
}

#[test]
fn a_listener_agrees_on_what_it_offers() {
    let (authority, acceptor) = simple();
    let both = ["h2", "http/1.1"];
    let rows = [
        (Alpn::Http1, &both[..], Some("http/1.1")),
        (Alpn::Http1, &["http/1.0"], Some("http/1.0")),
        (Alpn::Http1, &[], None),
        (Alpn::Http2, &both, Some("h2")),
        (Alpn::Http2, &[], None),
        (Alpn::Http2OrHttp1, &both, Some("h2")),
        (Alpn::Http2OrHttp1, &["http/1.1", "h2"], Some("h2")),
        (Alpn::Http2OrHttp1, &["http/1.1"], Some("http/1.1")),
        (Alpn::Http2OrHttp1, &["http/1.0"], Some("http/1.0")),
    ];
    for (offered, known, agreed) in rows {
        let acceptor = acceptor.offering(offered);
        let connected = session(&acceptor, &client_that_knows(&authority, known)).2;
        let alpn = agreed.map(|agreed| agreed.as_bytes().to_vec());
        assert_eq!(connected.alpn, alpn, "{offered:?} {known:?}");
    }
    let acceptor = acceptor.offering(Alpn::Http2);
    let config = client_that_knows(&authority, &["http/1.1"]);
    let error = shake(&acceptor, &mut connect(&config, "localhost")).err();
    assert!(matches!(
        error,
        Some(Failed::Tls(rustls::Error::NoApplicationProtocol))
    ));
}

fn client_that_knows(authority: &Authority, protocols: &[&str]) -> Arc<ClientConfig> {
    let protocols = protocols.iter();
    let settings = ClientSettings {
        alpn: protocols.map(|name| name.as_bytes().to_vec()).collect(),
        ..ClientSettings::default()
    };
    client_config(authority, settings)
}

/// Sessions in which a server with `files` offered early data, as nginx does where it is set to.
fn sessions_with_early_data(
    authority: &Authority,
    files: &CertificateFiles,
    groups: &[&'static dyn SupportedKxGroup],
) -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(read_certificates(&files.certificate), read_key(&files.key))
        .unwrap();
    server.max_early_data_size = EARLY_BYTES as u32;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    let provider = CryptoProvider {
        kx_groups: groups.to_vec(),
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_no_client_auth();
    config.alpn_protocols.clone_from(&server.alpn_protocols);
    config.enable_early_data = true;
    let config = Arc::new(config);
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    let mut client = connect(&config, "localhost");
    while client.wants_write() || server.wants_write() {
        server
            .read_tls(&mut &client_output(&mut client)[..])
            .unwrap();
        server.process_new_packets().unwrap();
        let mut out = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut out).unwrap();
        }
        client_input(&mut client, &out).unwrap();
    }
    config
}

/// What nginx lets a client send early.
const EARLY_BYTES: usize = 16_384;

#[test]
fn early_data_for_the_server_that_had_the_host_before_is_skipped() {
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"], Kind::Ecdsa);
    let acceptor = Acceptor::new(Settings::new(vec![files.clone()])).unwrap();
    // One that the server has, and one that it has to ask for again.
    let groups: [&[&dyn SupportedKxGroup]; 2] =
        [&[kx_group::X25519], &[kx_group::MLKEM768, kx_group::X25519]];
    for groups in groups {
        for (bytes, record) in [
            (1, 1),
            (8179, 8179),
            (EARLY_BYTES, 16_384),
            (EARLY_BYTES, 500),
        ] {
            for piece in [1000, 4096, usize::MAX] {
                let config = sessions_with_early_data(&authority, &files, groups);
                let mut client = connect(&config, "localhost");
                for data in vec![7; bytes].chunks(record) {
                    let mut early = client.early_data().expect("a ticket for early data");
                    assert_eq!(early.write(data).unwrap(), data.len());
                }
                let handshake = shake_in_pieces(&acceptor, &mut client, piece);
                let handshake = handshake.unwrap_or_else(|error| panic!("{bytes} bytes: {error}"));
                assert!(!client.is_early_data_accepted());
                exchange(&mut handshake.into_user().unwrap(), &mut client, b"whole");
                // Nor do our tickets offer any.
                let mut next = connect(&config, "localhost");
                assert!(next.early_data().is_none());
                shake(&acceptor, &mut next).unwrap();
                assert_eq!(next.handshake_kind(), Some(HandshakeKind::Resumed));
            }
        }
    }
}

#[test]
fn undecryptable_records_are_not_skipped_without_end() {
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"], Kind::Ecdsa);
    let acceptor = Acceptor::new(Settings::new(vec![files.clone()])).unwrap();
    let config = sessions_with_early_data(&authority, &files, &[kx_group::X25519]);
    let mut client = connect(&config, "localhost");
    client.early_data().unwrap().write_all(b"early").unwrap();
    let mut handshake = Handshake::new(&acceptor).unwrap();
    let mut out = Vec::new();
    handshake
        .feed(&client_output(&mut client), &mut out)
        .unwrap();
    let mut record = vec![23, 3, 3, 0x10, 0];
    record.resize(5 + 4096, 7);
    let refused = (0..100).find_map(|_| handshake.feed(&record, &mut out).err());
    refused.expect("an end to it");
}

#[test]
fn tiny_records_are_not_decrypted_again_and_again() {
    let authority = Authority::new();
    let files = authority.issue("server", &["localhost"], Kind::Ecdsa);
    let acceptor = Acceptor::new(Settings::new(vec![files.clone()])).unwrap();
    for payload in [0, 1, 17] {
        let config = sessions_with_early_data(&authority, &files, &[kx_group::X25519]);
        let mut client = connect(&config, "localhost");
        client.early_data().unwrap().write_all(b"early").unwrap();
        let mut handshake = Handshake::new(&acceptor).unwrap();
        let mut out = Vec::new();
        handshake
            .feed(&client_output(&mut client), &mut out)
            .unwrap();
        let mut record = vec![23, 3, 3, 0, payload];
        record.resize(5 + usize::from(payload), 7);
        // One is there already.
        handshake.feed(&record.repeat(127), &mut out).unwrap();
        let refused = handshake.feed(&record, &mut out);
        assert!(matches!(refused, Err(Failed::TooLong)), "{payload}");
    }
}
