//! Untouched: the image that is made smaller, open for reading, and what is known of it without running it.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::Session;
use super::subject::Subject;
use crate::exit::Exit;
use crate::image::{Entry, ImagePath, Tree};
use crate::keep::{Facts, KeepSet};
use crate::pack::PristineImage;
use crate::packages::metadata::{self, Ask, Metadata};
use crate::packages::{self, Packages, Texts, embedded};
use crate::run::way::Helper;

/// Rounds of asking for files of package managers: a chain of references among them is never this long.
const MAX_ROUNDS: usize = 100;

/// The untouched image.
pub struct Untouched {
    /// Reads its files.
    pub pristine: PristineImage,
    /// All its files.
    pub tree: Tree,
    /// What its package managers know.
    pub packages: Packages,
    /// What deciding found out about its files so far.
    pub facts: Facts,
    /// The files by which they know it.
    texts: Texts,
}

impl Untouched {
    /// Opens the image.
    pub async fn open(session: &Session<'_>, subject: &Subject, helper: &Helper<'_>) -> Result<Self> {
        // What the run mounts is not the image's: only its VOLUMEs are covered.
        let points = &subject.volumes;
        let mut pristine = PristineImage::open(session.engine, &subject.info.id, &helper.volume, points).await?;
        let mut tree = pristine.tree(&subject.config, points).await?;
        if let Some(files) = session.engine.files(&subject.info.id).await? {
            as_in_layers(&mut tree, files);
        }
        let mut texts = Texts::new();
        for _ in 0..MAX_ROUNDS {
            match packages::read(&tree, &texts) {
                packages::Step::Need(paths) => texts.extend(read(&mut pristine, paths).await?),
                packages::Step::Done(mut packages) => {
                    packages.embedded = pristine.inside(embedded::candidates(&tree, &packages)).await?;
                    return Ok(Self { pristine, tree, packages, facts: Facts::new(), texts });
                }
            }
        }
        Err(anyhow::anyhow!("reading packages asks for ever more files")).context(Exit::Bug)
    }

    /// What of the package managers' databases goes with a keep set.
    pub async fn metadata(&mut self, keep: &KeepSet, mode: metadata::Mode) -> Result<Metadata> {
        let kept: BTreeSet<ImagePath> = keep.kept.keys().cloned().collect();
        let wanted = keep.wanted();
        for _ in 0..MAX_ROUNDS {
            let ask = Ask { tree: &self.tree, texts: &self.texts, packages: &self.packages, kept: &kept, wanted: &wanted };
            match metadata::metadata(ask, mode) {
                metadata::Step::Need(paths) => self.texts.extend(read(&mut self.pristine, paths).await?),
                metadata::Step::Done(made) => return Ok(made),
            }
        }
        Err(anyhow::anyhow!("the packages' metadata asks for ever more files")).context(Exit::Bug)
    }
}

async fn read(pristine: &mut PristineImage, paths: BTreeSet<ImagePath>) -> Result<Texts> {
    pristine.texts(paths).await.context("read the package databases")
}

/// Owners, modes and xattrs as the layers have them: what an ordinary user unpacked has them as far as it could.
fn as_in_layers(tree: &mut Tree, files: Vec<(ImagePath, Entry)>) {
    // The root directory is the engine's in every container, whatever a layer says of it.
    for (path, file) in files.into_iter().filter(|(path, _)| !path.is_root()) {
        if let Some(mut entry) = tree.get(&path).cloned() {
            (entry.uid, entry.gid, entry.mode, entry.xattrs) = (file.uid, file.gid, file.mode, file.xattrs);
            tree.insert(path, entry);
        }
    }
}
