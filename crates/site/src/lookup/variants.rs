//! Precompressed variants beside a file: `app.js.br` is `app.js` in Brotli.
//!
//! A variant counts if it is a regular file below the root and not older than its original, if that is
//! there. Where
//! the original's time was seen with another content, that says nothing of the variant: then it
//! has to have been changed after the original, too, by the time that nobody can set. Which
//! are there is known as long as the original is: that none was added is seen by the directory's
//! identity, one statx for all that are not there.

use std::ffi::CString;

use futures_util::future::join_all;
use rustix::fs::{FileType, Statx};
use tidegate_http::Coding;

use crate::error::Error;
use crate::file::ops::OpenFile;
use crate::file::stat::file_type;
use crate::paths::with_extension;
use crate::root_dir::RootDir;

/// A variant that was looked for.
pub(crate) struct Variant {
    pub(crate) coding: Coding,
    pub(crate) name: CString,
    /// `None`: there is none.
    pub(crate) found: Option<(OpenFile, Statx)>,
    /// It is there and counts.
    pub(crate) fresh: bool,
}

impl Variant {
    /// The variant with its coding and name, if it counts.
    pub(crate) fn counting(self) -> Option<(Coding, CString, (OpenFile, Statx))> {
        let found = self.found.filter(|_| self.fresh)?;
        Some((self.coding, self.name, found))
    }
}

/// The codings of those that count.
pub(crate) fn codings(sought: &[Variant]) -> impl Iterator<Item = Coding> {
    let counting = sought.iter().filter(|sought| sought.fresh);
    counting.map(|sought| sought.coding)
}

/// Looks for the variants of the file `name`, all at once. `original`: `None` if it is not there itself.
pub(crate) async fn seek(
    tree: &RootDir,
    codings: &[Coding],
    name: &CString,
    original: Option<&Statx>,
) -> Result<Vec<Variant>, Error> {
    if is_compressed(name) {
        return Ok(Vec::new());
    }
    let sought = codings
        .iter()
        .map(|coding| seek_one(tree, *coding, name, original));
    join_all(sought).await.into_iter().collect()
}

async fn seek_one(
    tree: &RootDir,
    coding: Coding,
    original_name: &CString,
    original: Option<&Statx>,
) -> Result<Variant, Error> {
    let name = with_extension(original_name, coding.extension());
    let found = match open(tree, &name).await {
        Ok(found) => Some(found),
        // A variant that cannot be read is none; without descriptors nobody can tell.
        Err(Error::Busy(error)) => return Err(Error::Busy(error)),
        Err(_) => None,
    };
    let fresh = found.as_ref().is_some_and(|(_, stat)| {
        let is_older = original.is_some_and(|original| is_older(stat, original));
        file_type(stat) == FileType::RegularFile && !is_older
    });
    Ok(Variant {
        coding,
        name,
        found,
        fresh,
    })
}

/// Variants that were last changed before their original was may be of what it held before.
pub(crate) fn distrust_older_changes(sought: &mut [Variant], original: &Statx) {
    for variant in sought {
        if let Some((_, stat)) = &variant.found {
            variant.fresh &= changed(stat) >= changed(original);
        }
    }
}

fn changed(stat: &Statx) -> (i64, u32) {
    (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec)
}

async fn open(tree: &RootDir, name: &CString) -> Result<(OpenFile, Statx), Error> {
    let file = tree.open(name).await?;
    let stat = tree.stat_open(&file).await?;
    Ok((file, stat))
}

/// Whether a variant was made before its original was last changed. A tool that keeps times
/// without fractions of a second makes a variant that only looks older.
fn is_older(variant: &Statx, original: &Statx) -> bool {
    let (variant, original) = (&variant.stx_mtime, &original.stx_mtime);
    let fraction = if variant.tv_nsec == 0 {
        0
    } else {
        original.tv_nsec
    };
    (variant.tv_sec, variant.tv_nsec) < (original.tv_sec, fraction)
}

/// Whether a file is a variant itself.
fn is_compressed(name: &CString) -> bool {
    coded(name.as_bytes()).is_some()
}

/// The coding that the extension of `name` stands for, and the name without that extension.
fn coded(name: &[u8]) -> Option<(Coding, &[u8])> {
    Coding::ALL.into_iter().find_map(|coding| {
        let stem = name.strip_suffix(coding.extension().as_bytes())?;
        Some((coding, stem.strip_suffix(b".")?))
    })
}

/// As [`coded`], for what is sent with its coding: `a.svgz` is the same as `a.svg.gz` (SVG 2, section
/// 1.4).
pub(crate) fn coded_content(name: &[u8]) -> Option<(Coding, &[u8])> {
    let svg = name
        .strip_suffix(b"z")
        .filter(|name| name.ends_with(b".svg"));
    svg.map(|name| (Coding::Gzip, name)).or_else(|| coded(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_has_no_variants() {
        for (name, expected) in [
            (c"a.js", false),
            (c"a.js.br", true),
            (c"a.tar.gz", true),
            (c"a.zst", true),
            (c"gz", false),
            (c"br/a", false),
        ] {
            assert_eq!(is_compressed(&name.to_owned()), expected, "{name:?}");
        }
    }

    #[test]
    fn a_name_tells_the_coding_of_its_content() {
        use Coding::{Brotli, Gzip, Zstd};
        for (name, expected) in [
            ("Build/X.wasm.br", Some((Brotli, "Build/X.wasm"))),
            ("X.framework.js.gz", Some((Gzip, "X.framework.js"))),
            ("X.data.zst", Some((Zstd, "X.data"))),
            ("a.svgz", Some((Gzip, "a.svg"))),
            ("a.svg", None),
            ("asvgz", None),
            ("a.tgz", None),
            ("gz", None),
        ] {
            let expected = expected.map(|(coding, stem)| (coding, stem.as_bytes()));
            assert_eq!(coded_content(name.as_bytes()), expected, "{name}");
        }
    }

    #[test]
    fn older_is_told_by_the_precision_of_the_variant() {
        let file = tempfile::tempfile().unwrap();
        let flags = rustix::fs::AtFlags::EMPTY_PATH;
        let at = |tv_sec, tv_nsec| {
            let mut stat = rustix::fs::statx(&file, c"", flags, crate::file::stat::FIELDS).unwrap();
            stat.stx_mtime.tv_sec = tv_sec;
            stat.stx_mtime.tv_nsec = tv_nsec;
            stat
        };
        // variant, original, is the variant older
        for (variant, original, expected) in [
            ((5, 5), (5, 5), false),
            ((5, 4), (5, 5), true),
            ((5, 0), (5, 5), false),
            ((4, 9), (5, 0), true),
            ((6, 0), (5, 9), false),
        ] {
            let older = is_older(&at(variant.0, variant.1), &at(original.0, original.1));
            assert_eq!(older, expected, "{variant:?} {original:?}");
        }
    }
}
