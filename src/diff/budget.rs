//! Budget: how one side stands with `--fail-on`, the other as what it is measured against. What a side does not know
//! keeps no budget.

use super::side::Side;
use crate::gate::{Budget, Rule};
use crate::report::Report;
use crate::report::model::{Change, Image, Kept, Mode, Standing, Surface};

/// A line for each rule, in their order.
pub fn standings(rules: &[Rule], before: &Side, after: &Side) -> Vec<Standing> {
    let (old, new) = (report(before, None), report(after, before.size));
    let nothing = Report::default();
    let standing = |rule: &Rule| {
        let of = |side: &Side, report: &Report| if knows(side, rule) { report.clone() } else { nothing.clone() };
        let budget = Budget { rules: vec![rule.clone()], baseline: Some(Box::new(of(before, &old))) };
        budget.check(&of(after, &new))
    };
    rules.iter().flat_map(standing).collect()
}

/// Whether a side knows what a rule asks for.
fn knows(side: &Side, rule: &Rule) -> bool {
    let name = rule.text.split(['>', '<', ':']).next().unwrap_or_default().trim();
    match name {
        "path" => side.files.is_some(),
        "package" | "packages" => side.packages.is_some() && side.files.is_some(),
        "size" | "reduction" => side.size.is_some(),
        "files" => side.file_count.is_some(),
        "layers" => side.layer_count.is_some(),
        "programs" | "shells" | "setuid" => side.programs.contains_key(name),
        "package-managers" => side.programs.contains_key("package managers"),
        "network-clients" => side.programs.contains_key("network clients"),
        // These are an option each, which says itself when it is not known.
        _ => true,
    }
}

/// A side as a report: its own, or one with what is known. `source` is the size that a reduction is measured against,
/// where the side has no report that says one.
fn report(side: &Side, source: Option<u64>) -> Report {
    let of_result = side.report.as_ref().filter(|report| report.result.is_some());
    if let Some(report) = of_result {
        return (**report).clone();
    }
    let user = side.config.as_ref().map(|config| config.get("User").map(|user| user.value.clone()).unwrap_or_default());
    let user = user.or_else(|| side.some_config.get("User").map(|user| user.value.clone()));
    let user = user.map(|json| serde_json::from_str(&json).unwrap_or_default());
    let result = Image {
        reference: side.about.reference.clone(),
        size_bytes: side.size.unwrap_or(0),
        compressed_bytes: side.compressed.map(|(bytes, _)| bytes),
        files: side.file_count.unwrap_or(0),
        layers: side.layer_count.unwrap_or(0),
        user,
        ..Image::default()
    };
    let count = |name: &str| Change { after: side.programs.get(name).map_or(0, |found| found.count), ..Change::default() };
    let surface = Surface {
        programs: count("programs"),
        shells: count("shells"),
        package_managers: count("package managers"),
        network_clients: count("network clients"),
        setuid: count("setuid"),
        libraries: count("libraries"),
        compilers: count("compilers"),
        interpreters: count("interpreters"),
        capabilities: count("capabilities"),
        writable: count("writable by anybody"),
    };
    let kept = side.files.iter().flatten().map(|(path, file)| Kept {
        path: path.clone(),
        kind: file.kind,
        size: file.size,
        mode: Mode(file.mode.unwrap_or(0) as u16),
        reasons: Vec::new(),
        more_reasons: 0,
        target: None,
        same_as: None,
        package: file.package.clone(),
        layer: None,
        written: false,
    });
    Report {
        source: Image { size_bytes: source.unwrap_or(0), ..Image::default() },
        result: Some(result),
        surface: Some(surface),
        kept: kept.collect(),
        ..Report::default()
    }
}
