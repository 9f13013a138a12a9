//! A range costs the slices that it touches, and no more.

use super::{Mirror, SLICE, fresh};
use crate::support::{Server, noise};

const SLICES: usize = 6;
const LENGTH: usize = SLICES * SLICE - 1000;

fn mirror() -> Mirror {
    Mirror::with("/a", fresh(LENGTH, 1))
}

#[track_caller]
fn check(server: &Server, range: &str, expected: std::ops::Range<usize>) {
    let part = server.get_with("/a", &[&format!("Range: bytes={range}")]);
    assert_eq!(part.status, 206, "{range}");
    let (said, whole) = crate::support::content_range(part.header("content-range").expect(range));
    assert_eq!(
        (said.start as usize..said.end as usize, whole as usize),
        (expected.clone(), LENGTH)
    );
    assert!(part.body == noise(LENGTH, 1)[expected], "{range}");
}

#[test]
fn a_cold_range_asks_for_its_slices_alone() {
    let last = LENGTH - 1;
    for (range, expected, slices) in [
        ("0-0", 0..1, vec![0]),
        ("70000-70009", 70_000..70_010, vec![1]),
        ("65535-65536", 65_535..65_537, vec![0, 1]),
        ("131072-196607", 2 * SLICE..3 * SLICE, vec![2]),
        ("140000-270000", 140_000..270_001, vec![2, 3, 4]),
        (&format!("{}-", 5 * SLICE), 5 * SLICE..LENGTH, vec![5]),
        (&format!("{last}-{}", LENGTH + 9), last..LENGTH, vec![5]),
    ] {
        let mirror = mirror();
        let server = mirror.start();
        check(&server, range, expected.clone());
        check(&server, range, expected);
        assert_eq!(mirror.slices("/a"), slices, "{range}");
    }
}

#[test]
fn only_the_missing_slice_is_asked_for() {
    let mirror = mirror();
    let server = mirror.start();
    check(&server, "70000-70009", 70_000..70_010);
    mirror.origin.forget();
    check(&server, "100000-140000", 100_000..140_001);
    assert_eq!(mirror.slices("/a"), [2]);
    assert!(server.get("/a").body == noise(LENGTH, 1));
    assert_eq!(mirror.slices("/a"), [0, 2, 3, 4, 5]);
    let asked = mirror.asked("/a");
    assert!(
        asked
            .iter()
            .all(|request| request.field("if-match") == Some("\"1\""))
    );
}

#[test]
fn a_suffix_ends_with_the_object() {
    let mirror = mirror();
    let server = mirror.start();
    check(&server, "-10", LENGTH - 10..LENGTH);
    check(&server, "-70000", LENGTH - 70_000..LENGTH);
    check(&server, "-9999999", 0..LENGTH);
    let mut slices = mirror.slices("/a");
    slices.dedup();
    assert_eq!(slices, [0, 1, 2, 3, 4, 5]);
    assert_eq!(mirror.count("/a"), SLICES);
}

#[test]
fn several_ranges_come_in_parts() {
    let mirror = mirror();
    let server = mirror.start();
    for _ in 0..2 {
        let several = ["Range: bytes=0-9, 150000-200000, -5"];
        let response = server.get_with("/a", &several);
        assert_eq!(response.status, 206);
        let parts = response.parts();
        let ranges = [0..10, 150_000..200_001, LENGTH - 5..LENGTH];
        assert_eq!(parts.len(), ranges.len());
        for (part, range) in parts.iter().zip(ranges) {
            assert_eq!(part.range.start as usize, range.start);
            assert!(part.body == noise(LENGTH, 1)[range]);
        }
    }
    assert_eq!(mirror.slices("/a"), [0, 2, 3, 5]);
}

#[test]
fn conditions_and_ends_of_ranges_are_those_of_the_object() {
    let mirror = mirror();
    let server = mirror.start();
    for _ in 0..2 {
        let beyond = server.get_with("/a", &["Range: bytes=9999999-"]);
        assert_eq!(beyond.status, 416);
        assert_eq!(
            beyond.header("content-range"),
            Some(&*format!("bytes */{LENGTH}"))
        );
    }
    let same = server.get_with("/a", &["Range: bytes=5-9", "If-Range: \"1\""]);
    assert_eq!(
        (same.status, same.body),
        (206, noise(LENGTH, 1)[5..10].to_vec())
    );
    let other = server.get_with("/a", &["Range: bytes=5-9", "If-Range: \"2\""]);
    assert!(other.status == 200 && other.body == noise(LENGTH, 1));
}
