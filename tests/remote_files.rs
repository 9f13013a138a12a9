//! Files on a file system that another process answers for: however long it takes, the core goes on.

use std::fs;

use crate::support::{Launch, Question, Remote, SIZES, Tree, get, skipped};

/// Lets a server of one core wait for each of `questions` about a file of `size`, in turn.
#[track_caller]
fn nobody_waits_for(questions: &[Question], size: &str, bytes: u64) {
    let tree = Tree::with("hot", b"here");
    fs::create_dir(tree.path("far")).unwrap();
    let remote = match Remote::mount(&tree.path("far")) {
        Ok(remote) => remote,
        Err(reason) => return skipped(reason),
    };
    let server = Launch::serve(tree.root()).start();
    for (number, question) in questions.iter().enumerate() {
        remote.hold(*question);
        let mut far = server.connect();
        far.send(get(&format!("/far/{size}-{number}")));
        remote.asked(*question);
        assert_eq!(server.get("/hot").body, b"here", "{question:?}");
        remote.answer();
        let response = far.response();
        assert_eq!(response.status, 200, "{question:?}");
        assert_eq!(response.body, vec![b'x'; bytes as usize], "{question:?}");
    }
    server.stop();
}

#[test]
fn a_small_file_that_is_waited_for_stalls_no_other() {
    let questions = [
        Question::Lookup,
        Question::Open,
        Question::Attributes,
        Question::Read,
        Question::Flush,
    ];
    nobody_waits_for(&questions, "small", SIZES[0]);
}

#[test]
fn a_large_file_that_is_waited_for_stalls_no_other() {
    let questions = [
        Question::Lookup,
        Question::Open,
        Question::Attributes,
        Question::Read,
    ];
    nobody_waits_for(&questions, "large", SIZES[1]);
}
