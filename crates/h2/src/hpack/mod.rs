//! Header compression (RFC 7541).
//!
//! A [`Decoder`] reads the header blocks of a peer, an [`Encoder`] writes those for it; both keep a
//! dynamic table that is changed by each block. So every block goes through them once, in the order
//! of the connection.
//!
//! ```text
//!   HEADERS, CONTINUATION: one whole block
//!        |
//!        v
//!   decoder.decode(block, limit, scratch, |name, value| ..)
//!        |-- Err(error) ----> COMPRESSION_ERROR for the connection: the tables differ from now on
//!        |-- size > limit --> 431; fields beyond the limit were not given
//!        `-- size <= limit -> the request
//!
//!   encoder.status(status, out)      the start of each block
//!          .date(date, out)          one byte, but for the first block of a second
//!          .content_length(len, out)
//!          .fields(lines, out)       what the responses of a connection have in common
//!   out.extend(block)                made once, by encode_static
//! ```
//!
//! ```
//! use std::time::SystemTime;
//!
//! use tidegate_h2::hpack::{Decoder, Encoder, encode_static};
//! use tidegate_http::{FieldLines, HttpDate, Status};
//!
//! let mut file = Vec::new();
//! encode_static(FieldLines::from_static("Content-Type: text/css\r\n"), &mut file);
//!
//! let mut encoder = Encoder::new();
//! let mut block = Vec::new();
//! encoder.status(Status::OK, &mut block);
//! encoder.date(&HttpDate::new(SystemTime::UNIX_EPOCH), &mut block);
//! encoder.content_length(1024, &mut block);
//! block.extend_from_slice(&file);
//!
//! let mut text = String::new();
//! let size = Decoder::new().decode(&block, 16 << 10, &mut Vec::new(), |name, value| {
//!     text.push_str(&format!("{}={};", name.escape_ascii(), value.escape_ascii()));
//! })?;
//! assert_eq!(
//!     text,
//!     ":status=200;date=Thu, 01 Jan 1970 00:00:00 GMT;content-length=1024;content-type=text/css;"
//! );
//! assert_eq!(size, 4 * 32 + 10 + 33 + 18 + 20);
//! # Ok::<(), tidegate_h2::hpack::Error>(())
//! ```

mod decoder;
mod dynamic_table;
mod encoder;
mod error;
mod huffman;
mod integer;
mod static_table;
#[cfg(test)]
mod testing;

pub use decoder::Decoder;
pub use encoder::{Encoder, encode_static};
pub use error::Error;

/// What a field costs beyond its name and value, in a dynamic table (RFC 7541, section 4.1) and in
/// `SETTINGS_MAX_HEADER_LIST_SIZE` (RFC 9113, section 6.5.2), in bytes.
const FIELD_OVERHEAD: usize = 32;

/// The initial `SETTINGS_HEADER_TABLE_SIZE` (RFC 9113, section 6.5.2), in bytes. Neither side has a
/// larger table.
const TABLE_BYTES_MAX: usize = 4096;
