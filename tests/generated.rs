//! The manual pages and completions, which packages have from `tidegate generate`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Launch, Tree};

/// Writes the files of `kind`, and returns their directory.
fn generated(tree: &Tree, kind: &str) -> PathBuf {
    let directory = tree.base().join("new").join(kind);
    let arguments = ["generate", kind].map(Into::into);
    let line = arguments
        .into_iter()
        .chain([directory.clone().into_os_string()]);
    assert_eq!(Launch::with(line).output().success(), "");
    directory
}

/// The commands that `--help` lists.
fn commands() -> Vec<String> {
    let help = Launch::with(["--help"]).output().success();
    let listed = help
        .split("Commands:\n")
        .nth(1)
        .unwrap()
        .split("\n\n")
        .next();
    let names = listed
        .unwrap()
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(Into::into)
        .collect()
}

/// The flags that the help of `command` names at the start of a line.
fn flags(command: &str) -> BTreeSet<String> {
    let help = Launch::with([command, "--help"]).output().success();
    let lines = help
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with('-'));
    let words = lines.flat_map(|line| line.split("  ").next().unwrap().split([' ', ',']));
    let flags: BTreeSet<String> = words
        .filter(|word| word.starts_with('-') && *word != "-")
        .map(Into::into)
        .collect();
    assert!(flags.contains("--help"), "{help}");
    flags
}

fn read(directory: &Path, name: &str) -> String {
    let path = directory.join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn each_command_has_a_page_with_all_of_its_flags() {
    let tree = Tree::new();
    let pages = generated(&tree, "man");
    let program = read(&pages, "tidegate.1");
    let commands = commands();
    assert!(commands.iter().any(|name| name == "serve"), "{commands:?}");
    for command in &commands {
        let page = read(&pages, &format!("tidegate-{command}.1"));
        assert!(
            program.contains(&format!("tidegate\\-{command}(1)")),
            "{program}"
        );
        for flag in flags(command) {
            let bold = format!("\\fB{}\\fR", flag.replace('-', "\\-"));
            assert!(page.contains(&bold), "no {flag} in {page}");
        }
    }
    // No page of hidden commands.
    assert_eq!(fs::read_dir(&pages).unwrap().count(), commands.len() + 2);
    assert!(
        program.contains(".SH EXAMPLES\n.nf\ntidegate serve"),
        "{program}"
    );
}

#[test]
fn the_file_has_a_page_with_every_key() {
    let tree = Tree::new();
    let page = read(&generated(&tree, "man"), "tidegate.toml.5");
    let effective = Launch::with(["config"]).output().success();
    let keys = effective.lines().filter_map(|line| line.split_once(" = "));
    let mut count = 0;
    // Tables have sections, which are not in use: tls.certificates.
    for (key, _) in keys.filter(|pair| pair.1 != "[]") {
        let entry = format!(".TP\n\\fB{} = ", key.replace('-', "\\-"));
        assert!(page.contains(&entry), "no {key} in {page}");
        count += 1;
    }
    assert!(count > 30, "{effective}");
    assert!(page.contains(".SH [[tls.certificates]]\n"), "{page}");
}

/// What bash completes the last of `words` to.
fn completed(file: &Path, words: &[&str]) -> String {
    let script = r#"source "$1" && shift
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _tidegate tidegate "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        echo " ${COMPREPLY[*]} ""#;
    let bash = Command::new("bash")
        .args(["--norc", "-c", script, "bash"])
        .arg(file)
        .args(words)
        .output()
        .unwrap();
    assert!(bash.status.success() && bash.stderr.is_empty(), "{bash:?}");
    String::from_utf8(bash.stdout).unwrap()
}

#[test]
fn bash_completes_commands_and_flags() {
    let tree = Tree::new();
    let directory = generated(&tree, "completions");
    let file = directory.join("tidegate.bash");
    let listed = completed(&file, &["tidegate", ""]);
    for command in commands() {
        assert!(listed.contains(&format!(" {command} ")), "{listed}");
        let offered = completed(&file, &["tidegate", &command, "-"]);
        for flag in flags(&command) {
            assert!(offered.contains(&format!(" {flag} ")), "{flag}: {offered}");
            let word = flag.trim_start_matches('-');
            for name in ["_tidegate", "tidegate.fish"] {
                assert!(read(&directory, name).contains(word), "{flag} in {name}");
            }
        }
    }
    assert!(completed(&file, &["tidegate", "serve", "--li"]).contains(" --listen "));
}

#[test]
fn what_cannot_be_written_is_said() {
    let tree = Tree::with("file", b"");
    let file = tree.root().join("file");
    let line = ["generate", "man"].map(Into::into).into_iter();
    let output = Launch::with(line.chain([file.into_os_string()])).output();
    output.refusal(1, &["cannot write to ", "/file: "]);
}
