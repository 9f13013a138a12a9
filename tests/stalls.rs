//! A file system that does not answer: it costs other sites nothing, and its own only what is not known.

use std::fs;

use crate::admin::admin;
use crate::support::{
    AnswerAtLast, Client, Launch, Question, Remote, Response, SIZES, Server, Tree, eventually,
    request_with, skipped,
};

/// Far more than there are workers.
const CROWD: usize = 100;

const FAR: &str = "Host: far.test";

/// A site on a disk, and one on a file system that may hold its answers back.
struct Stage {
    // Dropped in this order.
    _answer: AnswerAtLast,
    server: Server,
    remote: Remote,
    tree: Tree,
}

impl Stage {
    /// With further tables of the configuration; `None` where there is no FUSE.
    fn set(config: &str) -> Option<Self> {
        let tree = Tree::with("near/hot", b"here");
        tree.write("near/large", &vec![b'l'; 1 << 20]);
        tree.write("near/listed/entry", b"");
        let far = tree.path("far");
        fs::create_dir(&far).unwrap();
        let remote = match Remote::mount(&far) {
            Ok(remote) => remote,
            Err(reason) => {
                skipped(reason);
                return None;
            }
        };
        let near = tree.path("near");
        let sites = format!(
            "[[site]]\nroot = \"{}\"\ndirectory-listing = true\n\
             [[site]]\nnames = [\"far.test\"]\nroot = \"{}\"\ndirectory-listing = true\n",
            near.display(),
            far.display()
        );
        let config = format!("{config}\n[admin]\nlisten = \"127.0.0.1:0\"\n");
        let server = Launch::run_sites(&tree, &config, &sites).start();
        Some(Self {
            _answer: remote.answer_at_last(),
            server,
            remote,
            tree,
        })
    }

    fn far(&self, target: &str) -> Response {
        self.server.get_with(target, &[FAR])
    }

    /// Clients that have asked the far site, and wait.
    fn crowd(&self, count: usize, target: impl Fn(usize) -> String) -> Vec<Client> {
        let ask = |number| {
            let mut client = self.server.connect();
            client.send(request_with("GET", &target(number), &[FAR]));
            client
        };
        (0..count).map(ask).collect()
    }

    /// All that the near site has is served, what was never asked for before as well.
    #[track_caller]
    fn near_is_well(&self, round: &str) {
        let mut client = self.server.connect();
        let fresh = format!("fresh-{round}");
        self.tree.write(&format!("near/{fresh}"), fresh.as_bytes());
        let cold = format!("cold-{round}");
        self.tree
            .write(&format!("near/{cold}"), &vec![b'c'; 3 << 20]);
        evict(&self.tree, &format!("near/{cold}"));
        for _ in 0..3 {
            assert_eq!(client.get("/hot").body, b"here", "{round}");
            assert_eq!(client.get("/large").body.len(), 1 << 20, "{round}");
            assert_eq!(client.get(&format!("/{fresh}")).text(), fresh, "{round}");
            assert_eq!(client.get(&format!("/{cold}")).body.len(), 3 << 20);
            assert_eq!(client.get(&format!("/missing-{round}")).status, 404);
            let listing = client.get("/listed/");
            assert!(listing.text().contains("entry"), "{round}");
        }
    }

    /// A count, as Prometheus is told it.
    #[track_caller]
    fn count(&self, name: &str) -> u64 {
        let metrics = Client::connect(admin(&self.server)).get("/metrics");
        let start = format!("tidegate_{name}_total ");
        let mut lines = metrics.text().lines();
        let value = lines.find_map(|line| line.strip_prefix(&start));
        value.and_then(|value| value.parse().ok()).expect(name)
    }
}

/// Has the system forget the content of a file.
fn evict(tree: &Tree, path: &str) {
    let file = fs::File::open(tree.path(path)).unwrap();
    file.sync_all().unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}

/// Hundreds of requests hang on `question` about a far file of `size`, and the near site is well.
#[track_caller]
fn a_crowd_harms_nobody_else(question: Question, target: impl Fn(usize) -> String, bytes: u64) {
    // Each request looks again.
    let Some(stage) = Stage::set("[cache]\nvalid = \"0s\"\n[timeouts]\nlookup = \"5m\"") else {
        return;
    };
    stage.near_is_well("before");
    stage.remote.hold(question);
    let crowd = stage.crowd(CROWD, target);
    stage.remote.asked(question);
    for round in ["first", "second"] {
        stage.near_is_well(round);
    }
    stage.remote.answer();
    for mut client in crowd {
        let response = client.response();
        assert_eq!(response.status, 200, "{question:?}");
        assert_eq!(response.body.len() as u64, bytes, "{question:?}");
    }
    stage.server.stop();
}

#[test]
fn a_crowd_whose_names_are_not_found_harms_nobody_else() {
    a_crowd_harms_nobody_else(Question::Lookup, |n| format!("/small-{n}"), SIZES[0]);
}

#[test]
fn a_crowd_whose_files_do_not_open_harms_nobody_else() {
    a_crowd_harms_nobody_else(Question::Open, |n| format!("/large-{n}"), SIZES[1]);
}

#[test]
fn a_crowd_whose_files_tell_nothing_of_themselves_harms_nobody_else() {
    a_crowd_harms_nobody_else(Question::Attributes, |n| format!("/small-{n}"), SIZES[0]);
}

#[test]
fn a_crowd_whose_small_files_are_not_read_harms_nobody_else() {
    a_crowd_harms_nobody_else(Question::Read, |n| format!("/small-{n}"), SIZES[0]);
}

