//! `tidegate reload`: has the server that runs by a configuration file read it again.

use std::error::Error;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use tidegate_config::{Settings, visible};

use crate::output::print;

/// The most bytes of an answer.
const ANSWER_MAX: u64 = 1 << 20;

/// How long to wait for the answer: longer than the server waits for its reload.
const ANSWER_TIME: Duration = Duration::from_secs(70);

/// Sends `reload` to the socket of `server.control` in `file`, and prints the outcome: what was
/// applied on standard output, warnings on standard error.
///
/// # Errors
///
/// The reason why the server refused, or why none was reached.
pub(crate) fn reload(file: &Path) -> Result<(), Box<dyn Error>> {
    // What is wrong with it the server would refuse too.
    let settings = Settings::load(file)?;
    let path = settings.server.control.ok_or_else(|| {
        let file = visible(&file.to_string_lossy());
        format!("{file}: server.control is not set: set it, or send HUP to the server")
    })?;
    let answer = ask(&path).map_err(|error| {
        let path = visible(&path.to_string_lossy());
        format!("no server answers on {path} (server.control): {error}")
    })?;
    let (outcome, lines) = answer.split_once('\n').unwrap_or((&answer, ""));
    let lines: String = lines.lines().map(|line| visible(line) + "\n").collect();
    match outcome {
        "applied" => {
            let _ = io::stderr().write_all(lines.as_bytes());
            print("the configuration is applied\n")?;
            Ok(())
        }
        "refused" => Err(lines.trim_end().into()),
        _ => Err("the server ended without an answer".into()),
    }
}

fn ask(path: &Path) -> io::Result<String> {
    let mut server = UnixStream::connect(path)?;
    server.set_read_timeout(Some(ANSWER_TIME))?;
    server.set_write_timeout(Some(ANSWER_TIME))?;
    server.write_all(b"reload\n")?;
    let mut answer = String::new();
    server.take(ANSWER_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}
