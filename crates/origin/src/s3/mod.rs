//! What S3 asks of a client: credentials and signed requests.

mod authority;
pub mod credentials;
pub mod sign;
mod timestamp;

pub use authority::S3Authority;
