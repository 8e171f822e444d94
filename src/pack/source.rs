//! Source: the untouched image as the packer reads it, through an agent in a container of that image.
//!
//! A container shows almost exactly what the layers hold. What differs is a named list: the engine makes
//! [`ENGINE_PATHS`] in every container, and by that touches the directories that hold them. Those paths are
//! left out of the tree, the times of directories that the engine changed are set to the image's own creation
//! time, and a root directory of the mode that the engine gives where no layer holds one ([`ROOT_MODES`]) has
//! everybody's, so that one image gives one tree on every engine.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use super::agent::{FrameKind, MAX_PAYLOAD, Request};
use super::layer::{Chunk, Contents};
use crate::engine::{Attached, Container, ContainerSpec, Engine, EngineError, RunOptions};
use crate::image::{Entry, ImageConfig, ImagePath, Kind, Tree};
use crate::keep::{ENGINE_PATHS, Facts, FileFacts, Want};
use crate::packages::embedded::{Embedded, Found};
use crate::packages::Texts;
use crate::sensor::control::{PROGRAM_FILE, SENSOR_DIR, TraceOf};

/// Directories in which engines make files, and mount points that they make where an image has none.
const ENGINE_DIRS: &[&str] = &["/", "/dev", "/etc", "/proc", "/run", "/sys"];

/// Modes of the root directory of images that hold none, where they are not 0755, by engine: containers/storage
/// makes it so that only root can write there.
const ROOT_MODES: &[(&str, u32)] = &[("podman", 0o555)];

/// Together the texts that package managers left may have this many bytes; the rest is taken for empty.
const MAX_TEXTS: usize = 1 << 30;

/// What the agent said of a request that it could not answer.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// An open view of an untouched image.
pub struct PristineImage {
    container: Arc<dyn Container>,
    attached: Attached,
    buffer: BytesMut,
    errors: Vec<u8>,
    /// The mode of a root directory that is the engine's and not the image's.
    root_mode: Option<u32>,
    /// What the agent warned of.
    pub warnings: Vec<String>,
}

impl PristineImage {
    /// Starts the agent in a container of `image`. `volume` is the volume that holds this executable;
    /// `mount_points` are the image's VOLUMEs, which are covered cheaply so that the engine copies nothing.
    ///
    /// # Errors
    /// When the engine cannot run the container.
    pub async fn open(engine: &dyn Engine, image: &str, volume: &str, mount_points: &[String]) -> Result<Self> {
        let options = RunOptions {
            user: Some("0:0".into()),
            entrypoint: Some(vec![format!("{SENSOR_DIR}/{PROGRAM_FILE}"), "pack-agent".into()]),
            cmd: Some(Vec::new()),
            workdir: Some("/".into()),
            network: Some("none".into()),
            cap_add: vec!["SYS_ADMIN".into(), "DAC_READ_SEARCH".into()],
            tmpfs: mount_points.to_vec(),
            ..RunOptions::default()
        };
        let spec = ContainerSpec::with_program("pack", image, volume, options);
        let container = engine.create(&spec).await.context("create the container to read the image in")?;
        let container: Arc<dyn Container> = Arc::from(container);
        let attached = container.attach().await.context("attach to the image reader")?;
        container.start().await.context("start the image reader")?;
        Ok(Self {
            container,
            attached,
            buffer: BytesMut::new(),
            errors: Vec::new(),
            root_mode: root_mode(&engine.info().name),
            warnings: Vec::new(),
        })
    }

    /// Every file of the image with its metadata.
    ///
    /// # Errors
    /// When the agent fails or its answer makes no sense.
    pub async fn tree(&mut self, config: &ImageConfig, mount_points: &[String]) -> Result<Tree> {
        self.ask(&Request::Tree).await?;
        let mut tree = Tree::new();
        loop {
            match self.frame().await.context("list the image's files")? {
                (FrameKind::Entries, payload) => {
                    let batch: Vec<(ImagePath, Entry)> =
                        serde_json::from_slice(&payload).context("understand the list of the image's files")?;
                    for (path, entry) in batch {
                        tree.insert(path, entry);
                    }
                }
                (FrameKind::End, _) => return Ok(without_engine(tree, config, mount_points, self.root_mode)),
                (kind, _) => bail!("the image reader sent {kind:?} in a list of files"),
            }
        }
    }

    /// Facts of files that deciding asked for.
    ///
    /// # Errors
    /// As [`PristineImage::tree`].
    pub async fn facts(&mut self, want: BTreeMap<ImagePath, Want>) -> Result<Facts> {
        let want = want.into_iter().collect();
        self.ask(&Request::Facts { want }).await?;
        let mut facts = Facts::new();
        loop {
            match self.frame().await.context("look into the image's files")? {
                (FrameKind::Facts, payload) => {
                    let found: Vec<(ImagePath, FileFacts)> =
                        serde_json::from_slice(&payload).context("understand facts of the image's files")?;
                    facts.extend(found);
                }
                (FrameKind::End, _) => return Ok(facts),
                (kind, _) => bail!("the image reader sent {kind:?} among facts"),
            }
        }
    }

