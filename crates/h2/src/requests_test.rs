//! What a request is, and what is malformed (RFC 9113, sections 8.1 to 8.3).

use std::time::Duration;

use crate::frame::{flag, kind};
use crate::testing::{
    GET, Peer, Seen, block, data, frame, headers, reset, sent_reset, sent_update,
};
use crate::{ErrorCode, Limits, ResetCause, StreamError};

const END: u8 = flag::END_STREAM;

type Fields<'a> = &'a [(&'a str, &'a str)];

/// The event of a request without a body.
fn event(fields: Fields<'_>) -> Seen {
    event_with(&Limits::default(), fields)
}

/// Stream 1, whatever came before it, and however its block is cut.
fn event_with(limits: &Limits, fields: Fields<'_>) -> Seen {
    let block = block(fields);
    let whole = headers(1, END, &block);
    let [seen] = &Peer::with(limits.clone()).send(&whole).unwrap()[..] else {
        panic!("one event");
    };
    let (front, back) = block.split_at(block.len() / 2);
    let mut cut = frame(kind::HEADERS, END, 1, front);
    cut.extend(frame(kind::CONTINUATION, flag::END_HEADERS, 1, back));
    for bytes in [whole, cut] {
        let again = Peer::with(limits.clone()).send_single(&bytes);
        assert_eq!(again, Ok(vec![seen.clone()]));
    }
    seen.clone()
}

fn request(line: &str, fields: &str) -> Seen {
    Seen::Request {
        stream: 1,
        line: line.to_owned(),
        fields: fields.to_owned(),
        is_body_too_large: false,
    }
}

