//! `tidegate publish`: a directory, and the bucket that it is uploaded to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Behaviour, Gate, Launch, Origin, Request, Tree};

/// Longer than what is uploaded in one piece.
const LONG: u64 = (64 << 20) + 1;

/// A directory and a store.
struct Release {
    tree: Tree,
    store: Origin,
}

impl Release {
    fn new(files: &[(&str, &str)]) -> Self {
        let (tree, store) = (Tree::new(), Origin::start());
        store.hold_bucket("/bucket");
        for (name, text) in files {
            tree.write(name, text.as_bytes());
        }
        Self { tree, store }
    }

    fn publish(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn command(&self, args: &[&str]) -> Command {
        // Whoever runs the tests in the background of a shell has INT ignored, which is inherited.
        let mut command = Command::new("/usr/bin/env");
        command
            .arg("--default-signal=INT")
            .arg(env!("CARGO_BIN_EXE_tidegate"))
            .arg("publish")
            .arg(self.tree.root())
            .arg("s3://bucket/www")
            .args(args)
            .env_clear()
            .env("AWS_ACCESS_KEY_ID", "key-id")
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env(
                "AWS_ENDPOINT_URL",
                format!("http://{}", self.store.address()),
            );
        command
    }

    /// Publishes without a failure; the summary.
    #[track_caller]
    fn succeed(&self, args: &[&str]) -> String {
        let output = self.publish(args);
        assert_eq!(stderr(&output), "");
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Publishes with failures; what is said about them, and the summary.
    #[track_caller]
    fn fail(&self, args: &[&str]) -> (String, String) {
        let output = self.publish(args);
        assert_eq!(output.status.code(), Some(1));
        (stderr(&output), String::from_utf8(output.stdout).unwrap())
    }

    /// The methods and keys of the requests that change something, in their order.
    fn changes(&self) -> Vec<String> {
        let requests = self.store.requests().into_iter();
        let changing = requests.filter(|request| !["GET", "HEAD"].contains(&&*request.method));
        changing
            .map(|request| format!("{} {}", request.method, key(&request)))
            .collect()
    }

    /// The objects by their keys, without the prefix: the body, the type, and Cache-Control.
    fn objects(&self) -> BTreeMap<String, (String, String, String)> {
        let objects = self.store.objects().into_iter();
        let shown = objects.map(|(path, object)| {
            let field = |name: &str| {
                let mut fields = object.fields.iter();
                let value = fields.find_map(|(key, value)| (key == name).then(|| value.clone()));
                value.unwrap_or_default()
            };
            let body = String::from_utf8_lossy(&object.body).into_owned();
            let fields = (body, field("content-type"), field("cache-control"));
            (
                path.strip_prefix("/bucket/www/").unwrap().to_owned(),
                fields,
            )
        });
        shown.collect()
    }
}

fn key(request: &Request) -> String {
    let path = request.target.strip_prefix("/bucket/www/");
    path.unwrap_or(&request.target).to_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_second_run_uploads_nothing_and_a_change_alone() {
    let release = Release::new(&[
        ("a b+%\u{e4}.txt", "1"),
        ("b.txt", "2"),
        ("c/d.txt", "3"),
        ("c/e.txt", ""),
        ("index.html", "4"),
    ]);
    let summary = release.succeed(&[]);
    assert_eq!(
        summary,
        "uploaded 5 (4 B), unchanged 0, deleted 0, failed 0\n"
    );
    assert_eq!(release.changes().len(), 5);
    let objects = release.objects();
    assert_eq!(objects["c/d.txt"].0, "3");
    assert!(objects.contains_key("a%20b%2B%25%C3%A4.txt"), "{objects:?}");

    release.store.forget();
    let summary = release.succeed(&[]);
    assert_eq!(
        summary,
        "uploaded 0 (0 B), unchanged 5, deleted 0, failed 0\n"
    );
    assert_eq!(release.changes(), [""; 0]);

    release.tree.write("b.txt", b"5");
    let summary = release.succeed(&[]);
    assert_eq!(
        summary,
        "uploaded 1 (1 B), unchanged 4, deleted 0, failed 0\n"
    );
    assert_eq!(release.changes(), ["PUT b.txt"]);

    release.store.forget();
    release.succeed(&["--force"]);
    assert_eq!(release.changes().len(), 5);
}

#[test]
fn an_object_with_another_tag_is_compared_by_its_metadata() {
    let release = Release::new(&[("a.txt", "1"), ("b.txt", "2")]);
    release.succeed(&[]);
    for (path, object) in release.store.objects() {
        release.store.put(&path, object.etag("\"not-an-md5\""));
    }
    release.tree.write("b.txt", b"3");
    release.store.forget();
    release.succeed(&[]);
    assert_eq!(release.changes(), ["PUT b.txt"]);
}

#[test]
fn objects_have_the_types_of_the_server_and_are_cached_by_their_names() {
    let release = Release::new(&[
        ("index.html", "1"),
        ("index.html.br", "2"),
        ("app.0f3c9ad1be27.js", "3"),
        ("app.0f3c9ad1be27.js.gz", "4"),
        ("photo.jpg", "5"),
        ("photo.jpg.gz", "6"),
        ("notes.txt", "7"),
        ("fonts/a.woff2", "8"),
    ]);
    release.succeed(&[
        "--cache-control",
        "/fonts/**=max-age=60",
        "--cache-control=*.txt=",
    ]);
    let (year, hour) = (
        "public, max-age=31536000, immutable",
        "public, max-age=3600",
    );
    let expected = [
        (
            "app.0f3c9ad1be27.js",
            "text/javascript; charset=utf-8",
            year,
        ),
        (
            "app.0f3c9ad1be27.js.gz",
            "text/javascript; charset=utf-8",
            year,
        ),
        ("fonts/a.woff2", "font/woff2", "max-age=60"),
        ("index.html", "text/html; charset=utf-8", "no-cache"),
        ("index.html.br", "text/html; charset=utf-8", "no-cache"),
        ("notes.txt", "text/plain; charset=utf-8", ""),
        ("photo.jpg", "image/jpeg", hour),
        // The server does not look for variants of pictures.
        ("photo.jpg.gz", "application/gzip", hour),
    ];
    let objects = release.objects();
    let found: Vec<_> = objects
        .iter()
        .map(|(key, (_, kind, cache))| (key.as_str(), kind.as_str(), cache.as_str()))
        .collect();
    assert_eq!(found, expected);
    let stored = release.store.objects();
    let mut fields = stored.values().flat_map(|object| &object.fields);
    assert!(!fields.any(|(name, _)| name == "content-encoding"));
}

#[test]
fn variants_are_there_before_their_originals_and_pages_last() {
    let release = Release::new(&[
        ("a.html", "1"),
        ("a.html.br", "2"),
        ("index.html", "3"),
        ("z.js", "4"),
        ("z.js.br", "5"),
        ("z.js.zst", "6"),
    ]);
    release.succeed(&["--concurrency", "1"]);
    let order = [
        "z.js.br",
        "z.js.zst",
        "z.js",
        "a.html.br",
        "a.html",
        "index.html",
    ];
    assert_eq!(release.changes(), order.map(|key| format!("PUT {key}")));
}

#[test]
fn a_long_file_goes_in_parts() {
    let release = Release::new(&[]);
    let file = File::create(release.tree.path("long.iso")).unwrap();
    file.set_len(LONG).unwrap();
    let summary = release.succeed(&[]);
    assert!(summary.starts_with("uploaded 1 (64.00 MiB), "), "{summary}");
    assert_eq!(release.changes().len(), 1 + 5 + 1);
    assert_eq!(release.store.uploads(), 0);
    let objects = release.store.objects();
    let object = &objects["/bucket/www/long.iso"];
    assert_eq!(object.body.len() as u64, LONG);
    let kind = (
        "content-type".to_owned(),
        "application/x-iso9660-image".to_owned(),
    );
    assert!(object.fields.contains(&kind), "{:?}", object.fields);

    release.store.forget();
    let summary = release.succeed(&[]);
    assert!(
        summary.starts_with("uploaded 0 (0 B), unchanged 1, "),
        "{summary}"
    );
    assert!(
        release.store.count("/bucket/www/long.iso") == 0,
        "no need to ask"
    );
}

#[test]
fn an_upload_that_fails_is_aborted() {
    let release = Release::new(&[("index.html", "1")]);
    let file = File::create(release.tree.path("long.iso")).unwrap();
    file.set_len(LONG).unwrap();
    let third = "/bucket/www/long.iso?partNumber=3&uploadId=upload%201%26";
    release
        .store
        .behave(third, [Behaviour::s3_error(503, "SlowDown")]);
    let (errors, summary) = release.fail(&[]);
    let expected = "tidegate: cannot upload www/long.iso: status 503 SlowDown: it is overloaded: \
                    use a lower --concurrency\ntidegate: 1 failure\n";
    assert_eq!(errors, expected);
    assert!(
        summary.contains("left out: 1 not begun as something failed"),
        "{summary}"
    );
    assert_eq!(release.store.count(third), 2, "tried again once");
    assert_eq!(release.store.uploads(), 0);
    assert_eq!(release.store.objects().len(), 0);
    let last = release.changes().pop().unwrap();
    assert_eq!(last, "DELETE long.iso?uploadId=upload%201%26");
}

#[test]
fn a_signal_aborts_an_upload() {
    let release = Release::new(&[("index.html", "1")]);
    let file = File::create(release.tree.path("long.iso")).unwrap();
    file.set_len(LONG).unwrap();
    let gate = Gate::default();
    let third = "/bucket/www/long.iso?partNumber=3&uploadId=upload%201%26";
    release
        .store
        .behave(third, [Behaviour::StallHead(gate.clone())]);
    let mut command = release.command(&[]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    gate.reached();
    assert_eq!(release.store.uploads(), 1);
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    let expected = "tidegate: stopped by a signal; what is uploaded is whole\n";
    assert_eq!(stderr(&output), expected);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(release.store.uploads(), 0);
    assert_eq!(release.store.objects().len(), 0);
}

#[test]
fn what_the_directory_lacks_is_removed_last() {
    let release = Release::new(&[
        ("a.js", "1"),
        ("a.js.br", "2"),
        ("old.js", "3"),
        ("keep.map", "4"),
    ]);
    release.succeed(&[]);
    for name in ["a.js.br", "old.js", "keep.map"] {
        fs::remove_file(release.tree.path(name)).unwrap();
    }
    release.tree.write("a.js", b"5");
    release.tree.write("index.html", b"6");
    let summary = release.succeed(&[]);
    let warning = "in the store are variants that DIR lacks, 1: they may be of older files";
    assert!(summary.contains(warning), "{summary}");
    assert_eq!(release.objects().len(), 5);

    release.tree.write("index.html", b"7");
    release.store.forget();
    let args = ["--delete", "--exclude", "*.map", "--concurrency", "1"];
    let planned = release.succeed(&[&args[..], &["--dry-run"]].concat());
    let expected = "would upload www/index.html: 1 bytes\nwould delete www/a.js.br\n\
                    would delete www/old.js\n\
                    to upload 1 (1 B), unchanged 1, to delete 2, failed 0\n";
    assert_eq!(planned, expected);
    assert_eq!(release.changes(), [""; 0]);
    let summary = release.succeed(&args);
    assert_eq!(
        summary,
        "uploaded 1 (1 B), unchanged 1, deleted 2, failed 0\n"
    );
    assert_eq!(
        release.changes(),
        ["PUT index.html", "DELETE a.js.br", "DELETE old.js"]
    );
    let left: Vec<_> = release.objects().into_keys().collect();
    assert_eq!(left, ["a.js", "index.html", "keep.map"]);
}

#[test]
fn a_failure_is_named_and_nothing_follows_it() {
    let release = Release::new(&[("a.js", "1"), ("b.js", "2"), ("index.html", "3")]);
    release.store.behave(
        "/bucket/www/a.js",
        [Behaviour::s3_error(403, "AccessDenied")],
    );
    let (errors, summary) = release.fail(&["--delete"]);
    let expected = "tidegate: cannot upload www/a.js: status 403 AccessDenied: the credentials lack \
                    the right s3:PutObject\ntidegate: 1 failure\n";
    assert_eq!(errors, expected);
    let expected = "uploaded 1 (1 B), unchanged 0, deleted 0, failed 1\n\
                    left out: 1 not begun as something failed\n";
    assert_eq!(summary, expected);
    assert_eq!(
        release.store.count("/bucket/www/a.js"),
        1,
        "it is not asked again"
    );
    assert_eq!(release.objects().into_keys().collect::<Vec<_>>(), ["b.js"]);

    release.store.behave("/bucket/www/a.js", []);
    release.succeed(&[]);
    assert_eq!(release.objects().len(), 3);
}

#[test]
fn a_store_that_cannot_be_listed_is_left_alone() {
    let release = Release::new(&[("a.js", "1")]);
    release.store.behave(
        "/bucket/",
        [Behaviour::s3_error(403, "SignatureDoesNotMatch")],
    );
    let (errors, _) = release.fail(&[]);
    let expected = format!(
        "tidegate: cannot list http://{}/bucket/www/: status 403 SignatureDoesNotMatch: the secret \
         access key is wrong, or a proxy changes requests\n",
        release.store.address()
    );
    assert_eq!(errors, expected);
    assert_eq!(release.changes(), [""; 0]);
}

#[test]
fn an_empty_directory_deletes_nothing() {
    let release = Release::new(&[("a.js", "1")]);
    release.succeed(&[]);
    fs::remove_file(release.tree.path("a.js")).unwrap();
    let (errors, _) = release.fail(&["--delete"]);
    assert!(
        errors.contains("there is no file in it that is served"),
        "{errors}"
    );
    assert_eq!(release.objects().len(), 1);
}

/// From the files of a release to what a client gets.
#[test]
fn a_release_is_served_from_the_store() {
    let release = Release::new(&[("app.js", "original"), ("app.js.br", "variant")]);
    release.succeed(&[]);
    let cache = release.tree.base().join("cache");
    let config = format!(
        "[cache.disk]\npath = \"{}\"\nsize = \"1g\"",
        cache.display()
    );
    let site = format!(
        "[[site]]\norigin = {{ s3 = \"http://{}/bucket/www\" }}",
        release.store.address()
    );
    let server = Launch::run_sites(&release.tree, &config, &site)
        .through(["env", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b"])
        .start();
    let plain = server.get("/app.js");
    assert_eq!(plain.body, b"original");
    assert_eq!(
        plain.header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    assert_eq!(plain.header("cache-control"), Some("public, max-age=3600"));
    let coded = server.get_with("/app.js", &["Accept-Encoding: br"]);
    assert_eq!(coded.body, b"variant");
    assert_eq!(coded.header("content-encoding"), Some("br"));
}
