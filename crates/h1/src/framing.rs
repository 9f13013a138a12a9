//! The length of a request's body, and how the body is skipped (RFC 9112, sections 6 and 7).
//!
//! Two parties that disagree on where a body ends can be made to disagree on the next request
//! (request smuggling). Whatever does not have exactly one length is refused, not repaired.

use tidegate_http::{decimal, is_token, list};

use crate::{Error, Version};

/// Bytes of a chunk-size line with its extensions, and of the trailer section
/// with the line of the last chunk, inclusive.
const FRAMING_BYTES_MAX: u32 = 4096;

/// The body that follows a request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Nothing: the next request starts right behind the head.
    None,
    /// A body of this many bytes, never 0.
    Length(u64),
    /// A body in chunks (RFC 9112, section 7.1).
    Chunked,
}

/// The fields of a head that frame its body, collected one by one.
#[derive(Default)]
pub(crate) struct BodyFields {
    content_length: Option<u64>,
    transfer_encoding: Option<Codings>,
}

/// The transfer codings of all Transfer-Encoding lines so far.
#[derive(Clone, Copy, Default)]
struct Codings {
    chunked: u32,
    others: u32,
    last_is_chunked: bool,
}

impl BodyFields {
    /// A repeated field is refused even where it repeats the number (RFC 9112, section 6.3).
    pub(crate) fn content_length(&mut self, value: &[u8]) -> Result<(), Error> {
        let length = decimal(value).ok_or(Error::ContentLength)?;
        match self.content_length.replace(length) {
            None => Ok(()),
            Some(_) => Err(Error::ContentLength),
        }
    }

    pub(crate) fn transfer_encoding(&mut self, value: &[u8]) {
        let codings = self.transfer_encoding.get_or_insert_default();
        for coding in list(value) {
            codings.last_is_chunked = coding.eq_ignore_ascii_case(b"chunked");
            if codings.last_is_chunked {
                codings.chunked += 1;
            } else {
                codings.others += 1;
            }
        }
    }

    /// The framing, once all fields are collected.
    pub(crate) fn framing(&self, version: Version) -> Result<Framing, Error> {
        match (self.transfer_encoding, self.content_length) {
            (None, None | Some(0)) => Ok(Framing::None),
            (None, Some(length)) => Ok(Framing::Length(length)),
            (Some(_), Some(_)) => Err(Error::TwoLengths),
            (Some(_), None) if version == Version::Http10 => Err(Error::TransferEncoding),
            (Some(codings), None) => codings.framing(),
        }
    }
}

impl Codings {
    fn framing(self) -> Result<Framing, Error> {
        if !self.last_is_chunked || self.chunked > 1 {
            return Err(Error::TransferEncoding);
        }
        if self.others > 0 {
            return Err(Error::UnknownCoding);
        }
        Ok(Framing::Chunked)
    }
}

/// Skips the body of one request.
///
/// The bytes behind the head are fed to it, in pieces of any size, until it is done. It must not be
/// fed again after an error.
#[derive(Clone, Debug)]
pub struct Discard {
    body: Body,
    /// Bytes that may still be skipped.
    budget: u64,
}

/// The result of one [`Discard::feed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Discarded {
    /// Bytes of the input that belong to the body. The next request starts behind them.
    pub consumed: usize,
    /// Whether the body has ended.
    pub done: bool,
}

#[derive(Clone, Debug)]
enum Body {
    /// This many bytes are left.
    Length(u64),
    Chunked(Chunks),
}

/// Where in a chunked body the next byte is.
#[derive(Clone, Debug)]
struct Chunks {
    state: State,
    /// Data bytes of the chunk that are still to come.
    chunk: u64,
    /// Bytes since the last data: the size line, or the last one and the trailer section.
    line: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first digit of a size.
    Start,
    /// Behind a digit of a size.
    Size,
    /// In the whitespace in front of the `;` of an extension.
    Space,
    /// Behind that `;`.
    Extension,
    /// In the name of an extension.
    ExtensionName,
    /// In the whitespace behind the name.
    ExtensionSpace,
    /// Behind the `=` of an extension.
    ExtensionEquals,
    /// In its value, a token.
    ExtensionValue,
    /// In its value, a quoted string.
    Quoted,
    /// Behind a backslash in a quoted string.
    QuotedPair,
    /// Behind a quoted string.
    QuotedEnd,
    /// Behind the CR of a size line.
    SizeLf,
    /// In the data, or at its end.
    Data,
    /// Behind the CR that follows the data.
    DataLf,
    /// At the start of a line of the trailer section.
    Trailer,
    /// In the name of a trailer field.
    TrailerName,
    /// In its value.
    TrailerValue,
    /// Behind the CR that ends it.
    TrailerLf,
    /// Behind the CR of the line that ends the body.
    EndLf,
    /// Behind the body.
    End,
}

