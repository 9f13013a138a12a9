//! What S3 asks of a client: credentials and signed requests.

mod authority;
pub mod credentials;
pub(crate) mod errors;
pub mod sign;
mod timestamp;
pub(crate) mod xml;

pub use authority::S3Authority;
