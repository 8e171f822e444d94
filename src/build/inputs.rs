//! Inputs: everything that a result follows from, as one digest: the image, what is asked of it and how it runs, what
//! is kept and changed, files of this machine that take part, and this program's version.
//!
//! Not in it: where the image and the result are (but the image's name is, which the result says), which engine does it, and how much is told. They change no byte of
//! the result, so that the same image made elsewhere has the same digest. Secrets are masked before they are hashed:
//! from the digest, which everybody can read in the result's labels, nobody may guess them, and one that is drawn
//! anew for each run is no other input.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::engine::RunOptions;
use crate::engine::options::mounts::{self, MountKind, Mounted};
use crate::plan::BuildPlan;
use crate::probe::request::{ApiSpec, ProbeRequest, RecipeRef};
use crate::report::Redactor;
use crate::report::secrets::{MASK, is_secret_name};

/// Of mounted directories as many files are read, and as many bytes: reading more would take longer than the build.
const MOST_FILES: u64 = 20_000;
const MOST_BYTES: u64 = 1 << 30;

/// Directory of files that are secrets, whatever they are called.
const SECRETS: &str = "/run/secrets";

/// The image as its result says what it was.
pub struct Image<'a> {
    /// Digest of its config.
    pub config: &'a str,
    /// Its name, for the label. `None`: it has none.
    pub name: Option<&'a str>,
}

/// The digest, or why there is none: something that takes part cannot be read from here. `local`: paths of the
/// engine's machine are paths of this one.
pub fn of(plan: &BuildPlan, image: &Image<'_>, local: bool, redactor: &Redactor) -> Result<String, String> {
    // Every field is named: a new one has to be put into the digest or left out on purpose.
    let BuildPlan {
        source: _,
        engine: _,
        pull: _,
        auth: _,
        access: _,
        run,
        // Each is built by a plan of its own.
        platforms: _,
        before_run,
        sensor,
        pid1,
        probes,
        uses,
        traces,
        trace_other_digest,
        settle,
        repeat,
        policy,
        verify: _,
        verify_timeout: _,
        holdout,
        repair_rounds,
        show_logs: _,
        outputs: _,
        budget,
        edits,
        // Names of what the others say.
        given: _,
    } = plan;
    let redactor = &redactor.clone().of_quoted();
    let mut sum = Sum { hash: Sha256::new(), redactor, files: 0, bytes: 0 };
    sum.text("version", env!("CARGO_PKG_VERSION"));
    sum.text("image", image.config);
    sum.text("name", image.name.unwrap_or_default());
    sum.text("epoch", &std::env::var("SOURCE_DATE_EPOCH").unwrap_or_default());
    sum.text("run", &format!("{:?}", bare(run)));
    sum.text("recording", &format!("{sensor:?} {pid1:?} {settle:?} {repeat}"));
    sum.text("proof", &format!("{holdout:?} {repair_rounds}"));
    sum.text("keep", &format!("{policy:?} {trace_other_digest}"));
    // What was published under other budgets proves nothing about these.
    for words in budget.words() {
        sum.text("budget", &words);
    }
    sum.text("edits", &format!("{edits:?}"));
    let containers: Vec<_> = uses.iter().map(|file| &file.containers).collect();
    sum.text("uses", &format!("{containers:?}"));
    let (probes, files) = apart(probes);
    sum.text("probes", &format!("{probes:?}"));
    for file in files.iter().chain(traces) {
        sum.file("file", file)?;
    }
    sum.text("before-run", &format!("{before_run:?}"));
    for word in probes.host_exec.iter().flatten().chain(before_run.iter().flatten()) {
        sum.program(word)?;
    }
    for mount in mounts::all(run) {
        sum.mount(&mount, local)?;
    }
    Ok(format!("sha256:{}", sum.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>()))
}

/// Without mounts, which are read, without what no program in the container notices, and without values of variables
/// that are secret by their names, however short.
fn bare(run: &RunOptions) -> RunOptions {
    let masked = |line: &String| match line.split_once('=') {
        Some((name, _)) if is_secret_name(name) => format!("{name}={MASK}"),
        _ => line.clone(),
    };
    RunOptions {
        env: run.env.iter().map(masked).collect(),
        volumes: Vec::new(),
        mounts: Vec::new(),
        publish: Vec::new(),
        labels: Vec::new(),
        // It chose the image.
        platform: None,
        runtime: None,
        ..run.clone()
    }
}

