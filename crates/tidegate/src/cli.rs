//! The command line. Flags override the environment (`TIDEGATE_*`), which overrides the file: clap
//! does the first, [`Overrides::apply`] the second.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tidegate_config::{AccessLog, Cores, Listen, Settings, ValueError};

use crate::compress::CompressArgs;
use crate::generate::GenerateArgs;
use crate::publish::PublishArgs;
use crate::purge::PurgeArgs;
use crate::sign::SignArgs;
use crate::warm::WarmArgs;

/// The variable that names the configuration file if the command line does not.
const CONFIG_VARIABLE: &str = "TIDEGATE_CONFIG";

/// The file that `--spa` sends for navigations.
const SPA_PAGE: &str = "/index.html";

const EXAMPLES: &str = "\
Examples:
  tidegate serve                               the working directory on http://127.0.0.1:8080
  tidegate serve /srv/www --listen 0.0.0.0:80  a directory for everybody
  tidegate run tidegate.toml                   as a file says
  tidegate check tidegate.toml                 is that file right?
  tidegate compress /srv/www                   variants for clients that take them
  tidegate publish dist s3://assets/www        a release to an S3 store
  tidegate doctor                              what this host offers

Logs go to standard error; RUST_LOG chooses them (default \"info\").
Exit status: 0 clean stop, 1 refused to start, 2 wrong usage.";

const SERVE_EXAMPLES: &str = "\
Examples:
  tidegate serve
  tidegate serve public -p 3000                http://127.0.0.1:3000; -p 0 picks a free port
  tidegate serve ~/Downloads --directory-listing
  tidegate serve --log                         with a line for each request
  tidegate serve dist --spa                    an application with routes of its own
  tidegate serve /srv/www --listen 0.0.0.0:8080 --listen '[::]:8080' --cores 0-3";

const RUN_EXAMPLES: &str = "\
Examples:
  tidegate run /etc/tidegate.toml
  tidegate run tidegate.toml --listen 127.0.0.1:8081 --cores 1
  TIDEGATE_CONFIG=/etc/tidegate.toml tidegate run";

const CHECK_EXAMPLES: &str = "\
Prints `FILE: ok`, or each problem as `FILE:LINE: KEY: REASON` on standard error. What the server would
start with but looks like a mistake, such as an error page that is not there, is a warning among
them; the exit status is 0 then, and 1 for a problem.

Examples:
  tidegate check tidegate.toml
  tidegate check new.toml && mv new.toml /etc/tidegate.toml";

const RELOAD_EXAMPLES: &str = "\
Finds the server by server.control of the file, waits until every core has the new configuration,
and prints what needs a restart. If anything is wrong, nothing changes, each problem is printed as
FILE:LINE: KEY: REASON, and the exit status is 1.

Examples:
  tidegate reload /etc/tidegate.toml
  TIDEGATE_CONFIG=/etc/tidegate.toml tidegate reload";

const CONFIG_EXAMPLES: &str = "\
Examples:
  tidegate config                              the defaults
  tidegate config tidegate.toml                what that file comes to
  tidegate config > tidegate.toml              a file to start from";

const DOCTOR_EXAMPLES: &str = "\
Prints a line for each thing: `good`, `fair` (it could be better, and how) or `bad` (tidegate would
not start), and fails if anything is bad. Of a file it tells all that `tidegate check` tells: its
warnings are fair, its problems bad.

Examples:
  tidegate doctor                              for a directory with the defaults
  tidegate doctor tidegate.toml                for that file, its roots, addresses and certificates included
  tidegate doctor --json | jq '.[] | select(.grade != \"good\")'";

