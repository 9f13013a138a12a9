//! Every error of RFC 9113 that a client can make, with its code, and the requirements of h2spec.

use crate::frame::{PREFACE, flag, kind};
use crate::testing::{
    GET, Peer, Seen, block, data, frame, go_away, headers, priority_update, reset, sent_reset,
    settings, window_update,
};
use crate::{ConnectionError, ErrorCode, Limits, Rate, ResetCause, StreamError};

const END: u8 = flag::END_STREAM;

/// A block of a request.
fn get() -> Vec<u8> {
    block(&GET)
}

/// A peer with stream 1 open, 3 half-closed (remote), 5 ended, 7 reset by the peer, 9 by this side.
fn busy() -> Peer {
    let mut peer = Peer::new();
    peer.request_with(1, 0, &[]);
    for stream in [3, 5, 7, 9] {
        peer.request(stream);
    }
    peer.answer(5);
    let code = ErrorCode::CANCEL;
    let cancelled = Seen::Reset(7, Some(7), ResetCause::Peer(code));
    let frame = frame(kind::RST_STREAM, 0, 7, &code.number().to_be_bytes());
    assert_eq!(peer.send(&frame), Ok(vec![cancelled]));
    let id = peer.id(9);
    peer.connection.reset(id, ErrorCode::INTERNAL_ERROR);
    peer.sent();
    peer
}

