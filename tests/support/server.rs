//! Starts the real binary, and ends it with the test.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use rustix::thread::{CapabilitySet, capabilities};

use super::{Client, Response, Tree, WATCHDOG, eventually, skipped};

/// How many tests may have servers at the same time. Each server locks some memory, and an
/// unprivileged user has 8 MiB for all of them.
const TESTS_MAX: usize = 4;
/// The same where memory may be locked without a limit: most tests wait for most of their time.
const TESTS_WITH_IPC_LOCK_MAX: usize = 16;

/// The unprivileged user of tests that run as root.
const NOBODY: &str = "65534";

/// The servers of each test that has any, by the name of its thread.
static SERVERS: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());
static SERVER_ENDED: Condvar = Condvar::new();

/// Whether the tests run as root.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// Whether `script` can be run in a mount namespace of its own; if not, reports that the test is skipped.
pub(crate) fn mounts(script: &str) -> bool {
    let line = namespace(script);
    let output = Command::new(line[0]).args(&line[1..]).output();
    let works = output.as_ref().is_ok_and(|output| output.status.success());
    if !works {
        skipped(format_args!("cannot mount here: {output:?}"));
    }
    works
}

/// The command line that runs `script`, with what follows as its arguments.
fn namespace(script: &str) -> [&str; 7] {
    let propagation = "--propagation=private";
    ["unshare", "--mount", propagation, "sh", "-e", "-c", script]
}

/// A command line of tidegate, before it is run.
pub(crate) struct Launch {
    /// Programs that change limits or the user and then run the rest of the command line.
    wrappers: Vec<OsString>,
    binary: PathBuf,
    arguments: Vec<OsString>,
}

impl Launch {
    /// tidegate with `arguments` as they stand.
    pub(crate) fn with<S: Into<OsString>>(arguments: impl IntoIterator<Item = S>) -> Self {
        Self {
            wrappers: Vec::new(),
            binary: PathBuf::from(env!("CARGO_BIN_EXE_tidegate")),
            arguments: arguments.into_iter().map(Into::into).collect(),
        }
    }

    /// `tidegate serve` on one core and a free port.
    pub(crate) fn serve(root: impl AsRef<Path>) -> Self {
        Self::serve_on("1", root)
    }

    /// `tidegate serve` on `cores` and a free port.
    pub(crate) fn serve_on(cores: &str, root: impl AsRef<Path>) -> Self {
        Self::with(["serve", "--listen", "127.0.0.1:0", "--cores", cores]).argument(root.as_ref())
    }

    /// `tidegate run` with a config file for `tree`: one core and a free port, then `config`, which starts
    /// in the `[server]` table, then a site to which `site` adds keys.
    pub(crate) fn run(tree: &Tree, config: &str, site: &str) -> Self {
        let root = tree.root();
        let root = root.display();
        Self::run_sites(
            tree,
            config,
            &format!("[[site]]\nroot = \"{root}\"\n{site}"),
        )
    }

    /// `tidegate run` as in [`Launch::run`], with `sites` as they stand.
    pub(crate) fn run_sites(tree: &Tree, config: &str, sites: &str) -> Self {
        let text = format!(
            "[server]\ncores = 1\n{config}\n\n\
             [[listen]]\naddress = \"127.0.0.1:0\"\n\n\
             {sites}\n"
        );
        let path = tree.base().join("tidegate.toml");
        fs::write(&path, text).expect("a config file");
        Self::with(["run", "--config"]).argument(path)
    }

