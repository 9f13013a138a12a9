//! `[[site.access]]`: rules about who may have which path.

use toml::Spanned;

use super::report::{Report, glob, required};
use crate::raw::{self, Field, List};
use crate::rules::size;
use crate::{Access, Auth, Clients, Glob, KeyPlace, Pace, Paths, Signed, ValueError};

/// The realm of a rule that names none.
const DEFAULT_REALM: &str = "restricted";

/// The most keys of a rule: an old one and a new one are the usual number.
const KEYS_MAX: usize = 8;

/// Bytes in a second.
const RATE_MIN: u64 = 1 << 10;
const RATE_MAX: u64 = 1 << 40;

/// The keys of a rule that name its paths.
pub(super) struct RawPaths {
    pub(super) pattern: Field<String>,
    pub(super) except: List,
    pub(super) ignore_case: Field<bool>,
}

/// The paths of a rule in the section `key`; `None` if it has no pattern.
pub(super) fn paths(
    raw: RawPaths,
    key: &str,
    offset: usize,
    report: &mut Report<'_>,
) -> Option<Paths> {
    let ignore_case = report.checked(raw.ignore_case, false, Ok);
    let key = format!("{key}.match");
    let missing = (
        offset,
        &*key,
        "required: the paths, such as \"/private/**\"",
    );
    let pattern = glob(raw.pattern, ignore_case, missing, report);
    let except = report.list(raw.except, Vec::new(), |text, _| {
        Glob::new(&text, ignore_case)
    });
    Some(Paths {
        pattern: pattern?,
        except,
        ignore_case,
    })
}

/// The rule; `None` if it has no pattern.
pub(super) fn access(raw: Spanned<raw::Access>, report: &mut Report<'_>) -> Option<Access> {
    let offset = raw.span().start;
    let raw = raw.into_inner();
    let named = RawPaths {
        pattern: raw.pattern,
        except: raw.except,
        ignore_case: raw.ignore_case,
    };
    let paths = paths(named, "site.access", offset, report);
    let is_empty = |list: &List| list.as_ref().is_none_or(|list| list.get_ref().is_empty());
    let is_refused = report.was_refused(offset, "site.access.deny");
    if is_empty(&raw.allow) && is_empty(&raw.deny) && !is_refused {
        let reason = "nobody is named: write deny = [\"all\"], or allow and the networks";
        report.missing(offset, "site.access.allow", reason);
    }
    let allow = clients(raw.allow, &[], report);
    let deny = clients(raw.deny, &allow, report);
    Some(Access {
        paths: paths?,
        allow: allow.into_iter().map(|(clients, _)| clients).collect(),
        deny: deny.into_iter().map(|(clients, _)| clients).collect(),
    })
}

/// The rule; `None` if it lacks a pattern or a file of users.
pub(super) fn auth(raw: Spanned<raw::Auth>, report: &mut Report<'_>) -> Option<Auth> {
    let offset = raw.span().start;
    let raw = raw.into_inner();
    let named = RawPaths {
        pattern: raw.pattern,
        except: raw.except,
        ignore_case: raw.ignore_case,
    };
    let paths = paths(named, "site.auth", offset, report);
    let realm = report.checked(raw.realm, DEFAULT_REALM.to_owned(), realm);
    let reason = "required: the file of users, as `htpasswd -B` writes it";
    let users = required(raw.users, (offset, "site.auth.users", reason), report);
    let directory = report.directory_of(users.as_ref());
    let users = users.and_then(|users| {
        report.required(users, |users| match &*users {
            "" => Err(ValueError::new("empty: name the file of users")),
            users => Ok(directory.join(users)),
        })
    });
    Some(Auth {
        paths: paths?,
        realm,
        users: users?,
    })
}

