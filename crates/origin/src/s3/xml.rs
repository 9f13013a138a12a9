//! The little of XML that the responses of AWS's services need.
//!
//! It knows no comments, CDATA or elements within others of the same name: none of them is sent.

/// What is between the first start tag of this name and its end tag.
pub(crate) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    split_element(xml, name).map(|(content, _)| content)
}

/// What is between the tags of each element of this name, in their order. One without an end ends
/// them.
pub(crate) fn elements<'a>(xml: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let mut rest = xml;
    std::iter::from_fn(move || {
        let (content, after) = split_element(rest, name)?;
        rest = after;
        Some(content)
    })
}

/// The content of the first element of this name, and what follows it.
fn split_element<'a>(xml: &'a str, name: &str) -> Option<(&'a str, &'a str)> {
    let mut rest = xml;
    loop {
        rest = rest.split_once('<')?.1;
        let Some(tag) = rest.strip_prefix(name) else {
            continue;
        };
        if !tag.starts_with(|next: char| next == '>' || next.is_ascii_whitespace()) {
            continue;
        }
        let (attributes, content) = tag.split_once('>')?;
        if attributes.ends_with('/') {
            return None;
        }
        return content.split_once(&format!("</{name}>"));
    }
}

/// Text with its entities and character references resolved; `None` if it has markup or entities
/// of another kind.
pub(crate) fn unescaped(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<']) {
        out.push_str(&rest[..at]);
        let (entity, after) = rest[at..].strip_prefix('&')?.split_once(';')?;
        out.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            reference => referenced(reference)?,
        });
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

/// The character of `#34` or `#x22`.
fn referenced(reference: &str) -> Option<char> {
    let number = reference.strip_prefix('#')?;
    let number = match number.strip_prefix('x') {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => number.parse(),
    };
    char::from_u32(number.ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_elements() {
        for (xml, expected) in [
            ("<Code>x</Code>", Some("x")),
            ("<Code a=\"b\">x</Code>", Some("x")),
            ("<Codes>y</Codes><Code\n>x</Code>", Some("x")),
            ("<Code></Code>", Some("")),
            ("<Code/>", None),
            ("<Code a/>", None),
            ("<Code>x", None),
            ("<Code", None),
            ("Code", None),
        ] {
            assert_eq!(element(xml, "Code"), expected, "{xml}");
        }
    }

    #[test]
    fn finds_all_of_a_name() {
        let xml = "<A><B>1</B><C>x</C></A><A></A><A>3</A><A>4";
        let found: Vec<&str> = elements(xml, "A").collect();
        assert_eq!(found, ["<B>1</B><C>x</C>", "", "3"]);
    }

    #[test]
    fn entities_are_characters() {
        for (text, expected) in [
            ("a&amp;b&lt;&gt;&quot;&apos;", Some("a&b<>\"'")),
            ("&#34;&#x22;&#xe4;", Some("\"\"\u{e4}")),
            ("", Some("")),
            ("&other;", None),
            ("&#;", None),
            ("&#xd800;", None),
            ("a&b", None),
            ("<b/>", None),
        ] {
            assert_eq!(unescaped(text).as_deref(), expected, "{text}");
        }
    }
}
