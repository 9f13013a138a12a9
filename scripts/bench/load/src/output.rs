//! The JSON object of a run.

use std::io::{self, Write};

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Prints `report` with the fields of `labels` first, on one line.
pub(crate) fn print(labels: &[(String, String)], report: Map<String, Value>) -> Result<()> {
    let mut line = Map::new();
    line.extend(
        labels
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str()))),
    );
    line.extend(report);
    writeln!(io::stdout(), "{}", Value::Object(line)).map_err(Error::io("standard output"))
}

/// The fields of an object made with `json!`; of any other value none.
pub(crate) fn fields(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