impl Discard {
    /// Skips the body that `framing` announces, at most `limit_bytes` of it, inclusive.
    /// For a chunked body the bytes on the wire count, so that framing cannot be sent without end.
    pub fn new(framing: Framing, limit_bytes: u64) -> Self {
        let body = match framing {
            Framing::None => Body::Length(0),
            Framing::Length(length) => Body::Length(length),
            Framing::Chunked => Body::Chunked(Chunks {
                state: State::Start,
                chunk: 0,
                line: 0,
            }),
        };
        Self {
            body,
            budget: limit_bytes,
        }
    }

    /// Skips the bytes of `input` that belong to the body.
    ///
    /// Fails with [`Error::BodyTooLarge`] as soon as the body is known to exceed the limit, even
    /// before its bytes arrive, and with [`Error::Chunk`] if it is malformed. The connection cannot
    /// persist after either.
    pub fn feed(&mut self, input: &[u8]) -> Result<Discarded, Error> {
        let step = match &mut self.body {
            Body::Length(left) if *left > self.budget => Err(Error::BodyTooLarge),
            Body::Length(left) => Ok(skip_length(left, input)),
            Body::Chunked(chunks) => chunks.skip(input, self.budget),
        }?;
        self.budget -= step.consumed as u64;
        Ok(step)
    }
}

fn skip_length(left: &mut u64, input: &[u8]) -> Discarded {
    let consumed = at_most(*left, input.len());
    *left -= consumed as u64;
    Discarded {
        consumed,
        done: *left == 0,
    }
}

/// The smaller of both.
fn at_most(bytes: u64, len: usize) -> usize {
    usize::try_from(bytes).map_or(len, |bytes| bytes.min(len))
}

impl Chunks {
    /// Skips at most `budget` bytes; one more is an error.
    fn skip(&mut self, input: &[u8], budget: u64) -> Result<Discarded, Error> {
        let allowed = &input[..at_most(budget, input.len())];
        let mut consumed = 0;
        while consumed < allowed.len() && self.state != State::End {
            let data = self.skip_data(&allowed[consumed..], budget - consumed as u64)?;
            consumed += data;
            if data == 0 {
                self.step(allowed[consumed])?;
                consumed += 1;
            }
        }
        let done = self.state == State::End;
        if !done && consumed < input.len() {
            return Err(Error::BodyTooLarge);
        }
        Ok(Discarded { consumed, done })
    }

    /// Skips data of the current chunk and returns the number of bytes. A chunk larger than the
    /// budget is refused before it arrives.
    fn skip_data(&mut self, input: &[u8], budget: u64) -> Result<usize, Error> {
        if self.state != State::Data {
            return Ok(0);
        }
        if self.chunk > budget {
            return Err(Error::BodyTooLarge);
        }
        let skipped = at_most(self.chunk, input.len());
        self.chunk -= skipped as u64;
        Ok(skipped)
    }

    /// Takes one byte that is not data.
    fn step(&mut self, byte: u8) -> Result<(), Error> {
        self.state = self.after(byte).ok_or(Error::Chunk)?;
        self.line = match self.state {
            State::Start | State::Data => 0,
            _ => self.line + 1,
        };
        if self.line > FRAMING_BYTES_MAX {
            return Err(Error::Chunk);
        }
        Ok(())
    }

    /// The state behind `byte`; `None` where the grammar has no such byte.
    fn after(&mut self, byte: u8) -> Option<State> {
        let state = match (self.state, byte) {
            (State::Start | State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.chunk = append_hex(self.chunk, byte)?;
                State::Size
            }
            (State::Size, b' ' | b'\t') => State::Space,
            (State::Size | State::Space, b';') => State::Extension,
            (State::Size, b'\r') => State::SizeLf,
            (State::SizeLf, b'\n') if self.chunk == 0 => State::Trailer,
            (State::SizeLf, b'\n') => State::Data,
            (State::Data, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Start,
            (State::Trailer, b'\r') => State::EndLf,
            (State::Trailer | State::TrailerName, _) if is_token(byte) => State::TrailerName,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerValue, _) if is_text(byte) => State::TrailerValue,
            (State::TrailerLf, b'\n') => State::Trailer,
            (State::EndLf, b'\n') => State::End,
            (state, _) => return state.in_extension(byte),
        };
        Some(state)
    }
}

