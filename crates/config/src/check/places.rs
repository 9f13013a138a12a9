//! The directories of a site: its root and its mounts.

use std::collections::BTreeMap;

use toml::Spanned;

use super::report::{Report, every, required};
use crate::rules::path;
use crate::{Mount, ValueError, raw};

/// The directories of the site at `offset`. Refuses a site that has neither directories,
/// origins nor rules.
pub(super) fn places(raw: &mut raw::Site, offset: usize, report: &mut Report<'_>) -> Places {
    let has_mounts = !raw.mount.is_empty() || report.was_refused(offset, "site.mount");
    let has_rules = !raw.respond.is_empty() || !raw.redirects.is_empty();
    let refused_rules = ["site.respond", "site.redirects"];
    let has_rules = has_rules
        || refused_rules
            .iter()
            .any(|key| report.was_refused(offset, key));
    let has_root = raw.root.is_some() || report.was_refused(offset, "site.root");
    let has_origin = !raw.origin.is_empty() || report.was_refused(offset, "site.origin");
    let needs_root = !has_mounts && !has_rules && !has_origin;
    if needs_root && !has_root {
        let reason = "required: the directory to serve, unless there is an origin, or mounts, \
                      respond rules or redirects";
        report.missing(offset, "site.root", reason);
    }
    let count = raw.mount.len();
    let mounts = mounts(std::mem::take(&mut raw.mount), report);
    let is_mount_refused = mounts.len() < count || report.was_refused(offset, "site.mount");
    Places {
        may_be_anywhere: has_root || has_origin || needs_root || is_mount_refused,
        mounts,
    }
}

/// The directories in which the files of a site can be.
pub(super) struct Places {
    /// Whether a path outside of the mounts can have a file: there is a root or an origin, or one
    /// may have been refused.
    may_be_anywhere: bool,
    pub(super) mounts: Vec<Mount>,
}

impl Places {
    /// Checks the path of a file of the site.
    pub(super) fn file(&self, path: String) -> Result<String, ValueError> {
        let path = path::file(path)?;
        self.find(&path)?;
        Ok(path)
    }

    /// Checks the path of a file of the site; empty: `None`.
    pub(super) fn file_or_empty(&self, path: String) -> Result<Option<String>, ValueError> {
        let path = path::file_or_empty(path)?;
        path.as_deref().map(|path| self.find(path)).transpose()?;
        Ok(path)
    }

    /// Checks an item of `try-files`.
    pub(super) fn try_file(&self, item: String) -> Result<String, ValueError> {
        let item = path::try_file(item)?;
        if !item.contains(path::PATH) {
            self.find(&item)?;
        }
        Ok(item)
    }

    fn find(&self, path: &str) -> Result<(), ValueError> {
        let below = |mount: &Mount| path.strip_prefix(&*mount.at);
        let mut below = self.mounts.iter().filter_map(below);
        if self.may_be_anywhere || below.any(|rest| rest.starts_with('/')) {
            return Ok(());
        }
        let shown = path.escape_debug();
        let reason = match self.mounts.first() {
            None => "the site has no root",
            Some(_) => "the site has no root, and it lies in no mount",
        };
        Err(ValueError::new(format!(
            "`{shown}` would never be found: {reason}"
        )))
    }
}

/// Checks the mounts; refuses a second one at the same path.
fn mounts(raw: Vec<Spanned<raw::Mount>>, report: &mut Report<'_>) -> Vec<Mount> {
    let mut seen = BTreeMap::new();
    every(raw, |entry| mount(entry, &mut seen, report))
}

fn mount(
    raw: Spanned<raw::Mount>,
    seen: &mut BTreeMap<String, String>,
    report: &mut Report<'_>,
) -> Option<Mount> {
    let offset = raw.span().start;
    let raw = raw.into_inner();
    let reason = "required: the path that leads there, such as \"/static\"";
    let at = required(raw.at, (offset, "site.mount.at", reason), report);
    let at = at.and_then(|at| {
        let line = report.line(at.span().start);
        report.required(at, |path| not_mounted(&path, line, seen))
    });
    let reason = "required: the directory to serve";
    let root = required(raw.root, (offset, "site.mount.root", reason), report);
    let directory = report.directory(offset);
    let root =
        root.and_then(|root| report.required(root, |root| Ok(directory.join(path::root(root)?))));
    Some(Mount {
        at: at?,
        root: root?,
    })
}

/// Adds the path to `seen`; refuses one that is there already.
fn not_mounted(
    path: &str,
    line: String,
    seen: &mut BTreeMap<String, String>,
) -> Result<String, ValueError> {
    let at = path::mount_point(path)?;
    match seen.insert(at.clone(), line) {
        None => Ok(at),
        Some(first) => Err(ValueError::new(format!(
            "`{}` is mounted already, by line {first}",
            at.escape_debug()
        ))),
    }
}
