//! Image: a source image of one layer, made here byte by byte and loaded; removed with all its results.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::docker;

/// An image in the engine.
pub struct Image {
    /// `slim-test/NAME-PID-N:1`: nobody else has it.
    pub name: String,
    /// Its ID.
    pub id: String,
}

/// What an image is made of.
pub struct Source {
    /// `config` of the config document.
    pub config: Value,
    /// Fields of the document itself, over the usual ones.
    pub document: Value,
    /// Path without the first slash, content; directories end with a slash.
    pub files: Vec<(String, Vec<u8>)>,
    /// Texts of the document that are written another way, which means the same.
    pub spellings: Vec<(&'static str, &'static str)>,
}

/// A file of an image.
pub fn file(path: &str, content: &str) -> (String, Vec<u8>) {
    (path.to_owned(), content.as_bytes().to_vec())
}

/// The program that plays every part: support/subject.c.
fn subject() -> &'static [u8] {
    static PROGRAM: OnceLock<Vec<u8>> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/subject.c");
        let out: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("subject-{}", std::process::id()));
        let made = Command::new("gcc").args(["-static", "-Os", "-s", "-o"]).arg(&out).arg(&source).status();
        assert!(made.expect("gcc is needed").success(), "gcc cannot compile {}", source.display());
        let bytes = std::fs::read(&out).unwrap();
        std::fs::remove_file(&out).unwrap();
        bytes
    })
}

impl Default for Source {
    /// A server of a few pages, two of them linked, that nobody has to wait for.
    fn default() -> Self {
        let files = vec![
            file("data/", ""),
            file("data/a.txt", "content of a\n"),
            file("data/b.txt", "content of b\n"),
            file("state/", ""),
            file("www/", ""),
            file("www/about.html", "<p>about</p>\n"),
            file("www/index.html", "<a href=\"/about.html\">about</a>\n"),
            file("www/unlinked.html", "<p>nobody links to this</p>\n"),
        ];
        let config = json!({
            "Entrypoint": ["/bin/subject"],
            "Cmd": ["serve"],
            "Env": ["PATH=/bin"],
            "ExposedPorts": {"8080/tcp": {}},
        });
        Self { config, document: json!({}), files, spellings: Vec::new() }
    }
}

impl Source {
    /// With a field of `config` set, or taken away by null.
    pub fn set(mut self, field: &str, value: Value) -> Self {
        let config = self.config.as_object_mut().unwrap();
        match value.is_null() {
            true => config.remove(field),
            false => config.insert(field.to_owned(), value),
        };
        self
    }

    /// With a command for the subject, and no port.
    pub fn cmd(self, words: &[&str]) -> Self {
        self.set("Cmd", json!(words)).set("ExposedPorts", Value::Null)
    }

    /// With a field of the document itself set.
    pub fn document(mut self, field: &str, value: Value) -> Self {
        self.document[field] = value;
        self
    }

    /// With a text of the document written in another way.
    pub fn spelled(mut self, from: &'static str, to: &'static str) -> Self {
        self.spellings.push((from, to));
        self
    }

    /// With another file.
    pub fn with(mut self, path: &str, content: &str) -> Self {
        self.files.push(file(path, content));
        self
    }

    /// Loaded under a name of its own.
    pub fn load(self, test: &str) -> Image {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let repository = format!("slim-test/{test}-{}-{number}", std::process::id());
        let name = format!("{repository}:1");
        let layer = self.layer();
        let mut document = json!({
            "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
            "os": "linux",
            "created": "2024-05-06T07:08:09Z",
            "config": self.config,
            // Makes the ID this image's own.
            "author": repository,
            "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]},
            "history": [{"created": "2024-05-06T07:08:09Z", "created_by": "the tests"}],
        });
        for (field, value) in self.document.as_object().unwrap() {
            document[field] = value.clone();
        }
        let mut document = serde_json::to_string(&document).unwrap();
        for (from, to) in self.spellings {
            assert!(document.contains(from), "{from} is not in {document}");
            document = document.replace(from, to);
        }
        let document = document.into_bytes();
        let id = digest(&document);
        let config = format!("{}.json", id.trim_start_matches("sha256:"));
        let manifest = json!([{"Config": config, "RepoTags": [name], "Layers": ["layer.tar"]}]).to_string();
        let mut archive = tar::Builder::new(Vec::new());
        let members = [(config.as_str(), &document[..]), ("layer.tar", &layer), ("manifest.json", manifest.as_bytes())];
        for (path, bytes) in members {
            append(&mut archive, path, bytes, 0o644);
        }
        let mut load = Command::new("docker").arg("load").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        std::io::Write::write_all(&mut load.stdin.take().unwrap(), &archive.into_inner().unwrap()).unwrap();
        assert!(load.wait().unwrap().success(), "docker cannot load {name}");
        Image { name, id }
    }

    fn layer(&self) -> Vec<u8> {
        let mut layer = tar::Builder::new(Vec::new());
        append(&mut layer, "bin/", &[], 0o755);
        append(&mut layer, "bin/subject", subject(), 0o755);
        for (path, content) in &self.files {
            let mode = if path.ends_with('/') || path.starts_with("bin/") { 0o755 } else { 0o644 };
            append(&mut layer, path, content, mode);
        }
        layer.into_inner().unwrap()
    }
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8], mode: u32) {
    let mut header = tar::Header::new_gnu();
    if path.ends_with('/') {
        header.set_entry_type(tar::EntryType::Directory);
    }
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_mtime(1_700_000_000);
    header.set_cksum();
    tar.append_data(&mut header, path, bytes).unwrap();
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

impl Image {
    /// The usual image.
    pub fn new(test: &str) -> Self {
        Source::default().load(test)
    }

    /// The repository with something added to it: `slim-test/NAME-PID-N` + `suffix`.
    pub fn beside(&self, suffix: &str) -> String {
        format!("{}{suffix}", self.name.trim_end_matches(":1"))
    }

    /// The name that a result gets without --tag.
    pub fn slim(&self) -> String {
        self.beside(".slim:1")
    }

    /// IDs of the images made from this one that have no name.
    pub fn nameless_results(&self) -> String {
        let label = format!("label=slim.source={}", self.id);
        docker(&["images", "-aq", "--filter", "dangling=true", "--filter", &label])
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        // A test that failed may have left containers of these images.
        let results = docker(&["images", "-aq", "--filter", &format!("label=slim.source={}", self.id)]);
        let names = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}", "--filter", &format!("reference={}", self.beside("*"))]);
        for image in names.lines().chain(results.lines()) {
            let _gone_already = Command::new("docker").args(["rmi", "-f", image]).output();
        }
    }
}
