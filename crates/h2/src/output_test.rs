//! Responses: frames, windows, order, and the end of the connection.

use std::time::Duration;

use crate::frame::{FRAME_HEADER_BYTES, flag, kind};
use crate::testing::{
    GET, Peer, Seen, Sent, block, data, frame, frames, go_away, headers, priority_update, sent,
    sent_reset, settings, window_update,
};
use crate::{ConnectionError, ErrorCode, Limits, Rate, ResetCause};

const END: u8 = flag::END_STREAM;

/// Streams with bodies to send, in the order in which they are opened.
fn sending(priorities: &[&str]) -> Peer {
    let mut peer = Peer::new();
    peer.send_quietly(&window_update(0, 1 << 30));
    for (index, priority) in priorities.iter().enumerate() {
        let stream = index as u32 * 2 + 1;
        let id = peer.request_with(stream, END, &[("priority", priority)]);
        peer.connection.set_ready(id, true);
    }
    peer.sent();
    peer
}

/// The streams of the next grants.
fn order(peer: &mut Peer, count: usize) -> Vec<u32> {
    let grants = (0..count).map_while(|_| peer.grant(100));
    grants.map(|(stream, _)| stream).collect()
}

#[test]
fn the_first_output_is_settings() {
    let limits = Limits {
        concurrent_streams: 7,
        stream_window: 1 << 20,
        connection_window: 1 << 21,
        header_list: 9,
        ..Limits::default()
    };
    let mut peer = Peer::unopened(limits);
    let payload = b"\0\x03\0\0\0\x07\0\x04\0\x10\0\0\0\x06\0\0\0\x09\0\x09\0\0\0\x01";
    let increment = ((1_u32 << 21) - 65_535).to_be_bytes();
    let expected = [
        sent(kind::SETTINGS, 0, 0, payload),
        sent(kind::WINDOW_UPDATE, 0, 0, &increment),
    ];
    assert_eq!(peer.sent(), expected);
    assert!(peer.connection.is_midway());
    // Less than the windows that the peer may use before it knows others is not possible.
    let limits = Limits {
        stream_window: 1,
        connection_window: 0,
        ..Limits::default()
    };
    let mut peer = Peer::unopened(limits);
    let first = peer.sent();
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].payload[8..12], 65_535_u32.to_be_bytes());
}

#[test]
fn settings_and_ping_are_answered() {
    let mut peer = Peer::new();
    peer.send_quietly(&settings(4, 100));
    peer.send_quietly(&frame(kind::PING, 0, 0, b"12345678"));
    let expected = [
        sent(kind::SETTINGS, flag::ACK, 0, b""),
        sent(kind::PING, flag::ACK, 0, b"12345678"),
    ];
    assert_eq!(peer.sent(), expected);
}

#[test]
fn a_long_block_is_continued() {
    for len in [0_usize, 1, 16_384, 16_385, 32_768, 32_769] {
        let mut peer = Peer::new();
        let id = peer.request(1);
        let text: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        let mut out = b"before".to_vec();
        let write = |_: &mut crate::hpack::Encoder, out: &mut Vec<u8>| out.extend(&text);
        assert_eq!(peer.connection.write_head(id, false, &mut out, write), None);
        let frames = frames(&out[6..]);
        let joined: Vec<u8> = frames
            .iter()
            .flat_map(|frame| frame.payload.clone())
            .collect();
        assert_eq!(joined, text);
        assert_eq!(frames.len(), len.div_ceil(16_384).max(1), "{len}");
        for (at, frame) in frames.iter().enumerate() {
            let is_last = at + 1 == frames.len();
            let flags = if is_last { flag::END_HEADERS } else { 0 };
            let kind = if at == 0 {
                kind::HEADERS
            } else {
                kind::CONTINUATION
            };
            assert_eq!((frame.kind, frame.flags, frame.stream), (kind, flags, 1));
        }
    }
}

