//! `expand-environment`: variables of the environment in values.

use std::collections::BTreeMap;
use std::ffi::OsString;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::text::Text;

/// The key of the first file that turns this on.
pub(crate) const SWITCH: &str = "expand-environment";

/// Values that are shorter may stand in a reason by chance, and are no secret.
const HIDDEN_BYTES_MIN: usize = 4;

/// The value of a variable; `None` if it is not set.
pub(crate) type Variables<'v> = &'v dyn Fn(&str) -> Option<OsString>;

/// A value with its variables expanded.
pub(crate) struct Expanded {
    pub(crate) text: String,
    /// As typed.
    source: String,
    /// The variables and their values.
    variables: Vec<(String, String)>,
}

/// Whether the first file of `text` turns expansion on. Text that is not TOML does not.
pub(crate) fn is_used(text: &Text) -> bool {
    let root = DeTable::parse(text.part(0).1);
    root.is_ok_and(|root| is_on(root.get_ref()))
}

/// Whether this root table of the first file turns expansion on.
pub(crate) fn is_on(root: &DeTable<'_>) -> bool {
    let value = root.get(SWITCH);
    value.is_some_and(|value| value.get_ref().as_bool() == Some(true))
}

/// The text with each `${NAME}` and `${NAME:-default}` replaced; `None` if there is none. `$${`
/// stands for `${`.
///
/// # Errors
///
/// If a variable is not set and has no default, or cannot be used.
pub(crate) fn expand(source: &str, variables: Variables<'_>) -> Result<Option<Expanded>, String> {
    if !source.contains("${") {
        return Ok(None);
    }
    let mut expanded = Expanded {
        text: String::new(),
        source: source.to_owned(),
        variables: Vec::new(),
    };
    let mut rest = source;
    while let Some(at) = rest.find('$') {
        expanded.text.push_str(&rest[..at]);
        rest = expanded.reference(&rest[at..], variables)?;
    }
    expanded.text.push_str(rest);
    Ok(Some(expanded))
}

/// Expands every string in the table. Calls `refuse` with the offset of each that cannot be, and the
/// reason.
pub(crate) fn expand_all(
    table: &mut DeTable<'_>,
    variables: Variables<'_>,
    expanded: &mut BTreeMap<usize, Expanded>,
    refuse: &mut dyn FnMut(usize, &str),
) {
    for (_, value) in table.iter_mut() {
        expand_value(value, variables, expanded, refuse);
    }
}

fn expand_value(
    value: &mut Spanned<DeValue<'_>>,
    variables: Variables<'_>,
    expanded: &mut BTreeMap<usize, Expanded>,
    refuse: &mut dyn FnMut(usize, &str),
) {
    let offset = value.span().start;
    match value.get_mut() {
        DeValue::Table(table) => expand_all(table, variables, expanded, refuse),
        DeValue::Array(items) => items
            .iter_mut()
            .for_each(|item| expand_value(item, variables, expanded, refuse)),
        DeValue::String(text) => match expand(text, variables) {
            Ok(None) => {}
            Ok(Some(found)) => {
                *text = found.text.clone().into();
                expanded.insert(offset, found);
            }
            Err(reason) => refuse(offset, &reason),
        },
        _ => {}
    }
}

impl Expanded {
    /// Adds what `rest`, which begins with a dollar, begins with; returns what follows.
    fn reference<'s>(
        &mut self,
        rest: &'s str,
        variables: Variables<'_>,
    ) -> Result<&'s str, String> {
        if let Some(rest) = rest.strip_prefix("$${") {
            self.text.push_str("${");
            return Ok(rest);
        }
        let Some(inner) = rest.strip_prefix("${") else {
            self.text.push('$');
            return Ok(&rest[1..]);
        };
        let (inner, rest) = inner
            .split_once('}')
            .ok_or("`${` without `}`: for these two characters themselves write $${")?;
        let (name, default) = match inner.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inner, None),
        };
        let value = value(name, default, variables)?;
        self.text.push_str(&value);
        self.variables.push((name.to_owned(), value));
        Ok(rest)
    }

    /// Whether the value of a variable that may be secret stands in `reason`. One of another line
    /// is there by chance, unless all of its text is.
    pub(crate) fn stands_in(&self, reason: &str, is_its_line: bool) -> bool {
        let mut values = self.variables.iter().map(|(_, value)| value);
        let has_value = values.any(|value| {
            value.len() >= HIDDEN_BYTES_MIN
                && (reason.contains(value) || reason.contains(&value.escape_debug().to_string()))
        });
        has_value && (is_its_line || reason.contains(&self.text))
    }

    /// `reason` without the values of the variables, which may be secret, but with their names.
    pub(crate) fn hide(&self, reason: &str) -> String {
        let text = self.text.to_lowercase();
        let escaped = text.escape_debug().to_string();
        let quoted = reason.split('`').enumerate().map(|(number, part)| {
            let lower = part.to_lowercase();
            let is_part = !part.is_empty() && (text.contains(&lower) || escaped.contains(&lower));
            if number % 2 == 1 && is_part {
                self.source.as_str()
            } else {
                part
            }
        });
        let mut reason = quoted.collect::<Vec<_>>().join("`");
        let mut names = Vec::new();
        for (name, value) in &self.variables {
            let name = format!("${{{name}}}");
            if value.len() >= HIDDEN_BYTES_MIN {
                let lower = value.to_lowercase();
                let escaped = value.escape_debug().to_string();
                for value in [value, &escaped, &lower] {
                    reason = reason.replace(value, &name);
                }
            }
            names.push(name);
        }
        format!("{reason} (with {} from the environment)", names.join(", "))
    }
}

