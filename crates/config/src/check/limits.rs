//! `[limits]`.

use std::time::Duration;

use toml::Spanned;

use super::bounds::{GIB, KIB, MIB};
use super::report::Report;
use crate::rules::{count, duration, size};
use crate::units::{Count, Fraction, Period, Size};
use crate::{Limits, SiteLimits, ValueError, raw};

/// The lowest and the highest rate of a client.
const RATE_MIN: f64 = 0.001;
const RATE_MAX: f64 = 100_000.0;

/// The longest time in which a client earns its burst.
const BURST_SECONDS_MAX: f64 = 86_400.0;

/// Checks the section.
pub(super) fn limits(raw: raw::Limits, report: &mut Report<'_>) -> Limits {
    let default = Limits::default();
    let (request_rate_per_ip, request_burst_per_ip) =
        requests_per_ip(raw.request_rate_per_ip, raw.request_burst_per_ip, report);
    Limits {
        memory: report.checked(raw.memory, default.memory, |typed| {
            let within = size(
                32 * MIB..=1024 * GIB,
                "a core and its queues take 8m before the first client",
            );
            typed.0.map(|bytes| within(Size(bytes))).transpose()
        }),
        connections_per_core: report.checked(
            raw.connections_per_core,
            default.connections_per_core,
            count(1..=1_048_576, "a core holds at least one, and at most 2^20"),
        ),
        connections_per_ip: report.checked(
            raw.connections_per_ip,
            default.connections_per_ip,
            count(0..=1_048_576, "a core holds at most 2^20; 0 for no limit"),
        ),
        request_rate_per_ip,
        request_burst_per_ip,
        ipv6_prefix: report.checked(
            raw.ipv6_prefix,
            default.ipv6_prefix,
            count(
                32..=128,
                "a shorter one is a whole provider; 64 is one network, 128 one address",
            ),
        ),
        send_rate_min: report.checked(raw.send_rate_min, default.send_rate_min, least_rate()),
        send_rate_grace: report.checked(raw.send_rate_grace, default.send_rate_grace, grace()),
        receive_rate_min: report.checked(
            raw.receive_rate_min,
            default.receive_rate_min,
            least_rate(),
        ),
        receive_rate_grace: report.checked(
            raw.receive_rate_grace,
            default.receive_rate_grace,
            grace(),
        ),
        crowded_rate_min: report.checked(
            raw.crowded_rate_min,
            default.crowded_rate_min,
            least_rate(),
        ),
        requests_per_connection: report.checked(
            raw.requests_per_connection,
            default.requests_per_connection,
            count(1..=i64::from(u32::MAX), "a connection serves at least one"),
        ),
        header_bytes: report.checked(
            raw.header_bytes,
            default.header_bytes,
            size(
                KIB..=MIB,
                "smaller refuses browsers, larger only feeds attacks",
            ),
        ),
        headers: report.checked(
            raw.headers,
            default.headers,
            count(1..=100, "the parser has room for 100 fields"),
        ),
        body_discard: report.checked(
            raw.body_discard,
            default.body_discard,
            size(0..=GIB, "closing the connection is cheaper"),
        ),
        ranges: report.checked(
            raw.ranges,
            default.ranges,
            count(
                1..=1024,
                "a request for more is answered with the whole file",
            ),
        ),
        ranges_unordered: report.checked(
            raw.ranges_unordered,
            default.ranges_unordered,
            count(
                1..=1024,
                "a request for more is answered with the whole file",
            ),
        ),
    }
}

/// Bytes of a client in a second.
fn least_rate() -> impl FnOnce(Size) -> Result<u64, ValueError> {
    size(0..=MIB, "many clients have no more; 0 for no limit")
}

/// The time over which a rate is averaged.
fn grace() -> impl FnOnce(Period) -> Result<Duration, ValueError> {
    let allowed = Duration::from_secs(1)..=Duration::from_hours(1);
    duration(
        allowed,
        "a shorter one cuts clients whose packets were lost",
    )
}

