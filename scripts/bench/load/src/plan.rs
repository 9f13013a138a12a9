//! What is asked for, in which order: one request over and over, or the files
//! of a tree by Zipf's law, the same ones in the same order in every run.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::rc::Rc;

use fastrand::Rng;
use httparse::EMPTY_HEADER;

use crate::cli::{GetOptions, Target};
use crate::connection::request;
use crate::error::{Error, Result};
use crate::response::Expected;

const SEED: u64 = 2;
/// The exponent of Zipf's law that logs of web caches show, about.
const ZIPF_EXPONENT: f64 = 0.9;

/// What goes out in one send.
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    /// Requests in it.
    pub(crate) count: usize,
    /// What the response to each must be.
    pub(crate) expected: Expected,
}

/// Where the batches of the closed loop come from.
pub(crate) struct Plan {
    batches: Vec<Rc<Batch>>,
    /// For each batch the share of requests that are for it or one before it,
    /// times any number.
    cumulative: Vec<f64>,
    rng: Rng,
}

impl Batch {
    /// A single GET of which only the status is checked.
    pub(crate) fn plain(server: SocketAddr, path: &str) -> Self {
        Self {
            bytes: request(server, path, ""),
            count: 1,
            expected: Expected::default(),
        }
    }
}

impl Plan {
    pub(crate) fn new(options: &GetOptions) -> Result<Self> {
        let batches = match &options.trace {
            Some(list) => trace(list, options)?,
            None => vec![(options.target.path.clone(), options.length)],
        };
        let fields = header_fields(options)?;
        let batches: Vec<_> = batches
            .iter()
            .map(|(path, length)| Rc::new(batch(options, path, &fields, *length)))
            .collect();
        Ok(Self {
            cumulative: zipf(batches.len()),
            batches,
            rng: Rng::with_seed(SEED),
        })
    }

    pub(crate) fn next(&mut self) -> Rc<Batch> {
        if let [only] = &self.batches[..] {
            return Rc::clone(only);
        }
        let total = self.cumulative.last().copied().unwrap_or(0.0);
        let drawn = self.rng.f64() * total;
        let index = self.cumulative.partition_point(|&up_to| up_to <= drawn);
        Rc::clone(&self.batches[index.min(self.batches.len() - 1)])
    }
}

/// Sums of the weights 1, 1/2^s, 1/3^s and so on.
fn zipf(count: usize) -> Vec<f64> {
    let mut total = 0.0;
    (1..=count)
        .map(|rank| {
            total += (rank as f64).powf(-ZIPF_EXPONENT);
            total
        })
        .collect()
}

/// Paths and lengths of the files in a list, most popular first.
fn trace(list: &Path, options: &GetOptions) -> Result<Vec<(String, Option<u64>)>> {
    let text = fs::read_to_string(list).map_err(Error::file(list))?;
    let file = |line: &str| {
        let (name, size) = line.split_once(' ')?;
        let path = format!("{}/{name}", options.target.path);
        Some((path, Some(size.parse().ok()?)))
    };
    text.lines()
        .map(file)
        .collect::<Option<Vec<_>>>()
        .filter(|files| !files.is_empty())
        .ok_or_else(|| Error::List {
            path: list.to_owned(),
        })
}

fn batch(options: &GetOptions, path: &str, fields: &str, length: Option<u64>) -> Batch {
    Batch {
        bytes: request(options.target.server, path, fields).repeat(options.depth),
        count: options.depth,
        expected: Expected {
            status: options.status,
            length,
        },
    }
}

fn header_fields(options: &GetOptions) -> Result<String> {
    let mut fields = String::new();
    if options.churn {
        fields.push_str("Connection: close\r\n");
    }
    if options.conditional {
        fields.push_str(&condition(&options.target)?);
    }
    Ok(fields)
}

/// Asks for the target once; the header line that asks whether it has changed
/// since.
fn condition(target: &Target) -> Result<String> {
    let mut stream = TcpStream::connect(target.server).map_err(Error::io("connect"))?;
    stream
        .write_all(&request(
            target.server,
            &target.path,
            "Connection: close\r\n",
        ))
        .map_err(Error::io("send"))?;
    let mut response = Vec::new();
    stream
        .read_to_end(&mut response)
        .map_err(Error::io("receive"))?;
    validator(&response).ok_or_else(|| Error::NoValidator {
        path: target.path.clone(),
    })
}

fn validator(response: &[u8]) -> Option<String> {
    let mut headers = [EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    head.parse(response).ok()?;
    let value = |name: &str| {
        let header = head
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok()
    };
    value("etag")
        .map(|tag| format!("If-None-Match: {tag}\r\n"))
        .or_else(|| value("last-modified").map(|date| format!("If-Modified-Since: {date}\r\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn popular_files_are_asked_for_as_often_as_zipf_says() {
        let batch = |index: usize| {
            Rc::new(Batch::plain(
                ([127, 0, 0, 1], 80).into(),
                &index.to_string(),
            ))
        };
        let mut plan = Plan {
            batches: (0..1000).map(batch).collect(),
            cumulative: zipf(1000),
            rng: Rng::with_seed(SEED),
        };
        let first = Rc::clone(&plan.batches[0]);
        let drawn = 100_000;
        let hits = (0..drawn)
            .filter(|_| Rc::ptr_eq(&plan.next(), &first))
            .count();
        let share = 1.0 / zipf(1000)[999];
        let found = hits as f64 / f64::from(drawn);
        assert!(
            (found - share).abs() < 0.01,
            "{found} where {share} was due"
        );
    }

    #[test]
    fn an_etag_goes_before_a_date() {
        let head = b"HTTP/1.1 200 OK\r\nLast-Modified: Mon\r\nETag: \"x\"\r\n\r\n";
        assert_eq!(validator(head).unwrap(), "If-None-Match: \"x\"\r\n");
        let head = b"HTTP/1.1 200 OK\r\nLast-Modified: Mon\r\n\r\n";
        assert_eq!(validator(head).unwrap(), "If-Modified-Since: Mon\r\n");
        assert_eq!(validator(b"HTTP/1.1 200 OK\r\n\r\n"), None);
    }
}
