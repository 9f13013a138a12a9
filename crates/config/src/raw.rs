//! The configuration as typed: every key optional, every value with its place in the text.
//!
//! Only types are checked here; `check` turns the values into settings. `shape` refuses unknown
//! keys before, with a better message than serde's; `deny_unknown_fields` keeps the two in step.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use crate::units::{
    BoolOrList, Cores, Count, Fraction, LongPeriod, LongPeriodOrOff, Period, PeriodOrOff, Size,
    SizeOrAuto, SizeOrOff, TextOrList,
};

/// An optional value.
pub(crate) type Field<T> = Option<Spanned<T>>;
/// An optional list of strings.
pub(crate) type List = Field<Vec<Spanned<String>>>;
/// A table with the user's own keys.
pub(crate) type Map = BTreeMap<String, Spanned<String>>;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Config {
    // These two are here for the check of their types: `include` and `environment` apply them.
    pub(crate) include: List,
    pub(crate) expand_environment: Field<bool>,
    pub(crate) server: Server,
    pub(crate) sandbox: Sandbox,
    pub(crate) listen: Vec<Listen>,
    pub(crate) timeouts: Timeouts,
    pub(crate) limits: Limits,
    pub(crate) http2: Http2,
    pub(crate) io: Io,
    pub(crate) cache: Cache,
    pub(crate) fleet: Fleet,
    pub(crate) access_log: AccessLog,
    pub(crate) admin: Admin,
    pub(crate) tls: Tls,
    pub(crate) proxies: Proxies,
    pub(crate) site: Vec<Spanned<Site>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Server {
    pub(crate) cores: Field<Cores>,
    pub(crate) steering: Field<String>,
    pub(crate) drain_delay: Field<Period>,
    pub(crate) graceful_timeout: Field<Period>,
    pub(crate) control: Field<String>,
    pub(crate) upgrade_timeout: Field<Period>,
    pub(crate) watchdog: Field<PeriodOrOff>,
    pub(crate) user: Field<String>,
    pub(crate) group: Field<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Sandbox {
    pub(crate) landlock: Field<bool>,
    pub(crate) seccomp: Field<bool>,
    pub(crate) core_dumps: Field<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Listen {
    pub(crate) address: Field<String>,
    pub(crate) backlog: Field<Count>,
    pub(crate) tls: Field<bool>,
    pub(crate) protocols: List,
    pub(crate) https_redirect: Field<Count>,
    pub(crate) only_v6: Field<bool>,
    pub(crate) proxy_protocol: Field<String>,
    pub(crate) mode: Field<String>,
    pub(crate) owner: Field<String>,
    pub(crate) group: Field<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct AccessLog {
    pub(crate) path: Field<String>,
    pub(crate) format: Field<String>,
    pub(crate) only: List,
    pub(crate) sample: Field<Fraction>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Admin {
    pub(crate) listen: Field<String>,
    pub(crate) token: Field<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Tls {
    pub(crate) min_version: Field<String>,
    pub(crate) ktls: Field<String>,
    pub(crate) hsts: Field<String>,
    pub(crate) client_auth: Field<String>,
    pub(crate) client_ca: Field<String>,
    pub(crate) missing: Field<String>,
    pub(crate) certificates: Vec<Spanned<CertificateFiles>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct CertificateFiles {
    pub(crate) cert: Field<String>,
    pub(crate) key: Field<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Proxies {
    pub(crate) trusted: List,
    pub(crate) header: Field<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Timeouts {
    pub(crate) header: Field<Period>,
    pub(crate) keep_alive: Field<Period>,
    pub(crate) send_stall: Field<Period>,
    pub(crate) linger: Field<Period>,
    pub(crate) lookup: Field<Period>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) memory: Field<SizeOrAuto>,
    pub(crate) connections_per_core: Field<Count>,
    pub(crate) connections_per_ip: Field<Count>,
    pub(crate) request_rate_per_ip: Field<Fraction>,
    pub(crate) request_burst_per_ip: Field<Count>,
    pub(crate) ipv6_prefix: Field<Count>,
    pub(crate) send_rate_min: Field<Size>,
    pub(crate) send_rate_grace: Field<Period>,
    pub(crate) receive_rate_min: Field<Size>,
    pub(crate) receive_rate_grace: Field<Period>,
    pub(crate) crowded_rate_min: Field<Size>,
    pub(crate) requests_per_connection: Field<Count>,
    pub(crate) header_bytes: Field<Size>,
    pub(crate) headers: Field<Count>,
    pub(crate) body_discard: Field<Size>,
    pub(crate) ranges: Field<Count>,
    pub(crate) ranges_unordered: Field<Count>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Http2 {
    pub(crate) concurrent_streams: Field<Count>,
    pub(crate) stream_window: Field<Size>,
    pub(crate) connection_window: Field<Size>,
    pub(crate) continuations: Field<Count>,
    pub(crate) reset_burst: Field<Count>,
    pub(crate) reset_rate: Field<Count>,
    pub(crate) idle_frame_burst: Field<Count>,
    pub(crate) idle_frame_rate: Field<Count>,
    pub(crate) control_bytes: Field<Size>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Io {
    pub(crate) inline_max: Field<Size>,
    pub(crate) pipe_size: Field<Size>,
    pub(crate) pipes_per_core: Field<Count>,
    pub(crate) recv_buffers: Field<Count>,
    pub(crate) recv_buffer_size: Field<Size>,
    pub(crate) cold_workers: Field<Count>,
    pub(crate) drop_behind: Field<SizeOrOff>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Cache {
    pub(crate) hot_bytes_per_core: Field<Size>,
    pub(crate) popular_max: Field<Size>,
    pub(crate) open_files_per_core: Field<Count>,
    pub(crate) valid: Field<Period>,
    pub(crate) idle: Field<Period>,
    pub(crate) stale: Field<Period>,
    pub(crate) disk: DiskCache,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct DiskCache {
    pub(crate) path: Field<String>,
    pub(crate) size: Field<Size>,
    pub(crate) slice: Field<Size>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Fleet {
    pub(crate) peers: List,
    pub(crate) listen: Field<String>,
    /// `self` is a word of the language.
    #[serde(rename = "self")]
    pub(crate) own: Field<String>,
    pub(crate) token: Field<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Site {
    pub(crate) names: List,
    pub(crate) root: Field<String>,
    pub(crate) index: List,
    pub(crate) directory_listing: Field<bool>,
    pub(crate) hidden_files: Field<BoolOrList>,
    pub(crate) encoded_slash: Field<String>,
    pub(crate) symlinks: Field<String>,
    pub(crate) etag: Field<String>,
    pub(crate) precompressed: List,
    pub(crate) compressed_only: Field<String>,
    pub(crate) content_encoded: List,
    pub(crate) try_files: List,
    pub(crate) spa_fallback: Field<String>,
    pub(crate) charset: Field<String>,
    pub(crate) default_type: Field<String>,
    pub(crate) error_pages: Map,
    pub(crate) mime_types: Map,
    /// One table, or several: `shape` makes a list of either.
    pub(crate) origin: Vec<Spanned<Origin>>,
    pub(crate) cache_key: Field<TextOrList>,
    pub(crate) cache: Vec<Spanned<CacheRule>>,
    pub(crate) mount: Vec<Spanned<Mount>>,
    pub(crate) headers: Vec<Spanned<HeaderRule>>,
    pub(crate) access: Vec<Spanned<Access>>,
    pub(crate) auth: Vec<Spanned<Auth>>,
    pub(crate) signed: Vec<Spanned<Signed>>,
    pub(crate) pace: Vec<Spanned<Pace>>,
    pub(crate) respond: Vec<Spanned<Respond>>,
    pub(crate) redirects: Vec<Spanned<Redirect>>,
    pub(crate) cors: Cors,
    pub(crate) limits: SiteLimits,
    pub(crate) access_log: AccessLog,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "they are the keys")]
pub(crate) struct SiteLimits {
    pub(crate) request_rate_per_ip: Field<Fraction>,
    pub(crate) request_burst_per_ip: Field<Count>,
    pub(crate) request_rate: Field<Fraction>,
    pub(crate) request_burst: Field<Count>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Origin {
    pub(crate) s3: Field<String>,
    pub(crate) http: Field<String>,
    pub(crate) region: Field<String>,
    pub(crate) style: Field<String>,
    pub(crate) profile: Field<String>,
    pub(crate) credentials: Field<String>,
    pub(crate) host: Field<String>,
    pub(crate) ca: Field<String>,
    pub(crate) connect_timeout: Field<Period>,
    pub(crate) first_byte_timeout: Field<Period>,
    pub(crate) stall_timeout: Field<Period>,
    pub(crate) connections: Field<Count>,
    pub(crate) negative: Field<Period>,
    pub(crate) health: Field<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct CacheRule {
    #[serde(rename = "match")]
    pub(crate) pattern: Field<String>,
    pub(crate) except: List,
    pub(crate) ignore_case: Field<bool>,
    pub(crate) ttl: Field<LongPeriodOrOff>,
    pub(crate) stale_while_revalidate: Field<LongPeriod>,
    pub(crate) stale_if_error: Field<LongPeriod>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Mount {
    pub(crate) at: Field<String>,
    pub(crate) root: Field<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct HeaderRule {
    #[serde(rename = "match")]
    pub(crate) pattern: Field<String>,
    pub(crate) ignore_case: Field<bool>,
    pub(crate) cache: Field<String>,
    pub(crate) set: Map,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Access {
    #[serde(rename = "match")]
    pub(crate) pattern: Field<String>,
    pub(crate) except: List,
    pub(crate) ignore_case: Field<bool>,
    pub(crate) allow: List,
    pub(crate) deny: List,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Auth {
    #[serde(rename = "match")]
    pub(crate) pattern: Field<String>,
    pub(crate) except: List,
    pub(crate) ignore_case: Field<bool>,
    pub(crate) realm: Field<String>,
    pub(crate) users: Field<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Signed {
    #[serde(rename = "match")]
    pub(crate) pattern: Field<String>,
    pub(crate) except: List,
    pub(crate) ignore_case: Field<bool>,
    pub(crate) keys: List,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Pace {
    #[serde(rename = "match")]
    pub(crate) pattern: Field<String>,
    pub(crate) except: List,
    pub(crate) ignore_case: Field<bool>,
    pub(crate) rate: Field<Size>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Respond {
    #[serde(rename = "match")]
    pub(crate) pattern: Field<String>,
    pub(crate) except: List,
    pub(crate) ignore_case: Field<bool>,
    pub(crate) status: Field<Count>,
    pub(crate) retry_after: Field<Period>,
    pub(crate) page: Field<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Redirect {
    pub(crate) from: Field<String>,
    pub(crate) ignore_case: Field<bool>,
    pub(crate) to: Field<String>,
    pub(crate) status: Field<Count>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Cors {
    pub(crate) origins: List,
    pub(crate) max_age: Field<Period>,
}
