//! The command line. Flags win over the environment (`TIDEGATE_*`), which wins
//! over the file; clap does the first, [`Overrides::apply`] the second.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tidegate_config::{Cores, Listen, Settings};

use crate::compress::CompressArgs;

/// What `--spa` answers navigations with.
const SPA_PAGE: &str = "/index.html";

const EXAMPLES: &str = "\
Examples:
  tidegate serve                               the working directory on http://127.0.0.1:8080
  tidegate serve /srv/www --listen 0.0.0.0:80  a directory for everybody
  tidegate run --config tidegate.toml          as a file says
  tidegate check --config tidegate.toml        is that file right?
  tidegate compress /srv/www                   variants for clients that take them

Logs go to standard error; RUST_LOG chooses them (default \"info\").
Exit status: 0 clean stop, 1 refused to start, 2 wrong usage.";

const SERVE_EXAMPLES: &str = "\
Examples:
  tidegate serve
  tidegate serve public --listen 127.0.0.1:0   a port that is free, printed at the start
  tidegate serve ~/Downloads --directory-listing
  tidegate serve dist --spa                    an application with routes of its own
  tidegate serve /srv/www --listen 0.0.0.0:8080 --listen '[::]:8080' --cores 0-3";

const RUN_EXAMPLES: &str = "\
Examples:
  tidegate run --config /etc/tidegate.toml
  tidegate run --config tidegate.toml --listen 127.0.0.1:8081 --cores 1
  TIDEGATE_CONFIG=/etc/tidegate.toml tidegate run";

const CHECK_EXAMPLES: &str = "\
Prints `FILE: ok`, or each problem as `FILE:LINE: KEY: REASON` on standard error.

Examples:
  tidegate check --config tidegate.toml
  tidegate check --config new.toml && mv new.toml /etc/tidegate.toml";

const CONFIG_EXAMPLES: &str = "\
Examples:
  tidegate config                              the defaults
  tidegate config --config tidegate.toml       what that file comes to
  tidegate config > tidegate.toml              a file to start from";

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
    /// Print the effective configuration, every default filled in
    Config(ConfigArgs),
    /// Write the precompressed variants of a directory's files
    Compress(CompressArgs),
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
    #[command(flatten)]
    overrides: Overrides,
}

#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

#[derive(Debug, Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub(crate) struct CheckArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = CONFIG_EXAMPLES)]
pub(crate) struct ConfigArgs {
    /// The configuration file; without one, the defaults
    #[arg(long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) overrides: Overrides,
}

/// What flags and the environment set over the file.
#[derive(Debug, Default, Args)]
pub(crate) struct Overrides {
    /// An address to listen on, HOST:PORT; repeat it for more. Port 0 picks a
    /// free one. Replaces every address of the file [default: 127.0.0.1:8080]
    #[arg(
        long,
        value_name = "ADDR",
        env = "TIDEGATE_LISTEN",
        value_delimiter = ','
    )]
    listen: Vec<Listen>,
    /// The cores to run on: "auto", a count, or a list such as 0-15,32
    /// [default: auto]
    #[arg(long, value_name = "SPEC", env = "TIDEGATE_CORES")]
    cores: Option<Cores>,
}

impl ServeArgs {
    /// The defaults with what was given.
    pub(crate) fn settings(self) -> Settings {
        let mut settings = Settings::for_directory(self.directory);
        for site in &mut settings.sites {
            site.directory_listing = self.directory_listing;
            site.spa_fallback = self.spa.then(|| SPA_PAGE.to_owned());
        }
        self.overrides.apply(&mut settings);
        settings
    }
}

impl Overrides {
    /// Puts what was given in the place of what `settings` holds.
    pub(crate) fn apply(self, settings: &mut Settings) {
        if !self.listen.is_empty() {
            settings.listen = self.listen;
        }
        if let Some(cores) = self.cores {
            settings.server.cores = cores;
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

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
        overrides.apply(&mut settings);
        assert_eq!(addresses(&settings), ["a:1", "[::1]:2"]);
        assert_eq!(settings.server.cores, Cores::Count(3));
    }

    #[test]
    fn what_is_not_given_stays_as_the_file_has_it() {
        let mut settings = Settings::for_directory(PathBuf::from("."));
        settings.server.cores = Cores::List(vec![1]);
        let before = settings.clone();
        Overrides::default().apply(&mut settings);
        assert_eq!(settings, before);
    }

    /// What `serve` with these arguments comes to.
    fn served(args: &[&str]) -> Settings {
        let line = ["tidegate", "serve"].iter().chain(args);
        match Cli::try_parse_from(line).unwrap().command {
            Command::Serve(args) => args.settings(),
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
        let mut application = plain;
        application.sites[0].spa_fallback = Some("/index.html".to_owned());
        application.server.cores = Cores::Count(1);
        assert_eq!(served(&["--spa", "--cores", "1"]), application);
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
            &["tidegate", "serve", "--config", "x"],
            &["tidegate", "check", "--cores", "1"],
            &["tidegate", "compress"],
            &["tidegate", "compress", ".", "--codings", "br,xz"],
            &["tidegate", "compress", ".", "--codings", ""],
            &["tidegate", "compress", ".", "--level", "11"],
            &["tidegate", "compress", ".", "--jobs", "0"],
        ];
        for row in rows {
            let error = Cli::try_parse_from(*row).expect_err(&row.join(" "));
            assert_eq!(error.exit_code(), 2, "{row:?}");
        }
    }
}
