//! Image: a side as its layers say it, all of them read.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, anyhow};

use super::model::{About, Measured, SideKind};
use super::side::{self, File, Layer, Package, Side};
use crate::image::{ImagePath, Tree};
use crate::pack::compressed;
use crate::report::{Redactor, config};
use crate::store::Image;
use crate::xray::{self, Seen};

/// Bytes that layers have as gzip, by their diff_id.
pub type Gzipped = BTreeMap<String, u64>;

/// Reads all of an image. Blocks. Compressed sizes are not in it yet: see [`weigh`].
///
/// # Errors
/// When it is damaged or exceeds a limit.
pub fn side(given: &str, image: &Image) -> Result<Side> {
    let seen = xray::read(image, 0)?;
    let about = About {
        given: given.to_owned(),
        kind: SideKind::Image,
        reference: given.to_owned(),
        id: Some(image.id().to_string()),
        verdict: None,
    };
    let tree = seen.stack.tree();
    let mut side = Side::new(about);
    side.size = Some(seen.stack.layers.iter().map(|layer| layer.bytes).sum());
    side.content = Some(tree.bytes());
    side.file_count = Some(tree.iter().filter(|(_, entry)| !entry.is_dir()).count() as u64);
    side.layer_count = Some(image.layers.len() as u64);
    side.layers = Some(layers(image, &seen));
    side.programs = side::programs(tree);
    side.packages = Some(packages(tree, &seen));
    side.files = Some(files(tree, &seen));
    let mut redactor = Redactor::new();
    redactor.learn_env(seen.config.env());
    side.config = Some(masked(config::settings(&seen.config, &redactor), &seen));
    side.secrets = Some(seen.secrets);
    Ok(side)
}

/// What is shown of settings, with everything masked that looked like a secret anywhere.
fn masked(mut settings: BTreeMap<String, config::Field>, seen: &Seen) -> BTreeMap<String, config::Field> {
    for field in settings.values_mut() {
        field.shown = seen.finder.masked(&field.shown);
    }
    settings
}

fn layers(image: &Image, seen: &Seen) -> Vec<Layer> {
    let made_by = |number: u64| seen.dockerfile.iter().find(|made| made.layer == Some(number)).map(|made| made.text.clone());
    let all = image.layers.iter().zip(&seen.stack.layers).zip(1..);
    let layer = |((layer, done), number): ((&crate::store::image::Layer, &xray::layers::Done), u64)| Layer {
        diff_id: layer.diff_id.to_string(),
        bytes: Some(done.bytes),
        compressed: xray::compressed(layer),
        made_by: made_by(number).unwrap_or_default(),
    };
    all.map(layer).collect()
}

fn packages(tree: &Tree, seen: &Seen) -> Vec<Package> {
    let weighed = crate::report::packages::packages(tree, &seen.packages, |_| true);
    let paths = seen.packages.iter().map(|package| {
        let all: BTreeSet<&ImagePath> = package.files.iter().chain(&package.description).collect();
        all.into_iter().filter(|path| tree.contains(path)).cloned().collect()
    });
    let package = |(package, paths): (crate::report::model::Package, BTreeSet<ImagePath>)| Package {
        system: package.system,
        name: package.name,
        version: package.version,
        files: package.files,
        bytes: package.bytes,
        of: None,
        paths: Some(paths),
    };
    weighed.into_iter().zip(paths).map(package).collect()
}

fn files(tree: &Tree, seen: &Seen) -> BTreeMap<ImagePath, File> {
    let file = |path: &ImagePath, entry: &crate::image::Entry| File {
        sum: seen.stack.origin(path).and_then(|origin| origin.sum).map(|sum| sum.to_vec()),
        package: seen.packages.owner(path).map(|package| format!("{}:{}", package.system, package.name)),
        ..File::of(entry)
    };
    tree.iter().map(|(path, entry)| (path.clone(), file(path, entry))).collect()
}

/// Fills in what the layers of a side are when they travel.
pub fn weigh(side: &mut Side, gzipped: &Gzipped) {
    let mut by = Measured::Manifest;
    for layer in side.layers.iter_mut().flatten().filter(|layer| layer.compressed.is_none()) {
        layer.compressed = gzipped.get(&layer.diff_id).copied();
        by = Measured::Gzip;
    }
    let all: Option<u64> = side.layers.iter().flatten().map(|layer| layer.compressed).sum();
    side.compressed = all.map(|bytes| (bytes, by));
}

/// Compresses each layer of which nobody says how large it is then, once, on all processors. Blocks.
///
/// # Errors
/// When a layer cannot be read, or `stop` says so.
pub fn gzipped(images: &[&Image], stop: &AtomicBool) -> Result<Gzipped> {
    let mut seen = BTreeSet::new();
    let mut todo = Vec::new();
    for image in images {
        for (index, layer) in image.layers.iter().enumerate() {
            if xray::compressed(layer).is_none() && seen.insert(layer.diff_id.to_string()) {
                todo.push((*image, index));
            }
        }
    }
    let (todo, done) = (Mutex::new(todo), Mutex::new(Ok(Gzipped::new())));
    let next = || todo.lock().ok().and_then(|mut todo| todo.pop());
    let work = || {
        while let Some((image, index)) = next() {
            let diff_id = image.layers[index].diff_id.to_string();
            let bytes = image.layer(index).and_then(|layer| {
                compressed::size(Stoppable(layer, stop)).with_context(|| format!("compress the layer {diff_id}"))
            });
            let Ok(mut done) = done.lock() else { return };
            match (done.as_mut(), bytes) {
                (Ok(sizes), Ok(bytes)) => drop(sizes.insert(diff_id, bytes)),
                (Ok(_), Err(error)) => *done = Err(error),
                (Err(_), _) => return,
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
        work();
    });
    done.into_inner().unwrap_or_else(|_| Err(anyhow!("a layer could not be compressed")))
}

/// A stream that ends with an error when it is told to.
struct Stoppable<'a, R>(R, &'a AtomicBool);

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.1.load(Ordering::Relaxed) {
            true => Err(io::Error::other("it was given up")),
            false => self.0.read(buffer),
        }
    }
}
