//! Streams that their peer ends with the bytes that it opens them with.

use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, MAX_31_BITS, flag, kind};

/// The streams that are over at the end of the input that is being received: their peer resets
/// them, or makes this side reset them. They need no answer, so a flood of them costs little.
#[derive(Debug, Default)]
pub(crate) struct Ahead(Option<Box<Ended>>);

/// Streams by their numbers, and whether each ends only if its request is whole before. The lowest
/// is the last.
#[derive(Debug)]
struct Ended(Vec<(u32, bool)>);

/// A new stream, and what is known when it opens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub(crate) number: u32,
    pub(crate) end_stream: bool,
    /// Its send window.
    pub(crate) window: u32,
}

impl Ahead {
    /// Those from this one on that end in `rest`, the input behind its header block.
    pub(crate) fn of(first: Opening, rest: &[u8]) -> Self {
        let ended = scan(first, rest);
        Self((!ended.is_empty()).then(|| Box::new(Ended(ended))))
    }

    /// Whether a stream that opens is one of them. Numbers must not decrease.
    #[inline]
    pub(crate) fn ends(&mut self, stream: Opening) -> bool {
        let Some(ended) = &mut self.0 else {
            return false;
        };
        let mut ends = false;
        while let Some((number, if_whole)) = ended.0.last().copied()
            && number <= stream.number
        {
            ends |= number == stream.number && (stream.end_stream || !if_whole);
            ended.0.pop();
        }
        ends
    }
}

/// What ends streams, from this one on, in the whole frames of `input`.
fn scan(first: Opening, mut input: &[u8]) -> Vec<(u32, bool)> {
    let mut ended = Vec::new();
    let mut highest = first.number;
    // Until it may change.
    let mut window = Some(first.window);
    while let Some((header, rest)) = input.split_first_chunk::<FRAME_HEADER_BYTES>() {
        let header = FrameHeader::parse(*header);
        let Some((payload, rest)) = rest.split_at_checked(header.len) else {
            break;
        };
        input = rest;
        match header.kind {
            kind::HEADERS if header.stream > highest => highest = header.stream,
            kind::SETTINGS => window = None,
            _ if header.stream < first.number => {}
            // These need the request to be whole.
            kind::DATA => ended.push((header.stream, true)),
            kind::HEADERS if header.has(flag::END_HEADERS) => ended.push((header.stream, true)),
            _ if is_end(header, payload, window) => ended.push((header.stream, false)),
            _ => {}
        }
    }
    ended.sort_unstable_by(|a, b| b.cmp(a));
    ended
}

/// Whether a frame on an open stream ends it, whatever came before: RST_STREAM, and mistakes. If it
/// is wrong in another way it ends the connection.
fn is_end(header: FrameHeader, payload: &[u8], window: Option<u32>) -> bool {
    let number = payload
        .first_chunk()
        .map(|bytes| u32::from_be_bytes(*bytes) & MAX_31_BITS);
    match header.kind {
        kind::RST_STREAM => true,
        kind::WINDOW_UPDATE => number.is_none_or(|increment| {
            increment == 0 || window.is_some_and(|window| increment > MAX_31_BITS - window)
        }),
        kind::PRIORITY => payload.len() != 5 || number == Some(header.stream),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{data, frame, headers, settings, window_update};

    const RESET: [u8; 4] = [0; 4];

    /// Whether the stream 5 ends by what is behind its head.
    fn ends(end_stream: bool, rest: &[u8]) -> bool {
        let opening = Opening {
            number: 5,
            end_stream,
            window: 65_535,
        };
        Ahead::of(opening, rest).ends(opening)
    }

    #[test]
    fn what_ends_a_stream() {
        let (max, trailers) = (MAX_31_BITS, headers(5, flag::END_STREAM, b""));
        let cases = [
            ("nothing", false, vec![]),
            ("a reset", true, frame(kind::RST_STREAM, 0, 5, &RESET)),
            ("another's", false, frame(kind::RST_STREAM, 0, 7, &RESET)),
            ("a window", false, window_update(5, max - 65_535)),
            ("a window of 0", true, window_update(5, 0)),
            (
                "one that is too large",
                true,
                window_update(5, max - 65_534),
            ),
            ("a priority", false, frame(kind::PRIORITY, 0, 5, &[0; 5])),
            ("its length", true, frame(kind::PRIORITY, 0, 5, &[0; 4])),
            (
                "on itself",
                true,
                frame(kind::PRIORITY, 0, 5, &[0, 0, 0, 5, 0]),
            ),
        ];
        for (name, is_end, frame) in cases {
            assert_eq!(ends(false, &frame), is_end, "{name}");
            assert_eq!(ends(true, &frame), is_end, "{name}, of a whole request");
            let cut = &frame[..frame.len().saturating_sub(1)];
            assert!(!ends(true, cut), "{name}, in part");
            let behind = [window_update(0, 1), headers(7, 0, b"ab"), frame].concat();
            assert_eq!(ends(true, &behind), is_end, "{name}, behind others");
        }
        for frame in [data(5, 0, b"a"), trailers] {
            assert!(ends(true, &frame), "its request is whole");
            assert!(!ends(false, &frame), "it goes on");
        }
        let begun = frame(kind::HEADERS, 0, 5, b"");
        assert!(!ends(true, &begun), "the rest of the block may not come");
        let window = [settings(4, 0), window_update(5, max - 1)].concat();
        assert!(!ends(true, &window), "the window may be another");
    }

    #[test]
    fn each_stream_has_its_own_end() {
        let rest: Vec<u8> = [9, 5, 7, 13]
            .iter()
            .flat_map(|number| frame(kind::RST_STREAM, 0, *number, &RESET))
            .collect();
        let opening = |number| Opening {
            number,
            end_stream: true,
            window: 0,
        };
        let mut ahead = Ahead::of(opening(5), &rest);
        let ended = [5, 9, 11, 13, 15].map(|number| ahead.ends(opening(number)));
        assert_eq!(ended, [true, true, false, true, false]);
        assert!(!Ahead::default().ends(opening(5)));
    }
}
