//! Why there are no credentials.

use std::path::PathBuf;
use std::time::Duration;

use http::StatusCode;

/// Why there are no credentials. No secret is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// No source has any.
    #[error(
        "no AWS credentials: none in the environment, in {file}, from a web identity or from a \
         container's endpoint, and AWS_EC2_METADATA_DISABLED is true; set AWS_ACCESS_KEY_ID and \
         AWS_SECRET_ACCESS_KEY"
    )]
    NotFound {
        /// The shared credentials file.
        file: String,
    },
    /// One of two variables is set.
    #[error("no AWS credentials: {set} is set, but {missing} is not; set both or neither")]
    Incomplete {
        /// The variable that is set.
        set: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// A variable or setting has a value that cannot be used.
    #[error("no AWS credentials: the value of {name} cannot be used: {reason}")]
    Invalid {
        /// The variable or setting.
        name: &'static str,
        /// Why, and what it must be.
        reason: &'static str,
    },
    /// A file could not be read.
    #[error(
        "no AWS credentials: cannot read the {what} {}: {cause}; check {remedy}", path.display()
    )]
    File {
        /// What the file is.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the system.
        cause: String,
        /// What names the file.
        remedy: &'static str,
    },
    /// The shared credentials file has no keys for the profile.
    #[error(
        "no AWS credentials: {} has no {missing} in its section [{profile}]; add it, or choose \
         another profile with AWS_PROFILE", path.display()
    )]
    Profile {
        /// The shared credentials file.
        path: PathBuf,
        /// The profile.
        profile: String,
        /// What is not there.
        missing: &'static str,
    },
    /// A service did not give any.
    #[error("no AWS credentials: {service} at {address}: {cause}; {remedy}")]
    Service {
        /// The service.
        service: &'static str,
        /// Its address: scheme, host, port and path.
        address: String,
        /// What went wrong.
        cause: RequestError,
        /// What to check.
        remedy: &'static str,
    },
}

/// Why a service gave no credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No complete response within this time.
    #[error("no response within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The connection failed.
    #[error("{0}")]
    Connection(String),
    /// The response is longer than this many bytes, or breaks off.
    #[error("the response is cut off, or longer than {0} bytes")]
    Body(usize),
    /// The status is not 200.
    #[error("status {}{}", .status.as_u16(), in_brackets(.code.as_deref()))]
    Status {
        /// The status.
        status: StatusCode,
        /// The service's own code of the error, such as `ExpiredToken`.
        code: Option<String>,
    },
    /// The response has no credentials that can be read.
    #[error("the response has no valid {0}")]
    Malformed(&'static str),
}

fn in_brackets(code: Option<&str>) -> String {
    code.map(|code| format!(" ({code})")).unwrap_or_default()
}

/// A service's own code of an error, if it looks like one: it ends up in logs.
pub(super) fn code(text: &str) -> Option<String> {
    let is_code = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'));
    is_code.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_operation_address_cause_and_remedy() {
        let error = CredentialsError::Service {
            service: "STS",
            address: "https://sts.amazonaws.com/".to_owned(),
            cause: RequestError::Status {
                status: StatusCode::BAD_REQUEST,
                code: code("ExpiredTokenException"),
            },
            remedy: "check AWS_ROLE_ARN",
        };
        assert_eq!(
            error.to_string(),
            "no AWS credentials: STS at https://sts.amazonaws.com/: status 400 \
             (ExpiredTokenException); check AWS_ROLE_ARN"
        );
        let timeout = RequestError::Timeout(Duration::from_secs(1));
        assert_eq!(timeout.to_string(), "no response within 1 s");
    }

    #[test]
    fn only_codes_are_codes() {
        for (text, is_code) in [
            ("ExpiredToken", true),
            ("A.B_1", true),
            ("", false),
            ("a b", false),
            ("\n", false),
        ] {
            assert_eq!(code(text).is_some(), is_code, "{text:?}");
        }
        assert_eq!(code(&"a".repeat(65)), None);
    }
}
