//! `tidegate compress`: options, a progress bar and a summary.
//!
//! The bar is drawn on standard error if that is a terminal. The first signal stops the work cleanly.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Args, ValueEnum};
use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};
use tidegate_compress::{Coding, FileError, JOBS_MAX, Level, Observer, Options, Skipped, Summary};
use tidegate_config::visible;

use crate::output::{chain, print};
use crate::signals;

const EXAMPLES: &str = "\
Beside each file that is worth it come NAME.br, NAME.zst and NAME.gz, with the
time and mode of NAME. Left out are hidden files, types that are compressed
already, and links that lead out of DIR or to directories: DIR itself may be one.

What is there and has the very time of NAME is left alone, and so is what is
newer and holds just what NAME holds. Anything else is made again, so run this
whenever files have changed, and after going back to older ones, too: the server
sends what is not older than NAME. Where the time of NAME is in whole seconds, as
tools set it, contents alone are compared. One thing is not seen: a file that
changed and kept a time that has nanoseconds; --force makes all again. A link in
the place of a variant stays what it is.

INT, TERM or HUP ends the work as soon as each thread is done with the piece it
has in hand, of some 100 KiB: soon, but for many --jobs. A second one ends it at
once; the next run removes the hidden files that it leaves.

Examples:
  tidegate compress /srv/www
  tidegate compress dist --codings br,gzip
  tidegate compress dist --level fast --dry-run   about how much would it save?

Exit status: 0 all done, 1 something failed or was stopped, 2 wrong usage.";

/// How often the bar is redrawn, even without progress.
const TICK: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct CompressArgs {
    /// The directory, with all below it
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Which variants to make
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "br,zstd,gzip",
        value_parser = coding_parser()
    )]
    codings: Vec<Coding>,
    /// How hard to try
    #[arg(long, value_name = "LEVEL", default_value = "best")]
    level: Preset,
    /// Threads that compress, 1024 at the most [default: one for each core]
    #[arg(long, value_name = "N", value_parser = jobs)]
    jobs: Option<NonZeroUsize>,
    /// Leave out files of fewer bytes
    #[arg(long, value_name = "BYTES", default_value_t = Options::default().size_min)]
    min_size: u64,
    /// Make again what is fresh, too
    #[arg(long)]
    force: bool,
    /// Compress and tell what would be saved, and write nothing
    #[arg(long)]
    dry_run: bool,
}

/// [`Level`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Preset {
    /// Small: brotli 11, zstd 19, gzip 9
    Best,
    /// Soon: brotli 5, zstd 9, gzip 6
    Fast,
}

/// Makes the variants of the files of a directory and prints a summary.
pub(crate) fn directory(args: &CompressArgs) -> Result<(), Box<dyn Error>> {
    let reporter = Reporter::new(args.dry_run)?;
    let summary = tidegate_compress::compress(&args.directory, &args.options(), &reporter)?;
    reporter.bar.finish_and_clear();
    print(&text(args, &summary))?;
    match (summary.stopped, summary.failed) {
        (true, _) => Err("stopped by a signal; what is written is whole".into()),
        (false, 0) => Ok(()),
        (false, 1) => Err("1 failure".into()),
        (false, count) => Err(format!("{count} failures").into()),
    }
}

impl CompressArgs {
    fn options(&self) -> Options {
        let default = Options::default();
        Options {
            codings: self.codings.clone(),
            level: match self.level {
                Preset::Best => Level::Best,
                Preset::Fast => Level::Fast,
            },
            jobs: self.jobs.unwrap_or(default.jobs),
            size_min: self.min_size,
            force: self.force,
            dry_run: self.dry_run,
        }
    }
}

/// Shows progress, and stops on signals.
struct Reporter {
    /// Hidden unless standard error is a terminal.
    bar: ProgressBar,
    dry_run: bool,
    stopping: Arc<AtomicBool>,
}

impl Reporter {
    fn new(dry_run: bool) -> io::Result<Self> {
        let stopping = signals::stop_flag()?;
        let bar = ProgressBar::new_spinner().with_message("looking for files");
        bar.enable_steady_tick(TICK);
        Ok(Self {
            bar,
            dry_run,
            stopping,
        })
    }
}

