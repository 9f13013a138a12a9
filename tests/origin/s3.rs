//! An S3 store: signed requests, and errors that are about the request and not about the object.

use super::{Mirror, PATIENT, SLICE, entry, fresh};
use crate::support::{Behaviour, noise};

const SECRET: &str = "a-secret-access-key";

#[test]
fn requests_are_signed() {
    let mirror = Mirror::with("/a", fresh(2 * SLICE, 1));
    let site = format!("origin = {}", entry("s3", &mirror.origin, PATIENT));
    let secret = format!("AWS_SECRET_ACCESS_KEY={SECRET}");
    let environment = ["env", "AWS_ACCESS_KEY_ID=key-id", &secret];
    let server = mirror.launch_site(&site).through(environment).start();
    assert!(server.get("/a").body == noise(2 * SLICE, 1));
    for request in mirror.asked("/a") {
        let authorization = request.field("authorization").expect("a signature");
        let start = "AWS4-HMAC-SHA256 Credential=key-id/";
        assert!(authorization.starts_with(start), "{authorization}");
        assert!(
            authorization.contains("/us-east-1/s3/aws4_request"),
            "{authorization}"
        );
        assert!(request.field("x-amz-date").is_some());
        assert!(!format!("{request:?}").contains(SECRET));
    }
    assert!(!server.log().contains(SECRET));
}

#[test]
fn errors_of_requests_are_not_those_of_objects() {
    for code in ["SignatureDoesNotMatch", "RequestTimeTooSkewed"] {
        let mirror = Mirror::with("/a", fresh(2 * SLICE, 1));
        let keys = format!("credentials = \"none\", {PATIENT}");
        let site = format!("origin = {}", entry("s3", &mirror.origin, &keys));
        let server = mirror.launch_site(&site).start();
        mirror.behave("/a", [Behaviour::s3_error(403, code)]);
        for _ in 0..2 {
            assert_eq!(server.get("/a").status, 502, "{code}");
        }
        mirror.behave("/a", []);
        assert!(server.get("/a").body == noise(2 * SLICE, 1), "{code}");
        let asked = mirror.asked("/a");
        assert!(
            asked
                .iter()
                .all(|request| request.field("authorization").is_none())
        );
    }
}

#[test]
fn a_store_that_is_too_slow_says_so() {
    let mirror = Mirror::new();
    let site = format!("origin = {}", entry("s3", &mirror.origin, PATIENT));
    let keyless = site.replace("{ s3", "{ credentials = \"none\", s3");
    let server = mirror.launch_site(&keyless).start();
    mirror.behave("/a", [Behaviour::s3_error(503, "SlowDown")]);
    assert_eq!(server.get("/a").status, 503);
    mirror.behave("/a", [Behaviour::s3_error(403, "AccessDenied")]);
    assert_eq!(server.get("/a").status, 403);
    // It is remembered, since a store without the right to list says it of all that it lacks.
    mirror.behave("/a", []);
    assert_eq!(server.get("/a").status, 403);
}
