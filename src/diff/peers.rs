//! Peers: sides as other documents than reports of ours know them: reports of SlimToolkit (`slim.report.json` of its
//! build, profile and xray, and `creport.json`; shapes by its `pkg/report`), and what `slim xray --json` said.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::model::{About, Measured, SideKind};
use super::report::text;
use super::side::{self, File, Found, Layer, Package, Side};
use crate::image::ImagePath;
use crate::report::model::FileKind;
use crate::xray::Xray;
use crate::xray::model;

/// What its build, profile and xray say.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Command {
    r#type: String,
    target_reference: String,
    source_image: Metadata,
    original_image: String,
    original_image_size: Option<u64>,
    minified_image: String,
    minified_image_size: Option<u64>,
    container_report_name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    identity: Identity,
    size: Option<u64>,
    user: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Identity {
    id: String,
}

/// `creport.json`.
#[derive(Deserialize)]
struct Container {
    image: ContainerImage,
}

#[derive(Deserialize)]
struct ContainerImage {
    #[serde(default)]
    files: Option<Vec<Artifact>>,
}

#[derive(Deserialize)]
struct Artifact {
    file_path: String,
    #[serde(default)]
    file_type: String,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    link_ref: String,
    #[serde(default)]
    file_size: u64,
    #[serde(default)]
    sha1_hash: String,
}

