//! What a first user is told: what is served, what is missing, and what looks like a mistake.

use std::process::Command;
use std::{env, fs};

use rustix::process::Signal;

use crate::support::{Authority, Files, Launch, Question, Remote, Tree, eventually, skipped};

#[test]
fn the_start_tells_what_is_served_and_that_there_is_no_index() {
    let tree = Tree::with("file", b"content");
    let root = tree.root();
    let root = root.display();
    let lines = |launch: Launch, count: usize| {
        let server = launch.start();
        (0..count).map(|_| server.next_line()).collect::<Vec<_>>()
    };
    let closed = format!("serving {root}; directories are not listed");
    let missing = format!("no index.html in {root}");
    assert_eq!(
        lines(Launch::serve(tree.root()), 2),
        [
            closed.clone(),
            format!("{missing}; --directory-listing lists it")
        ]
    );
    assert_eq!(
        lines(Launch::run(&tree, "", ""), 2),
        [
            closed.clone(),
            format!("{missing}; site.directory-listing = true lists it")
        ]
    );

    // A relative path is made absolute.
    let script = format!("cd '{root}' && exec \"$@\"");
    let relative = Launch::serve(".").through(["sh", "-c", &script, "sh"]);
    assert_eq!(lines(relative, 1), [closed]);
    let listed = Launch::serve(tree.root()).argument("--directory-listing");
    assert_eq!(
        lines(listed, 1),
        [format!("serving {root}; directories are listed")]
    );
}

#[test]
fn nothing_is_said_of_an_index_where_something_answers() {
    let tree = Tree::with("index.html", b"content");
    let other = tree.base().join("other");
    fs::create_dir(&other).unwrap();
    let (root, other) = (tree.root(), other.display());
    let sites = format!(
        "[[site]]\nroot = {root:?}\n\
         [[site]]\nnames = ['a.test']\nroot = '{other}'\ndirectory-listing = true\n\
         [[site]]\nnames = ['b.test']\nroot = '{other}'\n\
         [[site.redirects]]\nfrom = '/'\nto = 'https://a.test'\n\
         [[site]]\nnames = ['c.test']\nroot = '{other}'\nindex = []\n\
         [[site]]\nnames = ['d.test']\nroot = '{other}'\n"
    );
    let server = Launch::run_sites(&tree, "", &sites).start();
    let serving = (0..5).map(|_| server.next_line());
    assert!(serving.into_iter().all(|line| line.starts_with("serving ")));
    // That of the last site is the first such line.
    let line = server.next_line();
    assert_eq!(
        line,
        format!("no index.html in {other}; site.directory-listing = true lists it")
    );
}

/// The text of a configuration, a line for each mistake, which the numbers of lines count from 1.
fn mistakes(tree: &Tree, files: &Files, last_root: &str) -> String {
    let root = tree.root();
    let root = root.display();
    let (cert, key) = (files.cert.display(), files.key.display());
    format!(
        "[[listen]]\naddress = '127.0.0.1:0'\n\
         [[listen]]\naddress = '127.0.0.1:0'\ntls = true\n\
         [[tls.certificates]]\ncert = '{cert}'\nkey = '{key}'\n\
         [[site]]\nroot = '{root}'\nnames = [\n'a.test',\n'b.test',\n'_',\n]\n\
         try-files = ['$path', '/fallback.html']\nspa-fallback = '/app.html'\n\
         error-pages = {{ 404 = '/404.html', 500 = '/directory' }}\n\
         [[site]]\nnames = ['a.a.test']\nroot = '{last_root}'\n"
    )
}

#[test]
fn check_doctor_and_run_say_the_same_of_a_configuration() {
    let tree = Tree::with("directory/file", b"content");
    let authority = Authority::new();
    let files = authority.issue("site", &["a.test", "*.a.test"]);
    let file = tree.base().join("tidegate.toml");
    let launch = |command: &str| Launch::with([command, "--config"]).argument(&file);
    let root = tree.root();
    let root = root.display();
    let name = file.display();
    let none = "No such file or directory (os error 2)";
    let warnings = [
        format!("{name}:13: site.names: no certificate is for `b.test`: "),
        format!("{name}:14: site.names: `_` is a name like any other: "),
        format!("{name}:16: site.try-files: cannot send {root}/fallback.html: {none}"),
        format!("{name}:17: site.spa-fallback: cannot send {root}/app.html: {none}"),
        format!("{name}:18: site.error-pages.404: cannot send {root}/404.html: {none}"),
        format!("{name}:18: site.error-pages.500: cannot send {root}/directory: it is a directory"),
    ];

    // What the server starts with.
    fs::write(&file, mistakes(&tree, &files, &root.to_string())).unwrap();
    let checked = launch("check").output();
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    assert_eq!(checked.stdout, format!("{name}: ok\n"));
    let doctor = launch("doctor").output();
    assert_eq!(doctor.status.code(), Some(0), "{doctor:?}");
    let server = launch("run").arguments(["--cores", "1"]).start();
    for warning in &warnings {
        let (place, reason) = warning.split_at(warning.find(": ").unwrap() + 2);
        let (key, reason) = reason.split_once(": ").unwrap();
        let line = format!("{place}{key}: warning: {reason}");
        assert!(checked.stderr.contains(&line), "{line} in {checked:?}");
        assert!(doctor.stdout.contains(warning), "{warning} in {doctor:?}");
        eventually(warning, || server.log().contains(warning));
    }
    assert_eq!(
        checked.stderr.lines().count(),
        warnings.len(),
        "{checked:?}"
    );
    server.stop();

    // What it does not start with.
    let missing = tree.base().join("missing");
    let missing = missing.to_str().unwrap();
    fs::write(&file, mistakes(&tree, &files, missing)).unwrap();
    let error = format!("{name}:21: site.root: cannot serve {missing}: {none}\n");
    let checked = launch("check").output();
    assert_eq!((checked.status.code(), &*checked.stdout), (Some(1), ""));
    assert!(checked.stderr.ends_with(&error), "{checked:?}");
    assert_eq!(
        checked.stderr.lines().count(),
        warnings.len() + 1,
        "{checked:?}"
    );
    let doctor = launch("doctor").output();
    assert_eq!(doctor.status.code(), Some(1), "{doctor:?}");
    let bad = doctor
        .stdout
        .lines()
        .find(|line| line.starts_with("bad "))
        .unwrap();
    assert!(bad.ends_with(error.trim_end()), "{doctor:?}");
    let run = launch("run").arguments(["--cores", "1"]).output();
    assert_eq!((run.status.code(), &*run.stdout), (Some(1), ""));
    assert!(
        run.stderr.ends_with(&format!("tidegate: {error}")),
        "{run:?}"
    );
}