/// `[site.limits]`
pub(super) fn site_limits(raw: raw::SiteLimits, report: &mut Report<'_>) -> SiteLimits {
    let default = SiteLimits::default();
    let (request_rate_per_ip, request_burst_per_ip) =
        requests_per_ip(raw.request_rate_per_ip, raw.request_burst_per_ip, report);
    let bursts = count(0..=1_000_000, "0 is as many as in a second");
    let (request_rate, request_burst) = bucket(
        raw.request_rate,
        (raw.request_burst, default.request_burst, bursts),
        report,
    );
    SiteLimits {
        request_rate_per_ip,
        request_burst_per_ip,
        request_rate,
        request_burst,
    }
}

/// The rate and the burst of a client.
fn requests_per_ip(
    rate: raw::Field<Fraction>,
    burst: raw::Field<Count>,
    report: &mut Report<'_>,
) -> (f64, u32) {
    let default = Limits::default().request_burst_per_ip;
    let bursts = count(1..=1_000_000, "a client that may send nothing is refused");
    bucket(rate, (burst, default, bursts), report)
}

/// A rate, which is off by default, and a burst with its default and its rule.
fn bucket(
    typed_rate: raw::Field<Fraction>,
    (typed_burst, default, bursts): (
        raw::Field<Count>,
        u32,
        impl FnOnce(Count) -> Result<u32, ValueError>,
    ),
    report: &mut Report<'_>,
) -> (f64, u32) {
    let place = typed_burst.as_ref().map(Spanned::span);
    let place = place.or_else(|| typed_rate.as_ref().map(Spanned::span));
    let rate = report.checked(typed_rate, 0.0, rate);
    let burst = report.checked(typed_burst, default, bursts);
    if let Some(place) = place
        && rate > 0.0
        && f64::from(burst) / rate > BURST_SECONDS_MAX
    {
        let reason = format!(
            "a burst of {burst} at a rate of {rate} takes more than a day to come back: write a \
             smaller burst, or a higher rate"
        );
        report.refuse(&place, &ValueError::new(reason));
    }
    (rate, burst)
}

fn rate(Fraction(rate): Fraction) -> Result<f64, ValueError> {
    if rate == 0.0 || (RATE_MIN..=RATE_MAX).contains(&rate) {
        return Ok(rate);
    }
    Err(ValueError::new(format!(
        "{rate} is outside {RATE_MIN} to {RATE_MAX}: it is requests in a second; 0 for no limit"
    )))
}

#[cfg(test)]
mod tests {
    use crate::check::tests::{parse, refused, refused_beside_a_site};
    use crate::{Limits, SiteLimits};

    fn limits(text: &str) -> Limits {
        let text = format!("[limits]\n{text}\n[[site]]\nroot = '/srv'");
        parse(&text).unwrap().limits
    }

