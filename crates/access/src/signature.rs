//! Signed URLs: whoever has a key can grant a path for a time, and the server needs no list of
//! grants to check one.
//!
//! docs/signed-urls.md specifies the format for other languages.

use std::env;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use zeroize::Zeroizing;

use crate::file;

/// Bytes of a key, at least: as many as the hash has (RFC 2104, section 3).
const KEY_BYTES_MIN: usize = 32;

/// Precedes what is signed, so that no other use of the key makes the same.
const VERSION: &str = "tidegate-v1";

/// The parameters of a query.
const EXPIRES: &str = "expires";
const ADDRESS: &str = "address";
const PREFIX: &str = "prefix";
const KEY_ID: &str = "key-id";
const SIGNATURE: &str = "signature";

/// A key that signs URLs. It is wiped when it is dropped.
pub struct SigningKey {
    id: Box<str>,
    key: hmac::Key,
}

/// Where a key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file: its content without a line end at its end.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct KeyError {
    place: String,
    reason: String,
}

/// What a signature grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// One path, decoded.
    Path(&'a [u8]),
    /// All paths that begin with this one, decoded, which ends in a slash.
    Prefix(&'a [u8]),
}

/// Why a URL is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureError {
    /// There is no signature, it is wrong, or for another path or client.
    Wrong,
    /// It is right, and its time is over.
    Expired,
}

impl SigningKey {
    /// Reads a key. Its id is the name of the file without its extension, or that of the variable.
    /// Blocking.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or that all users may read, a variable that is not set, fewer
    /// than 32 bytes.
    pub fn read(source: &KeySource) -> Result<Self, KeyError> {
        let failed = |reason: String| KeyError {
            place: match source {
                KeySource::File(path) => path.display().to_string(),
                KeySource::Variable(name) => format!("env:{name}"),
            },
            reason,
        };
        let (id, bytes) = match source {
            KeySource::File(path) => (file_id(path), read_file(path)),
            KeySource::Variable(name) => (name.clone(), read_variable(name)),
        };
        Self::new(&id, &bytes.map_err(failed)?).map_err(failed)
    }

    fn new(id: &str, bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() < KEY_BYTES_MIN {
            return Err(format!(
                "has {} bytes, and a key at least {KEY_BYTES_MIN}: `openssl rand -hex 32` makes one",
                bytes.len()
            ));
        }
        Ok(Self {
            id: id.into(),
            key: hmac::Key::new(hmac::HMAC_SHA256, bytes),
        })
    }

    /// The id, by which a URL can name the key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The query for a URL that grants `scope` until `expires`, in seconds after 1970, to the
    /// client at `address`, or to all. With `names_key` it has the key's id.
    pub fn query(
        &self,
        scope: Scope<'_>,
        expires: u64,
        address: Option<IpAddr>,
        names_key: bool,
    ) -> String {
        let (expires, address) = (
            expires.to_string(),
            address.map(|address| address.to_string()),
        );
        let tag = hmac::sign(&self.key, &message(scope, &expires, address.as_deref()));
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let prefix = match scope {
            Scope::Prefix(prefix) => Some(encoded(&String::from_utf8_lossy(prefix))),
            Scope::Path(_) => None,
        };
        let parameters = [
            (EXPIRES, Some(expires)),
            (ADDRESS, address),
            (PREFIX, prefix),
            (KEY_ID, names_key.then(|| encoded(&self.id))),
            (SIGNATURE, Some(URL_SAFE_NO_PAD.encode(tag))),
        ];
        let set = parameters.into_iter();
        let set = set.filter_map(|(name, value)| Some(format!("{name}={}", value?)));
        set.collect::<Vec<_>>().join("&")
    }
}

fn file_id(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut bytes = file::read(path).map_err(|error| error.to_string())?;
    if let Some(mode) = file::open_mode(path).map_err(|error| error.to_string())? {
        let path = path.display();
        return Err(format!(
            "all users have access to it (mode {mode:o}): `chmod o= {path}` takes it from them"
        ));
    }
    for end in [b'\n', b'\r'] {
        if bytes.last() == Some(&end) {
            bytes.pop();
        }
    }
    Ok(bytes)
}

fn read_variable(name: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let value = env::var(name).map_err(|_| "is not set, or not UTF-8".to_owned())?;
    Ok(Zeroizing::new(value.into_bytes()))
}

/// What is signed.
fn message(scope: Scope<'_>, expires: &str, address: Option<&str>) -> Vec<u8> {
    let (kind, path) = match scope {
        Scope::Path(path) => ("path", path),
        Scope::Prefix(path) => ("prefix", path),
    };
    let address = address.unwrap_or_default();
    let mut message = format!("{VERSION}\n{expires}\n{address}\n{kind}\n").into_bytes();
    // Last, since it may have line ends.
    message.extend_from_slice(path);
    message
}

