//! Sarif: what a report found, for code scanning: the Static Analysis Results Interchange Format 2.1.0 (OASIS). One
//! result for each finding; what was found is in `findings`, what each kind means in `RULES`.

use std::fmt::Write;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::super::file::to_json;
use super::super::model::{Change, Report, SecretPlace, VerdictKind};
use crate::image::path::printable;
use crate::image::{ImagePath, Reference};

/// A kind of finding. Ids are for ever: alerts that somebody closed are known by them.
struct Rule {
    id: &'static str,
    level: &'static str,
    short: &'static str,
    help: &'static str,
}

const BUDGET: &str = "slim/budget-missed";
const DIFFERS: &str = "slim/answer-differs";
const PROBE: &str = "slim/probe-failed";
const MISSED: &str = "slim/path-missed";
const FAILED: &str = "slim/failed";
const FLAKY: &str = "slim/flaky";
const UNVERIFIED: &str = "slim/unverified";
const SECRET: &str = "slim/secret-present";
const SCRIPT: &str = "slim/script-program-gone";
const SHELL: &str = "slim/shell-left";
const MANAGER: &str = "slim/package-manager-left";
const SETUID: &str = "slim/setuid-left";

/// In the order of their weight.
const RULES: &[Rule] = &[
    Rule { id: BUDGET, level: "error", short: "A budget was missed, nothing is published", help: "A figure is beyond the limit that --fail-on gives. Keep less, or change the budget." },
    Rule { id: DIFFERS, level: "error", short: "The slim image answers differently", help: "The same request has another answer than from the original. The report says what was expected; keep what is missing with --include-path, or probe more of it." },
    Rule { id: PROBE, level: "error", short: "A probe fails", help: "The original image does not pass it, so nothing can be compared. Look at its log (--show-clogs), and at what the probe states." },
    Rule { id: FAILED, level: "error", short: "The build failed", help: "No image was published. The message says where it stopped." },
    Rule { id: SECRET, level: "error", short: "Something that looks like a secret is in the slim image", help: "Anybody who can pull the image can read it. Take it out of the original's build, draw it anew, and give it when the container starts." },
    Rule { id: FLAKY, level: "warning", short: "The original answers differently from run to run", help: "Nobody can say whether the slim image answers as it does. Leave out what is random, or reset its state with --before-run." },
    Rule { id: UNVERIFIED, level: "warning", short: "Nobody compared the slim image with the original", help: "It was built with --no-verify. Leave that away." },
    Rule { id: MISSED, level: "warning", short: "The slim image looks for a file that it lacks", help: "It was there in the original. Keep it with --include-path, or allow more --repair-rounds." },
    Rule { id: SCRIPT, level: "warning", short: "A script calls a program that is gone", help: "No probe made the script call it. Probe that way, or keep it with --include-script-commands." },
    Rule { id: SHELL, level: "note", short: "A shell stays", help: "Somebody who gets in can use it. It stays because the recorded run used it; `slim why` says how." },
    Rule { id: MANAGER, level: "note", short: "A package manager stays", help: "Somebody who gets in can fetch programs with it. It stays because the recorded run used it; `slim why` says how." },
    Rule { id: SETUID, level: "note", short: "A setuid or setgid file stays", help: "It runs with the rights of its owner, whoever starts it. It stays because the recorded run used it; `slim why` says how." },
];

/// One result.
struct Finding {
    rule: &'static str,
    text: String,
    /// Where in the image; `None`: it is of the image as a whole.
    path: Option<ImagePath>,
    line: Option<u64>,
    /// What stays the same when it is found again.
    key: String,
}

impl Finding {
    fn new(rule: &'static str, key: &str, text: String) -> Self {
        Self { rule, text, path: None, line: None, key: key.to_owned() }
    }

    fn at(rule: &'static str, path: &ImagePath, text: String) -> Self {
        Self { path: Some(path.clone()), ..Self::new(rule, &path.encode(), text) }
    }
}

/// The document.
pub fn sarif(report: &Report) -> String {
    let version = &report.tool.version;
    let results: Vec<Value> = findings(report).iter().map(|finding| result(report, finding)).collect();
    let driver = json!({
        "name": "slim",
        "version": version,
        "rules": RULES.iter().map(rule).collect::<Vec<_>>(),
    });
    to_json(&json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": driver},
            // Of each image the results have a list of their own.
            "automationDetails": {"id": format!("slim/{}/", printable(subject(report).as_bytes()))},
            "originalUriBaseIds": {"IMAGE": {"uri": "file:///", "description": {"text": "the root directory of the image"}}},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    }))
}

fn rule(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "name": rule.id.trim_start_matches("slim/").split('-').map(capital).collect::<String>(),
        "shortDescription": {"text": rule.short},
        "fullDescription": {"text": format!("{}. {}", rule.short, rule.help)},
        "help": {"text": rule.help},
        "defaultConfiguration": {"level": rule.level},
    })
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_ascii_uppercase().to_string() + chars.as_str()).unwrap_or_default()
}

fn result(report: &Report, finding: &Finding) -> Value {
    let index = RULES.iter().position(|rule| rule.id == finding.rule).unwrap_or_default();
    let image = image_of(report);
    // Code scanning shows nothing that has no file and line: of the image as a whole that is the image.
    let artifact = match &finding.path {
        Some(path) => json!({"uri": percent(path.relative()), "uriBaseId": "IMAGE"}),
        None => json!({"uri": percent(image.replace(':', "/").as_bytes())}),
    };
    let logical = match &finding.path {
        Some(path) => format!("{image}:{}", path.encode()),
        None => image.to_owned(),
    };
    let print = Sha256::digest(format!("{}\0{}\0{}", finding.rule, subject(report), finding.key));
    let print = print.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    });
    json!({
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": RULES[index].level,
        "message": {"text": message(&finding.text)},
        "locations": [{
            "physicalLocation": {"artifactLocation": artifact, "region": {"startLine": finding.line.unwrap_or(1).max(1)}},
            "logicalLocations": [{"fullyQualifiedName": printable(logical.as_bytes()), "kind": "resource"}],
        }],
        "partialFingerprints": {"slim/v1": print},
    })
}

