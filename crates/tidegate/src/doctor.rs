//! `tidegate doctor`: the host's limits and features, and tidegate's use of them.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use tidegate_config::{Settings, Source, visible};
use tidegate_server::{
    ACCESS_LOG, Finding, Verdict, file_report, host_report, listen_report, origin_report,
};

use crate::cli::DoctorArgs;
use crate::inspect;
use crate::output::{chain, print};

/// The width of the topic column.
const TOPIC: usize = 12;

/// Prints one line for each finding, or JSON; fails if the server would not start.
pub(crate) fn examine(args: &DoctorArgs) -> Result<ExitCode, Box<dyn Error>> {
    let as_json = args.json;
    let findings = findings(args)?;
    let text = if as_json {
        json(&findings)
    } else {
        findings.iter().map(line).collect()
    };
    print(&text)?;
    Ok(if findings.iter().any(is_bad) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// Those about the configuration first, if there is one.
fn findings(args: &DoctorArgs) -> Result<Vec<Finding>, Box<dyn Error>> {
    let Some(file) = args.config.named() else {
        let mut settings = Settings::for_directory(PathBuf::from("."));
        args.overrides.apply(&mut settings)?;
        return Ok(host_report(&settings));
    };
    let source = Source::read(&file)?;
    let mut settings = source.settings()?;
    args.overrides.apply(&mut settings)?;
    let found = inspect::inspect(&source, &settings)?;
    let mut findings: Vec<_> = found.iter().map(finding).collect();
    findings.extend(file_report(&settings));
    findings.push(listen_report(&settings));
    findings.extend(origin_report(&settings));
    findings.extend(host_report(&settings));
    Ok(findings)
}

/// A list with one object a line.
fn json(findings: &[Finding]) -> String {
    let objects = findings.iter().map(|finding| {
        let (grade, text) = graded(finding);
        serde_json::json!({ "topic": finding.topic, "grade": grade, "text": text }).to_string()
    });
    format!("[\n{}\n]\n", objects.collect::<Vec<_>>().join(",\n"))
}

/// The findings about the configuration, with their lines. What this user may not write is bad: the
/// report is about a server that is started as doctor is.
fn finding(found: &inspect::Found) -> Finding {
    let text = found.problem.to_string();
    let is_bad = found.is_error || found.topic == ACCESS_LOG;
    Finding {
        topic: found.topic,
        verdict: if is_bad {
            Verdict::Bad(text.into())
        } else {
            Verdict::Fair(text)
        },
    }
}

fn line(finding: &Finding) -> String {
    let (grade, text) = graded(finding);
    let text = visible(&text);
    format!("{grade:<5} {:<TOPIC$} {text}\n", finding.topic)
}

fn graded(finding: &Finding) -> (&'static str, String) {
    match &finding.verdict {
        Verdict::Good(text) => ("good", text.clone()),
        Verdict::Fair(text) => ("fair", text.clone()),
        Verdict::Bad(error) => ("bad", chain(error.as_ref())),
    }
}

fn is_bad(finding: &Finding) -> bool {
    matches!(finding.verdict, Verdict::Bad(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_grade_the_topic_and_the_text() {
        let good = Finding {
            topic: "kernel",
            verdict: Verdict::Good("6.1.0".to_owned()),
        };
        assert_eq!(line(&good), "good  kernel       6.1.0\n");
        let bad = Finding {
            topic: "certificate",
            verdict: Verdict::Bad("a.pem: is gone".into()),
        };
        assert_eq!(line(&bad), "bad   certificate  a.pem: is gone\n");
        assert!(is_bad(&bad) && !is_bad(&good));
        assert_eq!(
            json(&[good, bad]),
            "[\n{\"grade\":\"good\",\"text\":\"6.1.0\",\"topic\":\"kernel\"},\n\
             {\"grade\":\"bad\",\"text\":\"a.pem: is gone\",\"topic\":\"certificate\"}\n]\n"
        );
    }
}
