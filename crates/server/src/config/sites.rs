//! What the sites of a core may keep, from the configuration and the core's share.

use tidegate_config::Settings;
use tidegate_site::CacheConfig;

use crate::host::limits::Share;

/// What the sites of a shard keep in memory and open.
pub(crate) fn cache_config(settings: &Settings, share: Share) -> CacheConfig {
    CacheConfig {
        inline_max: settings.io.inline_max,
        hot_bytes: share.hot_bytes,
        open_files: share.open_files,
        valid: settings.cache.valid,
        idle: settings.cache.idle,
        stale: settings.cache.stale,
        lookup: settings.timeouts.lookup,
        workers: settings.io.cold_workers as usize,
    }
}