#[test]
fn connection_errors() {
    use ConnectionError as E;
    let n = 0x1_u32.to_be_bytes();
    let too_large = vec![0; 16_385];
    #[rustfmt::skip] // one row a line
    let cases: &[(&str, Vec<u8>, E)] = &[
        ("4.2: too large", frame(kind::DATA, 0, 1, &too_large), E::FrameTooLarge),
        ("4.2: HEADERS too large", frame(kind::HEADERS, 0, 11, &too_large), E::FrameTooLarge),
        ("4.2: unknown too large", frame(0x42, 0, 0, &too_large), E::FrameTooLarge),
        ("4.3: an index of no table", headers(11, END, b"\xff\xff\x01"), E::Compression),
        ("4.3: cut in a field", headers(11, END, &get()[..get().len() - 1]), E::Compression),
        ("4.3: in trailers", headers(1, END, b"\xff\xff\x01"), E::Compression),
        ("4.3: on a closed stream", headers(9, END, b"\xff\xff\x01"), E::Compression),
        ("5.1: DATA on idle", data(11, 0, b"a"), E::IdleStream),
        ("5.1: RST_STREAM on idle", frame(kind::RST_STREAM, 0, 11, &n), E::IdleStream),
        ("5.1: WINDOW_UPDATE on idle", window_update(11, 1), E::IdleStream),
        ("5.1: DATA on a stream of the server", data(2, 0, b"a"), E::IdleStream),
        ("5.1: RST_STREAM on a stream of the server", frame(kind::RST_STREAM, 0, 2, &n), E::IdleStream),
        ("5.1: HEADERS on an ended stream", headers(5, END, &get()), E::EndedStream),
        ("5.1.1: even", headers(12, END, &get()), E::StreamId),
        ("6.1: DATA on 0", data(0, 0, b"a"), E::FrameStream),
        ("6.1: padding as long as the frame", data(1, flag::PADDED, b"\x01"), E::Padding),
        ("6.1: no room for the length of padding", data(1, flag::PADDED, b""), E::FrameLength),
        ("6.2: HEADERS on 0", headers(0, END, &get()), E::FrameStream),
        ("6.2: padding longer than the block", headers(11, flag::PADDED, b"\x05\x00\x00"), E::Padding),
        ("6.2: no room for the priority", headers(11, flag::PRIORITY, b"\0\0\0\0"), E::FrameLength),
        ("6.3: PRIORITY on 0", frame(kind::PRIORITY, 0, 0, &[0; 5]), E::FrameStream),
        ("6.3: a length on idle", frame(kind::PRIORITY, 0, 11, &[0; 4]), E::FrameLength),
        ("7540, 5.3.1: itself on idle", frame(kind::PRIORITY, 0, 11, b"\0\0\0\x0b\x10"), E::SelfDependency),
        ("6.4: RST_STREAM on 0", frame(kind::RST_STREAM, 0, 0, &n), E::FrameStream),
        ("6.4: a length", frame(kind::RST_STREAM, 0, 1, &n[1..]), E::FrameLength),
        ("6.5: SETTINGS on a stream", frame(kind::SETTINGS, 0, 1, b""), E::FrameStream),
        ("6.5: an ACK with a payload", frame(kind::SETTINGS, flag::ACK, 0, &[0; 6]), E::FrameLength),
        ("6.5: an ACK on a stream", frame(kind::SETTINGS, flag::ACK, 1, b""), E::FrameStream),
        ("6.5: a length", frame(kind::SETTINGS, 0, 0, &[0; 7]), E::FrameLength),
        ("6.5.2: ENABLE_PUSH", settings(2, 2), E::Setting),
        ("6.5.2: INITIAL_WINDOW_SIZE", settings(4, 1 << 31), E::InitialWindow),
        ("6.5.2: MAX_FRAME_SIZE, low", settings(5, 16_383), E::Setting),
        ("6.5.2: MAX_FRAME_SIZE, high", settings(5, 1 << 24), E::Setting),
        ("9218, 2.1: NO_RFC7540_PRIORITIES", settings(9, 2), E::Setting),
        ("6.6: PUSH_PROMISE", frame(kind::PUSH_PROMISE, flag::END_HEADERS, 1, &n), E::PushPromise),
        ("6.7: PING on a stream", frame(kind::PING, 0, 1, &[0; 8]), E::FrameStream),
        ("6.7: a length", frame(kind::PING, 0, 0, &[0; 7]), E::FrameLength),
        ("6.7: a length of an ACK", frame(kind::PING, flag::ACK, 0, &[0; 9]), E::FrameLength),
        ("6.8: GOAWAY on a stream", frame(kind::GOAWAY, 0, 1, &[0; 8]), E::FrameStream),
        ("6.8: a length", frame(kind::GOAWAY, 0, 0, &[0; 7]), E::FrameLength),
        ("6.9: WINDOW_UPDATE of 0", window_update(0, 0), E::WindowIncrement),
        ("6.9: a length", frame(kind::WINDOW_UPDATE, 0, 0, &n[1..]), E::FrameLength),
        ("6.9: a length on a stream", frame(kind::WINDOW_UPDATE, 0, 1, &[0; 5]), E::FrameLength),
        ("6.9.1: above 2^31-1", window_update(0, 0x7fff_ffff), E::WindowOverflow),
        ("6.10: CONTINUATION without HEADERS", frame(kind::CONTINUATION, 4, 1, b""), E::Continuation),
        ("6.10: CONTINUATION on 0", frame(kind::CONTINUATION, 4, 0, b""), E::Continuation),
        ("9218, 7.1: on a stream", frame(kind::PRIORITY_UPDATE, 0, 1, b"\0\0\0\x01"), E::FrameStream),
        ("9218, 7.1: a length", frame(kind::PRIORITY_UPDATE, 0, 0, b"\0\0\0"), E::FrameLength),
        ("9218, 7.1: for 0", priority_update(0, "u=1"), E::PriorityUpdate),
        ("9218, 7.1: for a push", priority_update(2, "u=1"), E::PriorityUpdate),
    ];
    for (why, bytes, error) in cases {
        let mut peer = busy();
        assert_eq!(peer.send(bytes), Err(*error), "{why}");
        assert_eq!(
            busy().send_single(bytes),
            Err(*error),
            "{why}: byte by byte"
        );
        let sent = peer.sent();
        // A request that cannot be decoded must not be sent again.
        let is_new = *error == E::Compression && bytes[8] == 11;
        let last = if is_new { 11 } else { 9 };
        assert_eq!(go_away(&sent), (last, error.code().number()), "{why}");
        let text = error.to_string();
        assert!(
            sent.last().unwrap().payload.ends_with(text.as_bytes()),
            "{why}"
        );
        // What else comes is ignored.
        peer.send_quietly(&frame(kind::PING, 0, 0, &[0; 8]));
        peer.send_quietly(bytes);
        assert_eq!(peer.sent(), [], "{why}");
    }
}

