//! Messages about values of the wrong type, in TOML's terms.

use toml::de::DeValue;

/// The found and the expected type of serde's message; the latter in TOML's terms.
pub(crate) fn expected(message: &str) -> Option<(&str, &str)> {
    let (found, expected) = message
        .strip_prefix("invalid type: ")?
        .rsplit_once(", expected ")?;
    let expected = match expected {
        "a sequence" => "a list",
        "a map" => "a table of names and values",
        "a boolean" => "true or false",
        other => other,
    };
    Some((found, expected))
}

/// The text to write in place of a value of the wrong type, whose text is `found`.
pub(crate) fn hint(value: &DeValue<'_>, found: &str, expected: &str, path: &str) -> Option<String> {
    match value {
        DeValue::String(_) if expected == "a list" => Some(format!("[{found}]")),
        DeValue::String(text) if expected == "true or false" => truth(text).map(str::to_owned),
        DeValue::String(text) if expected == "a whole number" => {
            text.parse::<i64>().is_ok().then(|| text.to_string())
        }
        DeValue::Integer(_) if expected.contains("a duration") => Some(format!("\"{found}s\"")),
        DeValue::Integer(_) if ADDRESSES.contains(&path) => Some("\"127.0.0.1:8080\"".to_owned()),
        DeValue::Integer(_) | DeValue::Float(_) if expected == "a string" => {
            Some(format!("\"{found}\""))
        }
        _ => None,
    }
}

/// The keys that hold an address.
const ADDRESSES: &[&str] = &["listen.address", "admin.listen", "fleet.listen"];

/// The boolean for a string that other formats use for one.
fn truth(text: &str) -> Option<&'static str> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some("true"),
        "false" | "no" | "off" => Some("false"),
        _ => None,
    }
}