#[test]
fn nothing_is_said_of_a_configuration_that_is_right() {
    let tree = Tree::with("404.html", b"not found");
    let authority = Authority::new();
    let wildcard = authority.issue("wildcard", &["example.org", "*.example.org"]);
    let other = authority.issue("other", &["other.test"]);
    let root = tree.root();
    let site = |names: &str| {
        format!(
            "[[site]]\nnames = {names}\nroot = {root:?}\nerror-pages = {{ 404 = '/404.html' }}\n"
        )
    };
    let secure = "[[listen]]\naddress = '0.0.0.0:8443'\ntls = true\n";
    let to_https =
        |port: u16| format!("[[listen]]\naddress = '0.0.0.0:8080'\nhttps-redirect = {port}\n");
    let (wildcard, other) = (wildcard.entry(), other.entry());
    let rows = [
        site("[]"),
        // Behind something that speaks TLS.
        to_https(443) + &site("[]"),
        to_https(8444) + &site("[]"),
        // Port 443 is passed on to 8443.
        to_https(443) + secure + &wildcard + &site("['example.org']"),
        to_https(8443)
            + secure
            + &wildcard
            + &site("['*.example.org', 'example.org', 'localhost']"),
        secure.to_owned() + &wildcard + &other + &site("['example.org']") + &site("[]"),
        secure.to_owned()
            + &wildcard
            + &other
            + &site("['a.example.org']")
            + &site("['other.test']"),
    ];
    let file = tree.base().join("tidegate.toml");
    for text in rows {
        fs::write(&file, &text).unwrap();
        let output = Launch::with(["check", "--config"]).argument(&file).output();
        assert_eq!(output.status.code(), Some(0), "{text}\n{output:?}");
        assert_eq!(output.stderr, "", "{text}");
    }
    let text = to_https(8444) + secure + &wildcard + &site("['example.org']");
    fs::write(&file, text).unwrap();
    let output = Launch::with(["check", "--config"]).argument(&file).output();
    let warning = ":3: listen.https-redirect: warning: no listener with tls = true has port 8444\n";
    assert!(output.stderr.ends_with(warning), "{output:?}");
}

#[test]
fn a_file_that_is_named_and_hangs_holds_up_neither_start_nor_stop() {
    let tree = Tree::with("near", b"content");
    fs::create_dir(tree.path("far")).unwrap();
    // Dropped after the file system, which it hangs in.
    let mut server;
    let remote = match Remote::mount(&tree.path("far")) {
        Ok(remote) => remote,
        Err(reason) => return skipped(reason),
    };
    remote.hold(Question::Lookup);
    let site = "error-pages = { 404 = '/far/small-1' }\nspa-fallback = '/none.html'";
    server = Launch::run(&tree, "", site).start();
    remote.asked(Question::Lookup);
    assert_eq!(server.get("/near").body, b"content");
    server.signal(Signal::TERM);
    eventually("the end", || server.is_ending());
    remote.answer();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn run_names_the_line_of_a_certificate_and_of_every_root() {
    let tree = Tree::new();
    let authority = Authority::new();
    let files = authority.issue("site", &["a.test"]);
    fs::write(&files.key, "").unwrap();
    let file = tree.base().join("tidegate.toml");
    let entry = files.entry();
    let text = format!(
        "[[listen]]\naddress = '127.0.0.1:0'\ntls = true\n{entry}\n\
         [[site]]\nroot = 'none'\n[[site]]\nnames = ['b.test']\nroot = 'neither'\n"
    );
    let line = |key: &str| 1 + text.lines().position(|line| line.starts_with(key)).unwrap();
    fs::write(&file, &text).unwrap();
    let name = file.display();
    let output = Launch::with(["run", "--cores", "1", "--config"])
        .argument(&file)
        .output();
    output.refusal(
        1,
        &[
            &format!("{name}:{}: tls.certificates.key: ", line("key")),
            &format!("{name}:{}: site.root: cannot serve ", line("root")),
            &format!("{name}:{}: site.root: cannot serve ", text.lines().count()),
        ],
    );
}

/// libtest hides the output of a test that passes.
#[test]
fn a_test_that_lacks_a_tool_says_so_in_plain_cargo_test() {
    let test = "refusals::io_uring_forbidden";
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--test-threads=2"])
        .env("PATH", "")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let line = format!("skipped: {test}: python3 is not installed (apt-get install python3)\n");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), line);
}
