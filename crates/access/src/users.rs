//! Files of users, as htpasswd writes them: `name:hash` lines.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};

use argon2::{Argon2, PasswordHash, PasswordVerifier};

use crate::file::{self, FileError};
use crate::login::{Login, Tag, TagKey};

/// Bytes of a name, at most: what servers and clients take.
const NAME_BYTES_MAX: usize = 255;

/// The highest cost of bcrypt. Each step doubles the time: 14 takes about a second.
const BCRYPT_COST_MAX: u32 = 15;

/// The most memory of argon2id, in KiB, and its most passes and lanes.
const ARGON2_KIB_MAX: u32 = 256 << 10;
const ARGON2_PASSES_MAX: u32 = 16;
const ARGON2_LANES_MAX: u32 = 16;

/// The users of a file with the hashes of their passwords.
pub struct Users {
    hashes: Vec<Hash>,
    /// The index of each user's hash.
    names: HashMap<Box<str>, usize>,
    /// Chooses the hash that an unknown user is compared with.
    dummies: RandomState,
}

enum Hash {
    Bcrypt(Box<str>),
    Argon2(Box<str>),
}

/// Why a file of users cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {reason}", file.display(), Line(*line))]
pub struct UsersError {
    /// The file.
    pub file: PathBuf,
    /// From 1; `None`: all of it.
    pub line: Option<usize>,
    /// What is wrong, and what to do.
    pub reason: String,
}

struct Line(Option<usize>);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

impl Users {
    /// Reads a file. Blocking.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, without users, or with a line that is none or whose hash is not
    /// of bcrypt or argon2id.
    pub fn read(path: &Path) -> Result<Self, UsersError> {
        let failed = |line, reason| UsersError {
            file: path.to_owned(),
            line,
            reason,
        };
        let bytes = file::read(path);
        let bytes = bytes.map_err(|error: FileError| failed(None, error.to_string()))?;
        let users = Self::parse(&bytes, path);
        users.map_err(|(line, reason)| failed(line, reason))
    }

    fn parse(bytes: &[u8], path: &Path) -> Result<Self, (Option<usize>, String)> {
        let mut users = Self {
            hashes: Vec::new(),
            names: HashMap::new(),
            dummies: RandomState::new(),
        };
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii_end();
            if !line.is_empty() && !line.starts_with(b"#") {
                let added = users.add(line, path);
                added.map_err(|reason| (Some(number + 1), reason))?;
            }
        }
        if users.hashes.is_empty() {
            let path = path.display();
            let reason = format!("has no users: `htpasswd -B {path} NAME` adds one");
            return Err((None, reason));
        }
        Ok(users)
    }

    fn add(&mut self, line: &[u8], path: &Path) -> Result<(), String> {
        let line = str::from_utf8(line).map_err(|_| "is not UTF-8".to_owned())?;
        let (name, hash) = line
            .split_once(':')
            .ok_or("has no colon: a line is NAME:HASH")?;
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
            return Err("a name has 1 to 255 bytes, and no control characters".to_owned());
        }
        // Behind another colon is a comment.
        let hash = hash.split(':').next().unwrap_or_default();
        let hash = Hash::parse(hash).map_err(|reason| {
            let remedy = format!("`htpasswd -B {} {name}` sets it again", path.display());
            format!("the password of `{name}` {reason}: {remedy}")
        })?;
        let number = self.hashes.len();
        if self.names.insert(name.into(), number).is_some() {
            return Err(format!("`{name}` is there twice"));
        }
        self.hashes.push(hash);
        Ok(())
    }

    /// Whether `password` is that of the user `name`. Takes as long as its hash demands, some 100
    /// ms: not for an executor. An unknown user takes as long as a known one.
    pub fn verify(&self, name: &[u8], password: &[u8]) -> bool {
        let (hash, is_known) = self.hash_for(name);
        hash.verify(password) & is_known
    }

    /// The tag of a login that is verified here. It changes with the hash of the user, and with
    /// nothing else: what was verified by one reading of a file holds for the next. That of an
    /// unknown user is one that no known user has.
    pub fn tag(&self, login: &Login, key: &TagKey) -> Tag {
        let (hash, is_known) = self.hash_for(login.name());
        // No hash has either, and no name a colon, so this is unambiguous.
        let separator: &[u8] = if is_known { b":" } else { b"\n" };
        Tag::of(key, &[hash.text().as_bytes(), separator, login.bytes()])
    }

    /// The hash of a user, or the one that stands for that of an unknown user.
    fn hash_for(&self, name: &[u8]) -> (&Hash, bool) {
        let known = str::from_utf8(name).ok();
        let known = known.and_then(|name| self.names.get(name).copied());
        // The same one each time, as a known user has one.
        let dummy = self.dummies.hash_one(name) % self.hashes.len() as u64;
        (
            &self.hashes[known.unwrap_or(dummy as usize)],
            known.is_some(),
        )
    }
}

