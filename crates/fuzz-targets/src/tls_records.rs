//! TLS 1.3 behind the handshake: a client that seals what it likes. How its bytes are cut decides
//! nothing, and what it must not send ends the session.

use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::{ConnectionTrafficSecrets, ContentType, ProtocolVersion, SupportedCipherSuite};
use tidegate_tls::Incoming;

use crate::cuts::pieces;
use crate::tls_handshake::{Client, shake};

/// A KeyUpdate without its last byte, `request_update` (RFC 8446, section 4.6.3).
const KEY_UPDATE_START: [u8; 4] = [24, 0, 0, 1];

/// Handshake records that are sent: so many `KeyUpdate`s are taken at once. More are taken or
/// not by the time that passes.
const HANDSHAKE_RECORDS_MAX: usize = 32;

/// `data` is records: a byte each for the type and the length, and the content. The type 0 stands
/// for bytes that are sent as they are.
pub(crate) fn check(data: &[u8]) {
    let whole = Outcome::of(data, |sent| vec![sent]);
    for cut in [
        Outcome::of(data, |sent| sent.chunks(1).collect()),
        Outcome::of(data, |sent| pieces(sent, 40).collect()),
    ] {
        assert_eq!(cut.end, whole.end);
        assert_eq!(cut.alert_bytes, whole.alert_bytes);
        assert_eq!(cut.response_bytes, whole.response_bytes);
        // What was received together with a mistake is of no use any more.
        assert!(cut.data.starts_with(&whole.data));
        let is_error = !matches!(whole.end, End::Open | End::Closed);
        assert!(is_error || cut.data == whole.data);
    }
}

/// What a session makes of it.
struct Outcome {
    data: Vec<u8>,
    end: End,
    alert_bytes: usize,
    /// Those of a response, with the answer to a KeyUpdate; `None` if it cannot be sent any more.
    response_bytes: Option<usize>,
}

#[derive(Debug, PartialEq)]
enum End {
    Open,
    Closed,
    Error(String),
}

impl Outcome {
    fn of(data: &[u8], cut: fn(&[u8]) -> Vec<&[u8]>) -> Self {
        let (client, mut session) = shake();
        let sent = Sender::new(client).send(data);
        let (mut plaintext, mut out) = (Vec::new(), Vec::new());
        let mut end = End::Open;
        for piece in cut(&sent) {
            match session.decrypt(&mut piece.to_vec(), &mut plaintext, &mut out) {
                Ok(Incoming::Data) => continue,
                Ok(Incoming::Closed) => end = End::Closed,
                Err(error) => end = End::Error(error.to_string()),
            }
            break;
        }
        let alert_bytes = out.len();
        out.clear();
        let is_sent = session.encrypt(b"text", &mut out).is_ok();
        assert_eq!(is_sent, !matches!(end, End::Error(_)));
        Self {
            data: plaintext,
            end,
            alert_bytes,
            response_bytes: is_sent.then_some(out.len()),
        }
    }
}

/// Seals records as the client of a session.
struct Sender {
    client: Client,
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
    /// The content of handshake records since the last KeyUpdate.
    handshake: Vec<u8>,
    handshake_records: usize,
}

impl Sender {
    fn new(mut client: Client) -> Self {
        let (sequence, secrets) = client.take_secrets();
        Self {
            encrypter: encrypter(&client, secrets),
            client,
            sequence,
            handshake: Vec::new(),
            handshake_records: 0,
        }
    }

    /// The records of `data` on the wire.
    fn send(mut self, mut data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(([kind, len], behind)) = data.split_first_chunk() {
            let (content, rest) = behind.split_at(behind.len().min(usize::from(*len)));
            data = rest;
            match *kind {
                0 => out.extend_from_slice(content),
                kind => self.seal(ContentType::from(kind), content, &mut out),
            }
        }
        out
    }

    fn seal(&mut self, kind: ContentType, content: &[u8], out: &mut Vec<u8>) {
        if kind == ContentType::Handshake {
            self.handshake_records += 1;
            if self.handshake_records > HANDSHAKE_RECORDS_MAX {
                return;
            }
        }
        let plain = OutboundPlainMessage {
            typ: kind,
            version: ProtocolVersion::TLSv1_3,
            payload: OutboundChunks::Single(content),
        };
        let sealed = self.encrypter.encrypt(plain, self.sequence);
        out.extend(sealed.expect("a key that is not worn").encode());
        self.sequence += 1;
        if kind == ContentType::Handshake {
            self.follow(content);
        }
    }

    /// Changes the key behind a KeyUpdate.
    fn follow(&mut self, content: &[u8]) {
        self.handshake.extend_from_slice(content);
        if let [start @ .., 0 | 1] = self.handshake.as_slice()
            && start == KEY_UPDATE_START
        {
            self.handshake.clear();
            let (sequence, secrets) = self.client.next_secrets();
            self.encrypter = encrypter(&self.client, secrets);
            self.sequence = sequence;
        }
    }
}

fn encrypter(client: &Client, secrets: ConnectionTrafficSecrets) -> Box<dyn MessageEncrypter> {
    let (
        ConnectionTrafficSecrets::Aes128Gcm { key, iv }
        | ConnectionTrafficSecrets::Aes256Gcm { key, iv }
        | ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv },
        SupportedCipherSuite::Tls13(suite),
    ) = (secrets, client.suite())
    else {
        panic!("a suite of TLS 1.3");
    };
    suite.aead_alg.encrypter(key, iv)
}
