//! One run: plan, then make, each on all threads.

use std::cmp::Reverse;
use std::fs::Metadata;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::iter::{ParallelBridge, ParallelIterator};
use rustix::io::Errno;
use tidegate_http::Coding;

use crate::draft;
use crate::encode::cost;
use crate::error::{Action, FileError};
use crate::job::{Job, variant};
use crate::observer::Observer;
use crate::options::Options;
use crate::plan::{Original, Plan, State, is_wanted};
use crate::root::Root;
use crate::summary::Summary;
use crate::variant::{JobResult, make};
use crate::walk::{Entry, Walk};

/// One run over a tree.
pub(crate) struct Run<'a> {
    root: &'a Root,
    options: &'a Options,
    observer: &'a dyn Observer,
    /// The requested codings, each once: two jobs for one file would collide.
    codings: Vec<Coding>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(root: &'a Root, options: &'a Options, observer: &'a dyn Observer) -> Self {
        let wanted = |coding: &Coding| options.codings.contains(coding);
        Self {
            root,
            options,
            observer,
            codings: Coding::ALL.into_iter().filter(wanted).collect(),
        }
    }

    /// Runs to the end, on the threads of the current pool.
    pub(crate) fn summary(&self) -> Summary {
        let Plan { mut jobs, summary } = self.plan();
        // The costliest first, so that no thread starts a long job when the others are done.
        jobs.sort_by_cached_key(|job| (Reverse(self.work(job)), Arc::clone(&job.path)));
        self.observer
            .planned(jobs.iter().map(|job| self.work(job)).sum());
        let made = jobs.into_iter().par_bridge().map(|job| self.make(&job));
        let made = made.reduce(Summary::default, |all, more| all.plus(&more));
        let mut summary = summary.plus(&made);
        summary.stopped |= self.observer.is_stopping();
        summary
    }

    fn work(&self, job: &Job) -> u64 {
        job.len.saturating_mul(cost(job.coding, self.options.level))
    }

    fn plan(&self) -> Plan {
        let entries = Walk::new(self.root).take_while(|_| !self.observer.is_stopping());
        let plans = entries.par_bridge().map(|entry| self.look_at(entry));
        plans.reduce(Plan::default, Plan::plus)
    }

    fn look_at(&self, entry: Entry) -> Plan {
        let mut plan = Plan::default();
        let summary = &mut plan.summary;
        match entry {
            Entry::File(path) => self.look_at_file(path, &mut plan),
            Entry::Link(path) => self.look_at_link(path, &mut plan),
            Entry::Draft(path) => self.clean(&path, summary),
            Entry::Hidden => summary.skipped.hidden += 1,
            Entry::Other => {}
            Entry::Failed(error) => self.fail(&error, summary),
        }
        plan
    }

    fn look_at_file(&self, path: PathBuf, plan: &mut Plan) {
        if !is_wanted(&path, &mut plan.summary) {
            return;
        }
        let metadata = self.root.real(&path).symlink_metadata();
        self.add(path, metadata, plan);
    }

    fn look_at_link(&self, path: PathBuf, plan: &mut Plan) {
        match self.root.file(&path).and_then(|file| file.metadata()) {
            Ok(metadata) if metadata.is_file() => {
                if is_wanted(&path, &mut plan.summary) {
                    self.add(path, Ok(metadata), plan);
                }
            }
            Err(error) if !leads_nowhere(&error) => self.add(path, Err(error), plan),
            _ => plan.summary.skipped.links += 1,
        }
    }

    /// Adds the jobs of a file of a compressible type.
    fn add(&self, path: PathBuf, metadata: io::Result<Metadata>, plan: &mut Plan) {
        let metadata = match metadata {
            Ok(metadata) => metadata,
            Err(error) => {
                let error = self.root.error(&path, Action::Look, error);
                return self.fail(&error, &mut plan.summary);
            }
        };
        plan.summary.skipped.small += u64::from(self.is_small(&metadata));
        let path = Arc::from(path);
        for &coding in &self.codings {
            self.add_variant(&path, coding, &metadata, plan);
        }
    }

    fn add_variant(&self, path: &Arc<Path>, coding: Coding, metadata: &Metadata, plan: &mut Plan) {
        let original = Original {
            root: self.root,
            path,
            metadata,
            observer: self.observer,
        };
        match original.state(coding) {
            Ok(State::Linked { fresh: false }) => plan.summary.skipped.linked += 1,
            Ok(State::Linked { fresh: true }) => plan.summary.tally_mut(coding).fresh += 1,
            Ok(State::Fresh) if !self.options.force => plan.summary.tally_mut(coding).fresh += 1,
            Ok(State::Missing) if self.is_small(metadata) => {}
            Ok(state) => plan.jobs.push(Job {
                path: Arc::clone(path),
                coding,
                len: metadata.len(),
                replaces: state != State::Missing,
            }),
            Err(error) => {
                let error = self.root.error(path, Action::Make(coding), error);
                self.fail(&error, &mut plan.summary);
            }
        }
    }

    fn is_small(&self, file: &Metadata) -> bool {
        file.len() < self.options.size_min
    }

    fn clean(&self, path: &Path, summary: &mut Summary) {
        if self.options.dry_run {
            return;
        }
        let name = path.file_name().unwrap_or_default();
        let directory = self.root.parent(path);
        match directory.and_then(|directory| draft::clean(&directory, name)) {
            Ok(cleaned) => summary.cleaned += u64::from(cleaned),
            Err(error) => self.fail(&self.root.error(path, Action::Clean, error), summary),
        }
    }

    fn make(&self, job: &Job) -> Summary {
        let mut summary = Summary::default();
        if self.observer.is_stopping() {
            return summary;
        }
        let made = make(self.root, job, self.options, self.observer);
        let tally = summary.tally_mut(job.coding);
        match made {
            Ok(JobResult::Written { before, after }) => {
                tally.written = 1;
                tally.before_bytes = before;
                tally.after_bytes = after;
                let path = self.root.given(&variant(&job.path, job.coding));
                self.observer.written(&path, before, after);
            }
            Ok(JobResult::NoGain) => {
                tally.no_gain = 1;
                tally.removed = u64::from(job.replaces);
            }
            // The stop is most likely why the job failed.
            Err(_) if self.observer.is_stopping() => {}
            Err(error) => {
                let error = self.root.error(&job.path, Action::Make(job.coding), error);
                self.fail(&error, &mut summary);
            }
        }
        summary
    }

    fn fail(&self, error: &FileError, summary: &mut Summary) {
        self.observer.failed(error);
        summary.failed += 1;
    }
}

/// Whether a link could not be opened because of its target: outside the root, a loop, missing, or
/// a socket.
fn leads_nowhere(error: &io::Error) -> bool {
    let nowhere = [
        Errno::XDEV,
        Errno::LOOP,
        Errno::NOENT,
        Errno::NOTDIR,
        Errno::NXIO,
    ];
    Errno::from_io_error(error).is_some_and(|errno| nowhere.contains(&errno))
}
