//! The shape of a file: whether its keys are known and their values have the right type.
//!
//! Mistakes are recorded and left out, so that one run checks the rest, too.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};
use toml::value::{Table, Value};

use crate::document::{Document, Mistake, join, known, known_keys};
use crate::environment::SWITCH;
use crate::parts::{self, all_tables};
use crate::wrong_type::{expected, hint};
use crate::{foreign, raw};

/// The longest distance between an unknown key and a known one that is taken for a typo.
const TYPO_DISTANCE_MAX: usize = 2;
/// Added to the distance if the known key is in another table.
const OTHER_TABLE_DISTANCE: usize = 2;
/// One letter in this many may differ.
const LETTERS_PER_TYPO: usize = 3;

/// After this many mistakes no similar key is looked for: only 50 are reported.
const SUGGESTIONS_MAX: usize = 1000;

/// The repeatable section that may be one table, too.
const ONE_OR_SEVERAL: &str = "site.origin";

/// At most this many elements of a list are refused: only 50 are reported.
const WRONG_ELEMENTS_MAX: usize = 1000;

/// The values as typed, without the wrong ones.
pub(crate) struct Shape {
    pub(crate) raw: raw::Config,
    pub(crate) mistakes: Vec<Mistake>,
    pub(crate) refused: Refused,
}

/// Keys that were set wrongly, each with the offset of its table. They are not reported as missing.
#[derive(Default)]
pub(crate) struct Refused(BTreeSet<(usize, String)>);

impl Refused {
    /// Whether the dotted `key` was refused in the table at `offset`.
    pub(crate) fn is_in(&self, offset: usize, key: &str) -> bool {
        self.0.contains(&(offset, key.to_owned()))
    }

    /// Whether `key` was refused in any table.
    pub(crate) fn is_anywhere(&self, key: &str) -> bool {
        self.0.iter().any(|(_, refused)| refused == key)
    }
}

/// Compares the files of `document` with the known keys, and joins them.
pub(crate) fn compare(document: &Document<'_>) -> Shape {
    let mut pass = Pass::new(document, false);
    let fitting = pass.roots();
    if let Ok(raw) = typed(fitting) {
        return pass.shape(raw);
    }
    let mut pass = Pass::new(document, true);
    let fitting = pass.roots();
    match typed(fitting) {
        Ok(raw) => pass.shape(raw),
        Err(error) => {
            let offset = error.span().unwrap_or_default().start;
            pass.mistakes.push(Mistake::at(offset, error.message()));
            pass.shape(raw::Config::default())
        }
    }
}

fn typed(root: DeTable<'_>) -> Result<raw::Config, toml::de::Error> {
    raw::Config::deserialize(Deserializer::from(Spanned::new(0..0, root)))
}

/// One walk over the file.
struct Pass<'d, 't> {
    document: &'d Document<'t>,
    known_keys: OnceCell<Vec<String>>,
    /// Whether the type of each value is checked by itself: serde stops at the first wrong one.
    tries_values: bool,
    mistakes: Vec<Mistake>,
    refused: Refused,
}

/// The place of a table.
#[derive(Clone, Copy)]
struct Place<'p> {
    /// The table that holds it, and its name there; `None` for the root.
    up: Option<(&'p Place<'p>, &'p str)>,
    /// The dotted name.
    path: &'p str,
    /// Its offset in the text.
    offset: usize,
    /// Whether it is an element of an array.
    is_repeated: bool,
}

const FILE: Place<'static> = Place {
    up: None,
    path: "",
    offset: 0,
    is_repeated: false,
};

type Key<'t> = Spanned<Cow<'t, str>>;
type Typed<'t> = Spanned<DeValue<'t>>;

impl<'d, 't> Pass<'d, 't> {
    fn new(document: &'d Document<'t>, tries_values: bool) -> Self {
        Self {
            document,
            known_keys: OnceCell::new(),
            tries_values,
            mistakes: Vec::new(),
            refused: Refused::default(),
        }
    }

