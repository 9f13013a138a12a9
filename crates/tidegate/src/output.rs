//! Output of the commands, and the text of errors.

use std::error::Error;
use std::io::{self, Write};
use std::iter;

use tidegate_config::visible;

/// Prints the result of a command. A closed pipe is no error (`| head -1`).
pub(crate) fn print(text: &str) -> Result<(), String> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(format!("cannot write to standard output: {error}"))
        }
        _ => Ok(()),
    }
}

/// The error and its causes, outermost first, as `CONTEXT: CAUSE`, in text that is safe to print.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let errors = iter::successors(Some(error), |&error| error.source());
    let levels: Vec<String> = errors.map(ToString::to_string).collect();
    let text = levels.join(": ");
    let lines: Vec<String> = text.lines().map(visible).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Level(&'static str, Option<Box<Level>>);

    impl fmt::Display for Level {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Level {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|level| level as _)
        }
    }

    #[test]
    fn each_level_of_an_error_is_said_once() {
        let cause = Box::new(Level("permission denied", None));
        assert_eq!(chain(cause.as_ref()), "permission denied");
        let error = Level("cannot listen on port 80", Some(cause));
        assert_eq!(chain(&error), "cannot listen on port 80: permission denied");
        assert_eq!(
            chain(&Level("a\u{1b}\nb\u{202e}", None)),
            "a\\u{1b}\nb\\u{202e}"
        );
    }
}
