//! The slowest requests and the most frequent errors of the last minutes, for the live page.
//!
//! Bounded, and without an allocation for a request: a core keeps a window for each minute.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a window is filled.
const WINDOW: Duration = Duration::from_mins(1);

/// Windows that are kept.
const WINDOWS: usize = 5;

/// The slowest requests of a window.
const SLOW_MAX: usize = 10;

/// The errors of a window that are told apart.
const ERRORS_MAX: usize = 16;

/// Bytes of a path that are kept.
const PATH_BYTES_MAX: usize = 96;

/// The first bytes of a path, as the client sent it. An allocation only for those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShortPath {
    bytes: [u8; PATH_BYTES_MAX],
    len: u8,
    is_cut: bool,
}

impl ShortPath {
    pub(crate) fn new(path: &str) -> Self {
        let len = path.len().min(PATH_BYTES_MAX);
        let mut bytes = [0; PATH_BYTES_MAX];
        bytes[..len].copy_from_slice(&path.as_bytes()[..len]);
        Self {
            bytes,
            // At most `PATH_BYTES_MAX`.
            len: len as u8,
            is_cut: len < path.len(),
        }
    }

    fn is_of(&self, path: &str) -> bool {
        let len = usize::from(self.len);
        self.is_cut == (path.len() > len) && path.as_bytes().get(..len) == Some(&self.bytes[..len])
    }

    /// With a sign where it was cut.
    pub(crate) fn text(&self) -> String {
        let bytes = &self.bytes[..self.len.into()];
        let text = String::from_utf8_lossy(bytes).into_owned();
        if self.is_cut { text + "…" } else { text }
    }
}

/// A request that was not answered at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlowRequest {
    pub(crate) path: ShortPath,
    /// 0 if no response was chosen.
    pub(crate) status: u16,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) time: Duration,
    pub(crate) bytes: u64,
}

/// How often a path was answered with an error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorCount {
    pub(crate) path: ShortPath,
    pub(crate) status: u16,
    pub(crate) count: u64,
}

/// What happened within a minute.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    start: Instant,
    pub(crate) slow: Vec<SlowRequest>,
    pub(crate) errors: Vec<ErrorCount>,
}

impl Window {
    fn new(start: Instant) -> Self {
        Self {
            start,
            slow: Vec::with_capacity(SLOW_MAX),
            errors: Vec::with_capacity(ERRORS_MAX),
        }
    }

    /// Keeps `request` if it is one of the slowest.
    fn add_slow(&mut self, request: &SlowRequest) {
        if self.slow.len() < SLOW_MAX {
            self.slow.push(*request);
            return;
        }
        let fastest = self.slow.iter_mut().min_by_key(|slow| slow.time);
        if let Some(fastest) = fastest.filter(|slow| slow.time < request.time) {
            *fastest = *request;
        }
    }

    /// Counts an error. A new one takes the place and the count of the rarest, so that a frequent
    /// one is never missed ("Space-Saving", Metwally and others 2005).
    fn add_error(&mut self, status: u16, path: &str) {
        let same = |error: &&mut ErrorCount| error.status == status && error.path.is_of(path);
        if let Some(error) = self.errors.iter_mut().find(same) {
            error.count += 1;
            return;
        }
        let mut error = ErrorCount {
            path: ShortPath::new(path),
            status,
            count: 1,
        };
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(error);
        } else if let Some(rarest) = self.errors.iter_mut().min_by_key(|error| error.count) {
            error.count += rarest.count;
            *rarest = error;
        }
    }
}

/// The windows of the last minutes, the current one last.
#[derive(Debug)]
pub(crate) struct Recent(VecDeque<Window>);

impl Default for Recent {
    fn default() -> Self {
        Self([Window::new(Instant::now())].into())
    }
}

impl Recent {
    pub(crate) fn add_slow(&mut self, request: &SlowRequest) {
        if let Some(window) = self.0.back_mut() {
            window.add_slow(request);
        }
    }

    pub(crate) fn add_error(&mut self, status: u16, path: &str) {
        if let Some(window) = self.0.back_mut() {
            window.add_error(status, path);
        }
    }

    /// Begins a new window each minute; call it every few seconds.
    pub(crate) fn turn(&mut self, now: Instant) {
        let is_full = |window: &Window| now.saturating_duration_since(window.start) >= WINDOW;
        if self.0.back().is_none_or(is_full) {
            self.0.push_back(Window::new(now));
        }
        if self.0.len() > WINDOWS {
            self.0.pop_front();
        }
    }

    /// A copy of all windows.
    pub(crate) fn windows(&self) -> Vec<Window> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slow(millis: u64) -> SlowRequest {
        SlowRequest {
            path: ShortPath::new("/a"),
            status: 200,
            first_byte: None,
            time: Duration::from_millis(millis),
            bytes: 0,
        }
    }

    #[test]
    fn the_slowest_are_kept() {
        let mut recent = Recent::default();
        for millis in (0..100).chain([5, 200, 7]) {
            recent.add_slow(&slow(millis));
        }
        let mut times: Vec<_> = recent.windows()[0]
            .slow
            .iter()
            .map(|slow| slow.time)
            .collect();
        times.sort();
        let expected = (91..100).chain([200]).map(Duration::from_millis);
        assert!(times.into_iter().eq(expected));
    }

    #[test]
    fn a_frequent_error_is_found_among_many() {
        let mut recent = Recent::default();
        for number in 0..1000 {
            recent.add_error(404, &format!("/{number}"));
            recent.add_error(404, "/often");
            recent.add_error(403, "/often");
        }
        let errors = &recent.windows()[0].errors;
        assert_eq!(errors.len(), ERRORS_MAX);
        for status in [403, 404] {
            let often = errors
                .iter()
                .find(|error| error.status == status && error.path.is_of("/often"));
            assert_eq!(often.map(|error| error.count), Some(1000));
        }
    }

    #[test]
    fn windows_are_of_the_last_minutes() {
        let mut recent = Recent::default();
        let start = Instant::now();
        for minute in 0..20 {
            recent.add_error(404, &format!("/{minute}"));
            recent.turn(start + WINDOW * (minute + 1));
        }
        let windows = recent.windows();
        let paths: Vec<_> = windows.iter().flat_map(|window| &window.errors).collect();
        let paths: Vec<_> = paths.iter().map(|error| error.path.text()).collect();
        assert_eq!(paths, ["/16", "/17", "/18", "/19"]);
        assert_eq!(windows.len(), WINDOWS);
    }

    #[test]
    fn a_long_path_is_cut() {
        let long = "/é".repeat(100);
        let short = ShortPath::new(&long);
        assert!(short.is_of(&long) && !short.is_of(&long[..PATH_BYTES_MAX]));
        assert!(short.text().ends_with('…') && short.text().chars().count() <= PATH_BYTES_MAX + 1);
        assert_eq!(ShortPath::new("/a").text(), "/a");
    }
}
