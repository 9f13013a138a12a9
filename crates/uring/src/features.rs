//! Optional features of newer kernels.

/// Kernel features beyond Linux 6.1.
///
/// Fields may be set to false to force the fall-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Features {
    /// `IORING_OP_PIPE` (Linux 6.16); without it [`Ring::pipe`](crate::Ring::pipe) calls pipe2(2).
    pub pipe: bool,
    /// Multishot recv that ends after a number of bytes (Linux 6.17); without it the kernel fills
    /// up to 33 buffers in one go, whether anybody reads them or not.
    pub recv_limit: bool,
}
