//! A format, compiled for the order in which its values become known.

use std::{mem, process};

use tidegate_config::{Escape, FormatPart, LogFormat, Site, Variable};

use super::escape;

/// A compiled format.
pub(super) struct Format {
    pub(super) escape: Escape,
    /// The line, in order.
    pub(super) pieces: Vec<Piece>,
    /// What is written when the response is chosen, since it depends on the request.
    pub(super) runs: Vec<Vec<RunPart>>,
    /// The names of the request fields in the runs.
    pub(super) request_fields: Vec<String>,
    /// The names of the response fields.
    pub(super) response_fields: Vec<String>,
    /// Whether it has values of `TCP_INFO`.
    pub(super) wants_tcp_info: bool,
    /// Whether it has the client's address.
    pub(super) wants_client: bool,
}

/// A piece of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(Box<[u8]>),
    /// The run with this index.
    Run(usize),
    /// The value of the response field with this index.
    ResponseField(usize),
    /// A value that is known at the end.
    Late(Variable),
    /// `null`, if the value before it is missing.
    NullIfMissing,
    /// A member of an object with the cache status, if the response has one.
    CacheMember,
}

/// A part of a run.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RunPart {
    Text(Box<[u8]>),
    /// The value of the request field with this index.
    RequestField(usize),
    /// The user in the request field with this index.
    User(usize),
    Variable(Variable),
    /// `null`, if the value before it is missing.
    NullIfMissing,
}

/// When the value of a variable is known.
enum Known {
    /// Before any request.
    Always(String),
    WithRequest(RunPart),
    WithResponse(usize),
    AtTheEnd(Variable),
}

impl Format {
    /// Compiles the format of `site`.
    pub(super) fn compile(format: &LogFormat, site: &Site) -> Self {
        let is_client = |variable: &Variable| *variable == Variable::RemoteAddr;
        let mut compiled = Self {
            escape: format.escape(),
            pieces: Vec::new(),
            runs: Vec::new(),
            request_fields: Vec::new(),
            response_fields: Vec::new(),
            wants_tcp_info: format.has(Variable::is_tcp_info),
            wants_client: format.has(is_client),
        };
        let mut json = Json::default();
        for part in format.parts() {
            compiled.add(part, site);
            match part {
                FormatPart::Text(text) => json.pass(text),
                FormatPart::CacheMember => {}
                FormatPart::Variable(variable) => {
                    if compiled.escape == Escape::Json && !json.in_string && may_miss(variable) {
                        compiled.add_null();
                    }
                }
            }
        }
        compiled
    }

    fn add(&mut self, part: &FormatPart, site: &Site) {
        let variable = match part {
            FormatPart::Text(text) => return self.add_text(text.as_bytes()),
            FormatPart::CacheMember => return self.pieces.push(Piece::CacheMember),
            FormatPart::Variable(variable) => variable,
        };
        match self.known(variable, site) {
            Known::Always(value) => {
                let mut text = Vec::new();
                escape::push(self.escape, value.as_bytes(), usize::MAX, &mut text);
                self.add_text(&text);
            }
            Known::WithRequest(part) => self.add_to_run(part),
            Known::WithResponse(index) => self.pieces.push(Piece::ResponseField(index)),
            Known::AtTheEnd(variable) => self.pieces.push(Piece::Late(variable)),
        }
    }

    /// Has `null` stand for the value at the end if it is missing: JSON needs one outside a string.
    fn add_null(&mut self) {
        match self.pieces.last_mut() {
            Some(Piece::Run(run)) => self.runs[*run].push(RunPart::NullIfMissing),
            Some(Piece::Text(text)) => {
                let mut value = mem::take(text).into_vec();
                push_null(&mut value);
                *text = value.into();
            }
            _ => self.pieces.push(Piece::NullIfMissing),
        }
    }

    /// Adds text to the run or the text at the end.
    fn add_text(&mut self, text: &[u8]) {
        match self.pieces.last_mut() {
            Some(Piece::Run(run)) => match self.runs[*run].last_mut() {
                Some(RunPart::Text(last)) => *last = [last, text].concat().into(),
                _ => self.runs[*run].push(RunPart::Text(text.into())),
            },
            Some(Piece::Text(last)) => *last = [last, text].concat().into(),
            _ => self.pieces.push(Piece::Text(text.into())),
        }
    }

    /// Adds to the run at the end. A text there becomes part of the run.
    fn add_to_run(&mut self, part: RunPart) {
        if let Some(Piece::Run(run)) = self.pieces.last() {
            return self.runs[*run].push(part);
        }
        let before = self.pieces.pop_if(|last| matches!(last, Piece::Text(_)));
        let mut run = Vec::new();
        if let Some(Piece::Text(text)) = before {
            run.push(RunPart::Text(text));
        }
        run.push(part);
        self.pieces.push(Piece::Run(self.runs.len()));
        self.runs.push(run);
    }

