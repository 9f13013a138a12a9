//! The admin listener: health checks, metrics for Prometheus, and a live page.
//!
//! Requests that purge or warm the cache of origins carry a token (`cache_requests`).
//!
//! It expects a handful of requests a minute, and has a thread of its own: its requests cost the
//! shards nothing. It speaks plain HTTP, one request a connection.

use std::io::{self, PipeWriter};
use std::net::{Ipv4Addr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;

use tidegate_config::Admin;
use tidegate_h1::{Limits, parse};
use tidegate_http::{Method, Request, Status, prefers, site_name};

use crate::error::Error;
use crate::observe::admin_listener::{self, Reaction, Service};
use crate::observe::admin_response::{respond_with, response, status_response};
use crate::observe::cache_requests::CacheRequests;
use crate::observe::exposition::{self, Format};
use crate::observe::health::Health;
use crate::observe::live::{self, PAGE, POLICY};

/// The fields of the live page.
const PAGE_FIELDS: &[(&str, &str)] = &[
    ("Content-Security-Policy", POLICY),
    ("Referrer-Policy", "no-referrer"),
];

/// An admin listener that runs. Dropped: it accepts no more, and answers those that it has accepted.
pub(crate) struct AdminListener {
    socket: TcpListener,
    _running: PipeWriter,
}

impl AdminListener {
    /// A duplicate of its socket, for another process.
    pub(crate) fn socket(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone().map(OwnedFd::from)
    }
}

/// Listens on the address of `admin`, if it has one: on `inherited` if that has the address.
pub(crate) fn start(
    admin: &Admin,
    inherited: Option<TcpListener>,
    health: &Arc<Health>,
) -> Result<Option<AdminListener>, Error> {
    if admin.listen.is_empty() {
        return Ok(None);
    }
    let failed = |source| Error::Listen {
        address: admin.listen.clone(),
        source,
    };
    let inherited = inherited.filter(|socket| has_address(socket, &admin.listen));
    let bind = || TcpListener::bind(&admin.listen);
    let listener = inherited.map_or_else(bind, Ok).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let socket = listener.try_clone().map_err(failed)?;
    let (running, end) = io::pipe().map_err(Error::AdminThread)?;
    let answers = Answers {
        health: Arc::clone(health),
        cache_requests: CacheRequests::default(),
        is_loopback: address.ip().is_loopback(),
    };
    let thread = thread::Builder::new().name("admin".to_owned());
    thread
        .spawn(move || {
            if let Err(error) = admin_listener::serve(listener, &running, &answers) {
                tracing::error!(%error, "the admin listener has ended");
            }
        })
        .map_err(Error::AdminThread)?;
    tracing::info!("admin on http://{address}");
    Ok(Some(AdminListener {
        socket,
        _running: end,
    }))
}

/// Whether `socket` has the configured address; port 0 stands for any.
fn has_address(socket: &TcpListener, configured: &str) -> bool {
    let (Ok(address), Ok(mut wanted)) = (socket.local_addr(), configured.to_socket_addrs()) else {
        return false;
    };
    wanted.any(|wanted| wanted.ip() == address.ip() && [0, address.port()].contains(&wanted.port()))
}

/// What the listener answers from.
struct Answers {
    health: Arc<Health>,
    cache_requests: CacheRequests,
    /// Whether only this host reaches the listener.
    is_loopback: bool,
}

impl Answers {
    /// Whether a request for `host` may be answered. On a loopback address the host is a literal
    /// address or localhost: a web page could give its own name the address 127.0.0.1 and read the
    /// responses (DNS rebinding).
    fn is_for(&self, host: Option<&str>) -> bool {
        let name = site_name(host.unwrap_or_default());
        let is_local = name == "localhost" || name.ends_with(".localhost");
        let is_literal = || name.parse::<Ipv4Addr>().is_ok() || name.starts_with('[');
        !self.is_loopback || name.is_empty() || is_local || is_literal()
    }
}

impl Service for Answers {
    fn reaction(&self, received: &[u8]) -> Option<Reaction> {
        answer(received, self)
    }

    fn too_slow(&self) -> Vec<u8> {
        status_response(Status::REQUEST_TIMEOUT, Method::Get)
    }

    fn no_room(&self) -> Vec<u8> {
        status_response(Status::SERVICE_UNAVAILABLE, Method::Get)
    }
}

/// What becomes of the request in `received`; `None` while its head is not complete.
fn answer(received: &[u8], answers: &Answers) -> Option<Reaction> {
    let head = match parse(received, &Limits::default()) {
        Ok(head) => head?,
        Err(error) => {
            return Some(Reaction::Response(status_response(
                error.status(),
                Method::Get,
            )));
        }
    };
    if !answers.is_for(head.request.host) {
        let response = status_response(Status::FORBIDDEN, head.request.method);
        return Some(Reaction::Response(response));
    }
    let sites = || answers.health.origins.sites();
    let reaction = answers.cache_requests.reaction(received, &head, sites);
    Some(
        reaction
            .unwrap_or_else(|| Reaction::Response(answer_request(&head.request, &answers.health))),
    )
}

fn answer_request(request: &Request<'_>, health: &Health) -> Vec<u8> {
    let method = request.method;
    if !matches!(method, Method::Get | Method::Head) {
        return status_response(Status::METHOD_NOT_ALLOWED, method);
    }
    let stalled = health.stalled();
    match request.target.path() {
        "/healthz" | "/readyz" if !stalled.is_empty() => {
            response(Status::SERVICE_UNAVAILABLE, "text/plain", &stalled, method)
        }
        "/healthz" => status_response(Status::OK, method),
        "/readyz" if health.is_ready() => {
            let text = format!(
                "{}\n{}",
                Status::OK.code_and_reason(),
                health.origins_down()
            );
            response(Status::OK, "text/plain; charset=utf-8", &text, method)
        }
        "/readyz" => status_response(Status::SERVICE_UNAVAILABLE, method),
        "/" => respond_with(
            Status::OK,
            "text/html; charset=utf-8",
            PAGE_FIELDS,
            PAGE,
            method,
        ),
        "/live.json" => {
            health.scrape();
            response(
                Status::OK,
                "application/json",
                &live::status(health),
                method,
            )
        }
        "/metrics" => {
            health.scrape();
            let format = format(request);
            let metrics = exposition::metrics(health, format);
            response(Status::OK, format.content_type(), &metrics, method)
        }
        _ => status_response(Status::NOT_FOUND, method),
    }
}

/// `OpenMetrics` for clients that prefer it; Prometheus does.
fn format(request: &Request<'_>) -> Format {
    if prefers(
        request,
        ["application", "openmetrics-text"],
        ["text", "plain"],
    ) {
        Format::OpenMetrics
    } else {
        Format::Prometheus
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::host::budget::Budget;
    use crate::observe::access_log::LogFiles;

    static NONE_DROPPED: AtomicU64 = AtomicU64::new(0);

    fn answers() -> Answers {
        Answers {
            health: Arc::new(Health::new(
                None,
                &NONE_DROPPED,
                Vec::new(),
                Arc::new(LogFiles::new(1)),
                Budget::unlimited(),
            )),
            cache_requests: CacheRequests::default(),
            is_loopback: true,
        }
    }

    fn asked(request: &str, answers: &Answers) -> String {
        match answer(request.as_bytes(), answers) {
            Some(Reaction::Response(answer)) => String::from_utf8(answer).unwrap(),
            Some(Reaction::Task(_)) => panic!("a thread of its own"),
            None => panic!("not a whole request"),
        }
    }

    fn get(path: &str, answers: &Answers) -> String {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        asked(&request, answers)
    }

    #[test]
    fn a_loopback_address_answers_for_no_other_name() {
        let mut answers = answers();
        let status = |host: &str, answers: &Answers| {
            let answer = asked(
                &format!("GET /healthz HTTP/1.0\r\nHost: {host}\r\n\r\n"),
                answers,
            );
            answer["HTTP/1.1 ".len()..][..3].parse::<u16>().unwrap()
        };
        for (host, expected) in [
            ("localhost:9900", 200),
            ("LOCALHOST.", 200),
            ("a.localhost", 200),
            ("127.0.0.1:9900", 200),
            ("[::1]:9900", 200),
            ("", 200),
            ("evil.test", 403),
            ("notlocalhost", 403),
            ("127.0.0.1.evil.test:9900", 403),
        ] {
            assert_eq!(status(host, &answers), expected, "{host}");
        }
        answers.is_loopback = false;
        assert_eq!(status("node1.test:9900", &answers), 200);
    }

    #[test]
    fn it_is_ready_once_it_is_set_ready() {
        let answers = answers();
        assert!(get("/healthz", &answers).starts_with("HTTP/1.1 200 "));
        assert!(get("/readyz", &answers).starts_with("HTTP/1.1 503 "));
        answers.health.set_ready(true);
        assert!(get("/readyz", &answers).starts_with("HTTP/1.1 200 "));
        assert!(get("/metrics", &answers).contains("\ntidegate_ready 1\n"));
        answers.health.set_ready(false);
        assert!(get("/readyz", &answers).starts_with("HTTP/1.1 503 "));
        assert!(get("/metrics", &answers).contains("\ntidegate_ready 0\n"));
    }

    #[test]
    fn a_bad_request_is_refused() {
        let answers = answers();
        for (request, status) in [
            ("GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
            (
                "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
                405,
            ),
            ("GET /metrics HTTP/1.1\r\n\r\n", 400),
            ("\x16\x03\x01\r\n\r\n", 400),
        ] {
            let answer = asked(request, &answers);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        }
    }

    #[test]
    fn a_head_has_the_length_and_no_body() {
        let answers = answers();
        let whole = get("/metrics", &answers);
        assert!(
            whole.contains("\n# TYPE tidegate_build_info gauge\n"),
            "{whole}"
        );
        // Those of the process change from one scrape to the next, so the page stands for them.
        let whole = get("/", &answers);
        let (_, body) = whole.split_once("\r\n\r\n").unwrap();
        let head = asked("HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n", &answers);
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        assert!(
            head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())),
            "{head}"
        );
    }
}