/// What a report speaks of: the result's name, or the source's where there is no result.
fn image_of(report: &Report) -> &str {
    let result = report.result.as_ref().map(|result| result.reference.as_str()).filter(|name| !name.is_empty());
    result.unwrap_or(&report.source.reference)
}

/// The source without its tag: a new tag does not make old findings new.
fn subject(report: &Report) -> String {
    match Reference::parse(&report.source.reference) {
        Ok(Reference::Name(name)) => name.familiar_repository(),
        Ok(Reference::Id(_)) | Err(_) => report.source.reference.clone(),
    }
}

/// Everything that was found, in the order of the rules.
fn findings(report: &Report) -> Vec<Finding> {
    let mut found = Vec::new();
    let missed = report.budgets.iter().filter(|standing| !standing.kept);
    found.extend(missed.map(|standing| Finding::new(BUDGET, &standing.rule, standing.line.clone())));
    answers(report, &mut found);
    verdict(report, &mut found);
    secrets(report, &mut found);
    let paths = report.verify.iter().flat_map(|verify| &verify.missed);
    found.extend(paths.map(|path| Finding::at(MISSED, path, format!("the slim image looks for {} and lacks it", path.encode()))));
    for script in &report.scripts {
        for call in script.calls.iter().filter(|call| !call.kept) {
            let text = format!("{} calls {}, and {} is gone", script.path.encode(), call.name, call.path.encode());
            let key = format!("{} {}", script.path.encode(), call.path.encode());
            found.push(Finding { key, ..Finding::at(SCRIPT, &script.path, text) });
        }
    }
    if let Some(surface) = &report.surface {
        left(SHELL, "the shell", &surface.shells, &mut found);
        left(MANAGER, "the package manager", &surface.package_managers, &mut found);
        left(SETUID, "the setuid or setgid file", &surface.setuid, &mut found);
    }
    // Where one script calls one program by several names, that is one finding.
    let mut known = std::collections::BTreeSet::new();
    found.retain(|finding| known.insert((finding.rule, finding.key.clone())));
    let weight = |finding: &Finding| RULES.iter().position(|rule| rule.id == finding.rule);
    found.sort_by_key(weight);
    found
}

fn answers(report: &Report, found: &mut Vec<Finding>) {
    let differences = report.verify.as_ref().map(|verify| verify.differences.as_slice()).unwrap_or_default();
    for differs in differences {
        let text = format!("{}: {} was expected, the slim image answers {}", differs.request, differs.expected, differs.got);
        found.push(Finding::new(DIFFERS, &differs.request, text));
    }
    let told = |name: &str| differences.iter().any(|differs| differs.request == name);
    for probe in report.probes.iter().filter(|probe| !probe.passed && !told(&probe.name)) {
        let why = probe.failure.as_deref().unwrap_or("failed");
        found.push(Finding::new(PROBE, &probe.name, format!("{}: {why}", probe.name)));
    }
}

fn verdict(report: &Report, found: &mut Vec<Finding>) {
    let rule = match report.verdict.kind {
        VerdictKind::Verified => return,
        VerdictKind::Unverified => UNVERIFIED,
        VerdictKind::Flaky => FLAKY,
        VerdictKind::Failed => FAILED,
    };
    found.push(Finding::new(rule, "", report.verdict.line.clone()));
}

fn secrets(report: &Report, found: &mut Vec<Finding>) {
    for secret in report.secrets.iter().flatten().filter(|secret| secret.is_open()) {
        let name = secret.name.as_deref().unwrap_or_default();
        let place = match (&secret.path, secret.place) {
            (Some(path), _) => path.encode(),
            (None, SecretPlace::Environment) => format!("the environment variable {name}"),
            (None, SecretPlace::Label) => format!("the label {name}"),
            (None, SecretPlace::History) => "the image's history".to_owned(),
            (None, SecretPlace::File | SecretPlace::Unknown) => "the image".to_owned(),
        };
        let key = format!("{} {place}", secret.rule);
        let text = format!("{} in {place}", secret.description);
        found.push(Finding { path: secret.path.clone(), line: secret.line, ..Finding::new(SECRET, &key, text) });
    }
}

fn left(rule: &'static str, what: &str, change: &Change, found: &mut Vec<Finding>) {
    found.extend(change.left.iter().map(|path| Finding::at(rule, path, format!("{what} {} stays", path.encode()))));
}

/// A text in which nothing is a placeholder or a link (sections 3.11.5 and 3.11.6).
fn message(text: &str) -> String {
    let mut out = String::new();
    for c in printable(text.as_bytes()).chars() {
        match c {
            '{' => out.push_str("{{"),
            '}' => out.push_str("}}"),
            '[' | ']' => out.extend(['\\', c]),
            _ => out.push(c),
        }
    }
    out
}

/// Bytes as the path of a URI (RFC 3986, section 3.3).
fn percent(bytes: &[u8]) -> String {
    let mut out = String::new();
    for byte in bytes {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b'+' => out.push(char::from(*byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_a_name_is_markup() {
        assert_eq!(message("a [link](http://x) {0}\u{1b}"), "a \\[link\\](http://x) {{0}}\\u{1b}".replace("\\u{1b}", "\\u{{1b}}"));
        assert_eq!(percent(b"a b/\xff#?%:\n"), "a%20b/%FF%23%3F%25%3A%0A");
    }
}
