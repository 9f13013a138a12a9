//! Request methods, as far as a file server distinguishes them.

/// A request method (RFC 9110, section 9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET.
    Get,
    /// HEAD: the response of GET without its content.
    Head,
    /// OPTIONS: the methods allowed on the target, or a CORS preflight.
    Options,
    /// A standard method that no file allows: answer 405.
    Known,
    /// A method unknown to this server: answer 501.
    Unknown,
}

impl Method {
    /// The method with this name. Names are case-sensitive (RFC 9110, section 9.1).
    #[inline]
    pub fn of(token: impl AsRef<[u8]>) -> Self {
        match token.as_ref() {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"OPTIONS" => Self::Options,
            b"POST" | b"PUT" | b"DELETE" | b"CONNECT" | b"TRACE" | b"PATCH" => Self::Known,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_told_apart() {
        let cases = [
            ("GET", Method::Get),
            ("HEAD", Method::Head),
            ("POST", Method::Known),
            ("PUT", Method::Known),
            ("DELETE", Method::Known),
            ("CONNECT", Method::Known),
            ("OPTIONS", Method::Options),
            ("TRACE", Method::Known),
            ("PATCH", Method::Known), // RFC 5789
            ("get", Method::Unknown), // case-sensitive: RFC 9110, 9.1
            ("GETT", Method::Unknown),
            ("BREW", Method::Unknown),
        ];
        for (token, expected) in cases {
            assert_eq!(Method::of(token), expected, "{token}");
        }
    }
}
