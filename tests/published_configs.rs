//! Further configurations of other servers, as people publish them, in the manner of
//! `from_other_servers`: applications in containers, blogs, manuals, several hosts.

use crate::from_other_servers::{
    ASKS, Difference, FOREVER, NAVIGATES, NOSNIFF, NOT_KEPT, Row, TEXT, check, example, write,
};
use crate::support::{Peer, Tree};

const SAME_ORIGIN: (&str, &str) = ("x-frame-options", "SAMEORIGIN");
const PAGE: (&str, &str) = ("content-type", "text/html; charset=utf-8");
const A_WEEK: (&str, &str) = ("cache-control", "public, max-age=604800");
const A_MONTH: (&str, &str) = ("cache-control", "public, max-age=2592000");

#[rustfmt::skip] // one row a line
const SHOP: &[Row] = &[
    ("shop.example.org", "/", &[NAVIGATES], 200, &[ASKS, SAME_ORIGIN, NOSNIFF, PAGE]),
    ("shop.example.org", "/cart/3", &[NAVIGATES], 200, &[ASKS, SAME_ORIGIN, PAGE]),
    ("shop.example.org", "/assets/app.js", &[], 200, &[FOREVER, SAME_ORIGIN, NOSNIFF, ("content-encoding", "")]),
    ("shop.example.org", "/assets/app.js", &["Accept-Encoding: gzip"], 200, &[FOREVER, ("content-encoding", "gzip"), ("vary", "Accept-Encoding")]),
    ("shop.example.org", "/assets/logo.png", &[], 200, &[FOREVER]),
    ("shop.example.org", "/assets/none.js", &[], 404, &[NOT_KEPT, NOSNIFF]),
    ("shop.example.org", "/Favicon.ICO", &[], 200, &[A_WEEK, SAME_ORIGIN]),
    ("shop.example.org", "/none.png", &[], 404, &[NOT_KEPT]),
    ("shop.example.org", "/none.js", &[], 404, &[NOT_KEPT]),
    ("shop.example.org", "/healthz", &[], 200, &[PAGE]),
    ("shop.example.org", "/.env", &[], 404, &[SAME_ORIGIN]),
    ("shop.example.org", "/.well-known/security.txt", &[], 200, &[TEXT]),
];

#[rustfmt::skip] // one row a line
const SHOP_IN_NGINX: &[Difference] = &[
    ("shop.example.org", "/none.js", 200, &[ASKS]),
    ("shop.example.org", "/healthz", 200, &[TEXT]),
    ("shop.example.org", "/.env", 403, &[]),
];

#[test]
fn shop() {
    let tree = Tree::new();
    write(
        &tree,
        "shop",
        "index.html assets/app.js assets/app.js.gz assets/logo.png Favicon.ICO .env \
         .well-known/security.txt",
    );
    let server = example(&tree, "shop");
    check("tidegate", server.address, SHOP, &[]);
    if let Some(nginx) = Peer::nginx(&tree, include_str!("other_servers/shop.nginx.conf")) {
        check("nginx", nginx.address, SHOP, SHOP_IN_NGINX);
    }
}

const ATTACHED: (&str, &str) = ("content-disposition", "attachment");

