//! Records after the handshake, in user space.

use std::collections::HashSet;
use std::io::Write;

use rustls::crypto::aws_lc_rs::cipher_suite;
use tidegate_tls::{Incoming, RECORD_PLAINTEXT_BYTES_MAX, SHORT_RECORD_BYTES, UserError};

use crate::kit::{
    Authority, ClientSettings, client_config, client_output, client_read, exchange, session, simple,
};

fn both_versions(authority: &Authority) -> [std::sync::Arc<rustls::ClientConfig>; 2] {
    [
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    ]
    .map(|suite| {
        let settings = ClientSettings {
            suites: vec![suite],
            ..ClientSettings::default()
        };
        client_config(authority, settings)
    })
}

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index % 251) as u8).collect()
}

/// The payloads of the records that `bytes` are made of.
fn records(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    while let [_, _, _, high, low, rest @ ..] = bytes {
        let (payload, after) = rest.split_at(usize::from(u16::from_be_bytes([*high, *low])));
        records.push(payload);
        bytes = after;
    }
    records
}

#[test]
fn a_mebibyte_comes_out_as_it_went_in_and_in_full_records() {
    let (authority, acceptor) = simple();
    for config in both_versions(&authority) {
        let (mut session, mut client, _) = session(&acceptor, &config);
        let data = pattern(1 << 20);
        let mut out = b"before".to_vec();
        session.encrypt(&data, &mut out).unwrap();
        assert_eq!(out[..6], *b"before");
        let records = records(&out[6..]);
        // The first of them would be of no use to the client before the next round trip.
        let (opening, full) = records.split_at(4);
        let overhead = 64;
        assert!(
            opening
                .iter()
                .all(|record| record.len() < SHORT_RECORD_BYTES as usize + overhead)
        );
        assert!(
            full.iter()
                .all(|record| record.len() >= RECORD_PLAINTEXT_BYTES_MAX)
        );
        assert_eq!(full.len(), (1 << 20) / RECORD_PLAINTEXT_BYTES_MAX - 1);
        assert_eq!(client_read(&mut client, &out[6..]), data);
    }
}

#[test]
fn records_of_every_size_fit_the_stated_bound() {
    let (authority, acceptor) = simple();
    for config in both_versions(&authority) {
        let (mut session, mut client, _) = session(&acceptor, &config);
        let mut out = vec![0xff; 300 << 10];
        for bytes in [0, 1, 100, 16383, 16384, 16385, 65536, 262_144] {
            let room = session.encrypted_bytes_max(bytes);
            let written = session
                .encrypt_into(&pattern(bytes), &mut out[..room])
                .unwrap();
            assert!(room - written < 256, "{bytes}: {room}, {written}");
            assert_eq!(client_read(&mut client, &out[..written]), pattern(bytes));
        }
        let error = session
            .encrypt_into(&pattern(100), &mut out[..100])
            .unwrap_err();
        assert!(matches!(error, UserError::TooSmall { required } if required > 100));
        exchange(&mut session, &mut client, b"still in step");
    }
}

#[test]
fn received_a_byte_at_a_time() {
    let (authority, acceptor) = simple();
    for config in both_versions(&authority) {
        let (mut session, mut client, _) = session(&acceptor, &config);
        client.writer().write_all(&pattern(3000)).unwrap();
        client.writer().write_all(b"and more").unwrap();
        let (mut plaintext, mut out) = (Vec::new(), Vec::new());
        for byte in client_output(&mut client) {
            session
                .decrypt(&mut [byte], &mut plaintext, &mut out)
                .unwrap();
        }
        assert_eq!(plaintext, [&pattern(3000)[..], b"and more"].concat());
        assert!(out.is_empty());
    }
}

#[test]
fn close_notify_both_ways() {
    let (authority, acceptor) = simple();
    for config in both_versions(&authority) {
        let (mut session, mut client, _) = session(&acceptor, &config);
        client.writer().write_all(b"last words").unwrap();
        client.send_close_notify();
        let (mut plaintext, mut out) = (Vec::new(), Vec::new());
        let incoming = session.decrypt(&mut client_output(&mut client), &mut plaintext, &mut out);
        assert_eq!(incoming.unwrap(), Incoming::Closed);
        assert_eq!(plaintext, b"last words");

        // The client has only closed its own direction.
        session.encrypt(b"the answer", &mut out).unwrap();
        assert_eq!(client_read(&mut client, &out), b"the answer");
        out.clear();
        session.close(&mut out).unwrap();
        client.read_tls(&mut out.as_slice()).unwrap();
        assert!(client.process_new_packets().unwrap().peer_has_closed());
        out.clear();
        session.close(&mut out).unwrap();
        assert!(out.is_empty());
        let error = session.encrypt(b"more", &mut out).unwrap_err();
        assert!(matches!(error, UserError::Ended));
        assert!(out.is_empty());
    }
}