    fn shape(self, raw: raw::Config) -> Shape {
        Shape {
            raw,
            mistakes: self.mistakes,
            refused: self.refused,
        }
    }

    /// What fits of all files, joined.
    fn roots(&mut self) -> DeTable<'t> {
        let known = known();
        let document = self.document;
        let mut all = DeTable::new();
        for (number, root) in document.roots().iter().enumerate() {
            let switch = root.get_key_value(SWITCH).filter(|_| number > 0);
            if let Some((key, _)) = switch {
                let reason = "belongs into the first file: it counts for what that includes, too";
                self.mistakes.push(Mistake::at(key.span().start, reason));
            }
            let fitting = self.table(root.clone(), &known, FILE);
            parts::join(&mut all, fitting, &mut |first, second| {
                let reason = format!("set already, by line {}", document.line(first));
                self.mistakes.push(Mistake::at(second, &reason));
            });
        }
        all
    }

    /// The entries of a table that fit.
    fn table(&mut self, table: DeTable<'t>, known: &Table, place: Place<'_>) -> DeTable<'t> {
        let entries = table.into_iter();
        let fitting = entries.filter_map(|(key, value)| {
            let value = match known.get(key.get_ref().as_ref()) {
                Some(known) => self.value(&key, value, known, place),
                None => self.unknown(&key, place),
            };
            Some((key, value?))
        });
        fitting.collect()
    }

    /// The part of a known value that fits: a section, a table of the user's own keys, or a leaf.
    fn value(
        &mut self,
        key: &Key<'t>,
        value: Typed<'t>,
        known: &Value,
        place: Place<'_>,
    ) -> Option<Typed<'t>> {
        let span = value.span();
        let path = join(place.path, key.get_ref());
        let below = |offset, is_repeated| Place {
            up: Some((&place, key.get_ref())),
            path: &path,
            offset,
            is_repeated,
        };
        let fitting = match known {
            Value::Array(known) if is_tables(known) => {
                let tables = self.repeated(key, value, place)?;
                let tables = tables.into_iter().map(|(start, table)| {
                    let table = self.table(table, table_of(&known[0]), below(start.start, true));
                    Spanned::new(start, DeValue::Table(table))
                });
                DeValue::Array(array_of(tables))
            }
            Value::Table(known) if !known.is_empty() => {
                let table = self.section(key, value, place)?;
                DeValue::Table(self.table(table, known, below(span.start, false)))
            }
            Value::Table(_) if value.get_ref().is_table() => {
                let table = value.into_inner();
                DeValue::Table(self.map(into_table(table)?, below(span.start, false)))
            }
            _ => return self.leaf(key, value, place),
        };
        Some(Spanned::new(span, fitting))
    }

    /// The tables of a repeatable section, each with its span.
    fn repeated(
        &mut self,
        key: &Key<'t>,
        value: Typed<'t>,
        place: Place<'_>,
    ) -> Option<Vec<(Range<usize>, DeTable<'t>)>> {
        let span = value.span();
        let path = join(place.path, key.get_ref());
        match value.into_inner() {
            DeValue::Array(tables) if all_tables(&tables) => {
                let tables = tables.into_iter();
                let placed =
                    tables.map(|table| Some((table.span(), into_table(table.into_inner())?)));
                placed.collect()
            }
            DeValue::Table(table) if path == ONE_OR_SEVERAL => Some(vec![(span, table)]),
            DeValue::Table(table) if !table.is_empty() => {
                self.one_of_several(key, span.start, place);
                Some(vec![(span, table)])
            }
            _ => {
                let reason = match &*path {
                    ONE_OR_SEVERAL => {
                        "a table: write origin = { http = \"https://HOST/PATH\" }, or s3".to_owned()
                    }
                    _ => format!("a section: write [[{path}]] each time, and its keys below it"),
                };
                self.refuse(key, place, &reason);
                None
            }
        }
    }

    /// The table of a section that is not repeatable.
    fn section(
        &mut self,
        key: &Key<'t>,
        value: Typed<'t>,
        place: Place<'_>,
    ) -> Option<DeTable<'t>> {
        let path = join(place.path, key.get_ref());
        match value.into_inner() {
            DeValue::Table(table) => Some(table),
            DeValue::Array(tables) if !tables.is_empty() && all_tables(&tables) => {
                let reason = format!("there is one: write [{path}], with one bracket");
                self.refuse(key, place, &reason);
                into_table(tables.into_iter().next()?.into_inner())
            }
            _ => {
                let reason = format!("a section: write [{path}], and its keys below it");
                self.refuse(key, place, &reason);
                None
            }
        }
    }

    /// The entries that fit of a table with the user's own keys.
    fn map(&mut self, table: DeTable<'t>, place: Place<'_>) -> DeTable<'t> {
        let length = table.len();
        let entries = table.into_iter();
        let fitting =
            entries.filter_map(|(key, value)| Some((key.clone(), self.leaf(&key, value, place)?)));
        let fitting: DeTable<'t> = fitting.collect();
        if let Some((up, _)) = place.up.filter(|_| fitting.len() < length) {
            self.refused.0.insert((up.offset, place.path.to_owned()));
        }
        fitting
    }

    /// The value, if it has the right type.
    fn leaf(&mut self, key: &Key<'t>, value: Typed<'t>, place: Place<'_>) -> Option<Typed<'t>> {
        if !self.tries_values {
            return Some(value);
        }
        let alone = |value| typed(file_of(key.get_ref(), value, place)).err();
        let Some(error) = alone(value.clone()) else {
            return Some(value);
        };
        let path = join(place.path, key.get_ref());
        for (part, error) in wrong_parts(&value, error, alone) {
            let reason = self.wrong_type(part, error.message(), &path);
            self.mistakes.push(Mistake::at(part.span().start, &reason));
        }
        self.refused.0.insert((place.offset, path));
        None
    }

    /// Refuses a table of a repeatable section that has one bracket, or comes before its parent.
    fn one_of_several(&mut self, key: &Key<'t>, offset: usize, place: Place<'_>) {
        let path = join(place.path, key.get_ref());
        let Some(section) = self.document.section_below(key.span().end) else {
            let reason = format!("write [[{path}]], with two brackets");
            self.refuse(key, place, &reason);
            return;
        };
        let dotted = format!("{path}.{section}");
        let reason =
            format!("[[{path}]] has to come first: write it above, and [[{dotted}]] belongs to it");
        self.refused.0.insert((offset, format!("{path}.root")));
        self.mistakes
            .push(Mistake::of(key.span().start, dotted, &reason));
    }

    fn unknown(&mut self, key: &Key<'t>, place: Place<'_>) -> Option<Typed<'t>> {
        let name = key.get_ref();
        if self.mistakes.len() >= SUGGESTIONS_MAX {
            return self.refuse(key, place, "unknown key");
        }
        let (meant, reason) = self.instead(name, place.path);
        if let Some(meant) = meant {
            self.refused.0.insert((place.offset, meant));
        }
        self.refuse(key, place, &reason)
    }

    /// The known key to use in place of `key`, if that is clear, and the reason to report.
    fn instead(&self, key: &str, path: &str) -> (Option<String>, String) {
        let mean = |known: &String| {
            let reason = format!("unknown key; did you mean `{known}`?");
            (Some(known.clone()), reason)
        };
        let keys = self.known_keys.get_or_init(known_keys).iter();
        let squashed = foreign::squash(key);
        let is_same = |known: &&String| {
            let (parent, name) = split(known);
            parent == path && foreign::squash(name) == squashed
        };
        if let Some(known) = keys.clone().find(is_same) {
            return mean(known);
        }
        if let Some(row) = foreign::find(path, key) {
            let meant = (!row.meant.is_empty()).then(|| row.meant.to_owned());
            return (meant, format!("unknown key; {}", row.says));
        }
        let near = keys.filter_map(|known| Some((distance(key, path, known)?, known)));
        match near.min() {
            Some((_, known)) => mean(known),
            None => (
                None,
                "unknown key; config/tidegate.toml documents all there are".to_owned(),
            ),
        }
    }

    fn refuse(&mut self, key: &Key<'t>, place: Place<'_>, reason: &str) -> Option<Typed<'t>> {
        let path = join(place.path, key.get_ref());
        self.refused.0.insert((place.offset, path.clone()));
        self.mistakes
            .push(Mistake::of(key.span().start, path, reason));
        None
    }

    /// Serde's message about a value, in TOML's terms.
    fn wrong_type(&self, value: &Typed<'t>, message: &str, path: &str) -> String {
        let Some((_, expected)) = expected(message) else {
            return message.to_owned();
        };
        let found = match value.get_ref() {
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
            _ => self.document.text_at(&value.span()),
        };
        let hint = hint(value.get_ref(), found, expected, path);
        let hint = hint
            .map(|hint| format!(": write {hint}"))
            .unwrap_or_default();
        format!("expected {expected}, found {found}{hint}")
    }
}

