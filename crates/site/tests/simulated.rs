//! Lookups over a simulated kernel: each op fails with each error, and reads less than it could.

#[path = "../../uring/tests/support/plan.rs"]
mod plan;
mod support;

use std::collections::BTreeMap;
use std::rc::Rc;

use plan::{ERRORS, Kernel, Plan};
use rustix::io::Errno;
use support::{Bench, Tree, kind, run};
use tidegate_site::Found;
use tidegate_uring::simulation::{Fate, Kind, install};

/// Paths, and what they lead to.
const FILES: [(&str, &str); 2] = [("/a.txt", "the content of a file"), ("/d/", "an index")];

/// The status for a lookup in which an op failed so.
fn expected(errno: Errno) -> &'static str {
    match errno {
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::CANCELED => "503",
        _ => "500",
    }
}

/// Looks `path` up while the op of `number` has `fate`, then again without. Returns the op.
async fn look_up(plan: &Plan, path: &str, content: &str, number: u64, fate: Fate) -> Option<Kind> {
    let tree = Tree::new(&[("a.txt", FILES[0].1), ("d/index.html", FILES[1].1)]);
    let bench = Bench::new(&tree);
    plan.begin();
    plan.fault.set(Some((number, fate)));
    let found = kind(&bench.find(path).await);
    let met = plan.met.get();
    plan.begin();
    let what = format!("{path}: op {number} ({met:?}): {fate:?}: {found}");
    let whole = format!("file {content}");
    match fate {
        Fate::Failed(errno) if found != whole => {
            let status = expected(Errno::from_raw_os_error(errno));
            assert_eq!(found, status, "{what}");
            assert!(met.is_some(), "{what}");
        }
        _ => assert_eq!(found, whole, "{what}"),
    }
    // No error is kept: that would be one for everybody.
    let again = bench.find(path).await;
    assert!(
        matches!(again, Found::File(_)),
        "{what}, then {}",
        kind(&again)
    );
    assert_eq!(kind(&again), whole, "{what}");
    met
}

#[test]
fn a_lookup_finds_the_file_or_says_what_failed_whatever_an_op_does() {
    run(async {
        let failures = ERRORS.map(|errno| Fate::Failed(errno.raw_os_error()));
        let mut met = BTreeMap::new();
        for (path, content) in FILES {
            for fate in failures.into_iter().chain([Fate::Short(1), Fate::Short(7)]) {
                let mut number = 0;
                loop {
                    let plan = Rc::new(Plan::default());
                    install(Kernel(Rc::clone(&plan)));
                    let Some(kind) = look_up(&plan, path, content, number, fate).await else {
                        break;
                    };
                    *met.entry(kind).or_insert(0) += 1;
                    number += 1;
                }
            }
        }
        println!("{met:?}");
        for kind in [Kind::Open, Kind::Stat, Kind::Read] {
            assert!(met.contains_key(&kind), "{kind:?} of {met:?}");
        }
    });
}