impl Hash {
    /// Checks a hash; the reason completes "the password of NAME".
    fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("$2y$") || text.starts_with("$2b$") || text.starts_with("$2a$") {
            bcrypt_fits(text)?;
            return Ok(Self::Bcrypt(text.into()));
        }
        if text.starts_with("$argon2id$") {
            argon2_fits(text)?;
            return Ok(Self::Argon2(text.into()));
        }
        Err(refused(text).to_owned())
    }

    fn text(&self) -> &str {
        match self {
            Self::Bcrypt(text) | Self::Argon2(text) => text,
        }
    }

    fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
            Self::Argon2(hash) => PasswordHash::new(hash)
                .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok()),
        }
    }
}

fn bcrypt_fits(text: &str) -> Result<(), String> {
    let parts = text.parse::<bcrypt::HashParts>();
    let parts = parts.map_err(|_| "has a malformed hash of bcrypt".to_owned())?;
    // It is whole: a salt of 22 characters and a hash of 31.
    if text.len() != 60 {
        return Err("has a malformed hash of bcrypt".to_owned());
    }
    if parts.get_cost() > BCRYPT_COST_MAX {
        return Err(format!(
            "takes too long: its cost is above {BCRYPT_COST_MAX}"
        ));
    }
    Ok(())
}

fn argon2_fits(text: &str) -> Result<(), String> {
    let malformed = |_| "has a malformed hash of argon2id".to_owned();
    let hash = PasswordHash::new(text).map_err(malformed)?;
    let params = argon2::Params::try_from(&hash).map_err(malformed)?;
    if hash.hash.is_none() || hash.salt.is_none() {
        return Err("has a hash of argon2id without a salt or a hash".to_owned());
    }
    let fits = params.m_cost() <= ARGON2_KIB_MAX
        && params.t_cost() <= ARGON2_PASSES_MAX
        && params.p_cost() <= ARGON2_LANES_MAX;
    if fits {
        Ok(())
    } else {
        Err(format!(
            "takes too much: m is at most {ARGON2_KIB_MAX}, t {ARGON2_PASSES_MAX} and p \
             {ARGON2_LANES_MAX}"
        ))
    }
}

