//! What clients send by mistake or on purpose: an alert and an error, never a panic.

use rustls::crypto::aws_lc_rs::cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
use rustls::crypto::cipher::{OutboundChunks, OutboundPlainMessage};
use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion, SupportedCipherSuite};
use tidegate_tls::{Acceptor, Failed, Handshake, Incoming, Progress};

use crate::kit::{
    ClientSettings, client_config, client_input, client_output, connect, session, shake, simple,
};

/// The handshake's end and what it sent, for `pieces` received one after the other.
fn fed<'a>(
    acceptor: &Acceptor,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Result<Progress, Failed>, Vec<u8>) {
    let mut handshake = Handshake::new(acceptor).unwrap();
    let mut out = Vec::new();
    let mut result = Ok(Progress::More);
    for piece in pieces {
        result = handshake.feed(piece, &mut out);
        if result.is_err() {
            break;
        }
    }
    (result, out)
}

fn is_plain_alert(bytes: &[u8]) -> bool {
    bytes.len() == 7 && bytes[0] == 21
}

#[test]
fn plain_http_is_told_apart_from_the_first_byte_on() {
    let (_authority, acceptor) = simple();
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for piece in [1, 5, request.len()] {
        let (result, out) = fed(&acceptor, request.chunks(piece));
        assert!(matches!(result, Err(Failed::PlainHttp)));
        assert!(out.is_empty());
    }
}

#[test]
fn garbage_ends_in_an_alert() {
    let (_authority, acceptor) = simple();
    let cases: [&[u8]; 7] = [
        &[0; 100],
        &[0xff; 100],
        // An SSLv2 ClientHello.
        &[0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10],
        // A record of 65,535 bytes.
        &[22, 3, 1, 0xff, 0xff, 1, 0, 0],
        // Data before any handshake.
        &[23, 3, 3, 0, 2, 1, 1],
        // An empty handshake record.
        &[22, 3, 1, 0, 0],
        // A ClientHello that says nothing.
        &[22, 3, 1, 0, 4, 1, 0, 0, 0],
    ];
    for bytes in cases {
        for piece in [1, bytes.len()] {
            let (result, out) = fed(&acceptor, bytes.chunks(piece));
            assert!(
                matches!(result, Err(Failed::Tls(_))),
                "{bytes:?}: {result:?}"
            );
            assert!(is_plain_alert(&out), "{bytes:?}: {out:?}");
        }
    }
}

#[test]
fn an_alert_of_the_client_ends_the_handshake() {
    let (_authority, acceptor) = simple();
    let (result, _) = fed(&acceptor, [&[21, 3, 1, 0, 2, 2, 40][..]]);
    assert!(matches!(
        result,
        Err(Failed::Tls(rustls::Error::AlertReceived(_)))
    ));
}

#[test]
fn a_handshake_without_end_is_cut_off() {
    let (_authority, acceptor) = simple();
    // A ClientHello that says it has 65,000 bytes, in records of one byte each.
    let start = [22, 3, 1, 0, 4, 1, 0, 0xfd, 0xe8];
    let record = [22, 3, 1, 0, 1, 0];
    let pieces = std::iter::once(&start[..]).chain(std::iter::repeat_n(&record[..], 70_000));
    let (result, out) = fed(&acceptor, pieces);
    assert!(
        matches!(result, Err(Failed::TooLong | Failed::Tls(_))),
        "{result:?}"
    );
    assert!(is_plain_alert(&out));
}

#[test]
fn cut_off_at_every_byte_of_the_handshake() {
    let (authority, acceptor) = simple();
    let config = client_config(&authority, ClientSettings::default());
    let mut client = connect(&config, "localhost");
    let hello = client_output(&mut client);
    for end in 0..hello.len() {
        let (result, out) = fed(&acceptor, [&hello[..end]]);
        assert_eq!(result.unwrap(), Progress::More);
        assert!(out.is_empty());
    }
    let mut handshake = Handshake::new(&acceptor).unwrap();
    let mut out = Vec::new();
    assert_eq!(handshake.feed(&hello, &mut out).unwrap(), Progress::More);
    assert!(handshake.connected().is_none());
    client_input(&mut client, &out).unwrap();
    let finished = client_output(&mut client);
    let (last, before) = finished.split_last().unwrap();
    assert_eq!(handshake.feed(before, &mut out).unwrap(), Progress::More);
    assert_eq!(
        handshake.feed(&[*last], &mut out).unwrap(),
        Progress::Finished
    );
}

