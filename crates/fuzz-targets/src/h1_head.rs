//! Request heads: what is decided of the first bytes stays so with more, and nothing blurs where a
//! request ends.

use tidegate_h1::{Framing, Head, Limits, Version, parse};
use tidegate_http::{StoredRequest, decimal, is_host};

use crate::target::check_paths;

/// Heads are cut at so many places.
const CUTS: usize = 256;

const SMALL: Limits = Limits {
    header_bytes: 128,
    headers: 4,
    body_discard: 64,
};

/// `data` begins with a head.
pub(crate) fn check(data: &[u8]) {
    for limits in [Limits::default(), SMALL] {
        let whole = parse(data, &limits);
        if let Ok(Some(head)) = &whole {
            check_head(head, data, &limits);
            assert_eq!(parse(&data[..head.len], &limits), whole);
        }
        for cut in (0..data.len()).step_by(data.len() / CUTS + 1) {
            match parse(&data[..cut], &limits) {
                Ok(None) => assert!(cut < limits.header_bytes),
                early => assert_eq!(early, whole, "cut at {cut}"),
            }
        }
    }
}

fn check_head(head: &Head<'_>, data: &[u8], limits: &Limits) {
    let bytes = &data[..head.len];
    assert!(head.len <= limits.header_bytes);
    assert!(bytes.ends_with(b"\r\n\r\n"));
    check_line_ends(bytes);
    check_framing(head);
    let request = &head.request;
    assert!(
        request
            .host
            .is_none_or(|host| is_host(host) && !host.is_empty())
    );
    let hosts = request.fields.named("host").count();
    assert!(hosts <= 1 && (hosts == 1 || head.version == Version::Http10));
    assert_eq!(StoredRequest::new(request).request(), *request);
    check_paths(&request.target);
}

/// A CR is in front of each LF, and nowhere else.
fn check_line_ends(bytes: &[u8]) {
    assert!(!bytes.contains(&0));
    let is_pair = |pair: &[u8]| (pair[0] == b'\r') == (pair[1] == b'\n');
    assert!(bytes.first() != Some(&b'\n') && bytes.windows(2).all(is_pair));
}

/// The field lines, read in a simple way, name one length.
fn check_framing(head: &Head<'_>) {
    let fields = head.request.fields;
    let codings = fields.named("transfer-encoding").count();
    let mut lengths = fields.named("content-length");
    let length = lengths.next().map(decimal);
    assert_eq!(lengths.next(), None);
    match head.framing {
        Framing::None => assert!(codings == 0 && matches!(length, None | Some(Some(0)))),
        Framing::Length(bytes) => {
            assert!(bytes > 0 && codings == 0);
            assert_eq!(length, Some(Some(bytes)));
        }
        Framing::Chunked => {
            assert!(codings > 0 && head.version == Version::Http11);
            assert_eq!(length, None);
        }
    }
    assert!(!head.expect_continue || head.framing != Framing::None);
}