impl State {
    /// The state behind `byte` in the extensions of a chunk (RFC 9112, section 7.1.1).
    ///
    /// No extension has a meaning here, yet they are parsed strictly: if one party takes a quote
    /// for the start of a string and another does not, they disagree on where the line ends.
    fn in_extension(self, byte: u8) -> Option<Self> {
        use State::{
            Extension, ExtensionEquals, ExtensionName, ExtensionSpace, ExtensionValue, Quoted,
            QuotedEnd, QuotedPair, SizeLf, Space,
        };
        match (self, byte) {
            (Space | Extension | ExtensionSpace | ExtensionEquals, b' ' | b'\t') => Some(self),
            (Extension | ExtensionName, _) if is_token(byte) => Some(ExtensionName),
            (ExtensionName, b' ' | b'\t') => Some(ExtensionSpace),
            (ExtensionName | ExtensionSpace, b'=') => Some(ExtensionEquals),
            (ExtensionEquals, b'"') => Some(Quoted),
            (ExtensionEquals | ExtensionValue, _) if is_token(byte) => Some(ExtensionValue),
            (Quoted, b'"') => Some(QuotedEnd),
            (Quoted, b'\\') => Some(QuotedPair),
            (Quoted | QuotedPair, _) if is_text(byte) => Some(Quoted),
            (ExtensionValue | QuotedEnd, b' ' | b'\t') => Some(Space),
            (ExtensionName | ExtensionSpace | ExtensionValue | QuotedEnd, b';') => Some(Extension),
            (ExtensionName | ExtensionValue | QuotedEnd, b'\r') => Some(SizeLf),
            _ => None,
        }
    }
}

/// Appends a hexadecimal digit to a chunk size; `None` above 64 bits.
fn append_hex(size: u64, digit: u8) -> Option<u64> {
    let digit = char::from(digit).to_digit(16)?;
    Some(size.checked_mul(16)? | u64::from(digit))
}

