//! Decodes the header blocks of <https://github.com/http2jp/hpack-test-case>, and prints for each
//! set how many have the fields that they must have, and how many there are:
//! `cargo run -p tidegate-h2 --example hpack_vectors -- DIRECTORY`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, io};

use serde_json::Value;
use tidegate_h2::hpack::Decoder;

type Fields = Vec<(String, String)>;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let root = env::args_os()
        .nth(1)
        .ok_or("which directory? It is an argument")?;
    let mut failed = false;
    for set in entries(Path::new(&root))?
        .iter()
        .filter(|path| path.is_dir())
    {
        let (mut passed, mut blocks) = (0, 0);
        for story in entries(set)?.iter().filter(|path| is_story(path)) {
            let story: Value = serde_json::from_slice(&fs::read(story)?)?;
            let cases = story["cases"].as_array().ok_or("a story without cases")?;
            let mut decoder = Decoder::new();
            let cases = cases.iter().filter(|case| case["wire"].is_string());
            for case in cases {
                blocks += 1;
                passed += usize::from(decoded(&mut decoder, case) == expected(case));
            }
        }
        if blocks > 0 {
            let set = set.file_name().unwrap_or_default().display();
            println!("{set}\t{passed}\t{blocks}");
        }
        failed |= passed < blocks;
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn is_story(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "json")
}

/// The fields of a case's block; `None` if it is refused.
fn decoded(decoder: &mut Decoder, case: &Value) -> Option<Fields> {
    let mut fields = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let block = bytes_of_hex(case["wire"].as_str()?)?;
    let result = decoder.decode(&block, usize::MAX, &mut Vec::new(), |name, value| {
        fields.push((text(name), text(value)));
    });
    result.ok().map(|_| fields)
}

fn expected(case: &Value) -> Option<Fields> {
    let fields = case["headers"].as_array()?.iter();
    let fields = fields.filter_map(Value::as_object).flatten();
    fields
        .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn bytes_of_hex(digits: &str) -> Option<Vec<u8>> {
    let pairs = (0..digits.len())
        .step_by(2)
        .map(|start| digits.get(start..start + 2));
    pairs
        .map(|pair| u8::from_str_radix(pair?, 16).ok())
        .collect()
}
