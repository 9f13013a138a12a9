//! The secret of requests that carry it as they are (RFC 6750).

use std::fmt;
use std::path::Path;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Digest, SHA256, digest};
use zeroize::Zeroizing;

use crate::file;

/// A shorter secret could be guessed.
const BYTES_MIN: usize = 16;

/// A secret that a client has to present. Only its hash is kept.
#[derive(Clone)]
pub struct Token {
    hash: Digest,
}

/// Why a file of a token cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct TokenError {
    path: String,
    reason: String,
}

impl Token {
    /// Reads the secret in a file, without white space around it. Blocking.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, fewer than 16 bytes, or others than visible ones of ASCII.
    pub fn read(path: &Path) -> Result<Self, TokenError> {
        let secret = read_secret(path)?;
        Ok(Self {
            hash: digest(&SHA256, secret.as_bytes()),
        })
    }

    /// Whether `presented` is the secret. It takes the same time whether or not it is.
    pub fn is(&self, presented: &[u8]) -> bool {
        let presented = digest(&SHA256, presented);
        verify_slices_are_equal(self.hash.as_ref(), presented.as_ref()).is_ok()
    }
}

/// Reads the secret of a token from its file, without white space around it. Blocking.
///
/// # Errors
///
/// As [`Token::read`].
pub fn read_secret(path: &Path) -> Result<Zeroizing<String>, TokenError> {
    let failed = |reason: String| TokenError {
        path: path.display().to_string(),
        reason,
    };
    let bytes = file::read(path).map_err(|error| failed(error.to_string()))?;
    let secret = bytes.trim_ascii();
    if secret.len() < BYTES_MIN {
        return Err(failed(format!(
            "has {} bytes, and a token at least {BYTES_MIN}: `openssl rand -hex 32` makes one",
            secret.len()
        )));
    }
    let text = str::from_utf8(secret).ok();
    let text = text.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()));
    let reason = "has more than visible ASCII: `openssl rand -hex 32` makes a token";
    let text = text.ok_or_else(|| failed(reason.to_owned()))?;
    Ok(Zeroizing::new(text.to_owned()))
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_token_is_what_the_file_has() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let read = |content: &str| {
            fs::write(&path, content).unwrap();
            Token::read(&path)
        };
        let secret = "0123456789abcdef";
        for content in [secret.to_owned(), format!(" {secret}\r\n")] {
            let token = read(&content).unwrap();
            assert!(token.is(secret.as_bytes()));
            for other in ["", "0123456789abcdeg", "0123456789abcdef0", &content[1..]] {
                assert!(!token.is(other.as_bytes()), "{other:?}");
            }
            assert!(!format!("{token:?}").contains("0123"));
        }
        for (content, reason) in [
            ("", "has 0 bytes"),
            ("0123456789abcde\n", "has 15 bytes"),
            ("0123456789 abcdef", "visible ASCII"),
        ] {
            let error = read(content).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let error = Token::read(&directory.path().join("none")).unwrap_err();
        assert!(
            error.to_string().contains("none: cannot be read"),
            "{error}"
        );
    }
}
