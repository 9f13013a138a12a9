//! Whether a chunk of a file can be spliced without blocking on the disk.
//!
//! splice(2) cannot tell: with an absent page it blocks on the disk, despite `SPLICE_F_NONBLOCK`,
//! and the core with it. So single bytes are read with `RWF_NOWAIT`, which fails with `EAGAIN` for
//! an absent page and for one whose read is still under way. (cachestat(2) counts the latter as
//! cached.)
//!
//! A probe of an absent page starts to read some pages there, at least on Linux 6.18, and does not
//! wait for them. But it waits for the file system to find out where they are, if that is on the
//! disk as well, and for room in the disk's queue. So the first miss ends the probing of a chunk,
//! and a worker prefetches what may be absent (the first chunk of a file, all that follows a miss)
//! before it is probed. The remaining case is a miss between chunks that were in memory.
//!
//! Density of the probes: both ends of the chunk and every [`STRIDE`] between, until a whole chunk
//! was found in memory; then the ends and every [`HOT_STRIDE`], until one is absent, which makes
//! the rest of the file suspect. On a hot 100 MiB file, dense probes of each chunk took 10 % of the
//! time.
//!
//! Where all of the range was sent from memory in the last seconds, the last byte of a chunk is not
//! probed: the one probe of a short file is of its first. All of the pages were in memory then,
//! whatever had been probed, and every transfer marked them as used. Since then they can go in two
//! ways, and in both the page at the front does not outlast those behind it for long:
//!
//! * Reclaim takes what was used least recently, and a transfer uses the pages in their order.
//! * A drop of the whole file, or of a long run of it: truncation, `POSIX_FADV_DONTNEED` (also
//!   that of [`DropBehind`](crate::drop_behind::DropBehind), 2 MiB from the front at a time),
//!   `drop_caches`, a write past the page cache, a network file system that finds a newer version.
//!
//! The probes miss a hole between two of them, and a page that is evicted between probe and splice.
//! Either blocks the core for one read of the disk. Read-ahead and eviction work in longer runs
//! than that, so such holes are rare.

use std::io::IoSliceMut;
use std::ops::Range;

use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tidegate_uring::Fd;

/// Bytes between dense probes, beside those of the first and the last byte. A probe costs a quarter
/// of a microsecond; splicing this many bytes to a socket about five.
const STRIDE: u64 = 64 * 1024;

/// The same where all that was probed before was in memory.
const HOT_STRIDE: u64 = 256 * 1024;

/// The result of probing a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residency {
    /// In memory, as far as the probes show.
    Resident,
    /// A part is on the disk, or the file system does not say.
    Absent,
    /// The file ends at or before the first byte.
    Ended,
}

/// Probes one file. A file system without `RWF_NOWAIT` is probed once.
#[derive(Debug)]
pub(crate) struct Prober {
    unsupported: bool,
    trust: Trust,
}

/// The results for this file so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    Unknown,
    /// All of the range was sent from memory in the last seconds.
    Recent,
    /// Every chunk was in memory.
    Hot,
    /// One was not.
    Suspect,
}

impl Prober {
    /// `unread`: nothing read the range lately, as far as the caller knows.
    pub(crate) fn new(unread: bool) -> Self {
        Self {
            unsupported: false,
            trust: if unread {
                Trust::Unknown
            } else {
                Trust::Recent
            },
        }
    }

    /// Whether all that was probed was in memory, or was sent from there in the last seconds.
    pub(crate) fn is_hot(&self) -> bool {
        matches!(self.trust, Trust::Recent | Trust::Hot)
    }

    /// Probes `range`, which must not be empty.
    pub(crate) fn probe(&mut self, file: &Fd, range: &Range<u64>) -> Residency {
        self.probe_by(range, |offset| read_byte(file, offset))
    }

