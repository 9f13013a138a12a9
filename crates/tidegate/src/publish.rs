//! `tidegate publish`: options, a progress bar and a summary.
//!
//! The bar is drawn on standard error if that is a terminal. The first signal stops the work cleanly.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{BinaryBytes, ProgressBar, ProgressStyle};
use tidegate_config::{Glob, OriginUrl, S3Style, Site, visible};
use tidegate_origin::publish::{
    self, CacheControl, Destination, MediaTypes, ObjectError, Observer, Options, Summary, path_glob,
};
use tidegate_origin::s3::credentials::Environment;

use crate::output::{chain, print};
use crate::signals;

const EXAMPLES: &str = "\
Uploads the files of DIR that the bucket does not have as they are, for a site with
the origin { s3 = \"https://HOST/BUCKET/PREFIX\" }. Pages (*.html) come last, and a variant
(NAME.br, NAME.zst, NAME.gz) comes before NAME, so that no client sees a page before what it
refers to. If anything fails, what would come after it is left out: the release before stays.

Content-Type is what tidegate would send for the file. Cache-Control is no-cache for pages, a
year and immutable for names that have a hash, and an hour for the rest; the first
--cache-control whose GLOB matches the path counts before that. A GLOB without a leading slash is
for any depth. Names that begin with a dot are left out, but for .well-known, and so are links
that lead out of DIR.

A file is compared with its object by length and MD5, or by the SHA-256 that the object was
uploaded with. What is equal is left alone, with the fields that it has.

Credentials are those that AWS's tools would find: AWS_ACCESS_KEY_ID and
AWS_SECRET_ACCESS_KEY, a profile, or those of a container or an instance.

Examples:
  tidegate publish dist s3://assets/www
  tidegate publish dist s3://assets/www --delete --dry-run     what would change?
  tidegate publish dist s3://assets --endpoint http://127.0.0.1:9000
  tidegate publish dist s3://assets --cache-control '/fonts/**=public, max-age=604800'

Exit status: 0 all done, 1 something failed or was stopped, 2 wrong usage.";

/// How often the bar is redrawn, even without progress.
const TICK: Duration = Duration::from_millis(200);

/// More requests at a time only wait for each other.
const CONCURRENCY_MAX: i64 = 1024;

/// The region of stores that have none, and that of AWS by default.
const REGION: &str = "us-east-1";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PublishArgs {
    /// The directory, with all below it
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    #[arg(
        value_name = "DESTINATION",
        help = "The bucket, and what keys begin with: s3://BUCKET/PREFIX"
    )]
    destination: Destination,
    #[arg(
        long,
        value_name = "URL",
        help = "The store, without the bucket [default: AWS_ENDPOINT_URL_S3, else \
                AWS_ENDPOINT_URL, else AWS in the region]"
    )]
    endpoint: Option<OriginUrl>,
    #[arg(
        long,
        value_name = "NAME",
        help = "The region that requests are signed for [default: AWS_REGION, else \
                AWS_DEFAULT_REGION, else us-east-1]"
    )]
    region: Option<String>,
    /// The profile of the credentials in the shared files of AWS
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Where URLs name the bucket
    #[arg(long, value_name = "STYLE", default_value = "path")]
    style: Style,
    /// PEM file of the authorities that the store is checked against [default: the system's]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Cache-Control for the paths that a pattern matches; none if VALUE is empty. Repeat it for
    /// more
    #[arg(long, value_name = "GLOB=VALUE")]
    cache_control: Vec<CacheControl>,
    /// Leave these paths alone, in DIR and in the store; repeat it for more
    #[arg(long, value_name = "GLOB", value_parser = path_glob)]
    exclude: Vec<Glob>,
    /// Remove objects below PREFIX that DIR lacks, after everything else
    #[arg(long)]
    delete: bool,
    /// Upload what is unchanged, too, for other fields
    #[arg(long)]
    force: bool,
    /// Tell what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Requests at a time
    #[arg(
        long,
        value_name = "N",
        default_value_t = 16,
        value_parser = clap::value_parser!(u16).range(1..=CONCURRENCY_MAX)
    )]
    concurrency: u16,
}

