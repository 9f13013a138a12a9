//! A configuration of several files, and with variables of the environment.

use crate::support::{Client, Launch, Server, Tree};

/// Runs a command on `main.toml` of the tree, which listens on a free port.
fn command(tree: &Tree, command: &str) -> Launch {
    Launch::with([
        command.into(),
        tree.base().join("main.toml").into_os_string(),
    ])
}

fn get(server: &Server, host: &str, target: &str) -> (u16, Vec<u8>) {
    let mut client: Client = server.connect();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let response = client.response();
    (response.status, response.body)
}

const LISTEN: &str = "[[listen]]\naddress = '127.0.0.1:0'\n[server]\ncores = 1\n";

/// `main.toml` with this text above its listener.
fn main_file(tree: &Tree, text: &str) {
    tree.write("../main.toml", format!("{text}\n{LISTEN}").as_bytes());
}

#[test]
fn sites_of_included_files_are_served() {
    let tree = Tree::new();
    main_file(&tree, "include = ['sites/*.toml']");
    for name in ["a", "b"] {
        let site = format!("[[site]]\nnames = ['{name}.example']\nroot = '{name}'\n");
        tree.write(&format!("../sites/{name}.toml"), site.as_bytes());
        tree.write(&format!("../sites/{name}/file"), name.as_bytes());
    }
    let ok = command(&tree, "check").output().success();
    assert!(ok.ends_with("main.toml: ok\n"), "{ok}");
    let server = command(&tree, "run").start();
    for name in ["a", "b"] {
        let host = format!("{name}.example");
        assert_eq!(get(&server, &host, "/file"), (200, name.into()));
    }
    server.stop();

    let effective = command(&tree, "config").output().success();
    assert!(!effective.contains("include"), "{effective}");
    tree.write("../saved/main.toml", effective.as_bytes());
    let saved = Launch::with([
        "config".into(),
        tree.path("../saved/main.toml").into_os_string(),
    ]);
    assert_eq!(saved.output().success(), effective);
}

#[test]
fn a_wrong_included_file_is_refused_with_its_line() {
    let tree = Tree::new();
    main_file(&tree, "include = ['sites/*.toml']");
    let rows = [
        ("[[site]]\nrot = 'x'\n", "a.toml:2: site.rot: unknown key"),
        (
            "[[site]]\nroot = 'none'\n",
            "a.toml:2: site.root: cannot serve",
        ),
        (
            "[[site]]\nroot = '.'\n[server]\ncores = 2\n",
            "a.toml:4: server.cores: set already, by line 5 of",
        ),
        (
            "include = ['none.toml']\n[[site]]\nroot = '.'\n",
            "a.toml:1: include: ",
        ),
    ];
    for (site, words) in rows {
        tree.write("../sites/a.toml", site.as_bytes());
        for name in ["check", "run"] {
            command(&tree, name).output().refusal(1, &[words]);
        }
    }
}

#[test]
fn variables_of_the_environment_are_expanded_where_asked_for() {
    let tree = Tree::with("file", b"content");
    let site =
        "[[site]]\nroot = '${WWW}'\n[[site.redirects]]\nfrom = '/old/*'\nto = '/${NEW:-new}/$1'\n";
    tree.write("../site.toml", site.as_bytes());
    main_file(&tree, "expand-environment = true\ninclude = ['site.toml']");
    command(&tree, "check").output().refusal(
        1,
        &["site.toml:2: site.root: ${WWW} is not set in the environment"],
    );
    let with = |launch: Launch| {
        let root = tree.root();
        launch.through(["env".into(), format!("WWW={}", root.display())])
    };
    let server = with(command(&tree, "run")).start();
    assert_eq!(server.get("/file").body, b"content");
    assert_eq!(server.get("/old/a").header("location"), Some("/new/a"));
    server.stop();
    let effective = with(command(&tree, "config")).output().success();
    assert!(
        effective.contains(&format!("root = \"{}\"", tree.root().display())),
        "{effective}"
    );

    tree.write("../site.toml", b"[[site]]\nroot = '${WWW}'\n");
    main_file(&tree, "include = ['site.toml']");
    with(command(&tree, "check"))
        .output()
        .refusal(1, &["site.toml:2: site.root: cannot serve", "${WWW}"]);
}
