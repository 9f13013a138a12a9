//! The bytes of small files, as several cores serve them.

mod support;

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, SystemTime};

use support::{Bench, Tree, file, run, settle};
use tidegate_site::Content;

/// Where the bytes lie that a core serves for `/a`, and what they are: from one core, then from
/// another while the first has them; then `change` is done, and the second looks again.
fn serve_from_two(tree: &Tree, change: impl FnOnce()) -> [(usize, String); 3] {
    let (answers, seen) = channel();
    let (go_on, told) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(|| {
            run(async move {
                let bench = Bench::new(tree);
                answers.send(body(&bench).await).unwrap();
                // Until then it keeps what it has.
                told.recv().unwrap_err();
            });
        });
        let first = seen.recv().unwrap();
        let (second, third) = run(async {
            let mut bench = Bench::new(tree);
            let second = body(&bench).await;
            change();
            bench.wait();
            (second, body(&bench).await)
        });
        drop(go_on);
        [first, second, third]
    })
}

async fn body(bench: &Bench) -> (usize, String) {
    let file = file(bench.find("/a").await);
    match &file.content {
        Content::Memory(bytes) => (bytes.as_ptr().addr(), support::text(&file)),
        Content::File(_) | Content::Sliced(_) => panic!("too large for memory"),
    }
}

#[test]
fn one_copy_serves_all_cores() {
    let tree = Tree::new(&[("a", "one")]);
    settle();
    let [first, second, third] = serve_from_two(&tree, || ());
    assert_eq!(first.1, "one");
    assert_eq!(second, first);
    assert_eq!(third, first);
}

#[test]
fn a_file_that_changed_is_read_anew() {
    let tree = Tree::new(&[("a", "one")]);
    settle();
    // Of one length and with the time of the one before, as copies with their times are.
    let modified = tree.path("a").metadata().unwrap().modified().unwrap();
    let [first, second, third] = serve_from_two(&tree, || {
        tree.write("a", b"two");
        tree.set_modified("a", modified);
    });
    assert_eq!(second, first);
    assert_eq!(third.1, "two");
}

#[test]
fn a_file_that_may_change_unseen_is_each_cores_own() {
    let tree = Tree::new(&[("a", "one")]);
    tree.set_modified("a", SystemTime::now() + Duration::from_hours(1));
    settle();
    let [first, second, third] = serve_from_two(&tree, || tree.write("a", b"two"));
    assert_ne!(second.0, first.0);
    assert_eq!([first.1, second.1, third.1], ["one", "one", "two"]);
}
