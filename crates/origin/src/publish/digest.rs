//! Hashes of a file: those that its upload is signed with, and the entity tag that a store gives it.
//! All functions block.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use aws_lc_rs::digest::{Context, SHA256};
use md5::{Digest, Md5};

use crate::s3::sign::hex;

/// Files beyond it are uploaded in parts.
const SINGLE_MAX: u64 = 64 << 20;

/// The usual length of a part.
const PART: u64 = 16 << 20;

/// The most parts of an upload (Amazon S3 User Guide, "Multipart upload limits").
const PARTS_MAX: u64 = 10_000;

/// The length of a part as AWS's own tools upload by default.
const PART_OF_AWS: u64 = 8 << 20;

/// Bytes that are read at once.
const CHUNK: usize = 256 << 10;

/// A SHA-256.
pub(super) type Sha256 = [u8; 32];

/// The SHA-256 of a file and of its parts.
pub(super) struct Sha256s {
    pub(super) whole: Sha256,
    /// Of each of [`parts`]; none for a file in one piece.
    pub(super) parts: Vec<Sha256>,
}

/// The length of the parts of a file of `len` bytes; `None`: it is uploaded in one piece.
pub(super) fn part_len(len: u64) -> Option<u64> {
    let least = len.div_ceil(PARTS_MAX).next_multiple_of(1 << 20);
    (len > SINGLE_MAX).then(|| PART.max(least))
}

/// The parts of `part` bytes that a file of `len` bytes has.
pub(super) fn parts(len: u64, part: u64) -> impl Iterator<Item = Range<u64>> {
    (0..len.div_ceil(part)).map(move |number| number * part..((number + 1) * part).min(len))
}

/// Reads a file of `len` bytes once for all its hashes.
pub(super) fn sha256s(file: &File, len: u64) -> io::Result<Sha256s> {
    let mut whole = Context::new(&SHA256);
    let Some(part) = part_len(len) else {
        read(file, 0..len, |bytes| whole.update(bytes))?;
        return Ok(Sha256s {
            whole: finished(whole),
            parts: Vec::new(),
        });
    };
    let mut hashes = Vec::new();
    for range in parts(len, part) {
        let mut one = Context::new(&SHA256);
        read(file, range, |bytes| {
            whole.update(bytes);
            one.update(bytes);
        })?;
        hashes.push(finished(one));
    }
    Ok(Sha256s {
        whole: finished(whole),
        parts: hashes,
    })
}

/// Whether a file of `len` bytes has the entity tag that a store gives to an object of the same
/// length: its MD5, or that of the MD5s of its parts with their number. `false` for tags that are
/// made in another way, and for parts of a length that nobody would guess.
pub(super) fn has_etag(file: &File, len: u64, etag: &str) -> io::Result<bool> {
    let Some((_, count)) = etag.split_once('-') else {
        return Ok(etag.eq_ignore_ascii_case(&hex(&md5(file, 0..len)?)));
    };
    let is_so_many = |part: &u64| Ok(len.div_ceil(*part)) == count.parse();
    let lens = part_len(len).into_iter().chain([PART, PART_OF_AWS]);
    let Some(part) = lens.into_iter().find(is_so_many) else {
        return Ok(false);
    };
    let mut whole = Md5::new();
    for range in parts(len, part) {
        whole.update(md5(file, range)?);
    }
    let own = format!("{}-{count}", hex(&whole.finalize()));
    Ok(etag.eq_ignore_ascii_case(&own))
}

fn md5(file: &File, range: Range<u64>) -> io::Result<[u8; 16]> {
    let mut hash = Md5::new();
    read(file, range, |bytes| hash.update(bytes))?;
    Ok(hash.finalize().into())
}

fn finished(hash: Context) -> Sha256 {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.finish().as_ref());
    bytes
}

/// Passes on a range of a file in pieces.
fn read(file: &File, range: Range<u64>, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK.min((range.end - range.start) as usize)];
    let mut at = range.start;
    while at < range.end {
        let len = buffer.len().min((range.end - at) as usize);
        read_exact(file, &mut buffer[..len], at)?;
        each(&buffer[..len]);
        at += len as u64;
    }
    Ok(())
}

/// Fills a buffer from an offset.
///
/// # Errors
///
/// The file is shorter than it was.
pub(super) fn read_exact(file: &File, buffer: &mut [u8], at: u64) -> io::Result<()> {
    file.read_exact_at(buffer, at)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::new(error.kind(), "the file became shorter while it was read")
            }
            _ => error,
        })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn parts_cover_the_file() {
        for (len, part, count) in [
            (SINGLE_MAX, None, 0),
            (SINGLE_MAX + 1, Some(PART), 5),
            (PART * PARTS_MAX, Some(PART), PARTS_MAX),
            (PART * PARTS_MAX + 1, Some(17 << 20), 9412),
        ] {
            assert_eq!(part_len(len), part, "{len}");
            let Some(part) = part else { continue };
            let parts: Vec<_> = parts(len, part).collect();
            assert_eq!(parts.len() as u64, count, "{len}");
            assert_eq!((parts[0].start, parts[parts.len() - 1].end), (0, len));
            assert!(parts.windows(2).all(|two| two[0].end == two[1].start));
        }
    }

    /// Checked with md5sum(1) and sha256sum(1).
    #[test]
    fn hashes_are_those_of_others() {
        let abc = file(b"abc");
        let sha256 = sha256s(&abc, 3).unwrap();
        assert_eq!(
            hex(&sha256.whole),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(sha256.parts.is_empty());
        let empty = "d41d8cd98f00b204e9800998ecf8427e";
        assert!(has_etag(&file(b""), 0, empty).unwrap());
        let tag = "900150983cd24fb0d6963f7d28e17f72";
        for (etag, expected) in [
            (tag.to_owned(), true),
            (tag.to_uppercase(), true),
            (empty.to_owned(), false),
            // MD5 of the MD5, of one part.
            ("af5da9f45af7a300e3aded972f8ff687-1".to_owned(), true),
            (format!("{tag}-1"), false),
            (format!("{tag}-9"), false),
            (format!("{tag}-x"), false),
            (String::new(), false),
        ] {
            assert_eq!(has_etag(&abc, 3, &etag).unwrap(), expected, "{etag}");
        }
    }

    #[test]
    fn a_file_that_became_shorter_is_an_error() {
        let error = sha256s(&file(b"abc"), 4).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(error.to_string().contains("became shorter"));
    }
}
