//! A tree of files with the sizes that a CDN serves: log-normal, with a median
//! of 16 KiB and a tail to 100 MiB. The same bytes asked for give the same tree.
//!
//! The file `list` beside them names them, most popular first, with their
//! sizes; how popular a file is does not depend on its size.

use std::f64::consts::TAU;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use fastrand::Rng;
use serde_json::{Map, Value, json};

use crate::cli::TreeOptions;
use crate::error::{Error, Result};
use crate::output::fields;

const SEED: u64 = 1;
const SIZE_MEDIAN: f64 = 16.0 * 1024.0;
const SIZE_MAX: u64 = 100 * 1024 * 1024;
/// Of the sizes' logarithm. It makes the mean 7 times the median, and one file
/// in 170,000 reach the greatest size.
const SIGMA: f64 = 2.0;
const PIECE_BYTES: usize = 1024 * 1024;

pub(crate) fn run(options: &TreeOptions) -> Result<Map<String, Value>> {
    let dir = &options.dir;
    fs::create_dir(dir).map_err(Error::file(dir))?;
    let mut rng = Rng::with_seed(SEED);
    let piece: Vec<u8> = (0..PIECE_BYTES).map(|_| rng.u8(..)).collect();
    let mut list = String::new();
    let (mut files, mut bytes) = (0, 0);
    while bytes < options.bytes {
        let (name, size) = (format!("{files:07}.bin"), size(&mut rng));
        write_file(&dir.join(&name), size, &piece)?;
        // Writing into a string cannot fail.
        let _ = writeln!(list, "{name} {size}");
        files += 1;
        bytes += size;
    }
    let path = dir.join("list");
    fs::write(&path, list).map_err(Error::file(&path))?;
    Ok(fields(json!({"files": files, "bytes": bytes})))
}

/// By the method of Box and Muller.
fn size(rng: &mut Rng) -> u64 {
    let normal = (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (TAU * rng.f64()).cos();
    ((SIZE_MEDIAN * (SIGMA * normal).exp()) as u64).clamp(1, SIZE_MAX)
}

fn write_file(path: &Path, size: u64, piece: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::file(path))?;
    let mut left = size as usize;
    while left > 0 {
        let count = left.min(piece.len());
        file.write_all(&piece[..count]).map_err(Error::file(path))?;
        left -= count;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_the_median_and_the_tail() {
        let mut rng = Rng::with_seed(SEED);
        let mut sizes: Vec<u64> = (0..400_000).map(|_| size(&mut rng)).collect();
        sizes.sort_unstable();
        let median = sizes[sizes.len() / 2];
        assert!((15_000..18_000).contains(&median), "{median}");
        assert_eq!(sizes.last(), Some(&SIZE_MAX));
    }
}