/// The codes by the sections that name them.
#[test]
fn codes_of_connection_errors() {
    use ConnectionError as E;
    let codes = [
        (ErrorCode::PROTOCOL_ERROR, E::StreamId, "5.1.1"),
        (ErrorCode::PROTOCOL_ERROR, E::IdleStream, "5.1"),
        (ErrorCode::STREAM_CLOSED, E::EndedStream, "5.1"),
        (ErrorCode::FRAME_SIZE_ERROR, E::FrameTooLarge, "4.2"),
        (ErrorCode::FRAME_SIZE_ERROR, E::FrameLength, "4.2"),
        (ErrorCode::PROTOCOL_ERROR, E::Padding, "6.1"),
        (ErrorCode::FLOW_CONTROL_ERROR, E::InitialWindow, "6.5.2"),
        (ErrorCode::PROTOCOL_ERROR, E::Setting, "6.5.2"),
        (ErrorCode::PROTOCOL_ERROR, E::WindowIncrement, "6.9"),
        (ErrorCode::FLOW_CONTROL_ERROR, E::WindowOverflow, "6.9.1"),
        (ErrorCode::FLOW_CONTROL_ERROR, E::ConnectionWindow, "6.9.1"),
        (ErrorCode::COMPRESSION_ERROR, E::Compression, "4.3"),
        (ErrorCode::PROTOCOL_ERROR, E::Continuation, "6.10"),
        (ErrorCode::ENHANCE_YOUR_CALM, E::TooManyResets, "10.5"),
    ];
    for (code, error, section) in codes {
        assert_eq!(error.code(), code, "{section}");
    }
}

#[test]
fn stream_errors() {
    use StreamError as E;
    let overflow = window_update(1, 0x7fff_ffff);
    let itself = [b"\0\0\0\x0b\x10".as_slice(), &get()].concat();
    #[rustfmt::skip] // one row a line
    let cases: &[(&str, u32, Vec<u8>, E, ErrorCode)] = &[
        ("5.1: DATA on half-closed (remote)", 3, data(3, 0, b"a"), E::Closed, ErrorCode::STREAM_CLOSED),
        ("5.1: HEADERS on half-closed (remote)", 3, headers(3, END, &get()), E::Closed, ErrorCode::STREAM_CLOSED),
        ("5.1: DATA on an ended one", 5, data(5, 0, b"a"), E::Closed, ErrorCode::STREAM_CLOSED),
        ("5.1: DATA on a reset one", 7, data(7, END, b"a"), E::Closed, ErrorCode::STREAM_CLOSED),
        ("5.1: HEADERS on a reset one", 7, headers(7, END, &get()), E::Closed, ErrorCode::STREAM_CLOSED),
        ("6.3: a length", 1, frame(kind::PRIORITY, 0, 1, &[0; 4]), E::PriorityLength, ErrorCode::FRAME_SIZE_ERROR),
        ("7540, 5.3.1: PRIORITY on itself", 1, frame(kind::PRIORITY, 0, 1, b"\0\0\0\x01\x10"), E::SelfDependency, ErrorCode::PROTOCOL_ERROR),
        ("7540, 5.3.1: HEADERS on itself", 11, headers(11, END | flag::PRIORITY, &itself), E::SelfDependency, ErrorCode::PROTOCOL_ERROR),
        ("6.9: WINDOW_UPDATE of 0", 1, window_update(1, 0), E::WindowIncrement, ErrorCode::PROTOCOL_ERROR),
        ("6.9.1: above 2^31-1", 1, overflow, E::WindowOverflow, ErrorCode::FLOW_CONTROL_ERROR),
        ("8.1: trailers that do not end it", 1, headers(1, 0, &block(&[("x", "y")])), E::Trailers, ErrorCode::PROTOCOL_ERROR),
        ("8.1: pseudo-header in trailers", 1, headers(1, END, &get()), E::Trailers, ErrorCode::PROTOCOL_ERROR),
        ("8.2.1: upper case in trailers", 1, headers(1, END, &block(&[("X", "y")])), E::FieldName, ErrorCode::PROTOCOL_ERROR),
    ];
    for (why, stream, bytes, error, code) in cases {
        let mut peer = busy();
        let state = [1, 3].contains(stream).then_some(*stream);
        let expected = Seen::Reset(*stream, state, ResetCause::Error(*error));
        let expected = Ok(vec![expected]);
        assert_eq!(peer.send(bytes), expected, "{why}");
        assert_eq!(busy().send_single(bytes), expected, "{why}: byte by byte");
        assert_eq!(peer.sent(), [sent_reset(*stream, *code)], "{why}");
        // The connection goes on, and other streams with it.
        peer.request(13);
        assert_eq!(
            peer.connection.state_mut(peer.id(13)),
            Some(&mut 13),
            "{why}"
        );
    }
}

