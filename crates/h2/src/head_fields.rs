//! From a header block to a request head, and the rules for its fields (RFC 9113, sections 8.2 and
//! 8.3).

use std::ops::Range;

use tidegate_http::{Method, decimal, is_token};

use crate::head_buffer::HeadBuffer;
use crate::hpack::{Decoder, Error};
use crate::{Limits, RequestError, StreamError};

/// Decodes a header block of a request into `buffer`, and returns the size of its list. The inner
/// error says that the request is malformed, the outer one that the connection is.
pub(crate) fn decode_request(
    decoder: &mut Decoder,
    block: &[u8],
    limits: &Limits,
    buffer: &mut HeadBuffer,
) -> Result<(usize, Result<(), StreamError>), Error> {
    buffer.clear(block.len());
    let mut scratch = std::mem::take(&mut buffer.scratch);
    let mut fields = HeadFields::new(buffer, limits.headers);
    let limit = limits.header_list as usize;
    let size = decoder.decode(block, limit, &mut scratch, |name, value| {
        fields.add(name, value);
    });
    let finished = size.map(|size| (size, fields.finish(size > limit)));
    buffer.scratch = scratch;
    finished
}

/// Decodes a trailer section, which is checked and dropped. Returns as [`decode_request`] does.
pub(crate) fn decode_trailers(
    decoder: &mut Decoder,
    block: &[u8],
    limits: &Limits,
    buffer: &mut HeadBuffer,
) -> Result<(usize, Result<(), StreamError>), Error> {
    let mut checked = Ok(());
    let limit = limits.header_list as usize;
    let size = decoder.decode(block, limit, &mut buffer.scratch, |name, value| {
        if checked.is_ok() {
            checked = match name {
                [b':', ..] => Err(StreamError::Trailers),
                _ => check_field(name, value),
            };
        }
    })?;
    Ok((size, checked))
}

/// Decodes a header block that is ignored: the dynamic table must be that of the peer. Returns the
/// size of its list.
pub(crate) fn decode_ignored(
    decoder: &mut Decoder,
    block: &[u8],
    limits: &Limits,
    buffer: &mut HeadBuffer,
) -> Result<usize, Error> {
    let limit = limits.header_list as usize;
    decoder.decode(block, limit, &mut buffer.scratch, |_, _| {})
}

/// The fields of a request, collected one by one.
struct HeadFields<'b> {
    buffer: &'b mut HeadBuffer,
    /// Pseudo-header fields, by their values in `text`.
    method: Option<Range<usize>>,
    scheme: Option<Range<usize>>,
    authority: Option<Range<usize>>,
    path: Option<Range<usize>>,
    /// Whether a field that is no pseudo-header field was there.
    is_behind_pseudo: bool,
    has_host_field: bool,
    /// Field lines that may still come.
    headers_left: usize,
    error: Result<(), StreamError>,
}

impl<'b> HeadFields<'b> {
    fn new(buffer: &'b mut HeadBuffer, headers: usize) -> Self {
        Self {
            buffer,
            method: None,
            scheme: None,
            authority: None,
            path: None,
            is_behind_pseudo: false,
            has_host_field: false,
            headers_left: headers,
            error: Ok(()),
        }
    }

    /// After an error everything is ignored.
    #[inline]
    fn add(&mut self, name: &[u8], value: &[u8]) {
        if self.error.is_err() {
            return;
        }
        self.error = match name.first() {
            Some(b':') => self.add_pseudo(name, value),
            _ => self.add_field(name, value),
        };
    }

