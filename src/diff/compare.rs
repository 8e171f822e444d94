//! Compare: two sides in, how they differ out. Pure. What a side does not know is said, and is no difference.

use std::collections::{BTreeMap, BTreeSet};

use super::model::{Diff, Layer, Pair, Phase, Probe, Probes, Programs, Pull, SCHEMA, Secrets, Section, SideKind, Sizes, State};
use super::side::{self, KINDS, Side};
use super::{files, packages};
use crate::image::ImagePath;
use crate::report::Report;
use crate::report::config::{self, Field};
use crate::report::model::{ConfigChange, FileKind};
use crate::xray::model::Secret;
use crate::xray::secrets::Finder;

/// At most so many paths of a kind of programs are told.
const LISTED: usize = 100;

/// Compares two sides in these sections.
pub fn compare(before: &Side, after: &Side, only: &[Section]) -> Diff {
    let mut diff = Diff {
        schema: SCHEMA,
        before: before.about.clone(),
        after: after.about.clone(),
        only: only.to_vec(),
        budgets: Vec::new(),
        notes: notes(before, after),
        unknown: Vec::new(),
        sizes: None,
        probes: None,
        secrets: None,
        programs: None,
        packages: None,
        files: None,
        config: None,
        layers: None,
        time: None,
    };
    for section in only {
        match section {
            Section::Sizes => diff.sizes = Some(sizes(before, after)),
            Section::Probes => diff.probes = probes(before.report.as_deref(), after.report.as_deref()),
            Section::Secrets => diff.secrets = secrets(before, after),
            Section::Programs => diff.programs = programs(before, after),
            Section::Packages => diff.packages = packages::packages(before, after),
            Section::Files => diff.files = files::files(before, after),
            Section::Config => diff.config = settings(before, after),
            Section::Layers => diff.layers = layers(before, after),
            Section::Time => diff.time = time(before, after),
        }
    }
    diff.unknown = unknown(&diff, before, after);
    diff
}

fn pair(before: Option<u64>, after: Option<u64>) -> Pair {
    Pair { before, after }
}

fn notes(before: &Side, after: &Side) -> Vec<String> {
    let mut notes = Vec::new();
    let no_layer = before.layers.as_ref().zip(after.layers.as_ref()).map(|(old, new)| !old.iter().any(|layer| new.iter().any(|other| other.diff_id == layer.diff_id)));
    let no_path = before.files.as_ref().zip(after.files.as_ref()).map(|(old, new)| !new.iter().any(|(path, file)| !file.is_dir() && old.contains_key(path)));
    match (no_layer, no_path) {
        (Some(true) | None, Some(true)) => notes.push("the two share no layer and no file path: are they of the same application?".to_owned()),
        _ if before.about.id.is_some() && before.about.id == after.about.id => notes.push("both are the same image, by its ID".to_owned()),
        _ => {}
    }
    for side in [before, after] {
        if side.about.kind == SideKind::ReportSource {
            notes.push(format!("{} has no result: compared is the original that it speaks of", side.about.given));
        }
    }
    notes
}

fn sizes(before: &Side, after: &Side) -> Sizes {
    let pull = before.layers.as_ref().zip(after.layers.as_ref()).map(|(old, new)| {
        let has: BTreeSet<&str> = old.iter().map(|layer| layer.diff_id.as_str()).collect();
        let pulled: Vec<&side::Layer> = new.iter().filter(|layer| !has.contains(layer.diff_id.as_str())).collect();
        Pull {
            layers: pulled.len() as u64,
            bytes: pulled.iter().map(|layer| layer.bytes).sum(),
            compressed_bytes: pulled.iter().map(|layer| layer.compressed).sum(),
        }
    });
    Sizes {
        size_bytes: pair(before.size, after.size),
        compressed_bytes: pair(before.compressed.map(|(bytes, _)| bytes), after.compressed.map(|(bytes, _)| bytes)),
        compressed_before: before.compressed.map(|(_, by)| by),
        compressed_after: after.compressed.map(|(_, by)| by),
        content_bytes: pair(before.content, after.content),
        files: pair(before.file_count, after.file_count),
        layers: pair(before.layer_count, after.layer_count),
        pull,
    }
}

fn layers(before: &Side, after: &Side) -> Option<Vec<Layer>> {
    let (old, new) = (before.layers.as_deref(), after.layers.as_deref());
    let (old, new) = old.zip(new)?;
    let in_it = |layers: &[side::Layer], diff_id: &str| layers.iter().any(|layer| layer.diff_id == diff_id);
    let told = |layer: &side::Layer, state| Layer {
        state,
        diff_id: layer.diff_id.clone(),
        bytes: layer.bytes,
        compressed_bytes: layer.compressed,
        made_by: layer.made_by.clone(),
    };
    let of_old = old.iter().map(|layer| told(layer, if in_it(new, &layer.diff_id) { State::Shared } else { State::Gone }));
    let of_new = new.iter().filter(|layer| !in_it(old, &layer.diff_id)).map(|layer| told(layer, State::New));
    Some(of_old.chain(of_new).collect())
}

