//! The host's limits and features and the server's use of them, for `tidegate doctor`.
//!
//! Runs the code of the server's start, but nothing listens and no shard is started.

use std::fs;
use std::path::Path;

use rustix::system::uname;
use tidegate_config::{Ktls, Settings};
use tidegate_tls::{Certificate, KernelFeatures};

use crate::error::Error;
use crate::host::budget::Budget;
use crate::host::cores::{self, Chosen};
use crate::host::finding::{Finding, Verdict, finding};
use crate::host::limits::{self, ResourceShare};
use crate::host::locked::Locked;
use crate::host::system;
use crate::host::threads;
use crate::privilege;
use crate::transport::certificates::{self, days_left, expires_soon};

const IO_URING: &str = "io_uring";

/// Checks this host, and the certificates of `settings`. Blocking; raises the soft limits of the
/// process as the server does.
pub fn host_report(settings: &Settings) -> Vec<Finding> {
    limits::raise();
    let mut findings = vec![finding("kernel", Verdict::Good(release()))];
    let root = Path::new("/");
    match cores::choose(&settings.server.cores) {
        Ok(chosen) => {
            findings.push(finding("cores", listed(&chosen)));
            findings.push(memlock(settings, chosen.cores.len()));
            findings.extend(shares(settings, chosen.cores.len()));
            let threads = threads::verdict(settings, chosen.cores.len());
            findings.push(finding("threads", threads));
            findings.extend(system::findings(root, &chosen.cores));
        }
        Err(error) => findings.push(finding("cores", Verdict::Bad(error.into()))),
    }
    // After the check of locked memory, since the kernel counts this ring for a moment after its
    // end.
    if !findings.iter().any(|finding| finding.topic == IO_URING) {
        findings.extend(ring());
    }
    findings.extend(privilege::report::findings(settings));
    findings.push(finding("backlog", backlog(settings)));
    findings.push(finding("kernel TLS", kernel_tls(settings)));
    findings.extend(certificates(settings));
    findings
}

/// The file systems of the roots of `settings`. Blocking, for as long as one does not answer.
pub fn file_report(settings: &Settings) -> Vec<Finding> {
    system::file_systems(Path::new("/"), settings)
}

fn release() -> String {
    uname().release().to_string_lossy().into_owned()
}

/// io_uring, and each of its features that not all kernels have, with what is used in its place.
fn ring() -> Vec<Finding> {
    match tidegate_uring::probe() {
        Ok(features) => {
            let text =
                "all that is needed is there and allowed, and the op ring takes nothing else";
            let mut findings = vec![finding(IO_URING, Verdict::Good(text.to_owned()))];
            findings.extend(ring_features(features.pipe, features.recv_limit));
            findings
        }
        Err(error) => vec![finding(IO_URING, Verdict::Bad(Error::Uring(error).into()))],
    }
}

fn ring_features(has_pipe: bool, has_recv_limit: bool) -> [Finding; 2] {
    let verdict = |is_there, there: &str, instead: &str| {
        if is_there {
            Verdict::Good(there.to_owned())
        } else {
            Verdict::Fair(instead.to_owned())
        }
    };
    let pipe = verdict(
        has_pipe,
        "pipes are made on the ring",
        "pipes are made by pipe2(2): Linux 6.16 and newer make them on the ring",
    );
    let recv = verdict(
        has_recv_limit,
        "a client that reads nothing holds two receive buffers",
        "a client that reads nothing may hold 33 receive buffers: Linux 6.17 and newer limit that",
    );
    [finding("ring pipe", pipe), finding("ring recv", recv)]
}

fn listed(chosen: &Chosen) -> Verdict {
    let numbers: Vec<String> = chosen.cores.iter().map(usize::to_string).collect();
    let text = format!("one shard on each of {}", numbers.join(","));
    match chosen.quota_text() {
        Some(quota) if chosen.exceeds_quota() => Verdict::Fair(format!("{text}; {quota}")),
        Some(quota) => Verdict::Good(format!("{text}; {quota}")),
        None => Verdict::Good(text),
    }
}