#[test]
fn a_request_is_lines_of_fields() {
    #[rustfmt::skip] // one row a line
    let cases: &[(&str, Fields<'_>, &str, &str)] = &[
        ("the least", &GET, "GET / HTTP/2.0", "host: a.example\n"),
        ("any order", &[(":path", "/a?b"), (":method", "HEAD"), (":authority", "b:1"), (":scheme", "http")], "HEAD /a?b HTTP/2.0", "host: b:1\n"),
        ("Host instead", &[(":method", "GET"), (":path", "/"), (":scheme", "http"), ("host", "c")], "GET / HTTP/2.0", "host: c\n"),
        ("an empty Host", &[(":method", "GET"), (":path", "/"), (":scheme", "http"), ("host", "")], "GET / HTTP/2.0", "host: \n"),
        ("another scheme", &[(":method", "GET"), (":path", "/"), (":scheme", "x-1+a."), ("host", "c")], "GET / HTTP/2.0", "host: c\n"),
        ("asterisk", &[(":method", "OPTIONS"), (":path", "*"), (":scheme", "http"), ("host", "c")], "OPTIONS * HTTP/2.0", "host: c\n"),
        ("an unknown method", &[(":method", "BR-EW"), (":path", "/"), (":scheme", "http"), ("host", "c")], "BR-EW / HTTP/2.0", "host: c\n"),
        ("CONNECT", &[(":method", "CONNECT"), (":authority", "a:1")], "CONNECT a:1 HTTP/2.0", "host: a:1\n"),
    ];
    for (why, fields, line, lines) in cases {
        assert_eq!(event(fields), request(line, lines), "{why}");
    }
}

#[test]
fn fields_behind_the_pseudo_header() {
    #[rustfmt::skip] // one row a line
    let cases: &[(&str, Fields<'_>, &str)] = &[
        ("range", &[("range", "bytes=0-1")], "range: bytes=0-1\n"),
        ("an empty value", &[("x", "")], "x: \n"),
        ("whitespace within, and bytes above ASCII", &[("x", "a \tb\u{e4}")], "x: a \\tb\\xc3\\xa4\n"),
        ("two lines", &[("accept", "a"), ("x", "b"), ("accept", "c")], "accept: a\naccept: c\nx: b\n"),
        ("8.2.3: crumbs", &[("cookie", "a=b"), ("x", "y"), ("cookie", "c=d"), ("cookie", "e")], "cookie: a=b; c=d; e\nx: y\n"),
        ("one crumb", &[("cookie", "a=b")], "cookie: a=b\n"),
        ("8.2.2: te", &[("te", "trailers")], "te: trailers\n"),
        ("8.3.1: Host as :authority", &[("host", "A.example")], ""),
        ("content-length of no body", &[("content-length", "0")], "content-length: 0\n"),
        ("a priority", &[("priority", "u=1")], "priority: u=1\n"),
    ];
    for (why, fields, lines) in cases {
        let all = [&GET, *fields].concat();
        let lines = format!("host: a.example\n{lines}");
        // As `lines` has them: by name.
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort();
            lines
        };
        let Seen::Request { line, fields, .. } = event(&all) else {
            panic!("{why}");
        };
        assert_eq!(line, "GET / HTTP/2.0");
        assert_eq!(sorted(&fields), sorted(&lines), "{why}");
    }
}

#[test]
fn what_is_malformed() {
    use StreamError as E;
    let [method, scheme, authority, path] = GET;
    #[rustfmt::skip] // one row a line
    let cases: &[(&str, Fields<'_>, E)] = &[
        ("8.3.1: no :method", &[scheme, authority, path], E::PseudoHeader),
        ("8.3.1: no :scheme", &[method, authority, path], E::PseudoHeader),
        ("8.3.1: no :path", &[method, scheme, authority], E::PseudoHeader),
        ("8.3.1: an empty :path", &[method, scheme, authority, (":path", "")], E::PseudoHeader),
        ("8.3.1: another form", &[method, scheme, authority, (":path", "http://a/")], E::PseudoHeader),
        ("a space in :path", &[method, scheme, authority, (":path", "/a b")], E::PseudoHeader),
        ("an empty :method", &[(":method", ""), scheme, authority, path], E::PseudoHeader),
        ("no token in :method", &[(":method", "G T"), scheme, authority, path], E::PseudoHeader),
        ("an empty :scheme", &[method, (":scheme", ""), authority, path], E::PseudoHeader),
        ("no scheme", &[method, (":scheme", "1a"), authority, path], E::PseudoHeader),
        ("8.3: :method twice", &[method, method, scheme, authority, path], E::PseudoHeader),
        ("8.3: :scheme twice", &[method, scheme, scheme, authority, path], E::PseudoHeader),
        ("8.3: :authority twice", &[method, scheme, authority, path, authority], E::PseudoHeader),
        ("8.3: :path twice", &[method, scheme, authority, path, path], E::PseudoHeader),
        ("8.3: unknown", &[method, scheme, authority, path, (":a", "b")], E::PseudoHeader),
        ("8.3: upper case", &[(":METHOD", "GET"), scheme, authority, path], E::PseudoHeader),
        ("8.3: of a response", &[method, scheme, authority, path, (":status", "200")], E::PseudoHeader),
        ("8.3: behind a field", &[method, scheme, authority, ("x", "y"), path], E::PseudoHeader),
        ("a line end in :path", &[method, scheme, authority, (":path", "/\r\nx: y")], E::PseudoHeader),
        ("a line end in :authority", &[method, scheme, (":authority", "a\r\nx: y"), path], E::PseudoHeader),
        ("8.5: CONNECT with :path", &[(":method", "CONNECT"), authority, path], E::PseudoHeader),
        ("8.5: CONNECT with :scheme", &[(":method", "CONNECT"), authority, scheme], E::PseudoHeader),
        ("8.5: CONNECT without :authority", &[(":method", "CONNECT"), ("host", "a:1")], E::PseudoHeader),
        ("RFC 8441: extended CONNECT", &[(":method", "CONNECT"), (":protocol", "websocket"), scheme, authority, path], E::PseudoHeader),
        ("no field", &[], E::PseudoHeader),
        ("8.2.1: upper case", &[method, scheme, authority, path, ("X", "y")], E::FieldName),
        ("8.2.1: an empty name", &[method, scheme, authority, path, ("", "y")], E::FieldName),
        ("8.2.1: a space in a name", &[method, scheme, authority, path, ("x ", "y")], E::FieldName),
        ("8.2.1: a colon in a name", &[method, scheme, authority, path, ("x:", "y")], E::FieldName),
        ("8.2.1: a name above ASCII", &[method, scheme, authority, path, ("\u{e4}", "y")], E::FieldName),
        ("8.2.1: NUL", &[method, scheme, authority, path, ("x", "a\0b")], E::FieldValue),
        ("8.2.1: LF", &[method, scheme, authority, path, ("x", "a\nb")], E::FieldValue),
        ("8.2.1: CR", &[method, scheme, authority, path, ("x", "a\rb")], E::FieldValue),
        ("8.2.1: another control", &[method, scheme, authority, path, ("x", "a\x7f")], E::FieldValue),
        ("8.2.1: a space at its start", &[method, scheme, authority, path, ("x", " a")], E::FieldValue),
        ("8.2.1: a tab at its end", &[method, scheme, authority, path, ("x", "a\t")], E::FieldValue),
        ("8.2.2: connection", &[method, scheme, authority, path, ("connection", "close")], E::ConnectionField),
        ("8.2.2: keep-alive", &[method, scheme, authority, path, ("keep-alive", "1")], E::ConnectionField),
        ("8.2.2: proxy-connection", &[method, scheme, authority, path, ("proxy-connection", "1")], E::ConnectionField),
        ("8.2.2: transfer-encoding", &[method, scheme, authority, path, ("transfer-encoding", "chunked")], E::ConnectionField),
        ("8.2.2: upgrade", &[method, scheme, authority, path, ("upgrade", "h2c")], E::ConnectionField),
        ("8.2.2: te", &[method, scheme, authority, path, ("te", "trailers, gzip")], E::ConnectionField),
        ("8.3.1: Host differs", &[method, scheme, authority, path, ("host", "b.example")], E::HostMismatch),
        ("8.1.1: no number", &[method, scheme, authority, path, ("content-length", "+1")], E::ContentLength),
        ("8.1.1: empty", &[method, scheme, authority, path, ("content-length", "")], E::ContentLength),
        ("8.1.1: too large", &[method, scheme, authority, path, ("content-length", "18446744073709551616")], E::ContentLength),
        ("8.1.1: twice", &[method, scheme, authority, path, ("content-length", "0"), ("content-length", "0")], E::ContentLength),
        ("8.1.1: no body", &[method, scheme, authority, path, ("content-length", "1")], E::ContentLength),
    ];
    for (why, fields, error) in cases {
        let expected = Seen::Reset(1, None, ResetCause::Error(*error));
        assert_eq!(event(fields), expected, "{why}");
        assert_eq!(error.code(), ErrorCode::PROTOCOL_ERROR, "{why}");
    }
}

/// What HTTP/1.1 answers with an error page is answered with the same here.
#[test]
fn what_is_refused_with_a_page() {
    let [method, scheme, authority, path] = GET;
    #[rustfmt::skip] // one row a line
    let cases: &[(&str, Fields<'_>, u16)] = &[
        ("asterisk", &[method, scheme, authority, (":path", "*")], 400),
        ("a fragment", &[method, scheme, authority, (":path", "/#a")], 400),
        ("a path above ASCII", &[method, scheme, authority, (":path", "/\u{e4}")], 400),
        ("no host", &[method, scheme, path], 400),
        ("a host that is none", &[method, scheme, path, (":authority", "a@b")], 400),
        ("a port alone", &[method, scheme, path, ("host", ":80")], 400),
        ("two hosts", &[method, scheme, path, ("host", "a"), ("host", "a")], 400),
        ("CONNECT without a port", &[(":method", "CONNECT"), authority], 400),
    ];
    for (why, fields, status) in cases {
        assert_eq!(event(fields), Seen::Refused(1, *status), "{why}");
    }
}

/// Each value by itself: one behind the other, they may be UTF-8.
#[test]
fn halves_of_a_character_are_refused() {
    let (path, authority) = (":path", ":authority");
    let cases: [[(&str, &[u8]); 2]; 4] = [
        [(path, b"/\xc3"), (authority, b"\xa9")],
        [(authority, b"\xc3"), (path, b"/\xa9")],
        [(path, b"/\xc3"), ("host", b"a")],
        [(path, b"/"), ("host", b"\xc3")],
    ];
    for [first, second] in cases {
        let [method, scheme]: [(&str, &[u8]); 2] = [(":method", b"GET"), (":scheme", b"http")];
        let block = block(&[method, scheme, first, second]);
        let refused = vec![Seen::Refused(1, 400)];
        assert_eq!(Peer::new().send(&headers(1, END, &block)), Ok(refused));
    }
}

#[test]
fn heads_are_bounded() {
    let size: usize = GET
        .iter()
        .map(|(name, value)| name.len() + value.len() + 32)
        .sum();
    let limited = |header_list| Limits {
        header_list,
        ..Limits::default()
    };
    let size = size as u32;
    let exact = event_with(&limited(size), &GET);
    assert!(matches!(exact, Seen::Request { .. }), "exactly the limit");
    assert_eq!(event_with(&limited(size - 1), &GET), Seen::Refused(1, 431));
    assert_eq!(event_with(&limited(0), &GET), Seen::Refused(1, 431));
    // An error that was seen before the limit stays one.
    let bad = [("X", "y"), GET[0]];
    let reset = Seen::Reset(1, None, ResetCause::Error(StreamError::FieldName));
    assert_eq!(event_with(&limited(40), &bad), reset);
    let limits = Limits {
        headers: 2,
        ..Limits::default()
    };
    let fields = |count| [&GET[..], &[("x", "y")].repeat(count)].concat();
    let exact = event_with(&limits, &fields(2));
    assert!(matches!(exact, Seen::Request { .. }), "exactly the limit");
    assert_eq!(event_with(&limits, &fields(3)), Seen::Refused(1, 431));
    let crumbs = [&fields(1)[..], &[("cookie", "a=b"); 200]].concat();
    let accepted = event_with(&limits, &crumbs);
    assert!(
        matches!(accepted, Seen::Request { .. }),
        "crumbs are one field"
    );
}

/// RFC 9113, section 8.1.1: Content-Length is the length of all DATA.
#[test]
fn bodies_are_as_long_as_content_length_says() {
    let trailers = headers(1, END, &block(&[("x", "y")]));
    #[rustfmt::skip] // one row a line
    let cases: &[(&str, Vec<Vec<u8>>, bool)] = &[
        ("one frame", vec![data(1, END, b"abc")], true),
        ("two frames", vec![data(1, 0, b"a"), data(1, END, b"bc")], true),
        ("padding does not count", vec![data(1, END | flag::PADDED, b"\x02abc\0\0")], true),
        ("an empty frame at its end", vec![data(1, 0, b"abc"), data(1, END, b"")], true),
        ("trailers at its end", vec![data(1, 0, b"abc"), trailers.clone()], true),
        ("too short", vec![data(1, END, b"ab")], false),
        ("too short before trailers", vec![data(1, 0, b"ab"), trailers], false),
        ("too long", vec![data(1, END, b"abcd")], false),
        ("too long before its end", vec![data(1, 0, b"abcd")], false),
    ];
    for (why, frames, is_right) in cases {
        let mut peer = Peer::new();
        peer.request_with(1, 0, &[("content-length", "3")]);
        let (last, first) = frames.split_last().unwrap();
        for frame in first {
            peer.send_quietly(frame);
        }
        let expected = (!is_right).then(|| reset(1, StreamError::ContentLength));
        let events = peer.send(last).unwrap();
        assert_eq!(events, Vec::from_iter(expected), "{why}");
        assert!(!peer.connection.is_receiving_bodies(), "{why}");
    }
}

/// Within the limit a body is received after the response, too. Beyond it the stream is reset, once
/// the response is whole (RFC 9113, section 8.1), if streams do not linger.
#[test]
fn bodies_are_dropped_within_the_limit() {
    let limits = Limits {
        body_discard: 10,
        linger: Duration::ZERO,
        ..Limits::default()
    };
    let no_error = [sent_reset(1, ErrorCode::NO_ERROR)];

    let mut peer = Peer::with(limits.clone());
    peer.request_with(1, 0, &[]);
    peer.send_quietly(&data(1, 0, b"12345"));
    peer.answer(1);
    assert_eq!(peer.connection.open_streams(), 0);
    assert!(peer.connection.is_receiving_bodies());
    assert!(!peer.connection.is_midway());
    peer.send_quietly(&data(1, END, b"67890"));
    assert!(!peer.connection.is_receiving_bodies());
    assert_eq!(peer.sent(), []);

    let mut peer = Peer::with(limits.clone());
    peer.request_with(1, 0, &[]);
    peer.answer(1);
    let too_large = Ok(vec![Seen::BodyTooLarge(1)]);
    assert_eq!(peer.send(&data(1, 0, b"12345678901")), too_large);
    assert_eq!(peer.sent(), no_error, "after the response");
    peer.send_quietly(&data(1, 0, b"under way"));

    let mut peer = Peer::with(limits.clone());
    peer.request_with(1, 0, &[]);
    assert_eq!(peer.send(&data(1, 0, b"12345678901")), too_large);
    peer.send_quietly(&data(1, 0, b"2"));
    assert_eq!(peer.sent(), [], "before the response");
    peer.answer(1);
    assert_eq!(peer.sent(), no_error);

    // Known from the start: the head says so, and no event.
    let mut peer = Peer::with(limits);
    let announced = |length| block(&[&GET[..], &[("content-length", length)]].concat());
    for (stream, length, is_too_large) in [(1, "11", true), (3, "10", false)] {
        let events = peer.send(&headers(stream, 0, &announced(length))).unwrap();
        let [
            Seen::Request {
                is_body_too_large, ..
            },
        ] = events[..]
        else {
            panic!("{events:?}");
        };
        assert_eq!(is_body_too_large, is_too_large, "{length}");
    }
    peer.send_quietly(&data(1, 0, b"1234567890"));
    peer.answer(1);
    assert_eq!(peer.sent(), no_error);
}

/// A client that sends all of a large body first gets its response.
#[test]
fn streams_linger() {
    const FULL: &[u8] = &[0; 16_384];
    let limits = Limits {
        body_discard: 10,
        linger_bytes: 10 * FULL.len() as u64,
        linger: Duration::from_secs(5),
        ..Limits::default()
    };
    let update = |stream| sent_update(stream, 2 * FULL.len() as u32);
    let no_error = [sent_reset(1, ErrorCode::NO_ERROR)];
    // The window is closed before the response, and open behind it.
    let answered = || {
        let mut peer = Peer::with(limits.clone());
        peer.request_with(1, 0, &[]);
        let too_large = Ok(vec![Seen::BodyTooLarge(1)]);
        assert_eq!(peer.send(&data(1, 0, FULL)), too_large);
        peer.send_quietly(&data(1, 0, FULL));
        assert_eq!(peer.sent(), [update(0)]);
        peer.answer(1);
        assert_eq!(peer.sent(), [update(1)]);
        peer
    };

    let mut peer = answered();
    peer.send_quietly(&data(1, 0, FULL));
    assert_eq!(peer.sent(), []);
    peer.send_quietly(&data(1, 0, FULL));
    assert_eq!(peer.sent(), [update(0), update(1)]);
    peer.send_quietly(&data(1, END, FULL));
    assert!(
        !peer.connection.is_receiving_bodies(),
        "it has ended in order"
    );
    assert_eq!(peer.sent(), []);

    let mut peer = Peer::with(limits.clone());
    peer.request_with(1, 0, &[("content-length", "100000")]);
    peer.answer(1);
    peer.send_quietly(&data(1, 0, FULL));
    peer.send_quietly(&data(1, END, b""));
    assert_eq!(peer.sent(), [], "it may end early");

    let mut peer = answered();
    for _ in 2..10 {
        peer.send_quietly(&data(1, 0, FULL));
    }
    assert!(peer.connection.is_receiving_bodies());
    peer.sent();
    peer.send_quietly(&data(1, 0, b"1"));
    assert_eq!(peer.sent(), no_error, "more bytes than it may be");

    let mut peer = answered();
    peer.pass(Duration::from_mins(1));
    peer.send_quietly(&data(1, 0, b"1"));
    peer.pass(Duration::from_millis(4999));
    peer.send_quietly(&data(1, 0, b"2"));
    assert_eq!(peer.sent(), []);
    peer.pass(Duration::from_millis(1));
    peer.send_quietly(&data(1, 0, b"3"));
    assert_eq!(peer.sent(), no_error, "more time than it may take");
}

#[test]
fn the_window_of_a_body_is_given_back() {
    let mut peer = Peer::with(Limits {
        body_discard: 1 << 20,
        ..Limits::default()
    });
    peer.request_with(1, 0, &[]);
    peer.send_quietly(&data(1, 0, &[0; 16_384]));
    assert_eq!(peer.sent(), [], "less than half");
    peer.send_quietly(&data(1, 0, &[0; 16_383]));
    let update = |stream| sent_update(stream, 32_767);
    assert_eq!(peer.sent(), [update(0), update(1)]);
    peer.send_quietly(&data(1, 0, &[0; 16_384]));
    peer.send_quietly(&data(1, END, &[0; 16_383]));
    assert_eq!(
        peer.sent(),
        [update(0)],
        "a stream that has ended needs none"
    );
}

/// It costs little: nothing is looked up for it. The dynamic table is that of the peer all the same.
#[test]
fn a_stream_that_ends_with_the_bytes_that_open_it_is_no_request() {
    let cancel = frame(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    let inserted = b"\x82\x87\x44\x02/a\x41\x01b";
    let repeated = b"\x82\x87\xbf\xbe";
    let mut peer = Peer::new();
    let bytes = [headers(1, END, inserted), headers(3, END, repeated), cancel];
    let events = peer.send(&bytes.concat()).unwrap();
    let cancelled = Seen::Reset(1, None, ResetCause::Peer(ErrorCode::CANCEL));
    let [
        Seen::Request {
            stream: 3, line, ..
        },
        reset,
    ] = &events[..]
    else {
        panic!("{events:?}");
    };
    assert_eq!((line.as_str(), reset), ("GET /a HTTP/2.0", &cancelled));
    let untold = [(); 2].map(|()| peer.connection.take_untold());
    assert_eq!(untold, [1, 0], "it is told of once");
    assert_eq!(peer.connection.open_streams(), 1);
    // Later it is one.
    let next = headers(5, END, repeated);
    assert!(matches!(
        peer.send(&next).unwrap()[..],
        [Seen::Request { stream: 5, .. }]
    ));
    let made = [headers(7, END, repeated), data(7, 0, b"a")];
    let error = ResetCause::Error(StreamError::Closed);
    assert_eq!(
        peer.send(&made.concat()),
        Ok(vec![Seen::Reset(7, None, error)])
    );
    assert_eq!(peer.sent(), [sent_reset(7, ErrorCode::STREAM_CLOSED)]);
    assert_eq!(peer.connection.take_untold(), 1);
    // What breaks the protocol is none, either.
    let broken = headers(9, END, b"\x82\x82");
    assert!(matches!(
        peer.send(&broken).unwrap()[..],
        [Seen::Reset(9, None, _)]
    ));
    assert_eq!(peer.connection.take_untold(), 1);
}
