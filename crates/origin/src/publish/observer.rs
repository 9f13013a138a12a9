//! Who is told what happens.

use super::error::ObjectError;

/// Is told what happens.
pub trait Observer {
    /// So many files are to be looked at.
    fn planned(&self, files: u64);
    /// One of them is done, whatever came of it.
    fn advanced(&self);
    /// An object is uploaded, or would be if it were no dry run.
    fn uploads(&self, key: &str, bytes: u64);
    /// An object is removed, or would be if it were no dry run.
    fn deletes(&self, key: &str);
    /// Something failed.
    fn failed(&self, error: &ObjectError);
    /// Whether the work is to end soon.
    fn is_stopping(&self) -> bool;
}
