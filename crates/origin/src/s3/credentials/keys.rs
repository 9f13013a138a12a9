//! The keys themselves.

use std::fmt;
use std::time::SystemTime;

use zeroize::Zeroizing;

/// An access key with its secret. Secrets are overwritten when dropped, and not shown by Debug.
pub struct Credentials {
    access_key: String,
    secret_key: Zeroizing<String>,
    session_token: Option<Zeroizing<String>>,
    expires: Option<SystemTime>,
}

impl Credentials {
    /// Temporary credentials have a session token and expire; others have neither. From `expires`
    /// on, inclusive, they are refused; `None` is never.
    pub fn new(
        access_key: String,
        secret_key: String,
        session_token: Option<String>,
        expires: Option<SystemTime>,
    ) -> Self {
        Self {
            access_key,
            secret_key: Zeroizing::new(secret_key),
            session_token: session_token.map(Zeroizing::new),
            expires,
        }
    }

    /// The id of the access key, which is no secret.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The secret access key.
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }

    /// The value of x-amz-security-token, a secret.
    pub fn session_token(&self) -> Option<&str> {
        self.session_token.as_ref().map(|token| token.as_str())
    }

    /// From when on they are refused, inclusive; `None` is never.
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let credentials =
            Credentials::new("AKID".into(), "SECRET".into(), Some("TOKEN".into()), None);
        let shown = format!("{credentials:?}");
        assert!(shown.contains("AKID"), "{shown}");
        assert!(
            !shown.contains("SECRET") && !shown.contains("TOKEN"),
            "{shown}"
        );
    }
}
