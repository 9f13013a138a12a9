//! Configurations that people have for other servers: what `config/examples` makes of them, and
//! that the other server, where it is installed, answers the same with the original.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::support::{Client, Launch, Peer, Response, Server, Tree};

/// Names in lower case and values; "" is for a field that is not there.
type Fields = &'static [(&'static str, &'static str)];

/// Host, target and fields of a request; status and some fields of its answer.
pub(super) type Row = (
    &'static str,
    &'static str,
    &'static [&'static str],
    u16,
    Fields,
);

/// Where the other server answers otherwise: host and target; status, and what its fields have in
/// place. docs/from-*.md tell each of these.
pub(super) type Difference = (&'static str, &'static str, u16, Fields);

/// What most files hold.
const CONTENT: &str = "0123456789";

const YEAR: (&str, &str) = ("cache-control", "max-age=31536000");
pub(super) const ASKS: (&str, &str) = ("cache-control", "no-cache");
pub(super) const FOREVER: (&str, &str) = ("cache-control", "public, max-age=31536000, immutable");
pub(super) const NOSNIFF: (&str, &str) = ("x-content-type-options", "nosniff");
const DENY: (&str, &str) = ("x-frame-options", "DENY");
const REFERRER: (&str, &str) = ("referrer-policy", "strict-origin-when-cross-origin");
const ANY_ORIGIN: (&str, &str) = ("access-control-allow-origin", "*");
const NO_ORIGIN: (&str, &str) = ("access-control-allow-origin", "");
pub(super) const NOT_KEPT: (&str, &str) = ("cache-control", "");

#[rustfmt::skip] // one row a line
const H5BP: &[Row] = &[
    ("example.com", "/", &[], 200, &[ASKS, NOSNIFF, DENY, REFERRER, NO_ORIGIN, ("content-type", "text/html; charset=utf-8")]),
    ("example.com", "/index.html", &[], 200, &[ASKS, NOSNIFF, DENY, REFERRER]),
    ("example.com", "/app.css", &[], 200, &[YEAR, NOSNIFF, REFERRER, NO_ORIGIN, ("content-encoding", ""), ("vary", "Accept-Encoding")]),
    ("example.com", "/app.css", &["Accept-Encoding: gzip"], 200, &[YEAR, ("content-encoding", "gzip"), ("vary", "Accept-Encoding"), ("content-type", "text/css; charset=utf-8")]),
    ("example.com", "/app.js?v=2", &[], 200, &[YEAR, NOSNIFF, REFERRER, NO_ORIGIN, ("content-type", "text/javascript; charset=utf-8")]),
    ("example.com", "/LOGO.SVG", &[], 200, &[YEAR, NOSNIFF, ANY_ORIGIN, ("content-type", "image/svg+xml")]),
    ("example.com", "/photo.png", &[], 200, &[YEAR, NOSNIFF, ANY_ORIGIN, ("content-type", "image/png")]),
    ("example.com", "/photo.png", &["Range: bytes=0-1"], 206, &[YEAR, NOSNIFF, ANY_ORIGIN]),
    ("example.com", "/photo.png?known", &["If-None-Match: *"], 304, &[YEAR, NOSNIFF, ANY_ORIGIN]),
    ("example.com", "/font.woff2", &[], 200, &[YEAR, ANY_ORIGIN, ("content-type", "font/woff2")]),
    ("example.com", "/favicon.ico", &[], 200, &[("cache-control", "max-age=604800"), ANY_ORIGIN]),
    ("example.com", "/site.webmanifest", &[], 200, &[("cache-control", "max-age=604800"), NO_ORIGIN]),
    ("example.com", "/feed.atom", &[], 200, &[("cache-control", "max-age=3600"), REFERRER]),
    ("example.com", "/data.json", &[], 200, &[ASKS, NOSNIFF]),
    ("example.com", "/sitemap.xml", &[], 200, &[ASKS, REFERRER, ("content-type", "application/xml")]),
    ("example.com", "/LICENSE", &[], 200, &[ASKS]),
    ("example.com", "/blog", &[], 301, &[("location", "/blog/"), ASKS, NOSNIFF, DENY]),
    ("example.com", "/blog/", &[], 200, &[ASKS]),
    ("example.com", "/.well-known/security.txt", &[], 200, &[YEAR]),
    ("example.com", "/missing", &[], 404, &[NOT_KEPT, NOSNIFF, DENY, REFERRER, ("content-type", "text/html; charset=utf-8")]),
    ("example.com", "/missing.png", &[], 404, &[NOT_KEPT, NOSNIFF, DENY, REFERRER]),
    ("example.com", "/.git/config", &[], 404, &[NOT_KEPT, DENY]),
    ("example.com", "/index.html.bak", &[], 403, &[NOT_KEPT, NOSNIFF, DENY]),
    ("example.com", "/dump.SQL", &[], 403, &[NOT_KEPT]),
    ("example.com", "/blog/notes~", &[], 403, &[]),
    ("example.com", "/%23notes%23", &[], 403, &[]),
    ("example.com", "/none.conf", &[], 403, &[]),
    ("www.example.com", "/", &[], 301, &[("location", "http://example.com/"), ASKS]),
    ("www.example.com", "/blog/a%20b?c=d", &[], 301, &[("location", "http://example.com/blog/a%20b?c=d")]),
    ("www.example.com", "/index.html.bak", &[], 301, &[("location", "http://example.com/index.html.bak")]),
];

