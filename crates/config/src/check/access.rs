//! `[[site.access]]`: rules about who may have which path.

use toml::Spanned;

use super::report::{Report, glob};
use crate::raw::{self, Field, List};
use crate::{Access, Clients, Glob, Paths, ValueError};

/// The keys of a rule that name its paths.
struct RawPaths {
    pattern: Field<String>,
    except: List,
    ignore_case: Field<bool>,
}

/// The paths of a rule in the section `key`; `None` if it has no pattern.
fn paths(raw: RawPaths, key: &str, offset: usize, report: &mut Report<'_>) -> Option<Paths> {
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

/// The clients of a list with their lines; refuses those that are in `others`.
fn clients(
    typed: List,
    others: &[(Clients, usize)],
    report: &mut Report<'_>,
) -> Vec<(Clients, usize)> {
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
    fn access_comes_back() {
        let text = "[[site]]\nroot = '/x'\n[[site.access]]\nmatch = '/a/**'\n\
                    except = ['/a/b']\nignore-case = true\n\
                    allow = ['10.0.0.0/8', '::1', 'unix:']\ndeny = ['all']";
        let settings = parse(text).unwrap();
        let rule = &settings.sites[0].access[0];
        assert!(rule.paths.contain(b"/A/c") && !rule.paths.contain(b"/a/B"));
        assert_eq!(parse(&settings.to_toml()), Ok(settings));
    }
}
