//! A client of the admin listener, for the commands that purge and warm.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;

use clap::Args;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;
use tidegate_config::{Settings, visible};
use tidegate_http::Target;

/// The most bytes of a response.
const RESPONSE_MAX: u64 = 64 << 20;

/// What no target of a request has.
const NOT_IN_A_TARGET: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// Where a server is, and the secret for it.
#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    /// The configuration file of the server, whose admin.listen and admin.token to use
    #[arg(short, long, value_name = "FILE", env = "TIDEGATE_CONFIG")]
    config: Option<PathBuf>,
    /// The address of its admin listener, in place of admin.listen
    #[arg(long, value_name = "HOST:PORT")]
    admin: Option<String>,
    /// The file with its secret, in place of admin.token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// An admin listener, and the secret for it.
pub(crate) struct AdminClient {
    address: String,
    token: String,
}

impl AdminArgs {
    /// The listener. Blocking.
    ///
    /// # Errors
    ///
    /// Neither the arguments nor the configuration name it, or a file cannot be read.
    pub(crate) fn client(&self) -> Result<AdminClient, Box<dyn Error>> {
        let (mut address, mut token_file) = (self.admin.clone(), self.token_file.clone());
        if let Some(file) = &self.config
            && (address.is_none() || token_file.is_none())
        {
            let admin = Settings::load(file)?.admin;
            address = address.or(Some(admin.listen).filter(|listen| !listen.is_empty()));
            token_file = token_file.or(admin.token);
        }
        let address =
            address.ok_or("which server? --admin HOST:PORT, or --config FILE with admin.listen")?;
        if address.ends_with(":0") {
            return Err("admin.listen has port 0, so any: write --admin HOST:PORT".into());
        }
        let file = token_file
            .ok_or("whose secret? --token-file FILE, or --config FILE with admin.token")?;
        let token = std::fs::read_to_string(&file).map_err(|error| {
            let file = visible(&file.to_string_lossy());
            format!("cannot read the secret in {file}: {error}")
        })?;
        let token = token.trim().to_owned();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let file = visible(&file.to_string_lossy());
            return Err(format!("{file} has no secret: one line of visible ASCII").into());
        }
        Ok(AdminClient { address, token })
    }
}

impl AdminClient {
    /// Posts `content` to `path`, and returns what the server answers. Waits for as long as it
    /// takes. Blocking.
    ///
    /// # Errors
    ///
    /// No server answers, or it refuses.
    pub(crate) fn post(&self, path: &str, content: &Value) -> Result<Value, Box<dyn Error>> {
        let answer = self.exchange(path, &content.to_string()).map_err(|error| {
            let address = visible(&self.address);
            format!("no admin listener answers on {address}: {error}")
        })?;
        let refused = |reason: &str| format!("the server refuses: {}", visible(reason));
        let (head, content) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.lines().next().unwrap_or_default();
        let status = status.strip_prefix("HTTP/1.1 ").unwrap_or(status);
        let content = serde_json::from_str(content).unwrap_or(Value::Null);
        match (status.starts_with("200 "), content.get("error")) {
            (true, None) if content.is_object() => Ok(content),
            (_, Some(Value::String(reason))) => Err(refused(reason).into()),
            _ => Err(refused(status).into()),
        }
    }

    fn exchange(&self, path: &str, content: &str) -> io::Result<String> {
        let mut server = TcpStream::connect(&self.address)?;
        let token = &self.token;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            content.len()
        );
        let sent = server.write_all([head.as_bytes(), content.as_bytes()].concat().as_slice());
        let mut answer = Vec::new();
        let read = server.take(RESPONSE_MAX).read_to_end(&mut answer);
        // A server that refuses does not read all of a long request.
        if answer.is_empty() {
            sent?;
            read?;
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }
}

/// The host and the path with its query of a URL or a path. What a URL cannot hold is
/// percent-encoded.
pub(crate) fn host_and_target(url: &str) -> Result<(Option<String>, String), String> {
    let encoded = utf8_percent_encode(url, NOT_IN_A_TARGET).to_string();
    let refused = |reason: String| format!("{}: {reason}", visible(url));
    let (target, host) = Target::parse(&encoded).map_err(|error| refused(error.to_string()))?;
    if !target.path().starts_with('/') {
        return Err(refused(
            "neither a path that begins with a slash nor a URL".to_owned(),
        ));
    }
    let path = match target.query() {
        None => target.path().to_owned(),
        Some(query) => format!("{}?{query}", target.path()),
    };
    Ok((host.map(str::to_owned), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_host_and_a_path() {
        let table = [
            ("/a b?c d", None, "/a%20b?c%20d"),
            ("/a%20b", None, "/a%20b"),
            ("https://example.org/\u{e4}", Some("example.org"), "/%C3%A4"),
            ("http://[::1]:80/a#b", Some("[::1]:80"), "/a%23b"),
            ("https://example.org", Some("example.org"), "/"),
        ];
        for (url, host, path) in table {
            let expected = (host.map(str::to_owned), path.to_owned());
            assert_eq!(host_and_target(url), Ok(expected), "{url}");
        }
        for url in ["", "a", "*", "example.org/a"] {
            assert!(host_and_target(url).is_err(), "{url}");
        }
    }
}