#[rustfmt::skip] // one row a line
const H5BP_IN_NGINX: &[Difference] = &[
    // By type and not by path, so what has no text has no policy for referrers; and nothing says
    // 404.
    ("example.com", "/LICENSE", 200, &[YEAR]),
    ("example.com", "/photo.png?known", 304, &[NOT_KEPT, NO_ORIGIN]),
    ("example.com", "/.git/config", 403, &[]),
];

#[test]
fn h5bp() {
    let tree = Tree::new();
    let site = "example.com/public";
    write(
        &tree,
        site,
        "index.html 404.html app.js LOGO.SVG photo.png font.woff2 favicon.ico \
         site.webmanifest feed.atom data.json sitemap.xml LICENSE blog/index.html \
         .well-known/security.txt .git/config index.html.bak dump.SQL blog/notes~ #notes#",
    );
    tree.write(&format!("{site}/app.css"), b"a { color: red }");
    tree.write(&format!("{site}/app.css.gz"), b"compressed");
    let server = example(&tree, "h5bp");
    check("tidegate", server.address, H5BP, &[]);
    let page = ask(server.address, "example.com", "/missing", &[]);
    assert_eq!(page.text(), CONTENT);
    assert_eq!(ask(server.address, "other.example", "/", &[]).status, 404);
    if let Some(nginx) = Peer::nginx(&tree, include_str!("other_servers/h5bp.nginx.conf")) {
        check("nginx", nginx.address, H5BP, H5BP_IN_NGINX);
    }
}

const PACKAGE: (&str, &str) = ("surrogate-control", "max-age=157680000");
const LISTING: (&str, &str) = ("surrogate-control", "max-age=604800");
const LISTINGS: (&str, &str) = ("surrogate-key", "dirlisting");
const NO_KEY: (&str, &str) = ("surrogate-key", "");
const TWO_MINUTES: Fields = &[
    ("cache-control", "max-age=120"),
    ("surrogate-control", "max-age=120"),
    NO_KEY,
];
pub(super) const TEXT: (&str, &str) = ("content-type", "text/plain; charset=utf-8");

#[rustfmt::skip] // one row a line
const MIRROR: &[Row] = &[
    ("mirror.example.org", "/", &[], 200, &[LISTING, LISTINGS, NOT_KEPT, ("content-type", "text/html; charset=utf-8")]),
    ("mirror.example.org", "/debian/", &[], 200, &[LISTING, LISTINGS, NOT_KEPT]),
    ("mirror.example.org", "/debian/dists/", &[], 200, &[LISTING, LISTINGS, NOT_KEPT]),
    ("mirror.example.org", "/debian/dists", &[], 301, &[("location", "/debian/dists/")]),
    ("mirror.example.org", "/debian/pool", &[], 301, &[("location", "/debian/pool/"), PACKAGE, NO_KEY]),
    ("mirror.example.org", "/debian/pool/a_1.0_all.deb", &[], 200, &[PACKAGE, YEAR, NO_KEY]),
    ("mirror.example.org", "/debian/pool/a_1.0_all.deb", &["Range: bytes=1-"], 206, &[PACKAGE, YEAR, ("content-range", "bytes 1-9/10")]),
    ("mirror.example.org", "/debian/dists/stable/InRelease", &[], 200, TWO_MINUTES),
    ("mirror.example.org", "/debian/dists/stable/InRelease", &[], 200, &[TEXT]),
    ("mirror.example.org", "/debian/README", &[], 200, &[PACKAGE, TEXT, NOT_KEPT]),
    ("mirror.example.org", "/fedora/.treeinfo", &[], 200, &[PACKAGE]),
    ("mirror.example.org", "/debian/conf/distributions", &[], 403, &[NO_KEY]),
    ("mirror.example.org", "/debian/conf/", &[], 403, &[LISTINGS]),
    ("mirror.example.org", "/debian/conf", &[], 403, &[]),
    ("mirror.example.org", "/debian/db/packages.db", &[], 403, &[]),
    ("mirror.example.org", "/debian/incoming/none", &[], 403, &[]),
    ("mirror.example.org", "/debian/dists/../conf/distributions", &[], 403, &[]),
    ("mirror.example.org", "/debian/%63onf/distributions", &[], 403, &[]),
    ("mirror.example.org", "/debian/confidence", &[], 200, &[PACKAGE]),
    ("mirror.example.org", "/debian/pool/conf", &[], 200, &[PACKAGE]),
    ("mirror.example.org", "/debian/.~tmp~/a.deb", &[], 404, &[]),
    ("mirror.example.org", "/debian/none", &[], 404, &[NOT_KEPT, ("surrogate-control", "")]),
    ("mirror.example.org", "/debian/pool/none.deb", &[], 404, &[NOT_KEPT, ("surrogate-control", "")]),
    ("mirror.example.org", "/none/", &[], 404, &[NOT_KEPT, ("surrogate-control", ""), LISTINGS]),
];

