//! Errors of the command line, with suggestions.

use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, Error, ErrorKind};
use tidegate_config::shown;

use crate::cli::Cli;

/// Flags of other servers, without hyphens, with the advice for them.
#[rustfmt::skip] // a row a line
const FLAGS: &[(&str, &str)] = &[
    ("listen cores", "it follows the command: tidegate serve --listen 127.0.0.1:8080 --cores 4; tidegate run and config have it, too"),
    ("directorylisting spa", "tidegate serve has it; a configuration file has directory-listing and spa-fallback"),
    ("port p", "tidegate serve has it; elsewhere write --listen 127.0.0.1:8080"),
    ("host bind b address addr a ip interface hostname", "write --listen 127.0.0.1:8080: host and port are one"),
    ("root r directory dir d path webroot docroot documentroot w folder", "write the directory alone: tidegate serve DIR"),
    ("config c f conf configfile file", "a configuration file is served by: tidegate run FILE"),
    ("tls ssl https cert key certificate tlscert tlskey sslcert sslkey http2tls http2tlscert http2tlskey certfile keyfile",
     "write [[tls.certificates]] and tls = true into a file, and: tidegate run FILE (docs/tls.md)"),
    ("gzip brotli zstd compress compression compressionlevel precompress z", "files are compressed ahead: tidegate compress DIR"),
    ("precompressed gzipstatic compressionstatic", "it is so: what tidegate compress DIR writes is sent"),
    ("loglevel log v verbose q quiet silent debug trace g logformat l", "RUST_LOG chooses what is logged: RUST_LOG=debug tidegate ..., or RUST_LOG=error"),
    ("accesslog logrequests", "tidegate has no access log"),
    ("daemon daemonize background detach", "tidegate stays in the foreground: systemd or another supervisor keeps it running"),
    ("pid pidfile", "tidegate has no pid file: systemd or another supervisor knows the process that it started"),
    ("user u group uid gid", "a configuration file has server.user; systemd has User="),
    ("workers threads threadsmultiplier processes cpus n j", "write --cores 4"),
    ("index indexfile indexfiles i", "write index = [\"index.html\"] into a file, and: tidegate run FILE"),
    ("cors corsalloworigins corsalloworigin", "write [site.cors] into a file, and: tidegate run FILE"),
    ("header headers cache cachecontrol cachecontrolheaders maxage", "write [[site.headers]] into a file, and: tidegate run FILE"),
    ("redirect redirects rewrite", "write [[site.redirects]] into a file, and: tidegate run FILE"),
    ("errorpage page404 404", "write error-pages = { 404 = \"/404.html\" } into a file, and: tidegate run FILE"),
    ("browse autoindex listing list dirlisting", "write --directory-listing"),
    ("single singlepage fallback pagefallback history", "write --spa"),
    ("s signal", "write --spa for an application of one page; signals are sent to the process: TERM stops it, HUP has it read its configuration again"),
    ("domain servername names", "write names = [\"example.org\"] into a file, and: tidegate run FILE"),
    ("auth basicauth username password", "tidegate has no passwords"),
    ("acme letsencrypt autotls autohttps email", "tidegate gets no certificates itself: certbot or lego does (docs/tls.md)"),
    ("hsts", "write hsts = \"max-age=63072000\" below [tls] of a file, and: tidegate run FILE"),
    ("redirecthttp redirecthttps httpsredirect forcehttps forcessl", "write https-redirect = 443 below a [[listen]] of a file, and: tidegate run FILE"),
    ("unixsocket socket uds unix", "write --listen unix:/run/tidegate.sock"),
    ("fd inherit systemd", "tidegate takes no open sockets: write --listen 127.0.0.1:8080"),
    ("ipv6 6 ipv4 4", "write --listen '[::]:8080' for both, --listen 0.0.0.0:8080 for IPv4 alone"),
    ("health healthcheck metrics prometheus stats", "write listen = \"127.0.0.1:9900\" below [admin] of a file, and: tidegate run FILE"),
    ("securityheaders", "write [[site.headers]] into a file, and: tidegate run FILE (docs/from-static-web-server.md)"),
    ("nocache", "write [[site.headers]] with match = \"**\" and cache = \"none\" into a file, and: tidegate run FILE"),
    ("maxconnections maxconns connections", "write connections-per-core below [limits] of a file, and: tidegate run FILE"),
    ("timeout keepalive keepalivetimeout", "write [timeouts] into a file, and: tidegate run FILE"),
    ("mime mimetype mimetypes types", "write mime-types = { wasm = \"application/wasm\" } into a file, and: tidegate run FILE"),
    ("prefix base basepath baseurl routeprefix mount", "write [[site.mount]] into a file, and: tidegate run FILE"),
    ("nodotfiles nohidden ignorehiddenfiles", "it is so: names that begin with a dot are 404, but for .well-known"),
    ("nolisting nodirlisting nodirectorylisting noindex noautoindex nobrowse", "it is so: directories are not listed without --directory-listing"),
    ("etag etags", "it is so: tags are always sent"),
    ("upload webdav", "tidegate has GET, HEAD and OPTIONS alone"),
    ("env envfile environ", "tidegate reads TIDEGATE_CONFIG, TIDEGATE_LISTEN and TIDEGATE_CORES"),
    ("http2 h2 h2c", "it is so: clients that know it speak HTTP/2"),
    ("http3 h3 quic", "tidegate has none: it speaks HTTP/2 and HTTP/1.1"),
    ("proxy", "tidegate passes no requests on: it serves files, and keeps those of other hosts (site.origin, docs/origin.md)"),
    ("hidden dotfiles all", "write hidden-files = true into a file, and: tidegate run FILE"),
    ("followsymlinks symlinks", "write symlinks = \"follow\" into a file, and: tidegate run FILE"),
    ("test t validate configtest dryrun", "a configuration file is checked by: tidegate check FILE"),
    ("open o watch livereload", "tidegate has none"),
];

