//! Applies rules to values as typed, and collects the mistakes with their places.

use std::ops::Range;
use std::path::PathBuf;

use toml::Spanned;

use crate::document::{Document, Mistake};
use crate::raw::{Field, List, Map};
use crate::shape::Refused;
use crate::{Error, Glob, ValueError};

/// The mistakes so far.
pub(super) struct Report<'d> {
    document: &'d Document<'d>,
    mistakes: Vec<Mistake>,
    refused: Refused,
}

impl<'d> Report<'d> {
    /// Starts with the mistakes in the shape of the file, and the keys that were refused there.
    pub(super) fn new(
        document: &'d Document<'d>,
        mistakes: Vec<Mistake>,
        refused: Refused,
    ) -> Self {
        Self {
            document,
            mistakes,
            refused,
        }
    }

    /// An error if there was a mistake.
    pub(super) fn end(self) -> Result<(), Error> {
        self.document.refuse_any(self.mistakes)
    }

    /// The directory of the file at `offset`, to which relative paths in it are relative.
    pub(super) fn directory(&self, offset: usize) -> PathBuf {
        self.document.directory(offset)
    }

    /// As [`Report::directory`], for a path as typed.
    pub(super) fn directory_of(&self, typed: Option<&Spanned<String>>) -> PathBuf {
        self.directory(typed.map_or(0, |typed| typed.span().start))
    }

    /// The line of a byte offset for a message, from 1, with its file if there are several.
    pub(super) fn line(&self, offset: usize) -> String {
        self.document.line(offset)
    }

    /// The value that `rule` returns; `default` if nothing was typed or the rule refuses it.
    pub(super) fn checked<T, N>(
        &mut self,
        typed: Field<T>,
        default: N,
        rule: impl FnOnce(T) -> Result<N, ValueError>,
    ) -> N {
        let Some(typed) = typed else { return default };
        self.required(typed, rule).unwrap_or(default)
    }

    /// The value that `rule` returns; `None` if it refuses.
    pub(super) fn required<T, N>(
        &mut self,
        typed: Spanned<T>,
        rule: impl FnOnce(T) -> Result<N, ValueError>,
    ) -> Option<N> {
        let span = typed.span();
        match rule(typed.into_inner()) {
            Ok(value) => Some(value),
            Err(reason) => {
                self.refuse(&span, &reason);
                None
            }
        }
    }

    /// The values that `rule` returns for each string of a list and its line, without those that it
    /// refuses; `default` if there is no list.
    pub(super) fn list<N>(
        &mut self,
        typed: List,
        default: Vec<N>,
        mut rule: impl FnMut(String, String) -> Result<N, ValueError>,
    ) -> Vec<N> {
        let Some(typed) = typed else { return default };
        let items = typed.into_inner().into_iter();
        let checked = items.filter_map(|item| {
            let line = self.line(item.span().start);
            self.required(item, |text| rule(text, line))
        });
        checked.collect()
    }

    /// The entries that `rule` returns for each key and its string, without those that it refuses.
    pub(super) fn map<K, V, C: FromIterator<(K, V)>>(
        &mut self,
        typed: Map,
        mut rule: impl FnMut(&str, String) -> Result<(K, V), ValueError>,
    ) -> C {
        let entries = typed.into_iter();
        let checked =
            entries.filter_map(|(key, item)| self.required(item, |text| rule(&key, text)));
        checked.collect()
    }

    /// Refuses the value at `span`, which its own rule accepted.
    pub(super) fn refuse(&mut self, span: &Range<usize>, reason: &ValueError) {
        let mistake = Mistake::at(span.start, &reason.to_string());
        self.mistakes.push(mistake);
    }

    /// Reports a key that is missing in the table at `offset`, unless a value for it was refused.
    pub(super) fn missing(&mut self, offset: usize, key: &str, reason: &str) {
        if !self.was_refused(offset, key) {
            self.mistakes.push(Mistake::of(offset, key, reason));
        }
    }

    /// Whether a value for `key` in the table at `offset` was refused.
    pub(super) fn was_refused(&self, offset: usize, key: &str) -> bool {
        self.refused.is_in(offset, key)
    }

    /// Whether a value for `key` was refused in any table.
    pub(super) fn was_refused_anywhere(&self, key: &str) -> bool {
        self.refused.is_anywhere(key)
    }
}

/// The pattern; `None` if it is refused or not there, which is reported as `missing`.
pub(super) fn glob(
    typed: Field<String>,
    ignore_case: bool,
    missing: (usize, &str, &str),
    report: &mut Report<'_>,
) -> Option<Glob> {
    let typed = required(typed, missing, report)?;
    report.required(typed, |text| Glob::new(&text, ignore_case))
}

/// The value as typed; if it is not there, that is reported as `missing`: offset, key and reason.
pub(super) fn required(
    typed: Field<String>,
    missing: (usize, &str, &str),
    report: &mut Report<'_>,
) -> Field<String> {
    if typed.is_none() {
        let (offset, key, reason) = missing;
        report.missing(offset, key, reason);
    }
    typed
}

/// The values that `check` returns for each, without those that it refuses.
pub(super) fn every<T, N>(raw: Vec<T>, check: impl FnMut(T) -> Option<N>) -> Vec<N> {
    raw.into_iter().filter_map(check).collect()
}
