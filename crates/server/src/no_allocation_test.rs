//! A response from memory allocates nothing. (A range does: its list of ranges is built for each
//! request.)

use std::thread;
use std::time::Duration;

use tidegate_config::{Listen, LogTarget, Protocols};

use crate::testing::{Client, context, directory, get, run, settings};

/// Requests of a kind after which everything is in memory, and each buffer has the size that it
/// needs.
const WARM: usize = 20;

/// Requests of a kind whose allocations are counted.
const HITS: usize = 50;

/// Of these so many may find that the executor slept in the middle, as on a busy machine: its sleep
/// allocates.
const DISTURBED_MAX: usize = HITS / 10;

/// Streams of HTTP/2 after which as many are remembered as ever will be.
const ENDED: usize = 64 + WARM;

/// Longer than lines of a log wait for more of them.
const LOG_WAIT: Duration = Duration::from_millis(700);

async fn hits_allocate_nothing(log: LogTarget) {
    let directory = directory(&"s".repeat(1024));
    let mut settings = settings(&directory);
    let is_logged = log != LogTarget::Off;
    // Such a file is not copied.
    settings.io.inline_max = 64 << 10;
    std::fs::write(directory.path().join("medium.html"), "m".repeat(20 << 10)).unwrap();
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
        ("200 ", get("/medium.html", "")),
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
        let mut allocating = 0;
        for _ in 0..HITS {
            let (response, allocations) = client.ask(&request).await;
            assert_eq!(response["HTTP/1.1 ".len()..][..4], *status);
            allocating += usize::from(allocations > 0);
        }
        assert!(allocating <= DISTURBED_MAX, "{allocating} of {request}");
    }
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, 0, payload.len() as u8, kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// HEADERS of a GET for `target`, and as much window for the connection as the response takes.
fn get_by_http2(stream: u32, target: &str) -> Vec<u8> {
    // GET, http, and a literal `:path` and `:authority` (RFC 7541, appendix A).
    let mut block = vec![0x82, 0x86, 0x04, target.len() as u8];
    block.extend(target.as_bytes());
    block.extend(b"\x01\x04test");
    let mut frames = frame(8, 0, 0, &2000_u32.to_be_bytes());
    frames.extend(frame(1, 5, stream, &block));
    frames
}

#[test]
fn a_hit_by_http2_allocates_nothing() {
    run(async {
        let directory = directory(&"s".repeat(1024));
        let context = context(settings(&directory)).await;
        let protocols = Protocols {
            http1: true,
            http2: true,
        };
        let listen = Listen {
            protocols,
            ..Listen::default()
        };
        let mut client = Client::connect_to(&context, &listen);
        let mut preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        preface.extend(frame(4, 0, 0, &[]));
        client.send(&preface).await;
        let mut stream = 1;
        // Indexed fields `:status: 200` and `:status: 404`.
        for (status, target) in [(0x88, "/small.html"), (0x8d, "/none.html")] {
            let mut allocating = 0;
            for round in 0..ENDED + HITS {
                let request = get_by_http2(stream, target);
                stream += 2;
                let (response, allocations) = client.send(&request).await;
                assert_eq!((response[3], response[9]), (1, status), "{target}");
                allocating += usize::from(round >= ENDED && allocations > 0);
            }
            assert!(allocating <= DISTURBED_MAX, "{allocating} of {target}");
        }
    });
}

#[test]
fn a_hit_allocates_nothing() {
    run(hits_allocate_nothing(LogTarget::Off));
}

#[test]
fn a_line_of_the_access_log_allocates_nothing() {
    run(hits_allocate_nothing(LogTarget::File("/dev/null".into())));
}
