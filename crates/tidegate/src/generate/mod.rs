//! `tidegate generate`: manual pages and completions, from the definition of the command line.
//!
//! A hidden command and no build script: packages run it once, other builds do not wait for it.

mod keys;
mod manual;

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use std::{env, fs, io};

use clap::{Args, Command, ValueEnum};
use clap_complete::Shell;
use tidegate_config::visible;

/// The shells that there are completions for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// What to write: manual pages, or completions for bash, zsh and fish
    kind: Kind,
    /// The directory to write to; it is made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    Man,
    Completions,
}

/// Writes the files. `program` is the command line.
pub(crate) fn files(args: &GenerateArgs, program: Command) -> Result<(), String> {
    let directory = &args.directory;
    let written = fs::create_dir_all(directory).and_then(|()| match args.kind {
        Kind::Man => pages(directory, program),
        Kind::Completions => completions(directory, program),
    });
    let place = || visible(&directory.display().to_string());
    written.map_err(|error| format!("cannot write to {}: {error}", place()))
}

/// A page for the program, one for each command, and one for the configuration file.
fn pages(directory: &Path, program: Command) -> io::Result<()> {
    let date = date();
    let mut program = program.disable_help_subcommand(true);
    // Gives the commands their names: tidegate-serve, tidegate serve.
    program.build();
    let commands = program
        .get_subcommands()
        .filter(|command| !command.is_hide_set());
    for command in commands.chain([&program]) {
        let name = command
            .get_display_name()
            .unwrap_or_else(|| command.get_name());
        fs::write(
            directory.join(format!("{name}.1")),
            manual::page(command, &date)?,
        )?;
    }
    fs::write(directory.join("tidegate.toml.5"), keys::page(&date))
}

/// Today, or the day of `SOURCE_DATE_EPOCH`, for packages of the same bytes at any time
/// (<https://reproducible-builds.org/specs/source-date-epoch>).
fn date() -> String {
    let epoch = env::var("SOURCE_DATE_EPOCH").ok();
    let seconds = epoch.and_then(|seconds| seconds.parse().ok());
    let time = seconds.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
    let time = humantime::format_rfc3339_seconds(time.unwrap_or_else(SystemTime::now));
    time.to_string()[.."YYYY-MM-DD".len()].to_owned()
}

fn completions(directory: &Path, mut program: Command) -> io::Result<()> {
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut program, "tidegate", directory)?;
    }
    Ok(())
}