/// Commands of other servers.
#[rustfmt::skip] // a row a line
const COMMANDS: &[(&str, &str)] = &[
    ("start up server fileserver httpd", "a directory is served by: tidegate serve DIR, and as a file says by: tidegate run FILE"),
    ("test validate lint configtest verify", "a configuration file is checked by: tidegate check FILE"),
    ("restart", "a configuration is applied by: tidegate reload FILE, or by the signal HUP"),
    ("stop quit shutdown", "the process takes signals: TERM stops it"),
    ("version", "write tidegate --version"),
    ("init new environ defaults", "the defaults are printed by: tidegate config"),
    ("upload deploy sync push", "a release is uploaded by: tidegate publish DIR s3://BUCKET/PREFIX"),
    ("invalidate flush ban clear", "what is kept of origins is purged by: tidegate purge -c FILE --path PATH"),
    ("preload prefetch prime", "objects of origins are fetched ahead by: tidegate warm -c FILE LIST"),
    ("gzip precompress", "files are compressed ahead: tidegate compress DIR"),
];

/// The advice for a second directory or file.
const ONE_TOO_MANY: &str =
    "one is taken: put a name that has spaces into quotes, and run the command for each of several";

/// One letter in this many of a flag may differ from a known flag.
const LETTERS_PER_TYPO: usize = 3;

/// Prints the error, or the help if that was requested; returns the exit status.
pub(crate) fn refuse(error: Error) -> ExitCode {
    let error = explained(error);
    // If the output is closed, the exit status remains.
    let _ = error.print();
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(u8::MAX))
}

/// The error of a command that needs a configuration file and has none.
pub(crate) fn no_file(command: &str) -> Error {
    let reason = format!(
        "no configuration file: write tidegate {command} FILE, --config <FILE>, or set TIDEGATE_CONFIG"
    );
    let mut cli = Cli::command();
    cli.build();
    let command = cli.find_subcommand_mut(command);
    let command = command.expect("a command of the command line");
    command.error(ErrorKind::MissingRequiredArgument, reason)
}

