//! Precompressed variants of a file: `app.js.br` is `app.js` in Brotli.
//!
//! A variant is used if it is a regular file below the root and no older than its original. Where
//! the original's mtime was seen with another content, its mtime proves nothing: then the variant's
//! ctime, which nobody can set, must be no older either. If there is no original, any variant is
//! used.
//!
//! A variant that is added later changes the mtime of its directory: one statx of the directory
//! covers all variants that do not exist.

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
    coding: Coding,
    pub(crate) name: CString,
    /// `None`: there is none, or it cannot be opened.
    pub(crate) opened: Option<(OpenFile, Statx)>,
    pub(crate) is_usable: bool,
}

impl Variant {
    pub(crate) fn into_usable(self) -> Option<(Coding, CString, (OpenFile, Statx))> {
        let opened = self.opened.filter(|_| self.is_usable)?;
        Some((self.coding, self.name, opened))
    }
}

/// The codings of the usable variants.
pub(crate) fn codings(variants: &[Variant]) -> impl Iterator<Item = Coding> {
    let usable = variants.iter().filter(|variant| variant.is_usable);
    usable.map(|variant| variant.coding)
}

/// Looks for the variants of the file `name`, all at once. `original`: `None` if `name` does not
/// exist.
pub(crate) async fn find(
    root: &RootDir,
    codings: &[Coding],
    name: &CString,
    original: Option<&Statx>,
) -> Result<Vec<Variant>, Error> {
    if is_compressed(name) {
        return Ok(Vec::new());
    }
    let variants = codings
        .iter()
        .map(|coding| find_one(root, *coding, name, original));
    join_all(variants).await.into_iter().collect()
}

async fn find_one(
    root: &RootDir,
    coding: Coding,
    original_name: &CString,
    original: Option<&Statx>,
) -> Result<Variant, Error> {
    let name = with_extension(original_name, coding.extension());
    let opened = match open(root, &name).await {
        Ok(opened) => Some(opened),
        // Out of descriptors, it is unknown whether there is one.
        Err(Error::Busy(error)) => return Err(Error::Busy(error)),
        Err(_) => None,
    };
    let is_usable = opened.as_ref().is_some_and(|(_, stat)| {
        let is_older = original.is_some_and(|original| is_older(stat, original));
        file_type(stat) == FileType::RegularFile && !is_older
    });
    Ok(Variant {
        coding,
        name,
        opened,
        is_usable,
    })
}

/// Variants whose ctime is before that of the original may be of a former version.
pub(crate) fn reject_changed_before(variants: &mut [Variant], original: &Statx) {
    for variant in variants {
        if let Some((_, stat)) = &variant.opened {
            variant.is_usable &= changed(stat) >= changed(original);
        }
    }
}

fn changed(stat: &Statx) -> (i64, u32) {
    (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec)
}

async fn open(root: &RootDir, name: &CString) -> Result<(OpenFile, Statx), Error> {
    let file = root.open(name).await?;
    let stat = root.stat_open(&file).await?;
    Ok((file, stat))
}

/// Whether a variant is older than its original. A tool that keeps mtimes in whole seconds makes
/// variants that only look older.
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
    coding_of(name.as_bytes()).is_some()
}

/// The coding that the extension of `name` stands for, and `name` without that extension.
fn coding_of(name: &[u8]) -> Option<(Coding, &[u8])> {
    Coding::ALL.into_iter().find_map(|coding| {
        let stem = name.strip_suffix(coding.extension().as_bytes())?;
        Some((coding, stem.strip_suffix(b".")?))
    })
}

/// As [`coding_of`], for files that are sent with their coding: `a.svgz` equals `a.svg.gz` (SVG 2,
/// section 1.4).
pub(crate) fn content_coding(name: &[u8]) -> Option<(Coding, &[u8])> {
    let svg = name
        .strip_suffix(b"z")
        .filter(|name| name.ends_with(b".svg"));
    let svg = svg.map(|name| (Coding::Gzip, name));
    svg.or_else(|| coding_of(name))
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
            assert_eq!(content_coding(name.as_bytes()), expected, "{name}");
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
