//! Asks the owner of an object before the origin.
//!
//! ```text
//!   the owner, if it is up --> what it says of the object
//!        |  no connection within 100 ms, or an answer of no use
//!        |  no head by a second, or by twice what the origin takes: the origin beside it
//!        v
//!   the origin
//! ```

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use http::{HeaderName, HeaderValue, StatusCode, header};
use tokio::time::sleep;

use super::route::Route;
use super::{Origin, Wanted};
use crate::client::{Answer, Endpoint, Request};
use crate::error::Error;
use crate::fleet::{ASKED_AGO, Fleet, ORIGIN};
use crate::key::Key;
use crate::object::{Found, Known, Object, Slice};

/// How long a peer may take for a head while the origin is quick.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sets the flights for peers apart from others, which may wait for a peer.
const DIRECT: u128 = 0x7065_6572 << 96;

impl Origin {
    /// Finds an object for a peer: no further peer is asked, and nothing is waited for that may
    /// wait for one.
    ///
    /// Dropped: as [`Origin::find`].
    ///
    /// # Errors
    ///
    /// [`Error`], unless a stale object may be used instead.
    pub(crate) async fn find_for_peer(
        self: &Arc<Self>,
        wanted: Wanted<'_>,
    ) -> Result<Found, Error> {
        self.find_by(wanted, Route::Direct).await
    }

    /// As [`Origin::slice`], for a peer.
    ///
    /// Dropped: the fill goes on.
    ///
    /// # Errors
    ///
    /// [`Error`]
    pub(crate) async fn slice_for_peer(
        self: &Arc<Self>,
        object: &Arc<Object>,
        number: u64,
    ) -> Result<Slice, Error> {
        if self.owner(object.key.hash).is_none() {
            return self.slice(object, number).await;
        }
        // The peer has another list of the nodes.
        if let Some(stored) = self.stored(Key::slice(object.record.version, number)).await {
            return Ok(Slice::Stored(stored));
        }
        let range = self.slice_range(object, number);
        let stream = self.stream(object, range, Route::Direct);
        Ok(Slice::Streamed(stream))
    }

    /// When the origin was asked for an object that it did not have; `None`: that is not known.
    pub(crate) fn absent_since(&self, wanted: Wanted<'_>) -> Option<std::time::SystemTime> {
        let (path, query) = (wanted.path, wanted.query);
        let key = Key::new(self.number, path, query, &self.config.cache_key)?;
        match self.cache.known.get(&key.hash)? {
            Known::Absent { asked, .. } => Some(asked),
            Known::Object(_) => None,
        }
    }

    /// What its peers know it by: the host of the site, and its name.
    pub(crate) fn site(&self) -> (&str, &str) {
        (&self.config.host, &self.config.name)
    }

    /// The name of the flight for the object with the key `hash`.
    pub(super) fn flight_name(&self, hash: u128, route: Route) -> u128 {
        match route {
            Route::Direct if self.owner(hash).is_some() => hash ^ DIRECT,
            Route::Direct | Route::Fleet => hash,
        }
    }

    fn owner(&self, hash: u128) -> Option<Arc<Endpoint>> {
        self.fleet.as_ref()?.owner(hash)
    }

    /// Sends a request to the owner of the object, and to the origin if the owner's answer is not
    /// one that `is_useful`.
    ///
    /// Dropped: the request is given up, and its connection closed.
    ///
    /// # Errors
    ///
    /// That of the origin.
    pub(super) async fn send(
        &self,
        key: &Key,
        request: &Request,
        route: Route,
        is_useful: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, Error> {
        if route == Route::Fleet
            && let Some(fleet) = &self.fleet
            && let Some(peer) = fleet.owner(key.hash)
            && peer.is_up()
            && !fleet.is_unshared(key.hash)
        {
            let asked = self.send_to_owner(fleet, &peer, key, request, is_useful);
            return asked.await;
        }
        self.origins.send(request).await
    }

    async fn send_to_owner(
        &self,
        fleet: &Fleet,
        peer: &Arc<Endpoint>,
        key: &Key,
        request: &Request,
        is_useful: impl Fn(&Answer) -> bool,
    ) -> Result<Answer, Error> {
        let asked = Box::pin(async {
            let answer = self.ask_peer(fleet, peer, key, request).await;
            let answer = answer.filter(|answer| is_useful(answer));
            if answer.is_none() && !fleet.is_unshared(key.hash) {
                fleet.count_failure();
            }
            answer
        });
        let patience = Box::pin(sleep(self.patience_with_peers()));
        let asked = match select(asked, patience).await {
            Either::Left((Some(answer), _)) => return Ok(answer),
            Either::Left((None, _)) => return self.origins.send(request).await,
            Either::Right(((), asked)) => asked,
        };
        match select(asked, Box::pin(self.origins.send(request))).await {
            Either::Left((Some(answer), _)) => Ok(answer),
            Either::Left((None, of_origin)) => of_origin.await,
            Either::Right((Ok(answer), _)) => {
                fleet.count_failure();
                peer.overtaken();
                Ok(answer)
            }
            Either::Right((Err(error), asked)) => asked.await.ok_or(error),
        }
    }

    /// What a peer says of an object; `None`: nothing.
    async fn ask_peer(
        &self,
        fleet: &Fleet,
        peer: &Arc<Endpoint>,
        key: &Key,
        request: &Request,
    ) -> Option<Answer> {
        let mut request = request.clone();
        request.fields.extend(fleet.fields());
        let mut push = |name: HeaderName, value: &str| {
            let value = HeaderValue::from_str(value).ok()?;
            request.fields.push((name, value));
            Some(())
        };
        push(ORIGIN, &self.config.name)?;
        if !self.config.host.is_empty() {
            push(header::HOST, &self.config.host)?;
        }
        fleet.count_request();
        let mut answer = match peer.send(&request).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(%error, "a peer is passed over");
                return None;
            }
        };
        let ago = answer.field(&ASKED_AGO).and_then(|ago| ago.parse().ok());
        let Some(ago) = ago else {
            tracing::debug!(peer = %peer.name(), status = %answer.status, "a peer is of no use");
            return None;
        };
        if answer.status == StatusCode::MISDIRECTED_REQUEST {
            fleet.set_unshared(key.hash);
            return None;
        }
        let ago = Duration::from_millis(ago);
        answer.asked_origin = answer.asked.checked_sub(ago).unwrap_or(answer.asked);
        answer.is_of_peer = true;
        Some(answer)
    }

    /// A peer may be asking the origin, which may be slow.
    fn patience_with_peers(&self) -> Duration {
        let usual = self.endpoints().iter().filter_map(|one| one.usual()).max();
        PATIENCE.max(2 * usual.unwrap_or_default())
    }
}