/// The rule; `None` if it lacks a pattern or keys.
pub(super) fn signed(raw: Spanned<raw::Signed>, report: &mut Report<'_>) -> Option<Signed> {
    let offset = raw.span().start;
    let raw = raw.into_inner();
    let named = RawPaths {
        pattern: raw.pattern,
        except: raw.except,
        ignore_case: raw.ignore_case,
    };
    let paths = paths(named, "site.signed", offset, report);
    if raw
        .keys
        .as_ref()
        .is_none_or(|keys| keys.get_ref().is_empty())
    {
        let reason = "required: files with keys, or \"env:NAME\"";
        report.missing(offset, "site.signed.keys", reason);
    }
    let directory = report.directory(offset);
    let mut seen = Vec::new();
    let keys = report.list(raw.keys, Vec::new(), |text, _| {
        let key = match text.strip_prefix("env:") {
            _ if text.is_empty() => Err("empty: name a file with a key".to_owned()),
            Some("") => Err("`env:` names no variable".to_owned()),
            Some(name) => Ok(KeyPlace::Variable(name.to_owned())),
            None => Ok(KeyPlace::File(directory.join(&text))),
        };
        let key = key.map_err(ValueError::new)?;
        if seen.contains(&key) {
            return Err(ValueError::new(format!("`{text}` is named twice")));
        }
        if seen.len() == KEYS_MAX {
            return Err(ValueError::new(format!("more than {KEYS_MAX} keys")));
        }
        seen.push(key.clone());
        Ok(key)
    });
    Some(Signed {
        paths: paths?,
        keys,
    })
}

/// The rule; `None` if it lacks a pattern or a rate.
pub(super) fn pace(raw: Spanned<raw::Pace>, report: &mut Report<'_>) -> Option<Pace> {
    let offset = raw.span().start;
    let raw = raw.into_inner();
    let named = RawPaths {
        pattern: raw.pattern,
        except: raw.except,
        ignore_case: raw.ignore_case,
    };
    let paths = paths(named, "site.pace", offset, report);
    if raw.rate.is_none() {
        let reason = "required: bytes in a second, such as \"20m\"";
        report.missing(offset, "site.pace.rate", reason);
    }
    let rate = raw.rate.and_then(|rate| {
        let why = "it is bytes in a second on each connection";
        report.required(rate, size(RATE_MIN..=RATE_MAX, why))
    });
    Some(Pace {
        paths: paths?,
        rate: rate?,
    })
}

/// A realm that needs no escapes in a quoted string (RFC 9110, section 5.6.4).
fn realm(text: String) -> Result<String, ValueError> {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if !text.is_empty() && text.bytes().all(is_plain) {
        return Ok(text);
    }
    Err(ValueError::new(format!(
        "`{}` is not shown alike by all browsers: write some ASCII text, without quotes",
        text.escape_debug()
    )))
}

