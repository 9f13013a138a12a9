//! Requests in a closed loop: a connection sends its next request as soon as
//! it has the whole response to the one before. Pipelined, it sends the next
//! ones when all are answered; with a connection for each request, the next one
//! is opened when the server has closed the one before. At a fixed rate the loop
//! is open: a request is sent when it is due, or waits until its connection has
//! the response to the one before, and what it waited counts.
//!
//! Readers that only make work for the server run beside them in the same
//! loop: a client of their own would compete for the core and its scheduling
//! would show up in the latencies. Bulk readers are paced by time and read
//! without waiting for readiness; readers of cold files take what comes.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::arrivals::Arrivals;
use crate::cli::GetOptions;
use crate::connection::{BodyMode, Broken, Buffer, Connection, Received, Server};
use crate::error::{Error, Result};
use crate::output::fields;
use crate::pacer::Pacer;
use crate::plan::{Batch, Plan};
use crate::poller::Poller;
use crate::usage::{cpu_ns, machine_ns, own_ns};

/// Latencies are recorded from 1 us to 5 minutes with three digits.
const LATENCY_NS_MIN: u64 = 1_000;
const LATENCY_NS_MAX: u64 = 300_000_000_000;
const LATENCY_DIGITS: u8 = 3;
/// A server that fails more often than this is not measured, it is broken.
const FAILURES_MAX: u64 = 1_000;

pub(crate) fn run(options: &GetOptions) -> Result<Map<String, Value>> {
    let mut load = Load::new(options)?;
    load.run_for(Duration::from_secs_f64(options.warmup))?;
    load.tally = Tally::new();
    let before = CpuTimes::now(options)?;
    let start = Instant::now();
    load.run_for(Duration::from_secs_f64(options.seconds))?;
    let elapsed = start.elapsed();
    let cpu = CpuTimes::now(options)?.since(&before);
    load.count_unanswered();
    let mut report = load.report(elapsed, &cpu);
    report.insert("rate".into(), options.rate.into());
    Ok(report)
}

/// CPU times in nanoseconds.
struct CpuTimes {
    /// `None` if the server's counter was not given.
    server: Option<u64>,
    client: u64,
    machine: u64,
}

/// What a connection is there for.
enum Role {
    /// One of the closed loop.
    Measured,
    /// One of the open loop; since when the requests are due that wait for the
    /// response to the one before.
    Scheduled { waiting: VecDeque<Instant> },
    /// The same, with a connection for each request.
    Churning,
    /// Reads without pause.
    Beside,
    /// Reads at a fixed rate; `bytes` so far in this measurement.
    Bulk { pacer: Pacer, bytes: u64 },
}

struct Client {
    connection: Connection,
    batch: Rc<Batch>,
    mode: BodyMode,
    role: Role,
    /// What the latency of the latest request counts from.
    since: Instant,
}

/// What was seen since the measurement began.
struct Tally {
    requests: u64,
    bytes: u64,
    beside_bytes: u64,
    latency_ns: Histogram<u64>,
    /// Requests of the open loop that were due but had no response at the end.
    unanswered: u64,
    failures: u64,
    reconnects: u64,
}

struct Load {
    server: Server,
    clients: Vec<Client>,
    /// Clients from here on are bulk readers, which are not polled.
    bulk_start: usize,
    plan: Plan,
    /// Of the open loop.
    arrivals: Option<Arrivals>,
    poller: Poller,
    buffer: Buffer,
    tally: Tally,
}

impl CpuTimes {
    fn now(options: &GetOptions) -> Result<Self> {
        Ok(Self {
            server: options.cpu.as_deref().map(cpu_ns).transpose()?,
            client: own_ns()?,
            machine: machine_ns()?,
        })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            server: self
                .server
                .zip(before.server)
                .map(|(after, before)| after - before),
            client: self.client - before.client,
            machine: self.machine - before.machine,
        }
    }

    /// What neither server nor client used.
    fn other(&self) -> Option<u64> {
        Some(self.machine.saturating_sub(self.client + self.server?))
    }
}

impl Role {
    /// Of the connections that are measured.
    fn measured(options: &GetOptions) -> Self {
        match options {
            GetOptions { churn: true, .. } => Self::Churning,
            GetOptions { rate: Some(_), .. } => Self::Scheduled {
                waiting: VecDeque::new(),
            },
            _ => Self::Measured,
        }
    }
}

