//! A server on the loopback interface that answers as a test says, and what else tests share.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::SystemTime;

use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;

use super::environment::Environment;
use super::http_client::HttpClient;
use crate::s3::timestamp;

/// 2013-05-24T00:00:00Z.
pub(crate) fn example_time() -> SystemTime {
    timestamp::parse_extended("2013-05-24T00:00:00Z").unwrap()
}

pub(crate) fn environment(variables: &[(&str, &str)]) -> Environment {
    let variables: Vec<(String, String)> = variables
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Environment::new(move |wanted| {
        let found = variables.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone())
    })
}

/// Runs a future on a runtime of its own.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// A client for plain HTTP that trusts no certificate.
pub(crate) fn client() -> HttpClient {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    Client::builder(TokioExecutor::new()).build(hyper_rustls::HttpsConnector::from((http, tls)))
}

#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Field lines, with names in lower case, as sent.
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Received {
    pub(crate) fn field(&self, wanted: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value.as_str())
    }
}

/// `None` is none: the connection stays open.
pub(crate) struct Answer(Option<(u16, String)>);

impl Answer {
    pub(crate) fn ok(body: &str) -> Self {
        Self(Some((200, body.to_owned())))
    }

    pub(crate) fn status(status: u16) -> Self {
        Self(Some((status, String::new())))
    }

    pub(crate) fn with_body(status: u16, body: &str) -> Self {
        Self(Some((status, body.to_owned())))
    }

    pub(crate) fn never() -> Self {
        Self(None)
    }
}

pub(crate) struct Server {
    endpoint: String,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Server {
    /// Its threads end with the process.
    pub(crate) fn start(answer: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (received.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, log, answer) = (stream.unwrap(), log.clone(), answer.clone());
                thread::spawn(move || serve(stream, &log, &*answer));
            }
        });
        Self { endpoint, received }
    }

    /// An endpoint where nothing listens.
    pub(crate) fn refusing() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    }

    /// Without a slash at its end.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

/// Answers one request, with `Connection: close`.
fn serve(stream: TcpStream, log: &Mutex<Vec<Received>>, answer: &dyn Fn(&Received) -> Answer) {
    let mut reader = BufReader::new(stream);
    let request = receive(&mut reader);
    log.lock().unwrap().push(request.clone());
    let mut stream = reader.into_inner();
    let Answer(Some((status, body))) = answer(&request) else {
        // Until the client closes.
        let _ = stream.read(&mut [0]);
        return;
    };
    let mut head = String::new();
    write!(
        head,
        "HTTP/1.1 {status} -\r\nContent-Length: {}\r\n",
        body.len()
    )
    .unwrap();
    head.push_str("Connection: close\r\n\r\n");
    // The client may be gone.
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body.as_bytes()));
}

fn receive(reader: &mut BufReader<TcpStream>) -> Received {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut words = lines[0].split(' ').map(str::to_owned);
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let fields = lines[1..].iter().map(|line| {
        let (name, value) = line.split_once(": ").unwrap();
        (name.to_ascii_lowercase(), value.to_owned())
    });
    let mut request = Received {
        method,
        target,
        fields: fields.collect(),
        body: String::new(),
    };
    let length = request
        .field("content-length")
        .map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    request.body = String::from_utf8(body).unwrap();
    request
}