fn programs(before: &Side, after: &Side) -> Option<Vec<Programs>> {
    let told = |(name, _): &(&'static str, _)| {
        let (old, new) = (before.programs.get(name), after.programs.get(name));
        let paths = old.and_then(|old| old.paths.as_ref()).zip(new.and_then(|new| new.paths.as_ref()));
        let more = |here: &BTreeSet<ImagePath>, there: &BTreeSet<ImagePath>| here.difference(there).take(LISTED).cloned().collect::<Vec<_>>();
        let many = ["programs", "libraries"].contains(name);
        Programs {
            name,
            count: pair(old.map(|found| found.count), new.map(|found| found.count)),
            new: paths.map(|(old, new)| more(new, old)),
            gone: paths.filter(|_| !many).map(|(old, new)| more(old, new)),
        }
    };
    let all: Vec<Programs> = KINDS.iter().map(told).collect();
    all.iter().any(|kind| kind.count != Pair::default()).then_some(all)
}

/// Settings that both know.
fn settings(before: &Side, after: &Side) -> Option<Vec<ConfigChange>> {
    if let (Some(old), Some(new)) = (&before.config, &after.config) {
        return Some(config::compare(old, new));
    }
    let known = |side: &Side, name: &str| -> Option<Field> {
        let whole = side.config.as_ref().map(|config| config.get(name).cloned().unwrap_or_else(|| super::report::text("")));
        whole.or_else(|| side.some_config.get(name).cloned())
    };
    let names: BTreeSet<&String> = before.some_config.keys().chain(after.some_config.keys()).collect();
    let both: Vec<(&String, Field, Field)> =
        names.into_iter().filter_map(|name| Some((name, known(before, name)?, known(after, name)?))).collect();
    let mut old: BTreeMap<String, Field> = both.iter().map(|(name, old, _)| ((*name).clone(), old.clone())).collect();
    let mut new: BTreeMap<String, Field> = both.into_iter().map(|(name, _, new)| (name.clone(), new)).collect();
    if let (Some(was), Some(now)) = (&before.ran, &after.ran) {
        old.extend(was.clone());
        new.extend(now.clone());
    }
    (!old.is_empty() || !new.is_empty()).then(|| config::compare(&old, &new))
}

/// By content where both sides were read, by names where only names are known.
fn secrets(before: &Side, after: &Side) -> Option<Secrets> {
    let by_content = before.secrets.as_ref().zip(after.secrets.as_ref());
    let (old, new) = match by_content {
        Some((old, new)) => (old.clone(), new.clone()),
        None => (by_names(before)?, by_names(after)?),
    };
    let key = |secret: &Secret| (secret.rule.clone(), secret.place, secret.path.clone(), secret.name.clone());
    let keys = |secrets: &[Secret]| secrets.iter().map(key).collect::<BTreeSet<_>>();
    let (of_old, of_new) = (keys(&old), keys(&new));
    let same = of_old.intersection(&of_new).count() as u64;
    let new = new.into_iter().filter(|secret| !of_old.contains(&key(secret))).collect();
    let gone = old.into_iter().filter(|secret| !of_new.contains(&key(secret))).collect();
    Some(Secrets { by_content: by_content.is_some(), new, gone, same })
}

fn by_names(side: &Side) -> Option<Vec<Secret>> {
    let files = side.files.as_ref()?;
    let mut finder = Finder::new().ok()?;
    for (path, _) in files.iter().filter(|(_, file)| file.kind == FileKind::File) {
        finder.file(path, 0, None);
    }
    let package = |path: &Option<ImagePath>| path.as_ref().and_then(|path| files.get(path)?.package.clone());
    let mut found: Vec<Secret> =
        finder.found.into_iter().map(|secret| Secret { package: package(&secret.path), layer: None, ..secret }).collect();
    found.sort();
    Some(found)
}

