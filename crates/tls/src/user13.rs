//! TLS 1.3 after the handshake, in user space. Data is encrypted straight from its source to the
//! output buffer. rustls made the keys, and makes the next ones at a KeyUpdate ([`rustls::kernel`],
//! the interface that kTLS uses too).

use std::mem;
use std::time::Instant;

use rustls::kernel::KernelConnection;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::{
    AlertDescription, ConnectionTrafficSecrets, Error, InvalidMessage, SupportedCipherSuite,
};

use crate::post_handshake::{KEY_UPDATE_MESSAGE, KeyUpdates, MessageError};
use crate::protection::{
    ALERT, DATA, HANDSHAKE, HEADER_BYTES, Key, OVERHEAD_BYTES, RECORD_PLAINTEXT_BYTES_MAX,
    RecordError, next_record,
};
use crate::session::{Decrypted, Incoming, UserError};

/// Alert levels (RFC 8446 section 6).
const WARNING: u8 = 1;
const FATAL: u8 = 2;

/// The records of one connection of TLS 1.3.
pub(crate) struct Session {
    connection: KernelConnection<ServerConnectionData>,
    send: Key,
    receive: Key,
    /// The start of a record whose rest is still to come; less than a record.
    input: Vec<u8>,
    /// Records after which the sending key is changed.
    records_max: u64,
    key_updates: KeyUpdates,
    /// The client asked for a KeyUpdate.
    owes_key_update: bool,
    phase: Phase,
    /// The secrets of `send` and `receive`, kept while the kernel may get them.
    secrets: Option<Box<Secrets>>,
}

struct Secrets {
    send: ConnectionTrafficSecrets,
    receive: ConnectionTrafficSecrets,
}

/// A session's keys with the numbers of the next records, and the state that makes the next keys.
pub(crate) struct Handover {
    pub(crate) connection: KernelConnection<ServerConnectionData>,
    pub(crate) send: (u64, ConnectionTrafficSecrets),
    pub(crate) receive: (u64, ConnectionTrafficSecrets),
    pub(crate) key_updates: KeyUpdates,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// We have sent close_notify.
    Closed,
    /// An alert has ended the connection, the client's or ours.
    Failed,
}

/// A protocol violation by the client, and the alert for it. An alert gets no alert in return.
struct Violation(Option<AlertDescription>, Error);

impl Session {
    /// Continues after a finished handshake.
    pub(crate) fn new(connection: UnbufferedServerConnection) -> Result<Self, Error> {
        let (secrets, connection) = connection.dangerous_into_kernel_connection()?;
        let suite = connection.negotiated_cipher_suite();
        let common = suite.tls13().map(|suite| &suite.common);
        Ok(Self {
            send: Key::new(secrets.tx.0, &secrets.tx.1)?,
            receive: Key::new(secrets.rx.0, &secrets.rx.1)?,
            records_max: common.map_or(0, |common| common.confidentiality_limit),
            connection,
            input: Vec::new(),
            key_updates: KeyUpdates::default(),
            owes_key_update: false,
            phase: Phase::Open,
            secrets: Some(Box::new(Secrets {
                send: secrets.tx.1,
                receive: secrets.rx.1,
            })),
        })
    }

    /// Forgets the secrets that only the kernel would need: the session stays in user space.
    pub(crate) fn forget_secrets(&mut self) {
        self.secrets = None;
    }

    /// Hands the session over to the kernel; `None` if the secrets are gone, or the session has
    /// ended or holds the start of a record.
    pub(crate) fn hand_over(self) -> Option<Handover> {
        if self.phase != Phase::Open || self.missing() != 0 || self.owes_key_update {
            return None;
        }
        let secrets = *self.secrets?;
        Some(Handover {
            connection: self.connection,
            send: (self.send.sequence(), secrets.send),
            receive: (self.receive.sequence(), secrets.receive),
            key_updates: self.key_updates,
        })
    }

    pub(crate) fn suite(&self) -> SupportedCipherSuite {
        self.connection.negotiated_cipher_suite()
    }

