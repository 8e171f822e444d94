//! Secrets: what of the original looks like one, and whether the result still has it. The result is read as it was
//! packed, every file of it; of what goes only what its name makes suspect is read, for the rest of an image is not
//! read by a build at all (`slim xray` does).

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use anyhow::{Context, Result};
use tokio::task::JoinHandle;

use super::Session;
use super::subject::Subject;
use super::untouched::Untouched;
use crate::image::{ImageConfig, ImagePath};
use crate::keep::{self, KeepSet};
use crate::pack::archive::PackedImage;
use crate::report::figures::counted;
use crate::report::{Builder, model};
use crate::store::merge::Merge;
use crate::xray::model::{Place, Secret};
use crate::xray::secrets::{Finder, MAX_TEXT};

/// More of the files that go than this are not read: a tree full of suspects says enough by their names.
const MOST_READ: usize = 500;

/// A search of the result that goes on while other things are done.
pub struct Searching {
    task: JoinHandle<Result<Found>>,
}

/// What was found so far.
struct Found {
    /// In the result.
    stay: Finder,
    /// By their names alone, in what goes.
    gone: Finder,
    /// What goes and has to be read before more can be said.
    asked: BTreeSet<ImagePath>,
}

impl Searching {
    /// Begins, on a thread that may block.
    ///
    /// # Errors
    /// When the layer's temporary file cannot be opened again.
    pub fn start(image: &PackedImage, untouched: &Untouched, keep: &KeepSet) -> Result<Self> {
        let file = image.layer_file.try_clone().context("open the packed layer again")?;
        let layer = Layer { file, at: 0, end: image.layer.tar_bytes };
        let config = ImageConfig::parse(&image.config)?;
        let goes = untouched.tree.iter().filter(|(path, entry)| entry.is_file() && !keep.kept.contains_key(path));
        let goes: Vec<(ImagePath, u64)> = goes.map(|(path, entry)| (path.clone(), entry.size)).collect();
        Ok(Self { task: tokio::task::spawn_blocking(move || search(layer, &config, goes)) })
    }

    /// Waits for it, reads what else has to be read, and tells. A build does not fail for want of it: then nobody looked.
    pub async fn tell(self, session: &Session<'_>, subject: &Subject, untouched: &mut Untouched, report: &mut Builder) {
        match self.secrets(subject, untouched).await {
            Ok(secrets) => {
                let open = secrets.iter().filter(|secret| secret.is_open()).count() as u64;
                if open > 0 {
                    let what = counted(open, "place looks like a secret and is", "places look like secrets and are");
                    session.warn(format!("{what} STILL PRESENT in the slim image: {}", remedy(&secrets)));
                }
                report.secrets(secrets);
            }
            Err(error) => session.warn(format!("nobody looked for secrets: {error:#}")),
        }
    }

    async fn secrets(self, subject: &Subject, untouched: &mut Untouched) -> Result<Vec<model::Secret>> {
        let Found { stay, mut gone, asked } = self.task.await.context("look for secrets")?.context("look for secrets")?;
        let texts = untouched.pristine.texts(asked).await.context("look for secrets in what goes")?;
        for (path, text) in &texts {
            gone.file(path, 0, Some(text));
        }
        gone.config(&subject.config, &[]);
        let mut secrets: Vec<model::Secret> = stay.found.iter().map(|secret| told(secret, untouched, true)).collect();
        let gone = gone.found.iter().filter(|other| !secrets.iter().any(|one| same(one, other)));
        let gone: Vec<model::Secret> = gone.map(|secret| told(secret, untouched, false)).collect();
        secrets.extend(gone);
        secrets.sort();
        secrets.dedup();
        secrets.sort_by_key(|secret| !secret.present);
        Ok(secrets)
    }
}

/// What takes those away that stay.
fn remedy(secrets: &[model::Secret]) -> String {
    let ways = [
        (model::SecretPlace::File, "--exclude-pattern leaves files out"),
        (model::SecretPlace::Environment, "--remove-env takes variables away"),
        (model::SecretPlace::Label, "--remove-label takes labels away"),
        (model::SecretPlace::History, "what its history says is in the image for good: build it without"),
    ];
    let open = |place| secrets.iter().any(|secret| secret.is_open() && secret.place == place);
    let ways: Vec<&str> = ways.into_iter().filter(|(place, _)| open(*place)).map(|(_, way)| way).collect();
    format!("{}; give them when it runs", ways.join(", "))
}

fn search(layer: Layer, config: &ImageConfig, goes: Vec<(ImagePath, u64)>) -> Result<Found> {
    let (mut stay, mut gone) = (Finder::new()?, Finder::new()?);
    Merge::new().layer_seen(layer, |path, member, content| {
        let mut text = Vec::new();
        if member.size <= MAX_TEXT {
            content.read_to_end(&mut text).with_context(|| format!("read {path}"))?;
        }
        stay.file(path, 1, (member.size <= MAX_TEXT).then_some(&text));
        Ok(())
    })?;
    stay.config(config, &[]);
    let mut asked = BTreeSet::new();
    for (path, size) in goes {
        match stay.is_suspect(&path) && size <= MAX_TEXT && asked.len() < MOST_READ {
            true => drop(asked.insert(path)),
            false => gone.file(&path, 0, None),
        }
    }
    Ok(Found { stay, gone, asked })
}

/// Whether both speak of one place.
fn same(one: &model::Secret, other: &Secret) -> bool {
    (&one.rule, one.place, &one.path, &one.name) == (&other.rule, place(other.place), &other.path, &other.name)
}

fn told(secret: &Secret, untouched: &Untouched, present: bool) -> model::Secret {
    let owner = secret.path.as_ref().and_then(|path| untouched.packages.owner(path));
    model::Secret {
        present,
        package: owner.map(keep::package_label),
        rule: secret.rule.clone(),
        description: secret.description.clone(),
        place: place(secret.place),
        path: secret.path.clone(),
        name: secret.name.clone(),
        line: secret.line,
    }
}

fn place(place: Place) -> model::SecretPlace {
    match place {
        Place::File => model::SecretPlace::File,
        Place::Environment => model::SecretPlace::Environment,
        Place::History => model::SecretPlace::History,
        Place::Label => model::SecretPlace::Label,
    }
}

/// The packed layer, read at offsets of its own: others move the file's position.
struct Layer {
    file: File,
    at: u64,
    end: u64,
}

impl Read for Layer {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let want = buffer.len().min(usize::try_from(self.end - self.at).unwrap_or(usize::MAX));
        let n = self.file.read_at(&mut buffer[..want], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}
