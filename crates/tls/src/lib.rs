//! TLS for tidegate: certificates, a handshake without I/O, and the records after it, in user
//! space or in the kernel.
//!
//! ```text
//!  Settings -> Acceptor (one for each TLS listener, shared by all cores)
//!                 |  new connection
//!                 v
//!              Handshake   bytes in, bytes out; the caller reads and writes the socket
//!                 |  Progress::Finished
//!                 +--> UserSession     decrypt, encrypt, close: bytes in, bytes out
//!                 +--> KernelSession   the socket itself encrypts (kTLS): send, splice and recv
//!                                      are as on a plain one; other records than data come here
//! ```
//!
//! # The order of calls
//!
//! 1. [`Handshake::new`] for each accepted connection; [`Handshake::feed`] with what was received.
//!    What it appended to `out` is sent, also (as an alert, before closing) when it failed.
//! 2. After [`Progress::Finished`]: if [`Handshake::suits_kernel`], read exactly
//!    [`Handshake::missing`] bytes more and feed them until it is 0 (the kernel can not decrypt the
//!    rest of a record whose start was read here), then [`kernel::prepare`] and
//!    [`Handshake::into_kernel`]. No receive may be under way on the ring while this is done.
//!    Otherwise, and where the socket could not be prepared, [`Handshake::into_user`].
//! 3. [`Handshake::take_plaintext`] before either: requests may have come with the client's last
//!    handshake record.
//!
//! TLS 1.2 stays in user space: rustls and the kernel count explicit nonces of AES-GCM
//! differently, and a hand-over would use one of them twice.
//!
//! Nothing here does I/O but [`kernel`] (nonblocking, on a socket it is given) and the reading of
//! certificate files at start and reload.

mod acceptor;
mod alpn;
mod certificate_error;
mod certificates;
mod counted_tickets;
mod handshake;
pub mod kernel;
mod names;
mod opener;
mod opening;
mod pem;
mod post_handshake;
mod protection;
mod records;
mod resolver;
mod session;
mod settings;
mod tickets;
mod user;
mod user12;
mod user13;

pub use acceptor::{Acceptor, AcceptorUpdate, Error};
pub use alpn::Alpn;
pub use certificate_error::{CertificateError, Reason, Untimely};
pub use certificates::{Certificate, Certificates};
pub use handshake::{Connected, Failed, FailureKind, Handshake, Progress};
pub use kernel::{KernelFeatures, KernelSession, Suite};
pub use names::Names;
pub use opener::{Opener, open_files_by};
pub use opening::SHORT_RECORD_BYTES;
pub use protection::RECORD_PLAINTEXT_BYTES_MAX;
pub use rustls::ProtocolVersion;
pub use session::{Decrypted, Incoming, UserError};
pub use settings::{CertificateFiles, ClientAuthentication, LeastVersion, Missing, Settings};
pub use user::UserSession;
