//! What HTTP means to a file server (RFC 9110), whatever the version on the wire.
//!
//! A [`Request`], the [`Validators`] and the length of a file go in; decisions and field lines come
//! out. Nothing here knows a socket, a file, a clock or the bytes of a version, so every rule is
//! tested with plain byte strings.
//!
//! # The order of calls
//!
//! ```text
//!   request
//!     |-- method is Options ---------> cors.push_preflight: 204 with Allow
//!     |-- method is Known, Unknown --> 405, 501
//!     |-- target.decode_path(slash, out)
//!     |      |-- Err --------------> 400
//!     |      `-- Ok: look the file up, for site_name(host)
//!     |             |-- not there, a directory: 404, 301
//!     |             `-- there: the variant that Accepted::of(request).choose(..) says
//!     v
//!   evaluate(request, validators)
//!     |-- NotModified --> 304
//!     |-- Failed -------> 412
//!     `-- Met
//!          v
//!   ranges(request, validators, len, limits)
//!     |-- Whole --------> 200
//!     |-- One ----------> 206 with push_content_range
//!     |-- Many ---------> 206 with a Multipart
//!     `-- Unsatisfiable > 416 with push_unsatisfied_range
//! ```
//!
//! The fields of a file come from its [`Representation`], made once when it is looked up. Where the
//! site has [`Cors`], its fields are on every response.

mod conditional;
mod cors;
mod date;
mod etag;
mod field_block;
mod fields;
mod forwarded;
mod method;
mod multipart;
mod negotiate;
mod proxy_protocol;
mod range;
mod representation;
mod request;
mod status;
mod syntax;
mod target;
#[cfg(test)]
mod testing;

pub use conditional::{Precondition, Validators, evaluate};
pub use cors::Cors;
pub use date::HttpDate;
pub use etag::ETag;
pub use field_block::{ALLOW, FieldBlock, FieldLines};
pub use fields::{Field, Fields};
pub use forwarded::{ForwardedBy, forwarded_client};
pub use method::Method;
pub use multipart::Multipart;
pub use negotiate::{Accepted, Choice, Coding, Navigation, prefers, prefers_json};
pub use proxy_protocol::{ProxyHeader, ProxyHeaderError, is_proxy_header, proxy_header};
pub use range::{
    RangeLimits, Ranges, first_byte, push_content_range, push_unsatisfied_range, ranges,
};
pub use representation::{Representation, RepresentationFields};
pub use request::{Request, StoredRequest};
pub use status::Status;
pub use syntax::{decimal, is_token, list};
pub use target::{
    ENCODED_SLASH, EncodedSlash, Target, TargetError, encode_path, is_host, site_name,
};
