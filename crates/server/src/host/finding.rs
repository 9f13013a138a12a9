//! What `tidegate doctor` says of a property of the host.

use std::error::Error as StdError;

/// One property of the host.
#[derive(Debug)]
pub struct Finding {
    /// Its name, in a word or two.
    pub topic: &'static str,
    /// Its value, and the verdict on it.
    pub verdict: Verdict,
}

/// The verdict on a property of the host, with value, effect and remedy.
#[derive(Debug)]
pub enum Verdict {
    /// As it should be.
    Good(String),
    /// The server would run better otherwise.
    Fair(String),
    /// The server would not start.
    Bad(Box<dyn StdError>),
}

impl Verdict {
    /// Good, or fair with the remedy.
    pub(crate) fn good_if(good: bool, text: String, remedy: &str) -> Self {
        if good {
            Self::Good(text)
        } else {
            Self::Fair(format!("{text}: {remedy}"))
        }
    }
}

pub(crate) fn finding(topic: &'static str, verdict: Verdict) -> Finding {
    Finding { topic, verdict }
}
