//! Who may have what: decided before the cache answers, and for whatever is sent in place of the
//! requested path.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::SystemTime;

use tidegate_access::{Login, SignatureError, verify};
use tidegate_http::{Field, Method, Request, Status};
use tidegate_site::{File, Found, Site};
use tidegate_uring::{PoolHandle, Ring, ThreadPool};

use crate::clients::network;
use crate::config::credentials::Attempt;
use crate::config::logins::{Verdict, Verified};
use crate::config::snapshot::Snapshot;
use crate::respond::exchange::Exchange;
use crate::respond::refusal::Refusal;

/// Verifies passwords: one of bcrypt or argon2id takes some 100 ms. The nice value is below the
/// executors, and below threads that decompress for clients that may have what they asked for.
static THREADS: ThreadPool = ThreadPool::new("tidegate-login", 7, 4, 128);

/// The prefix of the network of an IPv6 client that takes turns.
const IPV6_PREFIX: u8 = 64;

/// Whether `path` belongs to an ACME HTTP challenge (RFC 8555, section 8.3).
pub(super) fn is_challenge(path: &[u8]) -> bool {
    path.starts_with(b"/.well-known/acme-challenge/")
}

/// Whether a client may have a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Granted,
    Refused(Refusal),
    /// Depends on the password for a rule, which is to be verified first.
    Unverified(usize),
}

/// Decides about paths for one request.
#[derive(Clone, Copy)]
pub(super) struct Gate<'a> {
    snapshot: &'a Snapshot,
    site: &'a Site,
    request: &'a Request<'a>,
    /// The requested path, decoded.
    path: &'a [u8],
}

impl<'a> Gate<'a> {
    /// A gate for a request of `site` for `path`, decoded.
    pub(super) fn new(
        snapshot: &'a Snapshot,
        site: &'a Site,
        request: &'a Request<'a>,
        path: &'a [u8],
    ) -> Self {
        Self {
            snapshot,
            site,
            request,
            path,
        }
    }

    pub(super) fn request(self) -> &'a Request<'a> {
        self.request
    }

    /// Whether the client may have the requested path.
    pub(super) fn decide(self, exchange: &mut Exchange) -> Decision {
        if is_challenge(self.path) {
            return Decision::Granted;
        }
        self.decide_other(self.path, exchange)
    }

    /// Whether the client may have `file`, which is sent for a path that it may have.
    pub(super) fn decide_file(self, file: &File, exchange: &mut Exchange) -> Decision {
        let others = file.other_paths.iter();
        let mut decisions = others.map(|path| self.decide_other(path, exchange));
        let other = decisions.find(|decision| *decision != Decision::Granted);
        other.unwrap_or(Decision::Granted)
    }

    /// Whether the client may have what was found for the requested path, which it may have.
    fn decide_found(self, found: &Found, exchange: &mut Exchange) -> Decision {
        match found {
            Found::File(file) | Found::Fallback(file) => self.decide_file(file, exchange),
            Found::Compressed(compressed) => self.decide_file(&compressed.description, exchange),
            Found::Decompression(started) => self.decide_file(started.description(), exchange),
            Found::Listing { directory, .. } if directory == self.path => Decision::Granted,
            Found::Listing { directory, .. } => self.decide_other(directory, exchange),
            // Where the client would be sent.
            Found::Redirect { .. } => self.decide_other(&[self.path, b"/"].concat(), exchange),
            // An error page is for all.
            Found::Elsewhere { .. } | Found::Refused { .. } => Decision::Granted,
        }
    }

    fn decide_other(self, path: &[u8], exchange: &mut Exchange) -> Decision {
        if !self.site.admits(path, || exchange.client()) {
            return Decision::Refused(Status::FORBIDDEN.into());
        }
        if self.is_preflight() {
            return Decision::Granted;
        }
        for rule in self.site.signed_rules(path) {
            if let Err(error) = self.check_signature(rule, exchange) {
                return Decision::Refused(status_of(error).into());
            }
        }
        for rule in self.site.auth_rules(path) {
            match self.log_in(rule, exchange) {
                Decision::Granted => {}
                other => return other,
            }
        }
        Decision::Granted
    }

    /// Whether a browser asks if scripts of another origin may send a request. It sends no password
    /// with that (Fetch standard, CORS-preflight fetch).
    fn is_preflight(self) -> bool {
        let fields = self.request.fields;
        self.request.method == Method::Options
            && !self.site.cors().is_off()
            && fields.has(Field::Origin)
            && fields.has(Field::AccessControlRequestMethod)
    }

