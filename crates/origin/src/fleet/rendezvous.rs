//! Rendezvous hashing (Thaler and Ravishankar, 1998): each node has a weight for each object, and
//! the heaviest owns it. A node that comes or goes moves only the objects that it owns.

use std::net::SocketAddr;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// The seed of a node: the same on all nodes that know it by the same address.
pub(super) fn seed(address: SocketAddr) -> u64 {
    xxh3_64(address.to_string().as_bytes())
}

/// The index of the owner of the object with the key `hash` among the nodes with these seeds;
/// `None` without any.
pub(super) fn owner(seeds: impl Iterator<Item = u64>, hash: u128) -> Option<usize> {
    let hash = hash.to_le_bytes();
    let weights = seeds.map(|seed| (xxh3_64_with_seed(&hash, seed), seed));
    let heaviest = weights.enumerate().max_by_key(|(_, weight)| *weight);
    heaviest.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_128;

    use super::*;

    const OBJECTS: u32 = 20_000;

    fn seeds(count: u16) -> Vec<u64> {
        let address = |last: u16| SocketAddr::from(([10, 0, 0, last as u8], 8081));
        (1..=count).map(|last| seed(address(last))).collect()
    }

    fn owners(seeds: &[u64]) -> Vec<u64> {
        let hashes = (0..OBJECTS).map(|number| xxh3_128(&number.to_le_bytes()));
        let owner = |hash| seeds[owner(seeds.iter().copied(), hash).unwrap()];
        hashes.map(owner).collect()
    }

    #[test]
    fn each_node_owns_its_share() {
        for count in [2, 3, 7, 32] {
            let seeds = seeds(count);
            let owners = owners(&seeds);
            let share = f64::from(OBJECTS) / f64::from(count);
            for seed in &seeds {
                let owned = owners.iter().filter(|owner| *owner == seed).count() as f64;
                assert!((owned / share - 1.0).abs() < 0.15, "{owned} of {share}");
            }
        }
        assert_eq!(owner([].into_iter(), 1), None);
    }

    #[test]
    fn only_objects_of_a_node_that_comes_or_goes_move() {
        for count in [2, 8, 31] {
            let (few, many) = (seeds(count), seeds(count + 1));
            let new = many[usize::from(count)];
            let (before, after) = (owners(&few), owners(&many));
            let moved = before.iter().zip(&after).filter(|(one, two)| one != two);
            let moved: Vec<_> = moved.map(|(_, after)| *after).collect();
            assert!(moved.iter().all(|owner| *owner == new));
            let share = f64::from(OBJECTS) / f64::from(count + 1);
            assert!((moved.len() as f64 / share - 1.0).abs() < 0.15, "{count}");
        }
    }

    #[test]
    fn the_order_of_the_nodes_means_nothing() {
        let seeds = seeds(9);
        let reversed: Vec<_> = seeds.iter().rev().copied().collect();
        assert_eq!(owners(&seeds), owners(&reversed));
    }
}
