//! The keys of session tickets, which a successor of this process can take over: sessions resume
//! across an upgrade of the binary. rustls' own keys can not leave the process.
//!
//! Each key encrypts for six hours and decrypts for six more (RFC 5077, section 5.5, wants them
//! changed). A ticket is a nonce and the state, sealed with AES-256-GCM.

use std::fmt;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use aws_lc_rs::rand;
use rustls::server::ProducesTickets;
use rustls_pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::settings::ClientAuthentication;

/// A fingerprint of the client authentication.
type ClientPolicy = [u8; SHA256_OUTPUT_LEN];

/// How long a key encrypts.
const KEY_TIME: Duration = Duration::from_hours(6);

const KEY_BYTES: usize = 32;

type Secret = Zeroizing<[u8; KEY_BYTES]>;

/// Keys that tickets are sealed with.
pub(crate) struct TicketKeys(RwLock<State>);

struct State {
    current: Key,
    previous: Option<Key>,
    /// When to make the next one, in seconds since 1970.
    change_at: u64,
}

struct Key {
    secret: Secret,
    cipher: RandomizedNonceKey,
}

impl Key {
    fn random() -> Option<Self> {
        let mut secret = Secret::default();
        rand::fill(secret.as_mut()).ok()?;
        Self::of(secret)
    }

    fn of(secret: Secret) -> Option<Self> {
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, secret.as_ref()).ok()?;
        Some(Self { secret, cipher })
    }

    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce = self
            .cipher
            .seal_in_place_append_tag(Aad::empty(), &mut sealed)
            .ok()?;
        Some([nonce.as_ref().as_slice(), &sealed].concat())
    }

    fn open(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = ticket.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut sealed = sealed.to_vec();
        let plain = self.cipher.open_in_place(nonce, Aad::empty(), &mut sealed);
        plain.ok().map(|plain| plain.to_vec())
    }
}

impl State {
    /// Whether it is time for the next key. It is when the clock was set back, too: a key would last
    /// longer by as much.
    fn is_due(&self, now: u64) -> bool {
        now >= self.change_at || self.change_at > now + KEY_TIME.as_secs()
    }
}

impl TicketKeys {
    /// New keys; `None` if the system has no random numbers.
    pub(crate) fn random() -> Option<Self> {
        Some(Self::of(State {
            current: Key::random()?,
            previous: None,
            change_at: now() + KEY_TIME.as_secs(),
        }))
    }

    fn of(state: State) -> Self {
        Self(RwLock::new(state))
    }

    /// The keys, for [`TicketKeys::import`] with the same [`client_policy`].
    pub(crate) fn export(&self, clients: &ClientPolicy) -> Zeroizing<Vec<u8>> {
        let state = self.state();
        let mut bytes = Zeroizing::new(Vec::with_capacity(128));
        bytes.extend_from_slice(clients);
        bytes.extend_from_slice(&state.change_at.to_be_bytes());
        for key in [Some(&state.current), state.previous.as_ref()] {
            bytes.extend_from_slice(key.map_or(&[], |key| key.secret.as_ref()));
        }
        bytes
    }

    /// Keys that were exported; `None` if they were for others of `clients`: a ticket holds the
    /// client's certificate, and resumption does not check it again.
    pub(crate) fn import(bytes: &[u8], clients: &ClientPolicy) -> Option<Self> {
        let (exported_for, bytes) = bytes.split_first_chunk()?;
        let (change_at, keys) = bytes.split_first_chunk::<8>()?;
        let mut keys = keys.as_chunks::<KEY_BYTES>().0.iter();
        let mut next = || Key::of(Zeroizing::new(*keys.next()?));
        (exported_for == clients).then_some(())?;
        Some(Self::of(State {
            current: next()?,
            previous: next(),
            change_at: u64::from_be_bytes(*change_at),
        }))
    }

