//! `tidegate serve` and `tidegate run`: serve until a clean stop.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{self, Path};
use std::sync::Arc;
use std::thread;

use tidegate_config::{Error as ConfigError, LogTarget, Site, Source, visible};
use tidegate_server::{
    Address, CERTIFICATE, Configuration, Confined, Error as ServerError, Inheritance, Reach,
    Reread, Signals, Unprepared, confine, diagnose, lacks_index, unpermitted,
};

use crate::cli::{Overrides, ServeArgs};
use crate::output::chain;
use crate::{inspect, log, shell};

/// The most sites that are printed at the start, and the most names of one.
const SITES_TOLD_MAX: usize = 8;
const NAMES_TOLD_MAX: usize = 3;

/// Serves a directory with the defaults.
pub(crate) fn directory(args: ServeArgs) -> Result<(), Box<dyn Error>> {
    let (inherited, signals) = start()?;
    let settings = args.settings()?;
    let served = Configuration {
        settings,
        source: None,
    };
    match confine_to(&served, signals)? {
        Some((confined, signals)) => serve(&served, inherited, confined, signals, None),
        None => Ok(()),
    }
}

/// Serves with a configuration file.
pub(crate) fn from_file(file: &Path, overrides: Overrides) -> Result<(), Box<dyn Error>> {
    let (inherited, signals) = start()?;
    let served = read(file, &overrides)?;
    let Some((confined, signals)) = confine_to(&served, signals)? else {
        return Ok(());
    };
    let (named, is_file) = (file.to_owned(), file != Path::new("-"));
    let reach = confined.reach.clone();
    let reread = move || read_again(&named, &overrides, reach.as_deref());
    // What standard input had is gone.
    let reread = is_file.then(|| -> Arc<Reread> { Arc::new(reread) });
    serve(&served, inherited, confined, signals, reread)
}

/// Reads and checks what a running server is to serve by, if it reaches that.
fn read_again(
    file: &Path,
    overrides: &Overrides,
    reach: Option<&Reach>,
) -> Result<Configuration, Unprepared> {
    let read = read(file, overrides).map_err(|error| match unreadable(error.as_ref()) {
        Some(file) => Unprepared::Outside(file.display().to_string()),
        None => Unprepared::Refused(chain(error.as_ref())),
    })?;
    let Some(source) = &read.source else {
        return Ok(read);
    };
    if let Some(reach) = reach {
        let covered = reach.covers(&read.settings, source.files());
        covered.map_err(Unprepared::Outside)?;
    }
    if let Some(path) = unpermitted(&read.settings) {
        return Err(Unprepared::Outside(path));
    }
    inspect::check_again(source, &read.settings)?;
    Ok(read)
}

/// The file that this process may not read, as its predecessor might: a server changes its user.
fn unreadable<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Path> {
    match error.downcast_ref()? {
        ConfigError::Read { file, reason } if reason.kind() == io::ErrorKind::PermissionDenied => {
            Some(file)
        }
        _ => None,
    }
}

fn read(file: &Path, overrides: &Overrides) -> Result<Configuration, Box<dyn Error>> {
    let source = Source::read(file)?;
    let mut settings = source.settings()?;
    overrides.apply(&mut settings)?;
    Ok(Configuration {
        settings,
        source: Some(source),
    })
}

/// Takes what was passed to the process, before anything else opens a descriptor, receives signals,
/// and sets up the log. No thread is started.
fn start() -> Result<(Inheritance, Signals), Box<dyn Error>> {
    let inherited = Inheritance::of_process()?;
    let signals = Signals::receive()?;
    log::start();
    Ok((inherited, signals))
}

/// Gives up what serving does not need, and has the log written from then on. `None`: a signal to
/// stop came first.
fn confine_to(
    served: &Configuration,
    mut signals: Signals,
) -> Result<Option<(Confined, Signals)>, Box<dyn Error>> {
    let files = served.source.iter().flat_map(Source::files);
    let Some(confined) = confine(&served.settings, files, &mut signals)? else {
        return Ok(None);
    };
    log::write().map_err(|error| format!("cannot start the thread of the log: {error}"))?;
    Ok(Some((confined, signals)))
}