    fn known(&mut self, variable: &Variable, site: &Site) -> Known {
        use Variable as V;
        match variable {
            V::ServerName => Known::Always(site.names.first().cloned().unwrap_or_default()),
            V::Pid => Known::Always(process::id().to_string()),
            V::Hostname => Known::Always(hostname()),
            V::RemoteUser => Known::WithRequest(RunPart::User(self.request_field("authorization"))),
            V::RequestField(name) => {
                Known::WithRequest(RunPart::RequestField(self.request_field(name)))
            }
            V::ResponseField(name) => Known::WithResponse(self.response_field(name)),
            V::Coding => Known::WithResponse(self.response_field("content-encoding")),
            V::TimeLocal
            | V::TimeIso8601
            | V::Msec
            | V::Status
            | V::BodyBytesSent
            | V::BytesSent
            | V::RequestTime
            | V::FirstByteTime
            | V::RequestCompletion
            | V::Complete
            | V::Cold
            | V::CacheStatus
            | V::Core => Known::AtTheEnd(variable.clone()),
            _ if variable.is_tcp_info() => Known::AtTheEnd(variable.clone()),
            _ => Known::WithRequest(RunPart::Variable(variable.clone())),
        }
    }

    fn request_field(&mut self, name: &str) -> usize {
        index_of(&mut self.request_fields, name)
    }

    fn response_field(&mut self, name: &str) -> usize {
        index_of(&mut self.response_fields, name)
    }
}

/// Where in JSON a text ends.
#[derive(Default)]
struct Json {
    in_string: bool,
    /// Whether the next byte is escaped.
    is_escaped: bool,
}

impl Json {
    fn pass(&mut self, text: &str) {
        for byte in text.bytes() {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = self.in_string,
                b'"' => self.in_string = !self.in_string,
                _ => {}
            }
        }
    }
}

/// Whether a variable may have no value.
fn may_miss(variable: &Variable) -> bool {
    use Variable as V;
    !matches!(
        variable,
        V::Pid
            | V::TimeLocal
            | V::TimeIso8601
            | V::Msec
            | V::Status
            | V::BodyBytesSent
            | V::BytesSent
            | V::RequestTime
            | V::FirstByteTime
            | V::Complete
            | V::Cold
            | V::Core
            | V::RequestLength
            | V::ConnectionRequests
    )
}

/// Appends `null` to JSON in which a value is missing at the end.
pub(super) fn push_null(json: &mut Vec<u8>) {
    if let Some(b':' | b',' | b'[') = json.trim_ascii_end().last() {
        json.extend_from_slice(b"null");
    }
}

/// The index of `name`, which is added if it is not there.
fn index_of(names: &mut Vec<String>, name: &str) -> usize {
    let known = names.iter().position(|known| known == name);
    known.unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    })
}

fn hostname() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str) -> Format {
        let site = Site {
            names: vec!["a.test".to_owned()],
            ..Site::default()
        };
        Format::compile(&LogFormat::typed(text).unwrap(), &site)
    }

    fn text(text: &str) -> RunPart {
        RunPart::Text(text.as_bytes().into())
    }

    #[test]
    fn combined_has_three_runs() {
        let format = compile("combined");
        let [first, second, third] = &format.runs[..] else {
            panic!("{:?}", format.runs);
        };
        let client = || RunPart::Variable(Variable::RemoteAddr);
        assert_eq!(
            *first,
            [client(), text(" - "), RunPart::User(0), text(" [")]
        );
        let request = RunPart::Variable(Variable::Request);
        assert_eq!(*second, [text("] \""), request, text("\" ")]);
        assert_eq!(third.len(), 5);
        let late = |variable| Piece::Late(variable);
        let pieces = [
            Piece::Run(0),
            late(Variable::TimeLocal),
            Piece::Run(1),
            late(Variable::Status),
            Piece::Text((*b" ").into()),
            late(Variable::BodyBytesSent),
            Piece::Run(2),
        ];
        assert_eq!(format.pieces, pieces);
        let fields = ["authorization", "referer", "user-agent"];
        assert_eq!(format.request_fields, fields);
        assert!(format.wants_client && !format.wants_tcp_info);
    }

    #[test]
    fn what_never_changes_is_text() {
        let format = compile("<$server_name> $pid $status");
        let pid = process::id();
        let text = format!("<a.test> {pid} ").into_bytes();
        let pieces = [Piece::Text(text.into()), Piece::Late(Variable::Status)];
        assert_eq!(format.pieces, pieces);
    }

    #[test]
    fn json_has_null_for_what_may_miss_outside_strings() {
        let ends = |text: &str| {
            let format = compile(text);
            let runs = format.runs.iter().flatten();
            let pieces = format.pieces.iter();
            runs.filter(|part| **part == RunPart::NullIfMissing).count()
                + pieces
                    .filter(|piece| **piece == Piece::NullIfMissing)
                    .count()
        };
        let rows = [
            ("{\"a\":$server_port}", 1),
            ("{\"a\":\"$server_port\"}", 0),
            ("{\"a\":\"\\\"$server_port\"}", 0),
            ("{\"a\":\"\\\\\",\"b\":$server_port}", 1),
            ("{\"a\":[$tcpinfo_rtt, $sent_http_age]}", 2),
            ("{\"a\":$status,\"b\":$request_time}", 0),
            ("$server_port", 0),
            ("json", 0),
        ];
        for (text, count) in rows {
            assert_eq!(ends(text), count, "{text}");
        }
        let site = Site::default();
        let format = LogFormat::typed("{\"a\": $server_name}").unwrap();
        let format = Format::compile(&format, &site);
        assert_eq!(format.pieces, [Piece::Text((*b"{\"a\": null}").into())]);
    }

    #[test]
    fn a_field_is_looked_for_once() {
        let format = compile("$coding $sent_http_content_encoding $http_range $http_range");
        let field = || Piece::ResponseField(0);
        let space = || Piece::Text((*b" ").into());
        assert_eq!(format.pieces[..3], [field(), space(), field()]);
        assert_eq!(format.request_fields, ["range"]);
    }
}
