//! The variables of a log format.

use crate::ValueError;

/// Response fields that the connection adds after the response was made: a log does not see them.
const UNSEEN_FIELDS: [&str; 4] = ["connection", "date", "keep-alive", "transfer-encoding"];

/// The longest name of a field, so that a misspelt format is refused rather than empty.
const FIELD_BYTES_MAX: usize = 64;

/// Letters that may differ in a name that is suggested.
const TYPO_DISTANCE_MAX: usize = 4;

/// Declares [`Variable`] with the names of a format.
macro_rules! variables {
    ($($variant:ident = $name:literal, $meaning:literal;)*) => {
        /// What a format can write of a request and its response. Those with a name of nginx mean
        /// what they mean there.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Variable {
            $(
                #[doc = concat!("`$", $name, "`: ", $meaning, ".")]
                $variant,
            )*
            /// `$http_NAME`: a request field; its name in lower case, with dashes.
            RequestField(String),
            /// `$sent_http_NAME`: a response field; its name in lower case, with dashes.
            ResponseField(String),
        }

        /// The names without a dollar sign, those of the fields left out.
        const NAMED: &[(&str, Variable)] = &[$(($name, Variable::$variant)),*];
    };
}

variables! {
    RemoteAddr = "remote_addr", "the client's address";
    RemotePort = "remote_port", "the port of the connection's other end";
    RemoteUser = "remote_user", "the user of Basic authentication";
    TimeLocal = "time_local", "the end of the response as `10/Oct/2000:13:55:36 +0000`, in UTC";
    TimeIso8601 = "time_iso8601", "the end of the response as `2000-10-10T13:55:36+00:00`, in UTC";
    Msec = "msec", "the end of the response in seconds since 1970, with milliseconds";
    Request = "request", "the request line as it was received";
    RequestMethod = "request_method", "the method";
    RequestUri = "request_uri", "the target as it was received";
    Uri = "uri", "the path, decoded and normalized";
    Args = "args", "the query";
    QueryString = "query_string", "the query";
    ServerProtocol = "server_protocol", "`HTTP/1.0` or `HTTP/1.1`";
    Scheme = "scheme", "`http` or `https`";
    Host = "host", "the requested host in lower case, without a port";
    ServerName = "server_name", "the first name of the site";
    ServerAddr = "server_addr", "the address of the connection's own end";
    ServerPort = "server_port", "the port of the connection's own end";
    Status = "status", "the status; 499 if the client left before there was one";
    BodyBytesSent = "body_bytes_sent", "bytes of the response after its head";
    BytesSent = "bytes_sent", "bytes of the response, without TLS";
    RequestTime = "request_time", "seconds from the request to the end of the response";
    FirstByteTime = "first_byte_time", "seconds from the request to the response's first byte";
    RequestLength = "request_length", "bytes of the request's head";
    RequestCompletion = "request_completion", "`OK` if the response was sent whole";
    Complete = "complete", "`true` if the response was sent whole, else `false`";
    Cold = "cold", "`true` if part of the body was read from the disk, else `false`";
    Coding = "coding", "the content coding of the response";
    Connection = "connection", "a number of the connection, unique on this host";
    ConnectionRequests = "connection_requests", "the number of this request on its connection";
    CacheStatus = "cache_status", "`hit`, `stale`, `revalidated`, `miss`, `collapsed` or `pass` of an object of an origin";
    Core = "core", "the core that served it";
    Pid = "pid", "the number of the process";
    Hostname = "hostname", "the name of this host";
    SslProtocol = "ssl_protocol", "the version of TLS";
    SslCipher = "ssl_cipher", "the cipher suite";
    SslAlpnProtocol = "ssl_alpn_protocol", "the protocol that ALPN agreed on, such as `h2`";
    SslServerName = "ssl_server_name", "the host of the TLS handshake";
    TcpinfoRtt = "tcpinfo_rtt", "the round-trip time in microseconds (tcp(7))";
    TcpinfoRttvar = "tcpinfo_rttvar", "its variance in microseconds";
    TcpinfoSndCwnd = "tcpinfo_snd_cwnd", "the congestion window in segments";
    TcpinfoRcvSpace = "tcpinfo_rcv_space", "the receive space in bytes";
    TcpinfoTotalRetrans = "tcpinfo_total_retrans", "segments of the connection that were sent again";
}

impl Variable {
    /// The variable with this name, without its dollar sign.
    ///
    /// # Errors
    ///
    /// A name that is unknown, with the nearest known one.
    pub(crate) fn named(name: &str) -> Result<Self, ValueError> {
        let mut known = NAMED.iter();
        if let Some((_, variable)) = known.find(|(known, _)| *known == name) {
            return Ok(variable.clone());
        }
        if let Some(field) = name.strip_prefix("sent_http_").and_then(field) {
            if UNSEEN_FIELDS.contains(&field.as_str()) {
                let reason = format!("`${name}`: this field is not known to the log");
                return Err(ValueError::new(reason));
            }
            return Ok(Self::ResponseField(field));
        }
        if let Some(field) = name.strip_prefix("http_").and_then(field) {
            return Ok(Self::RequestField(field));
        }
        Err(unknown(name))
    }

    /// Whether it is read from the socket's `TCP_INFO`.
    pub fn is_tcp_info(&self) -> bool {
        matches!(
            self,
            Self::TcpinfoRtt
                | Self::TcpinfoRttvar
                | Self::TcpinfoSndCwnd
                | Self::TcpinfoRcvSpace
                | Self::TcpinfoTotalRetrans
        )
    }
}

/// The name of a field for the end of a variable's name.
fn field(text: &str) -> Option<String> {
    let is_name = (1..=FIELD_BYTES_MAX).contains(&text.len());
    is_name.then(|| text.to_ascii_lowercase().replace('_', "-"))
}

fn unknown(name: &str) -> ValueError {
    let known = NAMED.iter().map(|(known, _)| *known);
    let near = known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, _)| *distance <= TYPO_DISTANCE_MAX && *distance * 2 < name.len());
    let instead = match near.min() {
        Some((_, known)) => format!("did you mean `${known}`?"),
        None => "docs/access-log.md has all there are".to_owned(),
    };
    ValueError::new(format!("`${name}`: unknown variable; {instead}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_have_dashes() {
        let field = |name: &str| Variable::RequestField(name.to_owned());
        assert_eq!(Variable::named("http_user_agent"), Ok(field("user-agent")));
        assert_eq!(Variable::named("http_Referer"), Ok(field("referer")));
        let sent = Variable::ResponseField("content-type".to_owned());
        assert_eq!(Variable::named("sent_http_content_type"), Ok(sent));
    }

    #[test]
    fn the_nearest_name_is_suggested() {
        let rows = [
            ("remote_adr", "did you mean `$remote_addr`?"),
            ("time", "docs/access-log.md has all there are"),
            ("ssl_ciphers", "did you mean `$ssl_cipher`?"),
            ("upstream_addr", "docs/access-log.md has all there are"),
            ("http_", "docs/access-log.md has all there are"),
            ("sent_http_date", "this field is not known to the log"),
        ];
        for (name, expected) in rows {
            let error = Variable::named(name).expect_err(name).to_string();
            assert!(error.ends_with(expected), "{error}");
        }
    }

    #[test]
    fn the_docs_have_every_variable() {
        let docs = include_str!("../../../../docs/access-log.md");
        for (name, _) in NAMED {
            assert!(docs.contains(&format!("`${name}`")), "{name}");
        }
    }
}
