//! The counts of a run.

use std::ops::AddAssign;

use tidegate_http::Coding;

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    tallies: [Tally; Coding::ALL.len()],
    /// Files without variants, by reason.
    pub skipped: Skipped,
    /// Files and directories that failed; each was reported to the observer.
    pub failed: u64,
    /// Drafts of killed runs that were removed.
    pub cleaned: u64,
    /// Whether the observer ended the run early.
    pub stopped: bool,
}

/// The variants of one coding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Variants written; in a dry run, those that would be.
    pub written: u64,
    /// Bytes of the originals of the written variants.
    pub before_bytes: u64,
    /// Bytes of the written variants.
    pub after_bytes: u64,
    /// Variants that were up to date.
    pub fresh: u64,
    /// Variants not kept, because they were hardly smaller than their originals.
    pub no_gain: u64,
    /// Those of `no_gain` with a stale variant, which was removed; in a dry run, would be.
    pub removed: u64,
}

/// Files without variants, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Of a type that is compressed already, or unknown.
    pub kind: u64,
    /// Smaller than the least size.
    pub small: u64,
    /// Variants themselves, by their names.
    pub variants: u64,
    /// Hidden; a directory counts once.
    pub hidden: u64,
    /// Symbolic links that do not lead to a file beneath the root.
    pub links: u64,
    /// Symbolic links in the place of variants that do not lead to fresh ones beneath the root.
    pub linked: u64,
}

impl Summary {
    /// The counts of one coding.
    pub fn tally(&self, coding: Coding) -> &Tally {
        &self.tallies[index(coding)]
    }

    pub(crate) fn tally_mut(&mut self, coding: Coding) -> &mut Tally {
        &mut self.tallies[index(coding)]
    }

    /// The sum of both.
    pub(crate) fn plus(mut self, other: &Self) -> Self {
        for (tally, more) in self.tallies.iter_mut().zip(other.tallies) {
            *tally += more;
        }
        self.skipped += other.skipped;
        self.failed += other.failed;
        self.cleaned += other.cleaned;
        self.stopped |= other.stopped;
        self
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.written += other.written;
        self.before_bytes += other.before_bytes;
        self.after_bytes += other.after_bytes;
        self.fresh += other.fresh;
        self.no_gain += other.no_gain;
        self.removed += other.removed;
    }
}

impl AddAssign for Skipped {
    fn add_assign(&mut self, other: Self) {
        self.kind += other.kind;
        self.small += other.small;
        self.variants += other.variants;
        self.hidden += other.hidden;
        self.links += other.links;
        self.linked += other.linked;
    }
}

fn index(coding: Coding) -> usize {
    match coding {
        Coding::Brotli => 0,
        Coding::Zstd => 1,
        Coding::Gzip => 2,
    }
}
