//! Responses of the admin listener.

use std::time::SystemTime;

use tidegate_h1::{ResponseFraming, ResponseHead, Version};
use tidegate_http::{FieldBlock, FieldLines, HttpDate, Method, Status};

/// A status in plain text: for a probe, not for a browser.
pub(super) fn status_response(status: Status, method: Method) -> Vec<u8> {
    let text = format!("{}\n", status.code_and_reason());
    let allow: &[(&str, &str)] = match status {
        Status::METHOD_NOT_ALLOWED => &[("Allow", "GET, HEAD")],
        _ => &[],
    };
    respond_with(status, "text/plain; charset=utf-8", allow, &text, method)
}

/// A whole response with `text`.
pub(super) fn response(status: Status, content_type: &str, text: &str, method: Method) -> Vec<u8> {
    respond_with(status, content_type, &[], text, method)
}

/// A whole response with further fields.
pub(super) fn respond_with(
    status: Status,
    content_type: &str,
    further: &[(&str, &str)],
    text: &str,
    method: Method,
) -> Vec<u8> {
    let mut fields = FieldBlock::new();
    for (name, value) in further {
        fields.push(name, value);
    }
    fields.push("X-Content-Type-Options", "nosniff");
    fields.push("Content-Type", content_type);
    fields.push("Cache-Control", "no-store");
    let head = ResponseHead {
        status,
        date: &HttpDate::new(SystemTime::now()),
        persistent: false,
        version: Version::Http11,
        framing: ResponseFraming::Length(text.len() as u64),
        fields: [fields.lines(), FieldLines::default()],
    };
    let mut out = Vec::new();
    head.write(&mut out);
    if method != Method::Head {
        out.extend_from_slice(text.as_bytes());
    }
    out
}
