//! Record protection of TLS 1.3 (RFC 8446, section 5), on aws-lc's ciphers.
//!
//! rustls does this too, but copies each sent record twice and allocates memory for it: a third of
//! the cost of encryption.

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::{ConnectionTrafficSecrets, Error};

/// Bytes of data that one full record holds (RFC 8446 section 5.1).
pub const RECORD_PLAINTEXT_BYTES_MAX: usize = 16 << 10;

/// Record types.
pub(crate) const ALERT: u8 = 21;
pub(crate) const HANDSHAKE: u8 = 22;
pub(crate) const DATA: u8 = 23;

/// Type, version and length.
pub(crate) const HEADER_BYTES: usize = 5;

/// Bytes of the tag, the same for all suites.
const TAG_BYTES: usize = 16;

/// The inner type and the tag, which follow the data.
const TRAILER_BYTES: usize = 1 + TAG_BYTES;

/// Bytes that a record adds to its data.
pub(crate) const OVERHEAD_BYTES: usize = HEADER_BYTES + TRAILER_BYTES;

/// The most bytes of a decrypted record: data, its type and padding (section 5.4).
const INNER_BYTES_MAX: usize = RECORD_PLAINTEXT_BYTES_MAX + 1;

/// The most bytes of an encrypted record (section 5.2). Ciphers with longer tags than these need
/// that much.
const PAYLOAD_BYTES_MAX: usize = RECORD_PLAINTEXT_BYTES_MAX + 256;

/// The version in all record headers (section 5.1).
const LEGACY_VERSION: [u8; 2] = [3, 3];

/// The key of one direction. Each record has the next sequence number, so no nonce is used twice.
pub(crate) struct Key {
    cipher: LessSafeKey,
    /// The static part of the nonce.
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

/// Why a record is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordError {
    /// It has an unprotected type, or none.
    Type,
    /// It is too long.
    Length,
    /// Its authentication tag is wrong.
    Seal,
}

