//! Platforms: several images of one index made small, each run and proven on its own; then an index of all of them is
//! written, or nothing is.
//!
//! Until then the small images lie in a temporary directory.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{Built, Closing, Session, elsewhere};
use crate::plan::{BuildPlan, Source};
use crate::report::Journal;
use crate::run::leaving::Leaving;
use crate::store::compress::Compression;
use crate::store::manifest::{Platform, media};
use crate::store::outgoing::{Bundle, Outgoing, Words};
use crate::store::Transport;

/// A plan for each platform, and where its result waits for the others.
pub struct Platforms {
    parts: Vec<BuildPlan>,
    _dir: TempDir,
}

impl Platforms {
    /// Checks that every platform is there and runs here, and that an index may go where it is to go.
    ///
    /// # Errors
    /// When that is not so; nothing was made then.
    pub async fn open(session: &Session<'_>) -> Result<Self> {
        let plan = session.plan;
        plan.platforms.iter().try_for_each(|platform| elsewhere::can_run(session, platform))?;
        elsewhere::check_places(session, media::OCI_INDEX).await?;
        if let Source::Elsewhere(transport) = &plan.source {
            let source = elsewhere::source(session, transport).await?;
            let mut images = Vec::new();
            for platform in &plan.platforms {
                let image = source.image(Some(platform)).await.with_context(|| format!("read {transport}"))?;
                images.push(Arc::new(image));
            }
            elsewhere::tell_left_out(session, &source, &images).await?;
        }
        let dir = tempfile::tempdir().context("make a temporary directory")?;
        let parts = plan.platforms.iter().map(|platform| part(plan, platform, dir.path())).collect();
        Ok(Self { parts, _dir: dir })
    }

    /// The plan for each platform.
    pub fn parts(&self) -> &[BuildPlan] {
        &self.parts
    }

    /// Makes the image of one platform small. Nobody gets to see it yet.
    pub async fn build(&self, session: &Session<'_>, part: &BuildPlan) -> Built {
        session.info(format!("for {}", part.run.platform.as_deref().unwrap_or_default()));
        let mut built = super::build(&Session {
            plan: part,
            engine: session.engine,
            monitor: Arc::new(Journal::new(session.ui.clone())),
            ui: session.ui.clone(),
            leaving: Leaving::default(),
            closing: Closing::default(),
            heard: Mutex::default(),
            only_record: false,
        })
        .await;
        built.published.clear();
        if let Some(result) = built.finished.report.result.as_mut().filter(|result| result.archive.is_some()) {
            result.archive = session.plan.outputs.written.first().map(elsewhere::shown);
        }
        built
    }

    /// Writes the index of all of them to every `-o`; gives where it is and its digest.
    ///
    /// # Errors
    /// When it cannot be written, or a signal came before.
    pub async fn publish(&self, session: &Session<'_>) -> Result<Vec<(String, String)>> {
        session.closing.begin();
        let published = self.write(session).await;
        if published.is_err() {
            session.closing.undone();
        }
        published
    }

    async fn write(&self, session: &Session<'_>) -> Result<Vec<(String, String)>> {
        let outputs = &session.plan.outputs;
        session.phase("write", format!("the index of {} images", self.parts.len()));
        let mut images = Vec::new();
        for place in self.parts.iter().flat_map(|part| &part.outputs.written) {
            let image = Arc::new(elsewhere::source(session, place).await?.image(None).await?);
            let wish = outputs.compress.or(Some(Compression::Gzip));
            let ready = move || Outgoing::prepare(&image, Words::Oci, wish);
            images.push(tokio::task::spawn_blocking(ready).await.context("prepare the image")??);
        }
        let bundle = Bundle::index(images)?;
        let digest = bundle.digest().to_string();
        session.closing.go_on()?;
        for to in &outputs.written {
            elsewhere::write(session, to, &bundle).await?;
        }
        elsewhere::write_digest(session, Some(&digest))?;
        session.done("write", String::new());
        Ok(outputs.written.iter().map(|to| (elsewhere::shown(to), digest.clone())).collect())
    }
}

/// The plan for one platform: what is asked of all, and a place of its own for whatever is written.
fn part(plan: &BuildPlan, platform: &Platform, dir: &Path) -> BuildPlan {
    let name = platform.to_string().replace('/', "-");
    let mut part = plan.clone();
    part.run.platform = Some(platform.to_string());
    part.outputs.written = vec![Transport::OciDir(dir.join(&name), None)];
    part.outputs.digest_file = None;
    part.outputs.provenance = None;
    part.outputs.report = plan.outputs.report.as_deref().map(|path| beside(path, &name));
    part.outputs.views = plan.outputs.views.iter().map(|(view, path)| (*view, beside(path, &name))).collect();
    part.outputs.artifacts = plan.outputs.artifacts.as_ref().map(|dir| dir.join(&name));
    part
}

/// The name of a file with another word in it: `slim.report.json` becomes `slim.report.linux-386.json`.
fn beside(path: &Path, word: &str) -> PathBuf {
    match path.extension() {
        Some(extension) => path.with_extension(format!("{word}.{}", extension.to_string_lossy())),
        None => path.with_extension(word),
    }
}