    /// Whether the URL is signed with a key of the rule: always for the requested path, whatever is
    /// sent for it.
    fn check_signature(self, rule: usize, exchange: &Exchange) -> Result<(), SignatureError> {
        let keys = self.snapshot.credentials.keys(self.site.number(), rule);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let now = now.unwrap_or_default().as_secs();
        let query = self.request.target.query();
        verify(keys, query, self.path, now, || exchange.client())
    }

    fn log_in(self, rule: usize, exchange: &mut Exchange) -> Decision {
        let Some(login) = self.login() else {
            return Decision::Refused(Refusal::unauthorized(rule));
        };
        let tag = self
            .snapshot
            .credentials
            .tag(&login, self.site.number(), rule);
        match self.snapshot.logins.find(tag, exchange.start()) {
            None => Decision::Unverified(rule),
            Some(name) => {
                exchange.set_user(name);
                Decision::Granted
            }
        }
    }

    /// The name and the password of the request; `None` if it has none, or several.
    fn login(self) -> Option<Login> {
        let mut values = self.request.fields.named("authorization");
        let value = values.next()?;
        values.next().is_none().then(|| Login::parse(value))?
    }

    /// As [`Gate::decide`] for what was found for the requested path, but verifies passwords.
    ///
    /// Dropped: a verification in progress runs to its end, and its result is lost.
    pub(super) async fn admit_found(
        self,
        found: &Found,
        exchange: &mut Exchange,
        ring: &Ring,
    ) -> Result<(), Refusal> {
        loop {
            match self.decide_found(found, exchange) {
                Decision::Granted => return Ok(()),
                Decision::Refused(refusal) => return Err(refusal),
                Decision::Unverified(rule) => self.verify(rule, exchange, ring).await?,
            }
        }
    }

    /// Verifies the password for a rule, on another thread. Afterwards it is remembered.
    ///
    /// Dropped: a verification in progress runs to its end, and its result is lost.
    ///
    /// # Errors
    ///
    /// 401 if it is wrong; 503 if too many are being verified.
    pub(super) async fn verify(
        self,
        rule: usize,
        exchange: &mut Exchange,
        ring: &Ring,
    ) -> Result<(), Refusal> {
        let login = self.login().ok_or(Refusal::unauthorized(rule))?;
        let name: Rc<str> = String::from_utf8_lossy(login.name()).into();
        exchange.set_user(Rc::clone(&name));
        let credentials = &self.snapshot.credentials;
        let attempt = credentials.attempt(login, self.site.number(), rule);
        let (logins, tag) = (&self.snapshot.logins, attempt.tag());
        let verification = verify_elsewhere(attempt, exchange.client(), ring.clone());
        match logins.join(tag, verification).await {
            Verdict::Right(until) => logins.insert(tag, Verified { name, until }),
            Verdict::Busy => return Err(Status::SERVICE_UNAVAILABLE.into()),
            Verdict::Wrong => {
                logins.count_failure(exchange.client());
                return Err(Refusal::unauthorized(rule));
            }
        }
        Ok(())
    }
}

/// As nginx's `secure_link` is used: an expired URL is gone, any other is forbidden.
fn status_of(error: SignatureError) -> Status {
    match error {
        SignatureError::Wrong => Status::FORBIDDEN,
        SignatureError::Expired => Status::GONE,
    }
}

/// Verifies a password of `client` on a thread, unless another core did lately.
async fn verify_elsewhere(attempt: Attempt, client: Option<IpAddr>, ring: Ring) -> Verdict {
    if let Some(until) = attempt.remembered() {
        return Verdict::Right(until);
    }
    match on_a_thread(&ring, origin(client), move || attempt.verify()).await {
        Ok(Some(until)) => Verdict::Right(until),
        Ok(None) => Verdict::Wrong,
        Err(_) => Verdict::Busy,
    }
}

/// A client takes turns as one with its network.
fn origin(client: Option<IpAddr>) -> u128 {
    match client.map(|client| network(client, IPV6_PREFIX)) {
        None => 0,
        Some(IpAddr::V4(address)) => address.to_ipv6_mapped().to_bits(),
        Some(IpAddr::V6(address)) => address.to_bits(),
    }
}

async fn on_a_thread<T: Send + 'static>(
    ring: &Ring,
    origin: u128,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let mut pool = PoolHandle::new(&THREADS, ring)?;
    pool.run_for(origin, work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_takes_turns_with_its_network() {
        let of = |text: &str| origin(Some(text.parse().unwrap()));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_ne!(of("192.0.2.1"), origin(None));
    }
}
