//! The order of a listing: directories first, then by name as people sort: without regard to the
//! case of ASCII letters, numbers by their value.

use std::cmp::Ordering;

use crate::listing::Item;

pub(crate) fn compare(a: &Item, b: &Item) -> Ordering {
    b.is_directory
        .cmp(&a.is_directory)
        .then_with(|| natural(&a.name, &b.name))
        // Names that differ only in case or in zeros.
        .then_with(|| a.name.cmp(&b.name))
}

fn natural(mut a: &[u8], mut b: &[u8]) -> Ordering {
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

/// Takes the digits at the start of `name`: which they are, without leading zeros.
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
    fn names_are_sorted_as_people_do() {
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
    fn numbers_of_any_length_are_compared() {
        let long = [b"a1".as_slice(), &[b'0'; 200]].concat();
        assert_eq!(natural(b"a99", &long), Ordering::Less);
        assert_eq!(natural(b"a007", b"a7"), Ordering::Equal);
        assert_eq!(natural(b"a0", b"a00"), Ordering::Equal);
    }

    #[test]
    fn directories_are_first_and_no_two_entries_equal() {
        let item = |name: &str, is_directory| Item {
            name: name.as_bytes().into(),
            is_directory,
            len: 0,
            modified: 0,
        };
        assert_eq!(compare(&item("z", true), &item("a", false)), Ordering::Less);
        assert_ne!(compare(&item("A", true), &item("a", true)), Ordering::Equal);
        assert_ne!(
            compare(&item("7", true), &item("07", true)),
            Ordering::Equal
        );
    }
}
