//! Dropping files from the page cache.

use std::fs::{self, File};
use std::path::Path;

use rustix::fs::{Advice, fadvise, syncfs};
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

/// Only clean pages can be dropped, so what is dirty is written out first: the
/// whole file system, for of many files each would wait for the disk anew.
fn evict(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(Error::file(path))?;
    syncfs(&file).map_err(Error::file(path))?;
    if !path.is_dir() {
        return drop_pages(path, &file);
    }
    for entry in fs::read_dir(path).map_err(Error::file(path))? {
        let path = entry.map_err(Error::file(path))?.path();
        drop_pages(&path, &File::open(&path).map_err(Error::file(&path))?)?;
    }
    Ok(())
}

fn drop_pages(path: &Path, file: &File) -> Result<()> {
    fadvise(file, 0, None, Advice::DontNeed).map_err(Error::file(path))
}
