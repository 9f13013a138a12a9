//! A response from memory allocates nothing. (A range does: its list of ranges is built for each
//! request.)

use std::thread;
use std::time::Duration;

use tidegate_config::LogTarget;

use crate::testing::{Client, context, directory, get, run, settings};

/// Requests of a kind after which everything is in memory, and each buffer has the size that it
/// needs.
const WARM: usize = 20;

/// Requests of a kind whose allocations are counted.
const HITS: usize = 50;

/// Longer than lines of a log wait for more of them.
const LOG_WAIT: Duration = Duration::from_millis(700);

async fn hits_allocate_nothing(log: LogTarget) {
    let directory = directory(&"s".repeat(1024));
    let mut settings = settings(&directory);
    let is_logged = log != LogTarget::Off;
    settings.sites[0].access_log.path = log;
    let context = context(settings).await;
    let mut client = Client::connect(&context);
    let (first, allocations) = client.ask(&get("/small.html", "")).await;
    assert!(allocations > 0, "a lookup is counted");
    let (_, rest) = first.split_once("ETag: ").unwrap();
    let (etag, _) = rest.split_once("\r\n").unwrap();
    let hits = [
        ("200 ", get("/small.html", "")),
        ("200 ", get("/small.html", "").repeat(4)),
        ("200 ", get("/small.html", "Accept-Encoding: gzip, br\r\n")),
        (
            "304 ",
            get("/small.html", &format!("If-None-Match: {etag}\r\n")),
        ),
        ("404 ", get("/none.html", "")),
    ];
    for (status, request) in hits {
        for _ in 0..WARM {
            client.ask(&request).await;
        }
        if is_logged {
            // The writer takes the buffer of lines, and gives another one.
            thread::sleep(LOG_WAIT);
            client.ask(&request).await;
        }
        for _ in 0..HITS {
            let (response, allocations) = client.ask(&request).await;
            assert_eq!(response["HTTP/1.1 ".len()..][..4], *status);
            assert_eq!(allocations, 0, "{request}");
        }
    }
}

#[test]
fn a_hit_allocates_nothing() {
    run(hits_allocate_nothing(LogTarget::Off));
}

#[test]
fn a_line_of_the_access_log_allocates_nothing() {
    run(hits_allocate_nothing(LogTarget::File("/dev/null".into())));
}