/// RFC 9113, section 5.1, "closed", and 5.5: what may come late, or is unknown.
#[test]
fn what_is_ignored() {
    let code = ErrorCode::CANCEL.number().to_be_bytes();
    let unknown_setting = settings(0x4242, u32::MAX);
    #[rustfmt::skip] // one row a line
    let cases: &[(&str, Vec<u8>)] = &[
        ("WINDOW_UPDATE on an ended stream", window_update(5, 1)),
        ("RST_STREAM on an ended stream", frame(kind::RST_STREAM, 0, 5, &code)),
        ("PRIORITY on an ended stream", frame(kind::PRIORITY, 0, 5, &[0; 5])),
        ("RST_STREAM on a reset stream", frame(kind::RST_STREAM, 0, 7, &code)),
        ("DATA under way to a reset stream", data(9, 0, b"a")),
        ("trailers under way to a reset stream", headers(9, END, &block(&[("x", "y")]))),
        ("WINDOW_UPDATE under way to a reset stream", window_update(9, 1)),
        ("RST_STREAM under way to a reset stream", frame(kind::RST_STREAM, 0, 9, &code)),
        ("PRIORITY on an idle stream", frame(kind::PRIORITY, 0, 11, &[0; 5])),
        ("PRIORITY_UPDATE of an ended stream", priority_update(5, "u=0")),
        ("GOAWAY", frame(kind::GOAWAY, 0, 0, &[0; 20])),
        ("an unknown frame", frame(0x42, 0xff, 0, b"a")),
        ("an unknown frame on any stream", frame(0x42, 0xff, 99, b"a")),
        ("an ACK of no PING", frame(kind::PING, flag::ACK, 0, b"tidegate")),
        ("an ACK of SETTINGS", frame(kind::SETTINGS, flag::ACK, 0, b"")),
    ];
    for (why, bytes) in cases {
        let mut peer = busy();
        assert_eq!(peer.send(bytes), Ok(vec![]), "{why}");
        assert_eq!(peer.send_single(bytes), Ok(vec![]), "{why}: byte by byte");
        assert_eq!(peer.sent(), [], "{why}");
    }
    let mut peer = busy();
    peer.send_quietly(&unknown_setting);
    assert_eq!(peer.sent().len(), 1, "an unknown setting is acknowledged");
}

/// RFC 9113, section 3.4.
#[test]
fn the_first_frame_is_settings() {
    let firsts = [
        frame(kind::PING, 0, 0, &[0; 8]),
        frame(kind::SETTINGS, flag::ACK, 0, b""),
        headers(1, END, &get()),
        frame(0x42, 0, 0, b""),
    ];
    for first in firsts {
        let mut peer = Peer::unopened(Limits::default());
        let bytes = [PREFACE.as_slice(), &first].concat();
        assert_eq!(peer.send(&bytes), Err(ConnectionError::FirstFrame));
        assert_eq!(go_away(&peer.sent()), (0, 1));
    }
    let mut peer = Peer::unopened(Limits::default());
    let error = Err(ConnectionError::Preface);
    assert_eq!(peer.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), error);
}

/// RFC 9113, section 5.1.1: "numerically greater than all streams".
#[test]
fn a_lower_stream_that_never_was_cannot_be_opened() {
    let mut peer = Peer::new();
    peer.request(5);
    let error = Err(ConnectionError::StreamId);
    assert_eq!(peer.send(&headers(3, END, &get())), error);
}

/// Trailers of an upload that was reset, while many other streams came and went.
#[test]
fn trailers_of_a_stream_that_is_forgotten_reset_it() {
    let mut peer = Peer::with(Limits {
        resets: Rate {
            burst: 1,
            per_second: 0,
        },
        ..Limits::default()
    });
    let upload = peer.request_with(1, 0, &[]);
    let state = peer.connection.reset(upload, ErrorCode::INTERNAL_ERROR);
    assert_eq!(state, Some(1));
    for stream in (3..).step_by(2).take(64) {
        peer.request(stream);
        peer.answer(stream);
    }
    peer.sent();
    let trailers = headers(1, END, &block(&[("x", "y")]));
    let closed = Seen::Reset(1, None, ResetCause::Error(StreamError::Closed));
    assert_eq!(peer.send(&trailers), Ok(vec![closed]));
    assert_eq!(peer.sent(), [sent_reset(1, ErrorCode::STREAM_CLOSED)]);
    peer.request(201);
    // It counts as a reset that the peer caused.
    let never = headers(199, END, &get());
    assert_eq!(peer.send(&never), Err(ConnectionError::TooManyResets));
}