fn value(name: &str, default: Option<&str>, variables: Variables<'_>) -> Result<String, String> {
    let is_letter = |byte: u8| byte == b'_' || byte.is_ascii_alphabetic();
    let is_first = name.bytes().next().is_some_and(is_letter);
    if !is_first
        || !name
            .bytes()
            .all(|byte| is_letter(byte) || byte.is_ascii_digit())
    {
        let name = name.escape_debug();
        return Err(format!(
            "`${{{name}}}` is not a variable: write ${{NAME}} or ${{NAME:-default}}, and $${{ for \
             the characters ${{ themselves"
        ));
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(format!("the default of ${{{name}}} cannot hold a variable"));
    }
    let value = variables(name).map(OsString::into_string);
    match (value, default) {
        (Some(Err(_)), _) => Err(format!("${{{name}}} is not UTF-8 in the environment")),
        (Some(Ok(value)), None) => Ok(value),
        (Some(Ok(value)), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(format!(
            "${{{name}}} is not set in the environment: set it, or write ${{{name}:-default}}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str) -> Option<OsString> {
        use std::os::unix::ffi::OsStringExt;
        match name {
            "A" => Some("alpha".into()),
            "SECRET" => Some("hunter22".into()),
            "EMPTY" => Some("".into()),
            "BYTES" => Some(OsString::from_vec(vec![0xff])),
            _ => None,
        }
    }

    fn expanded(text: &str) -> Result<String, String> {
        let expanded = expand(text, &variables)?;
        Ok(expanded.map_or(text.to_owned(), |expanded| expanded.text))
    }

    #[test]
    fn variables_and_defaults() {
        let rows = [
            ("", ""),
            ("$path/$1$$", "$path/$1$$"),
            ("${A}", "alpha"),
            ("/${A}/${A}$1", "/alpha/alpha$1"),
            ("${NONE:-b}${NONE:-}", "b"),
            ("${A:-b}", "alpha"),
            ("${EMPTY}x${EMPTY:-y}", "xy"),
            ("${NONE:-a:-b}", "a:-b"),
            ("$${A}", "${A}"),
            ("$$1${A}$", "$$1alpha$"),
        ];
        for (text, expected) in rows {
            assert_eq!(expanded(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_variable_is_refused() {
        let rows = [
            (
                "${NONE}",
                "${NONE} is not set in the environment: set it, or write ${NONE:-default}",
            ),
            ("${BYTES:-a}", "${BYTES} is not UTF-8"),
            ("a${A", "`${` without `}`"),
            ("${}", "`${}` is not a variable"),
            ("${1}", "`${1}` is not a variable"),
            ("${A-b}", "`${A-b}` is not a variable"),
            ("${A:-${B}}", "the default of ${A} cannot hold a variable"),
        ];
        for (text, expected) in rows {
            let reason = expanded(text).unwrap_err();
            assert!(reason.starts_with(expected), "{text}: {reason}");
        }
    }

    #[test]
    fn values_are_hidden_in_reasons() {
        let found = expand("key ${SECRET}\n", &variables).unwrap().unwrap();
        let rows = [
            ("`key hunter22\\n` is wrong", "`key ${SECRET}\n` is wrong"),
            ("`HUNTER` is wrong", "`key ${SECRET}\n` is wrong"),
            ("write `x`", "write `x`"),
            ("hunter22 is outside", "${SECRET} is outside"),
        ];
        for (reason, expected) in rows {
            let expected = format!("{expected} (with ${{SECRET}} from the environment)");
            assert_eq!(found.hide(reason), expected);
        }
    }
}
