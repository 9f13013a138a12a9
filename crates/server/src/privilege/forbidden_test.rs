//! Tries what is forbidden from inside, by the code that the server bounds itself with: in a thread
//! of its own, which alone is bound.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use glommio::LocalExecutorBuilder;
use glommio::io::BufferedFile;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::ptrace;
use nix::unistd::{Pid, chroot};
use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, RawProtocol, SocketFlags, SocketType, netlink};
use rustix::process::{Resource, Rlimit, Signal, getrlimit};
use tempfile::TempDir;

use super::calls;
use super::files::{Fence, version};
use super::reach::Reach;

/// Directories of a server, and one beside them.
struct Places {
    directory: TempDir,
}

impl Places {
    fn new() -> Self {
        let places = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        for name in ["root", "logs", "cache", "sockets", "outside"] {
            fs::create_dir(places.path(name)).unwrap();
            fs::write(places.path(&format!("{name}/file")), name).unwrap();
        }
        places
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(name)
    }

    fn reach(&self) -> Reach {
        let only = |name| BTreeSet::from([self.path(name)]);
        Reach {
            read: only("root"),
            logs: only("logs"),
            cache: only("cache"),
            sockets: only("sockets"),
            ..Reach::default()
        }
    }

    /// Runs `act` with these places in reach; `None`: this kernel has no landlock.
    fn inside<T: Send + 'static>(&self, act: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        version()?;
        let mut reach = self.reach();
        let run = move || {
            assert!(Fence::around(&mut reach).unwrap().close().unwrap());
            act()
        };
        Some(thread::spawn(run).join().unwrap())
    }
}

/// Runs `act` where serving's system calls alone are allowed.
fn with_calls_of_serving<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    let run = || {
        assert!(calls::restrict().unwrap(), "this kernel has no seccomp");
        act()
    };
    thread::spawn(run).join().unwrap()
}

