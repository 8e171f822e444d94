//! Views: a report in other programs' formats, read back by their own readers.

use std::fs;

use slim::report::model;
use slim::report::views::{Beside, View};

use super::{CANARY, assert_harmless, failed, golden};

#[test]
fn views_are_of_the_model_and_harmless() {
    let mut hostile = failed();
    let missed = model::Standing { rule: "shells<\u{7}".into(), kept: false, line: "shells: 2 | <b>, the limit is at most 0".into() };
    hostile.report.budgets = vec![missed, model::Standing { rule: "root".into(), kept: true, line: "user: 5, not root".into() }];
    hostile.report.verdict.line.push_str(" <script>alert(1)</script> | @all");
    for (view, name) in [(View::Markdown, "view.md"), (View::Junit, "view.xml"), (View::Csv, "view.csv")] {
        let text = view.of(&hostile.report, Beside { removed: Some(&hostile.removed), findings: &[] }).unwrap();
        assert_harmless(&text);
        assert!(!text.contains(CANARY) && (view == View::Csv || !text.contains("<script")), "{text}");
        golden(name, &text);
    }
    let page = View::Html.of(&hostile.report, Beside { removed: Some(&hostile.removed), findings: &[] }).unwrap();
    assert_harmless(&page);
    assert!(!page.contains(CANARY) && !page.contains("<script>alert"), "{page}");
}

/// Runs Python, which has readers of its own, on a text; what it prints.
fn python(code: &str, text: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), text).unwrap();
    let done = std::process::Command::new("python3").args(["-c", code]).arg(file.path()).output().expect("python3 is needed");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

#[test]
fn other_readers_find_in_the_views_what_is_in_the_report() {
    let finished = failed();
    let junit = "import sys, xml.etree.ElementTree as e\nr = e.parse(sys.argv[1]).getroot()\n\
                 cases = r.findall('testsuite/testcase'); bad = [c for c in cases if c.find('failure') is not None]\n\
                 assert (r.get('tests'), r.get('failures')) == (str(len(cases)), str(len(bad)))\n\
                 print(len(cases), len(bad))";
    let failures = finished.report.probes.iter().filter(|probe| !probe.passed).count();
    let cases = finished.report.probes.len() + 1;
    assert!(failures > 0);
    assert_eq!(python(junit, &View::Junit.of(&finished.report, Beside::default()).unwrap()), format!("{cases} {failures}"));
    let csv = "import csv, sys\nr = list(csv.DictReader(open(sys.argv[1], newline='', encoding='utf-8')))\n\
               assert all(None not in row and None not in row.values() for row in r)\n\
               print(sum(row['state'] == 'kept' for row in r), sum(row['state'] == 'removed' for row in r))";
    let counts = format!("{} {}", finished.report.kept.len(), finished.removed.len());
    assert_eq!(python(csv, &View::Csv.of(&finished.report, Beside { removed: Some(&finished.removed), findings: &[] }).unwrap()), counts);
}