#[rustfmt::skip] // one row a line
const MIRROR_IN_NGINX: &[Difference] = &[
    ("mirror.example.org", "/debian/.~tmp~/a.deb", 403, &[]),
    // Fields without `always` are not for errors.
    ("mirror.example.org", "/none/", 404, &[NO_KEY]),
    ("mirror.example.org", "/debian/conf/", 403, &[NO_KEY]),
];

#[test]
fn mirror() {
    let tree = Tree::new();
    write(
        &tree,
        "mirror",
        "debian/pool/a_1.0_all.deb debian/pool/conf debian/dists/stable/InRelease \
         debian/README debian/confidence debian/conf/distributions debian/db/packages.db \
         debian/.~tmp~/a.deb fedora/.treeinfo",
    );
    let server = example(&tree, "mirror");
    check("tidegate", server.address, MIRROR, &[]);
    if let Some(nginx) = Peer::nginx(&tree, include_str!("other_servers/mirror.nginx.conf")) {
        check("nginx", nginx.address, MIRROR, MIRROR_IN_NGINX);
    }
}

const WEEK: (&str, &str) = ("surrogate-control", "max-age=604800");

#[rustfmt::skip] // one row a line
const DOCS: &[Row] = &[
    ("docs.example.org", "/", &[], 302, &[("location", "/3/"), NO_KEY]),
    ("docs.example.org", "/fr/", &[], 302, &[("location", "/fr/3/")]),
    ("docs.example.org", "/zh-cn/", &[], 302, &[("location", "/zh-cn/3/")]),
    ("docs.example.org", "/3/", &[], 200, &[WEEK, ("surrogate-key", "en/3")]),
    ("docs.example.org", "/3/library/os.html", &[], 200, &[WEEK, ("surrogate-key", "en/3")]),
    ("docs.example.org", "/3.14/library/os.html", &[], 200, &[("surrogate-key", "en/3.14")]),
    ("docs.example.org", "/2.7/", &[], 200, &[("surrogate-key", "en/2.7")]),
    ("docs.example.org", "/dev/", &[], 200, &[("surrogate-key", "en/dev")]),
    ("docs.example.org", "/fr/3/library/os.html", &[], 200, &[("surrogate-key", "fr/3")]),
    ("docs.example.org", "/pt-br/3.14/", &[], 200, &[("surrogate-key", "pt-br/3.14")]),
    ("docs.example.org", "/zh-cn/dev/", &[], 200, &[("surrogate-key", "zh-cn/dev")]),
    ("docs.example.org", "/robots.txt", &[], 200, &[WEEK, NO_KEY, TEXT]),
    ("docs.example.org", "/files/", &[], 200, &[WEEK, NO_KEY]),
    ("docs.example.org", "/3x/a.html", &[], 200, &[NO_KEY]),
    ("docs.example.org", "/xx/3/a.html", &[], 200, &[NO_KEY]),
    ("docs.example.org", "/3/library/none.html", &[], 404, &[("surrogate-key", "en/3"), ("surrogate-control", "")]),
    ("docs.example.org", "/fr/3/none.html", &[], 404, &[("surrogate-key", "fr/3")]),
    ("docs.example.org", "/3/library/os", &[], 200, &[("surrogate-key", "en/3"), ("content-type", "text/html; charset=utf-8")]),
    ("docs.example.org", "/ftp/python/doc/2.7/x.tgz", &[], 301, &[("location", "https://www.example.org/ftp/python/doc/2.7/x.tgz")]),
    ("docs.example.org", "/py3k", &[], 301, &[("location", "/3")]),
    ("docs.example.org", "/py3k/library/os.html", &[], 301, &[("location", "/3/library/os.html")]),
    ("docs.example.org", "/3/c-api/class.html", &[], 301, &[("location", "/3/c-api/")]),
    ("docs.example.org", "/3.10/c-api/string.html", &[], 301, &[("location", "/3.10/c-api/")]),
    ("docs.example.org", "/fr/3/c-api/int.html", &[], 301, &[("location", "/fr/3/c-api/")]),
    ("docs.example.org", "/3/library/md5.html", &[], 301, &[("location", "/3/")]),
    ("docs.example.org", "/ja/3.9/library/sets.html", &[], 301, &[("location", "/ja/3.9/")]),
    ("docs.example.org", "/2.7/library/md5.html", &[], 200, &[("surrogate-key", "en/2.7")]),
    ("docs.example.org", "/3.4/library/urllib2.html", &[], 404, &[]),
    ("docs.example.org", "/3/library/stringio.html", &[], 301, &[("location", "/3/library/io.html#io.StringIO")]),
    ("docs.example.org", "/ko/3.5/library/urllib2.html", &[], 301, &[("location", "/ko/3.5/library/urllib.request.html")]),
    ("docs.example.org", "/3/library/__builtin__.html", &[], 301, &[("location", "/3/library/builtins.html")]),
    ("docs.example.org", "/library", &[], 301, &[("location", "/3/library")]),
    ("docs.example.org", "/library/", &[], 301, &[("location", "/3/library/")]),
    ("docs.example.org", "/library/os.html", &[], 301, &[("location", "/3/library/os.html")]),
    ("docs.example.org", "/_static/a/b.css", &[], 301, &[("location", "/3/_static/a/b.css")]),
    ("docs.example.org", "/libraryx", &[], 404, &[]),
    ("docs.example.org", "/glossary", &[], 301, &[("location", "/3/glossary.html")]),
    ("docs.example.org", "/glossary.html", &[], 301, &[("location", "/3/glossary.html")]),
    ("docs.example.org", "/index.html", &[], 301, &[("location", "/3/index.html")]),
    ("docs.example.org", "/genindex", &[], 301, &[("location", "/3/genindex.html")]),
    ("docs.example.org", "/genindex-A.html", &[], 301, &[("location", "/3/genindex-A.html")]),
    ("docs.example.org", "/genindex-all", &[], 301, &[("location", "/3/genindex-all.html")]),
    ("docs.example.org", "/genindex-a.b", &[], 404, &[]),
    ("docs.example.org", "/objects.inv", &[], 301, &[("location", "/3/objects.inv")]),
    ("docs.example.org", "/devguide/", &[], 301, &[("location", "https://devguide.example.org/")]),
    ("docs.example.org", "/devguide/a/b", &[], 301, &[("location", "https://devguide.example.org/a/b")]),
    ("docs.example.org", "/documenting/", &[], 301, &[("location", "https://devguide.example.org/documentation/start-documenting/")]),
    ("docs.example.org", "/documenting/index.html", &[], 301, &[("location", "https://devguide.example.org/documentation/start-documenting/")]),
    ("docs.example.org", "/lib/", &[], 301, &[("location", "/3/library/")]),
    ("docs.example.org", "/lib/module-os.path.html", &[], 301, &[("location", "/3/library/os.path.html")]),
    ("docs.example.org", "/tut/", &[], 301, &[("location", "/3/tutorial/")]),
    ("docs.example.org", "/tut/tut.html", &[], 301, &[("location", "/3/tutorial/")]),
    ("docs.example.org", "/3/library", &[], 301, &[("location", "/3/library/")]),
    ("doc.example.org", "/", &[], 301, &[("location", "http://docs.example.org/"), ("cache-control", "max-age=315360000")]),
    ("doc.example.org", "/library/os.html?x=y", &[], 301, &[("location", "http://docs.example.org/library/os.html?x=y")]),
];