/// Serves static assets over HTTP from every core.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a directory, now, with the defaults
    Serve(ServeArgs),
    /// Serve as a configuration file says
    Run(RunArgs),
    /// Tell whether a configuration file is right
    Check(CheckArgs),
    /// Have a running server read its configuration file again
    Reload(ReloadArgs),
    /// Print the effective configuration, every default filled in
    Config(ConfigArgs),
    /// Write the precompressed variants of a directory's files
    Compress(CompressArgs),
    /// Upload a directory to an S3 store
    Publish(PublishArgs),
    /// Have a running server forget what it keeps of origins
    Purge(PurgeArgs),
    /// Have a running server fetch objects of origins ahead
    Warm(WarmArgs),
    /// Make a signed URL
    Sign(SignArgs),
    /// Tell what this host offers and what tidegate will do about it
    Doctor(DoctorArgs),
    /// What the server starts beside itself
    #[command(hide = true)]
    Launcher,
    /// Write the manual pages or the completions of this command line
    #[command(hide = true)]
    Generate(GenerateArgs),
}

#[derive(Debug, Args)]
#[command(after_help = SERVE_EXAMPLES)]
pub(crate) struct ServeArgs {
    /// The directory to serve
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// List directories that have no index.html, as pages or as JSON
    #[arg(long)]
    directory_listing: bool,
    /// Answer navigations to what is not there with /index.html, for an
    /// application with routes of its own; a missing script stays 404
    #[arg(long)]
    spa: bool,
    /// Show a line for each request on standard error
    #[arg(long)]
    log: bool,
    /// The port of 127.0.0.1 to listen on, instead of --listen; 0 picks a free one
    #[arg(short, long, value_name = "PORT")]
    port: Option<u16>,
    #[command(flatten)]
    overrides: Overrides,
}

/// The configuration file of a command.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    #[arg(
        value_name = "FILE",
        conflicts_with = "config",
        help = "The configuration file; - is standard input [env: TIDEGATE_CONFIG]"
    )]
    file: Option<PathBuf>,
    /// The same
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
#[command(after_help = RELOAD_EXAMPLES)]
pub(crate) struct ReloadArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
}

#[derive(Debug, Args)]
#[command(after_help = DOCTOR_EXAMPLES)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    /// Print a JSON list instead, with an object for each line: topic, grade
    /// and text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(after_help = CONFIG_EXAMPLES)]
pub(crate) struct ConfigArgs {
    #[command(flatten)]
    pub(crate) config: ConfigFile,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// Flags and variables that override the file.
#[derive(Debug, Default, Args)]
pub(crate) struct Overrides {
    /// An address to listen on, HOST:PORT or unix:PATH; repeat it for more. Port
    /// 0 picks a free one. Replaces every address of the file; where one speaks
    /// TLS, say https://HOST:PORT or http://HOST:PORT [default: 127.0.0.1:8080]
    #[arg(
        long,
        value_name = "ADDR",
        env = "TIDEGATE_LISTEN",
        value_delimiter = ','
    )]
    listen: Vec<Wanted>,
    /// The cores to run on: "auto", a count, or a list such as 0-15,32
    /// [default: auto]
    #[arg(long, value_name = "SPEC", env = "TIDEGATE_CORES")]
    cores: Option<Cores>,
}

/// An address of a flag or the environment.
#[derive(Clone, Debug)]
struct Wanted {
    listen: Listen,
    /// Whether the address came with a scheme, which decides about TLS.
    has_scheme: bool,
}

/// Why an override is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Conflict {
    /// It would silently turn TLS off.
    NoScheme(String),
    /// There is no certificate.
    NoCertificates(String),
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoScheme(address) => write!(
                f,
                "--listen {address} takes the place of an address that speaks TLS: \
                 say https://{address} or http://{address}"
            ),
            Self::NoCertificates(address) => write!(
                f,
                "--listen https://{address} needs certificates: set tls.certificates in a configuration file"
            ),
        }
    }
}

impl Error for Conflict {}

impl Cli {
    /// Parses a command line. `--port` takes the place of a variable, and conflicts with a flag;
    /// `conflicts_with` takes both for the same.
    pub(crate) fn of(
        line: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(line)?;
        if let Some(("serve", serve)) = matches.subcommand()
            && serve.contains_id("port")
            && serve.value_source("listen") == Some(ValueSource::CommandLine)
        {
            let reason = "the argument '--port <PORT>' cannot be used with '--listen <ADDR>'";
            return Err(Self::command().error(ErrorKind::ArgumentConflict, reason));
        }
        Self::from_arg_matches(&matches)
    }
}