#[test]
fn a_crowd_whose_large_files_are_not_read_harms_nobody_else() {
    a_crowd_harms_nobody_else(Question::Read, |n| format!("/large-{n}"), SIZES[1]);
}

#[test]
fn a_crowd_whose_files_do_not_close_harms_nobody_else() {
    a_crowd_harms_nobody_else(Question::Flush, |n| format!("/small-{n}"), SIZES[0]);
}

#[test]
fn directories_that_are_not_read_leave_threads_to_other_sites() {
    let Some(stage) = Stage::set("[cache]\nvalid = \"0s\"") else {
        return;
    };
    stage.remote.hold(Question::Directory);
    let crowd = stage.crowd(CROWD, |n| format!("/dir-{n}/"));
    stage.remote.asked(Question::Directory);
    for round in ["first", "second"] {
        stage.near_is_well(round);
    }
    stage.remote.answer();
    drop(crowd);
    stage.server.stop();
}

#[test]
fn files_that_are_not_read_leave_a_thread_to_hash_those_of_others() {
    let Some(stage) = Stage::set("[cache]\nvalid = \"1ms\"") else {
        return;
    };
    stage.remote.hold(Question::Read);
    let crowd = stage.crowd(CROWD, |number| format!("/old-{number}"));
    stage.remote.asked(Question::Read);
    for number in 0..10 {
        let path = format!("/made-up-{number}");
        let content = vec![b'm'; 2 << 20];
        stage.tree.write_at(&format!("near{path}"), &content, 0);
        eventually("a tag", || stage.server.get(&path).has("etag"));
    }
    stage.remote.answer();
    drop(crowd);
    stage.server.stop();
}

#[test]
fn what_is_known_is_sent_while_its_file_system_does_not_answer() {
    for question in [Question::Lookup, Question::Attributes] {
        let config = "[cache]\nvalid = \"1ms\"\nstale = \"10m\"\n[timeouts]\nlookup = \"500ms\"";
        let Some(stage) = Stage::set(config) else {
            return;
        };
        let known = |stage: &Stage| {
            assert_eq!(stage.far("/small-0").body, vec![b'x'; SIZES[0] as usize]);
            // What follows its head is not in memory.
            let large = stage.server.connect().ask("HEAD", "/large-0", &[FAR]);
            assert_eq!(
                (large.status, large.content_length() as u64),
                (200, SIZES[1])
            );
            assert_eq!(stage.far("/none").status, 404);
        };
        known(&stage);
        assert_eq!(stage.count("stale_responses"), 0);
        stage.remote.hold(question);
        for round in 1..=10 {
            known(&stage);
            assert_eq!(stage.count("stale_responses"), 3 * round, "{question:?}");
        }
        let refused = stage.far("/small-1");
        assert_eq!(refused.status, 503, "never asked for before");
        assert!(refused.has("retry-after"));
        assert_eq!(stage.count("stalled_responses"), 1);
        stage.near_is_well("beside");
        stage.remote.answer();
        eventually("an answer", || stage.far("/small-1").status == 200);
        known(&stage);
        let before = stage.count("stale_responses");
        known(&stage);
        assert_eq!(stage.count("stale_responses"), before, "it answers again");
        stage.server.stop();
    }
}

#[test]
fn what_is_known_is_sent_no_longer_than_it_may_be() {
    let config = "[cache]\nvalid = \"1ms\"\nstale = \"0s\"\n[timeouts]\nlookup = \"300ms\"";
    let Some(stage) = Stage::set(config) else {
        return;
    };
    assert_eq!(stage.far("/small-0").status, 200);
    stage.remote.hold(Question::Lookup);
    let refused = stage.far("/small-0");
    assert_eq!(refused.status, 503);
    assert!(refused.has("retry-after"));
    assert_eq!(stage.count("stale_responses"), 0);
    stage.remote.answer();
    eventually("an answer", || stage.far("/small-0").status == 200);
    stage.server.stop();
}

#[test]
fn look_ups_that_were_given_up_keep_no_more_workers_than_they_may() {
    let config = "[cache]\nvalid = \"0s\"\n[timeouts]\nlookup = \"300ms\"";
    let Some(stage) = Stage::set(config) else {
        return;
    };
    stage.remote.hold(Question::Open);
    for round in 0..3 {
        let crowd = stage.crowd(CROWD, |number| format!("/large-{}", CROWD * round + number));
        for mut client in crowd {
            let refused = client.response();
            assert_eq!(refused.status, 503);
            assert!(refused.has("retry-after"));
        }
        stage.near_is_well(&format!("round-{round}"));
    }
    assert_eq!(stage.count("stalled_responses"), 3 * CROWD as u64);
    stage.remote.answer();
    eventually("an answer", || stage.far("/large-0").status == 200);
    stage.server.stop();
}

#[test]
fn more_than_may_wait_are_refused_at_once() {
    let Some(stage) = Stage::set("[timeouts]\nlookup = \"5m\"") else {
        return;
    };
    stage.remote.hold(Question::Lookup);
    // 16 are under way, and 1,024 wait.
    let crowd = stage.crowd(1100, |number| format!("/small-{number}"));
    eventually("refusals", || {
        stage.count("stalled_responses") == 1100 - 1040
    });
    stage.near_is_well("beside");
    stage.remote.answer();
    let answers = crowd.into_iter().map(|mut client| client.response().status);
    let answers: Vec<u16> = answers.collect();
    let refused = answers.iter().filter(|status| **status == 503).count();
    assert_eq!(refused, 60);
    assert!(answers.iter().all(|status| [200, 503].contains(status)));
    stage.server.stop();
}
