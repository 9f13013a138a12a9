//! Session tickets, with a count of those that cannot be used.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustls::server::ProducesTickets;

use crate::tickets::TicketKeys;

/// Makes and opens tickets by the keys, and counts those that it does not open.
#[derive(Debug)]
pub(crate) struct CountedTickets {
    tickets: Arc<TicketKeys>,
    refused: Arc<AtomicU64>,
}

impl CountedTickets {
    /// Counts in `refused`.
    pub(crate) fn new(tickets: Arc<TicketKeys>, refused: &Arc<AtomicU64>) -> Self {
        Self {
            tickets,
            refused: Arc::clone(refused),
        }
    }
}

impl ProducesTickets for CountedTickets {
    fn enabled(&self) -> bool {
        self.tickets.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.tickets.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let plain = self.tickets.decrypt(cipher);
        if plain.is_none() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        plain
    }
}
