//! What keeps tidegate from serving, and that it says so: exit status 1, one clear message.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use crate::support::{Launch, Server, Tree, installed, is_root, noise, skipped};

/// Runs what follows with `io_uring_setup` (425 on every architecture) refused with EPERM, as the seccomp
/// profile of a container does.
const WITHOUT_IO_URING: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
instruction = lambda *fields: struct.pack("HBBI", *fields)
filters = ctypes.create_string_buffer(
    instruction(0x20, 0, 0, 0)              # load the number of the call
    + instruction(0x15, 0, 1, 425)          # io_uring_setup?
    + instruction(0x06, 0, 0, 0x00050001)   # then EPERM
    + instruction(0x06, 0, 0, 0x7FFF0000))  # else allow
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filters", ctypes.c_void_p)]
program = Program(4, ctypes.addressof(filters))
assert libc.prctl(38, 1, 0, 0, 0) == 0                      # PR_SET_NO_NEW_PRIVS
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0  # PR_SET_SECCOMP, a filter
os.execv(sys.argv[1], sys.argv[1:])
"#;

#[test]
fn a_directory_that_is_not_there() {
    let tree = Tree::new();
    let missing = tree.base().join("missing");
    let name = missing.to_str().expect("a temporary directory in UTF-8");
    let output = Launch::serve(&missing).output();
    output.refusal(1, &[name, "no such file or directory"]);
}

#[test]
fn a_root_in_a_config_that_is_not_there() {
    let tree = Tree::new();
    fs::remove_dir(tree.root()).unwrap();
    let root = tree.root();
    let name = root.to_str().expect("a temporary directory in UTF-8");
    let output = Launch::run(&tree, "", "").output();
    output.refusal(1, &[name, "no such file or directory"]);
}

#[test]
fn a_file_in_place_of_a_directory() {
    let tree = Tree::with("file", b"content");
    let file = tree.path("file");
    let name = file.to_str().expect("a temporary directory in UTF-8");
    let output = Launch::serve(&file).output();
    output.refusal(1, &[name, "not a directory"]);
}

#[test]
fn a_directory_that_may_not_be_read() {
    let tree = Tree::with("file", b"content");
    let root = tree.root();
    let name = root.to_str().expect("a temporary directory in UTF-8");
    // No permissions: neither to list it nor to reach its files. Owned by an unprivileged user.
    let modes = if is_root() {
        [0o600, 0o604]
    } else {
        [0o000, 0o400]
    };
    for mode in modes {
        fs::set_permissions(&root, fs::Permissions::from_mode(mode)).unwrap();
        let output = Launch::serve(&root).unprivileged(&tree).output();
        fs::set_permissions(&root, fs::Permissions::from_mode(0o700)).unwrap();
        output.refusal(1, &[name, "permission denied"]);
    }
}

#[test]
fn a_port_in_use() {
    let tree = Tree::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = Launch::with(["serve", "--cores", "1", "--listen", &address])
        .argument(tree.root())
        .output();
    output.refusal(1, &[&address, "in use"]);
}

#[test]
fn a_port_that_another_tidegate_serves() {
    let tree = Tree::with("file", b"content");
    let server = Server::serve(&tree);
    let address = server.address.to_string();
    let output = Launch::with(["serve", "--cores", "1", "--listen", &address])
        .argument(tree.root())
        .output();
    output.refusal(1, &[&address, "in use"]);
    assert_eq!(server.get("/file").body, b"content");
}

#[test]
fn an_address_that_is_not_of_this_host() {
    let tree = Tree::new();
    // From the range for documentation.
    let output = Launch::with(["serve", "--cores", "1", "--listen", "192.0.2.1:8080"])
        .argument(tree.root())
        .output();
    output.refusal(1, &["192.0.2.1:8080", "cannot assign requested address"]);
}

#[test]
fn a_privileged_port() {
    let least = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    if least.is_ok_and(|least| least.trim() == "0") {
        skipped("any user may use any port here");
        return;
    }
    let tree = Tree::new();
    let output = Launch::with(["serve", "--cores", "1", "--listen", "127.0.0.1:1"])
        .argument(tree.root())
        .unprivileged(&tree)
        .output();
    output.refusal(1, &["127.0.0.1:1", "permission denied"]);
}

#[test]
fn a_core_that_is_not_there() {
    let tree = Tree::new();
    let output = Launch::serve_on("8000", tree.root()).output();
    output.refusal(1, &["8000", "core"]);
    let output = Launch::serve_on("0,8000", tree.root()).output();
    output.refusal(1, &["8000", "core"]);
}

#[test]
fn a_config_with_a_typo() {
    let tree = Tree::new();
    for (config, site, line, words) in [
        (
            "gracefull-timeout = \"1s\"",
            "",
            3,
            ["server.gracefull-timeout", "graceful-timeout"],
        ),
        (
            "[timeouts]\nheader = \"ten\"",
            "",
            4,
            ["timeouts.header", "ten"],
        ),
        (
            "[limits]\nheaders = true",
            "",
            4,
            ["limits.headers", "found true"],
        ),
        ("[io]\npipe-size = \"0\"", "", 4, ["io.pipe-size", "0"]),
        ("[timeout]\nheader = \"1s\"", "", 3, ["timeout", "timeouts"]),
        ("", "index = \"index.html\"", 10, ["site", "index"]),
        ("graceful-timeout", "", 3, ["", ""]),
    ] {
        let output = Launch::run(&tree, config, site).output();
        let place = format!("{}:{line}: ", tree.base().join("tidegate.toml").display());
        output.refusal(1, &[&place, words[0], words[1]]);
    }
}

#[test]
fn a_config_that_is_not_there() {
    let output = Launch::with(["run", "--config", "/nowhere/tidegate.toml"]).output();
    output.refusal(1, &["/nowhere/tidegate.toml", "no such file or directory"]);
}

#[test]
fn too_little_locked_memory() {
    let content = noise(300_000, 1);
    let tree = Tree::with("file", &content);
    let launch = Launch::serve(tree.root())
        .limited("-l 64")
        .unprivileged(&tree);
    match launch.start_or_refusal() {
        // A kernel that does not count rings against the limit.
        Ok(server) => assert!(server.get("/file").body == content),
        Err(output) => output.refusal(1, &["RLIMIT_MEMLOCK"]),
    }
}

#[test]
fn io_uring_forbidden() {
    if !installed("python3") {
        return;
    }
    let tree = Tree::new();
    let output = Launch::serve(tree.root())
        .through(["python3", "-c", WITHOUT_IO_URING])
        .output();
    output.refusal(1, &["io_uring", "seccomp"]);
}