/// The wrong elements of a list, each with the error that `alone` returns for a list of it alone;
/// if there are none, the whole value with `error`.
fn wrong_parts<'v, 't>(
    value: &'v Typed<'t>,
    error: toml::de::Error,
    alone: impl Fn(Typed<'t>) -> Option<toml::de::Error>,
) -> Vec<(&'v Typed<'t>, toml::de::Error)> {
    let elements = value.get_ref().as_array().into_iter();
    let wrong = elements.flat_map(|list| list.iter()).filter_map(|element| {
        let list = DeValue::Array(array_of([element.clone()]));
        let error = alone(Spanned::new(value.span(), list))?;
        (error.span() == Some(element.span())).then_some((element, error))
    });
    let wrong: Vec<_> = wrong.take(WRONG_ELEMENTS_MAX).collect();
    if wrong.is_empty() {
        vec![(value, error)]
    } else {
        wrong
    }
}

/// A file with nothing but `value`, as `name` in the table at `place`.
fn file_of<'t>(name: &str, value: Typed<'t>, place: Place<'_>) -> DeTable<'t> {
    let key = Spanned::new(0..0, Cow::Owned(name.to_owned()));
    let table: DeTable<'t> = [(key, value)].into_iter().collect();
    let Some((up, name)) = place.up else {
        return table;
    };
    let table = Spanned::new(0..0, DeValue::Table(table));
    let value = if place.is_repeated {
        Spanned::new(0..0, DeValue::Array(array_of([table])))
    } else {
        table
    };
    file_of(name, value, *up)
}

fn array_of<'t>(values: impl IntoIterator<Item = Typed<'t>>) -> DeArray<'t> {
    let mut array = DeArray::new();
    values.into_iter().for_each(|value| array.push(value));
    array
}

