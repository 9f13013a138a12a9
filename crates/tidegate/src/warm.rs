//! `tidegate warm`: has a server fetch objects of origins before clients ask for them.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use tidegate_config::visible;

use crate::admin_client::{AdminArgs, AdminClient, host_and_target};
use crate::output::print;

/// Objects of one request: the failures of each are told before the next.
const BATCH: usize = 100;

const EXAMPLES: &str = "\
The server fetches each object in whole, with its variants, into its cache on the disk, a few at a
time; what is there already is not fetched again. What cannot be had or stored is printed as `URL: REASON`
on standard error; the exit status is 1 then. Empty lines and those that begin with # are skipped.

Examples:
  tidegate warm -c tidegate.toml list.txt
  tidegate warm -c tidegate.toml --host cdn.example.org list.txt
  find . -type f | cut -c2- | tidegate warm --admin 127.0.0.1:9900 --token-file token -";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WarmArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The host of paths; URLs have their own [default: that of the site without
    /// names]
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// A file with a path or URL a line; - is standard input
    #[arg(value_name = "LIST")]
    list: PathBuf,
}

/// What was done so far.
#[derive(Default)]
struct Counts {
    warmed: u64,
    failed: u64,
}

/// Warms what the list names.
pub(crate) fn warm(args: &WarmArgs) -> Result<(), Box<dyn Error>> {
    let client = args.admin.client()?;
    let mut counts = Counts::default();
    let mut batch = Vec::new();
    for line in open(&args.list)?.lines() {
        let line = line.map_err(|error| unreadable(&args.list, &error))?;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (host, path) = host_and_target(line)?;
        batch.push(match host.as_ref().or(args.host.as_ref()) {
            Some(host) => json!({ "host": host, "path": path }),
            None => json!({ "path": path }),
        });
        if batch.len() == BATCH {
            counts.send(&client, std::mem::take(&mut batch))?;
        }
    }
    if !batch.is_empty() {
        counts.send(&client, batch)?;
    }
    print(&format!("warmed {} objects\n", counts.warmed))?;
    match counts.failed {
        0 => Ok(()),
        failed => Err(format!("{failed} objects are not in the cache").into()),
    }
}

impl Counts {
    fn send(&mut self, client: &AdminClient, batch: Vec<Value>) -> Result<(), Box<dyn Error>> {
        let answer = client.post("/warm", &Value::from(batch))?;
        self.warmed += answer["warmed"].as_u64().unwrap_or_default();
        for failed in answer["failed"].as_array().into_iter().flatten() {
            self.failed += 1;
            let text = |key: &str| failed[key].as_str().unwrap_or_default();
            let line = format!("{}{}: {}", text("host"), text("path"), text("error"));
            let _ = writeln!(io::stderr(), "{}", visible(&line));
        }
        Ok(())
    }
}

fn open(list: &Path) -> Result<Box<dyn BufRead>, String> {
    if list == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(list).map_err(|error| unreadable(list, &error))?;
    Ok(Box::new(BufReader::new(file)))
}

fn unreadable(list: &Path, error: &io::Error) -> String {
    format!("cannot read {}: {error}", visible(&list.to_string_lossy()))
}