/// The side that a report of SlimToolkit speaks of: the image that it made, else the one that it was given. The list
/// of its files is read from the file beside it that it names, where that is there.
///
/// # Errors
/// When it is of a shape that is not known, or says nothing of an image.
pub fn slimtoolkit(given: &str, report: Value, path: &Path) -> Result<Side> {
    let shape = || format!("{given} is a report of SlimToolkit, of a shape that is not known here");
    if report.get("monitors").is_some() && report.get("image").is_some() {
        let mut side = Side::new(about(given, String::new()));
        fill(&mut side, serde_json::from_value(report).with_context(shape)?);
        return Ok(side);
    }
    let command: Command = serde_json::from_value(report).with_context(shape)?;
    let made = command.minified_image_size.filter(|bytes| *bytes > 0);
    let source = command.source_image.size.or(command.original_image_size).filter(|bytes| *bytes > 0);
    let (reference, size) = match (made, source) {
        (Some(bytes), _) => (command.minified_image, bytes),
        (None, Some(bytes)) if !command.target_reference.is_empty() => (command.target_reference, bytes),
        (None, Some(bytes)) => (command.original_image, bytes),
        (None, None) => bail!("{given} is what SlimToolkit's `{}` reports: it has no size of an image to compare", crate::image::path::printable(command.r#type.as_bytes())),
    };
    let mut side = Side::new(about(given, reference));
    side.size = Some(size);
    if made.is_none() {
        side.about.id = Some(command.source_image.identity.id).filter(|id| !id.is_empty());
        if let Some(user) = &command.source_image.user {
            side.some_config.insert("User".to_owned(), text(user));
        }
    }
    // Only a name, never a path: a report must not make us read somewhere else.
    let name = Path::new(&command.container_report_name).file_name().filter(|_| made.is_some());
    let beside = name.map(|name| path.with_file_name(name)).filter(|beside| beside.is_file() && beside != path);
    if let Some(beside) = beside {
        let what = || format!("read {}, which {given} names", beside.display());
        let bytes = std::fs::read(&beside).with_context(what)?;
        fill(&mut side, serde_json::from_slice(&bytes).with_context(what)?);
    }
    Ok(side)
}

fn about(given: &str, reference: String) -> About {
    About { given: given.to_owned(), kind: SideKind::SlimtoolkitReport, reference, id: None, verdict: None }
}

fn fill(side: &mut Side, container: Container) {
    let files: BTreeMap<ImagePath, File> = container.image.files.unwrap_or_default().into_iter().map(file).collect();
    side.file_count = Some(files.values().filter(|file| !file.is_dir()).count() as u64);
    side.content = Some(files.values().map(|file| file.size).sum());
    let mut programs = side::programs(&side::tree(&files));
    programs.remove("capabilities");
    side.programs = programs;
    side.files = Some(files);
}

fn file(artifact: Artifact) -> (ImagePath, File) {
    let kind = match artifact.file_type.as_str() {
        "Dir" => FileKind::Directory,
        "File" => FileKind::File,
        "Symlink" => FileKind::Symlink,
        _ => FileKind::Unknown,
    };
    let file = File {
        kind,
        size: if kind == FileKind::File { artifact.file_size } else { 0 },
        mode: mode(&artifact.mode),
        owner: None,
        capabilities: None,
        sum: hex(&artifact.sha1_hash),
        target: (kind == FileKind::Symlink).then(|| artifact.link_ref.into_bytes()),
        inode: None,
        package: None,
        reason: None,
    };
    (ImagePath::new(artifact.file_path.as_bytes()), file)
}

/// Permission bits as Go writes a `FileMode`: letters for kinds and for setuid (`u`), setgid (`g`) and sticky (`t`), or
/// a hyphen; then nine for what may be done.
fn mode(text: &str) -> Option<u32> {
    let bytes = text.as_bytes();
    let (front, bits) = bytes.split_at_checked(bytes.len().checked_sub(9)?)?;
    let mut mode = 0;
    for (at, bit) in bits.iter().enumerate() {
        match (*bit, b"rwx"[at % 3]) {
            (b'-', _) => {}
            (bit, expected) if bit == expected => mode |= 0o400 >> at,
            _ => return None,
        }
    }
    for (letter, bit) in [(b'u', 0o4000), (b'g', 0o2000), (b't', 0o1000)] {
        mode |= if front.contains(&letter) { bit } else { 0 };
    }
    Some(mode)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let bytes: Option<Vec<u8>> = pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect();
    bytes.filter(|bytes| bytes.len() == 20)
}

/// The side that `slim xray --json` spoke of.
///
/// # Errors
/// When it is of another shape.
pub fn xray(given: &str, document: Value) -> Result<Side> {
    let xray: Xray = serde_json::from_value(document).with_context(|| format!("read {given}, which `slim xray` wrote"))?;
    let image = xray.image;
    let about = About { given: given.to_owned(), kind: SideKind::Xray, reference: image.reference, id: Some(image.id), verdict: None };
    let mut side = Side::new(about);
    side.size = Some(image.size_bytes);
    side.compressed = image.compressed_bytes.map(|bytes| (bytes, Measured::Manifest));
    side.content = Some(image.content_bytes);
    side.file_count = Some(image.files);
    side.layer_count = Some(image.layers);
    let layer = |layer: model::Layer| Layer { diff_id: layer.diff_id, bytes: Some(layer.bytes), compressed: layer.compressed_bytes, made_by: layer.made_by };
    side.layers = Some(xray.layers.into_iter().map(layer).collect());
    let package = |package: model::Package| Package {
        system: package.system,
        name: package.name,
        version: package.version,
        files: package.files,
        bytes: package.bytes,
        of: None,
        paths: None,
    };
    side.packages = Some(xray.packages.into_iter().map(package).collect());
    let surface = xray.surface;
    let all = [
        ("programs", surface.programs),
        ("shells", surface.shells),
        ("package managers", surface.package_managers),
        ("network clients", surface.network_clients),
        ("setuid", surface.setuid),
        ("capabilities", surface.capabilities),
        ("writable by anybody", surface.writable),
        ("compilers", surface.compilers),
        ("interpreters", surface.interpreters),
        ("libraries", surface.libraries),
    ];
    let found = |(name, found): (&'static str, model::Found)| {
        let paths: BTreeSet<ImagePath> = found.paths.into_iter().collect();
        let all = paths.len() as u64 == found.count;
        (name, Found { count: found.count, paths: all.then_some(paths) })
    };
    side.programs = all.into_iter().map(found).collect();
    side.some_config.insert("User".to_owned(), text(&image.user));
    side.secrets = Some(xray.secrets);
    Ok(side)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_read_as_go_writes_them() {
        for (text, expected) in [
            ("-rwxr-xr-x", Some(0o755)),
            ("urwxr-xr-x", Some(0o4755)),
            ("dtrwxrwxrwx", Some(0o1777)),
            ("Lrwxrwxrwx", Some(0o777)),
            ("ugrwx--x--x", Some(0o6711)),
            ("-rw-------", Some(0o600)),
            ("", None),
            ("-xrwxr-xr-", None),
        ] {
            assert_eq!(mode(text), expected, "{text}");
        }
    }
}