fn is_denied<T>(result: std::io::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

#[test]
fn files_outside_are_out_of_reach() {
    let places = Places::new();
    let (root, outside) = (places.path("root"), places.path("outside"));
    places.inside(move || {
        assert_eq!(fs::read(root.join("file")).unwrap(), b"root");
        assert!(fs::read_dir(&root).unwrap().count() == 1);
        assert!(is_denied(File::open(outside.join("file"))));
        assert!(is_denied(fs::read_dir(&outside)));
        assert!(is_denied(File::open("/etc/passwd")));
        assert!(is_denied(File::create(outside.join("new"))));
        // No name of it leads there: a link, /proc, another directory's descriptor.
        assert!(is_denied(File::open(root.join("../outside/file"))));
        assert!(is_denied(File::open("/proc/self/mem")));
    });
}

#[test]
fn a_ring_reaches_no_more() {
    let places = Places::new();
    let (inside, outside) = (places.path("root/file"), places.path("outside/file"));
    places.inside(move || {
        let executor = LocalExecutorBuilder::default().make().unwrap();
        executor.run(async {
            assert!(BufferedFile::open(&inside).await.is_ok());
            let Err(refusal) = BufferedFile::open(&outside).await else {
                panic!("the file was opened");
            };
            let refusal = std::io::Error::from(refusal);
            assert_eq!(refusal.kind(), ErrorKind::PermissionDenied);
        });
    });
}

#[test]
fn a_root_is_not_written_to() {
    let places = Places::new();
    let root = places.path("root");
    places.inside(move || {
        let file = root.join("file");
        assert!(is_denied(OpenOptions::new().append(true).open(&file)));
        assert!(is_denied(File::create(root.join("new"))));
        assert!(is_denied(fs::create_dir(root.join("new"))));
        assert!(is_denied(fs::remove_file(&file)));
        assert!(is_denied(fs::rename(&file, root.join("other"))));
        assert!(is_denied(symlink("/etc", root.join("link"))));
        assert!(is_denied(UnixListener::bind(root.join("socket")).map(drop)));
    });
    assert_eq!(fs::read_dir(places.path("root")).unwrap().count(), 1);
}

#[test]
fn each_directory_has_its_use_and_no_other() {
    let places = Places::new();
    let [logs, cache, sockets] = ["logs", "cache", "sockets"].map(|name| places.path(name));
    places.inside(move || {
        let append = |path: &Path| OpenOptions::new().create(true).append(true).open(path);
        append(&logs.join("new"))
            .unwrap()
            .write_all(b"line\n")
            .unwrap();
        assert!(is_denied(fs::remove_file(logs.join("file"))));
        assert!(is_denied(symlink("/etc", logs.join("link"))));

        fs::create_dir(cache.join("new")).unwrap();
        fs::write(cache.join("new/file"), "x").unwrap();
        fs::rename(cache.join("new/file"), cache.join("file")).unwrap();
        fs::remove_file(cache.join("file")).unwrap();
        assert!(is_denied(symlink("/etc", cache.join("link"))));

        let socket = sockets.join("socket");
        drop(UnixListener::bind(&socket).unwrap());
        fs::remove_file(&socket).unwrap();
        assert!(is_denied(File::create(sockets.join("new"))));
    });
}

#[test]
fn others_get_no_signal() {
    let places = Places::new();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let id = rustix::process::Pid::from_child(&child);
    let sent = places.inside(move || rustix::process::kill_process(id, Signal::KILL));
    // Of landlock's ABI 6.
    if version() >= Some(6) {
        assert_eq!(sent, Some(Err(Errno::PERM)));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn no_program_is_run() {
    with_calls_of_serving(|| {
        assert!(is_denied(Command::new("/bin/true").spawn()));
        assert!(is_denied(Command::new("/bin/true").status()));
        // Threads are started, as before.
        assert_eq!(thread::spawn(|| 7).join().unwrap(), 7);
    });
}

#[test]
fn calls_that_serving_does_not_need_are_refused() {
    let other = i32::try_from(std::process::id()).unwrap();
    with_calls_of_serving(move || {
        let refused = Err(nix::Error::EPERM);
        assert_eq!(ptrace::traceme(), refused);
        assert_eq!(ptrace::attach(Pid::from_raw(other)), refused);
        assert_eq!(unshare(CloneFlags::CLONE_NEWUSER), refused);
        assert_eq!(unshare(CloneFlags::CLONE_NEWNS), refused);
        assert_eq!(setns(std::io::stdin(), CloneFlags::empty()), refused);
        assert_eq!(chroot("/"), refused);
        let none: Option<&str> = None;
        let flags = nix::mount::MsFlags::MS_BIND;
        assert_eq!(
            nix::mount::mount(Some("/"), "/", none, flags, none),
            refused
        );
        assert_eq!(nix::mount::umount("/"), refused);
        assert_eq!(
            nix::kmod::delete_module(c"none", nix::kmod::DeleteModuleFlags::empty()),
            refused
        );
        let root = rustix::process::Uid::ROOT;
        assert_eq!(rustix::thread::set_thread_uid(root), Err(Errno::PERM));
        let process = rustix::process::Pid::from_raw(other).unwrap();
        assert_eq!(
            rustix::process::kill_process(process, Signal::CONT),
            Err(Errno::PERM)
        );
        assert_eq!(rustix::process::setsid(), Err(Errno::PERM));
        let limit = Rlimit {
            current: Some(9),
            maximum: Some(9),
        };
        assert_eq!(
            rustix::process::setrlimit(Resource::Nofile, limit),
            Err(Errno::PERM)
        );
        assert!(getrlimit(Resource::Nofile).current != Some(9));
        let sets = rustix::thread::capabilities(None).unwrap();
        assert_eq!(
            rustix::thread::set_capabilities(None, sets),
            Err(Errno::PERM)
        );
    });
}

#[test]
fn sockets_are_of_the_network_and_of_unix() {
    let socket = |family, kind, protocol: Option<Protocol>| {
        rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, protocol).map(drop)
    };
    with_calls_of_serving(move || {
        drop(TcpListener::bind("127.0.0.1:0").unwrap());
        drop(UnixStream::pair().unwrap());
        assert_eq!(
            socket(AddressFamily::NETLINK, SocketType::RAW, None),
            Ok(())
        );
        let refused = Err(Errno::PERM);
        let all = Protocol::from_raw(RawProtocol::new(3 << 8).unwrap());
        assert_eq!(
            socket(AddressFamily::PACKET, SocketType::RAW, Some(all)),
            refused
        );
        for family in [AddressFamily::VSOCK, AddressFamily::XDP, AddressFamily::KEY] {
            assert_eq!(socket(family, SocketType::RAW, None), refused);
        }
        let audit = Some(netlink::AUDIT);
        assert_eq!(
            socket(AddressFamily::NETLINK, SocketType::RAW, audit),
            refused
        );
    });
}