#[rustfmt::skip] // one row a line
const DOCS_IN_NGINX: &[Difference] = &[
    // A location that adds a field drops all those of its server.
    ("docs.example.org", "/3/", 200, &[("surrogate-control", "")]),
    ("docs.example.org", "/3/library/os.html", 200, &[("surrogate-control", "")]),
    // A redirect to the page, not the page.
    ("docs.example.org", "/3/library/os", 301, &[("location", "/3/library/os.html"), ("content-type", "text/html")]),
];

#[test]
fn docs_python() {
    let tree = Tree::new();
    write(
        &tree,
        "docs",
        "404.html robots.txt files/a.pdf 3x/a.html xx/3/a.html 3/index.html 3/404.html \
         3/library/os.html 3.14/library/os.html 2.7/index.html 2.7/library/md5.html \
         dev/index.html fr/3/library/os.html fr/3/404.html pt-br/3.14/index.html \
         zh-cn/dev/index.html",
    );
    let server = example(&tree, "docs-python");
    check("tidegate", server.address, DOCS, &[]);
    if let Some(nginx) = Peer::nginx(&tree, include_str!("other_servers/docs-python.nginx.conf")) {
        check("nginx", nginx.address, DOCS, DOCS_IN_NGINX);
    }
}

pub(super) const NAVIGATES: &str = "Accept: text/html";

