//! Handshake messages of a client after the handshake of TLS 1.3 (RFC 8446, section 4.6). Without
//! post-handshake authentication the only one that a server takes is KeyUpdate.
//!
//! The rules are the same in user space and where the kernel decrypts.

use std::time::{Duration, Instant};

use rustls::AlertDescription;

/// KeyUpdate messages that a client may send at once.
const BURST: u32 = 32;

/// The interval at which it may send one in the long run.
const EVERY: Duration = Duration::from_millis(100);

/// The handshake type of a KeyUpdate (section 4.6.3).
const KEY_UPDATE: u8 = 24;

/// Bytes of a KeyUpdate: type, length, `request_update`.
const KEY_UPDATE_BYTES: usize = 5;

/// The KeyUpdate that a server sends; it asks for none in return.
pub(crate) const KEY_UPDATE_MESSAGE: [u8; KEY_UPDATE_BYTES] = [KEY_UPDATE, 0, 0, 1, 0];

/// Why a client's message ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageError {
    /// The alert to send.
    pub(crate) alert: AlertDescription,
    pub(crate) reason: &'static str,
}

/// Parses a client's `KeyUpdate` messages, and bounds their rate.
#[derive(Default)]
pub(crate) struct KeyUpdates {
    /// The start of a message that goes on in the next record.
    begun: [u8; KEY_UPDATE_BYTES - 1],
    begun_bytes: usize,
    rate: Rate,
}

impl KeyUpdates {
    /// Parses the content of a handshake record. Returns `request_update` of a complete KeyUpdate,
    /// and `None` for one that continues in the next record.
    pub(crate) fn take(
        &mut self,
        content: &[u8],
        now: Instant,
    ) -> Result<Option<bool>, MessageError> {
        if content.is_empty() {
            // Section 5.4.
            return Err(unexpected("an empty handshake record"));
        }
        // One byte more than a KeyUpdate shows whether something follows it.
        let mut bytes = [0; KEY_UPDATE_BYTES + 1];
        let (begun, rest) = bytes.split_at_mut(self.begun_bytes);
        begun.copy_from_slice(&self.begun[..self.begun_bytes]);
        let taken = content.len().min(rest.len());
        rest[..taken].copy_from_slice(&content[..taken]);
        let bytes = &bytes[..self.begun_bytes + taken];
        let request = parse(bytes)?;
        self.begun_bytes = 0;
        if request.is_none() {
            self.begun[..bytes.len()].copy_from_slice(bytes);
            self.begun_bytes = bytes.len();
        } else if !self.rate.allows(now) {
            return Err(unexpected("KeyUpdates at a high rate"));
        }
        Ok(request)
    }

    /// Fails within a message: no other record may come before its end (section 5.1).
    pub(crate) fn end_of_message(&self) -> Result<(), MessageError> {
        if self.begun_bytes == 0 {
            Ok(())
        } else {
            Err(unexpected("a record within a handshake message"))
        }
    }
}

/// `request_update` of the KeyUpdate in `bytes`, `None` if it is incomplete.
fn parse(bytes: &[u8]) -> Result<Option<bool>, MessageError> {
    match bytes {
        [kind, ..] if *kind != KEY_UPDATE => Err(unexpected("a handshake message")),
        [_, high, middle, low, ..] if [*high, *middle, *low] != [0, 0, 1] => Err(MessageError {
            alert: AlertDescription::DecodeError,
            reason: "a KeyUpdate of another length than 1",
        }),
        [_, _, _, _, request, ..] if *request > 1 => Err(MessageError {
            alert: AlertDescription::IllegalParameter,
            reason: "a KeyUpdate with another request than 0 or 1",
        }),
        [_, _, _, _, request] => Ok(Some(*request == 1)),
        // What follows is under the next key (section 5.1).
        [_, _, _, _, _, ..] => Err(unexpected("a message behind a KeyUpdate in its record")),
        _ => Ok(None),
    }
}

fn unexpected(reason: &'static str) -> MessageError {
    MessageError {
        alert: AlertDescription::UnexpectedMessage,
        reason,
    }
}

