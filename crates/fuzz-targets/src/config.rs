//! A configuration: what is accepted is the same when it is written and read again, what is not is
//! told in lines that are safe to print.

use std::path::Path;

use tidegate_config::{Error, Problem, Settings};

/// The most characters of a line: those of the reason and of the key, each with what replaces its
/// middle, and the rest.
const LINE_CHARS_MAX: usize = 1200;

/// `data` is the text of a file.
pub(crate) fn check(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    match parse(text) {
        Ok(settings) => {
            let written = settings.to_toml();
            match parse(&written) {
                Ok(again) => assert_eq!(again, settings, "{written}"),
                Err(error) => panic!("{error}\n{written}"),
            }
        }
        Err(Error::Invalid(problems)) => {
            assert!(!problems.is_empty());
            assert!(problems.is_sorted_by_key(|problem| problem.line));
            // An empty file has a line, too, and a problem may be behind the last.
            let lines = text.split('\n').count();
            for problem in &problems {
                assert!((1..=lines).contains(&problem.line), "{problem}");
                check_line(problem);
            }
        }
        Err(error) => panic!("nothing is read: {error}"),
    }
}

fn parse(text: &str) -> Result<Settings, Error> {
    Settings::parse(text, Path::new("a.toml"))
}

fn check_line(problem: &Problem) {
    let line = problem.to_string();
    assert!(line.starts_with(&format!("a.toml:{}: ", problem.line)));
    assert!(!line.chars().any(char::is_control), "{line:?}");
    assert!(line.chars().count() <= LINE_CHARS_MAX, "{line}");
}
