//! Kernel TLS (kTLS): the socket encrypts and decrypts, so splice(2) into it works as into a plain
//! socket. TLS 1.3 only; the crate's documentation says why.
//!
//! <https://docs.kernel.org/networking/tls.html>

mod keys;
mod probe;
mod session;
mod suite;
mod sys;

pub use keys::prepare;
pub use probe::{KernelFeatures, Missing, Step, probe};
pub use session::{Control, KernelSession, Usage};
pub use suite::Suite;