/// The clients of a list with their lines; refuses those that are in `others`.
fn clients(
    typed: List,
    others: &[(Clients, String)],
    report: &mut Report<'_>,
) -> Vec<(Clients, String)> {
    report.list(typed, Vec::new(), |text, line| {
        let clients: Clients = text.parse()?;
        match others.iter().find(|(other, _)| *other == clients) {
            None => Ok((clients, line)),
            Some((_, first)) => Err(ValueError::new(format!(
                "`{text}` is allowed already, by line {first}"
            ))),
        }
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::check::tests::{parse, refused};

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_access() {
        let rows = [
            ("deny = ['all']", "3: site.access.match: required: the paths"),
            ("match = '/a'", "3: site.access.allow: nobody is named: "),
            ("match = '/a'\nallow = []\ndeny = []", "3: site.access.allow: nobody is named: "),
            ("match = 'a'\ndeny = ['all']", "4: site.access.match: `a` is not a pattern"),
            ("match = '/a'\nexcept = ['a']\ndeny = ['all']", "5: site.access.except: `a` is not a pattern"),
            ("match = '/a'\nallow = ['10.0.0.0/8', '10.0.0.1/8']", "5: site.access.allow: `10.0.0.1/8` has bits behind its prefix: the network is 10.0.0.0/8"),
            ("match = '/a'\ndeny = [\n'10.0.0.0/8',\n'x']", "7: site.access.deny: `x` is no address and no network: "),
            ("match = '/a'\ndeny = ['10.0.0.0/33']", "5: site.access.deny: `10.0.0.0/33` is no address"),
            ("match = '/a'\nallow = ['::1']\ndeny = ['0::1']", "6: site.access.deny: `0::1` is allowed already, by line 5"),
            ("match = '/a'\nallow = ['10.0.0.1']\ndeny = ['::ffff:10.0.0.1']", "6: site.access.deny: `::ffff:10.0.0.1` is allowed already"),
            ("match = '/a'\ndeny = 'all'", "5: site.access.deny: expected a list"),
            ("match = '/a'\ndeny = ['all']\nstatus = 404", "6: site.access.status: unknown key"),
        ];
        for (text, expected) in rows {
            refused(&[(&format!("[[site]]\nroot = 'x'\n[[site.access]]\n{text}"), expected)]);
        }
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_auth() {
        let rows = [
            ("users = 'u'", "3: site.auth.match: required: the paths"),
            ("match = '/a'", "3: site.auth.users: required: the file of users"),
            ("match = '/a'\nusers = ''", "5: site.auth.users: empty: "),
            ("match = '/a'\nusers = 'u'\nrealm = ''", "6: site.auth.realm: `` is not shown alike"),
            ("match = '/a'\nusers = 'u'\nrealm = 'a\"b'", "6: site.auth.realm: `a\\\"b` is not shown alike"),
            ("match = '/a'\nusers = 'u'\nrealm = \"a\\u000d\\u000aX: y\"", "6: site.auth.realm: `a\\r\\nX: y` is not shown"),
            ("match = '/a'\nuser = 'u'", "5: site.auth.user: unknown key; write users = "),
        ];
        for (text, expected) in rows {
            refused(&[(&format!("[[site]]\nroot = 'x'\n[[site.auth]]\n{text}"), expected)]);
        }
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_signatures_and_paces() {
        let rows = [
            ("signed]]\nkeys = ['k']", "3: site.signed.match: required: the paths"),
            ("signed]]\nmatch = '/a'", "3: site.signed.keys: required: files with keys"),
            ("signed]]\nmatch = '/a'\nkeys = []", "3: site.signed.keys: required: files with keys"),
            ("signed]]\nmatch = '/a'\nkeys = ['']", "5: site.signed.keys: empty: "),
            ("signed]]\nmatch = '/a'\nkeys = ['env:']", "5: site.signed.keys: `env:` names no variable"),
            ("signed]]\nmatch = '/a'\nkeys = ['a', 'a']", "5: site.signed.keys: `a` is named twice"),
            ("signed]]\nmatch = '/a'\nkeys = ['1','2','3','4','5','6','7','8',\n'9']", "6: site.signed.keys: more than 8 keys"),
            ("pace]]\nrate = '1m'", "3: site.pace.match: required: the paths"),
            ("pace]]\nmatch = '/a'", "3: site.pace.rate: required: bytes in a second"),
            ("pace]]\nmatch = '/a'\nrate = 1023", "5: site.pace.rate: 1023 is outside 1k to 1024g: "),
            ("pace]]\nmatch = '/a'\nrate = '20mbit'", "5: site.pace.rate: "),
        ];
        for (text, expected) in rows {
            refused(&[(&format!("[[site]]\nroot = 'x'\n[[site.{text}"), expected)]);
        }
    }

    #[test]
    fn access_comes_back() {
        let text = "[[site]]\nroot = '/x'\n[[site.access]]\nmatch = '/a/**'\n\
                    except = ['/a/b']\nignore-case = true\n\
                    allow = ['10.0.0.0/8', '::1', 'unix:']\ndeny = ['all']\n\
                    [[site.auth]]\nmatch = '/**'\nusers = 'users'\n\
                    [[site.signed]]\nmatch = '/**'\nkeys = ['/k', 'env:K']\n\
                    [[site.pace]]\nmatch = '/**'\nrate = '20m'";
        let settings = parse(text).unwrap();
        let rule = &settings.sites[0].access[0];
        assert!(rule.paths.contain(b"/A/c") && !rule.paths.contain(b"/a/B"));
        assert_eq!(settings.sites[0].auth[0].users, Path::new("etc/users"));
        let text = settings.to_toml().replace("etc/users", "users");
        assert_eq!(parse(&text), Ok(settings));
    }
}