    /// RFC 9113, section 8.3: in front of all others, once, and none but these.
    fn add_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), StreamError> {
        let place = match name {
            b":method" => &mut self.method,
            b":scheme" => &mut self.scheme,
            b":authority" => &mut self.authority,
            b":path" => &mut self.path,
            _ => return Err(StreamError::PseudoHeader),
        };
        if self.is_behind_pseudo || place.is_some() || !is_value(value) {
            return Err(StreamError::PseudoHeader);
        }
        *place = Some(append(value, &mut self.buffer.text));
        Ok(())
    }

    fn add_field(&mut self, name: &[u8], value: &[u8]) -> Result<(), StreamError> {
        if !self.is_behind_pseudo {
            self.end_pseudo();
        }
        check_field(name, value)?;
        // Crumbs are one field, as they are in HTTP/1.1.
        let is_crumb = name == b"cookie" && !self.buffer.cookies.is_empty();
        if !is_crumb && self.headers_left == 0 {
            self.buffer.head.refused = Some(RequestError::TooManyFields);
            return Ok(());
        }
        self.headers_left -= usize::from(!is_crumb);
        // The length of a name rules out nearly every other field.
        match name.len() {
            4 if name == b"host" => return self.add_host(value),
            6 if name == b"cookie" => {
                self.add_cookie(value);
                return Ok(());
            }
            8 if name == b"priority" => {
                let priority = self.buffer.head.priority.get_or_insert_default();
                priority.apply(value);
            }
            14 if name == b"content-length" => self.add_content_length(value)?,
            _ => {
                let start = self.buffer.lines.len();
                self.buffer.head.index.note(name, start);
            }
        }
        append_line(name, value, &mut self.buffer.lines);
        Ok(())
    }

    /// The same as `:authority` where both are there (RFC 9113, section 8.3.1). A second one is an
    /// error whatever its value (RFC 9112, section 3.2).
    fn add_host(&mut self, value: &[u8]) -> Result<(), StreamError> {
        if self.has_host_field {
            self.buffer.head.refused = Some(RequestError::Host);
            return Ok(());
        }
        self.has_host_field = true;
        if let Some(authority) = &self.authority {
            let is_same = self.buffer.text[authority.clone()].eq_ignore_ascii_case(value);
            return is_same.then_some(()).ok_or(StreamError::HostMismatch);
        }
        self.buffer.head.host = Some(append(value, &mut self.buffer.text));
        append_line(b"host", value, &mut self.buffer.lines);
        Ok(())
    }

    /// One value of all crumbs (RFC 9113, section 8.2.3).
    fn add_cookie(&mut self, crumb: &[u8]) {
        let cookies = &mut self.buffer.cookies;
        if !cookies.is_empty() {
            cookies.extend_from_slice(b"; ");
        }
        cookies.extend_from_slice(crumb);
    }

    /// A repeated field is refused even where it repeats the number (RFC 9112, section 6.3).
    fn add_content_length(&mut self, value: &[u8]) -> Result<(), StreamError> {
        let length = decimal(value).ok_or(StreamError::ContentLength)?;
        match self.buffer.head.content_length.replace(length) {
            None => Ok(()),
            Some(_) => Err(StreamError::ContentLength),
        }
    }

    /// Writes the request line, and `:authority` as a Host line.
    fn end_pseudo(&mut self) {
        self.is_behind_pseudo = true;
        let HeadBuffer {
            text, lines, head, ..
        } = &mut *self.buffer;
        let method = self.method.clone().unwrap_or_default();
        head.method = Method::of(&text[method.clone()]);
        head.is_connect = &text[method.clone()] == b"CONNECT";
        let target = if head.is_connect {
            &self.authority
        } else {
            &self.path
        };
        head.target = target.clone().unwrap_or_default();
        if let Some(authority) = &self.authority {
            append_line(b"host", &text[authority.clone()], lines);
            head.host = Some(authority.clone());
        }
        let start = text.len();
        text.reserve(method.len() + head.target.len() + 16);
        text.extend_from_within(method);
        text.push(b' ');
        text.extend_from_within(head.target.clone());
        text.extend_from_slice(b" HTTP/2.0");
        head.request_line = start..text.len();
    }

    /// What is wrong with the request as a whole. Pseudo-header fields may be missing if there are
    /// more fields than the limit.
    fn finish(mut self, is_too_large: bool) -> Result<(), StreamError> {
        self.error?;
        if !self.is_behind_pseudo {
            self.end_pseudo();
        }
        if is_too_large {
            self.buffer.head.refused = Some(RequestError::HeadTooLarge);
        } else {
            self.check_pseudo()?;
        }
        let HeadBuffer { lines, cookies, .. } = &mut *self.buffer;
        if !cookies.is_empty() {
            append_line(b"cookie", cookies, lines);
        }
        Ok(())
    }

    /// RFC 9113, sections 8.3.1 and 8.5. The scheme is not compared with that of the connection: a
    /// proxy may have ended TLS.
    fn check_pseudo(&self) -> Result<(), StreamError> {
        let text = |range: &Option<Range<usize>>| Some(&self.buffer.text[range.clone()?]);
        let method = text(&self.method).unwrap_or_default();
        let scheme = text(&self.scheme);
        let path = text(&self.path);
        let has_target = if self.buffer.head.is_connect {
            self.authority.is_some() && scheme.is_none() && path.is_none()
        } else {
            let path = path.unwrap_or_default();
            // A space in it would end the target in the request line of a log.
            let is_path = path.starts_with(b"/") && !path.contains(&b' ');
            (is_path || path == b"*") && scheme.is_some_and(is_scheme)
        };
        let is_method = match self.buffer.head.method {
            Method::Unknown => !method.is_empty() && method.iter().all(|byte| is_token(*byte)),
            _ => true,
        };
        if is_method && has_target {
            Ok(())
        } else {
            Err(StreamError::PseudoHeader)
        }
    }
}