fn probes(before: Option<&Report>, after: Option<&Report>) -> Option<Probes> {
    let asked = |report: Option<&Report>| report.map(|report| report.probes.len() as u64);
    let passed = |report: Option<&Report>| report.map(|report| report.probes.iter().filter(|probe| probe.passed).count() as u64);
    let (asked, passed) = (pair(asked(before), asked(after)), pair(passed(before), passed(after)));
    if asked.before.unwrap_or(0) + asked.after.unwrap_or(0) == 0 {
        return None;
    }
    let mut probes = Probes { asked, passed, ..Probes::default() };
    let (Some(before), Some(after)) = (before, after) else {
        let failing = before.or(after).into_iter().flat_map(|report| &report.probes).filter(|probe| !probe.passed);
        let of_after = after.is_some();
        let failing = failing.filter(|_| of_after).map(|probe| failure(probe, false));
        return Some(Probes { failing: failing.collect(), ..probes });
    };
    let old: BTreeMap<&str, bool> = before.probes.iter().map(|probe| (probe.name.as_str(), probe.passed)).collect();
    let now: BTreeSet<&str> = after.probes.iter().map(|probe| probe.name.as_str()).collect();
    for probe in &after.probes {
        match (old.get(probe.name.as_str()), probe.passed) {
            (Some(true), false) => probes.failing.push(failure(probe, true)),
            (None, false) => probes.failing.push(failure(probe, false)),
            (Some(false), true) => probes.mended.push(probe.name.clone()),
            (None, true) => probes.new.push(probe.name.clone()),
            (Some(true), true) | (Some(false), false) => {}
        }
    }
    probes.gone = before.probes.iter().filter(|probe| !now.contains(probe.name.as_str())).map(|probe| probe.name.clone()).collect();
    Some(probes)
}

fn failure(probe: &crate::report::model::Probe, known: bool) -> Probe {
    Probe { name: probe.name.clone(), known, failure: probe.failure.clone().unwrap_or_default() }
}

fn time(before: &Side, after: &Side) -> Option<Vec<Phase>> {
    if before.phases.is_none() && after.phases.is_none() {
        return None;
    }
    let mut phases: Vec<Phase> = Vec::new();
    let both = after.phases.iter().flatten().map(|phase| (phase, false)).chain(before.phases.iter().flatten().map(|phase| (phase, true)));
    for (phase, old) in both {
        let at = phases.iter().position(|known| known.name == phase.name).unwrap_or_else(|| {
            phases.push(Phase { name: phase.name.clone(), before: None, after: None });
            phases.len() - 1
        });
        let side = if old { &mut phases[at].before } else { &mut phases[at].after };
        *side = Some(side.unwrap_or(0.0) + phase.seconds);
    }
    Some(phases)
}

/// What was asked for and is not known: a line for the side, or the two, that do not say it.
fn unknown(diff: &Diff, before: &Side, after: &Side) -> Vec<String> {
    let without = |known: fn(&Side) -> bool| {
        let names: Vec<&str> = [before, after].into_iter().filter(|side| !known(side)).map(|side| side.about.given.as_str()).collect();
        names.join(" and ")
    };
    let mut unknown: Vec<(String, String)> = Vec::new();
    let mut missing = |what: &str, whose: String| match unknown.iter_mut().find(|(known, _)| *known == whose) {
        _ if whose.is_empty() => {}
        Some((_, line)) => line.push_str(&format!("; {what}")),
        None => unknown.push((whose, what.to_owned())),
    };
    for section in &diff.only {
        match section {
            Section::Sizes => {
                missing("size", without(|side| side.size.is_some()));
                missing("compressed size", without(|side| side.compressed.is_some()));
                missing("layers, and so what a host pulls", without(|side| side.layers.is_some()));
            }
            Section::Layers if !diff.only.contains(&Section::Sizes) => missing("layers", without(|side| side.layers.is_some())),
            Section::Files => {
                missing("files", without(|side| side.files.is_some()));
                let Some(files) = &diff.files else { continue };
                let lacks = |what: &str| !files.compared.contains(&what) && files.same + files.changed.files > 0;
                if lacks("content") {
                    missing("content of files of the same size", without(|side| side.files.iter().flatten().any(|(_, file)| file.sum.is_some())));
                }
                if lacks("owner") {
                    missing("owners and capabilities of files", without(|side| side.files.iter().flatten().any(|(_, file)| file.owner.is_some())));
                }
            }
            Section::Packages => missing("packages", without(|side| side.packages.is_some())),
            Section::Secrets if diff.secrets.is_none() => missing("secrets", without(|side| side.secrets.is_some())),
            Section::Secrets if diff.secrets.as_ref().is_some_and(|secrets| !secrets.by_content) => {
                missing("secrets inside files", without(|side| side.secrets.is_some()));
            }
            Section::Config => missing("settings other than USER", without(|side| side.config.is_some())),
            Section::Programs => missing("programs", without(|side| !side.programs.is_empty())),
            Section::Secrets | Section::Layers | Section::Probes | Section::Time => {}
        }
    }
    unknown.into_iter().map(|(whose, line)| format!("{line} ({whose})")).collect()
}