impl Load {
    fn new(options: &GetOptions) -> Result<Self> {
        let mut load = Self {
            server: Server::new(&options.target, options.resume).map_err(Error::io("connect"))?,
            clients: Vec::new(),
            bulk_start: options.connections + options.beside.len(),
            plan: Plan::new(options)?,
            arrivals: None,
            poller: Poller::new()?,
            buffer: Buffer::default(),
            tally: Tally::new(),
        };
        load.add_measured(options)?;
        for path in &options.beside {
            let batch = Rc::new(Batch::plain(load.server.address, path));
            load.add(batch, BodyMode::Discard, Role::Beside)?;
        }
        load.add_bulk(options)?;
        if let Some(rate) = options.rate {
            load.arrivals = Some(Arrivals::new(rate, options.connections, Instant::now()));
        }
        Ok(load)
    }

    fn add_measured(&mut self, options: &GetOptions) -> Result<()> {
        let mode = if options.discard {
            BodyMode::Discard
        } else {
            BodyMode::Read
        };
        for _ in 0..options.connections {
            let role = Role::measured(options);
            let batch = self.plan.next();
            self.add(batch, mode, role)?;
        }
        Ok(())
    }

    fn add_bulk(&mut self, options: &GetOptions) -> Result<()> {
        let batch = Rc::new(Batch::plain(self.server.address, &options.bulk_path));
        let count = options.bulk_readers;
        let now = Instant::now();
        for index in 0..count {
            let pacer = Pacer::new(options.bulk_rate, index, count, now);
            let role = Role::Bulk { pacer, bytes: 0 };
            self.add(Rc::clone(&batch), BodyMode::Discard, role)?;
        }
        Ok(())
    }

    /// Connects and, unless it has its time, sends the first request.
    fn add(&mut self, batch: Rc<Batch>, mode: BodyMode, role: Role) -> Result<()> {
        let connection = self.server.open(mode).map_err(Error::io("connect"))?;
        if !matches!(role, Role::Bulk { .. }) {
            self.poller.add(&connection, self.clients.len())?;
        }
        let mut client = Client {
            connection,
            batch,
            mode,
            role,
            since: Instant::now(),
        };
        if !matches!(client.role, Role::Scheduled { .. }) {
            client.send().map_err(|broken| too_many(1, &broken))?;
        }
        self.clients.push(client);
        Ok(())
    }

