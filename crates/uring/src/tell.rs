//! How a thread tells an executor, by a byte, that something is there for it.

use std::os::fd::AsFd;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};

/// How often a byte is tried to be sent.
const TRIES: u32 = 50;

/// The pause between two of them.
const PAUSE: Duration = Duration::from_millis(4);

/// Sends a byte by a socket pair. The kernel may have no memory for it at the moment (`ENOBUFS`), and
/// whoever waits for it would wait forever: so it is tried again, for a fifth of a second. Nothing is
/// an error if the other end is gone.
pub(crate) fn tell(socket: &impl AsFd) -> Result<(), Errno> {
    let mut last = Errno::NOBUFS;
    for _ in 0..TRIES {
        match send(socket, b".", SendFlags::NOSIGNAL) {
            Ok(_) | Err(Errno::PIPE) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => {
                last = errno;
                thread::sleep(PAUSE);
            }
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_byte_arrives() {
        let (sender, mut receiver) = UnixStream::pair().unwrap();
        tell(&sender).unwrap();
        receiver.read_exact(&mut [0]).unwrap();
        drop(receiver);
        assert_eq!(tell(&sender), Ok(()), "nobody waits for it");
    }

    #[test]
    fn it_waits_for_room() {
        let (sender, mut receiver) = UnixStream::pair().unwrap();
        sender.set_nonblocking(true).unwrap();
        while send(&sender, &[0; 4096], SendFlags::NOSIGNAL).is_ok() {}
        assert_eq!(tell(&sender), Err(Errno::AGAIN));
        let reader = thread::spawn(move || {
            thread::sleep(5 * PAUSE);
            let mut all = vec![0; 1 << 20];
            let _ = receiver.read(&mut all).unwrap();
            receiver
        });
        assert_eq!(tell(&sender), Ok(()));
        reader.join().unwrap();
    }
}
