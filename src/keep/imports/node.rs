//! What a name means to Node (nodejs.org/api/modules.html, "All together", and packages.html, "Package entry
//! points"): a file beside the one that names it, or a package in a `node_modules` directory above. Of conditions
//! in `exports` all that a server takes are followed.

use crate::image::tree::Follow;
use crate::image::{Entry, ImagePath};
use crate::keep::draft::Draft;

/// What may be left away at the end of a file's name.
const ENDINGS: &[&str] = &["", ".js", ".json", ".node", ".cjs", ".mjs"];

/// Modules of Node itself come first, whatever is installed under their names.
const BUILT_IN: &[&str] = &[
    "assert", "async_hooks", "buffer", "child_process", "cluster", "console", "constants", "crypto", "dgram", "dns",
    "domain", "events", "fs", "http", "http2", "https", "inspector", "module", "net", "os", "path", "perf_hooks",
    "process", "punycode", "querystring", "readline", "repl", "stream", "string_decoder", "sys", "timers", "tls",
    "trace_events", "tty", "url", "util", "v8", "vm", "wasi", "worker_threads", "zlib",
];

/// Conditions that no server meets.
const ELSEWHERE: &[&str] = &["browser", "deno", "react-native", "types", "worker"];

/// How deep `exports` may be nested.
const MAX_DEPTH: usize = 8;

/// The files that a name means, as far as the image has them.
pub(super) fn files(draft: &mut Draft<'_>, importer: &ImagePath, name: &str) -> Vec<ImagePath> {
    let Some(dir) = importer.parent() else { return Vec::new() };
    if name.starts_with('/') || name.starts_with("./") || name.starts_with("../") || [".", ".."].contains(&name) {
        return module(draft, &dir.join(name));
    }
    let mut parts = name.splitn(if name.starts_with('@') { 3 } else { 2 }, '/');
    let package = match name.starts_with('@') {
        true => [parts.next(), parts.next()].into_iter().flatten().collect::<Vec<_>>().join("/"),
        false => parts.next().unwrap_or_default().to_owned(),
    };
    if package.is_empty() || package.starts_with("node:") || BUILT_IN.contains(&package.as_str()) {
        return Vec::new();
    }
    let places = importer.ancestors().map(|above| above.join("node_modules").join(&package));
    let Some(home) = places.filter_map(|place| directory(draft, &place)).next() else { return Vec::new() };
    let mut found: Vec<ImagePath> = Some(home.child(b"package.json")).filter(|file| draft.ask.tree.contains(file)).into_iter().collect();
    found.extend(entry_points(draft, &home, parts.next()));
    found
}

fn directory(draft: &Draft<'_>, raw: &ImagePath) -> Option<ImagePath> {
    let found = draft.ask.tree.resolve(&ImagePath::root(), raw.as_bytes(), Follow::All).found?;
    draft.ask.tree.get(&found).is_some_and(Entry::is_dir).then_some(found)
}

/// LOAD_AS_FILE and LOAD_AS_DIRECTORY.
fn module(draft: &mut Draft<'_>, place: &ImagePath) -> Vec<ImagePath> {
    if let Some(file) = file(draft, place) {
        return vec![file];
    }
    let Some(dir) = directory(draft, place) else { return Vec::new() };
    let mut found = Vec::new();
    let description = dir.child(b"package.json");
    if draft.ask.tree.contains(&description) {
        found.push(description);
        if let Some(main) = manifest(draft, &dir).and_then(|json| json.get("main")?.as_str().map(str::to_owned)) {
            let main = dir.join(main);
            let file = file(draft, &main).or_else(|| file_in(draft, &main));
            found.extend(file.filter(|file| file.starts_with(&dir)));
            return found;
        }
    }
    found.extend(file_in(draft, &dir));
    found
}

fn file(draft: &Draft<'_>, place: &ImagePath) -> Option<ImagePath> {
    let parent = place.parent()?;
    let name = place.file_name()?;
    let named = |ending: &&str| parent.child(&[name, ending.as_bytes()].concat());
    let is_file = |path: &ImagePath| draft.ask.tree.get(path).is_some_and(Entry::is_file);
    ENDINGS.iter().map(named).filter_map(|path| draft.ask.tree.find(path.as_bytes())).find(is_file)
}

fn file_in(draft: &Draft<'_>, dir: &ImagePath) -> Option<ImagePath> {
    file(draft, &dir.child(b"index"))
}

fn manifest(draft: &mut Draft<'_>, dir: &ImagePath) -> Option<serde_json::Value> {
    let text = draft.text(dir.child(b"package.json").as_bytes())?;
    serde_json::from_slice(text).ok()
}

/// What a package gives to those who name it, or a part of it.
fn entry_points(draft: &mut Draft<'_>, home: &ImagePath, part: Option<&str>) -> Vec<ImagePath> {
    let exports = manifest(draft, home).and_then(|mut json| Some(json.get_mut("exports")?.take()));
    let Some(exports) = exports.filter(|exports| !exports.is_null()) else {
        return module(draft, &part.map_or(home.clone(), |part| home.join(part)));
    };
    let key = part.map_or(".".to_owned(), |part| format!("./{part}"));
    let by_path = exports.as_object().is_some_and(|map| map.keys().any(|key| key.starts_with('.')));
    let mut targets = Vec::new();
    match exports.as_object().filter(|_| by_path) {
        None if part.is_none() => leaves(&exports, 0, &mut targets),
        None => {}
        Some(map) => match map.get(&key) {
            Some(value) => leaves(value, 0, &mut targets),
            None => {
                for (pattern, value) in map {
                    let Some((before, after)) = pattern.split_once('*') else { continue };
                    let star = key.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
                    let Some(star) = star else { continue };
                    let mut with_star = Vec::new();
                    leaves(value, 0, &mut with_star);
                    targets.extend(with_star.iter().map(|target| target.replace('*', star)));
                }
            }
        },
    }
    let places = targets.iter().map(|target| home.join(target)).filter(|place| place.starts_with(home));
    places.filter_map(|place| file(draft, &place)).collect()
}

/// The targets of all conditions that a server may meet.
fn leaves(value: &serde_json::Value, depth: usize, found: &mut Vec<String>) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        serde_json::Value::String(target) => found.push(target.clone()),
        serde_json::Value::Array(all) => all.iter().for_each(|value| leaves(value, depth + 1, found)),
        serde_json::Value::Object(map) => {
            let here = map.iter().filter(|(condition, _)| !ELSEWHERE.contains(&condition.as_str()));
            here.for_each(|(_, value)| leaves(value, depth + 1, found));
        }
        _ => {}
    }
}