#[test]
fn a_response_ends_its_stream() {
    let mut peer = sending(&["", ""]);
    let [first, second] = [1, 3].map(|stream| peer.id(stream));
    let mut header = [0; FRAME_HEADER_BYTES];
    let state = peer
        .connection
        .write_data_header(first, 5, true, &mut header);
    assert_eq!(state, Some(1));
    assert_eq!(header, data(1, END, b"12345")[..9]);
    assert_eq!(
        peer.connection.next_to_send(9).map(|grant| grant.stream),
        Some(second)
    );
    // A stream that is over is not known any more, whatever is called.
    assert_eq!(peer.connection.attach(first, 9), Some(9));
    assert_eq!(peer.connection.state_mut(first), None);
    assert_eq!(peer.connection.send_window(first), 0);
    assert_eq!(peer.connection.reset(first, ErrorCode::CANCEL), None);
    peer.connection.set_ready(first, true);
    let mut out = Vec::new();
    let state = peer
        .connection
        .write_head(first, true, &mut out, |_, _| unreachable!());
    assert_eq!((state, out), (None, vec![]));
    assert_eq!(peer.sent(), []);
    assert_eq!(peer.connection.open_streams(), 1);
    let states: Vec<_> = peer
        .connection
        .states_mut()
        .map(|(_, state)| *state)
        .collect();
    assert_eq!(states, [3]);
    // Its slot is used again, and it is not that stream.
    peer.request(5);
    assert_eq!(peer.connection.state_mut(first), None);
}

#[test]
fn urgency_first_then_ids_then_turns() {
    let mut peer = sending(&["u=5", "i", "u=3", "i, u=3", "u=0, i", "u=2"]);
    assert_eq!(order(&mut peer, 3), [9, 9, 9]);
    let id = peer.id(9);
    peer.connection.set_ready(id, false);
    assert_eq!(order(&mut peer, 2), [11, 11]);
    peer.answer(11);
    assert_eq!(order(&mut peer, 2), [5, 5]);
    peer.answer(5);
    assert_eq!(order(&mut peer, 5), [3, 7, 3, 7, 3]);
    peer.connection.set_ready(id, true);
    assert_eq!(order(&mut peer, 1), [9]);
    peer.answer(9);
    peer.answer(3);
    peer.answer(7);
    assert_eq!(order(&mut peer, 2), [1, 1]);
}

/// RFC 9218, section 7.1.
#[test]
fn priorities_are_updated() {
    let mut peer = sending(&["", "", "u=1"]);
    assert_eq!(order(&mut peer, 1), [5]);
    peer.send_quietly(&priority_update(3, "u=0"));
    assert_eq!(order(&mut peer, 1), [3]);
    peer.send_quietly(&priority_update(3, "u=7"));
    assert_eq!(order(&mut peer, 1), [5]);
    // Before its request, and against the field there.
    peer.send_quietly(&priority_update(9, "u=0"));
    let id = peer.request_with(9, END, &[("priority", "u=6")]);
    peer.connection.set_ready(id, true);
    assert_eq!(order(&mut peer, 1), [9]);

    let mut peer = Peer::with(Limits {
        concurrent_streams: 3,
        ..Limits::default()
    });
    peer.request(1);
    peer.send_quietly(&priority_update(3, "u=0"));
    peer.send_quietly(&priority_update(5, "u=0"));
    peer.send_quietly(&priority_update(5, "u=1"));
    let error = Err(ConnectionError::PriorityUpdate);
    assert_eq!(
        peer.send(&priority_update(7, "u=0")),
        error,
        "more than may be open"
    );
}

#[test]
fn windows_bound_what_is_sent() {
    let mut peer = Peer::new();
    let ids = [1, 3].map(|stream| peer.request(stream));
    for id in ids {
        peer.connection.set_ready(id, true);
    }
    let mut sum = 0;
    while let Some((stream, bytes)) = peer.grant(usize::MAX) {
        assert_eq!(stream, 1);
        assert!(bytes <= 16_384);
        sum += bytes;
    }
    assert_eq!(sum, 65_535, "the window of the connection");
    assert!(peer.connection.is_blocked_by_peer());
    assert_eq!(peer.connection.send_window(ids[1]), 0);
    peer.send_quietly(&window_update(0, 10));
    assert!(!peer.connection.is_blocked_by_peer());
    assert_eq!(peer.grant(usize::MAX), Some((3, 10)), "1 has no window");
    peer.send_quietly(&window_update(1, 4));
    peer.send_quietly(&window_update(0, 10));
    assert_eq!(peer.connection.send_window(ids[0]), 4);
    assert_eq!(peer.grant(usize::MAX), Some((1, 4)));
    assert_eq!(peer.grant(usize::MAX), Some((3, 6)));
    // A whole response of no bytes needs no window.
    let state = peer
        .connection
        .write_data_header(ids[1], 0, true, &mut [0; 9]);
    assert_eq!(state, Some(3));
}