#[rustfmt::skip] // one row a line
const SPA: &[Row] = &[
    ("app.example.org", "/", &[NAVIGATES], 200, &[ASKS, DENY, NOSNIFF, ANY_ORIGIN, ("content-length", "10")]),
    ("app.example.org", "/users/jane", &[NAVIGATES], 200, &[ASKS, DENY, ("content-length", "10")]),
    ("app.example.org", "/robots.txt", &[], 200, &[ASKS, ANY_ORIGIN]),
    ("app.example.org", "/static/app.0f3c9ad1be27.js", &[], 200, &[FOREVER, DENY, NOSNIFF, ANY_ORIGIN, ("content-encoding", "")]),
    ("app.example.org", "/static/app.0f3c9ad1be27.js", &["Accept-Encoding: br"], 200, &[FOREVER, ("content-encoding", "br")]),
    ("app.example.org", "/static/app.0f3c9ad1be27.js", &["Range: bytes=0-3"], 206, &[FOREVER]),
    ("app.example.org", "/static/img/logo.0f3c9ad1be27.svg", &[], 200, &[FOREVER]),
    ("app.example.org", "/static/app.0f3c9ad1be2.js", &[], 200, &[ASKS]),
    ("app.example.org", "/static/app.0F3C9AD1BE27.js", &[], 200, &[ASKS]),
    ("app.example.org", "/static/app.js", &[], 200, &[ASKS]),
    ("app.example.org", "/static/none.0f3c9ad1be27.js", &[], 404, &[NOT_KEPT]),
    ("app.example.org", "/static/", &[], 200, &[ASKS]),
    ("app.example.org", "/none.js", &[], 404, &[NOT_KEPT, DENY]),
    ("app.example.org", "/login", &[], 302, &[("location", "/account/sign-in")]),
    ("app.example.org", "/blog/a/b?c", &[], 301, &[("location", "https://blog.example.org/a/b?c")]),
];

#[rustfmt::skip] // one row a line
const SPA_IN_CADDY: &[Difference] = &[
    ("app.example.org", "/static/", 404, &[NOT_KEPT]),
    // The page of the application for whatever is missing, and fields for errors, too.
    ("app.example.org", "/none.js", 200, &[ASKS]),
    ("app.example.org", "/static/none.0f3c9ad1be27.js", 404, &[FOREVER]),
    ("app.example.org", "/blog/a/b?c", 301, &[("location", "https://blog.example.org/a/b")]),
];

#[test]
fn spa() {
    let tree = Tree::new();
    write(
        &tree,
        ".",
        "app/index.html app/404.html app/robots.txt static/app.0f3c9ad1be27.js \
         static/img/logo.0f3c9ad1be27.svg static/app.0f3c9ad1be2.js \
         static/app.0F3C9AD1BE27.js static/app.js static/app.0f3c9ad1be27.js.br",
    );
    let server = example(&tree, "spa");
    check("tidegate", server.address, SPA, &[]);
    if let Some(caddy) = Peer::caddy(&tree, include_str!("other_servers/spa.Caddyfile")) {
        check("Caddy", caddy.address, SPA, SPA_IN_CADDY);
    }
}

#[rustfmt::skip] // one row a line
const DOWNLOADS: &[Row] = &[
    ("downloads.example.org", "/", &[], 200, &[NOSNIFF, ASKS, ("content-type", "text/html; charset=utf-8")]),
    ("downloads.example.org", "/?json", &["Accept: application/json"], 200, &[("content-type", "application/json")]),
    ("downloads.example.org", "/releases/2.0/a.iso", &[], 200, &[FOREVER, NOSNIFF]),
    ("downloads.example.org", "/releases/2.0/a.iso", &["Range: bytes=-2"], 206, &[FOREVER, ("content-range", "bytes 8-9/10")]),
    ("downloads.example.org", "/releases/2.0/A.ZIP", &[], 200, &[FOREVER]),
    ("downloads.example.org", "/releases/2.0/a.tar.gz", &[], 200, &[FOREVER]),
    ("downloads.example.org", "/releases/2.0/a.sha256", &[], 200, &[NOT_KEPT, TEXT]),
    ("downloads.example.org", "/releases/2.0/a.txt", &[], 200, &[NOT_KEPT, TEXT]),
    ("downloads.example.org", "/releases/none.iso", &[], 404, &[NOT_KEPT]),
    ("downloads.example.org", "/releases/a.part", &[], 404, &[]),
    ("downloads.example.org", "/.git/config", &[], 404, &[]),
    ("downloads.example.org", "/private/a.txt", &[], 403, &[NOSNIFF]),
    ("downloads.example.org", "/PRIVATE/a.txt", &[], 403, &[]),
    ("downloads.example.org", "/private/../private/a.txt", &[], 403, &[]),
    ("downloads.example.org", "/releases/a.key", &[], 403, &[]),
    ("downloads.example.org", "/mirror/", &[], 200, &[("content-type", "text/html; charset=utf-8")]),
    ("downloads.example.org", "/mirror/b/c.iso", &[], 200, &[FOREVER]),
    ("downloads.example.org", "/latest", &[], 302, &[("location", "/releases/2.0/")]),
    ("downloads.example.org", "/old/1.0/a.iso", &[], 308, &[("location", "/releases/1.0/a.iso")]),
    ("downloads.example.org", "/releases", &[], 301, &[("location", "/releases/")]),
];

