//! Who may have what: the passwords of Basic authentication, signed URLs, and bearer tokens.
//!
//! Nothing here knows a connection or an executor. [`Users::verify`] takes long on purpose: it is
//! for a thread of its own, and [`Users::tag`] is what a cache of its results is asked by.

mod file;
mod login;
mod signature;
mod token;
mod users;

pub use file::{FileError, open_mode};
pub use login::{Login, Tag, TagKey};
pub use signature::{KeyError, KeySource, Scope, SignatureError, SigningKey, is_signed, verify};
pub use token::{Token, TokenError, read_secret};
pub use users::{Users, UsersError};
