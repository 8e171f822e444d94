//! Report: a side as a report of ours knows it: its result, or its original where it has no result.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::model::{About, Measured, SideKind};
use super::side::{self, File, Found, KINDS, Layer, Package, Side};
use crate::image::ImagePath;
use crate::report::Report;
use crate::report::config::Field;
use crate::report::model::{self, Change, Image, Kept, Reason, SecretPlace, Surface};
use crate::report::why::say;
use crate::xray::model::{Place, Secret, Slimming};

/// What of the fields that older versions do not have is there: a count that is missing is not 0.
#[derive(Default, Deserialize)]
struct Present {
    packages: Option<IgnoredAny>,
    surface: Option<BTreeMap<String, IgnoredAny>>,
}

/// The side that a report speaks of. `bytes` are its text.
pub fn side(given: &str, report: Report, bytes: &[u8]) -> Side {
    let present: Present = serde_json::from_slice(bytes).unwrap_or_default();
    let (image, kind) = match &report.result {
        Some(result) => (result, SideKind::ReportResult),
        None => (&report.source, SideKind::ReportSource),
    };
    let about = About {
        given: given.to_owned(),
        kind,
        reference: image.reference.clone(),
        id: Some(image.digest.clone()).filter(|digest| !digest.is_empty()),
        verdict: Some(report.verdict.kind),
    };
    let mut side = Side::new(about);
    sizes(&mut side, image);
    if let Some(user) = &image.user {
        side.some_config.insert("User".to_owned(), text(user));
    }
    if report.result.is_some() {
        side.files = Some(files(&report));
    }
    side.programs = programs(&report, side.files.as_ref(), present.surface.as_ref());
    side.packages = present.packages.map(|_| packages(&report));
    side.secrets = secrets(&report);
    side.ran = Some(ran(&report)).filter(|ran| !ran.is_empty());
    side.phases = Some(report.phases.clone()).filter(|phases| !phases.is_empty());
    side.report = Some(Box::new(report));
    side
}

/// A setting that is a text.
pub fn text(text: &str) -> Field {
    let shown = serde_json::Value::from(text).to_string();
    Field { value: shown.clone(), shown }
}

fn sizes(side: &mut Side, image: &Image) {
    // An image that is there has at least one layer: one without figures was never looked at.
    let known = image.size_bytes > 0 || image.layers > 0 || image.files > 0;
    let figure = |figure: u64| known.then_some(figure);
    side.size = figure(image.size_bytes);
    side.content = figure(image.content_bytes).filter(|bytes| *bytes > 0 || image.size_bytes == 0);
    side.file_count = figure(image.files);
    side.layer_count = figure(image.layers);
    side.compressed = image.compressed_bytes.map(|bytes| (bytes, Measured::Report));
    let only = image.layers == 1;
    side.layers = image.layer_list.as_ref().map(|layers| {
        let layer = |layer: &crate::report::model::Layer| Layer {
            diff_id: layer.diff_id.clone(),
            bytes: Some(layer.bytes),
            compressed: image.compressed_bytes.filter(|_| only),
            made_by: String::new(),
        };
        layers.iter().map(layer).collect()
    });
}

fn files(report: &Report) -> BTreeMap<ImagePath, File> {
    let inodes: HashMap<&ImagePath, u64> = (0..).zip(&report.kept).map(|(n, kept)| (&kept.path, n)).collect();
    let shared: BTreeSet<&ImagePath> = report.kept.iter().filter_map(|kept| kept.same_as.as_ref()).collect();
    let file = |kept: &Kept| {
        let first = kept.same_as.as_ref().or_else(|| shared.get(&kept.path).copied());
        File {
            kind: kept.kind,
            size: kept.size,
            mode: Some(u32::from(kept.mode.0)),
            owner: None,
            capabilities: None,
            sum: None,
            target: kept.target.as_ref().map(|target| target.0.clone()),
            inode: first.and_then(|first| inodes.get(first).copied()),
            package: kept.package.clone(),
            reason: strongest(report, kept),
        }
    };
    report.kept.iter().map(|kept| (kept.path.clone(), file(kept))).collect()
}

fn strongest(report: &Report, kept: &Kept) -> Option<String> {
    let reason: &Reason = report.reasons.get(*kept.reasons.first()?)?;
    Some(say(reason))
}