/// [`S3Style`] on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Style {
    /// In the path: `https://HOST/BUCKET/KEY`
    Path,
    /// In the host: `https://BUCKET.HOST/KEY`
    VirtualHost,
}

/// Publishes a directory and prints a summary.
pub(crate) fn directory(args: &PublishArgs) -> Result<(), Box<dyn Error>> {
    let reporter = Reporter::new(args.dry_run)?;
    let options = args.options(&Environment::of_process())?;
    let types = Types(Site::default());
    let summary = publish::publish(&args.directory, &options, &types, &reporter)?;
    reporter.bar.finish_and_clear();
    print(&text(args.dry_run, &summary))?;
    match (summary.stopped, summary.failed) {
        (true, _) => Err("stopped by a signal; what is uploaded is whole".into()),
        (false, 0) => Ok(()),
        (false, 1) => Err("1 failure".into()),
        (false, count) => Err(format!("{count} failures").into()),
    }
}

impl PublishArgs {
    fn options(&self, environment: &Environment) -> Result<Options, String> {
        let variable = |names: [&str; 2]| names.into_iter().find_map(|name| environment.get(name));
        let region = self.region.clone();
        let region = region.or_else(|| variable(["AWS_REGION", "AWS_DEFAULT_REGION"]));
        let region = region.unwrap_or_else(|| REGION.to_owned());
        Ok(Options {
            destination: self.destination.clone(),
            endpoint: self.endpoint(environment, &region)?,
            style: match self.style {
                Style::Path => S3Style::Path,
                Style::VirtualHost => S3Style::VirtualHost,
            },
            region,
            profile: self.profile.clone(),
            ca: self.ca.clone(),
            cache_control: self.cache_control.clone(),
            exclude: self.exclude.clone(),
            delete: self.delete,
            force: self.force,
            dry_run: self.dry_run,
            concurrency: self.concurrency.into(),
        })
    }

    /// The flag, else a variable of AWS's tools, else AWS itself.
    fn endpoint(&self, environment: &Environment, region: &str) -> Result<OriginUrl, String> {
        if let Some(endpoint) = &self.endpoint {
            return Ok(endpoint.clone());
        }
        for name in ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"] {
            if let Some(url) = environment.get(name) {
                return url.parse().map_err(|error| format!("{name}: {error}"));
            }
        }
        let url = format!("https://s3.{region}.amazonaws.com").parse();
        url.map_err(|error| format!("--region {region}: {error}"))
    }
}

/// The media types of a site with the defaults.
struct Types(Site);

impl MediaTypes for Types {
    fn content_type(&self, name: &str) -> String {
        tidegate_site::content_type(&self.0, name.as_bytes())
    }

    fn is_compressible(&self, content_type: &str) -> bool {
        tidegate_site::is_compressible(content_type)
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
        let bar = ProgressBar::new_spinner().with_message("looking at the store");
        bar.enable_steady_tick(TICK);
        Ok(Self {
            bar,
            dry_run,
            stopping: signals::stop_flag()?,
        })
    }

    /// Prints a line of a dry run.
    fn would(&self, line: &str) {
        if self.dry_run {
            let line = visible(line);
            // If standard output is closed, the summary fails, too, and reports it.
            self.bar
                .suspend(|| writeln!(io::stdout(), "would {line}"))
                .ok();
        }
    }
}