    fn run_for(&mut self, duration: Duration) -> Result<()> {
        let end = Instant::now() + duration;
        self.restart_bulk_count();
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            let wake = self.read_bulk(now)?.unwrap_or(end).min(end);
            self.send_due(now)?;
            let timeout = match self.arrivals {
                // Timers are late, in a virtual machine by half a millisecond.
                Some(_) => Duration::ZERO,
                None => wake.saturating_duration_since(now),
            };
            let ready = self.poller.wait(timeout)?;
            for n in 0..ready {
                self.read(self.poller.index(n))?;
            }
        }
    }

    /// Sends the requests of the open loop that are due, or has them wait.
    fn send_due(&mut self, now: Instant) -> Result<()> {
        let Some(arrivals) = &mut self.arrivals else {
            return Ok(());
        };
        let due: Vec<_> = std::iter::from_fn(|| arrivals.arrive(now)).collect();
        for (index, due) in due {
            if let Err(broken) = self.clients[index].arrived(due) {
                self.reconnect(index, &broken)?;
            }
        }
        Ok(())
    }

    fn restart_bulk_count(&mut self) {
        for client in &mut self.clients[self.bulk_start..] {
            if let Role::Bulk { bytes, .. } = &mut client.role {
                *bytes = 0;
            }
        }
    }

    /// Takes one piece from a client that is readable.
    fn read(&mut self, index: usize) -> Result<()> {
        let client = &mut self.clients[index];
        match client.read(&mut self.buffer, &mut self.tally, &mut self.plan) {
            Ok(()) => Ok(()),
            Err(Broken::ClosedBetween) if client.is_served() => {
                self.tally.record(1, client.since.elapsed());
                self.open_next(index)
            }
            Err(broken) => self.reconnect(index, &broken),
        }
    }

    /// Lets the bulk readers that are due read; when the next one is.
    fn read_bulk(&mut self, now: Instant) -> Result<Option<Instant>> {
        let mut next = None;
        for index in self.bulk_start..self.clients.len() {
            let client = &mut self.clients[index];
            let read = client.read_share(now, &mut self.buffer);
            if let Role::Bulk { pacer, .. } = &client.role {
                next = Some(next.map_or(pacer.next(), |next: Instant| next.min(pacer.next())));
            }
            if let Err(broken) = read {
                self.reconnect(index, &broken)?;
            }
        }
        Ok(next)
    }

    /// Replaces a connection. That a server ends one between two responses
    /// (after so many requests, say) is its right; all else is a failure.
    fn reconnect(&mut self, index: usize, broken: &Broken) -> Result<()> {
        match broken {
            Broken::ClosedBetween => self.tally.reconnects += 1,
            _ => self.tally.failures += 1,
        }
        let count = self.tally.failures + self.tally.reconnects;
        if count > FAILURES_MAX + self.tally.requests {
            return Err(too_many(count, broken));
        }
        let answered = !self.clients[index].connection.is_waiting();
        self.open(index)?;
        self.clients[index]
            .ask_again(answered)
            .map_err(|broken| too_many(count, &broken))
    }

    /// The next connection of a client that has one for each request: what the
    /// client sees of it begins with the handshake.
    fn open_next(&mut self, index: usize) -> Result<()> {
        let start = Instant::now();
        self.open(index)?;
        self.clients[index]
            .send_since(start)
            .map_err(|broken| too_many(1, &broken))
    }

    fn open(&mut self, index: usize) -> Result<()> {
        let client = &mut self.clients[index];
        client.connection = self
            .server
            .open(client.mode)
            .map_err(Error::io("connect"))?;
        if !matches!(client.role, Role::Bulk { .. }) {
            self.poller.add(&client.connection, index)?;
        }
        Ok(())
    }

    /// What waits at the end has waited so long at least.
    fn count_unanswered(&mut self) {
        let now = Instant::now();
        for client in &self.clients {
            let Role::Scheduled { waiting } = &client.role else {
                continue;
            };
            let asked = client.is_asking().then_some(&client.since);
            for &due in asked.into_iter().chain(waiting) {
                self.tally.record_unanswered(now - due);
            }
        }
    }

    fn report(&self, elapsed: Duration, cpu: &CpuTimes) -> Map<String, Value> {
        let seconds = elapsed.as_secs_f64();
        let bulk = self.bulk_bytes();
        let mut report = self.tally.report(seconds);
        report.insert("seconds".into(), seconds.into());
        report.insert("oldest_us".into(), self.oldest_us().into());
        report.insert("bulk_readers".into(), bulk.len().into());
        report.insert("bulk_bytes".into(), bulk.iter().sum::<u64>().into());
        report.insert("bulk_bytes_least".into(), bulk.iter().min().copied().into());
        report.insert("cpu_ns".into(), cpu.server.into());
        report.insert("client_cpu_ns".into(), cpu.client.into());
        report.insert("other_cpu_ns".into(), cpu.other().into());
        report
    }

    fn bulk_bytes(&self) -> Vec<u64> {
        let bytes = |client: &Client| match client.role {
            Role::Bulk { bytes, .. } => Some(bytes),
            _ => None,
        };
        self.clients.iter().filter_map(bytes).collect()
    }

    /// How long the oldest request without its response has been waiting: a
    /// server that stands still shows here, not in the percentiles.
    fn oldest_us(&self) -> f64 {
        let waiting = self
            .clients
            .iter()
            .filter(|client| client.is_asking())
            .map(|client| client.since.elapsed());
        microseconds(waiting.max().unwrap_or_default().as_nanos() as u64)
    }
}

impl Client {
    fn send(&mut self) -> std::result::Result<(), Broken> {
        self.send_since(Instant::now())
    }

    fn send_since(&mut self, since: Instant) -> std::result::Result<(), Broken> {
        self.since = since;
        let batch = &self.batch;
        self.connection
            .send(&batch.bytes, batch.count, batch.expected)
    }

    /// A request of the open loop is due.
    fn arrived(&mut self, due: Instant) -> std::result::Result<(), Broken> {
        if let Role::Scheduled { waiting } = &mut self.role {
            waiting.push_back(due);
        }
        if self.connection.is_waiting() {
            return Ok(());
        }
        self.send_waiting()
    }

    /// Sends the request of the open loop that has been due for longest.
    fn send_waiting(&mut self) -> std::result::Result<(), Broken> {
        let Role::Scheduled { waiting } = &mut self.role else {
            return Ok(());
        };
        match waiting.pop_front() {
            Some(due) => self.send_since(due),
            None => Ok(()),
        }
    }

    /// Goes on with a new connection. A request of the open loop that had no
    /// response is due since when it was.
    fn ask_again(&mut self, answered: bool) -> std::result::Result<(), Broken> {
        match self.role {
            Role::Scheduled { .. } if answered => self.send_waiting(),
            Role::Scheduled { .. } => self.send_since(self.since),
            _ => self.send(),
        }
    }