#[test]
fn a_hello_with_any_byte_changed_does_not_panic() {
    let (authority, acceptor) = simple();
    let config = client_config(&authority, ClientSettings::default());
    let hello = client_output(&mut connect(&config, "localhost"));
    for place in 0..hello.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut hello = hello.clone();
            hello[place] ^= change;
            let (result, out) = fed(&acceptor, [&hello[..]]);
            if matches!(result, Err(Failed::Tls(_))) {
                assert!(!out.is_empty(), "no alert: byte {place} ^ {change}");
            }
        }
    }
}

#[test]
fn closed_right_after_the_handshake() {
    let (authority, acceptor) = simple();
    let config = client_config(&authority, ClientSettings::default());
    let mut client = connect(&config, "localhost");
    let mut handshake = shake(&acceptor, &mut client).unwrap();
    client.send_close_notify();
    let mut out = Vec::new();
    handshake
        .feed(&client_output(&mut client), &mut out)
        .unwrap();
    assert!(handshake.is_closed());
    let mut session = handshake.into_user().unwrap();
    session.close(&mut out).unwrap();
    assert!(!out.is_empty());
}

#[test]
fn garbage_after_the_handshake_ends_in_an_alert() {
    let (authority, acceptor) = simple();
    let config = client_config(&authority, ClientSettings::default());
    let cases: [&[u8]; 4] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[23, 3, 3, 0xff, 0xff, 0, 0, 0],
        &[
            23, 3, 3, 0, 30, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3,
            4, 5, 6, 7, 8, 9, 0,
        ],
        &[22, 3, 3, 0, 5, 24, 0, 0, 1, 0],
    ];
    for bytes in cases {
        let (mut session, mut client, _) = session(&acceptor, &config);
        let (mut plaintext, mut out) = (Vec::new(), Vec::new());
        session
            .decrypt(&mut bytes.to_vec(), &mut plaintext, &mut out)
            .unwrap_err();
        assert!(plaintext.is_empty());
        client_input(&mut client, &out).unwrap_err();
        let said = out.len();
        session.close(&mut out).unwrap();
        session.encrypt(b"more", &mut out).unwrap_err();
        assert_eq!(out.len(), said, "nothing after a fatal alert");
    }
}

#[test]
fn renegotiation_is_refused() {
    let (authority, acceptor) = simple();
    let settings = ClientSettings {
        suites: vec![TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256],
        ..ClientSettings::default()
    };
    let config = client_config(&authority, settings);
    let (mut session, client, _) = session(&acceptor, &config);
    // A ClientHello under the session's keys, as a client that renegotiates sends it.
    let hello = client_output(&mut connect(&config, "localhost"));
    let [mut first, mut second] = sealed(client, &hello[5..]);
    let (mut plaintext, mut out) = (Vec::new(), Vec::new());
    let incoming = session.decrypt(&mut first, &mut plaintext, &mut out);
    assert_eq!(incoming.unwrap(), Incoming::Data);
    assert_eq!(out[0], 21, "a warning, no_renegotiation");
    session
        .decrypt(&mut second, &mut plaintext, &mut out)
        .unwrap_err();
    assert!(plaintext.is_empty());
}

/// Two handshake records of TLS 1.2 as the client's next ones, under AES-128-GCM.
fn sealed(client: rustls::ClientConnection, payload: &[u8]) -> [Vec<u8>; 2] {
    let (sequence, secrets) = client.dangerous_extract_secrets().unwrap().tx;
    let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
        panic!("another suite than asked for");
    };
    let SupportedCipherSuite::Tls12(suite) = TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 else {
        panic!("a suite of TLS 1.2");
    };
    let (fixed, explicit) = iv.as_ref().split_at(4);
    let mut encrypter = suite.aead_alg.encrypter(key, fixed, explicit);
    [sequence, sequence + 1].map(|sequence| {
        let record = OutboundPlainMessage {
            typ: ContentType::Handshake,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(payload),
        };
        encrypter.encrypt(record, sequence).unwrap().encode()
    })
}