#[rustfmt::skip] // one row a line
const DOWNLOADS_IN_CADDY: &[Difference] = &[
    ("downloads.example.org", "/", 200, &[NOT_KEPT]),
    ("downloads.example.org", "/releases/none.iso", 404, &[FOREVER]),
    ("downloads.example.org", "/?json", 200, &[("content-type", "application/json; charset=utf-8")]),
    ("downloads.example.org", "/releases", 308, &[("location", "/releases/")]),
];

#[test]
fn downloads() {
    let tree = Tree::new();
    write(
        &tree,
        ".",
        "downloads/releases/2.0/a.iso downloads/releases/2.0/A.ZIP \
         downloads/releases/2.0/a.tar.gz downloads/releases/2.0/a.sha256 \
         downloads/releases/2.0/a.txt downloads/releases/a.part downloads/.git/config \
         downloads/private/a.txt downloads/releases/a.key mirror/b/c.iso",
    );
    let server = example(&tree, "downloads");
    check("tidegate", server.address, DOWNLOADS, &[]);
    if let Some(caddy) = Peer::caddy(&tree, include_str!("other_servers/downloads.Caddyfile")) {
        check("Caddy", caddy.address, DOWNLOADS, DOWNLOADS_IN_CADDY);
    }
}

const FRAMES: (&str, &str) = ("content-security-policy", "frame-ancestors 'self'");

#[rustfmt::skip] // one row a line
const GUIDE: &[Row] = &[
    ("guide.example.org", "/", &[], 302, &[("location", "/guides/start"), DENY, FRAMES]),
    ("guide.example.org", "/guides/start", &[], 200, &[DENY, FRAMES, ("content-type", "text/html; charset=utf-8")]),
    ("guide.example.org", "/guides/start.html", &[], 302, &[("location", "/guides/start")]),
    ("guide.example.org", "/guides/deep/page.html?x=y", &[], 302, &[("location", "/guides/deep/page?x=y")]),
    ("guide.example.org", "/guides/deep/", &[], 200, &[("content-type", "text/html; charset=utf-8")]),
    ("guide.example.org", "/docs/", &[], 301, &[("location", "/guides/")]),
    ("guide.example.org", "/docs/a/b", &[], 301, &[("location", "/guides/a/b")]),
    ("guide.example.org", "/blog/first", &[], 302, &[("location", "/posts/first")]),
    ("guide.example.org", "/blog/first/second", &[], 404, &[DENY]),
    ("guide.example.org", "/rust-lang.rs", &[], 301, &[("location", "/languages/rust.rs")]),
    ("guide.example.org", "/go-lang.c", &[], 301, &[("location", "/languages/go.c")]),
    ("guide.example.org", "/zig-lang.zig", &[], 404, &[]),
    ("guide.example.org", "/v2/install/", &[], 301, &[("location", "/guides/v2/install/")]),
    ("guide.example.org", "/v10/install/", &[], 404, &[]),
    ("guide.example.org", "/none", &[], 404, &[DENY]),
    ("www.guide.example.org", "/", &[], 301, &[("location", "https://guide.example.org/")]),
    ("www.guide.example.org", "/docs/a?b", &[], 301, &[("location", "https://guide.example.org/docs/a?b")]),
];

#[test]
fn guide() {
    let tree = Tree::new();
    write(
        &tree,
        "guide",
        "404.html guides/start.html guides/deep/index.htm guides/deep/page.html",
    );
    let server = example(&tree, "guide");
    check("tidegate", server.address, GUIDE, &[]);
}

