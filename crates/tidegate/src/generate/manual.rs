//! The manual page of a command.

use std::{io, iter};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// The heading of examples in the text after the options.
const EXAMPLES: &str = "Examples:\n";

/// The page of `command`, which is built. The text after its options is in paragraphs: the examples
/// become a section of lines as they stand, the others belong to the description. `date` is
/// YYYY-MM-DD.
pub(super) fn page(command: &Command, date: &str) -> io::Result<Vec<u8>> {
    let after = command.get_after_help().map(ToString::to_string);
    let after = after.unwrap_or_default();
    let about = command.get_about().map(|about| format!("{about}."));
    let about = about.unwrap_or_default();
    let paragraphs = iter::once(about.as_str()).chain(after.split("\n\n"));
    let (examples, prose): (Vec<_>, Vec<_>) = paragraphs
        .filter(|paragraph| !paragraph.is_empty())
        .partition(|paragraph| paragraph.starts_with(EXAMPLES));
    let plain = command.clone().after_help(None::<&str>);
    let mut page = Vec::new();
    Man::new(plain.long_about(prose.join("\n\n")))
        .date(date)
        .source(concat!("tidegate ", env!("CARGO_PKG_VERSION")))
        .manual("tidegate")
        .render(&mut page)?;
    let mut rest = Roff::new();
    for lines in examples {
        as_they_stand(&mut rest, "EXAMPLES", &lines[EXAMPLES.len()..]);
    }
    see_also(&mut rest, command);
    rest.to_writer(&mut page)?;
    Ok(page)
}

/// A section of `lines` that are not filled.
fn as_they_stand(roff: &mut Roff, heading: &str, lines: &str) {
    roff.control("SH", [heading]).control("nf", []);
    for line in lines.lines() {
        roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
    }
    roff.control("fi", []);
}

/// The page of a command points to that of the program.
fn see_also(roff: &mut Roff, command: &Command) {
    let is_program = command.has_subcommands();
    let pages = if is_program { "" } else { "tidegate(1), " };
    roff.control("SH", ["SEE ALSO"]);
    roff.text([roman(format!("{pages}tidegate.toml(5)"))]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_lines_and_the_rest_is_prose() {
        let mut command = Command::new("a")
            .about("Serves")
            .after_help("More of it.\n\nExamples:\n  a b   first\n  a c\n\nExit status: 0.");
        command.build();
        let page = String::from_utf8(page(&command, "2000-01-02").unwrap()).unwrap();
        let description = page
            .split(".SH ")
            .find(|part| part.starts_with("DESCRIPTION"));
        assert_eq!(
            description,
            Some("DESCRIPTION\nServes.\n.PP\nMore of it.\n.PP\nExit status: 0.\n")
        );
        assert!(
            page.contains(".SH EXAMPLES\n.nf\na b   first\na c\n.fi\n"),
            "{page}"
        );
        assert!(!page.contains("EXTRA"), "{page}");
    }
}
