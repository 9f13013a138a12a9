//! Hints for lines that are not TOML: other notations, and typographic quotes.

/// The TOML to write in place of `line`, if its notation is recognised.
pub(crate) fn hint(line: &str) -> Option<String> {
    let line = line.trim();
    if line.starts_with('{') {
        return Some("this looks like JSON, and a configuration is TOML".to_owned());
    }
    if ["//", ";", "/*", "--", "<!--"]
        .iter()
        .any(|mark| line.starts_with(mark))
    {
        return Some("a comment begins with `#`".to_owned());
    }
    if let Some((key, value)) = line.split_once('=').filter(|(key, _)| is_key(key)) {
        return of_value(key.trim(), value.trim());
    }
    if let Some((key, value)) = line.split_once(':').filter(|(key, _)| is_key(key)) {
        return Some(of_yaml(key.trim(), value.trim()));
    }
    line.ends_with(['{', '}', ';']).then(|| {
        "this looks like a file for another server: docs/from-nginx.md and docs/from-caddy.md \
         tell what becomes of it"
            .to_owned()
    })
}

fn of_value(key: &str, value: &str) -> Option<String> {
    if value.contains(['“', '”', '„', '‘', '’', '«', '»']) {
        return Some("quotes around a text are plain ones: \"\" or ''".to_owned());
    }
    if value.contains(';') {
        return Some("a line has one key, and no semicolon behind its value".to_owned());
    }
    if value.starts_with('"') {
        let escaped = value.contains('\\');
        return escaped.then(|| "a backslash itself is `\\\\`, or the text is in ''".to_owned());
    }
    match value.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(format!("write {key} = true")),
        "false" | "no" | "off" => Some(format!("write {key} = false")),
        _ if is_plain(value) => Some(format!("write {key} = \"{value}\"")),
        _ => None,
    }
}

fn of_yaml(key: &str, value: &str) -> String {
    match value {
        "" => "this looks like YAML, and a configuration is TOML".to_owned(),
        value if is_plain(value) => format!("write {key} = \"{value}\""),
        value => format!("write {key} = {value}"),
    }
}

/// Whether a text would be a string if it had quotes.
fn is_plain(value: &str) -> bool {
    let other = |char: char| {
        char.is_whitespace() || matches!(char, '"' | '\'' | '\\' | '#' | '[' | '{' | ',')
    };
    value.starts_with(|first: char| first.is_alphabetic() || matches!(first, '/' | '.' | '~' | '$'))
        && !value.contains(other)
}

/// Whether it can be a bare or dotted key.
fn is_key(key: &str) -> bool {
    let key = key.trim();
    let named = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !key.is_empty() && key.bytes().all(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_notations_are_known() {
        let rows = [
            ("{\"site\": []}", Some("looks like JSON")),
            ("// a note", Some("begins with `#`")),
            ("; a note", Some("begins with `#`")),
            ("server {", Some("docs/from-nginx.md")),
            (":8080 {", Some("docs/from-caddy.md")),
            ("listen 80;", Some("docs/from-nginx.md")),
            ("}", Some("docs/from-nginx.md")),
            ("site:", Some("looks like YAML")),
            ("root: www", Some("write root = \"www\"")),
            ("root: \"www\"", Some("write root = \"www\"")),
            ("backlog: 4096", Some("write backlog = 4096")),
            ("root = /srv/www", Some("write root = \"/srv/www\"")),
            ("root = www", Some("write root = \"www\"")),
            ("tls = True", Some("write tls = true")),
            ("tls = off", Some("write tls = false")),
            ("root = “www”", Some("plain ones")),
            ("root = \"www\"; index = []", Some("no semicolon")),
            ("root = \"C:\\www\"", Some("a backslash itself is `\\\\`")),
            ("root = \"www\"", None),
            ("[[site]", None),
            ("names = [\"a\" \"b\"]", None),
            ("root = my files", None),
            ("", None),
        ];
        for (line, expected) in rows {
            let found = hint(line);
            assert_eq!(found.is_some(), expected.is_some(), "{line}: {found:?}");
            let found = found.unwrap_or_default();
            assert!(
                found.contains(expected.unwrap_or_default()),
                "{line}: {found}"
            );
        }
    }
}
