//! The name and the password that a request carries (RFC 7617).

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroize;

/// Bytes of name, colon and password, at most: argon2 takes any password, bcrypt uses 72 bytes.
const BYTES_MAX: usize = 768;

/// A name and a password, wiped when dropped.
pub struct Login {
    bytes: [u8; BYTES_MAX],
    len: usize,
    colon: usize,
}

/// Stands for a name and a password in a table: a keyed hash, from which neither can be guessed
/// without the key. Comparing tags tells nothing about what they stand for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag([u8; 32]);

/// The key of tags: random, in memory only.
pub struct TagKey(hmac::Key);

impl Tag {
    /// The tag of all `parts`, one behind the other.
    pub(crate) fn of(key: &TagKey, parts: &[&[u8]]) -> Self {
        let mut context = hmac::Context::with_key(&key.0);
        for part in parts {
            context.update(part);
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        Self(tag)
    }
}

impl TagKey {
    /// A new key. `None`: the system has no random bytes.
    pub fn new() -> Option<Self> {
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new());
        key.ok().map(Self)
    }
}

impl Login {
    /// Reads a value of `Authorization`. `None`: another scheme, or no Basic credentials, which
    /// have a colon and no control characters (RFC 7617, section 2).
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (scheme, encoded) = value.split_at_checked("Basic ".len())?;
        if !scheme.eq_ignore_ascii_case(b"Basic ") {
            return None;
        }
        let mut login = Self {
            bytes: [0; BYTES_MAX],
            len: 0,
            colon: 0,
        };
        let encoded = encoded.trim_ascii_start();
        login.len = STANDARD.decode_slice(encoded, &mut login.bytes).ok()?;
        let decoded = &login.bytes[..login.len];
        if decoded.iter().any(u8::is_ascii_control) {
            return None;
        }
        login.colon = decoded.iter().position(|byte| *byte == b':')?;
        Some(login)
    }

    #[cfg(test)]
    pub(crate) fn of(name: &str, password: &str) -> Self {
        let encoded = STANDARD.encode(format!("{name}:{password}"));
        Self::parse(format!("Basic {encoded}").as_bytes()).expect("a login")
    }

    /// The name, which may be empty and need not be UTF-8.
    pub fn name(&self) -> &[u8] {
        &self.bytes[..self.colon]
    }

    /// The password, which may be empty.
    pub fn password(&self) -> &[u8] {
        &self.bytes[self.colon + 1..self.len]
    }

    /// The name, a colon and the password.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &[u8]) -> Vec<u8> {
        [b"Basic ", STANDARD.encode(text).as_bytes()].concat()
    }

    #[test]
    fn names_and_passwords_are_told_apart() {
        let rows: [(&[u8], &[u8], &[u8]); 6] = [
            (b"a:b", b"a", b"b"),
            (b"a:b:c", b"a", b"b:c"),
            (b":", b"", b""),
            (b"a:", b"a", b""),
            ("é:ü".as_bytes(), "é".as_bytes(), "ü".as_bytes()),
            (b"\xff:\xfe", b"\xff", b"\xfe"),
        ];
        for (text, name, password) in rows {
            let login = Login::parse(&encoded(text)).expect("a login");
            assert_eq!((login.name(), login.password()), (name, password));
        }
        let spaced = Login::parse(b"bAsIc   YTpi").expect("RFC 9110, section 11.4");
        assert_eq!(spaced.name(), b"a");
    }

    #[test]
    fn what_is_no_login_is_none() {
        let long = encoded(&[b'a'; 8 << 10]);
        let rows: [&[u8]; 12] = [
            b"",
            b"Basic",
            b"Basic ",
            b"Basic YTpi=",
            b"Basic YTp",
            b"Basic YT pi",
            b"Basic YTpi YTpi",
            b"Bearer YTpi",
            b"BasicYTpi",
            b"Basic \xff\xfe",
            &encoded(b"no colon"),
            &long,
        ];
        for value in rows {
            assert!(Login::parse(value).is_none(), "{}", value.escape_ascii());
        }
        for text in [b"a:b\0".as_slice(), b"a\n:b", b"a:\x7f"] {
            assert!(Login::parse(&encoded(text)).is_none());
        }
        let longest = [&[b'a'; BYTES_MAX - 1][..], b":"].concat();
        assert!(Login::parse(&encoded(&longest)).is_some());
    }
}