    /// Reads bytes that are in memory from `offset` on, as many as fit into `buffers`. Returns how
    /// many, 0 at the end of the file; `None` if the first byte is on the disk, or the file system
    /// does not say.
    pub(crate) fn read(
        &mut self,
        file: &Fd,
        offset: u64,
        buffers: &mut [IoSliceMut<'_>],
    ) -> Option<usize> {
        if self.unsupported {
            return None;
        }
        let read = preadv2(file, buffers, offset, ReadWriteFlags::NOWAIT);
        // The read on the ring reports any other error than EAGAIN.
        self.unsupported |= read == Err(Errno::OPNOTSUPP);
        read.ok()
    }

    /// Probes with `read_byte`, which takes an offset and returns how many bytes it read there.
    fn probe_by(
        &mut self,
        range: &Range<u64>,
        read_byte: impl FnMut(u64) -> Result<usize, Errno>,
    ) -> Residency {
        if self.unsupported {
            return Residency::Absent;
        }
        let found = self.probe_offsets(range, read_byte);
        self.trust = match (self.trust, found) {
            (Trust::Recent, Residency::Resident) => Trust::Recent,
            (Trust::Unknown | Trust::Hot, Residency::Resident) => Trust::Hot,
            _ => Trust::Suspect,
        };
        found
    }

    fn probe_offsets(
        &mut self,
        range: &Range<u64>,
        mut read_byte: impl FnMut(u64) -> Result<usize, Errno>,
    ) -> Residency {
        for offset in offsets(range, self.trust) {
            match read_byte(offset) {
                Ok(0) if offset == range.start => return Residency::Ended,
                // The file ends within the range: what is before the end was probed.
                Ok(0) => return Residency::Resident,
                Ok(_) => {}
                Err(error) => {
                    self.unsupported = error == Errno::OPNOTSUPP;
                    // The splice on the ring reports any other error than EAGAIN.
                    return Residency::Absent;
                }
            }
        }
        Residency::Resident
    }
}

/// The offsets to probe: the first byte, the multiples of the stride and, unless all was sent from
/// memory in the last seconds, the last byte.
fn offsets(range: &Range<u64>, trust: Trust) -> impl Iterator<Item = u64> + use<> {
    let (first, last) = (range.start, range.end - 1);
    let stride = match trust {
        Trust::Unknown | Trust::Suspect => STRIDE,
        Trust::Recent | Trust::Hot => HOT_STRIDE,
    };
    let between = (first / stride + 1)..=last.saturating_sub(1) / stride;
    std::iter::once(first)
        .chain(between.map(move |index| index * stride))
        .chain((last > first && trust != Trust::Recent).then_some(last))
}

fn read_byte(file: &Fd, offset: u64) -> Result<usize, Errno> {
    let mut byte = [0];
    let mut buffers = [IoSliceMut::new(&mut byte)];
    preadv2(file, &mut buffers, offset, ReadWriteFlags::NOWAIT)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::OwnedFd;

    use super::*;

    fn file_of(len: usize) -> Fd {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![1; len]).unwrap();
        Fd::from(OwnedFd::from(file))
    }

    /// A file of `len` bytes; those of `absent` are not in memory. (A real file does not serve: a
    /// fast disk may have answered before the second probe.)
    fn memory(len: u64, absent: Range<u64>) -> impl Fn(u64) -> Result<usize, Errno> {
        move |offset| match offset {
            _ if offset >= len => Ok(0),
            _ if absent.contains(&offset) => Err(Errno::AGAIN),
            _ => Ok(1),
        }
    }

    #[test]
    fn the_ends_and_every_stride_between_are_probed() {
        let offsets = |range| offsets(&range, Trust::Unknown).collect::<Vec<_>>();
        assert_eq!(offsets(5..6), [5]);
        assert_eq!(offsets(5..7), [5, 6]);
        assert_eq!(offsets(0..STRIDE), [0, STRIDE - 1]);
        assert_eq!(offsets(0..STRIDE + 1), [0, STRIDE]);
        assert_eq!(offsets(0..STRIDE + 2), [0, STRIDE, STRIDE + 1]);
        assert_eq!(
            offsets(1..3 * STRIDE),
            [1, STRIDE, 2 * STRIDE, 3 * STRIDE - 1]
        );
        assert_eq!(offsets(STRIDE..STRIDE + 1), [STRIDE]);
    }

    #[test]
    fn the_ends_and_every_fourth_stride_are_probed_while_all_is_hot() {
        let offsets = |range| offsets(&range, Trust::Hot).collect::<Vec<_>>();
        assert_eq!(offsets(0..4 * STRIDE), [0, 4 * STRIDE - 1]);
        assert_eq!(offsets(5..6), [5]);
        assert_eq!(
            offsets(4 * STRIDE..9 * STRIDE),
            [4 * STRIDE, 8 * STRIDE, 9 * STRIDE - 1]
        );
    }