impl Observer for Reporter {
    fn planned(&self, files: u64) {
        let style = ProgressStyle::with_template("{msg} [{wide_bar}] {pos}/{len}, {eta} left");
        // The template is valid; if not, the default style would do.
        if let Ok(style) = style {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.set_message("publishing");
        self.bar.set_length(files);
    }

    fn advanced(&self) {
        self.bar.inc(1);
    }

    fn uploads(&self, key: &str, bytes: u64) {
        self.would(&format!("upload {key}: {bytes} bytes"));
    }

    fn deletes(&self, key: &str) {
        self.would(&format!("delete {key}"));
    }

    fn failed(&self, error: &ObjectError) {
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

/// What was done, then what was not.
fn text(dry_run: bool, summary: &Summary) -> String {
    let [uploaded, deleted] = if dry_run {
        ["to upload", "to delete"]
    } else {
        ["uploaded", "deleted"]
    };
    let mut text = format!(
        "{uploaded} {} ({}), unchanged {}, {deleted} {}, failed {}\n",
        summary.uploaded,
        BinaryBytes(summary.uploaded_bytes),
        summary.unchanged,
        summary.deleted,
        summary.failed,
    );
    let reasons = [
        (summary.excluded, "excluded"),
        (summary.hidden, "hidden"),
        (summary.links, "links that lead to nothing in there"),
        (summary.withheld, "not begun as something failed"),
    ];
    let reasons = reasons.iter().filter(|(count, _)| *count > 0);
    let reasons: Vec<String> = reasons
        .map(|(count, reason)| format!("{count} {reason}"))
        .collect();
    if !reasons.is_empty() {
        // Writing to a `String` cannot fail.
        let _ = writeln!(text, "left out: {}", reasons.join(", "));
    }
    if summary.stale_variants > 0 {
        let _ = writeln!(
            text,
            "in the store are variants that DIR lacks, {}: they may be of older files, and are \
             served; --delete removes them",
            summary.stale_variants
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: PublishArgs,
    }

    fn options(line: &str, variables: &'static [(&str, &str)]) -> Result<Options, String> {
        let line = Line::try_parse_from(line.split(' ')).unwrap();
        let value = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name)?;
            Some(found.1.to_owned())
        };
        line.args.options(&Environment::new(value))
    }

    #[test]
    fn endpoint_and_region_are_those_of_the_flags_or_the_environment() {
        const BOTH: &[(&str, &str)] = &[
            ("AWS_ENDPOINT_URL_S3", "http://a:1"),
            ("AWS_ENDPOINT_URL", "http://b:2"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_DEFAULT_REGION", "eu-west-2"),
        ];
        const LAST: &[(&str, &str)] = &[BOTH[1], BOTH[3]];
        for (flags, variables, endpoint, region) in [
            (
                "",
                &[][..],
                "https://s3.us-east-1.amazonaws.com",
                "us-east-1",
            ),
            (" --region x", &[], "https://s3.x.amazonaws.com", "x"),
            ("", BOTH, "http://a:1", "eu-west-1"),
            ("", LAST, "http://b:2", "eu-west-2"),
            (
                " --endpoint https://c/d --region x",
                BOTH,
                "https://c/d",
                "x",
            ),
        ] {
            let options = options(&format!("publish . s3://b{flags}"), variables).unwrap();
            assert_eq!(options.endpoint.to_string(), endpoint, "{flags}");
            assert_eq!(options.region, region, "{flags}");
        }
        let error = options("publish . s3://b", &[("AWS_ENDPOINT_URL", "b")]).unwrap_err();
        assert!(
            error.starts_with("AWS_ENDPOINT_URL: `b` is no URL"),
            "{error}"
        );
    }

    #[test]
    fn what_is_left_out_has_its_reason() {
        let summary = Summary {
            uploaded: 2,
            uploaded_bytes: 2048,
            hidden: 1,
            stale_variants: 3,
            ..Summary::default()
        };
        let text = text(false, &summary);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[..2],
            [
                "uploaded 2 (2.00 KiB), unchanged 0, deleted 0, failed 0",
                "left out: 1 hidden"
            ]
        );
        assert!(lines[2].starts_with("in the store are variants that DIR lacks, 3: "));
    }
}