/// The request without its files, and those files: what is in them counts, not how they are called.
fn apart(probes: &ProbeRequest) -> (ProbeRequest, Vec<PathBuf>) {
    let mut probes = probes.clone();
    let mut files = Vec::new();
    for spec in &mut probes.api_specs {
        if let ApiSpec::File(path) = spec {
            files.push(std::mem::take(path));
        }
    }
    for recipe in &mut probes.recipes {
        if let RecipeRef::File(path) = recipe {
            files.push(std::mem::take(path));
        }
    }
    (probes, files)
}

/// A digest that grows.
struct Sum<'a> {
    hash: Sha256,
    redactor: &'a Redactor,
    files: u64,
    bytes: u64,
}

impl Sum<'_> {
    /// A text under a name. Lengths stand before both, so that no two lists of texts look the same.
    fn text(&mut self, name: &str, text: &str) {
        let text = self.redactor.text(text);
        self.bytes(name, text.as_bytes());
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        for part in [name.as_bytes(), bytes] {
            self.hash.update((part.len() as u64).to_le_bytes());
            self.hash.update(part);
        }
    }

    /// What is in a file.
    fn file(&mut self, name: &str, path: &Path) -> Result<(), String> {
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        let meta = fs::metadata(path).map_err(failed)?;
        self.files += 1;
        self.bytes += meta.len();
        if self.files > MOST_FILES || self.bytes > MOST_BYTES {
            return Err("too much is mounted to read it all".into());
        }
        let mut content = Sha256::new();
        io::copy(&mut fs::File::open(path).map_err(failed)?, &mut content).map_err(failed)?;
        // As git has it: the other bits come from the umask of whoever made the file.
        let kind = if meta.permissions().mode() & 0o100 == 0 { "file" } else { "program" };
        self.bytes(name, kind.as_bytes());
        self.hash.update(content.finalize());
        Ok(())
    }

    /// A word of a command for this machine that is a file of the project: a script that probes. Programs of the machine
    /// itself are not read, or the same build would be another one on every machine.
    fn program(&mut self, word: &str) -> Result<(), String> {
        let path = Path::new(word);
        match path.is_relative() && path.is_file() {
            true => self.file("script", path),
            false => Ok(()),
        }
    }

    /// A mount: where, how, and what is in it.
    fn mount(&mut self, mount: &Mounted, local: bool) -> Result<(), String> {
        let how = mount.text.replacen(&mount.source, "", 1);
        self.text("mount", &how);
        match mount.kind {
            MountKind::Tmpfs => Ok(()),
            MountKind::Volume if !mount.stays => Ok(()),
            MountKind::Volume => Err(format!("what is in the volume {} cannot be seen from here", mount.source)),
            MountKind::Bind if !local => Err(format!("{} is on the engine's machine", mount.source)),
            MountKind::Bind => {
                let path = fs::canonicalize(&mount.source).map_err(|error| format!("{}: {error}", mount.source))?;
                self.tree(&path, Path::new(&mount.target))
            }
        }
    }

    /// A file or a directory with all that is in it, in the order of names. Of secrets, and of sockets and devices, only
    /// that they are there.
    fn tree(&mut self, path: &Path, target: &Path) -> Result<(), String> {
        let failed = |error: io::Error| format!("{}: {error}", path.display());
        let kind = fs::symlink_metadata(path).map_err(failed)?.file_type();
        self.bytes("path", target.as_os_str().as_encoded_bytes());
        if kind.is_symlink() {
            let to = fs::read_link(path).map_err(failed)?;
            self.bytes("link", to.as_os_str().as_encoded_bytes());
            return Ok(());
        }
        if kind.is_dir() {
            let entries = fs::read_dir(path).map_err(failed)?;
            let mut names = entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>().map_err(failed)?;
            names.sort();
            self.bytes("directory", &names.len().to_le_bytes());
            return names.iter().try_for_each(|name| self.tree(&path.join(name), &target.join(name)));
        }
        let name = |path: &Path| path.file_name().and_then(OsStr::to_str).is_some_and(is_secret_name);
        match kind.is_file() && !target.starts_with(SECRETS) && !name(path) && !name(target) {
            true => self.file("file", path),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Here;

    fn plan(line: &str) -> BuildPlan {
        let words = line.split(' ').map(std::ffi::OsString::from);
        let invocation = crate::cli::parse(["slim", "--config=off"].map(Into::into).into_iter().chain(words), &crate::cli::Vars::new()).unwrap();
        let crate::cli::Command::Build(args) = &invocation.command else { panic!("{line}") };
        let here = Here { vars: &crate::cli::Vars::new(), origins: &invocation.origins };
        BuildPlan::new(&invocation.common, args, here, &mut io::empty()).unwrap()
    }

    fn digest(line: &str) -> Result<String, String> {
        let plan = plan(line);
        of(&plan, &Image { config: "sha256:image", name: None }, true, &crate::build::redactor(&plan))
    }

    #[test]
    fn what_changes_no_byte_of_the_result_is_no_input() {
        let plain = digest("build app --http-probe").unwrap();
        for more in [
            "-t other:1",
            "--engine embedded",
            "-H tcp://elsewhere:2375",
            "--pull",
            "-o there.tar",
            "--report off",
            "--platform linux/amd64",
            "--show-clogs",
            "--rebuild",
            "--again",
            "--provenance there.json",
            "--sarif there.sarif",
            "-p 8080",
        ] {
            assert_eq!(digest(&format!("build app --http-probe {more}")).unwrap(), plain, "{more}");
        }
        assert_eq!(digest("build docker-archive:app.tar --http-probe").unwrap(), plain);
    }

    #[test]
    fn what_changes_the_result_is_an_input() {
        let mut seen = vec![digest("build app --http-probe").unwrap()];
        for more in [
            "--http-probe-cmd /x",
            "--exec ls",
            "--keep app",
            "--include-path /x",
            "-e MODE=a",
            "-e MODE=b",
            "--network none",
            "--sensor syscalls",
            "--new-cmd x",
            "--holdout 0.2",
            "--repeat 2",
            "-- serve",
        ] {
            let digest = digest(&format!("build app --http-probe {more}")).unwrap();
            assert!(!seen.contains(&digest), "{more}");
            seen.push(digest);
        }
        let plan = plan("build app --http-probe");
        let other = of(&plan, &Image { config: "sha256:other", name: None }, true, &Redactor::new()).unwrap();
        assert!(!seen.contains(&other));
        let named = of(&plan, &Image { config: "sha256:image", name: Some("host:5000/app:1") }, true, &Redactor::new()).unwrap();
        assert!(!seen.contains(&named), "the result says the name");
    }

    #[test]
    fn a_secret_cannot_be_guessed_from_the_digest() {
        let with = |secret: &str| digest(&format!("build db --env DB_PASSWORD={secret} --exec-sh 'login,{secret}'")).unwrap();
        assert_eq!(with("hunter2-one"), with("hunter2-two"));
        assert_eq!(with("hunter2-one"), with("quo\"ted\\too"));
        let header = |secret: &str| digest(&format!("build db --http-probe-header Authorization:{secret}")).unwrap();
        assert_eq!(header("abcdefgh1"), header("abcdefgh2"));
    }

    #[test]
    fn what_mounted_and_probing_files_hold_is_an_input_and_their_place_is_not() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let write = |dir: &tempfile::TempDir, name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        let of = |dir: &tempfile::TempDir| digest(&format!("build app --exec ls -v {}:/in:ro", dir.path().display())).unwrap();
        for dir in [&one, &other] {
            write(dir, "a", "1");
            write(dir, "token", "s3cret");
        }
        let before = of(&one);
        assert_eq!(before, of(&other), "the same files elsewhere");
        write(&other, "token", "another");
        assert_eq!(before, of(&other), "a secret");
        write(&other, "a", "2");
        assert_ne!(before, of(&other));
        let spec = |dir: &tempfile::TempDir| digest(&format!("build app --http-probe-apispec-file {}", dir.path().join("a").display())).unwrap();
        assert_ne!(spec(&one), spec(&other));
        assert!(digest("build app --exec ls -v data:/data").unwrap_err().contains("the volume data"));
        assert!(digest("build app --exec ls -v /no/such:/data").is_err());
    }
}
