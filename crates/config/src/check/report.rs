//! What was typed becomes what is meant, and what is wrong is noted with its place.

use std::ops::Range;

use toml::Spanned;

use crate::document::Document;
use crate::raw::{Field, List, Map};
use crate::{Error, Problem, ValueError};

/// What is wrong so far.
pub(super) struct Report<'d> {
    document: &'d Document<'d>,
    problems: Vec<Problem>,
}

impl<'d> Report<'d> {
    pub(super) fn new(document: &'d Document<'d>) -> Self {
        Self {
            document,
            problems: Vec::new(),
        }
    }

    /// Fails if anything is wrong.
    pub(super) fn end(self) -> Result<(), Error> {
        Error::refuse_any(self.problems)
    }

    pub(super) fn document(&self) -> &'d Document<'d> {
        self.document
    }

    /// The line of a byte offset, counted from 1.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.document.line(offset)
    }

    /// The value `rule` makes of what was typed; `default` where nothing was, or it is refused.
    pub(super) fn checked<T, N>(
        &mut self,
        typed: Field<T>,
        default: N,
        rule: impl FnOnce(T) -> Result<N, ValueError>,
    ) -> N {
        let Some(typed) = typed else { return default };
        self.required(typed, rule).unwrap_or(default)
    }

    /// The value `rule` makes of what was typed, unless it is refused.
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

    /// What `rule` makes of each text of a list and its line, but for those it
    /// refuses; `default` where there is no list.
    pub(super) fn list<N>(
        &mut self,
        typed: List,
        default: Vec<N>,
        mut rule: impl FnMut(String, usize) -> Result<N, ValueError>,
    ) -> Vec<N> {
        let Some(typed) = typed else { return default };
        let items = typed.into_inner().into_iter();
        let checked = items.filter_map(|item| {
            let line = self.line(item.span().start);
            self.required(item, |text| rule(text, line))
        });
        checked.collect()
    }

    /// What `rule` makes of each key and its text, but for those it refuses.
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

    /// Refuses what was typed at `span`, which was taken before.
    pub(super) fn refuse(&mut self, span: &Range<usize>, reason: &ValueError) {
        let problem = self.document.problem_at(span, &reason.to_string());
        self.problems.push(problem);
    }

    /// Refuses a key that is missing in the table at `offset`.
    pub(super) fn missing(&mut self, offset: usize, key: &str, reason: &str) {
        let problem = self.document.problem(offset, key.to_owned(), reason);
        self.problems.push(problem);
    }
}
