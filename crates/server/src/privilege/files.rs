//! Landlock: the files that the process can reach.

use std::path::Path;
use std::thread;

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    PathFdError, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, make_bitflags,
};

use crate::privilege::reach::Reach;

/// The newest that is made use of. Older kernels bound less: `doctor` tells.
const NEWEST: ABI = ABI::V6;

/// Rules that hold from [`Fence::close`] on.
pub(super) struct Fence(RulesetCreated);

impl Fence {
    /// Opens the places of `reach`, and remembers them there. Blocking.
    pub(super) fn around(reach: &mut Reach) -> Result<Self, RulesetError> {
        let ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(NEWEST))?;
        // Process 1 passes signals on to its successors.
        let ruleset = if std::process::id() == 1 {
            ruleset
        } else {
            ruleset.scope(Scope::Signal)?
        };
        let mut rules = Vec::new();
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        rules.extend(reach.read.iter().map(|path| (path.clone(), read)));
        let append = make_bitflags!(AccessFs::{ReadFile | WriteFile | MakeReg});
        rules.extend(reach.logs.iter().map(|path| (path.clone(), append)));
        rules.extend(
            reach
                .cache
                .iter()
                .map(|path| (path.clone(), all_of_a_cache())),
        );
        let sockets = AccessFs::MakeSock | AccessFs::RemoveFile;
        rules.extend(reach.sockets.iter().map(|path| (path.clone(), sockets)));
        rules.push(("/dev/null".into(), AccessFs::ReadFile | AccessFs::WriteFile));
        let mut created = ruleset.create()?;
        for (path, access) in rules {
            if let Some(rule) = rule(&path, access) {
                created = created.add_rule(rule)?;
                reach.remember(&path);
            }
        }
        Ok(Self(created))
    }

    /// From now on nothing else can be opened, by this thread and those that it starts. Not to be
    /// undone. False: the kernel has no landlock.
    pub(super) fn close(self) -> Result<bool, RulesetError> {
        let status = self.0.restrict_self()?;
        Ok(status.ruleset != RulesetStatus::NotEnforced)
    }
}

/// Everything but programs, devices, links, and sockets.
fn all_of_a_cache() -> BitFlags<AccessFs> {
    AccessFs::from_all(NEWEST)
        & !make_bitflags!(AccessFs::{Execute | MakeChar | MakeBlock | MakeSock | MakeFifo | MakeSym
            | IoctlDev})
}

/// `None`: it is not there any more, or its user may not look.
fn rule(path: &Path, access: BitFlags<AccessFs>) -> Option<PathBeneath<PathFd>> {
    let opened: Result<PathFd, PathFdError> = PathFd::new(path);
    let access = if path.is_dir() {
        access
    } else {
        access & AccessFs::from_file(NEWEST)
    };
    Some(PathBeneath::new(opened.ok()?, access))
}

/// Tries what the kernel has of landlock, in a thread that ends with it. `None`: nothing.
pub(super) fn version() -> Option<i32> {
    let try_it = || {
        let ruleset = Ruleset::default().handle_access(AccessFs::ReadFile);
        version_of(ruleset.ok()?.create().ok()?.restrict_self().ok()?.landlock)
    };
    thread::Builder::new().spawn(try_it).ok()?.join().ok()?
}

fn version_of(status: LandlockStatus) -> Option<i32> {
    match status {
        LandlockStatus::Available {
            effective_abi,
            kernel_abi,
        } => Some(kernel_abi.unwrap_or(effective_abi as i32)),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
    }
}
