//! The names that a certificate covers.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// The host names and IP addresses that a certificate covers, in lower case; wildcards as
/// `*.example.com`. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Names(Arc<[String]>);

impl Names {
    /// Whether `host` is one of them, or matches a wildcard by its first label (RFC 9525, section
    /// 6.3). It is a name in lower case, or an IP address without brackets.
    pub fn cover(&self, host: &str) -> bool {
        let parent = host.split_once('.').map(|(_, parent)| parent);
        self.0.iter().any(|name| {
            let wildcard = name.strip_prefix("*.");
            name == host || (wildcard.is_some() && wildcard == parent)
        })
    }
}

impl FromIterator<String> for Names {
    fn from_iter<I: IntoIterator<Item = String>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}

impl Deref for Names {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_wildcards_cover_hosts() {
        let names = ["a.test", "*.b.test", "192.0.2.1", "2001:db8::1"];
        let names: Names = names.map(String::from).into_iter().collect();
        for host in ["a.test", "x.b.test", "192.0.2.1", "2001:db8::1"] {
            assert!(names.cover(host), "{host}");
        }
        for host in [
            "",
            "test",
            "b.test",
            "x.a.test",
            "y.x.b.test",
            ".",
            "*.a.test",
            "192.0.2.2",
            "b.test.",
        ] {
            assert!(!names.cover(host), "{host}");
        }
    }
}