/// The error with a suggestion, without control characters.
fn explained(mut error: Error) -> Error {
    let tip = tip(&error);
    let echoes = error.context();
    let changed: Vec<_> = echoes
        .filter_map(|(kind, value)| Some((kind, printable(value)?)))
        .collect();
    if tip.is_some() || !changed.is_empty() || is_unlike_all(&error) {
        // clap's tips repeat the argument unescaped, and take a flag for a file name.
        error.remove(ContextKind::SuggestedArg);
        error.remove(ContextKind::SuggestedSubcommand);
        error.remove(ContextKind::Suggested);
    }
    for (kind, value) in changed {
        error.insert(kind, value);
    }
    if let Some(tip) = tip {
        let tips = vec![shown(&tip).into()];
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

/// The value escaped for printing; `None` if that changes nothing.
fn printable(value: &ContextValue) -> Option<ContextValue> {
    let printable = match value {
        ContextValue::String(text) => ContextValue::String(shown(text)),
        ContextValue::Strings(texts) => {
            ContextValue::Strings(texts.iter().map(|text| shown(text)).collect())
        }
        _ => return None,
    };
    (printable != *value).then_some(printable)
}

/// Whether no known flag is similar to an unknown one.
fn is_unlike_all(error: &Error) -> bool {
    let is_typo = |flag: &str| {
        let known = text(error, ContextKind::SuggestedArg)?;
        let letters = strsim::damerau_levenshtein(flag, known);
        Some(letters * LETTERS_PER_TYPO <= flag.trim_start_matches('-').len())
    };
    unknown_argument(error)
        .is_some_and(|given| given.starts_with('-') && is_typo(given) != Some(true))
}

/// An unknown argument.
fn unknown_argument(error: &Error) -> Option<&str> {
    let is_unknown = error.kind() == ErrorKind::UnknownArgument;
    text(error, ContextKind::InvalidArg).filter(|_| is_unknown)
}

fn tip(error: &Error) -> Option<String> {
    if let Some(argument) = unknown_argument(error) {
        let says = if argument.starts_with('-') {
            row(FLAGS, argument)?
        } else {
            ONE_TOO_MANY
        };
        return Some(says.to_owned());
    }
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let name = text(error, ContextKind::InvalidSubcommand)?;
            let path = of_path(Path::new(name));
            path.or_else(|| row(COMMANDS, name).map(str::to_owned))
        }
        _ => None,
    }
}

fn text(error: &Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        _ => None,
    }
}