impl Wanted {
    /// The default address with another port.
    fn on_this_host(port: u16) -> Self {
        Self {
            listen: Listen {
                address: format!("127.0.0.1:{port}"),
                ..Listen::default()
            },
            has_scheme: false,
        }
    }
}

impl FromStr for Wanted {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let secure = text.strip_prefix("https://");
        let address = secure.or_else(|| text.strip_prefix("http://"));
        Ok(Self {
            listen: Listen {
                tls: secure.is_some(),
                ..address.unwrap_or(text).parse()?
            },
            has_scheme: address.is_some(),
        })
    }
}

impl ConfigFile {
    /// The file that the command line names, or else the environment.
    pub(crate) fn named(&self) -> Option<PathBuf> {
        let argument = self.file.as_ref().or(self.config.as_ref()).cloned();
        let variable = || env::var_os(CONFIG_VARIABLE).filter(|value| !value.is_empty());
        argument.or_else(|| variable().map(PathBuf::from))
    }
}

impl ServeArgs {
    /// The defaults with these overrides.
    pub(crate) fn settings(mut self) -> Result<Settings, Conflict> {
        let mut settings = Settings::for_directory(self.directory);
        if let Some(port) = self.port {
            // Of the environment, since `Cli::of` refuses both flags.
            self.overrides.listen = vec![Wanted::on_this_host(port)];
        }
        for site in &mut settings.sites {
            site.directory_listing = self.directory_listing;
            site.spa_fallback = self.spa.then(|| SPA_PAGE.to_owned());
            if self.log {
                site.access_log = AccessLog::short();
            }
        }
        self.overrides.apply(&mut settings)?;
        Ok(settings)
    }
}