/// A token bucket of [`BURST`] tokens that gains one every [`EVERY`].
#[derive(Default)]
struct Rate {
    /// When the bucket is full again; `None`: it is.
    full_at: Option<Instant>,
}

impl Rate {
    /// Takes a token, if there is one.
    fn allows(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.map_or(now, |full_at| full_at.max(now)) + EVERY;
        let allowed = full_at <= now + EVERY * BURST;
        if allowed {
            self.full_at = Some(full_at);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use AlertDescription::{DecodeError, IllegalParameter, UnexpectedMessage};

    use super::*;

    type Taken = Result<Option<bool>, AlertDescription>;

    /// What the last of `records` comes to; those before it must be taken.
    fn taken(records: &[&[u8]]) -> Taken {
        let mut updates = KeyUpdates::default();
        let (last, before) = records.split_last().unwrap();
        for content in before {
            updates.take(content, Instant::now()).unwrap();
        }
        let taken = updates.take(last, Instant::now());
        taken.map_err(|error| error.alert)
    }

    #[test]
    fn messages_are_taken_or_get_the_alert_of_the_rfc() {
        let rows: [(&[&[u8]], Taken); 18] = [
            (&[&[24, 0, 0, 1, 0]], Ok(Some(false))),
            (&[&[24, 0, 0, 1, 1]], Ok(Some(true))),
            (&[&[24]], Ok(None)),
            (&[&[24, 0, 0, 1]], Ok(None)),
            (&[&[24], &[0], &[0], &[1], &[1]], Ok(Some(true))),
            (&[&[24, 0, 0, 1], &[0]], Ok(Some(false))),
            (&[&[24, 0, 0, 1, 0], &[24, 0, 0, 1, 1]], Ok(Some(true))),
            (&[&[24, 0, 0, 1, 2]], Err(IllegalParameter)),
            (&[&[24, 0, 0, 1], &[255]], Err(IllegalParameter)),
            (&[&[24, 0, 0, 0]], Err(DecodeError)),
            (&[&[24, 0, 0, 2, 0, 0]], Err(DecodeError)),
            (&[&[24, 1, 0, 1]], Err(DecodeError)),
            (&[&[]], Err(UnexpectedMessage)),
            (&[&[24, 0], &[]], Err(UnexpectedMessage)),
            (&[&[1]], Err(UnexpectedMessage)),
            (&[&[4, 0, 0, 1, 0]], Err(UnexpectedMessage)),
            (&[&[24, 0, 0, 1, 0, 24, 0, 0, 1, 0]], Err(UnexpectedMessage)),
            (&[&[24, 0], &[0, 1, 0, 0]], Err(UnexpectedMessage)),
        ];
        for (records, expected) in rows {
            assert_eq!(taken(records), expected, "{records:?}");
        }
    }

    #[test]
    fn no_record_may_come_within_a_message() {
        let mut updates = KeyUpdates::default();
        assert_eq!(updates.end_of_message(), Ok(()));
        updates.take(&[24, 0], Instant::now()).unwrap();
        assert!(updates.end_of_message().is_err());
        updates.take(&[0, 1, 0], Instant::now()).unwrap();
        assert_eq!(updates.end_of_message(), Ok(()));
    }

    #[test]
    fn the_rate_is_bounded_and_not_the_number() {
        let start = Instant::now();
        let mut rate = Rate::default();
        // (after the start, how many of so many are allowed)
        let rows = [
            (Duration::ZERO, 40, 32),
            (EVERY.mul_f32(0.9), 1, 0),
            (EVERY, 2, 1),
            (EVERY * 11, 20, 10),
            (Duration::from_hours(1), 40, 32),
        ];
        for (after, asked, allowed) in rows {
            let count = (0..asked).filter(|_| rate.allows(start + after)).count();
            assert_eq!(count, allowed, "{after:?}");
        }
        let day = (0..24 * 3600).map(|second| start + Duration::from_secs(7200 + second));
        assert!(day.into_iter().all(|now| rate.allows(now)));
    }
}