    #[test]
    fn the_first_byte_alone_is_probed_of_what_was_sent_lately_until_one_is_absent() {
        let mut prober = Prober::new(false);
        let mut probe = |range: Range<u64>, absent| {
            let mut offsets = Vec::new();
            let read_byte = memory(9 * STRIDE, absent);
            let found = prober.probe_by(&range, |offset| {
                offsets.push(offset);
                read_byte(offset)
            });
            (found, offsets)
        };
        assert_eq!(probe(5..STRIDE, 0..0), (Residency::Resident, vec![5]));
        let second = STRIDE..3 * STRIDE;
        assert_eq!(
            probe(second.clone(), second.clone()),
            (Residency::Absent, vec![STRIDE])
        );
        assert_eq!(
            probe(second, 0..0),
            (
                Residency::Resident,
                vec![STRIDE, 2 * STRIDE, 3 * STRIDE - 1]
            )
        );
    }

    #[test]
    fn one_absent_chunk_makes_the_rest_suspect() {
        let mut prober = Prober::new(true);
        let mut probe = |range, absent| {
            let found = prober.probe_by(&range, memory(1000, absent));
            (found, prober.trust)
        };
        assert_eq!(probe(0..400, 0..0), (Residency::Resident, Trust::Hot));
        assert_eq!(
            probe(400..700, 699..700),
            (Residency::Absent, Trust::Suspect)
        );
        assert_eq!(probe(400..700, 0..0), (Residency::Resident, Trust::Suspect));
        assert_eq!(
            probe(700..1000, 0..0),
            (Residency::Resident, Trust::Suspect)
        );
    }

    #[test]
    fn a_part_that_is_absent_is_seen_in_the_middle_unless_all_was_hot() {
        const LEN: u64 = 300_000;
        let in_the_middle = 2 * STRIDE..2 * STRIDE + 4096;
        let mut prober = Prober::new(true);
        let found = prober.probe_by(&(0..LEN), memory(LEN, in_the_middle.clone()));
        assert_eq!(found, Residency::Absent);
        let found = prober.probe_by(&(0..LEN), memory(LEN, 0..0));
        assert_eq!(found, Residency::Resident);
        let mut hot = Prober {
            trust: Trust::Hot,
            ..Prober::new(true)
        };
        let found = hot.probe_by(&(0..LEN), memory(LEN, in_the_middle));
        assert_eq!(found, Residency::Resident, "only the ends are probed");
    }

    #[test]
    fn a_file_system_without_nowait_is_probed_once() {
        let mut prober = Prober::new(true);
        let mut calls = 0;
        for _ in 0..3 {
            let found = prober.probe_by(&(0..10), |_| {
                calls += 1;
                Err(Errno::OPNOTSUPP)
            });
            assert_eq!(found, Residency::Absent);
        }
        assert_eq!(calls, 1);
    }

    #[test]
    fn a_file_just_written_is_resident() {
        let file = file_of(300_000);
        assert_eq!(
            Prober::new(true).probe(&file, &(0..300_000)),
            Residency::Resident
        );
    }

    #[test]
    fn the_end_of_the_file_is_reported_only_at_the_first_byte() {
        let file = file_of(10);
        let mut prober = Prober::new(true);
        assert_eq!(prober.probe(&file, &(0..100)), Residency::Resident);
        assert_eq!(prober.probe(&file, &(10..11)), Residency::Ended);
    }

    #[test]
    fn bytes_in_memory_are_read_to_the_end_of_the_file() {
        let file = file_of(10);
        let mut prober = Prober::new(true);
        let mut buffer = [0; 8];
        assert_eq!(
            prober.read(&file, 0, &mut [IoSliceMut::new(&mut buffer)]),
            Some(8)
        );
        assert_eq!(buffer, [1; 8]);
        assert_eq!(
            prober.read(&file, 6, &mut [IoSliceMut::new(&mut buffer)]),
            Some(4)
        );
        assert_eq!(
            prober.read(&file, 10, &mut [IoSliceMut::new(&mut buffer)]),
            Some(0)
        );
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        assert_eq!(
            prober.read(&Fd::from(reader), 0, &mut [IoSliceMut::new(&mut buffer)]),
            None
        );
    }

    #[test]
    fn a_file_that_cannot_be_probed_counts_as_absent() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        let mut prober = Prober::new(true);
        assert_eq!(prober.probe(&Fd::from(reader), &(0..1)), Residency::Absent);
    }
}
