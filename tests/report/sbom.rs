//! Sbom: bills of materials and OpenVEX documents of a report, read by the formats' own validators (in SLIM_TEST_SBOM, a
//! directory of Python packages: cyclonedx-python-lib with its schemas, spdx-tools) and by trivy.

use std::fs;
use std::process::Command;

use serde_json::Value;
use slim::report::bom::Bom;
use slim::report::model::{Embedded, Image, Package};
use slim::report::scan::Finding;
use slim::report::views::{Beside, View};
use slim::report::{Finished, Report};

use super::{CANARY, assert_harmless, failed, verified};

const HOSTILE: &str = "gpj\u{202e}\"\\<>&\u{1b}[31m";

/// A report with packages whole, in part and gone, one with a hostile name, and a module in a file.
fn with_packages() -> Finished {
    let mut finished = verified();
    let one = |name: &str, kept_files: u64| Package {
        system: "python".to_owned(),
        name: name.to_owned(),
        version: "1.0".to_owned(),
        files: 2,
        kept_files,
        purl: Some(format!("pkg:pypi/{}@1.0", name.len())),
        present: Some(kept_files > 0),
        ..Package::default()
    };
    let report = &mut finished.report;
    report.packages = vec![one("whole", 2), one("inpart", 1), one("gone", 0), one(HOSTILE, 1)];
    report.embedded = vec![Embedded {
        path: "/app".into(),
        language: "go".to_owned(),
        name: "stdlib".to_owned(),
        version: "v1.22".to_owned(),
        purl: Some("pkg:golang/stdlib@v1.22".to_owned()),
        within: None,
        kept: true,
    }];
    report.created = Some("2026-11-23T20:43:00.5Z".to_owned());
    let result = report.result.clone().unwrap_or_default();
    report.result = Some(Image { digest: format!("sha256:{}", "a".repeat(64)), reference: "shop.slim:1".to_owned(), ..result });
    finished
}

fn scan() -> Vec<Finding> {
    let found = |id: &str, name: &str| Finding { id: id.to_owned(), purl: format!("pkg:pypi/{}@1.0?x=y", name.len()) };
    vec![found("CVE-1", "gone"), found("CVE-2", "inpart"), found("CVE-3", "whole"), found("CVE-4", "none of them")]
}

fn view(view: View, report: &Report) -> String {
    view.of(report, Beside { removed: None, findings: &scan() }).unwrap()
}

const VIEWS: [View; 3] = [View::Cyclonedx, View::Spdx, View::Openvex];

#[test]
fn bills_of_materials_are_harmless_and_the_same_each_time() {
    let finished = with_packages();
    for format in VIEWS {
        let text = view(format, &finished.report);
        assert_harmless(&text);
        assert!(!text.contains(CANARY), "{text}");
        assert_eq!(text, view(format, &with_packages().report));
    }
    assert_harmless(&view(View::Cyclonedx, &failed().report));
}

#[test]
fn a_bill_says_which_packages_are_there_whole_or_in_part() {
    let document: Value = serde_json::from_str(&view(View::Cyclonedx, &with_packages().report)).unwrap();
    let parts = document["components"].as_array().unwrap().iter().filter(|one| one["type"] == "library");
    let told: Vec<(&str, &str)> = parts
        .map(|one| {
            let properties = one["properties"].as_array().unwrap();
            let whole = properties.iter().find(|property| property["name"] == "slim:whole");
            (one["name"].as_str().unwrap(), whole.map_or("", |whole| whole["value"].as_str().unwrap()))
        })
        .collect();
    assert_eq!(told, [("stdlib", ""), (HOSTILE, "false"), ("inpart", "false"), ("whole", "true")]);
}