    /// Makes the next key if it is time. Without random numbers the current one stays.
    fn change_if_due(&self) {
        let now = now();
        if !self.state().is_due(now) {
            return;
        }
        let Some(key) = Key::random() else { return };
        let mut state = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been faster.
        if state.is_due(now) {
            // A key that has been out of use for longer is not kept.
            let is_recent = now < state.change_at + KEY_TIME.as_secs();
            let previous = std::mem::replace(&mut state.current, key);
            state.previous = is_recent.then_some(previous);
            state.change_at = now + KEY_TIME.as_secs();
        }
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(2 * KEY_TIME.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.change_if_due();
        self.state().current.seal(plain)
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.change_if_due();
        let state = self.state();
        let previous = || state.previous.as_ref()?.open(ticket);
        state.current.open(ticket).or_else(previous)
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys")
    }
}

/// Identifies the client authentication: its mode, and the authorities in their order.
pub(crate) fn client_policy(
    authentication: &ClientAuthentication,
    authorities: &[CertificateDer<'_>],
) -> ClientPolicy {
    let mut context = Context::new(&SHA256);
    context.update(&[match authentication {
        ClientAuthentication::Off => 0,
        ClientAuthentication::Request { .. } => 1,
        ClientAuthentication::Require { .. } => 2,
    }]);
    for authority in authorities {
        context.update(&(authority.len() as u64).to_be_bytes());
        context.update(authority);
    }
    let digest = context.finish();
    digest.as_ref().try_into().expect("the length of SHA-256")
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &[u8] = b"the state of a session";

    fn policy(authority: &[u8]) -> ClientPolicy {
        let authorities = [CertificateDer::from(authority.to_vec())];
        let request = ClientAuthentication::Request {
            authorities: "a".into(),
        };
        client_policy(&request, &authorities)
    }

    /// Moves the time of the next change by so many seconds.
    fn move_change(keys: &TicketKeys, seconds: i64) {
        let mut state = keys.0.write().unwrap();
        state.change_at = state.change_at.saturating_add_signed(seconds);
    }

    #[test]
    fn a_ticket_is_opened_by_exported_keys_and_by_no_others() {
        let keys = TicketKeys::random().unwrap();
        let ticket = keys.encrypt(STATE).unwrap();
        assert_ne!(keys.encrypt(STATE).unwrap(), ticket);
        let exported = keys.export(&policy(b"a"));
        let other = TicketKeys::import(&exported, &policy(b"a")).unwrap();
        assert_eq!(other.decrypt(&ticket).as_deref(), Some(STATE));
        assert!(TicketKeys::import(&exported, &policy(b"b")).is_none());
        assert!(TicketKeys::import(&exported[..50], &policy(b"a")).is_none());
        assert_eq!(TicketKeys::random().unwrap().decrypt(&ticket), None);
        for bytes in [&ticket[..5], &ticket[..ticket.len() - 1], &[]] {
            assert_eq!(keys.decrypt(bytes), None);
        }
    }

    #[test]
    fn a_key_opens_for_twice_its_time() {
        let time = i64::try_from(KEY_TIME.as_secs()).unwrap();
        let keys = TicketKeys::random().unwrap();
        let ticket = keys.encrypt(STATE).unwrap();
        move_change(&keys, -time);
        assert!(keys.decrypt(&ticket).is_some());
        // The previous key goes to a successor too.
        let keys = TicketKeys::import(&keys.export(&policy(b"a")), &policy(b"a")).unwrap();
        assert!(keys.decrypt(&ticket).is_some());
        move_change(&keys, -time);
        assert!(keys.decrypt(&ticket).is_none());
    }

    #[test]
    fn a_clock_that_is_set_back_lengthens_the_life_of_no_key() {
        let keys = TicketKeys::random().unwrap();
        let ticket = keys.encrypt(STATE).unwrap();
        move_change(&keys, 100 * i64::try_from(KEY_TIME.as_secs()).unwrap());
        assert!(keys.decrypt(&ticket).is_some(), "the key before opens");
        let change_at = keys.state().change_at;
        assert!(change_at <= now() + KEY_TIME.as_secs());
        assert!(
            keys.decrypt(&ticket).is_some(),
            "and it is not changed again"
        );
        assert_eq!(keys.state().change_at, change_at);
    }

    #[test]
    fn a_key_that_is_long_out_of_use_opens_nothing() {
        let keys = TicketKeys::random().unwrap();
        let ticket = keys.encrypt(STATE).unwrap();
        move_change(&keys, -i64::try_from(3 * KEY_TIME.as_secs()).unwrap());
        assert!(keys.decrypt(&ticket).is_none());
    }
}