/// Counts of the report; where all files are known, their paths too. What an older version did not count is counted
/// here, but for capabilities, which no report has of each file.
fn programs(
    report: &Report,
    files: Option<&BTreeMap<ImagePath, File>>,
    present: Option<&BTreeMap<String, IgnoredAny>>,
) -> BTreeMap<&'static str, Found> {
    let counted = report.surface.as_ref().zip(present);
    let Some(files) = files else {
        let count = |(name, change): (&'static str, &Change)| (name, Found { count: change.before, paths: None });
        return counted.map(|(surface, present)| told(surface, present).into_iter().map(count).collect()).unwrap_or_default();
    };
    let mut found = side::programs(&side::tree(files));
    found.remove("capabilities");
    if let Some((_, change)) = counted.and_then(|(surface, present)| told(surface, present).into_iter().find(|(name, _)| *name == "capabilities")) {
        let paths: BTreeSet<ImagePath> = change.left.iter().cloned().collect();
        let all = paths.len() as u64 == change.after;
        found.insert("capabilities", Found { count: change.after, paths: all.then_some(paths) });
    }
    found
}

/// The counts that are in the text of the report.
fn told<'a>(surface: &'a Surface, present: &BTreeMap<String, IgnoredAny>) -> Vec<(&'static str, &'a Change)> {
    let change = |name: &str| match name {
        "programs" => &surface.programs,
        "shells" => &surface.shells,
        "package managers" => &surface.package_managers,
        "network clients" => &surface.network_clients,
        "setuid" => &surface.setuid,
        "capabilities" => &surface.capabilities,
        "compilers" => &surface.compilers,
        "interpreters" => &surface.interpreters,
        "libraries" => &surface.libraries,
        _ => &surface.writable,
    };
    let key = |name: &str| name.split(" by ").next().unwrap_or(name).replace(' ', "_");
    KINDS.iter().filter(|(name, _)| present.contains_key(&key(name))).map(|(name, _)| (*name, change(name))).collect()
}

fn packages(report: &Report) -> Vec<Package> {
    let mut owned: BTreeMap<&str, BTreeSet<ImagePath>> = BTreeMap::new();
    for kept in &report.kept {
        if let Some(package) = &kept.package {
            owned.entry(package).or_default().insert(kept.path.clone());
        }
    }
    let of_result = report.result.is_some();
    let package = |package: &crate::report::model::Package| Package {
        system: package.system.clone(),
        name: package.name.clone(),
        version: package.version.clone(),
        files: if of_result { package.kept_files } else { package.files },
        bytes: if of_result { package.kept_bytes } else { package.bytes },
        of: Some(package.files),
        paths: owned.get(format!("{}:{}", package.system, package.name).as_str()).filter(|_| of_result).cloned(),
    };
    let stays = |package: &&crate::report::model::Package| !of_result || package.kept_files > 0;
    report.packages.iter().filter(stays).map(package).collect()
}

/// Of a result those that it has; of an original all.
fn secrets(report: &Report) -> Option<Vec<Secret>> {
    let is_there = |secret: &&model::Secret| secret.present || report.result.is_none();
    let secret = |secret: &model::Secret| Secret {
        package: secret.package.clone(),
        rule: secret.rule.clone(),
        description: secret.description.clone(),
        place: match secret.place {
            SecretPlace::File | SecretPlace::Unknown => Place::File,
            SecretPlace::Environment => Place::Environment,
            SecretPlace::History => Place::History,
            SecretPlace::Label => Place::Label,
        },
        path: secret.path.clone(),
        name: secret.name.clone(),
        line: secret.line,
        layer: None,
        gone_in: None,
        replaced: false,
        shown: String::new(),
        slimming: Slimming::default(),
    };
    report.secrets.as_ref().map(|secrets| secrets.iter().filter(is_there).map(secret).collect())
}

fn ran(report: &Report) -> BTreeMap<String, Field> {
    let target = &report.target;
    let mut ran = BTreeMap::new();
    if target.argv.is_empty() {
        return ran;
    }
    let argv = serde_json::Value::from(target.argv.clone()).to_string();
    ran.insert("Run.argv".to_owned(), Field { value: argv.clone(), shown: argv });
    ran.insert("Run.user".to_owned(), text(&target.user));
    ran.insert("Run.workdir".to_owned(), text(&target.workdir));
    for name in &target.env_names {
        ran.insert(format!("Run.env.{name}"), Field { value: "set".to_owned(), shown: "set".to_owned() });
    }
    ran
}
