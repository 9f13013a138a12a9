//! Several sites on one address, chosen by Host (RFC 9110, section 7.2).

use std::fs;

use crate::support::{Client, Launch, Server, Tree, request_with};

/// Names of sites, and the directory beneath the tree's root that each serves.
const SITES: [(&str, &str); 7] = [
    ("", "default"),
    ("\"a.example\", \"b.example\"", "exact"),
    ("\"*.example.org\"", "wildcard"),
    ("\"*.deep.example.org\"", "deeper"),
    ("\"www.example.org\"", "exact-beside-wildcard"),
    ("\"[2001:db8::1]\"", "address"),
    ("\"localhost\", \"*.localhost\"", "local"),
];

/// Values of Host, and the directory that answers.
const TABLE: [(&str, &str); 36] = [
    ("a.example", "exact"),
    ("b.example", "exact"),
    ("A.Example", "exact"),
    ("B.EXAMPLE", "exact"),
    ("a.example:80", "exact"),
    ("a.example:8080", "exact"),
    ("a.example:", "exact"),
    ("a.example.", "exact"),
    ("A.EXAMPLE.:8443", "exact"),
    ("c.example", "default"),
    ("www.a.example", "default"),
    ("a.example.evil", "default"),
    ("xa.example", "default"),
    ("a.exampl", "default"),
    ("example", "default"),
    ("x.example.org", "wildcard"),
    ("X.EXAMPLE.ORG", "wildcard"),
    ("x.example.org.:80", "wildcard"),
    ("x.y.example.org", "wildcard"),
    ("deep.example.org", "wildcard"),
    ("x.deep.example.org", "deeper"),
    ("x.y.deep.example.org:80", "deeper"),
    ("www.example.org", "exact-beside-wildcard"),
    ("WWW.example.org:80", "exact-beside-wildcard"),
    ("www.www.example.org", "wildcard"),
    ("example.org", "default"),
    ("xexample.org", "default"),
    ("[2001:db8::1]", "address"),
    ("[2001:DB8::1]:80", "address"),
    ("[2001:db8::2]", "default"),
    ("localhost", "local"),
    ("localhost:8080", "local"),
    ("www.localhost", "local"),
    ("127.0.0.1", "default"),
    ("127.0.0.1:8080", "default"),
    ("", "default"),
];

#[test]
fn host_chooses_the_site() {
    let tree = Tree::new();
    let server = serve(&tree);
    let mut client = server.connect();
    // Twice: from the disk, and from the caches.
    for (host, site) in TABLE.into_iter().chain(TABLE) {
        let response = ask(&mut client, host);
        assert_eq!(response, site, "{host:?}");
    }
}

#[test]
fn a_name_is_the_same_in_every_request_of_a_connection() {
    let tree = Tree::new();
    let server = serve(&tree);
    let mut client = server.connect();
    let hosts = ["a.example", "x.example.org", "none", "www.example.org"];
    let requests = hosts.map(|host| request_with("GET", "/name", &[&format!("Host: {host}")]));
    client.send(requests.concat().repeat(20));
    for _ in 0..20 {
        for site in ["exact", "wildcard", "default", "exact-beside-wildcard"] {
            assert_eq!(client.response().text(), site);
        }
    }
}

#[test]
fn an_absolute_target_is_stronger_than_host() {
    let tree = Tree::new();
    let server = serve(&tree);
    let mut client = server.connect();
    // RFC 9112, section 3.2.2.
    for (target, host, site) in [
        ("http://a.example/name", "none", "exact"),
        ("http://A.EXAMPLE:80/name", "x.example.org", "exact"),
        ("http://none/name", "a.example", "default"),
        (
            "http://x.deep.example.org/name?query",
            "a.example",
            "deeper",
        ),
    ] {
        let response = client.get_with(target, &[&format!("Host: {host}")]);
        assert_eq!(response.text(), site, "{target} {host}");
    }
}

