//! Compressed variants beside the objects of the origin.

use super::{Mirror, PATIENT, SLICE, assert_hit, fresh};
use crate::support::noise;

const BR: [&str; 1] = ["Accept-Encoding: br"];
const SITE: &str = "precompressed = [\"br\"]";

#[test]
fn a_variant_is_found_and_stored() {
    let mirror = Mirror::with(
        "/a.css",
        fresh(3 * SLICE, 1).field("Content-Type", "text/css"),
    );
    mirror.put("/a.css.br", fresh(2 * SLICE, 2));
    let server = mirror.launch(PATIENT, SITE).start();
    for _ in 0..2 {
        let small = server.get_with("/a.css", &BR);
        assert_eq!(small.header("content-encoding"), Some("br"));
        assert_eq!(small.header("content-type"), Some("text/css"));
        assert_eq!(small.list("vary"), ["accept-encoding"]);
        assert!(small.body == noise(2 * SLICE, 2));
        let plain = server.get("/a.css");
        assert_eq!(plain.header("content-encoding"), None);
        assert_eq!(plain.list("vary"), ["accept-encoding"]);
        assert!(plain.body == noise(3 * SLICE, 1));
        assert_ne!(plain.etag(), small.etag());
    }
    assert_hit(&server.get_with("/a.css", &BR));
    assert_eq!(mirror.slices("/a.css.br"), [0, 1]);
    assert_eq!(mirror.slices("/a.css"), [0, 1, 2]);
}

#[test]
fn the_absence_of_a_variant_is_remembered() {
    let mirror = Mirror::with("/a.css", fresh(100, 1).field("Content-Type", "text/css"));
    let server = mirror.launch(PATIENT, SITE).start();
    for _ in 0..3 {
        let response = server.get_with("/a.css", &BR);
        assert_eq!(response.header("content-encoding"), None);
        assert_eq!(response.body, noise(100, 1));
    }
    assert_eq!(mirror.count("/a.css.br"), 1);
    assert_eq!(mirror.count("/a.css"), 1);
}