#[rustfmt::skip] // one row a line
const BLOG: &[Row] = &[
    ("blog.example.org", "/", &[], 200, &[PAGE, NOT_KEPT]),
    ("blog.example.org", "/about", &[], 200, &[PAGE]),
    ("blog.example.org", "/about.html", &[], 200, &[PAGE]),
    ("blog.example.org", "/posts/", &[], 200, &[PAGE]),
    ("blog.example.org", "/posts/first", &[], 200, &[PAGE]),
    ("blog.example.org", "/feed", &[], 301, &[("location", "/index.xml")]),
    ("blog.example.org", "/feed/", &[], 301, &[("location", "/index.xml")]),
    ("blog.example.org", "/2019/04/first/", &[], 301, &[("location", "/posts/first")]),
    ("blog.example.org", "/2019/04/first?a=b", &[], 301, &[("location", "/posts/first?a=b")]),
    ("blog.example.org", "/19/04/first", &[], 404, &[PAGE]),
    ("blog.example.org", "/drafts/next", &[], 404, &[PAGE]),
    ("blog.example.org", "/images/a.png", &[], 200, &[A_MONTH]),
    ("blog.example.org", "/posts/first.md", &[], 410, &[NOT_KEPT]),
    ("blog.example.org", "/config.toml", &[], 410, &[]),
    ("blog.example.org", "/downloads/", &[], 200, &[PAGE, ATTACHED]),
    ("blog.example.org", "/downloads/a.zip", &[], 200, &[ATTACHED]),
    ("blog.example.org", "/none", &[], 404, &[PAGE, ("content-length", "10")]),
    ("other.example.org", "/about", &[], 200, &[PAGE]),
    ("www.blog.example.org", "/about?x", &[], 301, &[("location", "http://blog.example.org/about?x")]),
];

#[test]
fn blog() {
    let tree = Tree::new();
    write(
        &tree,
        ".",
        "blog/index.html blog/about.html blog/posts/index.html blog/posts/first.html \
         blog/posts/first.md blog/config.toml blog/drafts/next.html blog/images/a.png \
         blog/404.html files/a.zip",
    );
    let server = example(&tree, "blog");
    check("tidegate", server.address, BLOG, &[]);
    if let Some(nginx) = Peer::nginx(&tree, include_str!("other_servers/blog.nginx.conf")) {
        check("nginx", nginx.address, BLOG, &[]);
    }
}

const NO_AGE: (&str, &str) = ("cache-control", "public, max-age=0, must-revalidate");

#[rustfmt::skip] // one row a line
const PARKS: &[Row] = &[
    ("parks.example.org:8080", "/", &[], 200, &[NOSNIFF, NOT_KEPT, PAGE]),
    ("parks.example.org:8080", "/visit/permits/", &[], 200, &[PAGE]),
    ("parks.example.org:8080", "/page-data/index/page-data.json", &[], 200, &[NO_AGE, NOSNIFF]),
    ("parks.example.org:8080", "/static/d/1.json", &[], 200, &[FOREVER, NOSNIFF, ("content-encoding", "")]),
    ("parks.example.org:8080", "/static/d/1.json", &["Accept-Encoding: br, gzip"], 200, &[FOREVER, ("content-encoding", "br")]),
    ("parks.example.org:8080", "/static/none.json", &[], 404, &[NOT_KEPT, NOSNIFF]),
    ("parks.example.org:8080", "/none", &[], 404, &[PAGE, ("content-length", "10")]),
    ("parks.example.org:8080", "/map", &[], 302, &[("location", "https://maps.example.org/parks")]),
    ("parks.example.org:8080", "/permits/2019/form", &[], 301, &[("location", "/visit/permits/")]),
    ("www.parks.example.org:8080", "/visit/?a=b", &[], 301, &[("location", "http://parks.example.org:8080/visit/?a=b")]),
];

#[rustfmt::skip] // one row a line
const PARKS_IN_CADDY: &[Difference] = &[
    ("parks.example.org:8080", "/static/none.json", 404, &[FOREVER]),
];

#[test]
fn parks() {
    let tree = Tree::new();
    write(
        &tree,
        "parks",
        "index.html visit/permits/index.html page-data/index/page-data.json static/d/1.json \
         static/d/1.json.br 404/index.html",
    );
    let server = example(&tree, "parks");
    check("tidegate", server.address, PARKS, &[]);
    if let Some(caddy) = Peer::caddy(&tree, include_str!("other_servers/parks.Caddyfile")) {
        check("Caddy", caddy.address, PARKS, PARKS_IN_CADDY);
    }
}

const ALL: (&str, &str) = ("x-robots-tag", "all");
const NOINDEX: (&str, &str) = ("x-robots-tag", "noindex");

