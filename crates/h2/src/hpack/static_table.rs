//! The static table (RFC 7541, appendix A).

/// The index of `:status` with the value 200.
pub(super) const STATUS: usize = 8;
pub(super) const AGE: usize = 21;
pub(super) const CONTENT_LENGTH: usize = 28;
pub(super) const CONTENT_RANGE: usize = 30;
pub(super) const ETAG: usize = 34;
pub(super) const LAST_MODIFIED: usize = 44;
pub(super) const LOCATION: usize = 46;
pub(super) const SET_COOKIE: usize = 55;

/// Names and values; the first has index 1.
pub(super) static STATIC_TABLE: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// Bytes of the longest name.
const NAME_BYTES_MAX: usize = 27;

/// The indices of the names of each length, 0 behind the last of them.
static BY_LENGTH: [[u8; 8]; NAME_BYTES_MAX + 1] = {
    let mut table = [[0; 8]; NAME_BYTES_MAX + 1];
    let mut counts = [0; NAME_BYTES_MAX + 1];
    let mut position = 0;
    while position < STATIC_TABLE.len() {
        // Entries with the same name follow each other, and only the first counts.
        let name = STATIC_TABLE[position].0;
        let len = name.len();
        if position == 0 || !name.eq_ignore_ascii_case(STATIC_TABLE[position - 1].0) {
            table[len][counts[len]] = position as u8 + 1;
            counts[len] += 1;
        }
        position += 1;
    }
    table
};

/// The index of the first entry with this name, in any case.
pub(super) fn index_of_name(name: &str) -> Option<usize> {
    let last = name.as_bytes().last()?.to_ascii_lowercase();
    for index in BY_LENGTH.get(name.len())? {
        let (known, _) = STATIC_TABLE[usize::from(*index).checked_sub(1)?];
        // Names of one length seldom have the same last letter.
        if known.as_bytes().last() == Some(&last) && known.eq_ignore_ascii_case(name) {
            return Some(usize::from(*index));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_first_index() {
        let cases = [
            (":authority", Some(1)),
            (":status", Some(8)),
            ("Date", Some(33)),
            ("content-length", Some(28)),
            ("WWW-Authenticate", Some(61)),
            ("x-powered-by", None),
            ("", None),
            ("e", None),
            ("strict-transport-security-", None),
            ("a-name-that-is-longer-than-all", None),
        ];
        for (name, index) in cases {
            assert_eq!(index_of_name(name), index, "{name}");
        }
        let named = [
            (STATUS, ":status"),
            (AGE, "age"),
            (CONTENT_LENGTH, "content-length"),
            (CONTENT_RANGE, "content-range"),
            (ETAG, "etag"),
            (LAST_MODIFIED, "last-modified"),
            (LOCATION, "location"),
            (SET_COOKIE, "set-cookie"),
        ];
        for (index, name) in named {
            assert_eq!(index_of_name(name), Some(index), "{name}");
        }
        for (name, _) in STATIC_TABLE {
            let first = STATIC_TABLE.iter().position(|(other, _)| *other == name);
            assert_eq!(
                index_of_name(&name.to_ascii_uppercase()),
                first.map(|at| at + 1)
            );
        }
    }
}
