//! How the files of certificates and keys are opened.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::OnceLock;

/// Opens a file to read it, without waiting for a writer.
pub type Opener = fn(&Path) -> io::Result<File>;

static OPENER: OnceLock<Opener> = OnceLock::new();

/// Has files of certificates and keys opened by `opener` from now on: in a process that may not
/// read them itself, and has another one for that. To be called once.
pub fn open_files_by(opener: Opener) {
    // The first one stays.
    let _ = OPENER.set(opener);
}

/// Never waits for a writer, as opening a FIFO would: that would block all later reloads.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    if let Some(open) = OPENER.get() {
        return open(path);
    }
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK).open(path)
}
