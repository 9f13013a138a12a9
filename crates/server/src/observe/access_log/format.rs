//! A format, compiled for the order in which its values become known.

use std::process;

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
        for part in format.parts() {
            compiled.add(part, site);
        }
        compiled
    }

    fn add(&mut self, part: &FormatPart, site: &Site) {
        let variable = match part {
            FormatPart::Text(text) => return self.add_text(text.as_bytes()),
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
    fn a_field_is_looked_for_once() {
        let format = compile("$coding $sent_http_content_encoding $http_range $http_range");
        let field = || Piece::ResponseField(0);
        let space = || Piece::Text((*b" ").into());
        assert_eq!(format.pieces[..3], [field(), space(), field()]);
        assert_eq!(format.request_fields, ["range"]);
    }
}