/// Appends a text, and returns where it is.
fn append(value: &[u8], out: &mut Vec<u8>) -> Range<usize> {
    let start = out.len();
    out.extend_from_slice(value);
    start..out.len()
}

/// Appends a field line.
fn append_line(name: &[u8], value: &[u8], lines: &mut Vec<u8>) {
    lines.reserve(name.len() + value.len() + 4);
    lines.extend_from_slice(name);
    lines.extend_from_slice(b": ");
    lines.extend_from_slice(value);
    lines.extend_from_slice(b"\r\n");
}

/// RFC 9113, sections 8.2.1 and 8.2.2.
#[inline]
fn check_field(name: &[u8], value: &[u8]) -> Result<(), StreamError> {
    if !is_name(name) {
        return Err(StreamError::FieldName);
    }
    if !is_value(value) {
        return Err(StreamError::FieldValue);
    }
    let is_of_connection = match name.len() {
        2 => name == b"te" && !value.eq_ignore_ascii_case(b"trailers"),
        7 => name == b"upgrade",
        10 => name == b"connection" || name == b"keep-alive",
        16 => name == b"proxy-connection",
        17 => name == b"transfer-encoding",
        _ => false,
    };
    if is_of_connection {
        return Err(StreamError::ConnectionField);
    }
    Ok(())
}

/// Whether a field may have this name: a token (RFC 9110, section 5.6.2) in lower case.
#[inline]
fn is_name(name: &[u8]) -> bool {
    // Nearly all names have nothing else.
    let is_rare = any(name, |byte| {
        let is_letter = u8::from(byte.wrapping_sub(b'a') < 26);
        let is_digit = u8::from(byte.wrapping_sub(b'0') < 10);
        let is_hyphen = u8::from(byte == b'-');
        1 - (is_letter | is_digit | is_hyphen)
    });
    !name.is_empty() && (!is_rare || is_rare_name(name))
}

#[cold]
fn is_rare_name(name: &[u8]) -> bool {
    let is_byte = |byte: &u8| is_token(*byte) && !byte.is_ascii_uppercase();
    name.iter().all(is_byte)
}

/// Whether a field may have this value: no control character but a tab (RFC 9110, section 5.5), no
/// whitespace at its ends (RFC 9113, section 8.2.1).
#[inline]
fn is_value(value: &[u8]) -> bool {
    let has_control = any(value, |byte| {
        let is_low = u8::from(byte < b' ');
        let is_no_tab = u8::from(byte != b'\t');
        (is_low & is_no_tab) | u8::from(byte == 0x7f)
    });
    !has_control && !matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t'])
}

/// Whether any byte is of a kind: `is_one` returns 1 for it, and 0 for others. It has no branch for
/// each, and pieces of a fixed length where the last may overlap, so that it compiles to SIMD for
/// short texts, too.
#[inline]
fn any(bytes: &[u8], is_one: impl Fn(u8) -> u8 + Copy) -> bool {
    if let Some(last) = bytes.last_chunk::<16>() {
        let (chunks, _) = bytes.as_chunks::<16>();
        let in_chunks = chunks.iter().any(|chunk| any_of(chunk, is_one));
        in_chunks || any_of(last, is_one)
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        any_of(first, is_one) || any_of(last, is_one)
    } else {
        bytes.iter().any(|byte| is_one(*byte) == 1)
    }
}

#[inline]
fn any_of<const N: usize>(bytes: &[u8; N], is_one: impl Fn(u8) -> u8) -> bool {
    bytes.iter().fold(0, |any, byte| any | is_one(*byte)) != 0
}

/// RFC 3986, section 3.1.
fn is_scheme(scheme: &[u8]) -> bool {
    if matches!(scheme, b"https" | b"http") {
        return true;
    }
    let is_rest = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
    scheme.first().is_some_and(u8::is_ascii_alphabetic) && scheme.iter().all(is_rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever the piece that a byte is in.
    #[test]
    fn a_bad_byte_is_found_at_any_place() {
        for len in 1..50 {
            assert!(is_name(&vec![b'a'; len]) && is_value(&vec![b'a'; len]));
            for at in 0..len {
                let with = |byte| {
                    let mut text = vec![b'a'; len];
                    text[at] = byte;
                    text
                };
                for byte in 0..=u8::MAX {
                    let is_end = at == 0 || at == len - 1;
                    let is_valid = match byte {
                        b' ' | b'\t' => !is_end,
                        _ => !byte.is_ascii_control(),
                    };
                    assert_eq!(is_value(&with(byte)), is_valid, "{byte} at {at} of {len}");
                    let is_valid = is_token(byte) && !byte.is_ascii_uppercase();
                    assert_eq!(is_name(&with(byte)), is_valid, "{byte} at {at} of {len}");
                }
            }
        }
        assert!(!is_name(b"") && is_value(b""));
    }
}