    #[test]
    fn a_client_may_have_a_rate_and_a_burst() {
        let limits = limits(
            "connections-per-ip = 20\nrequest-rate-per-ip = 0.5\nrequest-burst-per-ip = 43200\n\
             ipv6-prefix = 56",
        );
        assert_eq!(limits.connections_per_ip, 20);
        assert_eq!(limits.request_burst_per_ip, 43_200, "a day");
        assert!((limits.request_rate_per_ip - 0.5).abs() < f64::EPSILON);
        assert_eq!(limits.ipv6_prefix, 56);
        let whole = super::tests::limits("request-rate-per-ip = 100000");
        assert!((whole.request_rate_per_ip - 100_000.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_site_may_have_limits() {
        let text = "[[site]]\nroot = '/srv'\n[site.limits]\nrequest-rate-per-ip = 5\n\
                    request-burst-per-ip = 7\nrequest-rate = 0.5\nrequest-burst = 43200\n\
                    [[site]]\nnames = ['a']\nroot = '/srv'\n";
        let settings = parse(text).unwrap();
        let expected = SiteLimits {
            request_rate_per_ip: 5.0,
            request_burst_per_ip: 7,
            request_rate: 0.5,
            request_burst: 43_200,
        };
        assert_eq!(settings.sites[0].limits, expected);
        assert!(!expected.are_off());
        assert_eq!(settings.sites[1].limits, SiteLimits::default());
        assert!(settings.sites[1].limits.are_off());
        assert_eq!(parse(&settings.to_toml()), Ok(settings));
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn what_a_site_is_refused() {
        for (text, expected) in [
            ("request-rate = -1", "4: site.limits.request-rate: -1 is outside 0.001 to 100000: "),
            ("request-rate-per-ip = 200000", "4: site.limits.request-rate-per-ip: 200000 is outside "),
            ("request-burst = 1000001", "4: site.limits.request-burst: 1000001 is outside 0 to 1000000: "),
            ("request-burst-per-ip = 0", "4: site.limits.request-burst-per-ip: 0 is outside 1 to 1000000: "),
            ("request-rate = 0.01\nrequest-burst = 1000", "5: site.limits.request-burst: a burst of 1000 at a rate of 0.01 takes more than a day"),
            ("connections-per-ip = 1", "4: site.limits.connections-per-ip: unknown key"),
        ] {
            refused(&[(&format!("[[site]]\nroot = '/srv'\n[site.limits]\n{text}"), expected)]);
        }
    }

    #[test]
    fn the_memory_is_a_size_or_that_of_the_host() {
        assert_eq!(limits("").memory, None);
        assert_eq!(limits("memory = 'auto'").memory, None);
        assert_eq!(limits("memory = '2g'").memory, Some(2 << 30));
        assert_eq!(limits("memory = 67108864").memory, Some(64 << 20));
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn what_is_refused() {
        refused_beside_a_site(&[
            ("[limits]\nmemory = '31m'", "2: limits.memory: 31m is outside 32m to 1024g: "),
            ("[limits]\nmemory = 'half'", "2: limits.memory: `half` is not a size: "),
            ("[limits]\nmemory = true", "2: limits.memory: expected \"auto\" or a size such as \"2g\", found true"),
            ("[limits]\nrequest-rate-per-ip = -1", "2: limits.request-rate-per-ip: -1 is outside 0.001 to 100000: "),
            ("[limits]\nrequest-rate-per-ip = 0.0001", "2: limits.request-rate-per-ip: 0.0001 is outside 0.001 to 100000: "),
            ("[limits]\nrequest-rate-per-ip = 100001", "2: limits.request-rate-per-ip: 100001 is outside 0.001 to 100000: "),
            ("[limits]\nrequest-rate-per-ip = nan", "2: limits.request-rate-per-ip: NaN is outside "),
            ("[limits]\nrequest-rate-per-ip = '10r/s'", "2: limits.request-rate-per-ip: expected a number such as 0.01, found '10r/s'"),
            ("[limits]\nrequest-burst-per-ip = 0", "2: limits.request-burst-per-ip: 0 is outside 1 to 1000000: "),
            ("[limits]\nrequest-rate-per-ip = 1\nrequest-burst-per-ip = 86401", "3: limits.request-burst-per-ip: a burst of 86401 at a rate of 1 takes more than a day"),
            ("[limits]\nrequest-rate-per-ip = 0.001", "2: limits.request-rate-per-ip: a burst of 100 at a rate of 0.001 takes more than a day"),
            ("[limits]\nsend-rate-min = '2m'", "2: limits.send-rate-min: 2m is outside 0 to 1m: "),
            ("[limits]\nsend-rate-grace = '500ms'", "2: limits.send-rate-grace: 500ms is outside 1s to 1h: "),
            ("[limits]\nreceive-rate-min = '2m'", "2: limits.receive-rate-min: 2m is outside 0 to 1m: "),
            ("[limits]\nreceive-rate-grace = '2h'", "2: limits.receive-rate-grace: 2h is outside 1s to 1h: "),
            ("[limits]\ncrowded-rate-min = '1g'", "2: limits.crowded-rate-min: 1g is outside 0 to 1m: "),
            ("[limits]\nipv6-prefix = 31", "2: limits.ipv6-prefix: 31 is outside 32 to 128: "),
            ("[limits]\nipv6-prefix = 129", "2: limits.ipv6-prefix: 129 is outside 32 to 128: "),
        ]);
    }
}