#[rustfmt::skip] // one row a line
const MANUAL: &[Row] = &[
    ("manual.example.org", "/", &[], 302, &[("location", "/v2/"), ALL]),
    ("manual.example.org", "/v2/", &[], 200, &[PAGE, ALL]),
    ("manual.example.org", "/v2/install", &[], 200, &[PAGE, ALL]),
    ("manual.example.org", "/v2/install.html", &[], 200, &[PAGE]),
    ("manual.example.org", "/v1/", &[], 200, &[PAGE, NOINDEX]),
    ("manual.example.org", "/v1/book.pdf", &[], 200, &[NOINDEX, ("content-disposition", "inline")]),
    ("manual.example.org", "/latest/a/b", &[], 302, &[("location", "/v2/")]),
    ("manual.example.org", "/docs/api/list", &[], 301, &[("location", "/v2/api/list")]),
    ("manual.example.org", "/docs/API/list", &[], 404, &[ALL]),
    ("manual.example.org", "/v2/install.md", &[], 404, &[PAGE]),
    ("manual.example.org", "/_source/v2/install.txt", &[], 404, &[]),
    ("manual.example.org", "/v0/install", &[], 410, &[PAGE]),
    ("manual.example.org", "/v2/none", &[], 404, &[PAGE, ("content-length", "10")]),
];

#[rustfmt::skip] // one row a line
const MANUAL_IN_CADDY: &[Difference] = &[
    // `?` is for responses of the file server, not for errors.
    ("manual.example.org", "/docs/API/list", 404, &[("x-robots-tag", "")]),
    // `respond` has no page.
    ("manual.example.org", "/v2/install.md", 404, &[("content-type", "")]),
    ("manual.example.org", "/v0/install", 410, &[("content-type", "")]),
];

#[test]
fn manual() {
    let tree = Tree::new();
    write(
        &tree,
        "manual",
        "v2/index.html v2/install.html v2/install.md v1/README.html v1/book.pdf 404.html 410.html \
         _source/v2/install.txt",
    );
    let server = example(&tree, "manual");
    check("tidegate", server.address, MANUAL, &[]);
    if let Some(caddy) = Peer::caddy(&tree, include_str!("other_servers/manual.Caddyfile")) {
        check("Caddy", caddy.address, MANUAL, MANUAL_IN_CADDY);
    }
}

#[rustfmt::skip] // one row a line
const INTRANET: &[Row] = &[
    ("intranet.example.org", "/", &[], 302, &[("location", "/app/")]),
    ("intranet.example.org", "/app", &[], 301, &[("location", "/app/")]),
    ("intranet.example.org", "/app/", &[NAVIGATES], 200, &[ASKS, PAGE]),
    ("intranet.example.org", "/app/users/3", &[NAVIGATES], 200, &[ASKS, PAGE]),
    ("intranet.example.org", "/app/app.js", &[], 200, &[ASKS]),
    ("intranet.example.org", "/app/none.js", &[], 404, &[]),
    ("intranet.example.org", "/storybook/", &[], 200, &[PAGE, NOT_KEPT]),
    ("intranet.example.org", "/storybook/none.js", &[], 404, &[]),
    ("intranet.example.org", "/reports/", &[], 200, &[PAGE]),
    ("intranet.example.org", "/reports/2024/", &[], 200, &[PAGE]),
    ("intranet.example.org", "/reports/2024/a.csv", &[], 200, &[]),
    ("intranet.example.org", "/healthz", &[], 200, &[]),
    ("intranet.example.org", "/none.js", &[], 404, &[]),
];

#[rustfmt::skip] // one row a line
const INTRANET_IN_CADDY: &[Difference] = &[
    ("intranet.example.org", "/app", 308, &[]),
    ("intranet.example.org", "/app/none.js", 200, &[]),
    ("intranet.example.org", "/none.js", 302, &[("location", "/app/")]),
];

#[test]
fn intranet() {
    let tree = Tree::new();
    write(
        &tree,
        ".",
        "frontend/index.html frontend/app.js storybook/index.html reports/2024/a.csv",
    );
    let server = example(&tree, "intranet");
    check("tidegate", server.address, INTRANET, &[]);
    if let Some(caddy) = Peer::caddy(&tree, include_str!("other_servers/intranet.Caddyfile")) {
        check("Caddy", caddy.address, INTRANET, INTRANET_IN_CADDY);
    }
}