fn into_table(value: DeValue<'_>) -> Option<DeTable<'_>> {
    match value {
        DeValue::Table(table) => Some(table),
        _ => None,
    }
}

/// The distance of `key` in the table `path` from the dotted key `known`, if it may be a typo.
fn distance(key: &str, path: &str, known: &str) -> Option<usize> {
    let (parent, name) = split(known);
    if key.len() > name.len() + TYPO_DISTANCE_MAX {
        return None;
    }
    let letters = strsim::damerau_levenshtein(key, name);
    let elsewhere = if parent == path {
        0
    } else {
        OTHER_TABLE_DISTANCE
    };
    let is_near = letters * LETTERS_PER_TYPO <= key.len().max(LETTERS_PER_TYPO);
    let distance = letters + elsewhere;
    (is_near && distance <= TYPO_DISTANCE_MAX).then_some(distance)
}

/// The table of a dotted key, and the key's name there.
fn split(dotted: &str) -> (&str, &str) {
    dotted.rsplit_once('.').unwrap_or(("", dotted))
}

fn is_tables(values: &[Value]) -> bool {
    values.first().is_some_and(Value::is_table)
}

/// A value for which [`is_tables`] held.
fn table_of(value: &Value) -> &Table {
    value.as_table().expect("a table")
}
