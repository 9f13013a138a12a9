//! `tidegate purge`: has a server forget what it keeps of origins.

use std::error::Error;

use clap::{ArgGroup, Args};
use serde_json::{Value, json};

use crate::admin_client::{AdminArgs, host_and_target};
use crate::output::print;

/// Purges of one request: its body has a bound.
const BATCH_BYTES: usize = 32 * 1024;

const EXAMPLES: &str = "\
What is purged is stale: the origin is asked whether it is unchanged, and is sent again only if it
is not; where stale-while-revalidate is set, clients get it at once meanwhile. With --hard it is
gone. A purge concerns all sites, all queries and all variants, holds on all cores once the command
returns, and survives a restart. A path that ends in a slash is that of the index, too.

Examples:
  tidegate purge -c tidegate.toml --path /news.html --path /img/a%20b.png
  tidegate purge -c tidegate.toml --prefix /assets/
  tidegate purge --admin 127.0.0.1:9900 --token-file token --tag article-17
  tidegate purge -c tidegate.toml --all --hard";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
#[command(group(ArgGroup::new("what").required(true).multiple(true)))]
pub(crate) struct PurgeArgs {
    #[command(flatten)]
    admin: AdminArgs,
    /// The path of an object as in a URL; repeat it for more
    #[arg(long, value_name = "PATH", group = "what")]
    path: Vec<String>,
    /// All objects whose paths begin with this; repeat it for more
    #[arg(long, value_name = "PATH", group = "what")]
    prefix: Vec<String>,
    /// All objects that their origin gave this tag (Surrogate-Key, Cache-Tag);
    /// repeat it for more
    #[arg(long, value_name = "TAG", group = "what")]
    tag: Vec<String>,
    /// All objects
    #[arg(long, group = "what")]
    all: bool,
    /// Fetch them again in whole, even if the origin says that they are unchanged
    #[arg(long)]
    hard: bool,
}

/// Purges what the arguments name.
pub(crate) fn purge(args: &PurgeArgs) -> Result<(), Box<dyn Error>> {
    let purges = args.purges()?;
    let client = args.admin.client()?;
    let mut batch: Vec<Value> = Vec::new();
    let mut bytes = 0;
    for purge in purges {
        let len = purge.to_string().len() + 1;
        if bytes + len > BATCH_BYTES && !batch.is_empty() {
            client.post("/purge", &Value::from(std::mem::take(&mut batch)))?;
            bytes = 0;
        }
        bytes += len;
        batch.push(purge);
    }
    client.post("/purge", &Value::from(batch))?;
    print("purged\n")?;
    Ok(())
}

impl PurgeArgs {
    /// A value for each request.
    fn purges(&self) -> Result<Vec<Value>, String> {
        let hard = self.hard;
        let mut all = Vec::new();
        for (key, paths) in [("path", &self.path), ("prefix", &self.prefix)] {
            for path in paths {
                let (_, path) = host_and_target(path)?;
                all.push(json!({ key: path, "hard": hard }));
            }
        }
        let tags = self.tag.iter();
        all.extend(tags.map(|tag| json!({ "tag": tag, "hard": hard })));
        if self.all {
            all.push(json!({ "all": true, "hard": hard }));
        }
        Ok(all)
    }
}