impl Observer for Reporter {
    fn planned(&self, work: u64) {
        let style = ProgressStyle::with_template("{msg} [{wide_bar}] {percent} %, {eta} left");
        // The template is valid; if not, the default style would do.
        if let Ok(style) = style {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_message("compressing");
        self.bar.set_length(work);
    }

    fn advanced(&self, work: u64) {
        self.bar.inc(work);
    }

    fn written(&self, path: &Path, before_bytes: u64, after_bytes: u64) {
        if self.dry_run {
            let path = visible(&path.to_string_lossy());
            let line = format!("would write {path}: {before_bytes} bytes become {after_bytes}");
            // If standard output is closed, the summary fails, too, and reports it.
            self.bar.suspend(|| writeln!(io::stdout(), "{line}")).ok();
        }
    }

    fn failed(&self, error: &FileError) {
        let line = chain(error);
        // If standard error is closed, the exit status remains.
        self.bar
            .suspend(|| writeln!(io::stderr(), "tidegate: {line}"))
            .ok();
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

fn jobs(text: &str) -> Result<NonZeroUsize, String> {
    let jobs = text.parse::<NonZeroUsize>().ok();
    jobs.filter(|jobs| jobs.get() <= JOBS_MAX)
        .ok_or_else(|| format!("not a count from 1 to {JOBS_MAX}"))
}

fn coding_parser() -> ValueParser {
    let names = PossibleValuesParser::new(Coding::ALL.map(Coding::token));
    let coding = |name: String| {
        Coding::ALL
            .into_iter()
            .find(|coding| coding.token() == name)
    };
    names
        .try_map(move |name| coding(name).ok_or("no such coding"))
        .into()
}

/// The table of codings, then the reasons for skipped files.
fn text(args: &CompressArgs, summary: &Summary) -> String {
    let [written, removed] = if args.dry_run {
        ["to write", "to remove"]
    } else {
        ["written", "removed"]
    };
    let mut text = format!(
        "coding {written:>9} {:>12} {:>12} {:>8} {:>8} {:>8} {removed:>9}\n",
        "before", "after", "saved", "fresh", "no gain"
    );
    for coding in Coding::ALL {
        if args.codings.contains(&coding) {
            text += &row(coding, summary);
        }
    }
    text += &left_out(&summary.skipped, args.min_size);
    if summary.cleaned > 0 {
        // Writing to a `String` cannot fail.
        let _ = writeln!(
            text,
            "removed: {} left by runs that were killed",
            summary.cleaned
        );
    }
    text
}

fn row(coding: Coding, summary: &Summary) -> String {
    let tally = summary.tally(coding);
    let (before, after) = (tally.before_bytes, tally.after_bytes);
    let saved = match before {
        0 => "-".to_owned(),
        _ => format!("{:.1} %", 100.0 * (1.0 - after as f64 / before as f64)),
    };
    let [before, after] = [before, after].map(|bytes| BinaryBytes(bytes).to_string());
    format!(
        "{:<6} {:>9} {before:>12} {after:>12} {saved:>8} {:>8} {:>8} {:>9}\n",
        coding.token(),
        tally.written,
        tally.fresh,
        tally.no_gain,
        tally.removed
    )
}

fn left_out(skipped: &Skipped, size_min: u64) -> String {
    let small = format!("smaller than {size_min} bytes");
    let reasons = [
        (skipped.kind, "of a type that does not compress"),
        (skipped.small, small.as_str()),
        (skipped.variants, "variants themselves"),
        (skipped.hidden, "hidden"),
        (skipped.links, "links that lead to no file in there"),
        (
            skipped.linked,
            "variants that are links to none that is fresh",
        ),
    ];
    let reasons = reasons.iter().filter(|(count, _)| *count > 0);
    let reasons: Vec<String> = reasons
        .map(|(count, reason)| format!("{count} {reason}"))
        .collect();
    match reasons.as_slice() {
        [] => String::new(),
        reasons => format!("left out: {}\n", reasons.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CompressArgs,
    }

    fn options(line: &str) -> Options {
        let line = Line::try_parse_from(line.split(' ')).unwrap();
        line.args.options()
    }

    #[test]
    fn defaults_are_those_of_the_crate() {
        assert_eq!(options("compress ."), Options::default());
    }

    #[test]
    fn options_are_taken_as_given() {
        let line =
            "compress . --codings gzip,br --level fast --jobs 3 --min-size 0 --force --dry-run";
        let expected = Options {
            codings: vec![Coding::Gzip, Coding::Brotli],
            level: Level::Fast,
            jobs: NonZeroUsize::new(3).unwrap(),
            size_min: 0,
            force: true,
            dry_run: true,
        };
        assert_eq!(options(line), expected);
    }

    #[test]
    fn reasons_are_given_only_where_there_are_any() {
        assert_eq!(left_out(&Skipped::default(), 256), "");
        let skipped = Skipped {
            small: 2,
            links: 1,
            ..Skipped::default()
        };
        let expected =
            "left out: 2 smaller than 256 bytes, 1 links that lead to no file in there\n";
        assert_eq!(left_out(&skipped, 256), expected);
    }
}