impl Key {
    /// The key and nonce of `secrets`, for which `sequence` is the next record's number.
    pub(crate) fn new(sequence: u64, secrets: &ConnectionTrafficSecrets) -> Result<Self, Error> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(Error::General("secrets of an unknown cipher".into())),
        };
        let key = &key.as_ref()[..algorithm.key_len()];
        let key = UnboundKey::new(algorithm, key).map_err(|_| Error::EncryptError)?;
        let iv = iv.as_ref().try_into().map_err(|_| Error::EncryptError)?;
        Ok(Self {
            cipher: LessSafeKey::new(key),
            iv,
            sequence,
        })
    }

    /// How many records were sealed or opened with it.
    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Writes `plain`, at most a record's worth, as a record of type `kind` to the start of `out`,
    /// which has at least [`OVERHEAD_BYTES`] more. Returns the record's length.
    pub(crate) fn seal(&mut self, kind: u8, plain: &[u8], out: &mut [u8]) -> Result<usize, Error> {
        let length = HEADER_BYTES + plain.len() + TRAILER_BYTES;
        let header = header(plain.len() + TRAILER_BYTES);
        let (head, payload) = out[..length].split_at_mut(HEADER_BYTES);
        head.copy_from_slice(&header);
        let (sealed, trailer) = payload.split_at_mut(plain.len());
        let nonce = self.next_nonce()?;
        self.cipher
            .seal_out_of_place_scatter(nonce, Aad::from(header), plain, sealed, &[kind], trailer)
            .map_err(|_| Error::EncryptError)?;
        Ok(length)
    }

    /// Decrypts a complete record, as found by [`next_record`]. Returns its type and data.
    pub(crate) fn open<'r>(&mut self, record: &'r mut [u8]) -> Result<(u8, &'r [u8]), RecordError> {
        let (head, sealed) = record.split_at_mut(HEADER_BYTES);
        let header = <[u8; HEADER_BYTES]>::try_from(&*head).map_err(|_| RecordError::Length)?;
        let nonce = self.next_nonce().map_err(|_| RecordError::Seal)?;
        let opened = self.cipher.open_in_place(nonce, Aad::from(header), sealed);
        let opened = &*opened.map_err(|_| RecordError::Seal)?;
        if opened.len() > INNER_BYTES_MAX {
            return Err(RecordError::Length);
        }
        // After the data: its type, then padding of zeros (section 5.4).
        let kind = opened.iter().rposition(|&byte| byte != 0);
        let kind = kind.ok_or(RecordError::Type)?;
        Ok((opened[kind], &opened[..kind]))
    }

    /// The nonce of the next record (section 5.3). Its number is used up even if it is not sealed.
    fn next_nonce(&mut self) -> Result<Nonce, Error> {
        let mut nonce = self.iv;
        let number = self.sequence.to_be_bytes();
        let places = nonce[NONCE_LEN - number.len()..].iter_mut();
        places.zip(number).for_each(|(place, byte)| *place ^= byte);
        self.sequence = self.sequence.checked_add(1).ok_or(Error::EncryptError)?;
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

fn header(payload_bytes: usize) -> [u8; HEADER_BYTES] {
    let [high, low] = (payload_bytes as u16).to_be_bytes();
    [DATA, LEGACY_VERSION[0], LEGACY_VERSION[1], high, low]
}

/// The length of the record at the start of `input`; `None` if it is incomplete. A wrong type or
/// length is reported as soon as its bytes are there.
pub(crate) fn next_record(input: &[u8]) -> Result<Option<usize>, RecordError> {
    match input {
        // Everything after the handshake is protected, and looks like data.
        [kind, ..] if *kind != DATA => Err(RecordError::Type),
        [_, _, _, high, low, ..] => {
            let payload = usize::from(u16::from_be_bytes([*high, *low]));
            if payload > PAYLOAD_BYTES_MAX {
                return Err(RecordError::Length);
            }
            let length = HEADER_BYTES + payload;
            Ok((input.len() >= length).then_some(length))
        }
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITES: [fn() -> ConnectionTrafficSecrets; 3] = [
        || ConnectionTrafficSecrets::Aes128Gcm {
            key: [1; 32].into(),
            iv: [2; 12].into(),
        },
        || ConnectionTrafficSecrets::Aes256Gcm {
            key: [1; 32].into(),
            iv: [2; 12].into(),
        },
        || ConnectionTrafficSecrets::Chacha20Poly1305 {
            key: [1; 32].into(),
            iv: [2; 12].into(),
        },
    ];

    fn pair(suite: fn() -> ConnectionTrafficSecrets) -> [Key; 2] {
        [0, 0].map(|sequence| Key::new(sequence, &suite()).unwrap())
    }

    #[test]
    fn records_are_opened_in_the_order_of_sealing_only() {
        for suite in SUITES {
            let [mut near, mut far] = pair(suite);
            let mut records = [[0; 64]; 2];
            let lengths = records
                .each_mut()
                .map(|out| near.seal(DATA, b"text", out).unwrap());
            assert_eq!(lengths, [4 + OVERHEAD_BYTES; 2]);
            assert_ne!(records[0], records[1]);
            for record in &mut records {
                assert_eq!(next_record(record), Ok(Some(lengths[0])));
                let opened = far.open(&mut record[..lengths[0]]);
                assert_eq!(opened, Ok((DATA, &b"text"[..])));
            }
            let length = near.seal(DATA, b"text", &mut records[0]).unwrap();
            let [_, mut late] = pair(suite);
            assert_eq!(late.open(&mut records[0][..length]), Err(RecordError::Seal));
        }
    }

    #[test]
    fn every_byte_of_a_record_is_protected() {
        for suite in SUITES {
            for place in 0..4 + OVERHEAD_BYTES {
                let [mut near, mut far] = pair(suite);
                let mut record = [0; 4 + OVERHEAD_BYTES];
                near.seal(ALERT, b"text", &mut record).unwrap();
                record[place] ^= 1;
                assert_eq!(far.open(&mut record), Err(RecordError::Seal), "{place}");
            }
        }
    }

    #[test]
    fn the_number_of_a_record_is_in_the_end_of_its_nonce() {
        let secrets = SUITES[0]();
        let mut key = Key::new(0x0102_0304_0506_0708, &secrets).unwrap();
        let nonce = *key.next_nonce().unwrap().as_ref();
        assert_eq!(nonce, [2, 2, 2, 2, 3, 0, 1, 6, 7, 4, 5, 10]);
        assert_eq!(key.sequence(), 0x0102_0304_0506_0709);
        let mut last = Key::new(u64::MAX, &secrets).unwrap();
        assert!(last.next_nonce().is_err());
    }

    #[test]
    fn padding_is_taken_off_and_zeros_alone_are_no_record() {
        for suite in SUITES {
            let [mut near, mut far] = pair(suite);
            let mut record = [0; 64];
            // The type sealed last is the end of the padding.
            let length = near.seal(0, &[b'a', DATA, 0, 0], &mut record).unwrap();
            assert_eq!(far.open(&mut record[..length]), Ok((DATA, &b"a"[..])));
            let length = near.seal(0, &[0, 0], &mut record).unwrap();
            assert_eq!(far.open(&mut record[..length]), Err(RecordError::Type));
        }
    }

    #[test]
    fn records_are_refused_as_soon_as_they_are_wrong() {
        assert_eq!(next_record(b""), Ok(None));
        assert_eq!(next_record(b"G"), Err(RecordError::Type));
        assert_eq!(next_record(&[20, 3, 3, 0, 1, 1]), Err(RecordError::Type));
        assert_eq!(next_record(&[DATA, 3, 3, 0x41]), Ok(None));
        assert_eq!(next_record(&[DATA, 3, 3, 0x41, 0x00]), Ok(None));
        assert_eq!(
            next_record(&[DATA, 3, 3, 0x41, 0x01]),
            Err(RecordError::Length)
        );
    }

    /// What is opened of a record with so many bytes of data, its type, and so many of padding.
    fn opened(data: usize, kind: u8, padding: usize) -> Result<(u8, usize), RecordError> {
        let [mut near, mut far] = pair(SUITES[0]);
        let mut inner = vec![1; data];
        inner.push(kind);
        inner.resize(data + 1 + padding, 0);
        let last = inner.pop().unwrap();
        let mut record = vec![0; inner.len() + OVERHEAD_BYTES];
        near.seal(last, &inner, &mut record).unwrap();
        let opened = far.open(&mut record);
        opened.map(|(kind, data)| (kind, data.len()))
    }

    #[test]
    fn data_type_and_padding_together_are_bounded() {
        const MAX: usize = RECORD_PLAINTEXT_BYTES_MAX;
        let rows = [
            ((MAX, DATA, 0), Ok((DATA, MAX))),
            ((MAX - 1, DATA, 1), Ok((DATA, MAX - 1))),
            ((0, DATA, MAX), Ok((DATA, 0))),
            ((0, 0, MAX), Err(RecordError::Type)),
            ((MAX + 1, DATA, 0), Err(RecordError::Length)),
            ((MAX, DATA, 1), Err(RecordError::Length)),
            ((0, DATA, MAX + 1), Err(RecordError::Length)),
            ((0, 0, MAX + 1), Err(RecordError::Length)),
        ];
        for ((data, kind, padding), expected) in rows {
            assert_eq!(
                opened(data, kind, padding),
                expected,
                "{data} {kind} {padding}"
            );
        }
    }
}
