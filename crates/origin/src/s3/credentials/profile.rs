//! The shared credentials file ("Shared config and credentials files", AWS SDKs and Tools
//! Reference Guide). Of its keys those for static credentials are known; no other program is run
//! and no role assumed.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::environment::Environment;
use super::error::CredentialsError;
use super::keys::Credentials;

const FILE: &str = "AWS_SHARED_CREDENTIALS_FILE";
const PROFILE: &str = "AWS_PROFILE";

/// The longest file, inclusive.
const FILE_MAX: usize = 1024 * 1024;

/// The credentials of the profile `given`, or else of `AWS_PROFILE`, or else of `default`. `None`
/// if there are none and neither the file nor the profile was asked for by name.
pub(super) async fn load(
    environment: &Environment,
    given: Option<&str>,
) -> Result<Option<Credentials>, CredentialsError> {
    let named = given
        .map(str::to_owned)
        .or_else(|| environment.get(PROFILE));
    let Some(path) = path(environment) else {
        return Ok(None);
    };
    let text = match read_file(path.clone(), FILE_MAX).await {
        Ok(text) => text,
        Err(error) if is_missing(&error) && named.is_none() && environment.get(FILE).is_none() => {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(path, &error)),
    };
    let profile = named.as_deref().unwrap_or("default");
    match credentials_of(&text, profile) {
        Ok(credentials) => Ok(Some(credentials)),
        Err(ACCESS_KEY_ID) if named.is_none() => Ok(None),
        Err(missing) => Err(CredentialsError::Profile {
            path,
            profile: profile.into(),
            missing,
        }),
    }
}

/// Where the file is; `None` without a home directory.
pub(super) fn path(environment: &Environment) -> Option<PathBuf> {
    if let Some(path) = environment.get(FILE) {
        return Some(in_home(environment, &path).unwrap_or_else(|| path.into()));
    }
    in_home(environment, "~/.aws/credentials")
}

/// A path that begins with `~/`.
fn in_home(environment: &Environment, path: &str) -> Option<PathBuf> {
    Some(Path::new(&environment.get("HOME")?).join(path.strip_prefix("~/")?))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn unreadable(path: PathBuf, cause: &io::Error) -> CredentialsError {
    let cause = cause.to_string();
    CredentialsError::File {
        what: "shared credentials file",
        path,
        cause,
        remedy: FILE,
    }
}

/// A file of at most `max` bytes, read on a thread of its own: its file system may be slow. A
/// dropped future leaves the thread to finish.
pub(super) async fn read_file(path: PathBuf, max: usize) -> io::Result<String> {
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        let read = File::open(path)?
            .take(max as u64 + 1)
            .read_to_string(&mut text)?;
        let message = format!("it is longer than {max} bytes");
        (read <= max)
            .then_some(text)
            .ok_or_else(|| io::Error::other(message))
    });
    read.await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

const ACCESS_KEY_ID: &str = "aws_access_key_id";
const SECRET_ACCESS_KEY: &str = "aws_secret_access_key";
const SESSION_TOKEN: &str = "aws_session_token";

/// The credentials of a profile, or the key that it lacks.
fn credentials_of(text: &str, profile: &str) -> Result<Credentials, &'static str> {
    let needed = |key| value_of(text, profile, key).map(str::to_owned).ok_or(key);
    let token = value_of(text, profile, SESSION_TOKEN).map(str::to_owned);
    Ok(Credentials::new(
        needed(ACCESS_KEY_ID)?,
        needed(SECRET_ACCESS_KEY)?,
        token,
        None,
    ))
}

/// The last value of a key in the sections of this name. Lines that begin with a space belong to
/// the value before them, which is none of those here.
fn value_of<'a>(text: &'a str, section: &str, key: &str) -> Option<&'a str> {
    let mut is_within = false;
    let mut found = None;
    for line in text.lines() {
        if let Some(header) = line.trim_start().strip_prefix('[') {
            is_within = header
                .split_once(']')
                .is_some_and(|(name, _)| name.trim() == section);
        } else if is_within && !line.starts_with([' ', '\t', '#', ';']) {
            let value = line.split_once('=').filter(|(name, _)| name.trim() == key);
            found = value.map(|(_, value)| value.trim()).or(found);
        }
    }
    found.filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{environment, run};
    use super::*;

    const TEXT: &str = "\u{feff}; comment\n\
        [default]\n\
        aws_access_key_id = A\n\
        aws_secret_access_key=S==\n\
        [ temporary ] # comment\n\
        # aws_access_key_id = no\n\
        \taws_access_key_id = no\n\
        aws_access_key_id\t=\tB  \r\n\
        aws_secret_access_key = R\n\
        aws_session_token = T\n\
        [half]\n\
        aws_access_key_id = C\n\
        [empty]\n\
        region = x\n";

    #[test]
    fn finds_the_profile() {
        for (profile, expected) in [
            ("default", Ok(("A", "S==", None))),
            ("temporary", Ok(("B", "R", Some("T")))),
            ("half", Err(SECRET_ACCESS_KEY)),
            ("empty", Err(ACCESS_KEY_ID)),
            ("none", Err(ACCESS_KEY_ID)),
        ] {
            let found = credentials_of(TEXT, profile);
            let found = found
                .as_ref()
                .map(|keys| (keys.access_key(), keys.secret_key(), keys.session_token()))
                .map_err(|missing| *missing);
            assert_eq!(found, expected, "{profile}");
        }
    }

    #[test]
    fn what_is_asked_for_by_name_must_be_there() {
        let home = tempfile::tempdir().unwrap();
        let home_path = home.path().to_str().unwrap().to_owned();
        std::fs::create_dir(home.path().join(".aws")).unwrap();
        std::fs::write(home.path().join(".aws/credentials"), TEXT).unwrap();
        std::fs::write(home.path().join("other"), "[other]\n").unwrap();
        let in_home = ("HOME", home_path.as_str());
        for (variables, given, expected) in [
            (&[in_home][..], None, Some("A")),
            (&[in_home, (PROFILE, "temporary")], None, Some("B")),
            (
                &[in_home, (PROFILE, "temporary")],
                Some("default"),
                Some("A"),
            ),
            (&[in_home, (PROFILE, "half")], None, None),
            (&[in_home, (PROFILE, "none")], None, None),
            (&[in_home, (FILE, "/none")], None, None),
            (
                &[in_home, (FILE, "~/other"), (PROFILE, "other")],
                None,
                None,
            ),
            (&[("HOME", "/none"), (PROFILE, "default")], None, None),
        ] {
            let loaded = run(load(&environment(variables), given));
            let found = loaded
                .ok()
                .map(|keys| keys.unwrap().access_key().to_owned());
            assert_eq!(found.as_deref(), expected, "{variables:?} {given:?}");
        }
        for variables in [&[][..], &[("HOME", "/none")], &[in_home, (FILE, "~/other")]] {
            assert!(
                run(load(&environment(variables), None)).unwrap().is_none(),
                "{variables:?}"
            );
        }
    }

    #[test]
    fn a_file_is_bounded() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "12345").unwrap();
        assert_eq!(run(read_file(file.path().to_owned(), 5)).unwrap(), "12345");
        let error = run(read_file(file.path().to_owned(), 4)).unwrap_err();
        assert_eq!(error.to_string(), "it is longer than 4 bytes");
    }
}