const APP: &str = "Origin: https://app.example.org";
const ADMIN: &str = "Origin: https://admin.example.org";
const OTHER: &str = "Origin: https://other.example";
const FOR_APP: (&str, &str) = ("access-control-allow-origin", "https://app.example.org");
const BY_ORIGIN: (&str, &str) = ("vary", "Origin");

#[rustfmt::skip] // one row a line
const ASSETS: &[Row] = &[
    ("assets.example.org", "/app.js", &[APP], 200, &[FOR_APP, BY_ORIGIN, FOREVER, ("timing-allow-origin", "*")]),
    ("assets.example.org", "/app.js", &[ADMIN], 200, &[("access-control-allow-origin", "https://admin.example.org")]),
    ("assets.example.org", "/app.js", &[OTHER], 200, &[NO_ORIGIN, BY_ORIGIN]),
    ("assets.example.org", "/app.js", &[], 200, &[NO_ORIGIN, BY_ORIGIN]),
    ("assets.example.org", "/fonts/a.woff2", &[APP], 200, &[FOR_APP, FOREVER]),
    ("assets.example.org", "/legacy/deep/a.js", &[APP], 200, &[FOR_APP, ("cache-control", "public, max-age=3600")]),
    ("assets.example.org", "/data.json", &[APP], 200, &[FOR_APP, NOT_KEPT, ("timing-allow-origin", "")]),
    ("assets.example.org", "/none.js", &[APP], 404, &[FOR_APP, NOT_KEPT]),
    ("assets.example.org", "/a.jpg", &[], 301, &[("location", "https://images.example.org/a.jpg")]),
    ("assets.example.org", "/deep/down/b.jpeg?s=2", &[], 301, &[("location", "https://images.example.org/b.jpeg?s=2")]),
    ("assets.example.org", "/favicon.ico", &[], 302, &[("location", "/brand/favicon.ico")]),
    ("icons.example.org", "/a.svg", &[], 200, &[("content-type", "image/svg+xml")]),
    ("icons.example.org", "/app.js", &[], 404, &[]),
];

#[test]
fn shared_assets() {
    let tree = Tree::new();
    write(
        &tree,
        ".",
        "assets/404.html assets/app.js assets/fonts/a.woff2 assets/legacy/deep/a.js \
         assets/data.json assets/brand/favicon.ico icons/a.svg",
    );
    let server = example(&tree, "shared-assets");
    check("tidegate", server.address, ASSETS, &[]);
    let fields = [
        "Host: assets.example.org",
        APP,
        "Access-Control-Request-Method: GET",
        "Access-Control-Request-Headers: range",
    ];
    let preflight = Client::connect(server.address).ask("OPTIONS", "/app.js", &fields);
    assert_eq!(
        preflight.header("access-control-allow-origin"),
        Some("https://app.example.org")
    );
    assert_eq!(
        preflight.header("access-control-allow-headers"),
        Some("range")
    );
}

/// The documents show each file as it is.
#[test]
fn the_documents_quote_the_files() {
    let quotes = [
        ("from-nginx.md", "h5bp.toml", "h5bp.nginx.conf"),
        ("from-nginx.md", "mirror.toml", "mirror.nginx.conf"),
        (
            "from-nginx.md",
            "docs-python.toml",
            "docs-python.nginx.conf",
        ),
        ("from-nginx.md", "shop.toml", "shop.nginx.conf"),
        ("from-nginx.md", "blog.toml", "blog.nginx.conf"),
        ("from-caddy.md", "spa.toml", "spa.Caddyfile"),
        ("from-caddy.md", "downloads.toml", "downloads.Caddyfile"),
        ("from-caddy.md", "parks.toml", "parks.Caddyfile"),
        ("from-caddy.md", "manual.toml", "manual.Caddyfile"),
        ("from-caddy.md", "intranet.toml", "intranet.Caddyfile"),
        ("from-static-web-server.md", "guide.toml", "guide.sws.toml"),
        (
            "from-static-web-server.md",
            "dashboard.toml",
            "dashboard.sws.toml",
        ),
        ("from-static-web-server.md", "hosts.toml", "hosts.sws.toml"),
        (
            "from-static-web-server.md",
            "function.toml",
            "function.sws.toml",
        ),
        (
            "from-static-web-server.md",
            "shared-assets.toml",
            "shared-assets.sws.toml",
        ),
    ];
    for (document, example, original) in quotes {
        let text = read(&format!("docs/{document}"));
        for path in [
            format!("config/examples/{example}"),
            format!("tests/other_servers/{original}"),
        ] {
            let quote = format!("\n{}```\n", read(&path));
            assert!(
                text.contains(&quote),
                "docs/{document} does not show {path} as it is"
            );
        }
    }
    let examples = fs::read_dir(repository().join("config/examples")).expect("the examples");
    assert_eq!(
        examples.count(),
        quotes.len(),
        "each example is in a document"
    );
}

