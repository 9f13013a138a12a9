//! The header of the PROXY protocol, beside a slow reading of what the protocol says.

use std::net::IpAddr;

use tidegate_http::{ProxyHeader, is_proxy_header, proxy_header};

const V1_BYTES_MAX: usize = 107;
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const V2_BYTES_MAX: usize = 4096;

/// Cuts of more bytes decide nothing new, and would be slow.
const CUT_BYTES_MAX: usize = 300;

/// `data` is the first bytes of a connection.
pub(crate) fn check(data: &[u8]) {
    let parsed = proxy_header(data);
    let expected = match data {
        [b'P', b'R', b'O', b'X', b'Y', b' ', ..] => text_form(data),
        _ if data.starts_with(V2_START) => binary_form(data),
        _ => Form::None,
    };
    match expected {
        Form::None => assert!(matches!(
            parsed,
            Ok(ProxyHeader::Absent | ProxyHeader::Partial)
        )),
        Form::Unfinished => assert!(matches!(parsed, Ok(ProxyHeader::Partial) | Err(_))),
        Form::Wrong => assert!(parsed.is_err(), "{parsed:?}"),
        Form::Header(len, client) => {
            assert_eq!(parsed, Ok(ProxyHeader::Complete { len, client }));
        }
    }
    if matches!(parsed, Ok(ProxyHeader::Complete { .. })) {
        assert!(is_proxy_header(data));
    }
    for cut in 0..data.len().min(CUT_BYTES_MAX) {
        let early = proxy_header(&data[..cut]);
        assert!(early == Ok(ProxyHeader::Partial) || early == parsed);
    }
    round_trip(data);
}

/// What the protocol says of bytes.
enum Form {
    /// They do not begin as a header.
    None,
    /// More has to come, or it is wrong already.
    Unfinished,
    Wrong,
    /// Its length, and the client that it names.
    Header(usize, Option<IpAddr>),
}

/// Version 1 (section 2.1): words with one space between them.
fn text_form(data: &[u8]) -> Form {
    let window = &data[..data.len().min(V1_BYTES_MAX)];
    let Some(end) = window.windows(2).position(|pair| pair == b"\r\n") else {
        return match window.len() {
            V1_BYTES_MAX => Form::Wrong,
            _ => Form::Unfinished,
        };
    };
    let words: Vec<_> = data[..end].split(|byte| *byte == b' ').collect();
    let client = match words[..] {
        // What follows has to be passed over; a lone CR there is refused, which the protocol allows.
        [_, b"UNKNOWN", ..] if !data[..end].contains(&b'\r') => None,
        [
            _,
            family @ (b"TCP4" | b"TCP6"),
            source,
            destination,
            from,
            to,
        ] => {
            let addresses = [source, destination].map(|word| address(word, family == b"TCP4"));
            match addresses {
                [Some(source), Some(_)] if is_port(from) && is_port(to) => {
                    Some(source.to_canonical())
                }
                _ => return Form::Wrong,
            }
        }
        _ => return Form::Wrong,
    };
    Form::Header(end + 2, client)
}

fn address(word: &[u8], is_ipv4: bool) -> Option<IpAddr> {
    let address: IpAddr = str::from_utf8(word).ok()?.parse().ok()?;
    (address.is_ipv4() == is_ipv4).then_some(address)
}

/// Whether it is one of the 65,536 ways in which a port is written.
fn is_port(word: &[u8]) -> bool {
    let number = str::from_utf8(word).ok().and_then(|text| text.parse().ok());
    number.is_some_and(|number: u16| number.to_string().as_bytes() == word)
}

/// Version 2 (section 2.2): a command, a family, a length, and so many bytes.
fn binary_form(data: &[u8]) -> Form {
    let Some([command, family, high, low]) = data.get(12..16) else {
        return Form::Unfinished;
    };
    let end = 16 + usize::from(u16::from_be_bytes([*high, *low]));
    if end > V2_BYTES_MAX {
        return Form::Wrong;
    }
    let Some(rest) = data.get(16..end) else {
        return Form::Unfinished;
    };
    // How many bytes of addresses a family has, and whether these are of IP.
    let (least, source) = match *family {
        0x00 => (0, 0),
        0x11 | 0x12 => (12, 4),
        0x21 | 0x22 => (36, 16),
        0x31 | 0x32 => (216, 0),
        _ => return Form::Wrong,
    };
    if !matches!(*command, 0x20 | 0x21) || rest.len() < least {
        return Form::Wrong;
    }
    let client = match (*command, <[u8; 4]>::try_from(&rest[..source])) {
        (0x21, Ok(address)) => Some(IpAddr::from(address)),
        (0x21, Err(_)) if source > 0 => {
            <[u8; 16]>::try_from(&rest[..source]).ok().map(IpAddr::from)
        }
        _ => None,
    };
    Form::Header(end, client.map(|address| address.to_canonical()))
}

/// A header that is written of `data` names the client that was put in, whatever follows it.
fn round_trip(data: &[u8]) {
    let Some((octets, behind)) = data.split_first_chunk::<16>() else {
        return;
    };
    let client = IpAddr::from(*octets);
    let header = format!("PROXY TCP6 {client} ::1 1 {}\r\n", u16::from(octets[0]));
    let len = header.len();
    let client = Some(client.to_canonical());
    assert_eq!(
        proxy_header(&[header.as_bytes(), behind].concat()),
        Ok(ProxyHeader::Complete { len, client })
    );
}