/// RFC 9113, section 6.9.2.
#[test]
fn the_initial_window_changes_those_of_open_streams() {
    let mut peer = Peer::new();
    peer.send_quietly(&window_update(0, 1 << 20));
    let id = peer.request(1);
    peer.connection.set_ready(id, true);
    peer.send_quietly(&settings(4, 100));
    assert_eq!(peer.grant(60), Some((1, 60)));
    peer.send_quietly(&settings(4, 10));
    assert_eq!(peer.connection.send_window(id), 0, "-50");
    assert_eq!(peer.grant(60), None);
    assert!(peer.connection.is_blocked_by_peer());
    peer.send_quietly(&window_update(1, 50));
    assert_eq!(peer.grant(60), None, "0");
    peer.send_quietly(&settings(4, 11));
    assert_eq!(peer.grant(60), Some((1, 1)));
    let other = peer.request(3);
    assert_eq!(
        peer.connection.send_window(other),
        11,
        "of new streams, too"
    );
    // The last of a frame counts.
    let twice = [settings(4, 5), settings(4, 20)].map(|frame| frame[9..].to_vec());
    peer.send_quietly(&frame(kind::SETTINGS, 0, 0, &twice.concat()));
    assert_eq!(peer.connection.send_window(other), 20);
    peer.send_quietly(&window_update(3, 0x7fff_ffff - 20));
    let error = Err(ConnectionError::WindowOverflow);
    assert_eq!(peer.send(&settings(4, 21)), error);
}

#[test]
fn the_peer_resets_a_stream() {
    let mut peer = sending(&["", ""]);
    let reset = frame(kind::RST_STREAM, 0, 1, &8_u32.to_be_bytes());
    let seen = Seen::Reset(1, Some(1), ResetCause::Peer(ErrorCode::CANCEL));
    assert_eq!(peer.send(&reset), Ok(vec![seen]));
    assert_eq!(peer.sent(), []);
    assert_eq!(order(&mut peer, 2), [3, 3]);
}

#[test]
fn the_server_resets_a_stream() {
    let mut peer = sending(&["", ""]);
    let id = peer.id(1);
    assert_eq!(
        peer.connection.reset(id, ErrorCode::INTERNAL_ERROR),
        Some(1)
    );
    assert_eq!(peer.sent(), [sent_reset(1, ErrorCode::INTERNAL_ERROR)]);
    assert_eq!(order(&mut peer, 2), [3, 3]);
}

/// RFC 9113, section 6.8.
#[test]
fn going_away_takes_two_steps() {
    let mut peer = Peer::new();
    peer.request(1);
    peer.connection.go_away();
    peer.connection.go_away();
    let first = peer.sent();
    assert_eq!(go_away(&first), (0x7fff_ffff, 0));
    let [
        _,
        Sent {
            kind: kind::PING,
            payload,
            ..
        },
    ] = &first[..]
    else {
        panic!("{first:?}");
    };
    assert!(peer.connection.is_going_away() && !peer.connection.is_finished());
    // Under way when the peer received it.
    peer.request(3);
    peer.send_quietly(&frame(kind::PING, flag::ACK, 0, b"of other"));
    peer.request(5);
    peer.send_quietly(&frame(kind::PING, flag::ACK, 0, payload));
    assert_eq!(go_away(&peer.sent()), (5, 0));
    peer.connection.finish_go_away();
    peer.send_quietly(&frame(kind::PING, flag::ACK, 0, payload));
    assert_eq!(peer.sent(), [], "twice is enough");
    // New ones are ignored, with all that belongs to them; the dynamic table is kept right.
    let insert = [b"\x40\x01x\x01y".as_slice(), &block(&GET)].concat();
    peer.send_quietly(&headers(7, 0, &insert));
    peer.send_quietly(&data(7, 0, b"a"));
    peer.send_quietly(&headers(7, END, b"\xbe"));
    for stream in [1, 3, 5] {
        assert!(!peer.connection.is_finished());
        peer.answer(stream);
    }
    assert!(peer.connection.is_finished());
    // An error still tells the streams that were served.
    assert!(peer.send(&data(0, 0, b"")).is_err());
    assert_eq!(go_away(&peer.sent()), (5, 1));
}

#[test]
fn a_peer_that_answers_no_ping_is_left() {
    let mut peer = Peer::new();
    peer.connection.go_away();
    peer.request(1);
    peer.sent();
    peer.connection.finish_go_away();
    assert_eq!(go_away(&peer.sent()), (1, 0));
    peer.answer(1);
    assert!(peer.connection.is_finished());
}

