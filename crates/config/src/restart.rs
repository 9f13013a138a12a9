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
    ($wanted:ident, $running:ident, $($key:literal => $($field:ident).+),* $(,)?) => {{
        let before = $wanted.clone();
        $($wanted.$($field).+.clone_from(&$running.$($field).+);)*
        let mut kept = Vec::new();
        $(if before.$($field).+ != $running.$($field).+ {
            kept.push($key);
        })*
        (before, kept)
    }};
}

impl Settings {
    /// Takes the values of keys that only a restart can change from the settings of the running
    /// server. Returns those whose values differ.
    pub fn keep_fixed(&mut self, running: &Self) -> Vec<NeedsRestart> {
        let mut running = running.clone();
        if let (Some(fleet), Some(running)) = (&self.fleet, &mut running.fleet) {
            // Nodes come and go.
            running.peers.clone_from(&fleet.peers);
        }
        let running = &running;
        let (wanted, kept) = keep!(self, running,
            "server.cores" => server.cores,
            "server.steering" => server.steering,
            "server.watchdog" => server.watchdog,
            "server.control" => server.control,
            "server.user" => server.user,
            "server.group" => server.group,
            "sandbox" => sandbox,
            "io.pipe-size" => io.pipe_size,
            "io.pipes-per-core" => io.pipes_per_core,
            "io.recv-buffers" => io.recv_buffers,
            "io.recv-buffer-size" => io.recv_buffer_size,
            "io.cold-workers" => io.cold_workers,
            "cache.disk" => cache.disk,
            "fleet" => fleet,
            "admin.listen" => admin.listen,
            "admin.token" => admin.token,
        );
        let kept = kept.into_iter().map(|key| NeedsRestart {
            key,
            running: running.notation(key),
            wanted: wanted.notation(key),
        });
        kept.collect()
    }

    /// The value of a dotted key in the notation of the file.
    fn notation(&self, key: &str) -> String {
        // Serializing settings never fails: see `Settings::to_toml`.
        let all = toml::Value::try_from(self).ok();
        let value = all
            .as_ref()
            .and_then(|all| key.split('.').try_fold(all, |value, key| value.get(key)));
        value.map(ToString::to_string).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Cores, DiskCache, Fleet};

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
        wanted.cache.disk = Some(DiskCache::for_directory("/y".into()));
        wanted.fleet = Some(Fleet {
            peers: vec!["a:1".to_owned()],
            listen: "b:1".to_owned(),
            self_address: None,
            token: None,
        });
        wanted.admin.token = Some("/t".into());
        let fleet = wanted.fleet.clone();
        let kept = wanted.keep_fixed(&running);
        assert_eq!(wanted, applied);
        let lines: Vec<_> = kept.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "server.cores: 3 needs a restart; it stays \"auto\"",
                "server.watchdog: \"off\" needs a restart; it stays \"30s\"",
                "io.pipe-size: \"64k\" needs a restart; it stays \"512k\"",
                "cache.disk: { path = \"/y\", size = \"64g\", slice = \"4m\" } needs a restart; \
                 it stays { path = \"\", size = \"64g\", slice = \"4m\" }",
                "fleet: { listen = \"b:1\", peers = [\"a:1\"], self = \"\", token = \"\" } needs a \
                 restart; it stays { listen = \"\", peers = [], self = \"\", token = \"\" }",
                "admin.token: \"/t\" needs a restart; it stays \"\"",
            ]
        );
        let (mut running, mut wanted) = (applied.clone(), applied);
        (running.fleet, wanted.fleet) = (fleet.clone(), fleet);
        if let Some(fleet) = &mut wanted.fleet {
            fleet.peers.push("c:1".to_owned());
        }
        let applied = wanted.clone();
        assert_eq!(wanted.keep_fixed(&running), []);
        assert_eq!(wanted, applied);
    }
}
