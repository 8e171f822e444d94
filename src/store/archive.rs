//! Archive: an image or index as one tar: an OCI layout, or what `docker load` reads, which is an OCI layout too.
//!
//! The same image gives the same bytes: members in a fixed order, without times or owners.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tar::{EntryType, Header};

use super::digest::Verified;
use super::layout;
use super::manifest::{Descriptor, Index, media};
use super::outgoing::Bundle;
use crate::image::Reference;

/// What reads the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Style {
    /// Whoever reads OCI layouts; the image has this tag.
    Oci(Option<String>),
    /// Engines: `manifest.json` gives the image these names. Its layers have to be plain.
    Docker(Vec<String>),
}

/// Writes an archive under its name, at once when it is whole.
///
/// # Errors
/// When it cannot be written; nothing of it is left then.
pub fn write(file: &Path, bundle: &Bundle, style: &Style) -> Result<()> {
    stage(file, bundle, style)?.publish()
}

/// A whole archive that does not have its name yet; it goes when it is dropped.
pub struct Staged {
    made: tempfile::NamedTempFile,
    file: PathBuf,
}

/// Writes an archive beside `file`; [`Staged::publish`] gives it its name.
///
/// # Errors
/// When it cannot be written; nothing of it is left then.
pub fn stage(file: &Path, bundle: &Bundle, style: &Style) -> Result<Staged> {
    let what = || format!("write the archive {}", file.display());
    let beside = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let dir = if is_special(file) { std::env::temp_dir() } else { beside.to_owned() };
    let mut made = tempfile::Builder::new().prefix(".slim-").tempfile_in(dir).with_context(what)?;
    stream(&mut made, bundle, style).with_context(what)?;
    made.as_file().set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)).with_context(what)?;
    Ok(Staged { made, file: file.to_owned() })
}

impl Staged {
    /// Gives it its name; a device or pipe of that name stays, and gets the bytes.
    ///
    /// # Errors
    /// When the name cannot be taken.
    pub fn publish(self) -> Result<()> {
        let what = || format!("write the archive {}", self.file.display());
        if is_special(&self.file) {
            let mut from = self.made.reopen().with_context(what)?;
            let mut to = std::fs::OpenOptions::new().write(true).open(&self.file).with_context(what)?;
            io::copy(&mut from, &mut to).with_context(what)?;
            return Ok(());
        }
        self.made.persist(&self.file).with_context(what)?;
        Ok(())
    }
}

/// Whether there is something that is no regular file: `/dev/null`, `/dev/stdout`, a pipe.
fn is_special(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|meta| !meta.is_file())
}

/// Writes an archive into a stream.
///
/// # Errors
/// When a layer cannot be read, or the stream not be written.
pub fn stream(to: impl Write, bundle: &Bundle, style: &Style) -> Result<()> {
    let mut tar = Tar { to: io::BufWriter::new(to), written: BTreeSet::new() };
    let (raw, descriptor) = bundle.top();
    let entry = match style {
        Style::Oci(tag) => layout::entry(descriptor, tag.as_deref()),
        Style::Docker(names) => named(descriptor, names),
    };
    let index = Index::new(vec![entry]);
    tar.head("blobs/", EntryType::Directory, 0)?;
    tar.head("blobs/sha256/", EntryType::Directory, 0)?;
    tar.small("oci-layout", layout::LAYOUT)?;
    tar.small("index.json", &serde_json::to_vec(&index)?)?;
    if let Style::Docker(names) = style {
        tar.small("manifest.json", &for_docker(bundle, names)?)?;
    }
    tar.blob(descriptor, bytes(raw))?;
    for image in &bundle.images {
        tar.blob(&image.descriptor, bytes(&image.manifest))?;
        tar.blob(&image.config.1, bytes(&image.config.0))?;
        for layer in &image.layers {
            tar.blob(&layer.descriptor, layer.open()?)?;
        }
    }
    tar.to.write_all(&[0; 1024]).and_then(|()| tar.to.flush()).context("write its end")
}

/// A descriptor for an archive that is read as either format: podman takes a tag alone for a whole name.
fn named(descriptor: &Descriptor, names: &[String]) -> Descriptor {
    let Some(name) = names.first() else { return layout::entry(descriptor, None) };
    let mut entry = layout::entry(descriptor, Some(name));
    let whole = Reference::parse(name).map_or_else(|_| name.clone(), |name| name.normalised());
    entry.annotations.get_or_insert_default().insert("io.containerd.image.name".into(), whole);
    entry
}

fn for_docker(bundle: &Bundle, names: &[String]) -> Result<Vec<u8>> {
    let [image] = bundle.images.as_slice() else {
        bail!("what `docker load` reads holds one image; choose one with --platform, or write oci-archive:");
    };
    if image.layers.iter().any(|layer| layer.descriptor.media_type != media::OCI_LAYER) {
        bail!("what `docker load` reads has plain layers");
    }
    let path = |descriptor: &Descriptor| descriptor.digest().map(|digest| digest.blob_path());
    let entry = json!([{
        "Config": path(&image.config.1)?,
        "RepoTags": if names.is_empty() { json!(null) } else { json!(names) },
        "Layers": image.layers.iter().map(|layer| path(&layer.descriptor)).collect::<Result<Vec<_>>>()?,
    }]);
    Ok(serde_json::to_vec(&entry)?)
}

fn bytes(bytes: &[u8]) -> Box<dyn Read + Send> {
    Box::new(io::Cursor::new(bytes.to_vec()))
}

struct Tar<W: Write> {
    to: io::BufWriter<W>,
    written: BTreeSet<String>,
}

impl<W: Write> Tar<W> {
    fn head(&mut self, name: &str, kind: EntryType, size: u64) -> Result<()> {
        let mut header = Header::new_ustar();
        header.set_path(name).context("name an archive member")?;
        header.set_entry_type(kind);
        header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        self.to.write_all(header.as_bytes()).with_context(|| format!("write {name}"))
    }

    fn small(&mut self, name: &str, content: &[u8]) -> Result<()> {
        self.head(name, EntryType::Regular, content.len() as u64)?;
        self.to.write_all(content).with_context(|| format!("write {name}"))?;
        self.pad(content.len() as u64)
    }

    /// A blob, once.
    fn blob(&mut self, descriptor: &Descriptor, from: Box<dyn Read + Send>) -> Result<()> {
        let digest = descriptor.digest()?;
        if !self.written.insert(digest.as_str().to_owned()) {
            return Ok(());
        }
        self.head(&digest.blob_path(), EntryType::Regular, descriptor.size)?;
        let mut from = Verified::new(from, digest.clone(), Some(descriptor.size));
        io::copy(&mut from, &mut self.to).with_context(|| format!("write {digest}"))?;
        self.pad(descriptor.size)
    }

    fn pad(&mut self, size: u64) -> Result<()> {
        let zeros = [0u8; 512];
        self.to.write_all(&zeros[..(size.wrapping_neg() % 512) as usize]).context("write the archive")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileTypeExt;

    #[test]
    fn a_pipe_gets_the_archive_and_stays_a_pipe() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("out.tar");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read(pipe).unwrap()
        });
        let mut made = tempfile::NamedTempFile::new().unwrap();
        made.write_all(b"an archive").unwrap();
        Staged { made, file: pipe.clone() }.publish().unwrap();
        assert_eq!(reader.join().unwrap(), b"an archive");
        assert!(std::fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo());
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    }
}