fn serve(
    served: &Configuration,
    inherited: Inheritance,
    confined: Confined,
    signals: Signals,
    reread: Option<Arc<Reread>>,
) -> Result<(), Box<dyn Error>> {
    let announced = served.clone();
    let on_ready = move |addresses: &[Address]| announce(addresses.to_vec(), announced);
    let settings = served.settings.clone();
    let dropped = log::lines_dropped();
    let result = tidegate_server::run(
        settings, inherited, confined, signals, reread, dropped, on_ready,
    );
    result.map_err(|error| explained(error, served))
}

/// The error with all others of its kind, each with its line in the file. Without a file: with a
/// suggestion.
fn explained(error: ServerError, served: &Configuration) -> Box<dyn Error> {
    match (error, &served.source) {
        (ServerError::Root(error), None) => match directory_hint(&error.path) {
            Some(hint) => format!("{}; {hint}", chain(&error)).into(),
            None => error.into(),
        },
        (
            error @ (ServerError::Root(_)
            | ServerError::Tls(_)
            | ServerError::AccessLog(_)
            | ServerError::Credentials(_)),
            Some(source),
        ) => match inspect::errors(source, &served.settings) {
            Some(errors) => errors.into(),
            None => error.into(),
        },
        (error, _) => error.into(),
    }
}

/// A suggestion for a directory of the command line that cannot be served.
fn directory_hint(path: &Path) -> Option<String> {
    shell::hint(path).or_else(|| path.is_file().then(|| file_hint(path)))
}

/// Suggests the command that serves a configuration file, or the directory of any other file.
fn file_hint(file: &Path) -> String {
    if file
        .extension()
        .is_some_and(|extension| extension == "toml")
    {
        let file = file.display();
        return format!("`tidegate run {file}` serves as a configuration file says");
    }
    let directory = file
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new(".")).display();
    format!("a directory is served: `tidegate serve {directory}`")
}

/// Prints where the server listens and what it serves, to standard error if standard output is an
/// access log. This runs in a thread: a closed or stalled standard output, or a file system that does not respond, must delay neither the start nor the
/// end of the process.
fn announce(addresses: Vec<Address>, served: Configuration) {
    let printed = thread::Builder::new()
        .name("announce".to_owned())
        .spawn(move || {
            let sites = &served.settings.sites;
            let is_log = |site: &Site| site.access_log.path == LogTarget::Stdout;
            let (stdout, stderr) = (io::stdout(), io::stderr());
            let output = if sites.iter().any(is_log) {
                stderr.as_fd()
            } else {
                stdout.as_fd()
            };
            if let Err(error) = print(output, &start_lines(&addresses, sites)) {
                tracing::warn!(%error, "cannot print the addresses");
            }
            // The reader may have closed the pipe.
            let _ = print(output, &index_lines(&served));
            warn(&served);
        });
    if let Err(error) = printed {
        tracing::warn!(%error, "no thread to print the addresses");
    }
}

/// Bypasses the buffer of `io::stdout()`, which the process would flush at its end, and block.
fn print(output: BorrowedFd<'_>, text: &str) -> io::Result<()> {
    let mut output = File::from(output.try_clone_to_owned()?);
    output.write_all(text.as_bytes())
}

/// The addresses, then the sites.
fn start_lines(addresses: &[Address], sites: &[Site]) -> String {
    let addresses = addresses.iter();
    let mut lines: Vec<_> = addresses
        .map(|address| format!("listening on {address}\n"))
        .collect();
    let told = sites.iter().take(SITES_TOLD_MAX);
    lines.extend(told.map(|site| site_line(site, sites.len() > 1)));
    if let Some(more @ 1..) = sites.len().checked_sub(SITES_TOLD_MAX) {
        lines.push(format!("and {more} more sites\n"));
    }
    lines.concat()
}