    /// The packages in files, by path.
    ///
    /// # Errors
    /// As [`PristineImage::tree`].
    pub async fn inside(&mut self, paths: BTreeSet<ImagePath>) -> Result<Vec<Embedded>> {
        self.ask(&Request::Inside { paths: paths.into_iter().collect() }).await?;
        let mut all = Vec::new();
        loop {
            match self.frame().await.context("look for packages in the image's files")? {
                (FrameKind::Inside, payload) => {
                    let (path, found): (ImagePath, Vec<Found>) =
                        serde_json::from_slice(&payload).context("understand the packages in the image's files")?;
                    all.extend(found.into_iter().map(|found| Embedded { path: path.clone(), found }));
                }
                (FrameKind::End, _) => return Ok(all),
                (kind, _) => bail!("the image reader sent {kind:?} among packages"),
            }
        }
    }

    /// The whole contents of files. One that cannot be read is empty, and a warning.
    ///
    /// # Errors
    /// As [`PristineImage::tree`].
    pub async fn texts(&mut self, paths: BTreeSet<ImagePath>) -> Result<Texts> {
        let mut texts = Texts::new();
        let mut total = 0;
        let mut todo: Vec<ImagePath> = paths.into_iter().collect();
        while !todo.is_empty() {
            self.request(todo.clone()).await?;
            let mut answered = 0;
            for path in &todo {
                answered += 1;
                match self.text(MAX_TEXTS - total).await {
                    Ok(text) => {
                        total += text.len();
                        texts.insert(path.clone(), text);
                    }
                    // The agent gives up on the whole request: what stands behind this file is asked for again.
                    Err(error) if error.is::<Refused>() => {
                        self.warnings.push(format!("{error:#}"));
                        texts.insert(path.clone(), Vec::new());
                        break;
                    }
                    Err(error) => return Err(error.context(format!("read {path}"))),
                }
            }
            todo.drain(..answered);
        }
        Ok(texts)
    }

    /// One file's content; empty when it has more than `room` bytes.
    async fn text(&mut self, room: usize) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let mut length = 0;
        loop {
            match self.next_chunk().await? {
                Chunk::Data(data) => {
                    length += data.len();
                    if length <= room {
                        text.extend_from_slice(&data);
                    }
                }
                Chunk::Hole(n) => {
                    length = length.saturating_add(n as usize);
                    if length <= room {
                        text.resize(length, 0);
                    }
                }
                Chunk::End if length <= room => return Ok(text),
                Chunk::End => return Ok(Vec::new()),
            }
        }
    }

    /// The trace that the sensor left in the shared volume, as it is.
    ///
    /// # Errors
    /// As [`PristineImage::tree`].
    pub async fn trace(&mut self, of: TraceOf) -> Result<Vec<u8>> {
        self.ask(&Request::Trace { of }).await?;
        let mut bytes = Vec::new();
        loop {
            match self.next_chunk().await.context("fetch the trace")? {
                Chunk::Data(data) => bytes.extend_from_slice(&data),
                Chunk::Hole(n) => bytes.resize(bytes.len() + n as usize, 0),
                Chunk::End => return Ok(bytes),
            }
        }
    }

    /// Ends the agent and gives its container, to be removed.
    pub fn close(mut self) -> Arc<dyn Container> {
        self.attached.input = None;
        self.container
    }

    async fn ask(&mut self, request: &Request) -> Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        let input = self.attached.input.as_mut().context("the image reader has no stdin")?;
        let sent = async {
            input.write_all(&line).await?;
            input.flush().await
        };
        match sent.await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.died().await.context(format!("ask the image reader: {error}"))),
        }
    }

    /// The next frame that is neither warning nor error.
    async fn frame(&mut self) -> Result<(FrameKind, Bytes)> {
        loop {
            if let Some((kind, payload)) = self.buffered_frame()? {
                match kind {
                    FrameKind::Warning => self.warnings.push(String::from_utf8_lossy(&payload).into_owned()),
                    FrameKind::Error => return Err(Refused(String::from_utf8_lossy(&payload).into_owned()).into()),
                    _ => return Ok((kind, payload)),
                }
                continue;
            }
            match self.attached.output.next().await {
                Some(Ok(output)) if output.fd == 1 => self.buffer.extend_from_slice(&output.bytes),
                Some(Ok(output)) => self.errors.extend_from_slice(&output.bytes),
                Some(Err(error)) => return Err(error.context("read from the image reader")),
                None => return Err(self.died().await),
            }
        }
    }

    fn buffered_frame(&mut self) -> Result<Option<(FrameKind, Bytes)>> {
        let Some((head, _)) = self.buffer.split_first_chunk::<5>() else {
            return Ok(None);
        };
        let kind = FrameKind::of(head[0]).context("the image reader sent bytes that are no frame")?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > 16 * MAX_PAYLOAD {
            bail!("the image reader sent a frame of {length} bytes");
        }
        if self.buffer.len() < 5 + length {
            return Ok(None);
        }
        self.buffer.advance(5);
        Ok(Some((kind, self.buffer.split_to(length).freeze())))
    }

    /// Why the stream ended: the engine, when it is no longer there, or the agent's own last words.
    async fn died(&mut self) -> anyhow::Error {
        if let Err(engine) = self.container.state().await
            && engine.downcast_ref().is_some_and(EngineError::is_trouble)
        {
            return engine.context("the engine went away");
        }
        let text = String::from_utf8_lossy(&self.errors);
        match text.trim() {
            "" => anyhow!("the image reader ended early"),
            text => anyhow!("the image reader ended early: {text}"),
        }
    }
}

