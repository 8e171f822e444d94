//! Cache: what the embedded engine keeps on this machine, seen as a list, and made smaller without taking anything
//! from a build that is running.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use nix::fcntl::FlockArg;
use serde::{Serialize, Serializer};

use super::images::{Images, lock};
use super::plan::IdMaps;
use super::{ids, inside, sweep_dead};
use crate::exit::Hint;
use crate::image::ImageConfig;
use crate::store::LayerCache;
use crate::store::cache::size;
use crate::store::unpack::Form;

/// Name and major version of the document that [`Listing::to_json`] writes.
const SCHEMA: &str = "slim.cache/1";

/// Where layers are, below the cache directory: of root, of a user with ranges of ids, of a user with one.
const LAYERS: [(&str, Form); 3] = [("layers", Form::Root), ("layers-user", Form::User), ("one-id/layers-user", Form::User)];

/// What one thing in the cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// What one process has at work.
    Run,
    /// What a killed process left of a layer.
    Leftover,
    /// An image: its config, its names.
    Image,
    /// An unpacked layer.
    Layer,
}

impl Kind {
    /// In one word, for one and for several.
    pub fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Layer => ("layer", "layers"),
            Self::Image => ("image", "images"),
            Self::Run => ("run", "runs"),
            Self::Leftover => ("leftover", "leftovers"),
        }
    }
}

/// Why something stays.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Held {
    /// A running build uses it.
    Running,
    /// It is, or belongs to, an image with this name.
    Named(String),
}

/// One thing in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// What it is.
    pub kind: Kind,
    /// The diff_id of a layer, the ID of an image, the name of a run.
    pub name: String,
    /// What its files hold; of an image its own documents, for the layers stand beside it.
    pub bytes: u64,
    /// Seconds since 1970 when it was last used.
    #[serde(serialize_with = "seconds")]
    pub used: SystemTime,
    /// Why it stays; `None` when it may go.
    pub held: Option<Held>,
    #[serde(skip)]
    path: PathBuf,
}

/// What is in the cache.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing {
    schema: &'static str,
    /// The cache directory.
    pub dir: PathBuf,
    /// The least recently used first.
    pub items: Vec<Item>,
}

/// What may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Only what was not used for this long; `None`: however new.
    pub older_than: Option<Duration>,
    /// Only as much as brings the cache down to this; `None`: all.
    pub max_size: Option<u64>,
    /// Images that have a name, too.
    pub named: bool,
}

impl Listing {
    /// What is in a cache directory, which need not be there.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(dir: &Path) -> Result<Self> {
        let read = || -> Result<Vec<Item>> {
            let mut items = runs(dir)?;
            let (images, needed) = images(dir)?;
            items.extend(images);
            items.extend(layers(dir, &needed)?);
            // Layers are used no earlier than their images, which so go before them.
            items.sort_by(|a, b| (a.used, a.kind, &a.name).cmp(&(b.used, b.kind, &b.name)));
            Ok(items)
        };
        let hint = || Hint::new("name another directory with SLIM_CACHE_DIR, or ask as the user that it belongs to");
        Ok(Self { schema: SCHEMA, dir: dir.to_owned(), items: read().with_context(hint)? })
    }

    /// The document for other programs, in one line.
    ///
    /// # Errors
    /// None that is known.
    pub fn to_json(&self) -> Result<String> {
        Ok(format!("{}\n", serde_json::to_string(self)?))
    }

    /// All bytes.
    pub fn bytes(&self) -> u64 {
        self.items.iter().map(|item| item.bytes).sum()
    }

    /// What these limits let go, the least recently used first.
    pub fn going(&self, limits: Limits, now: SystemTime) -> Vec<&Item> {
        let old = |item: &&Item| limits.older_than.is_none_or(|age| now.duration_since(item.used).unwrap_or_default() >= age);
        let mut left = self.bytes();
        let too_much = |item: &&Item| {
            let over = limits.max_size.is_none_or(|size| left > size);
            left -= if over { item.bytes } else { 0 };
            over
        };
        let free = |item: &&Item| match &item.held {
            None => true,
            Some(Held::Named(_)) => limits.named,
            Some(Held::Running) => false,
        };
        self.items.iter().filter(free).filter(old).filter(too_much).collect()
    }
}