    /// Whether the start of a message was received, and its rest was not.
    pub(crate) fn is_within_message(&self) -> bool {
        self.key_updates.end_of_message().is_err()
    }

    /// Bytes missing from the record that has begun, or from its header first; 0: none has.
    pub(crate) fn missing(&self) -> usize {
        match self.input.get(3..HEADER_BYTES) {
            None if self.input.is_empty() => 0,
            None => HEADER_BYTES - self.input.len(),
            Some(length) => {
                let payload = usize::from(u16::from_be_bytes([length[0], length[1]]));
                (HEADER_BYTES + payload).saturating_sub(self.input.len())
            }
        }
    }

    /// Appends the KeyUpdate that the client requested, if it did.
    pub(crate) fn answer_key_update(&mut self, out: &mut Vec<u8>) -> Result<(), UserError> {
        if self.owes_key_update && self.phase == Phase::Open {
            let mut record = [0; KEY_UPDATE_MESSAGE.len() + OVERHEAD_BYTES];
            let written = self.update_key(&mut record)?;
            out.extend_from_slice(&record[..written]);
        }
        Ok(())
    }

    /// See [`UserSession::decrypt_in_place`](crate::UserSession::decrypt_in_place).
    pub(crate) fn decrypt(
        &mut self,
        received: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<(Incoming, Decrypted), UserError> {
        if self.phase == Phase::Failed {
            return Err(UserError::Ended);
        }
        let mut joined = mem::take(&mut self.input);
        let input = if joined.is_empty() {
            &mut *received
        } else {
            joined.extend_from_slice(received);
            &mut joined
        };
        let (incoming, len) = self
            .take_records(input)
            .map_err(|violation| self.fail(violation, out))?;
        let data = if joined.is_empty() {
            Decrypted::InPlace(len)
        } else {
            joined.truncate(len);
            Decrypted::Apart(joined)
        };
        Ok((incoming, data))
    }

    /// Encrypts `plain` into as few records as it takes, at the start of `out`: how many bytes.
    pub(crate) fn encrypt_into(
        &mut self,
        plain: &[u8],
        out: &mut [u8],
    ) -> Result<usize, UserError> {
        self.write(DATA, plain, out)
    }

    /// Writes close_notify to the start of `out`: how many bytes.
    pub(crate) fn close_into(&mut self, out: &mut [u8]) -> Result<usize, UserError> {
        let alert = [WARNING, AlertDescription::CloseNotify.into()];
        let written = self.write(ALERT, &alert, out)?;
        self.phase = Phase::Closed;
        Ok(written)
    }

    /// Processes the complete records of `input`, and keeps the rest. Their data is moved to the
    /// start of `input`: how many bytes.
    fn take_records(&mut self, input: &mut [u8]) -> Result<(Incoming, usize), Violation> {
        let (mut taken, mut data) = (0, 0);
        while let Some(length) = next_record(&input[taken..])? {
            let record = &mut input[taken..taken + length];
            let (incoming, len) = self.take_record(record)?;
            if incoming == Incoming::Closed {
                // Nothing that follows has a meaning.
                return Ok((incoming, data));
            }
            let start = taken + HEADER_BYTES;
            input.copy_within(start..start + len, data);
            taken += length;
            data += len;
        }
        self.input.extend_from_slice(&input[taken..]);
        Ok((Incoming::Data, data))
    }

    /// Processes a record: how many bytes of data are behind its header.
    fn take_record(&mut self, record: &mut [u8]) -> Result<(Incoming, usize), Violation> {
        match self.receive.open(record)? {
            (ALERT, content) => Ok((parse_alert(content)?, 0)),
            (HANDSHAKE, content) => {
                if let Some(requested) = self.key_updates.take(content, Instant::now())? {
                    self.follow_key_update(requested)?;
                }
                Ok((Incoming::Data, 0))
            }
            (DATA, data) => {
                self.key_updates.end_of_message()?;
                Ok((Incoming::Data, data.len()))
            }
            _ => Err(unexpected()),
        }
    }

    fn follow_key_update(&mut self, requested: bool) -> Result<(), Violation> {
        let internal = |error| Violation(Some(AlertDescription::InternalError), error);
        let (sequence, secrets) = self.connection.update_rx_secret().map_err(internal)?;
        self.receive = Key::new(sequence, &secrets).map_err(internal)?;
        if let Some(kept) = &mut self.secrets {
            kept.receive = secrets;
        }
        self.owes_key_update |= requested;
        Ok(())
    }

    /// Writes `plain` in records of type `kind`, behind a KeyUpdate if one is due.
    fn write(&mut self, kind: u8, plain: &[u8], out: &mut [u8]) -> Result<usize, UserError> {
        if self.phase != Phase::Open {
            return Err(UserError::Ended);
        }
        let records = plain.len().div_ceil(RECORD_PLAINTEXT_BYTES_MAX);
        let worn = self.send.sequence() + records as u64 >= self.records_max;
        let is_due = self.owes_key_update || worn;
        let key_update = if is_due {
            KEY_UPDATE_MESSAGE.len() + OVERHEAD_BYTES
        } else {
            0
        };
        let required = key_update + plain.len() + records * OVERHEAD_BYTES;
        if out.len() < required {
            return Err(UserError::TooSmall { required });
        }
        let mut written = 0;
        if is_due {
            written += self.update_key(out)?;
        }
        for piece in plain.chunks(RECORD_PLAINTEXT_BYTES_MAX) {
            written += self.send.seal(kind, piece, &mut out[written..])?;
        }
        Ok(written)
    }

    /// Writes a KeyUpdate and changes the sending key.
    fn update_key(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        let written = self.send.seal(HANDSHAKE, &KEY_UPDATE_MESSAGE, out)?;
        let (sequence, secrets) = self.connection.update_tx_secret()?;
        self.send = Key::new(sequence, &secrets)?;
        if let Some(kept) = &mut self.secrets {
            kept.send = secrets;
        }
        self.owes_key_update = false;
        Ok(written)
    }

    /// Ends the session, by an alert unless the client did.
    fn fail(&mut self, Violation(alert, error): Violation, out: &mut Vec<u8>) -> UserError {
        if let (Some(alert), Phase::Open) = (alert, self.phase) {
            let mut record = [0; 2 + OVERHEAD_BYTES];
            if self
                .send
                .seal(ALERT, &[FATAL, alert.into()], &mut record)
                .is_ok()
            {
                out.extend_from_slice(&record);
            }
        }
        self.phase = Phase::Failed;
        error.into()
    }
}

/// Parses the content of an alert record: exactly one alert (section 5.1).
fn parse_alert(content: &[u8]) -> Result<Incoming, Violation> {
    let &[_, description] = content else {
        return Err(bad_alert(content));
    };
    match description.into() {
        AlertDescription::CloseNotify => Ok(Incoming::Closed),
        // close_notify follows (section 6.1).
        AlertDescription::UserCanceled => Ok(Incoming::Data),
        other => Err(Violation(None, Error::AlertReceived(other))),
    }
}

fn bad_alert(content: &[u8]) -> Violation {
    if content.is_empty() {
        // Section 5.4.
        return unexpected();
    }
    let error = Error::InvalidMessage(InvalidMessage::TrailingData("Alert"));
    Violation(Some(AlertDescription::DecodeError), error)
}

fn unexpected() -> Violation {
    let error = Error::InvalidMessage(InvalidMessage::UnexpectedMessage("after the handshake"));
    Violation(Some(AlertDescription::UnexpectedMessage), error)
}

impl From<MessageError> for Violation {
    fn from(error: MessageError) -> Self {
        Self(Some(error.alert), Error::General(error.reason.into()))
    }
}

impl From<RecordError> for Violation {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Type => unexpected(),
            RecordError::Length => Self(
                Some(AlertDescription::RecordOverflow),
                Error::PeerSentOversizedRecord,
            ),
            RecordError::Seal => Self(Some(AlertDescription::BadRecordMac), Error::DecryptError),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;