    /// Whether a request that is measured has no response yet.
    fn is_asking(&self) -> bool {
        match self.role {
            Role::Measured | Role::Churning => true,
            Role::Scheduled { .. } => self.connection.is_waiting(),
            Role::Beside | Role::Bulk { .. } => false,
        }
    }

    /// Whether this client's one response has come, so that only the end of the
    /// connection is still to come.
    fn is_served(&self) -> bool {
        matches!(self.role, Role::Churning) && !self.connection.is_waiting()
    }

    fn read(
        &mut self,
        buffer: &mut Buffer,
        tally: &mut Tally,
        plan: &mut Plan,
    ) -> std::result::Result<(), Broken> {
        let Some(received) = self.connection.receive(buffer, usize::MAX)? else {
            return Ok(());
        };
        self.count(&received, tally);
        if received.ended {
            return Err(self.connection.closed());
        }
        match self.role {
            Role::Measured | Role::Scheduled { .. } if received.complete => {
                self.batch = plan.next();
                self.next_request()
            }
            Role::Beside if received.complete => self.next_request(),
            _ => Ok(()),
        }
    }

    fn count(&self, received: &Received, tally: &mut Tally) {
        match self.role {
            Role::Measured | Role::Scheduled { .. } => {
                tally.bytes += received.body_bytes;
                tally.record(received.responses, self.since.elapsed());
            }
            // Recorded when the connection has ended.
            Role::Churning => tally.bytes += received.body_bytes,
            Role::Beside | Role::Bulk { .. } => tally.beside_bytes += received.body_bytes,
        }
    }

    fn next_request(&mut self) -> std::result::Result<(), Broken> {
        if self.connection.close_announced() {
            return Err(Broken::ClosedBetween);
        }
        match self.role {
            Role::Scheduled { .. } => self.send_waiting(),
            _ => self.send(),
        }
    }

    /// Reads what the pacer allows, as far as it has come.
    fn read_share(&mut self, now: Instant, buffer: &mut Buffer) -> std::result::Result<(), Broken> {
        let Role::Bulk { pacer, bytes } = &mut self.role else {
            return Ok(());
        };
        if !pacer.advance(now) {
            return Ok(());
        }
        while pacer.allowance() > 0 {
            let Some(received) = self.connection.receive(buffer, pacer.allowance())? else {
                break;
            };
            pacer.spend(received.body_bytes);
            *bytes += received.body_bytes;
            if received.complete {
                return self.next_request();
            }
        }
        Ok(())
    }
}

impl Tally {
    fn new() -> Self {
        let latency_ns = Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, LATENCY_DIGITS)
            .expect("the constant bounds are valid");
        Self {
            requests: 0,
            bytes: 0,
            beside_bytes: 0,
            latency_ns,
            unanswered: 0,
            failures: 0,
            reconnects: 0,
        }
    }

    fn record(&mut self, responses: usize, latency: Duration) {
        let (count, latency) = (responses as u64, latency.as_nanos() as u64);
        self.requests += count;
        self.latency_ns.saturating_record_n(latency, count);
    }

    fn record_unanswered(&mut self, age: Duration) {
        self.unanswered += 1;
        self.latency_ns.saturating_record(age.as_nanos() as u64);
    }

    fn report(&self, seconds: f64) -> Map<String, Value> {
        fields(json!({
            "requests": self.requests,
            "requests_per_second": self.requests as f64 / seconds,
            "bytes": self.bytes,
            "p50_us": self.percentile_us(0.50),
            "p99_us": self.percentile_us(0.99),
            "p999_us": self.percentile_us(0.999),
            "max_us": self.percentile_us(1.0),
            "beside_bytes": self.beside_bytes,
            "unanswered": self.unanswered,
            "errors": self.failures,
            "reconnects": self.reconnects,
        }))
    }

    /// `None` if nothing was asked, or in a closed loop answered.
    fn percentile_us(&self, quantile: f64) -> Option<f64> {
        (!self.latency_ns.is_empty())
            .then(|| microseconds(self.latency_ns.value_at_quantile(quantile)))
    }
}

/// Microseconds with one digit.
fn microseconds(nanoseconds: u64) -> f64 {
    (nanoseconds as f64 / 100.0).round() / 10.0
}

