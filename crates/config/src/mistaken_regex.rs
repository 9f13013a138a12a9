//! Detects regular expressions where a glob is expected.
//!
//! File names may contain most characters of a regular expression, and some globs look like one. So
//! only sequences that neither a name nor a glob has count as a sign.

/// Why `text` is refused, with the equivalent glob, if it is a regular expression. Only a text that
/// `is_glob` accepts is suggested.
pub(crate) fn reason(text: &str, is_glob: impl Fn(&str) -> bool) -> Option<String> {
    let sign = sign(text)?;
    let suggestion = to_glob(text).filter(|glob| self::sign(glob).is_none() && is_glob(glob));
    let write = suggestion.map(|glob| format!(": write `{}`", glob.escape_debug()));
    Some(format!(
        "`{sign}` is of regular expressions, and this is a glob, which fits the whole path{}. `**` is anything, \
         `*` anything but a slash, `{{js,css}}` either, and all capture; ignore-case = true is for (?i); \
         a backslash takes a character as it is",
        write.unwrap_or_default()
    ))
}

/// The part of `text` that shows that it is a regular expression.
fn sign(text: &str) -> Option<&'static str> {
    let text = without_escapes(text);
    if let Some(sign) = ["^", "~ ", "~* "]
        .into_iter()
        .find(|sign| text.starts_with(sign))
    {
        return Some(sign);
    }
    let sign = SIGNS.iter().find(|sign| text.contains(**sign)).copied();
    sign.or_else(|| class(&text))
        .or_else(|| group(&text))
        .or_else(|| any(&text))
        .or_else(|| end(&text))
}

/// The text with a placeholder for each escaped character, except `\.` and letters, which may be
/// signs.
fn without_escapes(text: &str) -> String {
    let mut chars = text.chars();
    let mut plain = String::new();
    while let Some(char) = chars.next() {
        match (char, (char == '\\').then(|| chars.next()).flatten()) {
            (_, Some('/')) => plain.push('/'),
            (_, Some(escaped)) if escaped == '.' || escaped.is_ascii_alphabetic() => {
                plain.extend(['\\', escaped]);
            }
            (_, Some(_)) => plain.push('_'),
            (char, None) => plain.push(char),
        }
    }
    plain
}

/// Sequences that neither names nor globs have, at any place.
const SIGNS: &[&str] = &[
    "(.*", "(.+", "(?:", "(?i)", "(?-i)", "(?=", "(?!", "(?<", "(?P<", "[^/", "[[:", "|/", "|^",
    ".*?", ".+?", r".*\.", r".+\.", r"\d", r"\D", r"\w", r"\W", r"\s", r"\S", r"\b", r"\B", r"\A",
    r"\z", r"\Z",
];

/// A repeated class: only it has a plus after a bracket, except for names like `/[ab]++`.
fn class(text: &str) -> Option<&'static str> {
    let plus = text
        .match_indices("]+")
        .any(|(at, _)| text[..at].contains('[') && !text[at + 2..].starts_with('+'));
    plus.then_some("]+")
}

/// A group: `(a|b)`, or a class as a group that is a whole segment, `/([0-9]*)`.
fn group(text: &str) -> Option<&'static str> {
    let alternatives = text.match_indices('(').any(|(at, _)| {
        let inner = text[at..].split_once(')').map(|(inner, _)| inner);
        inner.is_some_and(|inner| inner.contains('|'))
    });
    if alternatives {
        return Some("|");
    }
    let mut segments = text.trim_end_matches('$').split('/');
    let is_group = segments.any(|segment| segment.starts_with("([") && segment.ends_with(')'));
    is_group.then_some("(")
}