const REFERRER: (&str, &str) = ("referrer-policy", "strict-origin-when-cross-origin");

#[rustfmt::skip] // one row a line
const DASHBOARD: &[Row] = &[
    ("any.example.org", "/", &[NAVIGATES], 200, &[ASKS, NOSNIFF, REFERRER, PAGE]),
    ("any.example.org", "/charts/7", &[NAVIGATES], 200, &[ASKS, PAGE]),
    ("any.example.org", "/sw.js", &[], 200, &[ASKS, NOSNIFF]),
    ("any.example.org", "/assets/app.js", &["Accept-Encoding: zstd"], 200, &[FOREVER, NOSNIFF, ("content-encoding", "zstd")]),
    ("any.example.org", "/assets/deep/a.woff2", &[], 200, &[FOREVER, REFERRER]),
    ("any.example.org", "/none.js", &[], 404, &[NOT_KEPT, NOSNIFF]),
];

#[test]
fn dashboard() {
    let tree = Tree::new();
    write(
        &tree,
        "dashboard",
        "index.html sw.js assets/app.js assets/app.js.zst assets/deep/a.woff2",
    );
    let server = example(&tree, "dashboard");
    check("tidegate", server.address, DASHBOARD, &[]);
}

#[rustfmt::skip] // one row a line
const HOSTS: &[Row] = &[
    ("sales.example.org", "/", &[], 200, &[PAGE, ("content-length", "10")]),
    ("sales.example.org", "/a.png", &[], 200, &[A_MONTH]),
    ("sales.example.org", "/post.html", &[], 404, &[]),
    ("sales.example.org", "/feed", &[], 404, &[]),
    ("blog.example.org:80", "/post.html", &[], 200, &[PAGE]),
    ("blog.example.org", "/deep/a.webp", &[], 200, &[A_MONTH]),
    ("blog.example.org", "/feed", &[], 301, &[("location", "/index.xml")]),
    ("other.example.org", "/", &[], 404, &[PAGE, ("content-length", "10")]),
    ("other.example.org", "/health", &[], 200, &[TEXT, ("content-length", "10")]),
];

#[test]
fn hosts() {
    let tree = Tree::new();
    write(
        &tree,
        "hosts",
        "sales/index.html sales/a.png blog/post.html blog/deep/a.webp none/404.html none/health.txt",
    );
    let server = example(&tree, "hosts");
    check("tidegate", server.address, HOSTS, &[]);
}

const FOR_CDN: (&str, &str) = ("cdn-cache-control", "public, max-age=36000");

#[rustfmt::skip] // one row a line
const FUNCTION: &[Row] = &[
    ("f.example.org", "/", &[], 200, &[PAGE, FOR_CDN]),
    ("f.example.org", "/docs/index.html", &[], 301, &[("location", "/docs/")]),
    ("f.example.org", "/docs/", &[], 200, &[PAGE, FOR_CDN]),
    ("f.example.org", "/.hidden/a.txt", &[], 200, &[TEXT, FOR_CDN]),
    ("f.example.org", "/.env", &[], 404, &[]),
    ("f.example.org", "/docs/.env.local", &[], 404, &[]),
    ("f.example.org", "/__opr/health", &[], 200, &[TEXT, ("content-length", "10")]),
    ("f.example.org", "/link.txt", &[], 404, &[]),
    ("f.example.org", "/none", &[], 404, &[PAGE, ("content-length", "10")]),
];

#[test]
fn function() {
    let tree = Tree::new();
    write(
        &tree,
        "function",
        "index.html docs/index.html docs/.env.local .env .hidden/a.txt __opr/health.txt 404.html",
    );
    tree.link("function/link.txt", "index.html");
    let server = example(&tree, "function");
    check("tidegate", server.address, FUNCTION, &[]);
}
