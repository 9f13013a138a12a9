//! Keys that a running server cannot change.

use std::fmt;

use crate::Settings;

/// A key that stays as it is until a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeedsRestart {
    /// With its section: `server.cores`.
    pub key: &'static str,
    /// The value that stays, in the notation of the file.
    pub running: String,
    /// The value in the file.
    pub wanted: String,
}

impl fmt::Display for NeedsRestart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            key,
            running,
            wanted,
        } = self;
        write!(f, "{key}: {wanted} needs a restart; it stays {running}")
    }
}

/// Takes fields from `running`, and lists those that differ.
macro_rules! keep {
    ($wanted:ident, $running:ident, $($key:literal => $section:ident.$field:ident),* $(,)?) => {{
        let before = $wanted.clone();
        $($wanted.$section.$field.clone_from(&$running.$section.$field);)*
        let mut kept = Vec::new();
        $(if before.$section.$field != $running.$section.$field {
            kept.push($key);
        })*
        (before, kept)
    }};
}

impl Settings {
    /// Takes the values of keys that only a restart can change from the settings of the running
    /// server. Returns those whose values differ.
    pub fn keep_fixed(&mut self, running: &Self) -> Vec<NeedsRestart> {
        let (wanted, kept) = keep!(self, running,
            "server.cores" => server.cores,
            "server.steering" => server.steering,
            "server.watchdog" => server.watchdog,
            "server.control" => server.control,
            "io.pipe-size" => io.pipe_size,
            "io.pipes-per-core" => io.pipes_per_core,
            "io.recv-buffers" => io.recv_buffers,
            "io.recv-buffer-size" => io.recv_buffer_size,
            "io.cold-workers" => io.cold_workers,
            "admin.listen" => admin.listen,
        );
        let kept = kept.into_iter().map(|key| NeedsRestart {
            key,
            running: running.notation(key),
            wanted: wanted.notation(key),
        });
        kept.collect()
    }

    /// The value of `section.key` in the notation of the file.
    fn notation(&self, key: &str) -> String {
        // Serializing settings never fails: see `Settings::to_toml`.
        let all = toml::Value::try_from(self).ok();
        let value = all.as_ref().and_then(|all| {
            let (section, key) = key.split_once('.')?;
            all.get(section)?.get(key)
        });
        value.map(ToString::to_string).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::Cores;

    #[test]
    fn what_needs_a_restart_stays_and_is_told() {
        let running = Settings::for_directory("/srv".into());
        let mut wanted = running.clone();
        wanted.timeouts.keep_alive = Duration::from_secs(3);
        wanted.server.graceful_timeout = Duration::from_secs(3);
        assert_eq!(wanted.clone().keep_fixed(&running), []);
        let applied = wanted.clone();
        wanted.server.cores = Cores::Count(3);
        wanted.server.watchdog = None;
        wanted.io.pipe_size = 64 << 10;
        let kept = wanted.keep_fixed(&running);
        assert_eq!(wanted, applied);
        let lines: Vec<_> = kept.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "server.cores: 3 needs a restart; it stays \"auto\"",
                "server.watchdog: \"off\" needs a restart; it stays \"30s\"",
                "io.pipe-size: \"64k\" needs a restart; it stays \"512k\"",
            ]
        );
    }
}