fn too_many(count: u64, last: &Broken) -> Error {
    Error::TooManyFailures {
        count,
        last: last.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::thread;

    use super::*;
    use crate::cli::Target;

    /// A server on a port of its own that sends `response` for every request,
    /// and closes after each if that is what it says.
    fn serve(response: String) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let response = response.clone();
                thread::spawn(move || answer(stream.unwrap(), &response));
            }
        });
        address
    }

    fn answer(mut stream: TcpStream, response: &str) {
        let mut request = [0; 512];
        while stream.read(&mut request).is_ok_and(|count| count > 0) {
            if stream.write_all(response.as_bytes()).is_err() || response.contains("close") {
                return;
            }
        }
    }

    fn options(server: SocketAddr, length: u64) -> GetOptions {
        GetOptions {
            target: Target {
                server,
                path: "/".into(),
                tls: None,
            },
            connections: 2,
            rate: None,
            length: Some(length),
            status: 200,
            depth: 1,
            churn: false,
            resume: false,
            conditional: false,
            trace: None,
            warmup: 0.02,
            seconds: 0.1,
            discard: false,
            cpu: None,
            beside: vec!["/beside".into()],
            bulk_path: "/bulk".into(),
            bulk_readers: 1,
            bulk_rate: 1_000_000,
        }
    }

    fn number(report: &Map<String, Value>, name: &str) -> u64 {
        report[name].as_u64().unwrap()
    }

    #[test]
    fn counts_requests_and_bytes_of_each_role() {
        let body = "x".repeat(1000);
        let server = serve(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{body}"
        ));
        for discard in [false, true] {
            let report = run(&GetOptions {
                discard,
                ..options(server, 1000)
            })
            .unwrap();
            assert!(number(&report, "requests") > 0);
            assert_eq!(number(&report, "errors"), 0);
            assert_eq!(number(&report, "reconnects"), 0);
            assert_eq!(number(&report, "bytes"), 1000 * number(&report, "requests"));
            assert!(number(&report, "beside_bytes") > 0);
            assert!(number(&report, "bulk_bytes") > 0);
            assert!(report["p99_us"].as_f64() >= report["p50_us"].as_f64());
        }
    }

    #[test]
    fn a_server_that_closes_is_connected_to_again() {
        let server =
            serve("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".into());
        let report = run(&options(server, 2)).unwrap();
        assert!(number(&report, "reconnects") > 0);
        assert_eq!(number(&report, "errors"), 0);
    }

    #[test]
    fn a_connection_for_each_request() {
        let server =
            serve("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".into());
        let report = run(&GetOptions {
            churn: true,
            beside: Vec::new(),
            bulk_readers: 0,
            ..options(server, 2)
        })
        .unwrap();
        assert!(number(&report, "requests") > 0);
        assert_eq!(number(&report, "reconnects"), 0);
        assert_eq!(number(&report, "errors"), 0);
    }

    #[test]
    fn pipelined_requests_go_out_together() {
        let server = serve("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".repeat(3));
        let report = run(&GetOptions {
            depth: 3,
            beside: Vec::new(),
            bulk_readers: 0,
            ..options(server, 2)
        })
        .unwrap();
        assert!(number(&report, "requests") >= 3);
        assert_eq!(number(&report, "errors"), 0);
    }

    /// The report of an open loop of 100 requests a second on one connection,
    /// whose first response takes `stall`.
    fn open_loop(stall: Duration, seconds: f64) -> Map<String, Value> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            thread::sleep(stall);
            answer(stream, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        });
        run(&GetOptions {
            connections: 1,
            rate: Some(100),
            warmup: 0.0,
            seconds,
            beside: Vec::new(),
            bulk_readers: 0,
            ..options(server, 2)
        })
        .unwrap()
    }

    #[test]
    fn what_was_due_while_the_server_stood_still_counts_with_its_wait() {
        let report = open_loop(Duration::from_millis(800), 1.0);
        // 80 of 100 had to wait, up to 800 ms; a closed loop would count one.
        assert!(number(&report, "requests") > 90, "{report:?}");
        assert!(report["p50_us"].as_f64() > Some(200_000.0), "{report:?}");
        assert!(report["p99_us"].as_f64() > Some(700_000.0), "{report:?}");
    }

    #[test]
    fn what_has_no_response_counts_with_its_age() {
        let report = open_loop(Duration::from_mins(1), 0.5);
        assert_eq!(number(&report, "requests"), 0);
        assert!(number(&report, "unanswered") > 40, "{report:?}");
        assert!(report["p99_us"].as_f64() > Some(400_000.0), "{report:?}");
    }

    #[test]
    fn a_server_that_is_always_wrong_ends_the_run() {
        let server = serve("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".into());
        let error = run(&GetOptions {
            seconds: 60.0,
            ..options(server, 3)
        })
        .unwrap_err();
        assert!(error.to_string().contains("Content-Length 2"), "{error}");
    }
}
