//! Signs the requests of an endpoint with credentials that are found as AWS's clients find them.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::request::Parts;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;

use super::credentials::{Chain, ChainOptions, Environment, Provider};
use super::sign::{Payload, sign};
use crate::client::Authority;

/// The credentials of the process for S3.
pub struct S3Authority {
    provider: Provider,
    region: String,
}

impl S3Authority {
    /// Credentials of `profile`, or whatever the environment has, for requests in `region`. Nothing
    /// is asked for yet. `tls` is for the services that give credentials.
    pub fn new(region: String, profile: Option<String>, tls: ClientConfig) -> Arc<Self> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let options = ChainOptions {
            profile,
            region: Some(region.clone()),
        };
        let chain = Chain::new(Environment::of_process(), client, options);
        Arc::new(Self {
            provider: Provider::new(chain),
            region,
        })
    }
}

impl S3Authority {
    /// Signs a request with this payload, as of now.
    ///
    /// # Errors
    ///
    /// Why there are no credentials, or why the request cannot be signed.
    pub async fn sign_payload(&self, request: &mut Parts, payload: Payload) -> Result<(), String> {
        let credentials = self.provider.credentials().await;
        let credentials = credentials.map_err(|error| format!("no credentials: {error}"))?;
        let now = SystemTime::now();
        sign(request, &credentials, &self.region, payload, now).map_err(|error| error.to_string())
    }
}

impl Authority for S3Authority {
    fn sign<'a>(&'a self, request: &'a mut Parts) -> BoxFuture<'a, Result<(), String>> {
        self.sign_payload(request, Payload::Unsigned).boxed()
    }
}
