//! Users and groups of the host, by name or number.

use std::io;

use nix::unistd::{Group, User};

/// The number of the user `name`, which may be a number; `None` if it is empty.
pub(crate) fn user(name: &str) -> io::Result<Option<u32>> {
    number(name, "user", |name| {
        Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
    })
}

/// The number of the group `name`, which may be a number; `None` if it is empty.
pub(crate) fn group(name: &str) -> io::Result<Option<u32>> {
    number(name, "group", |name| {
        Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
    })
}

fn number(
    name: &str,
    kind: &str,
    find: impl FnOnce(&str) -> nix::Result<Option<u32>>,
) -> io::Result<Option<u32>> {
    if name.is_empty() {
        return Ok(None);
    }
    if let Ok(number) = name.parse() {
        return Ok(Some(number));
    }
    let found = find(name)?;
    let missing = || io::Error::other(format!("this host has no {kind} `{name}`"));
    found.ok_or_else(missing).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_found() {
        assert_eq!(user("root").unwrap(), Some(0));
        assert_eq!(user("1234").unwrap(), Some(1234));
        assert_eq!(user("").unwrap(), None);
        assert_eq!(group("root").unwrap(), Some(0));
        let error = group("no such group").unwrap_err().to_string();
        assert_eq!(error, "this host has no group `no such group`");
        assert!(user("-1").is_err());
    }
}
