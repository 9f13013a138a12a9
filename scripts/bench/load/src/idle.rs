//! What idle keep-alive connections cost: resident memory, and CPU time.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use crate::cli::IdleOptions;
use crate::connection::{BodyMode, Broken, Buffer, Connection, target_request};
use crate::error::{Error, Result};
use crate::output::fields;
use crate::usage::{cpu_ns, resident_bytes};

/// Before memory is first measured the server has answered this many requests
/// on this many connections, so that its code and pools are resident.
const WARMUP_CONNECTIONS: usize = 8;
const WARMUP_REQUESTS: usize = 200;
/// Time for the server to finish what the latest requests set off.
const SETTLE: Duration = Duration::from_millis(500);
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn run(options: &IdleOptions) -> Result<Map<String, Value>> {
    let mut client = Client::new(options);
    client.warm_up()?;
    sleep(SETTLE);
    let resident_before = resident_bytes(&options.processes)?;
    let connections = client.open(options.connections, 1)?;
    sleep(SETTLE);
    let resident_after = resident_bytes(&options.processes)?;
    let cpu_before = cpu_ns(&options.cpu)?;
    sleep(Duration::from_secs_f64(options.seconds));
    let cpu_idle = cpu_ns(&options.cpu)?.saturating_sub(cpu_before);
    let still_open = connections
        .iter()
        .filter(|connection| connection.is_quiet())
        .count();
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
    server: SocketAddr,
    path: String,
    request: Vec<u8>,
    buffer: Buffer,
}

impl Client {
    fn new(options: &IdleOptions) -> Self {
        Self {
            server: options.target.server,
            path: options.target.path.clone(),
            request: target_request(&options.target),
            buffer: Buffer::default(),
        }
    }

    fn warm_up(&mut self) -> Result<()> {
        self.open(WARMUP_CONNECTIONS, WARMUP_REQUESTS).map(drop)
    }

    /// Opens `count` connections and makes `requests` requests on each.
    fn open(&mut self, count: usize, requests: usize) -> Result<Vec<Connection>> {
        let mut connections = Vec::with_capacity(count);
        for _ in 0..count {
            let mut connection =
                Connection::open(self.server, BodyMode::Read).map_err(Error::io("connect"))?;
            for _ in 0..requests {
                self.exchange(&mut connection)
                    .map_err(|broken| Error::Body {
                        path: self.path.clone(),
                        reason: broken.to_string(),
                    })?;
            }
            connections.push(connection);
        }
        Ok(connections)
    }

    fn exchange(&mut self, connection: &mut Connection) -> std::result::Result<(), Broken> {
        connection.send(&self.request)?;
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