/// What the documents show in passing is right, too.
#[test]
fn the_documents_show_what_is_right() {
    let tree = Tree::new();
    for document in [
        "from-nginx.md",
        "from-caddy.md",
        "from-static-web-server.md",
    ] {
        for block in blocks(&read(&format!("docs/{document}"))) {
            let path = configuration(&tree, &whole(&block));
            let output = Launch::with(["check", "--config"]).argument(path).output();
            assert_eq!(
                output.status.code(),
                Some(0),
                "{document}: {block}\n{}",
                output.stderr
            );
        }
    }
}

/// Makes files below a directory; blanks divide their names.
pub(super) fn write(tree: &Tree, directory: &str, names: &str) {
    for name in names.split(' ') {
        tree.write(&format!("{directory}/{name}"), CONTENT.as_bytes());
    }
}

/// The blocks of TOML in a document that are for tidegate.
fn blocks(document: &str) -> Vec<String> {
    let blocks = document.split("```toml\n").skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().expect("an end").to_owned());
    let is_other = |block: &String| block.contains("[general]") || block.contains("[advanced");
    blocks.filter(|block| !is_other(block)).collect()
}

/// A block as a configuration of its own: with a site, unless it has one.
fn whole(block: &str) -> String {
    const SITE: &str = "[[site]]\nroot = \"/srv/www\"";
    let is_of_a_site = block.starts_with("[[site") || !block.starts_with('[');
    if block.contains("[[site]]") {
        block.to_owned()
    } else if is_of_a_site {
        format!("{SITE}\n{block}")
    } else {
        format!("{block}\n{SITE}\n")
    }
}

/// tidegate with one of `config/examples`, on one core and a free port.
pub(super) fn example(tree: &Tree, name: &str) -> Server {
    let text = read(&format!("config/examples/{name}.toml"));
    let path = configuration(tree, &format!("[server]\ncores = 1\n{text}"));
    Launch::with(["run", "--config"]).argument(path).start()
}

/// A file with `text`, in which `/srv` is the root of `tree`, and addresses are free ones.
fn configuration(tree: &Tree, text: &str) -> PathBuf {
    let mut changed = String::new();
    for line in text.lines() {
        let line = line.replace("\"/srv/", &format!("\"{}/", tree.root().display()));
        if let Some(root) = line.strip_prefix("root = \"") {
            fs::create_dir_all(root.trim_end_matches('"')).expect("a root");
        }
        let is_address = line.starts_with("address = ");
        let line = if is_address {
            "address = \"127.0.0.1:0\""
        } else {
            &line
        };
        writeln!(changed, "{line}").expect("a string takes it");
    }
    let path = tree.base().join("tidegate.toml");
    fs::write(&path, changed).expect("a configuration");
    path
}

#[track_caller]
pub(super) fn check(server: &str, address: SocketAddr, rows: &[Row], differences: &[Difference]) {
    let mut wrong = String::new();
    for (host, target, fields, status, headers) in rows {
        let other = differences
            .iter()
            .find(|other| (other.0, other.1) == (*host, *target));
        let (status, other) = other.map_or((*status, &[][..]), |other| (other.2, other.3));
        let response = ask(address, host, target, fields);
        let mut expect = |name: &str, got: &str, expected: &str| {
            if got != expected {
                let _ = writeln!(
                    wrong,
                    "{host}{target} {fields:?}: {name} {got:?}, not {expected:?}"
                );
            }
        };
        expect("status", &response.status.to_string(), &status.to_string());
        for (name, value) in *headers {
            let other = other.iter().find(|(other, _)| other == name);
            let value = other.map_or(*value, |(_, value)| value);
            expect(name, &field(&response, name, host), value);
        }
        for (name, value) in other {
            expect(name, &field(&response, name, host), value);
        }
    }
    assert!(wrong.is_empty(), "{server}:\n{wrong}");
}

fn ask(address: SocketAddr, host: &str, target: &str, fields: &[&str]) -> Response {
    let host = format!("Host: {host}");
    let mut all = vec![host.as_str()];
    all.extend(fields);
    Client::connect(address).get_with(target, &all)
}

/// The value of a header field; empty if the response has none. A Location on the same host is
/// cut to its path.
fn field(response: &Response, name: &str, host: &str) -> String {
    let value = response.header(name).unwrap_or_default();
    let here = value
        .strip_prefix("http://")
        .and_then(|rest| rest.strip_prefix(host));
    match (name, here) {
        ("location", Some(here)) => here[here.find('/').unwrap_or(here.len())..].to_owned(),
        _ => value.to_owned(),
    }
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[track_caller]
fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
