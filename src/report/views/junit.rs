//! JUnit: the report as test cases, one for each answer and one for each budget, in the XML that CI servers read
//! (the schema that Jenkins and the Ant task agree on: testsuites, testsuite, testcase, failure, error).

use super::super::model::{Report, VerdictKind};
use crate::image::path::printable;

/// The document.
pub fn junit(report: &Report) -> String {
    let mut cases: Vec<String> = report
        .probes
        .iter()
        .map(|probe| case(&probe.probe, &probe.name, probe.failure.as_deref().or((!probe.passed).then_some("failed"))))
        .collect();
    let mut failures = report.probes.iter().filter(|probe| !probe.passed).count();
    for standing in &report.budgets {
        cases.push(case("budget", &standing.rule, (!standing.kept).then_some(standing.line.as_str())));
        failures += usize::from(!standing.kept);
    }
    // A verdict that no case explains, such as a build that did not get as far as a probe.
    let bad = matches!(report.verdict.kind, VerdictKind::Failed | VerdictKind::Flaky);
    if bad && failures == 0 {
        failures = 1;
        cases.push(case("slim", "verdict", Some(&report.verdict.line)));
    } else {
        cases.push(case("slim", "verdict", None));
    }
    let seconds: f64 = report.phases.iter().map(|phase| phase.seconds).sum();
    let counts = format!("tests=\"{}\" failures=\"{failures}\" errors=\"0\" time=\"{seconds:.3}\"", cases.len());
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"slim\" {counts}>\n\
         <testsuite name=\"{}\" {counts} skipped=\"0\">\n{}</testsuite>\n</testsuites>\n",
        attribute(&report.source.reference),
        cases.concat()
    )
}

fn case(class: &str, name: &str, failure: Option<&str>) -> String {
    let head = format!("<testcase classname=\"{}\" name=\"{}\"", attribute(class), attribute(name));
    match failure {
        None => format!("{head}/>\n"),
        Some(why) => format!("{head}><failure message=\"{}\"/></testcase>\n", attribute(why)),
    }
}

/// A text in an attribute's quotes. Control characters, which XML 1.0 has no way to write, are escapes by now.
fn attribute(text: &str) -> String {
    let mut out = String::new();
    for c in printable(text.as_bytes()).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // U+FFFE and U+FFFF are no characters of XML 1.0.
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
    }
    out
}