/// The parameters of a signed URL, as they were sent.
#[derive(Default)]
struct Parameters<'q> {
    expires: Option<&'q str>,
    address: Option<&'q str>,
    prefix: Option<&'q str>,
    key_id: Option<&'q str>,
    signature: Option<&'q str>,
}

impl<'q> Parameters<'q> {
    /// Parameters of other names are skipped. `None`: one is there twice.
    fn of(query: &'q str) -> Option<Self> {
        let mut all = Self::default();
        for parameter in query.split('&') {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let place = match name {
                EXPIRES => &mut all.expires,
                ADDRESS => &mut all.address,
                PREFIX => &mut all.prefix,
                KEY_ID => &mut all.key_id,
                SIGNATURE => &mut all.signature,
                _ => continue,
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        Some(all)
    }
}

/// Whether a query has a parameter of a signature.
pub fn is_signed(query: &str) -> bool {
    Parameters::of(query).is_none_or(|all| all.signature.is_some() || all.expires.is_some())
}

/// Checks the signature in the query of a URL with this path, decoded, at `now`, in seconds after
/// 1970. `client` is called only for a URL that is for one address.
///
/// # Errors
///
/// See [`SignatureError`].
pub fn verify(
    keys: &[SigningKey],
    query: Option<&str>,
    path: &[u8],
    now: u64,
    client: impl FnOnce() -> Option<IpAddr>,
) -> Result<(), SignatureError> {
    let expires = signed_until(keys, query, path, client).ok_or(SignatureError::Wrong)?;
    if now < expires {
        Ok(())
    } else {
        Err(SignatureError::Expired)
    }
}

/// When the signature expires; `None` if it is wrong.
fn signed_until(
    keys: &[SigningKey],
    query: Option<&str>,
    path: &[u8],
    client: impl FnOnce() -> Option<IpAddr>,
) -> Option<u64> {
    let all = Parameters::of(query?)?;
    let expires = all.expires?;
    let is_number = expires.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = expires.parse().ok().filter(|_| is_number)?;
    let mut tag = [0; 32];
    let len = URL_SAFE_NO_PAD
        .decode_slice(all.signature?, &mut tag)
        .ok()?;
    let prefix: Option<Vec<u8>> = all
        .prefix
        .map(|prefix| percent_decode_str(prefix).collect());
    let scope = match &prefix {
        None => Scope::Path(path),
        Some(prefix) if prefix.ends_with(b"/") && path.starts_with(prefix) => Scope::Prefix(prefix),
        Some(_) => return None,
    };
    let message = message(scope, expires, all.address);
    let key_id = all
        .key_id
        .map(|id| percent_decode_str(id).decode_utf8_lossy());
    let mut keys = keys
        .iter()
        .filter(|key| key_id.as_ref().is_none_or(|id| **id == *key.id));
    if !keys.any(|key| hmac::verify(&key.key, &message, &tag[..len]).is_ok()) {
        return None;
    }
    if let Some(address) = all.address {
        let address: IpAddr = address.parse().ok()?;
        if client()? != address.to_canonical() {
            return None;
        }
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn key(id: &str, last: u8) -> SigningKey {
        let bytes = [&KEY[..31], &[last]].concat();
        SigningKey::new(id, &bytes).unwrap()
    }

    fn no_client() -> Option<IpAddr> {
        panic!("the URL is for all clients")
    }

    /// docs/signed-urls.md has it, too; made by hmac of Python.
    #[test]
    fn the_vector_of_the_documentation() {
        let key = SigningKey::new("k", KEY).unwrap();
        let query = key.query(Scope::Path(b"/video/a b.mp4"), 2_000_000_000, None, false);
        assert_eq!(
            query,
            "expires=2000000000&signature=fAuzBL7w89LzGCwrQ_EN1larzLVLXQU6RPiNLps17D0"
        );
        let address = "192.0.2.1".parse().ok();
        let query = key.query(Scope::Prefix(b"/video/"), 2_000_000_000, address, true);
        assert_eq!(
            query,
            "expires=2000000000&address=192.0.2.1&prefix=%2Fvideo%2F&key-id=k&signature=iScDONyfWsxkRHjCACjRjl07_pbU4xUPRuiv-XVHbtQ"
        );
    }

    #[test]
    fn what_was_signed_is_granted_until_it_expires() {
        let keys = [key("new", b'1'), key("old", b'2')];
        for signer in &keys {
            for names_key in [false, true] {
                let query = signer.query(Scope::Path(b"/a\xff"), 1000, None, names_key);
                let at = |now| verify(&keys, Some(&query), b"/a\xff", now, no_client);
                assert_eq!(at(0), Ok(()));
                assert_eq!(at(999), Ok(()));
                assert_eq!(at(1000), Err(SignatureError::Expired));
                let others = format!("v=1&{query}&sort=name");
                assert_eq!(
                    verify(&keys, Some(&others), b"/a\xff", 0, no_client),
                    Ok(())
                );
            }
        }
    }

    #[test]
    fn any_other_url_is_refused() {
        let keys = [key("new", b'1'), key("old", b'2')];
        let query = keys[0].query(Scope::Path(b"/a/b"), 1000, None, true);
        let stranger = key("new", b'3').query(Scope::Path(b"/a/b"), 1000, None, true);
        let rows = [
            (String::new(), "/a/b"),
            ("expires=1000".to_owned(), "/a/b"),
            ("expires=1000&signature=".to_owned(), "/a/b"),
            (query.clone(), "/a/c"),
            (query.clone(), "/a/b/"),
            (query.clone(), "/a"),
            (query.replace("1000", "1001"), "/a/b"),
            (query.replace("1000", "01000"), "/a/b"),
            (query.replace("1000", "+1000"), "/a/b"),
            (query.replace("key-id=new", "key-id=old"), "/a/b"),
            (query.replace("key-id=new", "key-id=none"), "/a/b"),
            (format!("{query}A"), "/a/b"),
            (format!("{query}="), "/a/b"),
            (query[..query.len() - 4].to_owned(), "/a/b"),
            (format!("{query}&expires=2000"), "/a/b"),
            (format!("{query}&prefix=%2F"), "/a/b"),
            (format!("{query}&prefix=%2Fa%2F"), "/a/b"),
            (format!("{query}&address=192.0.2.1"), "/a/b"),
            (query.to_uppercase(), "/a/b"),
            (stranger, "/a/b"),
        ];
        for (query, path) in rows {
            let result = verify(&keys, Some(&query), path.as_bytes(), 0, || None);
            assert_eq!(result, Err(SignatureError::Wrong), "{query} {path}");
        }
        assert_eq!(
            verify(&keys, None, b"/a/b", 0, || None),
            Err(SignatureError::Wrong)
        );
        assert_eq!(
            verify(&[], Some(&query), b"/a/b", 0, || None),
            Err(SignatureError::Wrong)
        );
    }

    #[test]
    fn a_prefix_grants_what_is_below_it() {
        let keys = [key("k", b'1')];
        let query = keys[0].query(Scope::Prefix("/\u{e9}/a b/".as_bytes()), 1000, None, false);
        let rows = [
            ("/\u{e9}/a b/", true),
            ("/\u{e9}/a b/c/d.ts", true),
            ("/\u{e9}/a b", false),
            ("/\u{e9}/a bc/d", false),
            ("/", false),
        ];
        for (path, is_granted) in rows {
            let result = verify(&keys, Some(&query), path.as_bytes(), 0, no_client);
            assert_eq!(result.is_ok(), is_granted, "{path}");
        }
        // A prefix is not the same as a path of that name.
        let path = keys[0].query(Scope::Path(b"/a/"), 1000, None, false);
        let forged = format!("{path}&prefix=%2Fa%2F");
        assert!(verify(&keys, Some(&forged), b"/a/b", 0, no_client).is_err());
    }

    #[test]
    fn an_address_is_that_of_the_client() {
        let keys = [key("k", b'1')];
        for address in ["192.0.2.1", "2001:db8::1"] {
            let address: IpAddr = address.parse().unwrap();
            let query = keys[0].query(Scope::Path(b"/a"), 1000, Some(address), false);
            let from = |client| verify(&keys, Some(&query), b"/a", 0, || client);
            assert_eq!(from(Some(address)), Ok(()));
            assert!(from(None).is_err());
            assert!(from("192.0.2.2".parse().ok()).is_err());
        }
    }

    #[test]
    fn keys_are_kept_from_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("2026.key");
        let read = |bytes: &[u8], mode| {
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            SigningKey::read(&KeySource::File(path.clone()))
        };
        let plain = read(KEY, 0o600).unwrap();
        assert_eq!(plain.id(), "2026");
        let query = plain.query(Scope::Path(b"/a"), 1000, None, true);
        for end in ["\n", "\r\n"] {
            let same = read(&[KEY, end.as_bytes()].concat(), 0o640).unwrap();
            assert_eq!(same.query(Scope::Path(b"/a"), 1000, None, true), query);
        }
        let refused = |bytes: &[u8], mode| read(bytes, mode).err().unwrap().to_string();
        assert!(refused(KEY, 0o644).contains("2026.key: all users have access to it (mode 644)"));
        assert!(refused(KEY, 0o602).contains("mode 602"));
        assert!(refused(&KEY[1..], 0o600).contains("has 31 bytes"));
        assert!(refused(b"", 0o600).contains("has 0 bytes"));
        let none = SigningKey::read(&KeySource::Variable("TIDEGATE_TEST_NONE".to_owned()));
        assert_eq!(
            none.err().unwrap().to_string(),
            "env:TIDEGATE_TEST_NONE: is not set, or not UTF-8"
        );
    }
}