/// `.*` or `.+` for any text: at the start of a segment, and not followed by a character of a name,
/// which could begin with that dot. A text with `**` is a glob.
fn any(text: &str) -> Option<&'static str> {
    let find = |sign: &'static str| {
        let mut places = text.match_indices(sign);
        let is_any = places.any(|(at, _)| {
            let rest = &text[at + 2..];
            let begins = at == 0 || text[..at].ends_with(['/', '(']);
            begins && (rest.is_empty() || rest.starts_with(['/', '$', '(', ')', '[', '.', '\\']))
        });
        is_any.then_some(sign)
    };
    if text.contains("**") {
        None
    } else {
        find(".*").or_else(|| find(".+"))
    }
}

/// A dollar sign at the end, after a slash, a group, an escape or an extension: other names may end
/// in one.
fn end(text: &str) -> Option<&'static str> {
    let before = text.strip_suffix('$')?;
    let name = before.rsplit('/').next().unwrap_or(before);
    let is_repeated = before.ends_with('}') && name.contains("]{");
    let is_end = before.ends_with(['/', ')', '?']) || is_repeated || name.contains('.');
    is_end.then_some("$")
}

/// Parts of regular expressions and their glob equivalents.
const PLACES: &[(&str, &str)] = &[
    (r"\/", "/"),
    ("(?i)", ""),
    ("(?:", "("),
    ("[^/]+", "*"),
    ("[^/]*", "*"),
    (".*?", "**"),
    (".*", "**"),
    (".+", "**"),
    (r"\.", "."),
    (r"\d", "[0-9]"),
    (r"\w", "[A-Za-z0-9_]"),
    ("]+", "]{1,}"),
    ("]*", "]{0,}"),
];

/// The glob for a regular expression; `None` where it is not certain.
fn to_glob(regex: &str) -> Option<String> {
    let mut text = regex
        .trim_start_matches("~ ")
        .trim_start_matches("~* ")
        .to_owned();
    for (from, to) in PLACES {
        text = text.replace(from, to);
    }
    let is_open = !text.trim_start_matches('(').starts_with(['^', '/', '*']);
    let goes_on = text.starts_with('^') && !text.ends_with(['$', '*']);
    let text = text.trim_start_matches('^').trim_end_matches('$');
    if text.contains(['?', '+']) || [")*", "){"].iter().any(|repeated| text.contains(repeated)) {
        return None;
    }
    let [before, after] = [is_open, goes_on].map(|is_it| if is_it { "**" } else { "" });
    Some(format!("{before}{}{after}", groups_to_braces(text)?))
}

/// Turns groups of alternatives into braces; other groups are dropped, as their content captures.
fn groups_to_braces(text: &str) -> Option<String> {
    let mut glob = String::new();
    let mut open = Vec::new();
    for (at, char) in text.char_indices() {
        match char {
            '(' => {
                let has_alternatives = text[at..].split(')').next()?.contains('|');
                open.push(has_alternatives);
                glob.push_str(if has_alternatives { "{" } else { "" });
            }
            ')' => glob.push_str(if open.pop()? { "}" } else { "" }),
            '|' => glob.push(if *open.last()? { ',' } else { return None }),
            char => glob.push(char),
        }
    }
    open.is_empty().then_some(glob)
}

#[cfg(test)]
mod tests {
    use crate::Glob;