/// Makes a cache smaller; gives what went, and what is there now. What a build begins to use meanwhile stays.
///
/// # Errors
/// When the cache cannot be read, or something in it not be removed.
pub fn prune(dir: &Path, limits: Limits) -> Result<(Listing, Listing)> {
    let before = Listing::read(dir)?;
    let maps = ids::maps()?;
    let runs = dir.join("runs");
    if runs.is_dir() {
        sweep_dead(&runs, maps.as_ref())?;
    }
    let (layers, others): (Vec<&Item>, Vec<&Item>) =
        before.going(limits, SystemTime::now()).into_iter().partition(|item| item.kind == Kind::Layer);
    let mut items = Vec::new();
    for item in others {
        items.extend(remove(dir, item, limits, maps.as_ref())?.then(|| item.clone()));
    }
    // An image that stayed after all keeps its layers.
    let (_, needed) = images(dir)?;
    for item in layers.into_iter().filter(|item| !needed.contains_key(&item.name)) {
        items.extend(remove(dir, item, limits, maps.as_ref())?.then(|| item.clone()));
    }
    Ok((Listing { items, ..before }, Listing::read(dir)?))
}

/// Whether it is gone.
fn remove(dir: &Path, item: &Item, limits: Limits, maps: Option<&IdMaps>) -> Result<bool> {
    let gone = match item.kind {
        // The sweep did it.
        Kind::Run => Ok(!item.path.exists()),
        Kind::Image => {
            let images = Images::at(dir);
            let _lock = images.lock_names()?;
            match held_by_runs(dir)?.contains(&item.name) {
                true => Ok(false),
                false => images.forget(&item.name, limits.named),
            }
        }
        Kind::Layer | Kind::Leftover => {
            let parent = item.path.parent().context("a layer is in no directory")?;
            let layers = LayerCache::at(parent.to_owned(), Form::User);
            layers.remove(&item.name, |dir| inside::remove(dir, maps))
        }
    };
    gone.with_context(|| format!("remove the {} {} from the cache", item.kind.words().0, item.name))
}

/// What processes have at work.
fn runs(dir: &Path) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for entry in entries(&dir.join("runs"))? {
        let Some(name) = entry.file_name().to_str().and_then(|name| name.strip_suffix(".lock").map(str::to_owned)) else { continue };
        let path = entry.path().with_extension("");
        // Ended meanwhile: nothing is there.
        let Ok(about) = entry.metadata() else { continue };
        let held = is_alive(&entry.path())?.then_some(Held::Running);
        items.push(Item { kind: Kind::Run, name, bytes: size(&path), used: about.modified()?, held, path });
    }
    Ok(items)
}

/// Whether the process of a run lives: it holds the lock.
fn is_alive(file: &Path) -> Result<bool> {
    Ok(file.exists() && lock(file, FlockArg::LockExclusiveNonblock)?.is_none())
}

/// Why layers stay, by diff_id, and when their images were used last.
type Needed = BTreeMap<String, (Held, SystemTime)>;