    /// Runs the file at `path` instead of the binary.
    pub(crate) fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = path.into();
        self
    }

    pub(crate) fn argument(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    pub(crate) fn arguments<S: Into<OsString>>(
        mut self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Runs the line through `wrapper`, a command that ends by running what follows it.
    pub(crate) fn through<S: Into<OsString>>(
        mut self,
        wrapper: impl IntoIterator<Item = S>,
    ) -> Self {
        self.wrappers.extend(wrapper.into_iter().map(Into::into));
        self
    }

    /// Runs the line in a mount namespace of its own, after the shell's `script` in there. The server sees
    /// what that mounted, and [`Server::sees`] tells where the test finds it.
    pub(crate) fn mounted(self, script: &str) -> Self {
        let script = format!("{script} && exec \"$@\"");
        self.through(namespace(&script)).through(["sh"])
    }

    /// Sets a limit with the shell's `ulimit`, in its units.
    pub(crate) fn limited(self, limit: &str) -> Self {
        let script = format!("ulimit {limit} && exec \"$@\"");
        self.through(["sh", "-c", &script, "sh"])
    }

    /// Runs as a user who is not root, from a copy of the binary that this user can reach: as nobody when
    /// the tests run as root, else as the user they run as. To be called after [`Launch::limited`].
    pub(crate) fn unprivileged(self, tree: &Tree) -> Self {
        if is_root() {
            self.user(tree, NOBODY)
        } else {
            self
        }
    }

    /// Runs as the user and group `id`, as [`Launch::unprivileged`] does. Needs root.
    pub(crate) fn user(mut self, tree: &Tree, id: &str) -> Self {
        let copy = tree.base().join("tidegate");
        // By a program of its own: a file that this process had open for writing might be inherited by
        // another test's child at that moment, and could not be run then.
        let copied = Command::new("cp").arg(&self.binary).arg(&copy).status();
        assert!(copied.expect("cp").success(), "a copy of the binary");
        self.binary = copy;
        let user = format!("--reuid={id}");
        let group = format!("--regid={id}");
        self.through(["setpriv", &user, &group, "--clear-groups"])
    }

    /// Starts a server and waits until it serves.
    #[track_caller]
    pub(crate) fn start(self) -> Server {
        match self.start_or_refusal() {
            Ok(server) => server,
            Err(output) => panic!("the server does not serve: {output:?}"),
        }
    }

    /// Starts a server; what it left when it ended without serving.
    #[track_caller]
    pub(crate) fn start_or_refusal(self) -> Result<Server, Output> {
        let process = self.spawn();
        match process.line() {
            Some(line) => Ok(Server {
                address: address(&line),
                process,
            }),
            None => Err(process.output(String::new())),
        }
    }

    /// Runs a command that ends by itself.
    #[track_caller]
    pub(crate) fn output(self) -> Output {
        let process = self.spawn();
        let mut stdout = String::new();
        while let Some(line) = process.line() {
            stdout.push_str(&line);
            stdout.push('\n');
        }
        process.output(stdout)
    }

    /// Starts the process, once there is room for it.
    fn spawn(self) -> Process {
        let room = Room::take();
        let mut line = self.wrappers;
        line.push(self.binary.into());
        line.extend(self.arguments);
        let mut child = Command::new(&line[0])
            .args(&line[1..])
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", line[0].display()));
        let stdout = child.stdout.take().expect("standard output is piped");
        let stderr = child.stderr.take().expect("standard error is piped");
        let text = Arc::new(Mutex::new(Vec::new()));
        Process {
            child,
            lines: lines(stdout),
            reader: Some(collect(stderr, Arc::clone(&text))),
            stderr: text,
            _room: room,
        }
    }
}

/// What a command that ended by itself left.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Checks that the command ended well and said nothing on standard error; returns what it printed.
    #[track_caller]
    pub(crate) fn success(self) -> String {
        assert_eq!(self.status.code(), Some(0), "{self:?}");
        assert_eq!(self.stderr, "", "{self:?}");
        self.stdout
    }

    /// Checks that the command refused with exit status `code`, printed nothing on standard output, and
    /// named every one of `words` (whatever their case) on standard error, without a panic.
    #[track_caller]
    pub(crate) fn refusal(&self, code: i32, words: &[&str]) {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        let message = self.stderr.to_lowercase();
        assert!(!message.contains("panicked"), "{self:?}");
        for word in words {
            assert!(
                message.contains(&word.to_lowercase()),
                "no {word} in {self:?}"
            );
        }
    }
}

/// A server that serves. Dropping it kills it, and shows its log when the test has failed.
pub(crate) struct Server {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Serves `tree` with `tidegate serve`.
    #[track_caller]
    pub(crate) fn serve(tree: &Tree) -> Self {
        Launch::serve(tree.root()).start()
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.address)
    }

    /// Asks for `target` on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Response {
        self.connect().get(target)
    }

    /// The server's process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.child.id()
    }

    /// Where the test finds what the server finds at `path`.
    pub(crate) fn sees(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.id()));
        root.join(path.strip_prefix("/").unwrap_or(path))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.process.pid(), signal).expect("a signal to the server");
    }

    /// Waits for the server's end.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Waits for the end of a server whose successor goes on, and keeps its standard error open.
    #[track_caller]
    pub(crate) fn wait_beside_successor(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the server's end", || {
            status = self.process.child.try_wait().expect("its status");
            status.is_some()
        });
        status.expect("the wait is over")
    }

    /// Whether the server has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        let status = self.process.child.try_wait();
        status.expect("the server's status").is_some()
    }

    /// Whether the server has called exit(2), though a thread that hangs in the kernel may be left.
    pub(crate) fn is_ending(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id()));
        // The state follows the name, which is in parentheses (proc(5)).
        stat.is_ok_and(|stat| {
            stat.rsplit(") ")
                .next()
                .is_some_and(|rest| rest.starts_with('Z'))
        })
    }

    /// Stops the server with TERM and checks that it ends well.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert_eq!(status.code(), Some(0), "{status}");
    }

    /// What the server wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.process.stderr()
    }

    /// Waits until its log contains `text`: a thread reads it, which may come late.
    #[track_caller]
    pub(crate) fn logs(&self, text: &str) {
        eventually(text, || self.log().contains(text));
    }

    /// The next address that the server says it listens on.
    #[track_caller]
    pub(crate) fn next_address(&self) -> SocketAddr {
        address(&self.next_line())
    }

    /// The next line that the server prints, past those that are read.
    #[track_caller]
    pub(crate) fn next_line(&self) -> String {
        self.process.line().expect("another line")
    }

    /// Asks for `target` with `fields`, each without its line end, on a connection of its own.
    #[track_caller]
    pub(crate) fn get_with(&self, target: &str, fields: &[&str]) -> Response {
        self.connect().get_with(target, fields)
    }

    /// The most memory that the server has had at one time, in KiB.
    pub(crate) fn memory_peak_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = fs::read_to_string(path).expect("the server's status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.parse().ok()).expect("VmHWM")
    }

    /// Has the peak begin anew, from what is resident now (proc(5), `clear_refs`).
    pub(crate) fn forget_memory_peak(&self) {
        let path = format!("/proc/{}/clear_refs", self.id());
        fs::write(path, "5").expect("the peak to be reset");
    }

    /// How many sockets the server has open.
    pub(crate) fn sockets(&self) -> usize {
        self.open_files("socket:")
    }

    /// How many files the server has open that start with `prefix`: a path, `socket:` or `pipe:`.
    pub(crate) fn open_files(&self, prefix: &str) -> usize {
        let directory = format!("/proc/{}/fd", self.id());
        let links = fs::read_dir(directory).expect("the server's open files");
        links
            .filter_map(|link| fs::read_link(link.ok()?.path()).ok())
            .filter(|path| path.to_string_lossy().starts_with(prefix))
            .count()
    }

    /// Waits until the server has exactly `count` sockets open.
    #[track_caller]
    pub(crate) fn wait_for_sockets(&self, count: usize) {
        eventually(&format!("{count} sockets"), || self.sockets() == count);
    }
}