#[test]
fn key_updates_of_the_client_are_followed_and_answered() {
    let (authority, acceptor) = simple();
    let [tls13, _] = both_versions(&authority);
    let (mut session, mut client, _) = session(&acceptor, &tls13);
    for _ in 0..5 {
        client.refresh_traffic_keys().unwrap();
        exchange_after_update(&mut session, &mut client);
    }
    // A large piece right after the request: the answer must find room before it.
    client.refresh_traffic_keys().unwrap();
    let mut sent = client_output(&mut client);
    let (mut plaintext, mut out) = (Vec::new(), Vec::new());
    session
        .decrypt(&mut sent, &mut plaintext, &mut out)
        .unwrap();
    let data = pattern(256 << 10);
    let mut out = vec![0; session.encrypted_bytes_max(data.len())];
    let written = session.encrypt_into(&data, &mut out).unwrap();
    assert_eq!(client_read(&mut client, &out[..written]), data);
}

#[test]
fn a_key_update_that_comes_with_the_end_of_the_handshake_is_answered() {
    let (authority, acceptor) = simple();
    let [tls13, _] = both_versions(&authority);
    let mut client = crate::kit::connect(&tls13, "localhost");
    let mut handshake = tidegate_tls::Handshake::new(&acceptor).unwrap();
    let mut out = Vec::new();
    handshake
        .feed(&client_output(&mut client), &mut out)
        .unwrap();
    crate::kit::client_input(&mut client, &out).unwrap();
    client.refresh_traffic_keys().unwrap();
    client.writer().write_all(b"with new keys").unwrap();
    out.clear();
    let progress = handshake.feed(&client_output(&mut client), &mut out);
    assert_eq!(progress.unwrap(), tidegate_tls::Progress::Finished);
    assert_eq!(handshake.take_plaintext(), b"with new keys");
    let mut session = handshake.into_user().unwrap();
    session.encrypt(b"the answer", &mut out).unwrap();
    assert_eq!(client_read(&mut client, &out), b"the answer");
    client.refresh_traffic_keys().unwrap();
    exchange_after_update(&mut session, &mut client);
}

fn exchange_after_update(
    session: &mut tidegate_tls::UserSession,
    client: &mut rustls::ClientConnection,
) {
    client.writer().write_all(b"with new keys").unwrap();
    let mut sent = client_output(client);
    let (mut plaintext, mut out) = (Vec::new(), Vec::new());
    session
        .decrypt(&mut sent, &mut plaintext, &mut out)
        .unwrap();
    assert_eq!(plaintext, b"with new keys");
    session.encrypt(b"with new keys too", &mut out).unwrap();
    assert_eq!(records(&out).len(), 2, "a KeyUpdate and the data");
    assert_eq!(client_read(client, &out), b"with new keys too");
}

#[test]
fn a_changed_record_ends_in_an_alert() {
    let (authority, acceptor) = simple();
    for config in both_versions(&authority) {
        let (mut session, mut client, _) = session(&acceptor, &config);
        client.writer().write_all(b"will be changed").unwrap();
        let mut sent = client_output(&mut client);
        *sent.last_mut().unwrap() ^= 1;
        let (mut plaintext, mut out) = (Vec::new(), Vec::new());
        let error = session
            .decrypt(&mut sent, &mut plaintext, &mut out)
            .unwrap_err();
        assert!(matches!(error, UserError::Tls(rustls::Error::DecryptError)));
        assert!(plaintext.is_empty());
        client.read_tls(&mut out.as_slice()).unwrap();
        let told = client.process_new_packets().unwrap_err();
        assert_eq!(
            told,
            rustls::Error::AlertReceived(rustls::AlertDescription::BadRecordMac)
        );
    }
}

#[test]
fn explicit_nonces_of_tls_1_2_never_repeat() {
    let (authority, acceptor) = simple();
    let [_, tls12] = both_versions(&authority);
    let mut client = crate::kit::connect(&tls12, "localhost");
    let mut handshake = tidegate_tls::Handshake::new(&acceptor).unwrap();
    let mut wire = Vec::new();
    for _ in 0..3 {
        let mut out = Vec::new();
        handshake
            .feed(&client_output(&mut client), &mut out)
            .unwrap();
        crate::kit::client_input(&mut client, &out).unwrap();
        wire.extend(out);
    }
    // The server's encrypted records begin after its ChangeCipherSpec: Finished is the first.
    let change = [20, 3, 3, 0, 1, 1];
    let start = wire.windows(6).position(|window| window == change).unwrap() + change.len();
    let mut session = handshake.into_user().unwrap();
    for size in [1, 100, 16384, 200_000] {
        session.encrypt(&pattern(size), &mut wire).unwrap();
    }
    session.close(&mut wire).unwrap();
    let records = records(&wire[start..]);
    // The first 16 KiB are in four.
    assert_eq!(records.len(), 1 + 2 + 4 + 13 + 1);
    let nonces: HashSet<&[u8]> = records.iter().map(|record| &record[..8]).collect();
    assert_eq!(nonces.len(), records.len());
}
