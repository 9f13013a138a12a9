//! What can be wrong with a header block.

/// Why a header block is refused. The connection ends with `COMPRESSION_ERROR` (RFC 9113, section
/// 4.3): the dynamic tables of both sides may differ from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The block ends within a field.
    #[error("the header block ends within a field")]
    Truncated,
    /// An integer above 2^32 - 1, or of more than six bytes (RFC 7541, section 5.1).
    #[error("an integer of the header block is too large")]
    Integer,
    /// Neither table has an entry of that index (RFC 7541, section 2.3.3).
    #[error("the header block refers to an entry that does not exist")]
    Index,
    /// EOS, padding of more than 7 bits, or padding other than ones (RFC 7541, section 5.2).
    #[error("a Huffman-coded string of the header block is malformed")]
    Huffman,
    /// A change of the table's size to more than 4096 bytes, or behind a field (RFC 7541, sections
    /// 4.2 and 6.3).
    #[error("the header block changes the size of the dynamic table where it must not")]
    TableSize,
    /// Names of the dynamic table are repeated to more than 64 KiB in new entries, or its fields to
    /// more than that and 64 times the length of the block: no client needs that, and it is the way
    /// to make few bytes cost much.
    #[error("the header block repeats long fields too often")]
    Expansion,
}
