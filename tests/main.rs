//! End to end: the real binary, on a port of its own, over real sockets.
//!
//! One test binary with a module for each subject, so that all tests share the machine's cores. Every
//! test makes its own directory tree and starts its own server, which is killed when the test ends.
//! Nothing asserts that something is fast: where a test waits, its limit only tells "never" apart from
//! "late", and ends the test instead of hanging it.

mod access;
mod access_log;
mod addresses;
mod admin;
mod arena;
mod bad_input;
mod changing_files;
mod cli;
mod client_limits;
mod compress;
mod compressed_only;
mod conditionals;
mod connections;
mod containers;
mod content_encoded;
mod doctor;
mod drop_behind;
mod exchanges;
mod fallbacks;
mod files;
mod first_steps;
mod freshness;
mod from_other_servers;
mod generated;
mod header_rules;
mod http2;
mod include;
mod kernel_calls;
mod lifecycle;
mod limits;
mod listings;
mod log;
mod long_responses;
mod memory;
mod methods;
mod metrics;
mod mounts;
mod origin;
mod pipelines;
mod popular;
mod privileges;
mod protocols;
mod proxies;
mod publish;
mod published_configs;
mod ranges;
mod redirects;
mod refusals;
mod reload;
mod remote_files;
mod respond;
mod site_config;
mod sites;
mod slow_clients;
mod stalls;
mod steering;
mod support;
mod symlinks;
mod systemd;
mod threads;
mod tls;
mod tls_files;
mod tls_handshakes;
mod tls_key_updates;
mod unix_sockets;
mod upgrade;
mod validators;
mod variants;
mod watchdog;
mod zeros;
