//! One response compared with the file it should be, over plain blocking I/O.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::cli::CheckOptions;
use crate::connection::target_request;
use crate::error::{Error, Result};
use crate::response::ResponseReader;
use crate::tls::Tls;

const PIECE_BYTES: usize = 64 * 1024;
const RETRY_INTERVAL: Duration = Duration::from_millis(20);
/// A server that says nothing for so long is not going to.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) fn run(options: &CheckOptions) -> Result<Map<String, Value>> {
    let wait = Duration::from_secs_f64(options.wait);
    let mut stream = connect(options.target.server, wait)?;
    stream
        .set_read_timeout(Some(READ_TIMEOUT))
        .map_err(Error::io("SO_RCVTIMEO"))?;
    let length = match &options.target.tls {
        Some(authorities) => {
            let tls = Tls::new(authorities, false).map_err(Error::io("the certificate"))?;
            let mut session = tls.connect(&mut stream).map_err(Error::io("TLS"))?;
            ask(session.stream(&mut stream), options)?
        }
        None => ask(stream, options)?,
    };
    Ok(Map::from_iter([(
        "checked_bytes".to_owned(),
        length.into(),
    )]))
}

/// Asks for the file and compares it; the length of both.
fn ask(mut stream: impl Read + Write, options: &CheckOptions) -> Result<u64> {
    stream
        .write_all(&target_request(&options.target))
        .map_err(Error::io("send"))?;
    compare(&mut stream, &options.file, &options.target.path)
}

/// Connects, again and again while the server may still be starting.
fn connect(server: SocketAddr, wait: Duration) -> Result<TcpStream> {
    let give_up = Instant::now() + wait;
    loop {
        match TcpStream::connect(server) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() >= give_up => return Err(Error::io("connect")(error)),
            Err(_) => sleep(RETRY_INTERVAL),
        }
    }
}

/// Reads one response and compares its body with `path`; the length of both.
fn compare(stream: &mut impl Read, path: &Path, target: &str) -> Result<u64> {
    let mut expected = BufReader::new(File::open(path).map_err(Error::file(path))?);
    let mut reader = ResponseReader::default();
    let mut piece = vec![0; PIECE_BYTES];
    let mut wanted = vec![0; PIECE_BYTES];
    loop {
        let count = stream.read(&mut piece).map_err(Error::io("receive"))?;
        if count == 0 {
            return Err(wrong(target, "the connection ended early"));
        }
        let progress = reader
            .take(&piece[..count])
            .map_err(|source| Error::Response {
                path: target.to_owned(),
                source,
            })?;
        let body_bytes = progress.body_bytes as usize;
        let wanted = &mut wanted[..body_bytes];
        expected
            .read_exact(wanted)
            .map_err(|_| wrong(target, "it is longer than the file"))?;
        if piece[count - body_bytes..count] != *wanted {
            return Err(wrong(target, "its bytes are not those of the file"));
        }
        if progress.complete {
            break;
        }
    }
    match expected.read(&mut wanted) {
        Ok(0) => Ok(reader.length()),
        _ => Err(wrong(target, "it is shorter than the file")),
    }
}

fn wrong(target: &str, reason: &str) -> Error {
    Error::Body {
        path: target.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(file: &[u8], response: &[u8]) -> Result<u64> {
        let path = std::env::temp_dir().join(format!(
            "tidegate-check-{}-{}",
            std::process::id(),
            file.len()
        ));
        std::fs::write(&path, file).unwrap();
        let result = compare(&mut &response[..], &path, "/");
        std::fs::remove_file(&path).unwrap();
        result
    }

    #[test]
    fn only_the_very_bytes_pass() {
        let response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(outcome(b"hello", response).unwrap(), 5);
        for (file, reason) in [
            (&b"hallo "[..], "not those"),
            (b"hello world", "shorter"),
            (b"hell", "longer"),
        ] {
            let error = outcome(file, response).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let error = outcome(b"hel", &response[..response.len() - 1])
            .unwrap_err()
            .to_string();
        assert!(error.contains("longer"), "{error}");
    }
}