/// RFC 9113, section 6.10: nothing may come between, not even an unknown frame (section 5.5).
#[test]
fn nothing_interrupts_a_header_block() {
    let block = get();
    let (front, back) = block.split_at(10);
    let begun = frame(kind::HEADERS, END, 11, front);
    let ended = frame(kind::CONTINUATION, flag::END_HEADERS, 11, back);
    let others = [
        data(1, 0, b"a"),
        headers(13, END, &block),
        frame(kind::PING, 0, 0, &[0; 8]),
        frame(0x42, 0, 11, b""),
        frame(kind::CONTINUATION, 0, 13, b""),
    ];
    for other in others {
        let mut peer = busy();
        peer.send_quietly(&begun);
        assert!(peer.connection.is_midway());
        assert_eq!(peer.send(&other), Err(ConnectionError::Continuation));
    }
    let mut peer = busy();
    peer.send_quietly(&begun);
    peer.send_quietly(&frame(kind::CONTINUATION, 0, 11, b""));
    let events = peer.send(&ended).unwrap();
    assert!(matches!(events[..], [Seen::Request { stream: 11, .. }]));
    assert_eq!(peer.connection.streams.receiving(), 1, "that of stream 1");
}

#[test]
fn more_streams_than_may_be_open_are_refused() {
    let mut peer = Peer::with(Limits {
        concurrent_streams: 2,
        ..Limits::default()
    });
    peer.request(1);
    peer.request_with(3, 0, &[]);
    let refused = StreamError::TooManyStreams;
    let refused = |stream| Seen::Reset(stream, None, ResetCause::Error(refused));
    assert_eq!(peer.send(&headers(5, 0, &get())), Ok(vec![refused(5)]));
    assert_eq!(peer.sent(), [sent_reset(5, ErrorCode::REFUSED_STREAM)]);
    peer.send_quietly(&data(5, END, b"under way"));
    peer.answer(1);
    peer.request(7);
    // The rest of its body is not there yet.
    peer.answer(3);
    assert_eq!(peer.send(&headers(9, END, &get())), Ok(vec![refused(9)]));
    peer.send_quietly(&data(3, END, b""));
    peer.request(11);
}

#[test]
fn while_it_is_crowded_a_stream_beside_another_is_refused() {
    let mut peer = Peer::with(Limits::default());
    peer.connection.set_crowded(true);
    peer.request(1);
    let refused = ResetCause::Error(StreamError::TooManyStreams);
    let seen = peer.send(&headers(3, END, &get()));
    assert_eq!(seen, Ok(vec![Seen::Reset(3, None, refused)]));
    peer.answer(1);
    peer.request(5);
    peer.connection.set_crowded(false);
    peer.request(7);
}

#[test]
fn a_stream_error_of_a_window_is_that_of_one_stream() {
    let mut peer = Peer::with(Limits {
        connection_window: 1 << 20,
        body_discard: 1 << 20,
        ..Limits::default()
    });
    peer.request_with(1, 0, &[]);
    peer.request_with(3, 0, &[]);
    // Padding counts (RFC 9113, section 6.1). It is given back once half of the window is used.
    let padded = [&[255][..], &[0; 16_383]].concat();
    for _ in 0..100 {
        peer.send(&data(1, flag::PADDED, &padded)).unwrap();
    }
    let limited = Limits {
        body_discard: 0,
        connection_window: 1 << 20,
        ..Limits::default()
    };
    let mut peer = Peer::with(limited);
    peer.request_with(1, 0, &[]);
    let full = data(1, 0, &[0; 16_384]);
    let too_large = Seen::BodyTooLarge(1);
    assert_eq!(peer.send(&full), Ok(vec![too_large]));
    peer.send_quietly(&full);
    peer.send_quietly(&full);
    let window = vec![reset(1, StreamError::Window)];
    assert_eq!(peer.send(&full), Ok(window), "65,536");
}

#[test]
fn a_connection_window_holds_for_all_streams() {
    let mut peer = Peer::new();
    for stream in (1..9).step_by(2) {
        peer.request_with(stream, 0, &[]);
        peer.send_quietly(&data(stream, 0, &[0; 16_383]));
    }
    // Given back twice: at 32,766 and 65,532 of 65,535 bytes.
    let updates = peer.sent();
    let sum: u32 = updates
        .iter()
        .map(|sent| u32::from_be_bytes(sent.payload[..].try_into().unwrap()))
        .sum();
    assert_eq!(sum, 49_149, "more than half is needed for each");
}
