//! The orders of a listing: directories first, then by name, size or time.
//!
//! Names are in natural order: ASCII letters without case, numbers by value.

use std::cmp::Ordering;

/// What a listing is sorted by. Directories come before files in every order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortBy {
    /// The name.
    #[default]
    Name,
    /// Bytes; directories, which have none, are sorted by name.
    Size,
    /// The time of the last change.
    Date,
}

/// How a listing is sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SortOrder {
    /// The property that is compared.
    pub by: SortBy,
    /// Whether the greatest comes first.
    pub descending: bool,
}

impl SortOrder {
    /// The order of a query: `sort=name`, `sort=size` or `sort=date`, with a minus before the value
    /// for the greatest first. Anything else is the order by name.
    pub fn of_query(query: Option<&str>) -> Self {
        let mut parameters = query.unwrap_or_default().split('&');
        let value = parameters.find_map(|parameter| parameter.strip_prefix("sort="));
        let value = value.unwrap_or_default();
        let (descending, name) = match value.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, value),
        };
        let by = match name {
            "name" => SortBy::Name,
            "size" => SortBy::Size,
            "date" => SortBy::Date,
            _ => return Self::default(),
        };
        Self { by, descending }
    }
}

/// Compares entries, each by whether it is a directory, and by its name.
pub(crate) fn compare(a: (bool, &[u8]), b: (bool, &[u8])) -> Ordering {
    b.0.cmp(&a.0)
        .then_with(|| natural(a.1, b.1))
        // Names that differ only in case or in zeros.
        .then_with(|| a.1.cmp(b.1))
}

fn natural(a: &[u8], b: &[u8]) -> Ordering {
    // Long names often begin alike.
    let common = common_start(a, b);
    let (mut a, mut b) = (&a[common..], &b[common..]);
    loop {
        let (Some(first), Some(second)) = (a.first(), b.first()) else {
            return a.len().cmp(&b.len());
        };
        let order = if first.is_ascii_digit() && second.is_ascii_digit() {
            let (number, other) = (take_number(&mut a), take_number(&mut b));
            number
                .len()
                .cmp(&other.len())
                .then_with(|| number.cmp(other))
        } else {
            let order = first.to_ascii_lowercase().cmp(&second.to_ascii_lowercase());
            (a, b) = (&a[1..], &b[1..]);
            order
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// The length of the common prefix, without digits at its end, which may belong to a longer number.
fn common_start(a: &[u8], b: &[u8]) -> usize {
    let differs = a.iter().zip(b).position(|(byte, other)| byte != other);
    let same = &a[..differs.unwrap_or(a.len().min(b.len()))];
    let digits = same.iter().rev().take_while(|byte| byte.is_ascii_digit());
    same.len() - digits.count()
}

/// Splits the digits off the start of `name`, and returns them without leading zeros.
fn take_number<'a>(name: &mut &'a [u8]) -> &'a [u8] {
    let digits = name.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = name.split_at(digits);
    *name = rest;
    let zeros = number.iter().take_while(|byte| **byte == b'0').count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_tells_the_order() {
        let order = |by, descending| SortOrder { by, descending };
        let table = [
            (None, SortOrder::default()),
            (Some(""), SortOrder::default()),
            (Some("sort=size"), order(SortBy::Size, false)),
            (Some("a=b&sort=-date"), order(SortBy::Date, true)),
            (Some("sort=-name"), order(SortBy::Name, true)),
            (Some("sort=name"), SortOrder::default()),
            (Some("sort=-colour"), SortOrder::default()),
            (Some("resort=size"), SortOrder::default()),
        ];
        for (query, expected) in table {
            assert_eq!(SortOrder::of_query(query), expected, "{query:?}");
        }
    }

    #[test]
    fn names_are_in_natural_order() {
        let sorted = [
            "", "a", "a1", "a2", "a10", "A10b", "a10c", "a010d", "b", "B1", "c", "\u{e4}",
        ];
        for (index, name) in sorted.iter().enumerate() {
            for (other_index, other) in sorted.iter().enumerate() {
                let order = natural(name.as_bytes(), other.as_bytes());
                assert_eq!(order, index.cmp(&other_index), "{name:?} {other:?}");
            }
        }
    }

    #[test]
    fn a_common_start_ends_before_a_number() {
        let table = [
            ("", "a", 0),
            ("abc", "abd", 2),
            ("abc", "abc", 3),
            ("a12", "a13", 1),
            ("a12", "a123", 1),
            ("a12b", "a12c", 1),
            ("a12bc", "a12bd", 4),
            ("12", "12", 0),
        ];
        for (a, b, expected) in table {
            assert_eq!(
                common_start(a.as_bytes(), b.as_bytes()),
                expected,
                "{a} {b}"
            );
        }
    }

    #[test]
    fn numbers_of_any_length_are_compared() {
        let long = [b"a1".as_slice(), &[b'0'; 200]].concat();
        assert_eq!(natural(b"a99", &long), Ordering::Less);
        assert_eq!(natural(b"a007", b"a7"), Ordering::Equal);
        assert_eq!(natural(b"a0", b"a00"), Ordering::Equal);
    }

    #[test]
    fn directories_are_first_and_no_two_entries_equal() {
        let item = |name: &'static str, is_directory| (is_directory, name.as_bytes());
        assert_eq!(compare(item("z", true), item("a", false)), Ordering::Less);
        assert_ne!(compare(item("A", true), item("a", true)), Ordering::Equal);
        assert_ne!(compare(item("7", true), item("07", true)), Ordering::Equal);
    }
}
