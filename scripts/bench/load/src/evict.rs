//! Dropping files from the page cache.

use std::fs::File;
use std::path::Path;

use rustix::fs::{Advice, fadvise};
use serde_json::{Map, Value};

use crate::cli::EvictOptions;
use crate::error::{Error, Result};

pub(crate) fn run(options: &EvictOptions) -> Result<Map<String, Value>> {
    for path in &options.files {
        evict(path)?;
    }
    Ok(Map::from_iter([(
        "evicted".to_owned(),
        options.files.len().into(),
    )]))
}

/// Only clean pages can be dropped, so the file is written out first.
fn evict(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(Error::file(path))?;
    file.sync_data().map_err(Error::file(path))?;
    fadvise(&file, 0, None, Advice::DontNeed).map_err(Error::file(path))
}
