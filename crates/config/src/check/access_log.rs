//! `[access-log]` and `[site.access-log]`.

use super::report::Report;
use crate::units::Fraction;
use crate::{AccessLog, LogFormat, LogTarget, ValueError, raw};

/// The log; a key that is not set has the value of `default`.
pub(super) fn access_log(
    raw: raw::AccessLog,
    default: &AccessLog,
    report: &mut Report<'_>,
) -> AccessLog {
    let directory = report.directory_of(raw.path.as_ref());
    AccessLog {
        path: report.checked(raw.path, default.path.clone(), |text| {
            LogTarget::typed(&text, &directory)
        }),
        format: report.checked(raw.format, default.format.clone(), |text| {
            LogFormat::typed(&text)
        }),
        only: report.list(raw.only, default.only.clone(), |text, _| text.parse()),
        sample: report.checked(raw.sample, default.sample, sample),
    }
}

fn sample(Fraction(part): Fraction) -> Result<f64, ValueError> {
    if part > 0.0 && part <= 1.0 {
        return Ok(part);
    }
    Err(ValueError::new(format!(
        "{part} is outside 0 to 1: it is the part of requests with a line; path = \"\" turns the \
         log off"
    )))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use crate::check::tests::{parse, refused};
    use crate::{LogFormat, LogTarget};

    #[test]
    fn a_site_changes_what_it_names() {
        let text = "[access-log]\npath = 'logs/a.log'\nformat = 'json'\nsample = 1\n\
             [[site]]\nroot = 'x'\n\
             [[site]]\nnames = ['a']\nroot = 'x'\n[site.access-log]\npath = ''\n\
             [[site]]\nnames = ['b']\nroot = 'x'\n[site.access-log]\npath = '-'\nonly = ['4xx']\n";
        let settings = parse(text).unwrap();
        let logs: Vec<_> = settings.sites.iter().map(|site| &site.access_log).collect();
        assert_eq!(*logs[0], settings.access_log);
        let file = PathBuf::from("etc/logs/a.log");
        assert_eq!(logs[0].path, LogTarget::File(file));
        let targets = [&logs[1].path, &logs[2].path];
        assert_eq!(targets, [&LogTarget::Off, &LogTarget::Stdout]);
        assert!(logs[2].wants(404) && !logs[2].wants(200));
        let json = LogFormat::typed("json").unwrap();
        assert!(logs.iter().all(|log| log.format == json));
        assert_eq!(
            parse(&settings.to_toml()).unwrap().sites[2].access_log,
            *logs[2]
        );
    }

    #[test]
    #[rustfmt::skip] // a row a line
    fn impossible_logs() {
        let site = "[[site]]\nroot = 'x'\n";
        let rows = [
            ("sample = 0", "4: site.access-log.sample: 0 is outside 0 to 1: "),
            ("sample = 1.5", "4: site.access-log.sample: 1.5 is outside 0 to 1: "),
            ("sample = nan", "4: site.access-log.sample: NaN is outside 0 to 1: "),
            ("sample = '1%'", "4: site.access-log.sample: expected a number such as 0.01, found '1%'"),
            ("only = ['4xx', 'errors']", "4: site.access-log.only: `errors` is not a status: "),
            ("only = '4xx'", "4: site.access-log.only: expected a list, found '4xx': write ['4xx']"),
            ("format = '$remote_adr'", "4: site.access-log.format: `$remote_adr`: unknown variable; did you mean `$remote_addr`?"),
            ("format = 'combine'", "4: site.access-log.format: `combine` has no variable: "),
            ("path = 'syslog:server=x'", "4: site.access-log.path: tidegate does not speak syslog: "),
            ("path = \"a\\u0000\"", "4: site.access-log.path: a path cannot hold a NUL byte"),
        ];
        for (text, expected) in rows {
            refused(&[(&format!("{site}[site.access-log]\n{text}"), expected)]);
        }
        refused(&[("[access-log]\npath = 1\n[[site]]\nroot = 'x'", "2: access-log.path: expected a string")]);
    }
}
