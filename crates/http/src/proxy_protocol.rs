//! The header of the PROXY protocol, versions 1 and 2 (`proxy-protocol.txt` of `HAProxy`).

use std::net::IpAddr;

use memchr::memmem;
use proxy_header::{Error, ParseConfig};

/// How a header of version 1 begins.
const V1_START: &[u8] = b"PROXY ";

/// The most bytes of a header of version 1, with its line end (section 2.1).
const V1_BYTES_MAX: usize = 107;

/// How a header of version 2 begins (section 2.2).
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// With so many bytes of it no request begins: empty lines, and a NUL.
const NO_REQUEST_BYTES: usize = 5;

/// Where the length of what follows it is in a header of version 2, and the bytes up to its end.
const V2_LENGTH: std::ops::Range<usize> = 14..16;

/// The most bytes of a header of version 2, with its TLVs: as many as nginx takes.
const V2_BYTES_MAX: usize = 4096;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyHeader {
    /// No header.
    Absent,
    /// Part of a header: all of these bytes belong to it, if it is one.
    Partial,
    /// A header.
    Complete {
        /// Its bytes.
        len: usize,
        /// `None` if it names none: the proxy itself is the client (a health check), or the address
        /// is not one of IP.
        client: Option<IpAddr>,
    },
}

/// Why bytes that begin as a header are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProxyHeaderError {
    /// It is longer than any header may be.
    #[error("the PROXY header is too long")]
    Oversized,
    /// It is not what the protocol says.
    #[error("the PROXY header is malformed")]
    Malformed,
}

/// Parses the first bytes of a connection.
///
/// # Errors
///
/// They begin as a header and are none.
pub fn proxy_header(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    if bytes.starts_with(V1_START) {
        return parse_v1(&bytes[..bytes.len().min(V1_BYTES_MAX)]);
    }
    if bytes.starts_with(V2_START) {
        let length = bytes.get(V2_LENGTH).and_then(|bytes| bytes.try_into().ok());
        let Some(length) = length.map(u16::from_be_bytes) else {
            return Ok(ProxyHeader::Partial);
        };
        let end = V2_LENGTH.end + usize::from(length);
        if end > V2_BYTES_MAX {
            return Err(ProxyHeaderError::Oversized);
        }
        return parse(bytes, end);
    }
    if V1_START.starts_with(bytes) || V2_START.starts_with(bytes) {
        return Ok(ProxyHeader::Partial);
    }
    Ok(ProxyHeader::Absent)
}

/// Whether `bytes`, which are no request, begin as a header does.
#[must_use]
pub fn is_proxy_header(bytes: &[u8]) -> bool {
    bytes.starts_with(V1_START) || bytes.starts_with(&V2_START[..NO_REQUEST_BYTES])
}

/// Parses a header of version 1: the first line, or what there is of it.
fn parse_v1(bytes: &[u8]) -> Result<ProxyHeader, ProxyHeaderError> {
    let Some(line_end) = memmem::find(bytes, b"\r\n") else {
        // What is malformed already is not oversized as well.
        let parsed = parse(&bytes[..bytes.len().min(V1_BYTES_MAX - 1)], V1_BYTES_MAX)?;
        if bytes.len() == V1_BYTES_MAX {
            return Err(ProxyHeaderError::Oversized);
        }
        return Ok(parsed);
    };
    let end = line_end + 2;
    let parsed = parse(&bytes[..end], end)?;
    if !has_exact_words(&bytes[..line_end]) {
        return Err(ProxyHeaderError::Malformed);
    }
    Ok(parsed)
}

/// Whether no word of a line is one that the parser takes and the protocol does not know: a port
/// with a sign or with zeros before it, a family that only begins as one.
fn has_exact_words(line: &[u8]) -> bool {
    let mut words = line.split(|byte| *byte == b' ').skip(1);
    match words.next() {
        Some(b"UNKNOWN") => true,
        Some(b"TCP4" | b"TCP6") => words
            .skip(2)
            .all(|port| port == b"0" || matches!(port, [b'1'..=b'9', ..])),
        _ => false,
    }
}