/// Sends frames until it is an error, and returns how many were none.
fn flood(peer: &mut Peer, mut next: impl FnMut(u32) -> Vec<u8>) -> (u32, ConnectionError) {
    for count in 0..100_000 {
        if let Err(error) = peer.send(&next(count)) {
            assert_eq!(error.code(), ErrorCode::ENHANCE_YOUR_CALM);
            assert_eq!(go_away(&peer.sent()).1, 0xb);
            return (count, error);
        }
        if peer.connection.control_bytes() > 60_000 {
            peer.sent();
        }
    }
    panic!("no end");
}

#[test]
fn frames_that_do_no_work_are_bounded() {
    let kinds: [(&str, Vec<u8>); 9] = [
        ("PING", frame(kind::PING, 0, 0, &[0; 8])),
        ("an ACK of PING", frame(kind::PING, flag::ACK, 0, &[0; 8])),
        ("SETTINGS", frame(kind::SETTINGS, 0, 0, b"")),
        (
            "an ACK of SETTINGS",
            frame(kind::SETTINGS, flag::ACK, 0, b""),
        ),
        ("PRIORITY", frame(kind::PRIORITY, 0, 9, &[0; 5])),
        ("PRIORITY_UPDATE", priority_update(1, "u=1")),
        ("WINDOW_UPDATE", window_update(0, 1)),
        ("empty DATA", data(1, 0, b"")),
        ("unknown", frame(0x42, 0, 0, b"")),
    ];
    for (why, frame) in kinds {
        let mut peer = Peer::new();
        peer.request_with(1, 0, &[]);
        let (count, error) = flood(&mut peer, |_| frame.clone());
        assert_eq!(error, ConnectionError::TooManyIdleFrames, "{why}");
        // SETTINGS came first.
        assert_eq!(count, 999, "{why}");
    }
}

#[test]
fn long_frames_that_do_no_work_count_as_several() {
    let long = [0; 16_384];
    let table_sizes = [0, 1, 0, 0, 0, 0].repeat(2700);
    for (why, frame, expected) in [
        ("unknown", frame(0x42, 0, 0, &long), 999 / 17),
        ("GOAWAY", frame(kind::GOAWAY, 0, 0, &long), 999 / 17),
        (
            "SETTINGS",
            frame(kind::SETTINGS, 0, 0, &table_sizes),
            999 / 169,
        ),
    ] {
        let flood = flood(&mut Peer::new(), |_| frame.clone());
        assert_eq!(
            flood,
            (expected, ConnectionError::TooManyIdleFrames),
            "{why}"
        );
    }
}

#[test]
fn windows_of_many_streams_are_not_changed_too_often() {
    let mut peer = Peer::new();
    for number in 0..64 {
        peer.request_with(2 * number + 1, 0, &[]);
    }
    let (count, error) = flood(&mut peer, |count| settings(4, count % 2));
    assert_eq!(error, ConnectionError::TooManyIdleFrames);
    assert_eq!(count, 999 / 17);
}

/// A field of 4,000 bytes that is meant again by each byte: 64 MiB in a frame. 1 MiB is decoded.
#[test]
fn a_list_of_many_references_counts_as_a_flood() {
    let mut peer = Peer::new();
    let mut field = vec![0x40, 1, b'a', 0x7f, 0xa1, 0x1e];
    field.resize(field.len() + 4000, b'z');
    peer.send(&headers_of(1, &field)).unwrap();
    let bomb = vec![0xbf; 16_000];
    let (count, error) = flood(&mut peer, |count| headers_of(2 * count + 3, &bomb));
    assert_eq!((count, error), (0, ConnectionError::TooManyIdleFrames));
}

/// HEADERS of a request with more than what it must have.
fn headers_of(stream: u32, more: &[u8]) -> Vec<u8> {
    let block = [&[0x82, 0x86, 0x84, 0x41, 1, b'a'], more].concat();
    frame(
        kind::HEADERS,
        flag::END_HEADERS | flag::END_STREAM,
        stream,
        &block,
    )
}

#[test]
fn what_is_sent_allows_more_frames() {
    let mut peer = sending(&["i"]);
    for _ in 0..10_000 {
        peer.grant(100).unwrap();
        // As a client does that opens both windows for each frame.
        peer.send_quietly(&window_update(0, 100));
        peer.send_quietly(&window_update(1, 100));
    }
}

