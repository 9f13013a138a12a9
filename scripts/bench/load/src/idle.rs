//! What connections cost on which nothing or little happens: resident memory,
//! and CPU time. Either they are idle after a request, or each is in the midst of
//! a download of which its client reads a little now and then, or nothing.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::cli::IdleOptions;
use crate::connection::{BodyMode, Broken, Buffer, Connection, Server, request, target_request};
use crate::error::{Error, Result};
use crate::output::fields;
use crate::response::Expected;
use crate::usage::{cpu_ns, resident_bytes};

/// Before memory is first measured the server has answered this many requests
/// on this many connections, so that its code and pools are resident.
const WARMUP_CONNECTIONS: usize = 8;
const WARMUP_REQUESTS: usize = 200;
/// Time for the server to finish what the latest requests set off.
const SETTLE: Duration = Duration::from_millis(500);
/// Time for downloads to come as far as their sockets' buffers allow.
const SETTLE_DOWNLOADS: Duration = Duration::from_secs(2);
/// How often a little of a download is read.
const SIP_INTERVAL: Duration = Duration::from_millis(50);
/// A client that reads little does not let its kernel take in much for it.
const DOWNLOAD_RECEIVE_BUFFER: usize = 64 * 1024;
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn run(options: &IdleOptions) -> Result<Map<String, Value>> {
    let mut client = Client::new(options)?;
    client.warm_up()?;
    sleep(SETTLE);
    let resident_before = resident_bytes(&options.processes)?;
    let mut connections = match &options.download {
        Some(path) => client.download(options.connections, path)?,
        None => client.open(options.connections, 1)?,
    };
    let settle = if options.download.is_some() {
        SETTLE_DOWNLOADS
    } else {
        SETTLE
    };
    client.pass(&mut connections, settle, options.sip)?;
    let resident_after = resident_bytes(&options.processes)?;
    let cpu_before = cpu_ns(&options.cpu)?;
    client.pass(
        &mut connections,
        Duration::from_secs_f64(options.seconds),
        options.sip,
    )?;
    let cpu_idle = cpu_ns(&options.cpu)?.saturating_sub(cpu_before);
    let alive = |connection: &&Connection| match options.download {
        Some(_) => connection.has_input(),
        None => connection.is_quiet(),
    };
    let still_open = connections.iter().filter(alive).count();
    let grown = resident_after as i64 - resident_before as i64;
    Ok(fields(json!({
        "connections": options.connections,
        "still_open": still_open,
        "resident_before": resident_before,
        "resident_after": resident_after,
        "bytes_per_connection": grown as f64 / options.connections as f64,
        "seconds": options.seconds,
        "idle_cpu_ns": cpu_idle,
    })))
}

struct Client {
    server: Server,
    path: String,
    request: Vec<u8>,
    buffer: Buffer,
}

impl Client {
    fn new(options: &IdleOptions) -> Result<Self> {
        let server = Server::new(&options.target, false).map_err(Error::io("connect"))?;
        Ok(Self {
            server,
            path: options.target.path.clone(),
            request: target_request(&options.target),
            buffer: Buffer::default(),
        })
    }

    fn warm_up(&mut self) -> Result<()> {
        self.open(WARMUP_CONNECTIONS, WARMUP_REQUESTS).map(drop)
    }

    /// Opens `count` connections and makes `requests` requests on each.
    fn open(&mut self, count: usize, requests: usize) -> Result<Vec<Connection>> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            let connection = self.server.open(BodyMode::Read);
            let mut connection = connection.map_err(Error::io("connect"))?;
            for _ in 0..requests {
                self.exchange(&mut connection)
                    .map_err(|broken| failed(&self.path, &broken))?;
            }
            connections.push(connection);
        }
        Ok(connections)
    }

    /// Opens `count` connections and asks for `path` on each.
    fn download(&self, count: usize, path: &str) -> Result<Vec<Connection>> {
        let request = request(self.server.address, path, "");
        let open = |_| {
            let connection = self.server.open(BodyMode::Discard);
            let mut connection = connection.map_err(Error::io("connect"))?;
            connection
                .set_receive_buffer(DOWNLOAD_RECEIVE_BUFFER)
                .map_err(Error::io("SO_RCVBUF"))?;
            connection
                .send(&request, 1, Expected::default())
                .map_err(|broken| failed(path, &broken))?;
            Ok(connection)
        };
        (0..count).map(open).collect()
    }

    /// Lets `duration` pass, in which every connection reads `sip` bytes again
    /// and again.
    fn pass(
        &mut self,
        connections: &mut [Connection],
        duration: Duration,
        sip: usize,
    ) -> Result<()> {
        if sip == 0 {
            sleep(duration);
            return Ok(());
        }
        let start = Instant::now();
        let mut next = start;
        while next < start + duration {
            sleep(next.saturating_duration_since(Instant::now()));
            for connection in &mut *connections {
                connection
                    .receive(&mut self.buffer, sip)
                    .map_err(|broken| failed("the download", &broken))?;
            }
            next += SIP_INTERVAL;
        }
        Ok(())
    }

    fn exchange(&mut self, connection: &mut Connection) -> std::result::Result<(), Broken> {
        connection.send(&self.request, 1, Expected::default())?;
        let give_up = Instant::now() + RESPONSE_TIMEOUT;
        loop {
            match connection.receive(&mut self.buffer, usize::MAX)? {
                Some(progress) if progress.complete => return Ok(()),
                Some(_) => {}
                None if Instant::now() > give_up => {
                    return Err(Broken::Socket(std::io::ErrorKind::TimedOut.into()));
                }
                None => std::thread::yield_now(),
            }
        }
    }
}

fn failed(path: &str, broken: &Broken) -> Error {
    Error::Body {
        path: path.to_owned(),
        reason: broken.to_string(),
    }
}
