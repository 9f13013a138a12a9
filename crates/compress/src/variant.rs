//! Makes one variant.

use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, unlinkat};

use crate::draft::Draft;
use crate::encode::{cost, encode};
use crate::job::{Job, variant};
use crate::observer::{Observer, check_stopped};
use crate::options::Options;
use crate::original_reader::OriginalReader;
use crate::root::Root;

/// Bytes read at once; each read and write first checks whether to stop.
const READ_BYTES: usize = 64 << 10;

/// The largest variant worth keeping, in hundredths of its original.
const WORTH_PERCENT: u64 = 95;

/// The result of a job.
pub(crate) enum JobResult {
    /// The variant is in place and has this many bytes.
    Written { before: u64, after: u64 },
    /// It was hardly smaller; an older variant, if there was one, is removed.
    NoGain,
}

/// Makes a variant, unless it would hardly be smaller.
///
/// Leaves nothing behind when it fails. Fails if the file is written to meanwhile.
pub(crate) fn make(
    root: &Root,
    job: &Job,
    options: &Options,
    observer: &dyn Observer,
) -> io::Result<JobResult> {
    let file = root.file(&job.path)?;
    let original = file.metadata()?;
    let directory = root.parent(&job.path)?;
    let place = variant(&job.path, job.coding);
    // The path of a file ends in a name.
    let name = place.file_name().unwrap_or_default();
    let draft = (!options.dry_run).then(|| Draft::new(&directory));
    let draft = draft.transpose()?;
    let reader = OriginalReader {
        file,
        cost: cost(job.coding, options.level),
        observer,
    };
    let mut sink = CountingWriter::new(draft.as_ref(), observer);
    let encoded = compress(job, options, &original, reader, &mut sink);
    // Checked before any other error, which a change of the file may have caused.
    is_unchanged(&original, &root.real(&job.path))?;
    encoded?;
    let (before, after) = (original.len(), sink.finish()?);
    if !is_worth_it(before, after) {
        if job.replaces && !options.dry_run {
            unlinkat(&directory, name, AtFlags::empty())?;
        }
        return Ok(JobResult::NoGain);
    }
    if let Some(draft) = draft {
        draft.publish(&original, name)?;
    }
    Ok(JobResult::Written { before, after })
}

fn compress(
    job: &Job,
    options: &Options,
    original: &Metadata,
    reader: OriginalReader<'_>,
    sink: &mut CountingWriter<'_>,
) -> io::Result<()> {
    let len = original.len();
    let mut reader = BufReader::with_capacity(READ_BYTES, reader.take(len));
    encode(job.coding, options.level, len, &mut reader, sink)
}

fn is_worth_it(before: u64, after: u64) -> bool {
    u128::from(after) * 100 <= u128::from(before) * u128::from(WORTH_PERCENT)
}

/// Fails if the file at `path` is not the opened one any more, or has changed: the variant would
/// match neither version.
fn is_unchanged(opened: &Metadata, path: &Path) -> io::Result<()> {
    let identity = |file: &Metadata| {
        let time = (file.mtime(), file.mtime_nsec());
        (file.dev(), file.ino(), file.len(), time)
    };
    if identity(&fs::metadata(path)?) == identity(opened) {
        Ok(())
    } else {
        Err(io::Error::other("it was changed meanwhile; run this again"))
    }
}

/// Writes to a draft, or nowhere in a dry run, and counts the bytes. Checks whether to stop,
/// because a compressor may write much after its last read.
struct CountingWriter<'d> {
    draft: Option<BufWriter<&'d File>>,
    bytes: u64,
    observer: &'d dyn Observer,
}

impl<'d> CountingWriter<'d> {
    fn new(draft: Option<&'d Draft<'_>>, observer: &'d dyn Observer) -> Self {
        let draft = draft.map(|draft| BufWriter::new(draft.file()));
        Self {
            draft,
            bytes: 0,
            observer,
        }
    }

    /// The number of bytes, all written.
    fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        Ok(self.bytes)
    }
}

impl Write for CountingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        check_stopped(self.observer)?;
        if let Some(draft) = &mut self.draft {
            draft.write_all(bytes)?;
        }
        self.bytes += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.draft.as_mut().map_or(Ok(()), Write::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::FileError;

    /// Stops the run and ignores reports.
    struct Stopping;

    impl Observer for Stopping {
        fn planned(&self, _: u64) {}
        fn advanced(&self, _: u64) {}
        fn written(&self, _: &Path, _: u64, _: u64) {}
        fn failed(&self, _: &FileError) {}
        fn is_stopping(&self) -> bool {
            true
        }
    }

    #[test]
    fn a_stop_is_heeded_where_nothing_is_read_any_more() {
        let error = CountingWriter::new(None, &Stopping)
            .write(b"a")
            .unwrap_err();
        assert_eq!(error.to_string(), "stopped");
    }

    #[test]
    fn a_variant_has_to_save_a_twentieth() {
        let rows = [
            (100, 95, true),
            (100, 96, false),
            (0, 0, true),
            (0, 1, false),
            (256, 243, true),
            (256, 244, false),
            (u64::MAX, u64::MAX, false),
            (u64::MAX, u64::MAX / 2, true),
        ];
        for (before, after, expected) in rows {
            assert_eq!(is_worth_it(before, after), expected, "{before} {after}");
        }
    }
}
