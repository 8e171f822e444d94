//! File: reports on disk. Written whole or not at all; read with a clear word when it is something else.

use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

use super::build::Finished;
use super::model::{RemovedPath, Report, SCHEMA};
use crate::image::path::{is_hidden, printable};

/// The name of [`Document::Xray`]'s format.
const XRAY: &str = "slim.xray";

impl Finished {
    /// Writes the report, and beside it the list of removed paths unless the report holds it. Sets
    /// [`super::model::Removed::list_file`].
    ///
    /// # Errors
    /// When one of the files cannot be written; an older one under its name is then still whole.
    pub fn write(&mut self, path: &Path) -> Result<()> {
        if !self.removed.is_empty() {
            let beside = list_path(path);
            replace(&beside, |out| {
                for removed in &self.removed {
                    removed.serialize(&mut Serializer::with_formatter(&mut *out, Flat))?;
                    out.write_all(b"\n")?;
                }
                Ok(())
            })?;
            self.report.removed.list_file = beside.file_name().map(|name| name.to_string_lossy().into_owned());
        }
        write(path, &self.report)
    }
}

/// Writes a report.
///
/// # Errors
/// When the file cannot be written; an older one under its name is then still whole.
pub fn write(path: &Path, report: &Report) -> Result<()> {
    replace(path, |out| {
        report.serialize(&mut Serializer::with_formatter(&mut *out, Lines::default()))?;
        out.write_all(b"\n")
    })
}

/// A document as the text that [`write`] writes of a report.
pub fn to_json<T: Serialize>(document: &T) -> String {
    let mut bytes = Vec::new();
    // Writing plain data into memory does not fail.
    let _ = document.serialize(&mut Serializer::with_formatter(&mut bytes, Lines::default()));
    bytes.push(b'\n');
    String::from_utf8(bytes).unwrap_or_default()
}

/// Any value as one line of JSON without its newline, hidden characters escaped.
pub fn to_line<T: Serialize>(value: &T) -> String {
    let mut bytes = Vec::new();
    // As above.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut bytes, Flat));
    String::from_utf8(bytes).unwrap_or_default()
}

/// Reads a report.
///
/// # Errors
/// When it cannot be read, is cut short, is not a report of this program, or is of a newer major version.
pub fn load(path: &Path) -> Result<Report> {
    let bytes = fs::read(path).with_context(|| format!("read the report {}", path.display()))?;
    parse(&bytes).with_context(|| format!("read the report {}", path.display()))
}

/// Reads a report from memory; see [`load`].
///
/// # Errors
/// As [`load`].
pub fn parse(bytes: &[u8]) -> Result<Report> {
    match recognise(bytes)? {
        Document::Report(report) => Ok(*report),
        Document::SlimToolkit(_) => bail!("this is a report of SlimToolkit, which `slim diff` compares; `slim build` writes the kind that is wanted here"),
        Document::Xray(_) => bail!("this is what `slim xray` says of an image, which `slim diff` compares; `slim build` writes reports"),
    }
}

/// A document that says something of an image.
pub enum Document {
    /// A report of this program.
    Report(Box<Report>),
    /// `slim.report.json` or `creport.json` of SlimToolkit (its `pkg/report`).
    SlimToolkit(Value),
    /// What `slim xray --json` says.
    Xray(Value),
}

/// Reads a document of a kind that is known here.
///
/// # Errors
/// When it is cut short, of no kind that is known, or of a newer major version.
pub fn recognise(bytes: &[u8]) -> Result<Document> {
    #[derive(Deserialize)]
    struct Head {
        schema: Option<String>,
        // These are in reports of SlimToolkit, which has a file of the same name.
        containerized: Option<IgnoredAny>,
        engine: Option<IgnoredAny>,
        monitors: Option<IgnoredAny>,
    }
    let head: Head = serde_json::from_slice(bytes).map_err(explain)?;
    let Some(schema) = head.schema else {
        if head.containerized.is_some() || head.engine.is_some() || head.monitors.is_some() {
            return Ok(Document::SlimToolkit(serde_json::from_slice(bytes).map_err(explain)?));
        }
        bail!("this is not a report of slim: it has no `schema`");
    };
    let (name, version) = schema.split_once('/').unwrap_or((&schema, ""));
    let (own_name, own_version) = SCHEMA.split_once('/').unwrap_or((SCHEMA, ""));
    let major = |text: &str| text.split('.').next().and_then(|n| n.parse::<u32>().ok());
    match (major(version), major(own_version)) {
        (Some(theirs), Some(ours)) if [own_name, XRAY].contains(&name) && theirs > ours => {
            bail!("this report is of a newer version ({}); this slim reads up to {name}/{ours}: update slim", printable(schema.as_bytes()))
        }
        (Some(_), _) if name == own_name => Ok(Document::Report(serde_json::from_slice(bytes).map_err(explain)?)),
        (Some(_), _) if name == XRAY => Ok(Document::Xray(serde_json::from_slice(bytes).map_err(explain)?)),
        _ => bail!("this is not a report of slim: its `schema` is `{}`", printable(schema.as_bytes())),
    }
}

/// Says what is wrong with a JSON text, with its place.
fn explain(error: serde_json::Error) -> anyhow::Error {
    let place = format!("line {}, column {}", error.line(), error.column());
    if error.is_eof() {
        return anyhow!("the file is cut short at {place}; write it again with `slim build`");
    }
    if error.is_syntax() {
        return anyhow!("this is not JSON: {error}");
    }
    anyhow!("a field has another shape than this version knows: {error}")
}