/// The memory that io_uring locks for `shards` shards, or why there is no io_uring to try it with.
fn memlock(settings: &Settings, shards: usize) -> Finding {
    let verdict = match Locked::fit(settings, shards) {
        Ok(locked) if locked.is_full() => Verdict::Good(locked.text()),
        Ok(locked) => Verdict::Fair(locked.text()),
        Err(error @ Error::Uring(_)) => return finding(IO_URING, Verdict::Bad(error.into())),
        Err(error) => Verdict::Bad(error.into()),
    };
    finding("memlock", verdict)
}

/// Each shard's share of the limits.
fn shares(settings: &Settings, shards: usize) -> Vec<Finding> {
    match limits::by_descriptors(settings, shards) {
        Ok(share) => {
            let budget = Budget::find(settings);
            let fitted = limits::fit_memory(share, settings, budget.bytes, shards);
            vec![
                finding("descriptors", descriptors(settings, share)),
                finding("memory", memory(share, fitted, &budget)),
                finding("pipes", pipes(settings, fitted, shards)),
            ]
        }
        Err(error) => vec![finding("descriptors", Verdict::Bad(error.into()))],
    }
}

fn descriptors(settings: &Settings, share: ResourceShare) -> Verdict {
    let text = format!(
        "{} connections, {} open files and {} pipes for each core",
        share.connections, share.open_files, share.pipes
    );
    if share == ResourceShare::wanted(settings) {
        Verdict::Good(text)
    } else {
        Verdict::Fair(format!(
            "{text}, fewer than configured: raise RLIMIT_NOFILE (`ulimit -n`, LimitNOFILE=)"
        ))
    }
}

/// The share of a shard that fits into the memory.
fn memory(share: ResourceShare, fitted: ResourceShare, budget: &Budget) -> Verdict {
    let text = format!(
        "{} KiB of small files, {} connections, {} open files and {} pipes of {} KiB for each \
         core",
        fitted.hot_bytes / 1024,
        fitted.connections,
        fitted.open_files,
        fitted.pipes,
        fitted.pipe_bytes / 1024
    );
    if fitted.is_less_than(share) {
        let remedy = budget.remedy();
        Verdict::Fair(format!(
            "{text}, less than configured, fit {budget}: {remedy}, or use fewer cores"
        ))
    } else {
        Verdict::Good(format!("{text} fit {budget}"))
    }
}

fn pipes(settings: &Settings, share: ResourceShare, shards: usize) -> Verdict {
    let config = limits::pool_config(settings, share, shards);
    let (count, bytes) = config.fit();
    let text = format!("{count} of {} KiB for each core", bytes / 1024);
    if (count, bytes) == (config.pipes_max, config.pipe_bytes) {
        Verdict::Good(text)
    } else {
        Verdict::Fair(format!(
            "{text}, less than configured: raise fs.pipe-user-pages-soft, or allow CAP_SYS_RESOURCE"
        ))
    }
}

fn backlog(settings: &Settings) -> Verdict {
    let wanted = settings.listen.iter().map(|listen| listen.backlog).max();
    let wanted = wanted.unwrap_or_default();
    let allowed = fs::read_to_string("/proc/sys/net/core/somaxconn")
        .ok()
        .and_then(|text| text.trim().parse::<u32>().ok());
    match allowed {
        Some(allowed) if allowed < wanted => Verdict::Fair(format!(
            "{allowed} instead of {wanted}: raise net.core.somaxconn"
        )),
        _ => Verdict::Good(format!(
            "{wanted} connections may wait for each listener of a core"
        )),
    }
}

fn kernel_tls(settings: &Settings) -> Verdict {
    let features = tidegate_tls::kernel::probe();
    let text = kernel_tls_text(&features);
    let has_all = features.suites().all(|(_, missing)| missing.is_ok());
    let is_wanted =
        settings.tls.ktls == Ktls::Auto && settings.listen.iter().any(|listen| listen.tls);
    if is_wanted && !has_all {
        Verdict::Fair(text)
    } else {
        Verdict::Good(text)
    }
}