/// Parses a header that has at most `end` bytes.
fn parse(bytes: &[u8], end: usize) -> Result<ProxyHeader, ProxyHeaderError> {
    let config = ParseConfig {
        include_tlvs: false,
        ..ParseConfig::default()
    };
    match proxy_header::ProxyHeader::parse(bytes, config) {
        Ok((header, len)) => Ok(ProxyHeader::Complete {
            len,
            client: header
                .proxied_address()
                .map(|address| address.source.ip().to_canonical()),
        }),
        Err(Error::BufferTooShort) if bytes.len() < end => Ok(ProxyHeader::Partial),
        Err(_) => Err(ProxyHeaderError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 2: `command` with its version, family and protocol, and what follows the
    /// length.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut header = V2_START.to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        header.extend(rest);
        header
    }

    /// Addresses 1.2.3.4:80 and 10.0.0.1:81.
    const V4: [u8; 12] = [1, 2, 3, 4, 10, 0, 0, 1, 0, 80, 0, 81];

    fn v6() -> Vec<u8> {
        let mut rest = [0; 36];
        (rest[0], rest[1], rest[15], rest[31]) = (0x20, 1, 7, 1);
        rest.to_vec()
    }

    fn with_tlv(rest: &[u8], bytes: usize) -> Vec<u8> {
        [
            rest,
            &[0xe0, 0, u8::try_from(bytes).unwrap()],
            &vec![1; bytes],
        ]
        .concat()
    }

    /// A header, cut at every byte and with bytes behind it.
    #[track_caller]
    fn is_header_of(header: &[u8], client: Option<&str>) {
        let client = client.map(|client| client.parse().unwrap());
        let len = header.len();
        for cut in 0..len {
            assert_eq!(
                proxy_header(&header[..cut]),
                Ok(ProxyHeader::Partial),
                "cut at {cut}"
            );
        }
        for behind in [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"\0\r\n", V1_START] {
            let bytes = [header, behind].concat();
            assert_eq!(
                proxy_header(&bytes),
                Ok(ProxyHeader::Complete { len, client })
            );
        }
    }

    #[test]
    fn headers_of_both_versions() {
        is_header_of(b"PROXY TCP4 1.2.3.4 10.0.0.1 80 81\r\n", Some("1.2.3.4"));
        is_header_of(b"PROXY TCP6 2001::7 ::1 80 81\r\n", Some("2001::7"));
        is_header_of(b"PROXY TCP6 ::ffff:1.2.3.4 ::1 80 81\r\n", Some("1.2.3.4"));
        is_header_of(b"PROXY UNKNOWN\r\n", None);
        let longest = "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535";
        let longest = format!("{longest:x<105}\r\n");
        is_header_of(longest.as_bytes(), None);
        is_header_of(&v2(0x21, 0x11, &V4), Some("1.2.3.4"));
        is_header_of(&v2(0x21, 0x21, &v6()), Some("2001::7"));
        is_header_of(&v2(0x21, 0x11, &with_tlv(&V4, 200)), Some("1.2.3.4"));
        is_header_of(&v2(0x20, 0x00, &[]), None);
        is_header_of(&v2(0x20, 0x11, &V4), None);
        is_header_of(&v2(0x21, 0x00, &with_tlv(&[], 4)), None);
        is_header_of(&v2(0x21, 0x31, &[0; 216]), None);
        is_header_of(&v2(0x21, 0x00, &[0; V2_BYTES_MAX - 16]), None);
    }

    #[test]
    fn what_is_no_header() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PUT / HTTP/1.1\r\n",
            b"PROXYX",
            b"proxy TCP4",
            b"\r\n\r\nGET / HTTP/1.1",
            b"\r\n\r\n\0\r\nQUIT\r",
            b"\x16\x03\x01",
            b"\0",
        ] {
            assert_eq!(
                proxy_header(bytes),
                Ok(ProxyHeader::Absent),
                "{}",
                bytes.escape_ascii()
            );
        }
    }

    #[test]
    fn malformed_headers() {
        let rows: &[&[u8]] = &[
            b"PROXY TCP4 1.2.3.4 10.0.0.1 80 81\n\r\n",
            b"PROXY TCP4 1.2.3.4 10.0.0.1 80 81 \r\n",
            b"PROXY TCP4 1.2.3.4 10.0.0.1 80\r\n\r\nGET / HTTP/1.1\r\n",
            b"PROXY TCP4 1.2.3.4 10.0.0.1 80 65536\r\n",
            b"PROXY TCP4 1.2.3.4 10.0.0.1 80 +81\r\n",
            b"PROXY TCP4 1.2.3.4 10.0.0.1 080 81\r\n",
            b"PROXY TCP4 1.2.3.4 10.0.0.1\r\n",
            b"PROXY UNKNOWNS\r\n",
            b"PROXY \r\n",
            b"PROXY TCP4 ::1 ::1 80 81\r\n",
            b"PROXY TCP4  1.2.3.4 10.0.0.1 80 81\r\n",
            b"PROXY TCP4 01.2.3.4 10.0.0.1 80 81\r\n",
            b"PROXY TCP6 1.2.3.4 10.0.0.1 80 81\r\n",
            b"PROXY UDP4 1.2.3.4 10.0.0.1 80 81\r\n",
            b"PROXY TCP4\r\nGET / HTTP/1.1\r\n",
            b"PROXY / HTTP/1.1\r\n\r\n",
            &v2(0x11, 0x11, &V4),
            &v2(0x22, 0x11, &V4),
            &v2(0x21, 0x11, &V4[..11]),
            &v2(0x21, 0x21, &V4),
            &v2(0x21, 0x31, &[0; 215]),
            &v2(0x21, 0x41, &V4),
        ];
        for bytes in rows {
            let parsed = proxy_header(bytes);
            let malformed = Err(ProxyHeaderError::Malformed);
            assert_eq!(parsed, malformed, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn oversized_headers() {
        let long = format!("PROXY UNKNOWN {}", "x".repeat(V1_BYTES_MAX));
        assert_eq!(
            proxy_header(&long.as_bytes()[..106]),
            Ok(ProxyHeader::Partial)
        );
        for bytes in [
            long.as_bytes(),
            &long.as_bytes()[..V1_BYTES_MAX],
            format!("{long}\r\n").as_bytes(),
            &v2(0x21, 0x11, &[0; V2_BYTES_MAX - 15]),
            &v2(0x21, 0x11, &vec![0; 65535])[..16],
        ] {
            assert_eq!(proxy_header(bytes), Err(ProxyHeaderError::Oversized));
        }
    }

    /// Headers with bytes changed, taken out and put in: what is decided stays so with more bytes.
    #[test]
    fn a_cut_decides_nothing() {
        let valid: [&[u8]; 4] = [
            b"PROXY TCP4 1.2.3.4 10.0.0.1 80 81\r\nGET / HTTP/1.1\r\n",
            b"PROXY UNKNOWN\r\n",
            &[v2(0x21, 0x11, &with_tlv(&V4, 9)), b"GET /".to_vec()].concat(),
            &v2(0x20, 0x00, &[]),
        ];
        let (mut headers, mut errors) = (0, 0);
        for seed in 0..20_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut bytes = rng.choice(valid).unwrap_or_default().to_vec();
            for _ in 0..rng.usize(..3) {
                let at = rng.usize(..bytes.len());
                match rng.u32(..3) {
                    0 => bytes[at] = rng.u8(..),
                    1 => bytes.insert(at, rng.u8(..)),
                    _ => drop(bytes.remove(at)),
                }
            }
            let whole = proxy_header(&bytes);
            headers += usize::from(matches!(whole, Ok(ProxyHeader::Complete { .. })));
            errors += usize::from(whole.is_err());
            for cut in 0..bytes.len() {
                let early = proxy_header(&bytes[..cut]);
                let is_same = early == Ok(ProxyHeader::Partial) || early == whole;
                assert!(is_same, "seed {seed}, cut at {cut}: {early:?}, {whole:?}");
            }
        }
        assert!(headers > 2000 && errors > 2000, "{headers} {errors}");
    }

    #[test]
    fn a_header_in_the_place_of_a_request_is_told_from_one() {
        assert!(is_proxy_header(b"PROXY TCP4 1"));
        assert!(is_proxy_header(b"\r\n\r\n\0"));
        assert!(!is_proxy_header(b"\r\n\r\nGET"));
        assert!(!is_proxy_header(b"POST / HTTP/1.1\r\n"));
    }
}
