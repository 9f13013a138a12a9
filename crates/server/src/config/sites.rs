//! What the sites of a core may keep, from the configuration and the core's share.

use tidegate_config::Settings;
use tidegate_site::CacheConfig;

use crate::host::limits::ResourceShare;

/// The bounds of the caches of a core's sites.
pub(crate) fn cache_config(settings: &Settings, share: ResourceShare) -> CacheConfig {
    CacheConfig {
        inline_max: settings.io.inline_max,
        popular_max: settings.cache.popular_max,
        hot_bytes: share.hot_bytes,
        open_files: share.open_files,
        valid: settings.cache.valid,
        idle: settings.cache.idle,
        stale: settings.cache.stale,
        lookup: settings.timeouts.lookup,
        workers: settings.io.cold_workers as usize,
    }
}
