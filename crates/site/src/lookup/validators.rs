//! Which validators a file gets: an entity tag, a date, both or none (RFC 9110, section 8.8).

use std::time::SystemTime;

use rustix::fs::Statx;
use tidegate_config::EtagSource;
use tidegate_http::{Coding, ETag, Validators};

use crate::file::content_hash::Digest;
use crate::file::stat::{MADE_UP_SECONDS, modified};
use crate::lookup::mtime_reuse::MtimeReuse;

/// The start of 2000, which Bazel gives to every file that it packs.
const BAZEL_SECONDS: u64 = 946_684_800;

/// Which validators can be made of an mtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MtimeUse {
    /// An entity tag and a date: every version has another mtime.
    EtagAndDate,
    /// An entity tag: another version had another mtime in the same second.
    Etag,
    /// A date, but no strong validator: a tool may have set it, or the file system rounds it.
    Date,
    /// None: other versions had this mtime or are likely to, and its date is as weak.
    Nothing,
}

impl MtimeUse {
    pub(crate) fn makes_etag(self) -> bool {
        matches!(self, Self::EtagAndDate | Self::Etag)
    }

    fn makes_date(self) -> bool {
        matches!(self, Self::EtagAndDate | Self::Date)
    }
}

/// What the mtime of a file in `directory` can be used for. `reuse`: how much of it another version
/// had, too.
///
/// The result is the same on every host with a copy of the tree and its mtimes. So the ctime, which
/// differs between hosts, does not count.
pub(crate) fn mtime_use(
    stat: &Statx,
    directory: Option<&Statx>,
    reuse: MtimeReuse,
    source: EtagSource,
) -> MtimeUse {
    let Some(seconds) = modified(stat).map(seconds) else {
        return MtimeUse::Nothing;
    };
    let made_up = seconds <= MADE_UP_SECONDS || seconds == BAZEL_SECONDS;
    if made_up || reuse == MtimeReuse::Time || source == EtagSource::Content {
        return MtimeUse::Nothing;
    }
    let is_tree_time = || directory.is_some_and(|directory| is_same_time(directory, stat));
    match (stat.stx_mtime.tv_nsec != 0, reuse == MtimeReuse::None) {
        (true, true) => MtimeUse::EtagAndDate,
        (true, false) => MtimeUse::Etag,
        (false, true) if !is_tree_time() => MtimeUse::Date,
        (false, _) => MtimeUse::Nothing,
    }
}

fn is_same_time(one: &Statx, other: &Statx) -> bool {
    let time = |stat: &Statx| (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec);
    time(one) == time(other)
}