/// A running child.
struct Process {
    child: Child,
    lines: Receiver<String>,
    stderr: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    _room: Room,
}

impl Process {
    /// The next line of standard output; `None` at its end.
    #[track_caller]
    fn line(&self) -> Option<String> {
        match self.lines.recv_timeout(WATCHDOG) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line from the child"),
        }
    }

    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the child's end", || {
            status = self.child.try_wait().expect("the child's status");
            status.is_some()
        });
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the rest of standard error");
        }
        status.expect("the wait is over")
    }

    /// What the child left, once it has ended; `stdout` is what it printed.
    #[track_caller]
    fn output(mut self, stdout: String) -> Output {
        Output {
            status: self.wait(),
            stdout,
            stderr: self.stderr(),
        }
    }

    fn stderr(&self) -> String {
        let text = self.stderr.lock().expect("standard error");
        String::from_utf8_lossy(&text).into_owned()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when the child has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("standard error of the child:\n{}", self.stderr());
        }
    }
}

/// The address in the line of a server that listens.
#[track_caller]
fn address(line: &str) -> SocketAddr {
    let url = line.strip_prefix("listening on ");
    let address = url.and_then(|url| {
        let plain = url.strip_prefix("http://");
        plain.or_else(|| url.strip_prefix("https://"))
    });
    let address = address.and_then(|address| address.parse().ok());
    address.unwrap_or_else(|| panic!("not the line of a server that listens: {line}"))
}

/// Sends on what a child prints, line by line.
fn lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let lines = BufReader::new(stdout).lines().map_while(Result::ok);
        // The receiver is gone once the test is over.
        lines
            .into_iter()
            .try_for_each(|line| sender.send(line))
            .ok();
    });
    receiver
}

/// Gathers what a child says, so that it never waits for a reader.
fn collect(mut stderr: ChildStderr, text: Arc<Mutex<Vec<u8>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stderr.read(&mut buffer) {
            text.lock()
                .expect("standard error")
                .extend(&buffer[..count]);
        }
    })
}

/// A place among the tests that have servers.
struct Room {
    test: String,
}

impl Room {
    /// Waits for room, unless the test has a server already: tests that hold one and wait for
    /// another would wait for each other. So does a test's own thread, which has no name.
    fn take() -> Self {
        let test = thread::current().name().unwrap_or_default().to_owned();
        let sets = capabilities(None).expect("the capabilities of this thread");
        let most = if sets.effective.contains(CapabilitySet::IPC_LOCK) {
            TESTS_WITH_IPC_LOCK_MAX
        } else {
            TESTS_MAX
        };
        let must_wait = |servers: &mut BTreeMap<String, usize>| {
            !test.is_empty() && !servers.contains_key(&test) && servers.len() >= most
        };
        let servers = SERVERS.lock().expect("the count of servers");
        let mut servers = SERVER_ENDED
            .wait_while(servers, must_wait)
            .expect("the count of servers");
        *servers.entry(test.clone()).or_default() += 1;
        Self { test }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Ok(mut servers) = SERVERS.lock()
            && let Some(count) = servers.get_mut(&self.test)
        {
            *count -= 1;
            if *count == 0 {
                servers.remove(&self.test);
            }
        }
        SERVER_ENDED.notify_all();
    }
}