#[test]
fn only_vulnerabilities_of_packages_that_are_gone_are_stated_and_they_are_bound_to_the_result() {
    let report = with_packages().report;
    let document: Value = serde_json::from_str(&view(View::Openvex, &report)).unwrap();
    let [statement] = &document["statements"].as_array().unwrap()[..] else { panic!("{document}") };
    assert_eq!((&statement["vulnerability"]["name"], &statement["status"]), (&"CVE-1".into(), &"not_affected".into()));
    let product = &statement["products"][0];
    assert_eq!(product["hashes"]["sha-256"], "a".repeat(64));
    assert_eq!(product["@id"], format!("pkg:docker/shop.slim@sha256:{}", "a".repeat(64)));
    assert_eq!(product["subcomponents"][0]["@id"], "pkg:pypi/4@1.0?x=y");
    let nothing = Beside { removed: None, findings: &scan()[1..] };
    assert_eq!(View::Openvex.of(&report, nothing), None);
    assert_eq!(View::Openvex.of(&Report { result: None, ..report }, Beside { removed: None, findings: &scan() }), None);
}

#[test]
fn an_old_report_says_what_it_does_not_know() {
    let mut report = with_packages().report;
    report.packages.iter_mut().for_each(|one| (one.purl, one.present) = (None, None));
    let bom = Bom::of_report(&report);
    assert!(bom.notes[0].contains("no package URLs"), "{:?}", bom.notes);
    assert_eq!(bom.components.iter().filter(|one| one.system == "python").count(), 3);
}

/// Validates strictly against the published schema, and by the specification's own rules.
const VALIDATE: &str = "
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.json.json_parser import parse_from_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1], encoding='utf-8').read())
assert wrong is None, wrong
wrong = [message.validation_message for message in validate_full_spdx_document(parse_from_file(sys.argv[2]))]
assert not wrong, wrong
";

#[test]
#[ignore = "needs the formats' validators in SLIM_TEST_SBOM: tests/run installs them"]
fn bills_of_materials_are_valid_by_their_official_schemas() {
    let packages = std::env::var_os("SLIM_TEST_SBOM").expect("set SLIM_TEST_SBOM to the directory of the validators");
    for finished in [with_packages(), failed()] {
        let dir = tempfile::tempdir().unwrap();
        let (cyclonedx, spdx) = (dir.path().join("bom.cdx.json"), dir.path().join("bom.spdx.json"));
        fs::write(&cyclonedx, view(View::Cyclonedx, &finished.report)).unwrap();
        fs::write(&spdx, view(View::Spdx, &finished.report)).unwrap();
        let done = Command::new("python3").env("PYTHONPATH", &packages).args(["-c", VALIDATE]).arg(&cyclonedx).arg(&spdx).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

#[test]
#[ignore = "needs trivy in SLIM_TEST_TRIVY: tests/run installs it"]
fn trivy_reads_the_statements_and_the_bill() {
    let report = with_packages().report;
    let dir = tempfile::tempdir().unwrap();
    let (bill, statements) = (dir.path().join("bom.json"), dir.path().join("vex.json"));
    fs::write(&bill, view(View::Cyclonedx, &report)).unwrap();
    let read = |text: &str| {
        fs::write(&statements, text).unwrap();
        let trivy = std::env::var_os("SLIM_TEST_TRIVY").expect("set SLIM_TEST_TRIVY to the trivy executable");
        let mut scan = Command::new(trivy);
        scan.args(["sbom", "--quiet", "--offline-scan", "--skip-db-update", "--skip-java-db-update", "--scanners", "license"]);
        scan.args(["--list-all-pkgs", "--format", "json", "--vex"]).arg(&statements).arg("--cache-dir").arg(dir.path().join("cache"));
        scan.arg(&bill).output().unwrap()
    };
    let done = read(&view(View::Openvex, &report));
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let found: Value = serde_json::from_slice(&done.stdout).unwrap();
    let packages: usize = found["Results"].as_array().unwrap().iter().filter_map(|one| one["Packages"].as_array()).map(Vec::len).sum();
    assert_eq!(packages, 4, "{found}");
    assert!(!read("{}").status.success(), "what is no document of statements is refused");
}
