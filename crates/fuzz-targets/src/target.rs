//! Request targets: what a path is decoded to cannot leave its root, and is found again by its URI.

use tidegate_http::{ENCODED_SLASH, EncodedSlash, Target, encode_path, is_host, site_name};

/// `data` is a target, as it stands in a request line.
pub(crate) fn check(data: &[u8]) {
    let Ok(raw) = str::from_utf8(data) else {
        return;
    };
    // No parser of heads lets one through.
    if raw.bytes().any(|byte| byte.is_ascii_control()) {
        return;
    }
    check_host(raw);
    if let Ok((target, authority)) = Target::parse(raw) {
        if let Some(authority) = authority {
            assert!(is_host(authority) && !authority.is_empty());
        }
        check_paths(&target);
    }
    if let Ok(target) = Target::connect(raw) {
        assert!(is_host(raw));
        assert_eq!((target.path(), target.query()), ("", None));
    }
}

/// The name of a site has one spelling, and names the same site as a Host.
fn check_host(raw: &str) {
    if !is_host(raw) {
        return;
    }
    let name = site_name(raw);
    assert!(
        !name.bytes().any(|byte| byte.is_ascii_uppercase()),
        "{name}"
    );
    assert!(is_host(&name), "{name}");
    assert_eq!(site_name(&raw.to_ascii_uppercase()), name);
    if !name.ends_with('.') {
        assert_eq!(site_name(&name), name);
        assert_eq!(site_name(&format!("{name}:80")), name);
    }
}

/// Both readings of an encoded slash.
pub(crate) fn check_paths(target: &Target<'_>) {
    let (mut path, mut again, mut uri) = (Vec::new(), Vec::new(), String::new());
    for slash in [EncodedSlash::Literal, EncodedSlash::Decode] {
        if target.decode_path(slash, &mut path).is_err() {
            continue;
        }
        check_path(&path);
        if slash == EncodedSlash::Decode {
            assert!(!path.contains(&ENCODED_SLASH));
        }
        uri.clear();
        encode_path(&path, &mut uri);
        let (written, authority) = Target::parse(&uri).expect("a path");
        assert_eq!((authority, written.query()), (None, None));
        assert_eq!(written.decode_path(slash, &mut again), Ok(()));
        assert_eq!(again, path, "{uri}");
    }
}

/// It begins with a slash, and has neither empty nor dot segments.
fn check_path(path: &[u8]) {
    let segments = path.strip_prefix(b"/").expect("a slash at its start");
    let mut segments = segments.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        assert!(is_last || !segment.is_empty(), "{}", path.escape_ascii());
        assert!(
            segment != b"." && segment != b"..",
            "{}",
            path.escape_ascii()
        );
    }
}