/// The images, and the layers of those that stay.
fn images(dir: &Path) -> Result<(Vec<Item>, Needed)> {
    let (mut items, mut needed) = (Vec::new(), Needed::new());
    let images = Images::at(dir);
    let running = held_by_runs(dir)?;
    let names = images.names()?;
    for id in if dir.join("images").is_dir() { images.ids()? } else { Vec::new() } {
        let path = images.config_path(&id)?;
        let (Ok(config), Ok(meta)) = (fs::read(&path), fs::metadata(&path)) else { continue };
        let name = names.iter().find_map(|(name, named)| (*named == id).then(|| name.clone()));
        let held = running.contains(&id).then_some(Held::Running).or(name.map(Held::Named));
        let used = meta.modified()?;
        let layers = ImageConfig::parse(&config).map(|config| config.diff_ids()).unwrap_or_default();
        for (diff_id, held) in layers.into_iter().zip(std::iter::repeat(held.clone())) {
            let Some(held) = held else { continue };
            let entry = needed.entry(diff_id).or_insert((held, used));
            entry.1 = entry.1.max(used);
        }
        let about = fs::metadata(path.with_extension("about")).map_or(0, |about| about.len());
        items.push(Item { kind: Kind::Image, name: id, bytes: meta.len() + about, used, held, path });
    }
    Ok((items, needed))
}

/// The images that running builds need.
fn held_by_runs(dir: &Path) -> Result<BTreeSet<String>> {
    let mut held = BTreeSet::new();
    for run in entries(&dir.join("runs"))? {
        if run.path().is_dir() && is_alive(&run.path().with_extension("lock"))? {
            let holds = entries(&run.path().join("holds"))?;
            held.extend(holds.into_iter().filter_map(|entry| entry.file_name().into_string().ok()));
        }
    }
    Ok(held)
}

/// The unpacked layers.
fn layers(dir: &Path, needed: &Needed) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for (place, form) in LAYERS {
        let place = dir.join(place);
        let found = if place.is_dir() { LayerCache::at(place, form).list()? } else { Vec::new() };
        items.extend(found.into_iter().map(|found| {
            let by = needed.get(&found.diff_id).filter(|_| found.whole).cloned();
            Item {
                kind: if found.whole { Kind::Layer } else { Kind::Leftover },
                used: by.as_ref().map_or(found.used, |(_, used)| found.used.max(*used)),
                held: found.busy.then_some(Held::Running).or(by.map(|(held, _)| held)),
                name: found.diff_id,
                bytes: found.bytes,
                path: found.dir,
            }
        }));
    }
    Ok(items)
}

/// What is in a directory; nothing where there is none.
fn entries(dir: &Path) -> Result<Vec<fs::DirEntry>> {
    let read = || fs::read_dir(dir)?.collect::<std::io::Result<Vec<_>>>();
    match read() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.with_context(|| format!("read {}", dir.display())),
    }
}

fn seconds<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str, bytes: u64, age: u64, held: Option<Held>) -> Item {
        let used = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - age);
        Item { kind: Kind::Layer, name: name.into(), bytes, used, held, path: PathBuf::new() }
    }

    #[test]
    fn what_goes_is_the_oldest_that_nobody_needs() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let items = vec![
            item("old", 10, 900, None),
            item("named", 20, 800, Some(Held::Named("x".into()))),
            item("busy", 40, 700, Some(Held::Running)),
            item("new", 80, 10, None),
        ];
        let listing = Listing { schema: SCHEMA, dir: PathBuf::new(), items };
        let all = Limits::default();
        let age = |seconds| Limits { older_than: Some(Duration::from_secs(seconds)), ..all };
        let size = |size| Limits { max_size: Some(size), ..all };
        for (limits, expected) in [
            (all, vec!["old", "new"]),
            (Limits { named: true, ..all }, vec!["old", "named", "new"]),
            (age(10), vec!["old", "new"]),
            (age(11), vec!["old"]),
            (age(901), vec![]),
            (size(150), vec![]),
            (size(149), vec!["old"]),
            (size(140), vec!["old"]),
            (size(0), vec!["old", "new"]),
            (Limits { max_size: Some(0), ..age(11) }, vec!["old"]),
        ] {
            let going: Vec<&str> = listing.going(limits, now).iter().map(|item| item.name.as_str()).collect();
            assert_eq!(going, expected, "{limits:?}");
        }
    }
}
