//! HUP: the configuration is read again, checked, and applied with no connection lost.

use rustix::process::Signal;

use super::support::{Client, Launch, Server, Tree, eventually};

const APPLIED: &str = "the configuration is applied";
const REFUSED: &str = "not reloaded: ";

/// Sends HUP and waits until one more line has `text`.
#[track_caller]
fn hup(server: &Server, text: &str) {
    let count = || server.log().matches(text).count();
    let before = count();
    server.signal(Signal::HUP);
    eventually(text, || count() > before);
}

/// Replaces the configuration file of a server that [`Launch::run`] started.
fn rewrite(tree: &Tree, config: &str, site: &str) {
    drop(Launch::run(tree, config, site));
}

#[test]
fn a_site_is_replaced_for_the_next_request_of_an_idle_connection() {
    let tree = Tree::with("file", b"first");
    std::fs::create_dir(tree.base().join("other")).unwrap();
    std::fs::write(tree.base().join("other/file"), "second").unwrap();
    let server = Launch::run(&tree, "", "").start();
    let mut kept = server.connect();
    assert_eq!(kept.get("/file").body, b"first");
    let other = tree.base().join("other");
    let site = format!(
        "[[site]]\nroot = \"{}\"\n[[site.headers]]\nmatch = \"/**\"\nset = {{ x-a = \"b\" }}\n\
         [[site.mount]]\nat = \"/m\"\nroot = \"{}\"\n[[site.redirects]]\nfrom = \"/r\"\nto = \"/file\"\n",
        other.display(),
        tree.root().display(),
    );
    drop(Launch::run_sites(&tree, "", &site));
    hup(&server, APPLIED);
    let response = kept.get("/file");
    assert_eq!(response.body, b"second");
    assert_eq!(response.header("x-a"), Some("b"));
    assert_eq!(kept.get("/m/file").body, b"first");
    assert_eq!(kept.get("/r").status, 301);
    assert_eq!(server.get("/file").body, b"second");
    server.stop();
}

#[test]
fn limits_and_timeouts_are_replaced() {
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, "", "").start();
    assert!(!server.get("/file").closes());
    let limits = "[limits]\nrequests-per-connection = 1\nheader-bytes = \"1k\"\n\
                  [timeouts]\nheader = \"100ms\"";
    rewrite(&tree, limits, "");
    hup(&server, APPLIED);
    assert!(server.get("/file").closes());
    let long = format!("X: {}", "x".repeat(2000));
    assert_eq!(server.get_with("/file", &[&long]).status, 431);
    // It would wait for 10 seconds by the timeouts of before, which is no assertion.
    server.connect().ends();
    server.stop();
}

#[test]
fn what_needs_a_restart_is_told_and_the_rest_applied() {
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, "", "").start();
    rewrite(
        &tree,
        "[io]\npipe-size = \"64k\"\nrecv-buffers = 64",
        "charset = \"\"",
    );
    hup(&server, APPLIED);
    let log = server.log();
    for line in [
        "io.pipe-size: \"64k\" needs a restart; it stays \"256k\"",
        "io.recv-buffers: 64 needs a restart; it stays 1024",
    ] {
        assert!(log.contains(line), "{log}");
    }
    tree.write("page.html", b"x");
    let page = server.get("/page.html");
    assert_eq!(page.header("content-type"), Some("text/html"));
    server.stop();
}

#[test]
fn a_wrong_configuration_changes_nothing_and_is_told_with_its_line() {
    let tree = Tree::with("file", b"content");
    let server = Launch::run(&tree, "", "").start();
    let file = tree.base().join("tidegate.toml");
    let file = file.display();
    for (config, site, reason) in [
        ("x = [", "", format!("{file}:6: missing comma")),
        (
            "nonsense = 1",
            "",
            format!("{file}:3: server.nonsense: unknown key"),
        ),
        ("", "index = 5", format!("{file}:10: site.index: ")),
        (
            "[tls]\nclient-ca = 'none.pem'\nclient-auth = 'require'\n\
             certificates = [{ cert = 'none.pem', key = 'none.key' }]",
            "",
            format!("{file}:6: tls.certificates.cert: "),
        ),
    ] {
        rewrite(&tree, config, site);
        hup(&server, REFUSED);
        let log = server.log();
        assert!(
            log.contains(&format!("{REFUSED}{reason}")),
            "{reason} in {log}"
        );
        assert_eq!(server.get("/file").body, b"content");
    }
    drop(Launch::run_sites(&tree, "", "[[site]]\nroot = 'none'"));
    hup(&server, REFUSED);
    let reason = format!("{REFUSED}{file}:9: site.root: cannot serve");
    assert!(server.log().contains(&reason), "{}", server.log());
    std::fs::remove_file(tree.base().join("tidegate.toml")).unwrap();
    hup(&server, REFUSED);
    assert!(
        server.log().contains("tidegate.toml: No such file"),
        "{}",
        server.log()
    );
    assert_eq!(server.get("/file").body, b"content");
    assert!(!server.log().contains(APPLIED));
    server.stop();
}

#[test]
fn a_download_goes_on_across_reloads() {
    let tree = Tree::new();
    tree.write("big", &vec![7; 32 << 20]);
    let server = Launch::run(&tree, "", "").start();
    let mut client = Client::connect_narrow(server.address);
    client.send(super::support::get("/big"));
    let head = client.head();
    for index in ["a.html", "b.html"] {
        rewrite(&tree, "", &format!("index = ['{index}']"));
        hup(&server, APPLIED);
    }
    std::fs::remove_file(tree.path("big")).unwrap();
    assert_eq!(server.get("/big").status, 404);
    assert_eq!(client.body_of(&head).len(), 32 << 20);
    server.stop();
}