/// Where the list of removed paths of the report at `path` goes: `x.json` -> `x.removed.jsonl`.
pub fn list_path(path: &Path) -> PathBuf {
    path.with_extension("removed.jsonl")
}

/// Every removed path of a report: its own list, or that of the file beside it. `None` when the file is gone.
///
/// # Errors
/// When the file beside it is there and broken.
pub fn load_removed(path: &Path, report: &Report) -> Result<Option<Vec<RemovedPath>>> {
    if let Some(list) = &report.removed.list {
        return Ok(Some(list.clone()));
    }
    // Only a name, never a path: a report must not make us read somewhere else.
    let name = report.removed.list_file.as_deref().map(Path::new).and_then(Path::file_name);
    let Some(name) = name else {
        return Ok(if report.removed.files + report.removed.directories == 0 { Some(Vec::new()) } else { None });
    };
    let beside = path.with_file_name(name);
    let file = match fs::File::open(&beside) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("open {}", beside.display())),
    };
    let mut list = Vec::new();
    for (n, line) in BufReader::new(file).lines().enumerate() {
        let place = || format!("read {}, line {}", beside.display(), n + 1);
        let line = line.with_context(place)?;
        list.push(serde_json::from_str(&line).with_context(place)?);
    }
    Ok(Some(list))
}

/// Finds out before the long work whether a report can be written there.
///
/// # Errors
/// When its directory does not exist or refuses a new file, or the path is a directory.
pub fn check_path(path: &Path) -> Result<()> {
    let what = || format!("the report cannot be written to {}", path.display());
    if path.is_dir() {
        return Err(anyhow!("it is a directory")).with_context(what);
    }
    if in_place(path) {
        return fs::OpenOptions::new().write(true).open(path).map(drop).with_context(what);
    }
    tempfile::NamedTempFile::new_in(directory(&target(path))).map(drop).with_context(what)
}

/// What exists and is no regular file (`/dev/stdout`, a pipe) is written to, not replaced.
fn in_place(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| !meta.is_file())
}

/// The file itself, where the path is a symlink to one.
fn target(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Writes a file under another name and renames it when it is whole.
///
/// # Errors
/// When it cannot be written; an older one under its name is then still whole.
pub fn replace(path: &Path, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let what = || format!("write {}", path.display());
    if in_place(path) {
        let mut out = BufWriter::new(fs::OpenOptions::new().write(true).open(path).with_context(what)?);
        return content(&mut out).and_then(|()| out.flush()).with_context(what);
    }
    let target = target(path);
    let file = tempfile::Builder::new()
        .prefix(".slim-")
        // As any new file: the umask takes its bits away.
        .permissions(fs::Permissions::from_mode(0o666))
        .tempfile_in(directory(&target))
        .with_context(what)?;
    let mut out = BufWriter::new(file);
    content(&mut out).with_context(what)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error).with_context(what)?;
    file.persist(&target).map_err(|error| error.error).with_context(what)?;
    Ok(())
}

/// JSON asks only for escapes below U+0020. What else a terminal would act on or hide is escaped too: whoever
/// opens a report in a pager sees every name as it is.
fn write_fragment<W: ?Sized + Write>(out: &mut W, fragment: &str) -> io::Result<()> {
    let mut rest = fragment;
    while let Some(at) = rest.find(is_hidden) {
        out.write_all(&rest.as_bytes()[..at])?;
        let c = rest[at..].chars().next().unwrap_or_default();
        write!(out, "\\u{:04x}", u32::from(c))?;
        rest = &rest[at + c.len_utf8()..];
    }
    out.write_all(rest.as_bytes())
}

/// Everything that JSON strings need on one line.
struct Flat;

impl Formatter for Flat {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        write_fragment(out, fragment)
    }
}

/// One line for each field, and one for each object of a list, so that reports compare well line by line.
#[derive(Default)]
struct Lines {
    /// For every open container: it is an array.
    open: Vec<bool>,
    /// The depth at which an object inside an array began; everything in it stays on its line.
    flat_from: Option<usize>,
    has_value: bool,
}

impl Lines {
    fn line<W: ?Sized + Write>(&self, out: &mut W, first: bool) -> io::Result<()> {
        match (self.flat_from, first) {
            (Some(_), true) => Ok(()),
            (Some(_), false) => out.write_all(b", "),
            (None, first) => {
                out.write_all(if first { b"\n" } else { b",\n" })?;
                indent(out, self.open.len())
            }
        }
    }

    fn begin<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8], array: bool) -> io::Result<()> {
        if !array && self.flat_from.is_none() && self.open.last() == Some(&true) {
            self.flat_from = Some(self.open.len());
        }
        self.open.push(array);
        self.has_value = false;
        out.write_all(bracket)
    }

    fn end<W: ?Sized + Write>(&mut self, out: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.open.pop();
        if self.flat_from.is_none() && self.has_value {
            out.write_all(b"\n")?;
            indent(out, self.open.len())?;
        }
        if self.flat_from == Some(self.open.len()) {
            self.flat_from = None;
        }
        self.has_value = true;
        out.write_all(bracket)
    }
}

fn indent<W: ?Sized + Write>(out: &mut W, depth: usize) -> io::Result<()> {
    (0..depth).try_for_each(|_| out.write_all(b" "))
}

impl Formatter for Lines {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, out: &mut W, fragment: &str) -> io::Result<()> {
        write_fragment(out, fragment)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"[", true)
    }

    fn end_array<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.line(out, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.begin(out, b"{", false)
    }

    fn end_object<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.end(out, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.line(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }
}