/// Why a hash of another kind is refused. It is not shown.
fn refused(text: &str) -> &'static str {
    let rows = [
        ("$apr1$", "is hashed with MD5, which is guessed fast"),
        ("$1$", "is hashed with MD5, which is guessed fast"),
        ("{SHA}", "is hashed with SHA-1, which is guessed fast"),
        ("{SSHA}", "is hashed with SHA-1, which is guessed fast"),
        (
            "$5$",
            "is hashed with SHA-256 of crypt(3); only bcrypt and argon2id are read",
        ),
        (
            "$6$",
            "is hashed with SHA-512 of crypt(3); only bcrypt and argon2id are read",
        ),
        (
            "$y$",
            "is hashed with yescrypt; only bcrypt and argon2id are read",
        ),
        ("$2x$", "is hashed with a broken bcrypt"),
        (
            "$argon2",
            "is hashed with argon2i or argon2d; only argon2id is read",
        ),
        ("{PLAIN}", "is in clear text"),
    ];
    let row = rows.iter().find(|(prefix, _)| text.starts_with(prefix));
    row.map_or(
        "is in clear text, or hashed with DES of crypt(3); only bcrypt and argon2id are read",
        |(_, reason)| reason,
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// "secret": `htpasswd -nbB -C 4` of Apache 2.4.
    const BCRYPT: &str = "$2y$04$vNRn6DdeOhrr5BRK36GuteHuWywI2Aqa50ASQeZIf6b2XKUNrqmqi";

    /// "secret": `argon2 saltysalt -id -t 1 -k 64 -p 1 -e` of Debian's argon2.
    const ARGON2: &str =
        "$argon2id$v=19$m=64,t=1,p=1$c2FsdHlzYWx0$AVakNa2X9xWQmebN1fK7yBDk+f65i6OnGczlLtYyeqA";

    fn argon2(password: &str, params: &str) -> String {
        use argon2::password_hash::{PasswordHasher, Salt};
        use argon2::{Algorithm, ParamsBuilder, Version};
        let params = params.split(',').map(|value| value.parse().unwrap());
        let params: Vec<u32> = params.collect();
        let mut builder = ParamsBuilder::new();
        builder
            .m_cost(params[0])
            .t_cost(params[1])
            .p_cost(params[2]);
        let argon2 = Argon2::new(
            Algorithm::Argon2id,
            Version::V0x13,
            builder.build().unwrap(),
        );
        let salt = Salt::from_b64("c29tZXNhbHRzb21lc2FsdA").unwrap();
        argon2
            .hash_password(password.as_bytes(), salt)
            .unwrap()
            .to_string()
    }

    fn bcrypt(password: &str) -> String {
        bcrypt::hash_with_salt(password, 4, *b"0123456789abcdef")
            .unwrap()
            .format_for_version(bcrypt::Version::TwoY)
    }

    fn parse(text: &str) -> Result<Users, String> {
        Users::parse(text.as_bytes(), Path::new("u"))
            .map_err(|(line, reason)| format!("{}: {reason}", Line(line)))
    }

    #[test]
    fn right_passwords_are_right() {
        let text = format!(
            "# users\n\nann:{}\r\nbob:{}:a comment\n\u{e9}:{}\n",
            bcrypt("secret"),
            argon2("s\u{e9}cret", "8,1,1"),
            bcrypt("")
        );
        let users = parse(&text).unwrap();
        let rows = [
            ("ann", "secret", true),
            ("ann", "secre", false),
            ("ann", "secret ", false),
            ("ann", "", false),
            ("ann", "s\u{e9}cret", false),
            ("bob", "s\u{e9}cret", true),
            ("bob", "secret", false),
            ("\u{e9}", "", true),
            ("Ann", "secret", false),
            ("", "secret", false),
            ("none", "secret", false),
            ("none", "", false),
        ];
        for (name, password, expected) in rows {
            let is_right = users.verify(name.as_bytes(), password.as_bytes());
            assert_eq!(is_right, expected, "{name}:{password}");
        }
        assert!(!users.verify(b"\xff", b"secret"));
    }

    #[test]
    fn a_tag_is_of_one_login_with_one_hash() {
        let key = TagKey::new().unwrap();
        let tag =
            |users: &Users, name: &str, password: &str| users.tag(&Login::of(name, password), &key);
        let [first, second] = [bcrypt("a"), bcrypt("b")];
        let users = parse(&format!("ann:{first}\nbob:{second}")).unwrap();
        let ann = tag(&users, "ann", "a");
        assert!(ann == tag(&users, "ann", "a"));
        for (name, password) in [("ann", "b"), ("bob", "a"), ("an", "na"), ("", "ann:a")] {
            assert!(ann != tag(&users, name, password), "{name}:{password}");
        }
        let other_key = TagKey::new().unwrap();
        assert!(ann != users.tag(&Login::of("ann", "a"), &other_key));
        let more = parse(&format!("# more\nbob:{second}\nann:{first}\nsam:{second}")).unwrap();
        assert!(ann == tag(&more, "ann", "a"), "her hash is the same");
        let changed = parse(&format!("ann:{second}\nbob:{second}")).unwrap();
        assert!(ann != tag(&changed, "ann", "a"));
        // Whatever hash stands for hers.
        let removed = parse(&format!("bob:{first}")).unwrap();
        assert!(ann != tag(&removed, "ann", "a"));
    }

    #[test]
    fn hashes_of_other_tools_are_read() {
        let of_others = ["$2b$", "$2a$"].map(|prefix| BCRYPT.replace("$2y$", prefix));
        for hash in [BCRYPT, ARGON2, &of_others[0], &of_others[1]] {
            let users = parse(&format!("ann:{hash}")).unwrap();
            assert!(users.verify(b"ann", b"secret"), "{hash}");
            assert!(!users.verify(b"ann", b"wrong"), "{hash}");
        }
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn what_is_no_safe_hash_is_refused() {
        let strong = bcrypt("x");
        let rows = [
            ("", ": has no users"),
            ("# only\n\n", ": has no users"),
            ("ann", ":1: has no colon"),
            (":x", ":1: a name has 1 to 255 bytes"),
            ("a\u{1}:x", ":1: a name has 1 to 255 bytes"),
            ("\nann:", ":2: the password of `ann` is in clear text"),
            ("ann:secret", ":1: the password of `ann` is in clear text"),
            ("ann:rl.3StKT.4T8M", ":1: the password of `ann` is in clear text, or hashed with DES"),
            ("ann:{PLAIN}secret", ":1: the password of `ann` is in clear text"),
            ("ann:$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/", ":1: the password of `ann` is hashed with MD5"),
            ("ann:$1$a$b", ":1: the password of `ann` is hashed with MD5"),
            ("ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", ":1: the password of `ann` is hashed with SHA-1"),
            ("ann:$6$a$b", ":1: the password of `ann` is hashed with SHA-512"),
            ("ann:$y$a$b", ":1: the password of `ann` is hashed with yescrypt"),
            ("ann:$argon2i$v=19$m=8,t=1,p=1$c29tZXNhbHQ$aaaaaaaaaaaaaaaaaaaa", ":1: the password of `ann` is hashed with argon2i"),
            ("ann:$argon2id$v=19$m=8", ":1: the password of `ann` has a hash of argon2id without a salt"),
            ("ann:$2y$10$short", ":1: the password of `ann` has a malformed hash of bcrypt"),
            ("ann:$2y$31$vNRn6DdeOhrr5BRK36GuteHuWywI2Aqa50ASQeZIf6b2XKUNrqmqi", ":1: the password of `ann` takes too long"),
            ("ann:$argon2id$v=19$m=4194304,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaA", ":1: the password of `ann` takes too much"),
            (&format!("ann:{strong}\nann:{strong}"), ":2: `ann` is there twice"),
        ];
        for (text, expected) in rows {
            let reason = parse(text).err().expect(text);
            assert!(reason.starts_with(expected), "{text}\n{reason}");
            assert!(!reason.contains("secret"), "{reason}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let rows = [
            ("none", "none: cannot be read: No such file"),
            (".", ": is no regular file"),
            ("long", "long: is longer than 1 MiB"),
            ("bytes", "bytes:1: is not UTF-8"),
        ];
        fs::write(path("long"), vec![b'#'; (1 << 20) + 1]).unwrap();
        fs::write(path("bytes"), b"\xff:x").unwrap();
        for (name, expected) in rows {
            let error = Users::read(&path(name)).err().expect(name).to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
