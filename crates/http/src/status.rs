//! The status codes this server sends.

/// A status code, its reason phrase (RFC 9110, section 15), and a page for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(Index);

/// A whole page, made at compile time. Without the style it is as readable: a site's
/// Content-Security-Policy may forbid it.
macro_rules! page {
    ($code:literal, $reason:literal, $sentence:literal) => {
        concat!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n",
            "<meta name=\"viewport\" content=\"width=device-width\">\n",
            "<meta name=\"color-scheme\" content=\"light dark\">\n<title>",
            $code,
            " ",
            $reason,
            "</title>\n<style>body{font:1.1em/1.5 system-ui,sans-serif;max-width:34em;",
            "margin:15vh auto;padding:0 1em}</style>\n<h1>",
            $code,
            " ",
            $reason,
            "</h1>\n<p>",
            $sentence,
            "</p>\n"
        )
    };
}

/// The data of a status.
struct Entry {
    code: u16,
    code_and_reason: &'static str,
    page: &'static str,
}

macro_rules! statuses {
    ($($name:ident = $code:literal $reason:literal $sentence:literal;)*) => {
        /// The place of a status in [`ENTRIES`], in the order of the codes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[expect(non_camel_case_types, reason = "named as the statuses are")]
        #[expect(clippy::upper_case_acronyms, reason = "named as the statuses are")]
        enum Index {
            $($name,)*
        }

        static ENTRIES: &[Entry] = &[
            $(Entry {
                code: $code,
                code_and_reason: concat!($code, " ", $reason),
                page: page!($code, $reason, $sentence),
            },)*
        ];

        impl Status {
            $(
                #[doc = concat!(stringify!($code), " ", $reason, ".")]
                pub const $name: Self = Self(Index::$name);
            )*

            /// Every status that this server sends.
            const ALL: &[Self] = &[$(Self::$name),*];
        }
    };
}

statuses! {
    OK = 200 "OK" "The request succeeded.";
    NO_CONTENT = 204 "No Content" "There is nothing to show.";
    PARTIAL_CONTENT = 206 "Partial Content" "This is a part of what is there.";
    MOVED_PERMANENTLY = 301 "Moved Permanently" "This page has moved to another address.";
    FOUND = 302 "Found" "This page is at another address for now.";
    SEE_OTHER = 303 "See Other" "The answer is at another address.";
    NOT_MODIFIED = 304 "Not Modified" "This page has not changed.";
    TEMPORARY_REDIRECT = 307 "Temporary Redirect" "This page is at another address for now.";
    PERMANENT_REDIRECT = 308 "Permanent Redirect" "This page has moved to another address.";
    BAD_REQUEST = 400 "Bad Request" "The server could not understand this request.";
    UNAUTHORIZED = 401 "Unauthorized" "This page is for users with a name and a password.";
    FORBIDDEN = 403 "Forbidden" "This page may not be seen.";
    NOT_FOUND = 404 "Not Found" "There is nothing at this address.";
    METHOD_NOT_ALLOWED = 405 "Method Not Allowed" "This address can be read, and nothing can be sent to it.";
    NOT_ACCEPTABLE = 406 "Not Acceptable" "There is no form of this that the request accepts.";
    REQUEST_TIMEOUT = 408 "Request Timeout" "The request took too long to arrive.";
    GONE = 410 "Gone" "What was at this address is gone for good.";
    PRECONDITION_FAILED = 412 "Precondition Failed" "The page is not as the request expects it to be.";
    CONTENT_TOO_LARGE = 413 "Content Too Large" "The request is larger than this server accepts.";
    URI_TOO_LONG = 414 "URI Too Long" "The address is longer than this server accepts.";
    RANGE_NOT_SATISFIABLE = 416 "Range Not Satisfiable" "The part that was asked for does not exist.";
    EXPECTATION_FAILED = 417 "Expectation Failed" "The server cannot do what the request expects.";
    IM_A_TEAPOT = 418 "I'm a teapot" "This is a teapot, and does not brew coffee.";
    MISDIRECTED_REQUEST = 421 "Misdirected Request" "This server does not answer for this address.";
    TOO_MANY_REQUESTS = 429 "Too Many Requests" "There were too many requests; please try again in a while.";
    REQUEST_HEADER_FIELDS_TOO_LARGE = 431 "Request Header Fields Too Large" "The head of the request is too large; to delete this site's cookies may help.";
    UNAVAILABLE_FOR_LEGAL_REASONS = 451 "Unavailable For Legal Reasons" "This page may not be shown, for legal reasons.";
    INTERNAL_SERVER_ERROR = 500 "Internal Server Error" "Something is wrong on the server; please try again later.";
    NOT_IMPLEMENTED = 501 "Not Implemented" "The server does not know this kind of request.";
    BAD_GATEWAY = 502 "Bad Gateway" "The server behind this one failed; please try again in a while.";
    SERVICE_UNAVAILABLE = 503 "Service Unavailable" "The server cannot answer now; please try again in a while.";
    GATEWAY_TIMEOUT = 504 "Gateway Timeout" "The server behind this one does not answer; please try again in a while.";
    HTTP_VERSION_NOT_SUPPORTED = 505 "HTTP Version Not Supported" "The server does not speak this version of HTTP.";
}

impl Status {
    fn entry(self) -> &'static Entry {
        &ENTRIES[self.0 as usize]
    }

    /// The three-digit code.
    pub fn code(self) -> u16 {
        self.entry().code
    }

    /// The code and the reason phrase, with a space between.
    pub fn code_and_reason(self) -> &'static str {
        self.entry().code_and_reason
    }

    /// A page in HTML with the code, the reason phrase and one sentence.
    pub fn page(self) -> &'static str {
        self.entry().page
    }

    /// The status with this code, if it is one that this server sends.
    pub fn of_code(code: u16) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|status| status.code() == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_reason_belong_together() {
        assert_eq!(Status::OK.code(), 200);
        assert_eq!(Status::OK.code_and_reason(), "200 OK");
        assert_eq!(Status::HTTP_VERSION_NOT_SUPPORTED.code(), 505);
        assert_eq!(
            Status::REQUEST_HEADER_FIELDS_TOO_LARGE.code_and_reason(),
            "431 Request Header Fields Too Large"
        );
    }

    #[test]
    fn every_status_has_a_page_with_one_sentence() {
        for status in Status::ALL {
            let page = status.page();
            let heading = status.code_and_reason();
            assert!(heading.starts_with(&format!("{} ", status.code())));
            assert!(page.starts_with("<!DOCTYPE html>\n"), "{page}");
            assert!(
                page.contains(&format!("<title>{heading}</title>")),
                "{page}"
            );
            assert!(page.contains(&format!("<h1>{heading}</h1>\n<p>")), "{page}");
            assert!(page.ends_with(".</p>\n"), "{page}");
            assert!(!page.contains("script") && page.is_ascii(), "{page}");
            assert!((300..600).contains(&page.len()), "{page}");
        }
    }

    #[test]
    fn statuses_are_in_the_order_of_their_codes() {
        assert!(Status::ALL.is_sorted());
        assert!(Status::ALL.is_sorted_by_key(|status| status.code()));
    }

    #[test]
    fn a_status_is_found_by_its_code() {
        for status in [Status::OK, Status::NOT_MODIFIED, Status::NOT_IMPLEMENTED] {
            assert_eq!(Status::of_code(status.code()), Some(status));
        }
        for code in [0, 100, 299, 419, u16::MAX] {
            assert_eq!(Status::of_code(code), None, "{code}");
        }
    }
}
