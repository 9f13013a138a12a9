//! The place of a value in a file, for problems that are found after the checks of this crate.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The path to a value, such as the key `root` of the second `[[site]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Key(String),
    Item(usize),
}

impl Place {
    /// A key or a section at the root of the file.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(vec![Step::Key(key.to_owned())])
    }

    /// The element of this array at an index, from 0.
    #[must_use]
    pub fn item(mut self, number: usize) -> Self {
        self.0.push(Step::Item(number));
        self
    }

    /// A key of this table.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        self.0.push(Step::Key(key.to_owned()));
        self
    }

    /// The dotted key, without indices.
    pub(crate) fn dotted(&self) -> String {
        let keys = self.0.iter().filter_map(|step| match step {
            Step::Key(key) => Some(key.as_str()),
            Step::Item(_) => None,
        });
        keys.collect::<Vec<_>>().join(".")
    }

    /// The byte offset of the value in `root`; for a key that is not set, that of its table.
    pub(crate) fn offset_in(&self, root: &DeTable<'_>) -> usize {
        let Some((Step::Key(key), rest)) = self.0.split_first() else {
            return 0;
        };
        root.get_key_value(key.as_str())
            .map_or(0, |(key, value)| offset(value, rest, key.span().start))
    }
}

/// The offset of the value that `steps` lead to from `value`, which is at `start`.
fn offset(value: &Spanned<DeValue<'_>>, steps: &[Step], start: usize) -> usize {
    let Some((step, rest)) = steps.split_first() else {
        return start;
    };
    let next = match (step, value.get_ref()) {
        (Step::Key(key), DeValue::Table(table)) => table
            .get_key_value(key.as_str())
            .map(|(key, value)| (value, key.span().start)),
        (Step::Item(number), DeValue::Array(items)) => {
            items.get(*number).map(|item| (item, item.span().start))
        }
        _ => None,
    };
    next.map_or(start, |(value, start)| offset(value, rest, start))
}
