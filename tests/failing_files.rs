//! Files on a file system that fails while they are sent: a response ends short, so that the client knows,
//! and no byte in it is wrong. Other roots are served as before.

use std::fs;

use crate::support::{
    Authority, Client, Launch, Mishap, Question, Remote, Server, Tree, eventually, get,
    http2::Http2, skipped,
};

/// Far more than is read ahead.
const BYTES: u64 = 12 << 20;
/// Where it happens: in the middle, and in the middle of a page.
const PLACE: u64 = (5 << 20) + 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Plain,
    Tls,
    Http2,
}

const WIRES: [Wire; 3] = [Wire::Plain, Wire::Tls, Wire::Http2];

/// A root on a disk, and below it one on a file system that can fail.
struct Stage {
    // Dropped in this order.
    server: Server,
    remote: Remote,
    authority: Authority,
    tree: Tree,
}

impl Stage {
    /// `None` where there is no FUSE.
    fn set(wire: Wire) -> Option<Self> {
        let tree = Tree::with("hot", b"here");
        fs::create_dir(tree.path("far")).unwrap();
        let remote = match Remote::mount(&tree.path("far")) {
            Ok(remote) => remote,
            Err(reason) => {
                skipped(reason);
                return None;
            }
        };
        let authority = Authority::new();
        let server = match wire {
            Wire::Tls => {
                let files = authority.issue("server", &["localhost"]);
                Launch::secure(&tree, "", "", &[&files]).start()
            }
            Wire::Plain | Wire::Http2 => Launch::http2(&tree, "", "").start(),
        };
        Some(Self {
            server,
            remote,
            authority,
            tree,
        })
    }

    fn client(&self, wire: Wire) -> Client {
        match wire {
            Wire::Tls => Client::secure(self.server.address, &self.authority.client()),
            Wire::Plain | Wire::Http2 => self.server.connect(),
        }
    }

    /// What comes of a far file, and whether that is all that its head promised. By HTTP/2 the bytes of a
    /// stream that was reset are not told.
    #[track_caller]
    fn ask(&self, wire: Wire, target: &str) -> (Vec<u8>, bool) {
        if wire == Wire::Http2 {
            let mut client = Http2::connect(self.server.address);
            let stream = client.request("GET", target, &[]);
            let response = client.response_or_reset(stream);
            // The others go on.
            assert_eq!(client.get("/hot").body, b"here");
            return response.map_or((Vec::new(), false), |whole| (whole.body, true));
        }
        let mut client = self.client(wire);
        client
            .send("GET ".to_owned() + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let head = client.head();
        assert_eq!(head.status, 200);
        let body = client.rest_or_cut();
        let is_whole = body.len() == head.content_length();
        (body, is_whole)
    }

    #[track_caller]
    fn near_is_well(&self, wire: Wire) {
        assert_eq!(self.client(wire).get("/hot").body, b"here", "{wire:?}");
    }
}

/// Asks for a file to which it happens, then for one to which nothing does; whether the first was whole.
#[track_caller]
fn is_whole_in_spite_of(stage: &Stage, wire: Wire, mishap: Mishap, number: usize) -> bool {
    let file = format!("large-{number}");
    stage.remote.mishap(BYTES, &file, PLACE, mishap);
    let (body, is_whole) = stage.ask(wire, &format!("/far/{file}"));
    let place = format!("{wire:?} {mishap:?}, {} bytes", body.len());
    // What a file has lost the kernel may read as zeros (docs/changing-files.md).
    let is_lost = matches!(mishap, Mishap::IsShort | Mishap::Shrinks);
    let end = if is_lost { PLACE as usize } else { body.len() };
    let (sent, lost) = body.split_at(end.min(body.len()));
    assert!(sent.iter().all(|byte| *byte == b'x'), "{place}");
    assert!(lost.iter().all(|byte| *byte == 0), "{place}");
    let is_whole = is_whole && lost.is_empty();
    stage.near_is_well(wire);
    stage.remote.restore(BYTES);
    let (body, again) = stage.ask(wire, &format!("/far/large-{number}9"));
    assert!(
        again && body == vec![b'x'; BYTES as usize],
        "{place}: not after it"
    );
    is_whole
}

#[test]
fn a_file_that_cannot_be_read_to_its_end_ends_the_response_short() {
    for wire in WIRES {
        let Some(stage) = Stage::set(wire) else {
            return;
        };
        let mishaps = [Mishap::Fails, Mishap::IsShort, Mishap::Shrinks];
        for (number, mishap) in mishaps.into_iter().enumerate() {
            let is_whole = is_whole_in_spite_of(&stage, wire, mishap, number);
            assert!(!is_whole, "{wire:?} {mishap:?}");
        }
        stage.server.stop();
    }
}

#[test]
fn a_file_that_grows_or_is_touched_on_another_host_is_sent_as_promised() {
    for wire in WIRES {
        let Some(stage) = Stage::set(wire) else {
            return;
        };
        let mishaps = [Mishap::Grows, Mishap::IsTouched];
        for (number, mishap) in mishaps.into_iter().enumerate() {
            let is_whole = is_whole_in_spite_of(&stage, wire, mishap, number);
            assert!(is_whole, "{wire:?} {mishap:?}");
        }
        stage.server.stop();
    }
}

#[test]
fn a_file_system_that_is_taken_away_ends_its_responses_alone() {
    for wire in [Wire::Plain, Wire::Tls] {
        let Some(stage) = Stage::set(wire) else {
            return;
        };
        stage.remote.restore(BYTES);
        stage.remote.hold(Question::Read);
        let mut far = stage.client(wire);
        far.send(get("/far/large-1"));
        stage.remote.asked(Question::Read);
        stage.remote.abort(&stage.tree.path("far"));
        let rest = far.rest_or_cut();
        assert!(rest.len() < BYTES as usize, "{wire:?}: {}", rest.len());
        eventually("an error in place of the file", || {
            stage.client(wire).get("/far/large-3").status >= 400
        });
        stage.near_is_well(wire);
        stage.server.stop();
    }
}