/// As Go's client does: for every 4 KiB that are read, both windows are opened, and the last bytes
/// are read long after they were sent.
#[test]
fn windows_may_be_opened_late() {
    let mut peer = Peer::new();
    peer.send_quietly(&settings(4, 8 << 20));
    peer.send_quietly(&window_update(0, 1 << 30));
    let id = peer.request(1);
    peer.connection.set_ready(id, true);
    while peer.grant(16_384).is_some() {}
    peer.connection.reset(id, ErrorCode::NO_ERROR);
    for _ in 0..(8 << 20) / 4096 {
        peer.send_quietly(&window_update(0, 4096));
        peer.send_quietly(&window_update(1, 4096));
    }
}

/// The frames of a flood, one after the other.
type Flood<'a> = &'a dyn Fn(u32) -> Vec<u8>;

#[test]
fn resets_are_bounded_by_rate() {
    // Rapid reset (CVE-2023-44487).
    let rapid = |count: u32| {
        let stream = count * 2 + 1;
        let code = ErrorCode::CANCEL.number().to_be_bytes();
        let reset = frame(kind::RST_STREAM, 0, stream, &code);
        [headers(stream, END, &block(&GET)), reset].concat()
    };
    // The same in one piece, or not.
    let slow = |count: u32| {
        let frames = rapid(count / 2);
        let head = frames.len() - 13;
        match count % 2 {
            0 => frames[..head].to_vec(),
            _ => frames[head..].to_vec(),
        }
    };
    // MadeYouReset (CVE-2025-8671): this side resets.
    let made = |count: u32| {
        let stream = count * 2 + 1;
        [headers(stream, END, &block(&GET)), window_update(stream, 0)].concat()
    };
    let malformed = |count: u32| headers(count * 2 + 1, END, &block(&[("X", "y")]));
    let closed = |count: u32| match count {
        0 => headers(5001, END, &block(&GET)),
        _ => data(count * 2 + 1, 0, b"a"),
    };
    let floods: [(&str, Flood<'_>, u32); 5] = [
        ("rapid reset", &rapid, 1000),
        ("rapid reset in pieces", &slow, 2001),
        ("made to reset", &made, 1000),
        ("malformed requests", &malformed, 1000),
        ("DATA on closed streams", &closed, 1001),
    ];
    for (why, next, expected) in floods {
        let mut peer = Peer::new();
        let (count, error) = flood(&mut peer, next);
        assert_eq!(
            (count, error),
            (expected, ConnectionError::TooManyResets),
            "{why}"
        );
    }
    // Over time they are no flood.
    let mut peer = Peer::new();
    for count in 0..10_000 {
        peer.send(&rapid(count)).unwrap();
        peer.pass(Duration::from_millis(31));
    }
}

#[test]
fn refused_streams_are_resets() {
    let mut peer = Peer::with(Limits {
        concurrent_streams: 0,
        resets: Rate {
            burst: 3,
            per_second: 0,
        },
        ..Limits::default()
    });
    let next = |count: u32| headers(count * 2 + 1, END, &block(&GET));
    assert_eq!(flood(&mut peer, next), (3, ConnectionError::TooManyResets));
}

#[test]
fn continuations_are_bounded() {
    let error = Err(ConnectionError::TooManyContinuations);
    let next = |bytes: usize| frame(kind::CONTINUATION, 0, 1, &vec![0; bytes]);
    let begin = || {
        let mut peer = Peer::new();
        peer.send_quietly(&frame(kind::HEADERS, END, 1, b""));
        peer
    };
    let mut peer = begin();
    for _ in 0..8 {
        peer.send_quietly(&next(0));
    }
    assert_eq!(peer.send(&next(0)), error, "the ninth");
    let mut peer = begin();
    peer.send_quietly(&next(16_384));
    assert_eq!(peer.send(&next(1)), error, "one byte more");
    let mut peer = begin();
    peer.send_quietly(&next(16_384));
    peer.send_quietly(&next(0));
    assert_eq!(
        go_away(&{
            let _ = peer.send(&next(2));
            peer.sent()
        }),
        (0, 0xb)
    );
}

#[test]
fn an_idle_connection_is_small() {
    assert!(std::mem::size_of::<crate::Connection<Box<u8>>>() <= 640);
    let mut peer = Peer::new();
    for stream in (1..201).step_by(2) {
        peer.request(stream);
        peer.answer(stream);
    }
    peer.connection.shrink();
    assert!(!peer.connection.is_midway());
    peer.request(201);
    peer.answer(201);
}
