//! How long the heads of responses take, to tell when one takes unusually long.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Responses that are remembered. With fewer nothing is said.
const SAMPLES: usize = 64;

/// A hedge earlier than that costs more than it saves.
const HEDGE_LEAST: Duration = Duration::from_millis(50);

/// Hedges are a twentieth of all requests: in an outage of the origin they must not double them.
const HEDGES_EACH: f64 = 0.05;

/// The most hedges at once after a quiet time.
const HEDGES_SAVED: f64 = 4.0;

/// The times of the last responses, and the hedges that are left.
#[derive(Debug, Default)]
pub(crate) struct Latency(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    times: Vec<Duration>,
    /// The oldest of them, once there are enough.
    oldest: usize,
    hedges: f64,
}

impl Latency {
    /// The head of a response took that long.
    pub(crate) fn add(&self, time: Duration) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.hedges = (state.hedges + HEDGES_EACH).min(HEDGES_SAVED);
        if state.times.len() < SAMPLES {
            state.times.push(time);
        } else {
            let oldest = state.oldest;
            state.times[oldest] = time;
            state.oldest = (oldest + 1) % SAMPLES;
        }
    }

    /// The 95th percentile; `None` while too few are known.
    pub(crate) fn hedge_after(&self) -> Option<Duration> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.hedges < 1.0 {
            return None;
        }
        drop(state);
        self.usual()
    }

    /// The same, whether or not any hedges are left.
    pub(crate) fn usual(&self) -> Option<Duration> {
        let mut times = {
            let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.times.len() < SAMPLES {
                return None;
            }
            state.times.clone()
        };
        let at = times.len() * 95 / 100;
        let (_, time, _) = times.select_nth_unstable(at);
        Some((*time).max(HEDGE_LEAST))
    }

    /// Takes one of the hedges that are left.
    pub(crate) fn take_hedge(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_left = state.hedges >= 1.0;
        if is_left {
            state.hedges -= 1.0;
        }
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_twenty_is_hedged_past_the_95th_percentile() {
        let latency = Latency::default();
        for millis in 1..64 {
            latency.add(Duration::from_millis(millis));
        }
        assert_eq!(latency.hedge_after(), None, "too few are known");
        for millis in 64..=100 {
            latency.add(Duration::from_millis(millis));
        }
        // The last 64: 37 to 100.
        assert_eq!(latency.hedge_after(), Some(Duration::from_millis(97)));
        let taken = (0..100).filter(|_| latency.take_hedge()).count();
        assert_eq!(taken, HEDGES_SAVED as usize);
        assert_eq!(latency.hedge_after(), None, "none is left");
    }

    #[test]
    fn a_fast_origin_is_not_hedged_at_once() {
        let latency = Latency::default();
        for _ in 0..SAMPLES {
            latency.add(Duration::from_micros(100));
        }
        assert_eq!(latency.hedge_after(), Some(HEDGE_LEAST));
    }
}