    use rcgen::generate_simple_self_signed;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;
    use crate::{Acceptor, CertificateFiles, Handshake, Progress, Settings};

    fn client_output(client: &mut ClientConnection) -> Vec<u8> {
        let mut sent = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut sent).unwrap();
        }
        sent
    }

    fn client_read(client: &mut ClientConnection, mut bytes: &[u8]) -> Vec<u8> {
        let mut read = Vec::new();
        while !bytes.is_empty() {
            client.read_tls(&mut bytes).unwrap();
            client.process_new_packets().unwrap();
            // Would block at its end.
            let _ = client.reader().read_to_end(&mut read);
        }
        read
    }

    /// A session and its client.
    fn connected() -> (Session, ClientConnection) {
        let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let files = CertificateFiles {
            certificate: directory.path().join("pem"),
            key: directory.path().join("key"),
        };
        std::fs::write(&files.certificate, made.cert.pem()).unwrap();
        std::fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
        let acceptor = Acceptor::new(Settings::new(vec![files])).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().unwrap();
        let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut handshake = Handshake::new(&acceptor).unwrap();
        loop {
            let mut out = Vec::new();
            let progress = handshake.feed(&client_output(&mut client), &mut out);
            client_read(&mut client, &out);
            if progress.unwrap() == Progress::Finished {
                return (handshake.into_session(), client);
            }
        }
    }

    #[test]
    fn a_key_is_changed_before_it_is_worn() {
        let (mut session, mut client) = connected();
        session.records_max = session.send.sequence() + 3;
        let mut out = vec![0; 1 << 16];
        for changes in [false, false, true, false] {
            let before = session.send.sequence();
            let written = session.encrypt_into(b"text", &mut out).unwrap();
            assert_eq!(session.send.sequence() < before, changes);
            assert_eq!(client_read(&mut client, &out[..written]), b"text");
        }
    }

    #[test]
    fn the_records_of_one_piece_are_counted_together() {
        let (mut session, mut client) = connected();
        session.records_max = session.send.sequence() + 3;
        let plain = vec![7; 3 * RECORD_PLAINTEXT_BYTES_MAX];
        let mut out = vec![0; 1 << 16];
        let written = session.encrypt_into(&plain, &mut out).unwrap();
        assert_eq!(session.send.sequence(), 3, "with a new key");
        assert_eq!(client_read(&mut client, &out[..written]), plain);
    }

    #[test]
    fn data_is_where_it_was_received_unless_its_record_had_begun_before() {
        let (mut session, _client) = connected();
        let mut theirs = client_key(&mut session);
        let mut sent = Vec::new();
        for text in [&b"one"[..], b"", b"three", b"four"] {
            let mut record = vec![0; text.len() + OVERHEAD_BYTES];
            theirs.seal(DATA, text, &mut record).unwrap();
            sent.extend(record);
        }
        let mut rest = sent.split_off(sent.len() - 7);
        let mut out = Vec::new();
        let first = session.decrypt(&mut sent, &mut out).unwrap();
        assert_eq!(first, (Incoming::Data, Decrypted::InPlace(8)));
        assert_eq!(first.1.of(&sent), b"onethree");
        let last = session.decrypt(&mut rest, &mut out).unwrap();
        let four = Decrypted::Apart(b"four".to_vec());
        assert_eq!(last, (Incoming::Data, four));
        assert_eq!(session.missing(), 0);
    }

    #[test]
    fn a_client_that_changes_its_keys_without_end_is_refused() {
        let (mut session, mut client) = connected();
        let mut out = Vec::new();
        // Faster than any rate that is allowed, on any machine.
        for number in 0..100_000 {
            client.refresh_traffic_keys().unwrap();
            let mut sent = client_output(&mut client);
            if session.decrypt(&mut sent, &mut out).is_err() {
                assert!(number >= 32, "{number}");
                assert_eq!(out.len(), 2 + OVERHEAD_BYTES);
                return;
            }
        }
        panic!("a client changes its keys without end");
    }

    #[test]
    fn an_alert_is_not_answered_and_one_that_warns_ends_nothing() {
        let parse = |description: AlertDescription| parse_alert(&[FATAL, description.into()]);
        assert_eq!(
            parse(AlertDescription::CloseNotify).ok(),
            Some(Incoming::Closed)
        );
        assert_eq!(
            parse(AlertDescription::UserCanceled).ok(),
            Some(Incoming::Data)
        );
        let Err(violation) = parse(AlertDescription::BadCertificate) else {
            panic!("a fatal alert ends the session");
        };
        let (mut session, _client) = connected();
        let mut out = Vec::new();
        session.fail(violation, &mut out);
        assert!(out.is_empty());
        assert!(matches!(
            session.encrypt_into(b"", &mut out),
            Err(UserError::Ended)
        ));
    }

    /// Types and contents.
    type Records<'a> = &'a [(u8, &'a [u8])];

    /// What the session, and its client, say to `records` of the client's.
    fn said(records: Records<'_>) -> (bool, Option<AlertDescription>) {
        let (mut session, mut client) = connected();
        let mut theirs = client_key(&mut session);
        let mut out = Vec::new();
        let mut failed = false;
        for (kind, content) in records {
            let mut record = vec![0; content.len() + OVERHEAD_BYTES];
            theirs.seal(*kind, content, &mut record).unwrap();
            failed |= session.decrypt(&mut record, &mut out).is_err();
        }
        let mut alert = None;
        if !out.is_empty() {
            client.read_tls(&mut &out[..]).unwrap();
            match client.process_new_packets() {
                Err(Error::AlertReceived(description)) => alert = Some(description),
                other => panic!("{other:?}"),
            }
        }
        (failed, alert)
    }

    /// A key that the client seals with: one that both are given.
    fn client_key(session: &mut Session) -> Key {
        let [ours, theirs] = [0, 0].map(|sequence| {
            let secrets = ConnectionTrafficSecrets::Aes128Gcm {
                key: [1; 32].into(),
                iv: [2; 12].into(),
            };
            Key::new(sequence, &secrets).unwrap()
        });
        session.receive = ours;
        theirs
    }

    #[test]
    fn records_that_are_not_allowed_get_the_alert_of_the_rfc() {
        use AlertDescription::{DecodeError, IllegalParameter, UnexpectedMessage};
        const CHANGE_CIPHER_SPEC: u8 = 20;
        let rows: [(Records<'_>, AlertDescription); 11] = [
            (&[(HANDSHAKE, &[24, 0, 0, 1, 2])], IllegalParameter),
            (&[(HANDSHAKE, &[24, 0, 0, 2, 0, 0])], DecodeError),
            (&[(HANDSHAKE, &[24, 0]), (DATA, b"text")], UnexpectedMessage),
            (&[(HANDSHAKE, &[24, 0, 0, 1, 0, 0])], UnexpectedMessage),
            (&[(HANDSHAKE, &[1, 0, 0, 0])], UnexpectedMessage),
            (&[(HANDSHAKE, &[])], UnexpectedMessage),
            (&[(ALERT, &[])], UnexpectedMessage),
            (&[(ALERT, &[1])], DecodeError),
            (&[(ALERT, &[1, 0, 1, 0])], DecodeError),
            (&[(CHANGE_CIPHER_SPEC, &[1])], UnexpectedMessage),
            // The content type 0: nothing but padding.
            (&[(0, &[0, 0, 0])], UnexpectedMessage),
        ];
        for (records, alert) in rows {
            assert_eq!(said(records), (true, Some(alert)), "{records:?}");
        }
        let allowed: [Records<'_>; 4] = [
            &[(DATA, &[])],
            &[(HANDSHAKE, &[24, 0]), (HANDSHAKE, &[0, 1, 0])],
            &[(HANDSHAKE, &[24]), (ALERT, &[1, 0])],
            &[(DATA, &[0; RECORD_PLAINTEXT_BYTES_MAX])],
        ];
        for records in allowed {
            assert_eq!(said(records), (false, None), "{records:?}");
        }
    }
}