#[async_trait]
impl Contents for PristineImage {
    async fn request(&mut self, paths: Vec<ImagePath>) -> Result<()> {
        self.ask(&Request::Contents { paths }).await
    }

    async fn next_chunk(&mut self) -> Result<Chunk> {
        match self.frame().await? {
            (FrameKind::Data, payload) => Ok(Chunk::Data(payload)),
            (FrameKind::Hole, payload) => {
                let bytes: [u8; 8] = payload[..].try_into().context("a hole has no length")?;
                Ok(Chunk::Hole(u64::from_be_bytes(bytes)))
            }
            (FrameKind::End, _) => Ok(Chunk::End),
            (kind, _) => bail!("the image reader sent {kind:?} in a file's content"),
        }
    }
}

fn root_mode(engine: &str) -> Option<u32> {
    ROOT_MODES.iter().find(|(name, _)| *name == engine).map(|(_, mode)| *mode)
}

/// Takes out what the engine put in; see the header.
fn without_engine(tree: Tree, config: &ImageConfig, mount_points: &[String], root_mode: Option<u32>) -> Tree {
    let created = seconds_of_rfc3339(config.created()).unwrap_or(0);
    let engine_made: Vec<ImagePath> = ENGINE_PATHS.iter().copied().map(ImagePath::from).collect();
    let mut dirs: Vec<ImagePath> = ENGINE_DIRS.iter().copied().map(ImagePath::from).collect();
    for point in mount_points {
        let point = ImagePath::new(point);
        dirs.extend(point.ancestors());
        dirs.push(point);
    }
    let mut clean: Tree = tree
        .iter()
        .filter(|(path, _)| !engine_made.contains(path))
        .map(|(path, entry)| (path.clone(), entry.clone()))
        .map(|(path, mut entry)| {
            if entry.is_dir() && dirs.contains(&path) {
                entry.mtime = (created, 0);
            }
            if path.is_root() && Some(entry.mode) == root_mode {
                entry.mode = 0o755;
            }
            (path, entry)
        })
        .collect();
    for dir in ["/dev", "/proc", "/sys"] {
        let mut entry = Entry::new(Kind::Directory);
        entry.mtime = (created, 0);
        clean.insert(dir.into(), entry);
    }
    clean
}

/// Seconds since 1970 of an RFC 3339 time in UTC or with an offset; `None` where it is none.
pub fn seconds_of_rfc3339(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // Days from civil, with the year starting in March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day - 1;
    let utc = (days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second;
    let zone = text.get(19..)?.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let offset = match zone.split_at_checked(1) {
        Some(("Z" | "z", "")) => 0,
        Some((sign @ ("+" | "-"), rest)) => {
            let (h, m) = rest.split_once(':')?;
            let seconds = h.parse::<i64>().ok()? * 3600 + m.parse::<i64>().ok()? * 60;
            if sign == "+" { seconds } else { -seconds }
        }
        _ => return None,
    };
    Some(utc - offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_directory_of_the_engines_own_is_everybodys() {
        let config = ImageConfig::parse(b"{}").unwrap();
        let seen = |engine: &str, mode: u32| {
            let mut tree = Tree::new();
            tree.insert(ImagePath::root(), Entry { mode, ..Entry::new(Kind::Directory) });
            tree.insert("/srv".into(), Entry { mode: 0o555, ..Entry::new(Kind::Directory) });
            let tree = without_engine(tree, &config, &[], root_mode(engine));
            assert_eq!(tree.get(&"/srv".into()).unwrap().mode, 0o555);
            tree.get(&ImagePath::root()).unwrap().mode
        };
        assert_eq!((seen("podman", 0o555), seen("docker", 0o555)), (0o755, 0o555));
        assert_eq!((seen("podman", 0o1777), seen("docker", 0o755)), (0o1777, 0o755));
    }

    #[test]
    fn rfc3339_times_are_read_with_fractions_and_offsets() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-23T20:43:00.123456789Z", Some(1_795_466_580)),
            ("2000-03-01T00:00:00+01:00", Some(951_865_200)),
            ("0001-01-01T00:00:00Z", Some(-62_135_596_800)),
            ("", None),
            ("yesterday", None),
        ] {
            assert_eq!(seconds_of_rfc3339(text), seconds, "{text}");
        }
    }
}
