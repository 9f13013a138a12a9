//! `tidegate serve` and `tidegate run`: serve until a clean stop.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;

use tidegate_config::{Settings, Source};
use tidegate_server::{Address, Error as ServerError};

use crate::cli::{Overrides, ServeArgs};
use crate::{chain, log, shell, tls};

/// Serves a directory with the defaults.
pub(crate) fn directory(args: ServeArgs) -> Result<(), Box<dyn Error>> {
    start_log()?;
    let settings = args.settings()?;
    let roots = roots(&settings);
    serve(settings).map_err(|error| {
        let hint = roots
            .iter()
            .find_map(|root| shell::hint(root).or_else(|| file_hint(root)));
        with_hint(error, hint)
    })
}

/// What to say of a file in the place of a directory.
fn file_hint(path: &Path) -> Option<String> {
    let file = path.display();
    path.is_file()
        .then(|| format!("`tidegate run {file}` serves as a configuration file says"))
}

/// The roots of all sites, to be looked at only if they cannot be served: a file system may hang.
fn roots(settings: &Settings) -> Vec<PathBuf> {
    settings
        .sites
        .iter()
        .map(|site| site.root.clone())
        .collect()
}

/// Serves as a configuration file says.
pub(crate) fn from_file(file: &Path, overrides: Overrides) -> Result<(), Box<dyn Error>> {
    start_log()?;
    let source = Source::read(file)?;
    let mut settings = source.settings()?;
    overrides.apply(&mut settings)?;
    let tls = settings.tls.clone();
    let roots = roots(&settings);
    serve(settings).map_err(|error| match error {
        ServerError::Tls(error) => tls::placed(&source, &tls, &error).into(),
        error => with_hint(error, roots.iter().find_map(|root| shell::hint(root))),
    })
}

/// The error, with what is to be said of a root that cannot be served.
fn with_hint(error: ServerError, hint: Option<String>) -> Box<dyn Error> {
    match (error, hint) {
        (ServerError::Root(error), Some(hint)) => format!("{}; {hint}", chain(&error)).into(),
        (error, _) => error.into(),
    }
}

fn start_log() -> Result<(), String> {
    log::start().map_err(|error| format!("cannot start the thread of the log: {error}"))
}

fn serve(settings: Settings) -> Result<(), ServerError> {
    tidegate_server::run(settings, log::lines_dropped(), announce)
}

/// Tells whoever started the process where it listens, in a thread of its own: a standard output
/// that is gone or stalled is no reason not to serve, nor to stay when the process is to end.
fn announce(addresses: &[Address]) {
    let addresses = addresses.to_vec();
    let printed = thread::Builder::new()
        .name("announce".to_owned())
        .spawn(move || {
            if let Err(error) = print_addresses(&addresses) {
                tracing::warn!(%error, "cannot write the addresses to standard output");
            }
        });
    if let Err(error) = printed {
        tracing::warn!(%error, "no thread to print the addresses");
    }
}

/// Past the buffer of `io::stdout()`, for which the process would wait when it ends.
fn print_addresses(addresses: &[Address]) -> io::Result<()> {
    let mut output = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    write_addresses(&mut output, addresses)
}

fn write_addresses(output: &mut impl Write, addresses: &[Address]) -> io::Result<()> {
    let lines = addresses
        .iter()
        .map(|address| format!("listening on {address}\n"));
    output.write_all(lines.collect::<String>().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_for_each_address() {
        let addresses = [("127.0.0.1:80", false), ("[::1]:8443", true)];
        let addresses = addresses.map(|(text, secure)| Address {
            socket: text.parse().unwrap(),
            secure,
        });
        let mut output = Vec::new();
        write_addresses(&mut output, &addresses).unwrap();
        let text = String::from_utf8(output).unwrap();
        assert_eq!(
            text,
            "listening on http://127.0.0.1:80\nlistening on https://[::1]:8443\n"
        );
    }
}
