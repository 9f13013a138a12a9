//! How much the allocator takes for a request.

/// The size class of jemalloc for `bytes`: there are four between two powers of two, at least 16
/// bytes apart.
pub(crate) fn allocated(bytes: usize) -> u64 {
    let step = (bytes.next_power_of_two() / 8).max(16);
    bytes.next_multiple_of(step) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allocated_is_of_a_size_that_the_allocator_has() {
        let table = [
            (0, 0),
            (1, 16),
            (16, 16),
            (17, 32),
            (128, 128),
            (129, 160),
            (1024, 1024),
            (1025, 1280),
            (16_384, 16_384),
            (16_385, 20_480),
        ];
        for (bytes, expected) in table {
            assert_eq!(allocated(bytes), expected, "{bytes}");
        }
    }
}