/// The validators of a file. `digest` is the hash of its content, needed unless its mtime makes an
/// entity tag. `None`: not computed yet.
pub(crate) fn validators(
    stat: &Statx,
    mtime_use: MtimeUse,
    digest: Option<Digest>,
    coding: Option<Coding>,
    now: SystemTime,
) -> Validators {
    let time = modified(stat);
    let etag = match time.filter(|_| mtime_use.makes_etag()) {
        Some(time) => Some(ETag::new(time, stat.stx_size)),
        None => digest.map(ETag::of_content),
    };
    let date = time.filter(|time| mtime_use.makes_date() && *time <= now);
    Validators {
        etag: etag.map(|etag| coding.map_or(etag, |coding| etag.with_coding(coding))),
        modified: date.map(seconds),
        is_date_strong: mtime_use == MtimeUse::EtagAndDate,
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn stat(seconds: i64, nanoseconds: u32) -> Statx {
        let file = tempfile::tempfile().unwrap();
        let flags = rustix::fs::AtFlags::EMPTY_PATH;
        let mut stat = rustix::fs::statx(&file, c"", flags, crate::file::stat::FIELDS).unwrap();
        stat.stx_mtime.tv_sec = seconds;
        stat.stx_mtime.tv_nsec = nanoseconds;
        stat
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(MADE_UP_SECONDS + 1000)
    }

    fn of(mtime_use: MtimeUse, seconds: i64, digest: u8, coding: Option<Coding>) -> Validators {
        let stat = stat(seconds, 0);
        validators(&stat, mtime_use, Some([digest; 16]), coding, now())
    }

    #[test]
    fn a_time_is_used_as_far_as_it_tells_contents_apart() {
        use EtagSource::{Content, Mtime};
        use MtimeReuse::{None as No, Second, Time};
        use MtimeUse::{Date, Etag, EtagAndDate, Nothing};
        let real = MADE_UP_SECONDS as i64 + 5;
        // Time of modification, that of the directory, pinned, source, and its use.
        let table = [
            ((-5, 7), (1, 0), No, Mtime, Nothing),
            ((0, 0), (1, 0), No, Mtime, Nothing),
            ((1, 0), (0, 0), No, Mtime, Nothing),
            ((315_532_800, 0), (0, 0), No, Mtime, Nothing), // zip: 1980
            ((499_162_500, 0), (0, 0), No, Mtime, Nothing), // npm: 1985
            ((MADE_UP_SECONDS as i64, 0), (0, 0), No, Mtime, Nothing),
            ((946_684_800, 0), (0, 0), No, Mtime, Nothing), // Bazel: 2000
            ((946_684_799, 0), (0, 0), No, Mtime, Date),
            ((real, 7), (0, 0), No, Mtime, EtagAndDate),
            ((real, 7), (real, 0), No, Mtime, EtagAndDate),
            ((real, 7), (real, 7), No, Mtime, EtagAndDate),
            // tar, SOURCE_DATE_EPOCH, a file system of seconds
            ((real, 0), (real + 1, 0), No, Mtime, Date),
            ((real, 0), (real, 1), No, Mtime, Date),
            // a tree whose directories have the time of its files
            ((real, 0), (real, 0), No, Mtime, Nothing),
            ((real, 7), (0, 0), Time, Mtime, Nothing),
            ((real, 0), (0, 0), Time, Mtime, Nothing),
            ((real, 7), (0, 0), Second, Mtime, Etag),
            ((real, 0), (0, 0), Second, Mtime, Nothing),
            ((real, 7), (0, 0), No, Content, Nothing),
        ];
        for (time, directory, pinned, source, expected) in table {
            let directory = stat(directory.0, directory.1);
            let found = mtime_use(&stat(time.0, time.1), Some(&directory), pinned, source);
            assert_eq!(found, expected, "{time:?} {pinned:?} {source:?}");
        }
    }

    #[test]
    fn a_date_is_told_that_is_not_in_the_future() {
        // RFC 9110, section 8.8.2.1.
        let real = MADE_UP_SECONDS as i64;
        for (seconds, expected) in [
            (real + 1, Some(MADE_UP_SECONDS + 1)),
            (real + 1000, Some(MADE_UP_SECONDS + 1000)),
            (real + 1001, None),
        ] {
            for mtime_use in [MtimeUse::EtagAndDate, MtimeUse::Date] {
                let found = of(mtime_use, seconds, 1, None);
                assert_eq!(found.modified, expected, "{seconds}");
                assert_eq!(found.is_date_strong, mtime_use == MtimeUse::EtagAndDate);
            }
            assert_eq!(of(MtimeUse::Nothing, seconds, 1, None).modified, None);
        }
    }

    #[test]
    fn without_a_time_the_content_is_the_tag() {
        let real = MADE_UP_SECONDS as i64 + 5;
        for mtime_use in [MtimeUse::Date, MtimeUse::Nothing] {
            let tag = of(mtime_use, real, 1, None).etag;
            assert_eq!(of(mtime_use, real + 1, 1, None).etag, tag);
            assert_ne!(of(mtime_use, real, 2, None).etag, tag);
            let unhashed = validators(&stat(real, 0), mtime_use, None, None, now());
            assert_eq!(unhashed.etag, None);
        }
        let tag = of(MtimeUse::EtagAndDate, real, 1, None).etag;
        let dateless = of(MtimeUse::Etag, real, 2, None);
        assert_eq!((dateless.etag, dateless.modified), (tag, None));
        assert_eq!(of(MtimeUse::EtagAndDate, real, 2, None).etag, tag);
        assert_ne!(of(MtimeUse::EtagAndDate, real + 1, 1, None).etag, tag);
    }

    #[test]
    fn each_coding_has_a_tag_of_its_own() {
        for mtime_use in [MtimeUse::EtagAndDate, MtimeUse::Nothing] {
            let of = |coding| of(mtime_use, MADE_UP_SECONDS as i64 + 5, 1, coding).etag;
            assert_ne!(of(None), of(Some(Coding::Gzip))); // RFC 9110, section 8.8.3.3
            assert_ne!(of(Some(Coding::Gzip)), of(Some(Coding::Zstd)));
        }
    }
}
