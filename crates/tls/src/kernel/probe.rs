//! The kTLS features of the kernel, tried out at start.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use rustls::ConnectionTrafficSecrets;

use crate::kernel::keys::{prepare, set_keys};
use crate::kernel::suite::Suite;

/// The step of a probe or a hand-over that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Making a connection for the probe.
    Connect,
    /// `TCP_ULP` "tls".
    Protocol,
    /// `TLS_TX`.
    Transmit,
    /// `TLS_RX`.
    Receive,
}

/// Why the kernel does not take a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// The step that failed.
    pub step: Step,
    /// `errno`.
    pub code: i32,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.step, self.code) {
            (Step::Connect, _) => write!(f, "no loopback connection to try it on"),
            (Step::Protocol, libc::ENOENT) => write!(
                f,
                "the kernel module tls is not loaded (modprobe tls, and /etc/modules-load.d to keep it)"
            ),
            (_, libc::EPERM | libc::EACCES) => {
                write!(f, "forbidden, as by the seccomp filter of a container")
            }
            (Step::Protocol, libc::ENOPROTOOPT) => {
                write!(f, "the kernel is built without TLS (CONFIG_TLS)")
            }
            (_, libc::EINVAL | libc::ENOENT | libc::EOPNOTSUPP) => {
                write!(f, "the kernel does not have this cipher")
            }
            _ => write!(f, "not available"),
        }?;
        let error = io::Error::from_raw_os_error(self.code);
        write!(f, ": {error}")
    }
}

/// The kTLS features of the kernel, as probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelFeatures {
    suites: [Result<(), Missing>; 3],
    key_update: bool,
}

impl KernelFeatures {
    /// No features: every connection stays in user space, as with kTLS switched off.
    pub fn none() -> Self {
        let missing = Missing {
            step: Step::Protocol,
            code: libc::ENOENT,
        };
        Self {
            suites: [Err(missing); 3],
            key_update: false,
        }
    }

    /// Whether the kernel supports `suite`.
    pub fn has(&self, suite: Suite) -> bool {
        self.suites[suite as usize].is_ok()
    }

    /// Every suite, with the reason if the kernel does not support it.
    pub fn suites(&self) -> impl Iterator<Item = (Suite, Result<(), Missing>)> + '_ {
        Suite::ALL.into_iter().zip(self.suites.iter().copied())
    }

    /// Whether keys can be changed on a connection (kernels newer than 6.12). Without that, a
    /// client's KeyUpdate ends its connection.
    pub fn key_update(&self) -> bool {
        self.key_update
    }
}

/// Probes the kernel's features, on loopback connections of its own. Takes some milliseconds; call
/// it once at start.
pub fn probe() -> KernelFeatures {
    let mut key_update = false;
    let suites = Suite::ALL.map(|suite| {
        let updates = probe_suite(suite)?;
        key_update |= updates;
        Ok(())
    });
    KernelFeatures { suites, key_update }
}

/// Probes one suite. Returns whether keys can be changed too.
fn probe_suite(suite: Suite) -> Result<bool, Missing> {
    let failed = |step| {
        move |error: io::Error| Missing {
            step,
            code: error.raw_os_error().unwrap_or(0),
        }
    };
    let (socket, _peer) = loopback_pair().map_err(failed(Step::Connect))?;
    let socket = socket.as_fd();
    let secrets = probe_secrets(suite);
    prepare(socket).map_err(failed(Step::Protocol))?;
    set_keys(socket, libc::TLS_TX, 0, &secrets).map_err(failed(Step::Transmit))?;
    set_keys(socket, libc::TLS_RX, 0, &secrets).map_err(failed(Step::Receive))?;
    Ok(set_keys(socket, libc::TLS_TX, 0, &secrets).is_ok())
}

/// Secrets of zeros.
fn probe_secrets(suite: Suite) -> ConnectionTrafficSecrets {
    let key = [0; 32].into();
    let iv = [0; 12].into();
    match suite {
        Suite::Aes128Gcm => ConnectionTrafficSecrets::Aes128Gcm { key, iv },
        Suite::Aes256Gcm => ConnectionTrafficSecrets::Aes256Gcm { key, iv },
        Suite::Chacha20Poly1305 => ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv },
    }
}

fn loopback_pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    let (far, _) = listener.accept()?;
    Ok((near, far))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_says_why_in_words() {
        for (suite, result) in probe().suites() {
            match result {
                Ok(()) => assert!(probe().has(suite)),
                Err(missing) => assert!(missing.to_string().len() > 20, "{suite:?}: {missing}"),
            }
        }
        let missing = Missing {
            step: Step::Protocol,
            code: libc::ENOENT,
        };
        assert!(missing.to_string().contains("modprobe tls"));
    }
}
