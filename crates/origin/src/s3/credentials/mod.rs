//! Credentials of AWS, from where its SDKs look for them ("Standardized credential providers", AWS
//! SDKs and Tools Reference Guide).
//!
//! [`Provider`] is what a client asks. It keeps what a [`Source`] gave, and asks it again ahead of
//! expiry. [`Chain`] is the usual source.

mod chain;
mod container;
mod environment;
mod error;
mod http_client;
mod imds;
mod json;
mod keys;
mod profile;
mod provider;
mod sts_response;
#[cfg(test)]
mod testing;
mod web_identity;

pub use chain::{Chain, ChainOptions};
pub use environment::Environment;
pub use error::{CredentialsError, RequestError};
pub use http_client::HttpClient;
pub use keys::Credentials;
pub use provider::{Provider, Source};
