//! Why a request is refused.

use tidegate_http::Status;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: Status,
    /// With 401: the number of the rule that demands a password.
    pub(crate) rule: Option<usize>,
}

impl Refusal {
    /// 401, for the password of a rule.
    pub(super) fn unauthorized(rule: usize) -> Self {
        Self {
            status: Status::UNAUTHORIZED,
            rule: Some(rule),
        }
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self { status, rule: None }
    }
}
