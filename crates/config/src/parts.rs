//! The parsed files of a configuration as one: their offsets moved behind each other, their
//! sections joined.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

/// The key whose lists are joined, although they hold no tables.
const INCLUDE: &str = "include";

/// `table` with every offset moved by `by` bytes.
pub(crate) fn moved(table: DeTable<'_>, by: usize) -> DeTable<'_> {
    let entries = table.into_iter();
    let moved = entries.map(|(key, value)| {
        let span = moved_span(&key.span(), by);
        let key = Spanned::new(span, key.into_inner());
        (key, moved_value(value, by))
    });
    moved.collect()
}

fn moved_value(value: Spanned<DeValue<'_>>, by: usize) -> Spanned<DeValue<'_>> {
    let span = moved_span(&value.span(), by);
    let value = match value.into_inner() {
        DeValue::Table(table) => DeValue::Table(moved(table, by)),
        DeValue::Array(items) => {
            let mut array = DeArray::new();
            items
                .into_iter()
                .for_each(|item| array.push(moved_value(item, by)));
            DeValue::Array(array)
        }
        other => other,
    };
    Spanned::new(span, value)
}

fn moved_span(span: &Range<usize>, by: usize) -> Range<usize> {
    span.start + by..span.end + by
}

/// Adds `from` to `into`: tables are joined, lists of tables appended. For every other key that both
/// have, keeps the value of `into` and calls `twice` with the offsets of the key in both.
pub(crate) fn join<'t>(
    into: &mut DeTable<'t>,
    from: DeTable<'t>,
    twice: &mut impl FnMut(usize, usize),
) {
    for (key, value) in from {
        let name = key.get_ref().clone();
        let first = into
            .get_key_value(&*name)
            .map(|(first, _)| first.span().start);
        let Some((first, held)) = first.zip(into.get_mut(&*name)) else {
            into.insert(key, value);
            continue;
        };
        match (held.get_mut(), value.into_inner()) {
            (DeValue::Table(held), DeValue::Table(more)) => join(held, more, twice),
            (DeValue::Array(held), DeValue::Array(more))
                if name == INCLUDE || (all_tables(held) && all_tables(&more)) =>
            {
                more.into_iter().for_each(|item| held.push(item));
            }
            _ => twice(first, key.span().start),
        }
    }
}

/// Whether every element is a table.
pub(crate) fn all_tables(values: &DeArray<'_>) -> bool {
    values.iter().all(|value| value.get_ref().is_table())
}