fn site_line(site: &Site, is_one_of_several: bool) -> String {
    let hosts = match &site.names[..] {
        [] if is_one_of_several => " for all other hosts".to_owned(),
        [] => String::new(),
        names => format!(" for {}", some_of(names)),
    };
    let listed = if site.directory_listing {
        "directories are listed"
    } else {
        "directories are not listed"
    };
    let places: Vec<_> = places(site).collect();
    if let Some(origin) = site.origins.first() {
        let before = if places.is_empty() {
            String::new()
        } else {
            format!("{}, then ", places.join(" and "))
        };
        return format!("serving {before}{}{hosts}; {listed}\n", origin.url);
    }
    if places.is_empty() {
        return format!("serving no files{hosts}: rules answer\n");
    }
    format!("serving {}{hosts}; {listed}\n", places.join(" and "))
}

fn some_of(names: &[String]) -> String {
    let told = names.len().min(NAMES_TOLD_MAX);
    let text = names[..told].join(", ");
    match names.len() - told {
        0 => text,
        more => format!("{text} and {more} more"),
    }
}

/// The directories of a site, with the paths that they are mounted at.
fn places(site: &Site) -> impl Iterator<Item = String> {
    let root = site.root.iter().map(|root| absolute(root));
    let mounts = site.mounts.iter();
    root.chain(mounts.map(|mount| format!("{} at {}", absolute(&mount.root), mount.at)))
}

/// The absolute path, for a reader who does not know the working directory of the server.
fn absolute(path: &Path) -> String {
    let absolute = path::absolute(path).unwrap_or_else(|_| path.to_owned());
    visible(&absolute.to_string_lossy())
}

/// The sites that answer `/` with 404 because they have no index file. Blocking.
fn index_lines(served: &Configuration) -> String {
    let remedy = match served.source {
        None => "--directory-listing lists it",
        Some(_) => "site.directory-listing = true lists it",
    };
    let told = served.settings.sites.iter().take(SITES_TOLD_MAX);
    let lines = told.filter_map(|site| {
        let root = absolute(site.root.as_ref().filter(|_| lacks_index(site))?);
        let index = site.index.join(" or ");
        Some(format!("no {index} in {root}; {remedy}\n"))
    });
    lines.collect::<Vec<_>>().concat()
}

/// Logs likely mistakes in the words of `check`. Blocking.
fn warn(served: &Configuration) {
    match &served.source {
        Some(source) => {
            let found = inspect::inspect(source, &served.settings).unwrap_or_default();
            // Warnings about certificates are in the log already.
            for one in found.iter().filter(|one| one.topic != CERTIFICATE) {
                tracing::warn!("{}", one.problem);
            }
        }
        // No other argument names a file.
        None => {
            for one in diagnose(&served.settings) {
                tracing::warn!("--spa: {}", one.reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_server::SocketAddress;

    use super::*;

    #[test]
    fn one_line_for_each_address_then_one_for_each_site() {
        let addresses = [("127.0.0.1:80", false), ("[::1]:8443", true)];
        let addresses = addresses.map(|(text, secure)| Address {
            socket: SocketAddress::Tcp(text.parse().unwrap()),
            secure,
        });
        let site = |names: &[&str], root: &str| Site {
            names: names.iter().map(ToString::to_string).collect(),
            root: Some(root.into()),
            ..Site::default()
        };
        let listening = "listening on http://127.0.0.1:80\nlistening on https://[::1]:8443\n";
        let mut alone = site(&[], "/srv/./www");
        let lines = start_lines(&addresses, &[alone.clone()]);
        let serving = "serving /srv/www; directories are not listed\n";
        assert_eq!(lines, format!("{listening}{serving}"));
        alone.directory_listing = true;
        let names = ["a.test", "b.test", "c.test", "d.test", "e.test"];
        let lines = start_lines(&[], &[alone, site(&names, "/srv/a")]);
        let serving = "serving /srv/www for all other hosts; directories are listed\n\
             serving /srv/a for a.test, b.test, c.test and 2 more; directories are not listed\n";
        assert_eq!(lines, serving);
    }

    #[test]
    fn many_sites_are_counted() {
        let sites = vec![Site::default(); SITES_TOLD_MAX + 3];
        let lines = start_lines(&[], &sites);
        assert_eq!(lines.lines().count(), SITES_TOLD_MAX + 1);
        assert!(lines.ends_with("\nand 3 more sites\n"), "{lines}");
    }
}
