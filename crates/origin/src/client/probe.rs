//! Asks endpoints once each, for a report.

use std::io;

use futures_util::future::join_all;
use http::StatusCode;
use tokio::runtime::Builder;

use super::endpoint::Endpoint;
use crate::error::Error;

/// What [`Endpoint::probe`] says of each endpoint, in their order. Blocks for 5 s at most.
///
/// # Errors
///
/// There is no thread to ask from.
pub fn probe_all(endpoints: &[&Endpoint]) -> io::Result<Vec<Result<StatusCode, Error>>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let probes = endpoints.iter().map(|endpoint| endpoint.probe());
    let answers = runtime.block_on(join_all(probes));
    // A resolver that does not answer is not waited for.
    runtime.shutdown_background();
    Ok(answers)
}
