//! The bytes of an HTTP/1.1 connection: heads and the bodies behind them, in the order of calls
//! that the crate documents. How they are cut decides nothing.

use tidegate_h1::{Discard, Error, Framing, Limits, Version, parse};

use crate::cuts::pieces;

const LIMITS: [Limits; 2] = [
    Limits {
        header_bytes: 512,
        headers: 16,
        body_discard: 4096,
    },
    Limits {
        header_bytes: 128,
        headers: 4,
        body_discard: 32,
    },
];

/// `data` is what a client sends.
pub(crate) fn check(data: &[u8]) {
    for limits in &LIMITS {
        let whole = Connection::after([data], limits);
        assert_eq!(Connection::after(data.chunks(1), limits), whole);
        for max in [7, 50] {
            assert_eq!(Connection::after(pieces(data, max), limits), whole);
        }
    }
}

#[derive(Debug, PartialEq)]
enum Decision {
    Request {
        line: Vec<u8>,
        host: Option<String>,
        len: usize,
        version: Version,
        framing: Framing,
        expect_continue: bool,
    },
    /// The body ended. A request without one has none.
    BodyEnded,
    Refused(Error),
    BodyRefused(Error),
}

/// What a server keeps of a connection.
#[derive(Debug)]
struct Connection<'l> {
    limits: &'l Limits,
    /// Not used yet: the start of a head.
    input: Vec<u8>,
    body: Option<Discard>,
    persistent: bool,
    decisions: Vec<Decision>,
}

impl PartialEq for Connection<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.decisions == other.decisions
            && self.persistent == other.persistent
            && self.body.is_some() == other.body.is_some()
            // What is behind the end is not looked at.
            && (!self.persistent || self.input == other.input)
    }
}

impl<'l> Connection<'l> {
    fn after<'d>(pieces: impl IntoIterator<Item = &'d [u8]>, limits: &'l Limits) -> Self {
        let mut connection = Self {
            limits,
            input: Vec::new(),
            body: None,
            persistent: true,
            decisions: Vec::new(),
        };
        for piece in pieces {
            connection.input.extend_from_slice(piece);
            while connection.goes_on() {}
        }
        connection
    }

    /// Takes the next head, or more of a body; `false` if more has to be received.
    fn goes_on(&mut self) -> bool {
        if !self.persistent || self.input.is_empty() {
            return false;
        }
        if self.body.is_some() {
            return self.discard();
        }
        let decision = match parse(&self.input, self.limits) {
            Ok(None) => return false,
            Err(error) => {
                self.persistent = false;
                Decision::Refused(error)
            }
            Ok(Some(head)) => {
                let decision = Decision::Request {
                    line: head.request_line.to_vec(),
                    host: head.request.host.map(str::to_owned),
                    len: head.len,
                    version: head.version,
                    framing: head.framing,
                    expect_continue: head.expect_continue,
                };
                let has_body = head.framing != Framing::None;
                let body = Discard::new(head.framing, self.limits.body_discard);
                self.body = has_body.then_some(body);
                self.persistent = head.persistent;
                let len = head.len;
                self.input.drain(..len);
                decision
            }
        };
        self.decisions.push(decision);
        true
    }

    fn discard(&mut self) -> bool {
        let Some(body) = &mut self.body else {
            return false;
        };
        match body.feed(&self.input) {
            Err(error) => {
                self.decisions.push(Decision::BodyRefused(error));
                self.persistent = false;
            }
            Ok(discarded) => {
                assert!(discarded.consumed <= self.input.len());
                assert!(discarded.done || discarded.consumed == self.input.len());
                self.input.drain(..discarded.consumed);
                if discarded.done {
                    self.body = None;
                    self.decisions.push(Decision::BodyEnded);
                }
            }
        }
        true
    }
}
