//! From what the file system says of an open file to what its responses say.

use std::time::SystemTime;

use rustix::fs::Statx;
use tidegate_http::{Coding, ETag, Representation, RepresentationFields, Validators};

use crate::content_tag;
use crate::file::{Content, Identity, MADE_UP_SECONDS, modified};
use crate::rules::Set;

/// What a file is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Its own path.
    Itself,
    /// Navigations to paths that lead to nothing.
    Fallback,
    /// The body of an error.
    ErrorPage,
}

/// The validators of a file with `content`; `None` in place of a tag: it is on its way.
pub(crate) fn validators(
    stat: &Statx,
    content: &Content,
    coding: Option<Coding>,
    now: SystemTime,
) -> Validators {
    let modified = modified(stat).filter(|time| seconds(*time) > MADE_UP_SECONDS);
    let etag = match modified {
        Some(time) => Some(ETag::new(time, stat.stx_size)),
        None => content_tag(stat, content).map(ETag::of_content),
    };
    Validators {
        etag: etag.map(|etag| coding.map_or(etag, |coding| etag.with_coding(coding))),
        modified: modified.filter(|time| *time <= now).map(seconds),
    }
}

fn content_tag(stat: &Statx, content: &Content) -> Option<[u8; 16]> {
    match content {
        Content::Memory(bytes) => Some(content_tag::of_bytes(bytes)),
        Content::File(file) => content_tag::of_file(&Identity::of(stat), file),
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// What all representations of one resource have in common.
pub(crate) struct Common<'a> {
    pub(crate) purpose: Purpose,
    pub(crate) content_type: &'a str,
    pub(crate) vary: String,
    pub(crate) rules: Set<'a>,
}

impl<'a> Common<'a> {
    /// `rules` may set the type, and add to Vary.
    pub(crate) fn new(
        purpose: Purpose,
        content_type: &'a str,
        has_variants: bool,
        mut rules: Set<'a>,
    ) -> Self {
        let needed = match purpose {
            Purpose::Fallback => FALLBACK_VARY,
            Purpose::Itself | Purpose::ErrorPage => "",
        };
        let coding = if has_variants { "Accept-Encoding" } else { "" };
        Self {
            purpose,
            content_type: rules.take("content-type").unwrap_or(content_type),
            vary: join(&[rules.take("vary").unwrap_or_default(), needed, coding]),
            rules,
        }
    }

    /// The field lines of one representation.
    pub(crate) fn fields(
        &self,
        coding: Option<Coding>,
        validators: Validators,
    ) -> RepresentationFields {
        let representation = Representation {
            content_type: self.content_type,
            coding,
            validators,
            vary: &self.vary,
            accept_ranges: self.purpose != Purpose::ErrorPage,
            others: self.rules.fields(),
        };
        representation.fields()
    }
}

/// What decides between the fallback and 404.
pub(crate) const FALLBACK_VARY: &str = "Accept, Sec-Fetch-Mode";

fn join(lists: &[&str]) -> String {
    let lists: Vec<_> = lists
        .iter()
        .copied()
        .filter(|list| !list.is_empty())
        .collect();
    lists.join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    fn stat(seconds: i64, nanoseconds: u32) -> Statx {
        let file = tempfile::tempfile().unwrap();
        let flags = rustix::fs::AtFlags::EMPTY_PATH;
        let mut stat = rustix::fs::statx(&file, c"", flags, crate::root::FIELDS).unwrap();
        stat.stx_mtime.tv_sec = seconds;
        stat.stx_mtime.tv_nsec = nanoseconds;
        stat
    }

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(MADE_UP_SECONDS + 1000)
    }

    fn of(seconds: i64, content: &'static [u8], coding: Option<Coding>) -> Validators {
        let content = Content::Memory(Bytes::from_static(content));
        validators(&stat(seconds, 0), &content, coding, now())
    }

    #[test]
    fn times_that_tell_nothing_are_not_told() {
        // RFC 9110, section 8.8.2.1: no time in the future.
        let real = MADE_UP_SECONDS as i64;
        let table = [
            (-5, None),
            (0, None),
            (1, None),
            (315_532_800, None), // zip: 1980
            (499_162_500, None), // npm: 1985
            (real, None),
            (real + 1, Some(MADE_UP_SECONDS + 1)),
            (real + 1000, Some(MADE_UP_SECONDS + 1000)),
            (real + 1001, None),
        ];
        for (seconds, expected) in table {
            assert_eq!(of(seconds, b"", None).modified, expected, "{seconds}");
        }
    }

    #[test]
    fn without_a_time_the_content_is_the_tag() {
        for seconds in [-5, 0, 1, 499_162_500] {
            assert_eq!(of(seconds, b"a", None).etag, of(0, b"a", None).etag);
            assert_ne!(of(seconds, b"a", None).etag, of(seconds, b"b", None).etag);
        }
        let real = MADE_UP_SECONDS as i64 + 5;
        assert_eq!(of(real, b"a", None).etag, of(real, b"b", None).etag);
        assert_ne!(of(real, b"a", None).etag, of(real + 1, b"a", None).etag);
    }

    #[test]
    fn each_coding_has_a_tag_of_its_own() {
        for seconds in [0, MADE_UP_SECONDS as i64 + 5] {
            let plain = of(seconds, b"a", None).etag;
            let coded = of(seconds, b"a", Some(Coding::Gzip)).etag;
            assert_ne!(plain, coded); // RFC 9110, section 8.8.3.3
            assert_ne!(coded, of(seconds, b"a", Some(Coding::Zstd)).etag);
        }
    }

    #[test]
    fn vary_names_all_that_could_have_made_a_difference() {
        let table = [
            (Purpose::Itself, false, ""),
            (Purpose::Itself, true, "Accept-Encoding"),
            (Purpose::ErrorPage, true, "Accept-Encoding"),
            (Purpose::Fallback, false, "Accept, Sec-Fetch-Mode"),
            (
                Purpose::Fallback,
                true,
                "Accept, Sec-Fetch-Mode, Accept-Encoding",
            ),
        ];
        for (purpose, has_variants, expected) in table {
            let common = Common::new(purpose, "a/b", has_variants, Set::default());
            assert_eq!(common.vary, expected, "{purpose:?}");
        }
    }
}