/// The cipher suites, grouped by where their records are encrypted.
fn kernel_tls_text(features: &KernelFeatures) -> String {
    let mut groups: Vec<(Vec<&str>, String)> = Vec::new();
    for (suite, missing) in features.suites() {
        let place = match missing {
            Ok(()) => "in the kernel".to_owned(),
            Err(missing) => format!("in user space, for {missing}"),
        };
        match groups.iter_mut().find(|(_, other)| *other == place) {
            Some((names, _)) => names.push(suite.name()),
            None => groups.push((vec![suite.name()], place)),
        }
    }
    let groups: Vec<String> = groups
        .into_iter()
        .map(|(names, place)| format!("{} {place}", names.join(", ")))
        .collect();
    groups.join("; ")
}

/// Each valid certificate, whether or not a listener needs it. [`diagnose`](crate::diagnose()) has
/// the faults of the others.
fn certificates(settings: &Settings) -> Vec<Finding> {
    let Ok(Some(acceptor)) = certificates::acceptor(&settings.tls) else {
        return Vec::new();
    };
    let certificates = acceptor.certificates();
    let findings = certificates.iter().map(certificate);
    findings
        .map(|verdict| finding("certificate", verdict))
        .collect()
}

fn certificate(certificate: &Certificate) -> Verdict {
    let text = format!(
        "{}: {} for {}, {} days left",
        certificate.files().certificate.display(),
        certificate.algorithm(),
        certificate.names().join(" "),
        days_left(certificate)
    );
    if expires_soon(certificate) {
        Verdict::Fair(text)
    } else {
        Verdict::Good(text)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn settings() -> Settings {
        Settings::for_directory(PathBuf::from("."))
    }

    fn share(connections: usize) -> ResourceShare {
        ResourceShare {
            connections,
            ..ResourceShare::wanted(&settings())
        }
    }

    #[test]
    fn fewer_connections_than_configured_come_with_the_remedy() {
        let wanted = settings().limits.connections_per_core;
        let good = descriptors(&settings(), share(wanted));
        assert!(matches!(good, Verdict::Good(_)), "{good:?}");
        match descriptors(&settings(), share(17)) {
            Verdict::Fair(text) => {
                assert!(text.starts_with("17 connections"), "{text}");
                assert!(text.contains("RLIMIT_NOFILE"), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_does_not_fit_into_the_memory_comes_with_the_remedy() {
        for (bytes, good, part) in [
            (64 << 30, true, "fit limits.memory (68719476736 bytes)"),
            (64 << 20, false, "67108864 bytes): raise limits.memory"),
        ] {
            let mut settings = settings();
            settings.limits.memory = Some(bytes);
            let budget = Budget::find(&settings);
            let share = share(1000);
            let fitted = limits::fit_memory(share, &settings, bytes, 2);
            let (is_good, text) = match memory(share, fitted, &budget) {
                Verdict::Good(text) => (true, text),
                Verdict::Fair(text) => (false, text),
                other @ Verdict::Bad(_) => panic!("{other:?}"),
            };
            assert_eq!(is_good, good, "{text}");
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_an_older_kernel_lacks_comes_with_what_is_used_in_its_place() {
        let all = ring_features(true, true).map(|finding| finding.verdict);
        assert!(
            all.iter()
                .all(|verdict| matches!(verdict, Verdict::Good(_)))
        );
        let texts = ring_features(false, false).map(|finding| match finding.verdict {
            Verdict::Fair(text) => text,
            other => panic!("{other:?}"),
        });
        assert!(
            texts[0].contains("pipe2(2)") && texts[1].contains("6.17"),
            "{texts:?}"
        );
    }

    #[test]
    fn suites_with_the_same_place_are_grouped() {
        let text = kernel_tls_text(&KernelFeatures::none());
        assert_eq!(text.matches("in user space").count(), 1, "{text}");
        assert_eq!(text.matches("TLS_").count(), 3, "{text}");
    }
}
