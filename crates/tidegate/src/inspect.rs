//! Finds faults of a configuration on this host, with their lines, for `check`, `doctor` and `run`.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use tidegate_config::{Error, Problem, Settings, Source};
use tidegate_server::{CERTIFICATE, Diagnostic, diagnose};

use crate::shell;

/// How long a server that cannot start may look for all the reasons: a root may be on a file system
/// that does not respond.
const LIMIT: Duration = Duration::from_secs(5);

/// An error or a likely mistake.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// Its subject, in a word or two.
    pub(crate) topic: &'static str,
    /// Whether the server does not start.
    pub(crate) is_error: bool,
    pub(crate) problem: Problem,
}

/// All findings in the order of files and lines. `settings` are those of `source`, with the overrides of the
/// command line. Blocking, for as long as a file system does not respond.
///
/// # Errors
///
/// If `source` itself is invalid.
pub(crate) fn inspect(source: &Source, settings: &Settings) -> Result<Vec<Found>, Error> {
    let found = diagnose(settings);
    let places = found.iter().map(|one| (one.place.clone(), reason(one)));
    let problems = source.problems(places)?;
    let mut found: Vec<_> = found
        .into_iter()
        .zip(problems)
        .map(|(one, problem)| Found {
            topic: one.topic,
            is_error: one.is_error,
            problem,
        })
        .collect();
    found.sort_by(|a, b| place(a).cmp(&place(b)));
    Ok(found)
}

fn place(found: &Found) -> (&Path, usize) {
    (&found.problem.file, found.problem.line)
}

/// The reason, with a suggestion if a shell would have expanded the path.
fn reason(found: &Diagnostic) -> String {
    match found.path.as_deref().and_then(shell::hint) {
        Some(hint) => format!("{}; {hint}", found.reason),
        None => found.reason.clone(),
    }
}

/// All reasons why the server cannot start, if any is found in time.
pub(crate) fn errors(source: &Source, settings: &Settings) -> Option<Error> {
    let (source, settings) = (source.clone(), settings.clone());
    let (sender, receiver) = sync_channel(1);
    thread::Builder::new()
        .spawn(move || sender.send(inspect(&source, &settings)))
        .ok()?;
    let found = receiver.recv_timeout(LIMIT).ok()?.ok()?;
    let errors = found.into_iter().filter(|one| one.is_error);
    let problems: Vec<_> = errors.map(|one| one.problem).collect();
    (!problems.is_empty()).then_some(Error::Invalid(problems))
}

/// Checks what a running server read again: all errors, or the warnings in the log. Blocking.
pub(crate) fn check_again(source: &Source, settings: &Settings) -> Result<(), String> {
    let found = inspect(source, settings).map_err(|error| error.to_string())?;
    let (errors, warnings): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.is_error);
    if !errors.is_empty() {
        let problems = errors.into_iter().map(|one| one.problem).collect();
        return Err(Error::Invalid(problems).to_string());
    }
    // Warnings about certificates are in the log already.
    for one in warnings.iter().filter(|one| one.topic != CERTIFICATE) {
        tracing::warn!("{}", one.problem);
    }
    Ok(())
}
