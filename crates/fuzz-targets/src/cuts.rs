//! Ways to cut received bytes.

use fastrand::Rng;

/// `data` in pieces of 1 to `max` bytes, which depend on the data alone: a finding can be repeated.
pub(crate) fn pieces(data: &[u8], max: usize) -> impl Iterator<Item = &[u8]> {
    let mut rng = Rng::with_seed(hash(data));
    let mut rest = data;
    std::iter::from_fn(move || {
        let (piece, behind) = rest.split_at(rest.len().min(rng.usize(1..=max)));
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

/// FNV-1a: the same in every version of Rust.
fn hash(data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