fn row(rows: &[(&str, &'static str)], given: &str) -> Option<&'static str> {
    let name = given.split('=').next().unwrap_or_default();
    let name = name.replace(['-', '_'], "").to_ascii_lowercase();
    let is_row = |(names, _): &&(&str, &str)| names.split(' ').any(|known| known == name);
    rows.iter().find(is_row).map(|(_, says)| *says)
}

/// The command to suggest for a path in its place.
fn of_path(path: &Path) -> Option<String> {
    let shown = path.display();
    if path.is_dir() {
        return Some(format!("to serve this directory: tidegate serve {shown}"));
    }
    path.is_file()
        .then(|| format!("to serve as this file says: tidegate run {shown}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// The output for this command line.
    fn refusal(line: &[&str]) -> String {
        let error = Cli::try_parse_from(line).expect_err(&line.join(" "));
        assert_eq!(error.exit_code(), 2, "{line:?}");
        // With ANSI codes: plain text would have lost the escape sequences of arguments.
        explained(error).render().ansi().to_string()
    }

    #[test]
    fn flags_of_other_servers_are_answered_with_what_there_is() {
        let rows = [
            ("--host", "--listen 127.0.0.1:8080"),
            ("--bind", "--listen 127.0.0.1:8080"),
            ("--root", "tidegate serve DIR"),
            ("--config", "tidegate run FILE"),
            ("-c", "tidegate run FILE"),
            ("--tls", "[[tls.certificates]]"),
            ("--cert", "[[tls.certificates]]"),
            ("--gzip", "tidegate compress DIR"),
            ("--compression", "tidegate compress DIR"),
            ("--log-level", "RUST_LOG=debug"),
            ("-v", "RUST_LOG=debug"),
            ("--quiet", "RUST_LOG=error"),
            ("--daemon", "systemd"),
            ("--workers", "--cores 4"),
            ("--threads", "--cores 4"),
            ("--index", "index = ["),
            ("--cors", "[site.cors]"),
            ("--browse", "--directory-listing"),
            ("--single-page", "--spa"),
            ("--acme", "docs/tls.md"),
            ("--unix-socket", "--listen unix:/run/tidegate.sock"),
            ("-6", "--listen '[::]:8080'"),
            ("--health", "[admin]"),
            ("--no-listing", "not listed without"),
            ("--prefix", "[[site.mount]]"),
        ];
        for (flag, expected) in rows {
            let text = refusal(&["tidegate", "serve", flag, "x"]);
            assert!(text.contains(expected), "{flag}: {text}");
            assert_eq!(text.matches("tip:").count(), 1, "{flag}: {text}");
        }
        for flag in ["--port", "--port=80", "-p"] {
            let text = refusal(&["tidegate", "run", flag, "x"]);
            assert!(text.contains("--listen 127.0.0.1:8080"), "{flag}: {text}");
        }
        let text = refusal(&["tidegate", "--listen", "a:1"]);
        assert!(text.contains("it follows the command"), "{text}");
    }

    #[test]
    fn only_what_is_near_is_suggested() {
        let rows = [
            ("--flux-capacitor", None),
            ("--no-flux", None),
            ("--directory-listings", Some("--directory-listing")),
            ("--core", Some("--cores")),
            ("--lister", Some("--listen")),
            ("--listless", None),
        ];
        for (flag, expected) in rows {
            let text = refusal(&["tidegate", "serve", flag]);
            assert!(!text.contains("as a value"), "{text}");
            let tips = text.matches("tip:").count();
            assert_eq!(tips, usize::from(expected.is_some()), "{flag}: {text}");
            assert!(
                text.contains(expected.unwrap_or_default()),
                "{flag}: {text}"
            );
        }
    }

    #[test]
    fn a_name_with_spaces_is_to_be_quoted() {
        let text = refusal(&["tidegate", "serve", "my", "files"]);
        assert!(text.contains("into quotes"), "{text}");
        assert!(!refusal(&["tidegate", "serve", "--flux"]).contains("into quotes"));
    }

    #[test]
    fn flags_that_there_are_have_no_row() {
        for flag in [
            "help", "version", "codings", "level", "jobs", "minsize", "force",
        ] {
            assert_eq!(row(FLAGS, flag), None, "{flag}");
        }
    }

    #[test]
    fn a_path_in_the_place_of_a_command_is_explained() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().to_str().unwrap();
        let text = refusal(&["tidegate", place]);
        assert!(text.contains(&format!("tidegate serve {place}")), "{text}");
        let file = format!("{place}/cdn.toml");
        std::fs::write(&file, "").unwrap();
        let text = refusal(&["tidegate", &file]);
        assert!(text.contains(&format!("tidegate run {file}")), "{text}");
        let text = refusal(&["tidegate", "start"]);
        assert!(text.contains("tidegate serve DIR"), "{text}");
    }

    #[test]
    fn what_was_given_is_safe_to_print() {
        let long = "x".repeat(20_000);
        let rows: &[&[&str]] = &[
            &["tidegate", "serve", "--\u{1b}[31m"],
            &["tidegate", "serve", "--a\u{202e}b"],
            &["tidegate", "\u{1b}]0;x\u{7}"],
            &["tidegate", "serve", "a", "b\u{2066}"],
            &["tidegate", "serve", "--listen", "\u{1b}[2J"],
            &["tidegate", "serve", "--cores", "\u{200b}"],
            &["tidegate", "compress", ".", "--level", "\u{1b}[5m"],
            &["tidegate", "compress", ".", "--jobs", "\u{61c}"],
            &["tidegate", "serve", "--listen", &long],
            &["tidegate", &long],
            &["tidegate", "serve", "a", &long],
        ];
        for line in rows {
            let text = refusal(line);
            let given = line.iter().filter(|given| shown(given) != **given);
            for given in given {
                assert!(!text.contains(given), "{text:?}");
                assert!(text.contains(&shown(given)), "{text:?}");
            }
            assert!(text.len() < 4000, "{} bytes", text.len());
        }
    }
}
