//! Schema: the published one is the program's, and reports keep it.

use slim::report::model::{FileKind, Kept, Mode};
use slim::report::{Report, file, schema};

use super::{failed, verified};

const PUBLISHED: &str = "docs/report.schema.json";

fn judge(report: &Report) -> Result<(), String> {
    let schema = serde_json::from_str(&schema::schema().unwrap()).unwrap();
    let judge = jsonschema::validator_for(&schema).unwrap();
    let report = serde_json::from_str(&file::to_json(report)).unwrap();
    judge.validate(&report).map_err(|error| error.to_string())
}

#[test]
fn the_published_schema_is_the_one_that_the_program_prints() {
    let now = schema::schema().unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(PUBLISHED, &now).unwrap();
    }
    let published = std::fs::read_to_string(PUBLISHED).unwrap_or_default();
    assert!(published == now, "{PUBLISHED} is not what `slim report schema` prints; UPDATE_GOLDEN=1 writes it anew");
}

#[test]
fn reports_keep_the_schema_and_others_do_not() {
    for report in [Report::default(), verified().report, failed().report] {
        judge(&report).unwrap();
    }
    let text = file::to_json(&verified().report).replacen("\"mode\": \"0755\"", "\"mode\": 493", 1);
    let schema = serde_json::from_str(&schema::schema().unwrap()).unwrap();
    assert!(!jsonschema::is_valid(&schema, &serde_json::from_str(&text).unwrap()), "a mode is octal text");
}

#[test]
fn paths_of_any_bytes_keep_the_schema() {
    let kept = |path: &[u8]| Kept {
        path: slim::image::ImagePath::new(path),
        kind: FileKind::File,
        size: 1,
        mode: Mode(0o644),
        reasons: Vec::new(),
        more_reasons: 0,
        target: None,
        same_as: None,
        package: None,
        layer: None,
        written: false,
    };
    let paths: [&[u8]; 4] = [b"/", b"/a\\b", b"/\xff\n\x1b", "/ü\u{202e}".as_bytes()];
    judge(&Report { kept: paths.map(kept).into(), ..Report::default() }).unwrap();
}