/// A byte of a field value or a chunk extension: no control but the tab.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: u64 = 100_000;

    /// Feeds `input` in two pieces. The unused rest of the first is put before the second.
    fn feed_split(
        framing: Framing,
        limit: u64,
        input: &[u8],
        at: usize,
    ) -> Result<Discarded, Error> {
        let mut discard = Discard::new(framing, limit);
        let first = discard.feed(&input[..at])?;
        assert!(
            first.done || first.consumed == at,
            "all of the body is taken"
        );
        let second = discard.feed(&input[first.consumed..])?;
        Ok(Discarded {
            consumed: first.consumed + second.consumed,
            done: second.done,
        })
    }

    /// Feeds `input` one byte at a time.
    fn feed_bytes(framing: Framing, limit: u64, input: &[u8]) -> Result<Discarded, Error> {
        let mut discard = Discard::new(framing, limit);
        let mut total = discard.feed(b"")?;
        while !total.done && total.consumed < input.len() {
            let step = discard.feed(&input[total.consumed..=total.consumed])?;
            total = Discarded {
                consumed: total.consumed + step.consumed,
                done: step.done,
            };
        }
        Ok(total)
    }

    #[track_caller]
    fn check(
        framing: Framing,
        limit: u64,
        input: &[u8],
        expected: Result<Discarded, Error>,
        why: &str,
    ) {
        let whole = Discard::new(framing, limit).feed(input);
        assert_eq!(whole, expected, "{why}: whole");
        assert_eq!(
            feed_bytes(framing, limit, input),
            expected,
            "{why}: in single bytes"
        );
        for at in 0..=input.len() {
            let split = feed_split(framing, limit, input, at);
            assert_eq!(split, expected, "{why}: split at {at}");
        }
    }

    fn done(consumed: usize) -> Discarded {
        Discarded {
            consumed,
            done: true,
        }
    }

    fn more(consumed: usize) -> Discarded {
        Discarded {
            consumed,
            done: false,
        }
    }

    #[test]
    fn bodies_of_known_length_are_skipped() {
        #[rustfmt::skip] // one row a line
        let cases: &[(Framing, &[u8], Discarded, &str)] = &[
            (Framing::None, b"", done(0), "no body, nothing behind it"),
            (Framing::None, b"GET /", done(0), "no body, then the next request"),
            (Framing::Length(5), b"hello", done(5), "a body"),
            (Framing::Length(5), b"helloGET /", done(5), "a body, then the next request"),
            (Framing::Length(5), b"hel", more(3), "a part of a body"),
            (Framing::Length(5), b"", more(0), "nothing of a body"),
        ];
        for (framing, input, expected, why) in cases {
            check(*framing, 5, input, Ok(*expected), why);
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_the_body_comes() {
        for length in [6, u64::MAX] {
            let refused = Discard::new(Framing::Length(length), 5).feed(b"");
            assert_eq!(refused, Err(Error::BodyTooLarge), "{length}");
        }
    }

    #[test]
    fn chunked_bodies_are_skipped() {
        #[rustfmt::skip] // one row a line
        let cases: &[(&[u8], usize, &str)] = &[
            (b"0\r\n\r\n", 5, "an empty body"),
            (b"5\r\nhello\r\n0\r\n\r\n", 15, "one chunk"),
            (b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\nGET / ", 21, "then the next request"),
            (b"0a\r\n0123456789\r\n0\r\n\r\n", 21, "hexadecimal, a leading zero"),
            (b"A\r\n0123456789\r\n000\r\n\r\n", 22, "capital digit; 1*(\"0\") ends it: 7.1"),
            (b"2\r\n\r\n\r\n0\r\n\r\n", 12, "data that looks like a line end"),
            (b"1;a=b;c=\"d\"\r\nx\r\n0;e\r\n\r\n", 23, "extensions are ignored: 7.1.1"),
            (b"1 \t; a\r\nx\r\n0\r\n\r\n", 16, "whitespace before an extension: 7.1.1"),
            (b"1;a = b ;c\t=\t\"d\" ; e;f\r\nx\r\n0\r\n\r\n", 32, "and within: 7.1.1"),
            (b"1;a=\"b;\\\"\\c =\xff\"\r\nx\r\n0\r\n\r\n", 25, "a quoted string: RFC 9110, 5.6.4"),
            (b"0\r\nA: b\r\nC:\r\n\r\n", 15, "a trailer section is dropped: 7.1.2"),
        ];
        for (input, consumed, why) in cases {
            check(Framing::Chunked, LIMIT, input, Ok(done(*consumed)), why);
            for cut in 0..*consumed {
                check(Framing::Chunked, LIMIT, &input[..cut], Ok(more(cut)), why);
            }
        }
    }

    #[test]
    fn malformed_chunks_are_refused() {
        let cases: &[(&[u8], &str)] = &[
            (b"\r\n", "no size: 7.1 wants 1*HEXDIG"),
            (b" 5\r\n", "whitespace before the size"),
            (b"5 \r\n", "whitespace behind the size and no extension"),
            (b"5\nhello", "bare LF behind the size"),
            (b"5\rhello", "bare CR behind the size"),
            (b"-1\r\n", "a sign"),
            (b"0x5\r\n", "a prefix"),
            (b"5g\r\n", "no hexadecimal digit"),
            (b"10000000000000000\r\n", "a size of 2^64"),
            (b"5;a\nhello", "bare LF behind an extension"),
            (b"5;a=\"\nhello", "bare LF within a quoted string"),
            (b"5;a\rhello", "bare CR behind an extension"),
            (b"5\r\r;hello", "a second CR"),
            (b"5;\r\n", "no extension: 7.1.1"),
            (b"5;a;\r\n", "no second extension"),
            (b"5;a=\r\n", "no value"),
            (b"5;=b\r\n", "no name"),
            (b"5;a b\r\n", "two names"),
            (b"5;a=b c\r\n", "two values"),
            (b"5;a=\"b\"c\r\n", "something behind a quoted string"),
            (b"5;a=b\"c\"\r\n", "a quote within a token"),
            (b"5;a=\"b\r\n", "a quoted string that is not closed"),
            (b"5;a=\"b\\\r\n", "a quoted line end"),
            (b"5;a=\"b\x7f\"\r\n", "a control in a quoted string"),
            (b"5;\"a\"\r\n", "a quoted name"),
            (b"5;a \r\n", "whitespace behind a name"),
            (b"5;a=b \r\n", "whitespace behind a value"),
            (b"5;a\xff\r\n", "not ASCII"),
            (b"5,a\r\n", "an extension behind a comma"),
            (b"5 a\r\n", "an extension behind a space"),
            (b"+5\r\n", "a plus"),
            (b"5_0\r\n", "a separator of digits"),
            (b"5h\r\n", "another letter"),
            (b"5\r\nhello5\r\n", "no line end behind the data"),
            (b"5\r\nhello\r\n\r\n", "an empty line for the next size"),
            (b"5;a\0\r\n", "a control in an extension"),
            (b"5\r\nhello!\r\n", "more data than the size says"),
            (b"5\r\nhello\n", "bare LF behind the data"),
            (b"5\r\nhello\r0", "bare CR behind the data"),
            (b"0\r\n\n", "bare LF at the end"),
            (b"0\r\n\rG", "bare CR at the end"),
            (b"0\r\n a: b\r\n", "a folded trailer line"),
            (b"0\r\na : b\r\n", "whitespace before a trailer's colon"),
            (b"0\r\n: b\r\n", "a trailer without a name"),
            (b"0\r\nab\r\n", "a trailer without a colon"),
            (b"0\r\na: b\n", "bare LF behind a trailer"),
            (b"0\r\na: b\rc", "bare CR behind a trailer"),
        ];
        for (input, why) in cases {
            check(Framing::Chunked, LIMIT, input, Err(Error::Chunk), why);
        }
    }

    #[test]
    fn chunked_bodies_are_bounded() {
        let body = b"5\r\nhello\r\n0\r\n\r\n";
        let large = Err(Error::BodyTooLarge);
        check(
            Framing::Chunked,
            15,
            body,
            Ok(done(15)),
            "exactly the limit",
        );
        check(
            Framing::Chunked,
            14,
            body,
            large,
            "one byte more than the limit",
        );
        check(Framing::Chunked, 7, body, large, "a chunk beyond the limit");
        check(
            Framing::Chunked,
            LIMIT,
            b"ffffffffffffffff\r\nx",
            large,
            "the largest size is refused before its data comes",
        );
        check(
            Framing::Chunked,
            20,
            b"5\r\nhello\r\nf\r\nx",
            large,
            "a second chunk beyond what is left of the limit",
        );
    }

    #[test]
    fn framing_lines_are_bounded() {
        let refused = Err(Error::Chunk);
        let mut extension = b"1;".to_vec();
        extension.resize(5000, b'a');
        assert_eq!(
            Discard::new(Framing::Chunked, LIMIT).feed(&extension),
            refused
        );
        let zeros = [b'0'; 5000];
        assert_eq!(Discard::new(Framing::Chunked, LIMIT).feed(&zeros), refused);
        let trailers = [b"0\r\n".as_slice(), &b"a: b\r\n".repeat(1000)].concat();
        assert_eq!(
            Discard::new(Framing::Chunked, LIMIT).feed(&trailers),
            refused
        );
        // Each chunk has its own bound: many short ones may be longer in all.
        let chunks = [b"1\r\nx\r\n".repeat(1000).as_slice(), b"0\r\n\r\n"].concat();
        let whole = Discard::new(Framing::Chunked, LIMIT).feed(&chunks);
        assert_eq!(whole, Ok(done(chunks.len())));
    }

    #[test]
    fn numbers_are_digits_only() {
        let cases: &[(&[u8], Option<u64>)] = &[
            (b"0", Some(0)),
            (b"007", Some(7)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"99999999999999999999", None),
            (b"", None),
            (b"+1", None),
            (b"-1", None),
            (b"1 2", None),
            (b"0x1", None),
            (b"1,1", None),
        ];
        for (value, expected) in cases {
            assert_eq!(decimal(value), *expected, "{}", value.escape_ascii());
        }
    }

    /// Chunked bodies made of what matters to parsing.
    fn tricky_body() -> impl Strategy<Value = Vec<u8>> {
        let part = prop::sample::select(vec![
            "0\r\n",
            "1\r\nx\r\n",
            "2;a\r\nxy\r\n",
            "0;a\r\n",
            "3\r\n\r\n\r\n",
            "a: b\r\n",
            "\r\n",
            "\r\n",
            "\n",
            "\r",
            "f",
            "0",
            ";",
            " ",
            ":",
            "x",
            "\0",
        ]);
        prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn a_split_changes_nothing(
            body in tricky_body(),
            limit in 0..40_u64,
            at in any::<prop::sample::Index>(),
        ) {
            let whole = Discard::new(Framing::Chunked, limit).feed(&body);
            let at = at.index(body.len() + 1);
            prop_assert_eq!(feed_split(Framing::Chunked, limit, &body, at), whole);
            prop_assert_eq!(feed_bytes(Framing::Chunked, limit, &body), whole);
            if let Ok(step) = whole {
                prop_assert!(step.consumed <= body.len() && step.consumed as u64 <= limit);
                prop_assert!(step.done || step.consumed == body.len());
            }
        }
    }
}
