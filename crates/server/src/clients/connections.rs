//! Open connections of each client.

use std::net::IpAddr;
use std::sync::Arc;

use super::table::{Entry, Table};

/// How many connections each client has. A client that is forgotten begins anew: those with the
/// most are forgotten last.
#[derive(Default)]
pub(crate) struct Connections(Table);

/// A connection that is counted for its client. Dropped: it is not any more.
pub(crate) struct Place {
    table: Arc<Connections>,
    entry: Entry,
}

/// The client has its most.
struct Full;

impl Connections {
    /// Counts a connection of `client`, unless it has `max` already.
    pub(super) fn admit(table: &Arc<Self>, client: IpAddr, max: u64) -> Option<Place> {
        let one_more = |count: Option<u64>| match count.unwrap_or_default() {
            count if count < max => Ok(count + 1),
            _ => Err(Full),
        };
        let entry = table.0.update(client, |count| count, one_more).ok()?;
        let table = Arc::clone(table);
        Some(Place { table, entry })
    }

    /// How many clients with connections were forgotten.
    pub(super) fn forgotten(&self) -> u64 {
        self.0.forgotten()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The client may have been forgotten and known again, with fewer connections.
        let one_less = |count: u64| count.saturating_sub(1);
        self.table.0.change(self.entry, one_less);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admit(table: &Arc<Connections>, client: [u8; 4], max: u64) -> Option<Place> {
        Connections::admit(table, client.into(), max)
    }

    #[test]
    fn a_client_has_as_many_connections_as_it_may() {
        let table = Arc::default();
        let one = || admit(&table, [192, 0, 2, 1], 2);
        let (first, second) = (one(), one());
        assert!(first.is_some() && second.is_some());
        assert!(one().is_none() && one().is_none());
        assert!(admit(&table, [192, 0, 2, 2], 2).is_some(), "another client");
        drop(second);
        let third = one();
        assert!(third.is_some() && one().is_none(), "one has ended");
        assert!(admit(&table, [192, 0, 2, 1], 3).is_some(), "a higher limit");
        assert!(admit(&table, [192, 0, 2, 1], 1).is_none(), "a lower one");
        drop((first, third));
        assert!(one().is_some());
    }

    #[test]
    fn a_client_that_was_forgotten_has_no_less_than_nothing() {
        let table = Arc::new(Connections(Table::with_sets(1)));
        let old = admit(&table, [192, 0, 2, 1], 2);
        let others: Vec<_> = (10..17)
            .flat_map(|host| [host, host])
            .map(|host| admit(&table, [192, 0, 2, host], 2))
            .collect();
        assert!(others.iter().all(Option::is_some));
        let newcomer = admit(&table, [192, 0, 2, 99], 2);
        assert!(newcomer.is_some());
        assert_eq!(table.forgotten(), 1);
        // In the place of the newcomer.
        let again = admit(&table, [192, 0, 2, 1], 2);
        assert_eq!(table.forgotten(), 2);
        drop((old, again, newcomer));
        let two = [1, 1].map(|host| admit(&table, [192, 0, 2, host], 2));
        assert!(two.iter().all(Option::is_some));
        assert!(admit(&table, [192, 0, 2, 1], 2).is_none());
    }
}