    #[test]
    #[rustfmt::skip] // a row a line
    fn regular_expressions_are_refused() {
        // The text, and the suggested glob; empty if there is none.
        let rows = [
            ("^/old/(.*)$", "/old/**"),
            (r"\.js$", "**.js"),
            ("/a/.*", "/a/**"),
            ("/(?i)foo", "/foo"),
            ("(js|css)$", "**{js,css}"),
            (r"\.(js|css)$", "**.{js,css}"),
            (r"/.*\.(?:png|jpg)$", "/**.{png,jpg}"),
            (r"\.(png|jpe?g)$", ""),
            (r"~* \.(gif|png)$", "**.{gif,png}"),
            ("~ ^/db/", "/db/**"),
            ("^/$", "/"),
            ("^/a", "/a**"),
            ("^.*$", "**"),
            (".*", "**"),
            ("/.*", "/**"),
            ("/.+", "/**"),
            ("/.*/a", "/**/a"),
            ("/(.*)", "/**"),
            ("/(.+)/x", "/**/x"),
            ("/old/(.*?)/x", "/old/**/x"),
            ("/[^/]+/x", "/*/x"),
            ("/([^/]+)/(.*)", "/*/**"),
            ("/([^/]*)", "/*"),
            (r"/\d+/x", "/[0-9]{1,}/x"),
            (r"/(\d{4})/(\d{2})", "/[0-9]{4}/[0-9]{2}"),
            (r"/v\d", "/v[0-9]"),
            (r"/\w+", "/[A-Za-z0-9_]{1,}"),
            (r"/a\s", ""),
            (r"/\bx\b", ""),
            ("/[0-9]+", "/[0-9]{1,}"),
            ("/([0-9]+)/x", "/[0-9]{1,}/x"),
            ("/([a-z]{2})/x", "/[a-z]{2}/x"),
            ("/([0-9]*)$", "/[0-9]{0,}"),
            ("/(en|de)/x", "/{en,de}/x"),
            ("^/(?:en|de)/(.*)$", "/{en,de}/**"),
            (r"^\/old\/(.*)$", "/old/**"),
            (r"\/old\/.*", "/old/**"),
            ("/index.php$", "/index.php"),
            ("/a/$", "/a/"),
            ("/[0-9]{4}$", "/[0-9]{4}"),
            ("/a(/.*)?$", ""),
            ("/a|/b", ""),
            ("/(?P<year>x)", ""),
            ("/(?!x).*", ""),
            ("/[[:digit:]]", ""),
            (r"/[^/.]+\.html", ""),
        ];
        for (text, glob) in rows {
            for ignore_case in [false, true] {
                let error = Glob::new(text, ignore_case).expect_err(text).to_string();
                assert!(error.contains("` is of regular expressions"), "{text}: {error}");
                let suggested = error.split_once(": write `").map_or("", |(_, rest)| rest);
                assert!(suggested.starts_with(glob), "{text}: {error}");
                assert_eq!(suggested.is_empty(), glob.is_empty(), "{text}: {error}");
            }
        }
    }

    #[test]
    fn names_and_globs_are_taken() {
        let texts = [
            "/a(1).txt",
            "/photo (?).jpg",
            "/photo ([0-9]).jpg",
            "/photo ([0-9]*).jpg",
            "/photo ([0-9]{1,3}).jpg",
            "/$RECYCLE.BIN/**",
            "/c++/**",
            "/[cg]++/**",
            "/.well-known/**",
            "/.git/**",
            "/.git*",
            "/.*rc",
            "**/.*",
            "**/.*/**",
            "**/.*.swp",
            "/a/.?*",
            r"/a/\.*",
            "/favicon.*",
            "/assets/**-[a-f0-9]{8}.*",
            "/app.*.js",
            "/**/*.{js,css}",
            "**.js",
            "/C$",
            "/{C,D}$",
            "/[A-Z]$",
            "/Foo$Bar.class",
            "/~user/**",
            "/a^b",
            "/^a",
            "/a|b",
            "/(a)+",
            "/a+b",
            "/a.b+c",
            "/1.2.3+build",
            r"/a\.js",
            r"/\[slug\].js",
            r"/price\$",
            r"/index.php\$",
            r"/a\+",
            r"/\(a\|b\)",
            "/[!a-z]*",
            "/[a-z]*",
            "/a?b",
            "/(group)/page",
            "/@(modal)/x",
            "/#/a",
            "/a&b;c=d",
            "/a{,.html}",
            "/a'b\"c",
            "/100% (final).pdf",
        ];
        for text in texts {
            let glob = text.parse::<Glob>();
            assert!(glob.is_ok(), "{text}: {}", glob.unwrap_err());
        }
    }
}
