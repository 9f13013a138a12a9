//! Environment variables, and the credentials in them.

use std::fmt;
use std::sync::Arc;

use super::error::CredentialsError;
use super::keys::Credentials;

pub(super) const ACCESS_KEY_ID: &str = "AWS_ACCESS_KEY_ID";
pub(super) const SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";
const SESSION_TOKEN: &str = "AWS_SESSION_TOKEN";

/// Environment variables: those of the process, or others.
#[derive(Clone)]
pub struct Environment(Arc<Lookup>);

type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

impl Environment {
    /// The process's, each read when it is needed. Variables that are not UTF-8 count as not set.
    pub fn of_process() -> Self {
        Self::new(|name| std::env::var(name).ok())
    }

    /// What `lookup` finds.
    pub fn new(lookup: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    /// A variable's value. An empty one counts as not set, as in AWS's SDKs.
    pub fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|value| !value.trim().is_empty())
    }

    /// Whether a variable is `true`, in whatever case.
    pub(super) fn is_true(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    }

    /// The variable's value, which is needed as `because` is set.
    pub(super) fn need(
        &self,
        name: &'static str,
        because: &'static str,
    ) -> Result<String, CredentialsError> {
        self.get(name).ok_or(CredentialsError::Incomplete {
            set: because,
            missing: name,
        })
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment").finish_non_exhaustive()
    }
}

/// The credentials in `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`; `None`
/// if neither of the keys is set.
pub(super) fn load(environment: &Environment) -> Result<Option<Credentials>, CredentialsError> {
    let keys = [ACCESS_KEY_ID, SECRET_ACCESS_KEY].map(|name| environment.get(name));
    let (access_key, secret_key) = match keys {
        [None, None] => return Ok(None),
        [Some(access_key), Some(secret_key)] => (access_key, secret_key),
        [Some(_), None] => return Err(incomplete(ACCESS_KEY_ID, SECRET_ACCESS_KEY)),
        [None, Some(_)] => return Err(incomplete(SECRET_ACCESS_KEY, ACCESS_KEY_ID)),
    };
    let token = environment.get(SESSION_TOKEN);
    Ok(Some(Credentials::new(access_key, secret_key, token, None)))
}

fn incomplete(set: &'static str, missing: &'static str) -> CredentialsError {
    CredentialsError::Incomplete { set, missing }
}

#[cfg(test)]
mod tests {
    use super::super::testing::environment;
    use super::*;

    #[test]
    fn both_keys_or_none() {
        for (variables, expected) in [
            (&[][..], Ok(None)),
            (&[(SESSION_TOKEN, "T")], Ok(None)),
            (&[(ACCESS_KEY_ID, ""), (SECRET_ACCESS_KEY, " ")], Ok(None)),
            (
                &[(ACCESS_KEY_ID, "A"), (SECRET_ACCESS_KEY, "S")],
                Ok(Some(("A", "S", None))),
            ),
            (
                &[
                    (ACCESS_KEY_ID, "A"),
                    (SECRET_ACCESS_KEY, "S"),
                    (SESSION_TOKEN, "T"),
                ],
                Ok(Some(("A", "S", Some("T")))),
            ),
            (&[(ACCESS_KEY_ID, "A")], Err(SECRET_ACCESS_KEY)),
            (&[(SECRET_ACCESS_KEY, "S")], Err(ACCESS_KEY_ID)),
        ] {
            let loaded = load(&environment(variables));
            let found = match &loaded {
                Ok(keys) => Ok(keys
                    .as_ref()
                    .map(|keys| (keys.access_key(), keys.secret_key(), keys.session_token()))),
                Err(CredentialsError::Incomplete { missing, .. }) => Err(*missing),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(found, expected, "{variables:?}");
        }
    }
}