#[test]
fn without_a_host_there_is_the_default() {
    let tree = Tree::new();
    let server = serve(&tree);
    let mut client = server.connect();
    client.send("GET /name HTTP/1.0\r\n\r\n");
    assert_eq!(client.response().text(), "default");
    let mut client = server.connect();
    client.send("GET /name HTTP/1.0\r\nHost: a.example\r\n\r\n");
    assert_eq!(client.response().text(), "exact");
}

#[test]
fn without_a_default_the_first_site_is_it() {
    let tree = Tree::new();
    let sites: String = [SITES[4], SITES[1], SITES[2]]
        .map(|site| site_of(&tree, site))
        .concat();
    let server = Launch::run_sites(&tree, "", &sites).start();
    let mut client = server.connect();
    for (host, site) in [
        ("none", "exact-beside-wildcard"),
        ("", "exact-beside-wildcard"),
        ("a.example", "exact"),
        ("x.example.org", "wildcard"),
    ] {
        assert_eq!(ask(&mut client, host), site, "{host:?}");
    }
}

#[test]
fn what_one_site_has_another_has_not() {
    let tree = Tree::new();
    let server = serve(&tree);
    let mut client = server.connect();
    for round in 0..3 {
        for (host, status) in [("a.example", 200), ("none", 404), ("x.example.org", 404)] {
            let host = format!("Host: {host}");
            let response = client.get_with("/only-exact", &[&host]);
            assert_eq!(response.status, status, "{host}, round {round}");
        }
    }
}

#[test]
fn every_site_has_its_own_rules() {
    let tree = Tree::new();
    tree.write("one/index.html", b"one");
    tree.write("one/404.html", b"none of one");
    tree.write("one/.hidden", b"hidden");
    tree.write("two/start.html", b"two");
    tree.write("two/.hidden", b"hidden");
    let root = tree.root();
    let root = root.display();
    let sites = format!(
        "[[site]]\nnames = [\"one\"]\nroot = \"{root}/one\"\nerror-pages = {{ 404 = \"/404.html\" }}\n\
         [[site.headers]]\nmatch = \"/**\"\nset = {{ x-site = \"one\" }}\n\
         [[site.redirects]]\nfrom = \"/old\"\nto = \"/new\"\n\
         [[site]]\nnames = [\"two\"]\nroot = \"{root}/two\"\nindex = [\"start.html\"]\nhidden-files = true\n\
         [[site.headers]]\nmatch = \"/**\"\nset = {{ x-site = \"two\" }}\n"
    );
    let server = Launch::run_sites(&tree, "", &sites).start();
    let mut client = server.connect();
    for (host, target, status, body) in [
        ("one", "/", 200, "one"),
        ("two", "/", 200, "two"),
        ("one", "/.hidden", 404, "none of one"),
        ("two", "/.hidden", 200, "hidden"),
        ("one", "/old", 301, ""),
        ("two", "/old", 404, ""),
    ] {
        let response = client.get_with(target, &[&format!("Host: {host}")]);
        assert_eq!(response.status, status, "{host} {target}");
        assert_eq!(response.header("x-site"), Some(host), "{host} {target}");
        if !body.is_empty() {
            assert_eq!(response.text(), body, "{host} {target}");
        }
    }
}

/// Serves [`SITES`], each with the file `name` that holds its directory's name.
fn serve(tree: &Tree) -> Server {
    let sites: String = SITES.map(|site| site_of(tree, site)).concat();
    tree.write("exact/only-exact", b"only here");
    Launch::run_sites(tree, "", &sites).start()
}

/// The site's section of the config, and its directory.
fn site_of(tree: &Tree, (names, directory): (&str, &str)) -> String {
    let root = tree.path(directory);
    fs::create_dir_all(&root).expect("a directory");
    tree.write(&format!("{directory}/name"), directory.as_bytes());
    format!(
        "[[site]]\nnames = [{names}]\nroot = \"{}\"\n",
        root.display()
    )
}

#[track_caller]
fn ask(client: &mut Client, host: &str) -> String {
    let response = client.get_with("/name", &[&format!("Host: {host}")]);
    assert_eq!(response.status, 200, "{host:?}");
    response.text().to_owned()
}