impl Overrides {
    /// Applies the overrides to `settings`.
    pub(crate) fn apply(&self, settings: &mut Settings) -> Result<(), Conflict> {
        let with_tls = settings.listen.iter().any(|listen| listen.tls);
        for wanted in &self.listen {
            let address = || wanted.listen.address.clone();
            if with_tls && !wanted.has_scheme {
                return Err(Conflict::NoScheme(address()));
            }
            if wanted.listen.tls && settings.tls.certificates.is_empty() {
                return Err(Conflict::NoCertificates(address()));
            }
        }
        if !self.listen.is_empty() {
            let listen = self.listen.iter().map(|wanted| wanted.listen.clone());
            settings.listen = listen.collect();
        }
        if let Some(cores) = &self.cores {
            settings.server.cores.clone_from(cores);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tidegate_config::CertificateFiles;

    use super::*;

    fn addresses(settings: &Settings) -> Vec<&str> {
        let listen = settings.listen.iter();
        listen.map(|entry| entry.address.as_str()).collect()
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_is_given_wins_over_the_file() {
        let mut settings = Settings::for_directory(PathBuf::from("."));
        let overrides = Overrides {
            listen: vec!["a:1".parse().unwrap(), "[::1]:2".parse().unwrap()],
            cores: Some(Cores::Count(3)),
        };
        overrides.apply(&mut settings).unwrap();
        assert_eq!(addresses(&settings), ["a:1", "[::1]:2"]);
        assert_eq!(settings.server.cores, Cores::Count(3));
    }

    #[test]
    fn what_is_not_given_stays_as_the_file_has_it() {
        let mut settings = Settings::for_directory(PathBuf::from("."));
        settings.server.cores = Cores::List(vec![1]);
        let before = settings.clone();
        Overrides::default().apply(&mut settings).unwrap();
        assert_eq!(settings, before);
    }

    /// The first listener of `settings` with `--listen address`.
    fn listening(settings: &Settings, address: &str) -> Result<Listen, Conflict> {
        let overrides = Overrides {
            listen: vec![address.parse().unwrap()],
            cores: None,
        };
        let mut settings = settings.clone();
        overrides.apply(&mut settings)?;
        Ok(settings.listen.remove(0))
    }

    #[test]
    fn tls_is_neither_dropped_nor_promised_without_a_word() {
        let plain = Settings::for_directory(PathBuf::from("."));
        let missing = Conflict::NoCertificates("a:1".to_owned());
        assert_eq!(listening(&plain, "https://a:1"), Err(missing));
        assert!(!listening(&plain, "a:1").unwrap().tls);

        let mut secure = plain;
        secure.listen[0].tls = true;
        secure.tls.certificates.push(CertificateFiles {
            cert: PathBuf::from("cert"),
            key: PathBuf::from("key"),
        });
        let dropped = Conflict::NoScheme("a:1".to_owned());
        assert_eq!(listening(&secure, "a:1"), Err(dropped));
        assert!(!listening(&secure, "http://a:1").unwrap().tls);
        let listen = listening(&secure, "https://a:1").unwrap();
        assert_eq!((listen.address.as_str(), listen.tls), ("a:1", true));
    }

    /// The settings of `serve` with these arguments.
    fn served(args: &[&str]) -> Settings {
        let line = ["tidegate", "serve"].iter().chain(args);
        match Cli::of(line).unwrap().command {
            Command::Serve(args) => args.settings().unwrap(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn serve_has_flags_for_what_a_directory_is() {
        let plain = Settings::for_directory(PathBuf::from("."));
        assert_eq!(served(&[]), plain);
        let mut listed = Settings::for_directory(PathBuf::from("d"));
        listed.sites[0].directory_listing = true;
        assert_eq!(served(&["d", "--directory-listing"]), listed);
        let mut logged = plain.clone();
        logged.sites[0].access_log = AccessLog::short();
        assert_eq!(served(&["--log"]), logged);
        let mut application = plain;
        application.sites[0].spa_fallback = Some("/index.html".to_owned());
        application.server.cores = Cores::Count(1);
        assert_eq!(served(&["--spa", "--cores", "1"]), application);
    }

    #[test]
    fn a_port_is_one_of_this_host() {
        let rows: &[(&[&str], &str)] = &[
            (&["-p", "3000"], "127.0.0.1:3000"),
            (&["--port=0"], "127.0.0.1:0"),
        ];
        for (args, expected) in rows {
            assert_eq!(addresses(&served(args)), [*expected], "{args:?}");
        }
    }

    #[test]
    fn wrong_usage_is_refused() {
        let rows: &[&[&str]] = &[
            &["tidegate"],
            &["tidegate", "start"],
            &["tidegate", "serve", "a", "b"],
            &["tidegate", "serve", "--listen", "8080"],
            &["tidegate", "serve", "--listen", "::1:8080"],
            &["tidegate", "serve", "--cores", "0"],
            &["tidegate", "serve", "--cores", "3-1"],
            &["tidegate", "serve", "-p", "65536"],
            &["tidegate", "serve", "-p", "1", "--listen", "a:1"],
            &["tidegate", "serve", "--config", "x"],
            &["tidegate", "check", "--cores", "1"],
            &["tidegate", "compress"],
            &["tidegate", "compress", ".", "--codings", "br,xz"],
            &["tidegate", "compress", ".", "--codings", ""],
            &["tidegate", "compress", ".", "--level", "11"],
            &["tidegate", "compress", ".", "--jobs", "0"],
            &["tidegate", "publish", "."],
            &["tidegate", "publish", ".", "https://assets/www"],
            &["tidegate", "publish", ".", "s3://a", "--concurrency", "0"],
            &[
                "tidegate",
                "publish",
                ".",
                "s3://a",
                "--cache-control",
                "no-cache",
            ],
            &[
                "tidegate",
                "publish",
                ".",
                "s3://a",
                "--endpoint",
                "s3.example",
            ],
        ];
        for row in rows {
            let error = Cli::of(*row).expect_err(&row.join(" "));
            assert_eq!(error.exit_code(), 2, "{row:?}");
        }
    }
}
