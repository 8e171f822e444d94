//! Replay: deciding on images, traces and facts that are written as text, to see what stays and why without
//! root, an engine or a network. The format is described in fixtures/trees/README.md.
//!
//! This is the one place in `keep` that reads files: the fixture's own.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use super::scripts::{self, Called, Dialect};
use super::{AppRoot, Elf, Facts, FileFacts, KeepSet, Level, Policy, Step, Used, Want, answer, decide};
use crate::image::path::decode_bytes;
use crate::image::{Entry, ImageConfig, ImagePath, Kind, Tree};
use crate::packages::metadata::Mode;
use crate::packages::{Package, Packages, System};
use crate::sensor::event::{AccessKind, Process};
use crate::trace::{Fact, Trace};

/// How often deciding may ask before something is wrong with it.
const MAX_ROUNDS: usize = 100;

/// Decides on a fixture directory and tells what stays, one line per path with its reasons, then what was left
/// out, what walkers brought, and the warnings.
///
/// # Errors
/// When a file of the fixture cannot be read or understood; the error names file and line.
pub fn replay(dir: &Path) -> Result<String> {
    let fixture = Fixture::read(dir)?;
    Ok(show(&fixture, &fixture.decide()?))
}

/// The same at another level than policy.toml says.
///
/// # Errors
/// See [`replay`].
pub fn replay_at(dir: &Path, level: Level) -> Result<String> {
    let mut fixture = Fixture::read(dir)?;
    fixture.policy.level = level;
    Ok(show(&fixture, &fixture.decide()?))
}

/// An image, a run and what is in the image's files.
#[derive(Debug)]
pub struct Fixture {
    /// tree.txt.
    pub tree: Tree,
    /// trace.txt, or a recording as the sensor writes it in trace.jsonl.
    pub trace: Trace,
    /// image.json; empty without one.
    pub config: ImageConfig,
    /// policy.toml; what it does not say comes from the config.
    pub policy: Policy,
    /// facts.txt.
    pub facts: Facts,
    /// packages.txt.
    pub packages: Packages,
}

impl Fixture {
    /// Reads a fixture directory.
    ///
    /// # Errors
    /// See [`replay`].
    pub fn read(dir: &Path) -> Result<Self> {
        let text = |name: &str| match std::fs::read_to_string(dir.join(name)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("read {}", dir.join(name).display())),
        };
        let tree = text("tree.txt")?.with_context(|| format!("{} has no tree.txt", dir.display()))?;
        let trace = match text("trace.jsonl")? {
            Some(recording) => Trace::read(recording.as_bytes()).context("trace.jsonl")?,
            None => parse_trace(&text("trace.txt")?.unwrap_or_default()).context("trace.txt")?,
        };
        let config = ImageConfig::parse(text("image.json")?.unwrap_or("{}".into()).as_bytes()).context("image.json")?;
        let policy = parse_policy(&text("policy.toml")?.unwrap_or_default(), &config).context("policy.toml")?;
        Ok(Self {
            tree: parse_tree(&tree).context("tree.txt")?,
            trace,
            config,
            policy,
            facts: parse_facts(&text("facts.txt")?.unwrap_or_default()).context("facts.txt")?,
            packages: parse_packages(&text("packages.txt")?.unwrap_or_default()).context("packages.txt")?,
        })
    }

    /// Decides, answering from facts.txt; a file that is not in there is neither program nor text.
    ///
    /// # Errors
    /// When deciding does not come to an end.
    pub fn decide(&self) -> Result<KeepSet> {
        let mut facts = Facts::new();
        for _ in 0..MAX_ROUNDS {
            match decide(&self.tree, &self.trace, &self.config, &self.policy, &facts, &self.packages) {
                Step::Done(keep) => return Ok(keep),
                Step::Need(need) => {
                    let mut found = self.facts.clone();
                    for (path, want) in &need {
                        if let (Want::Calls(dialect), Some(facts)) = (want, found.get_mut(path)) {
                            facts.script = Some(scripts::read(*dialect, facts.text.as_deref().unwrap_or_default()));
                        }
                    }
                    answer(&mut facts, need, found);
                }
            }
        }
        bail!("deciding still asks for facts after {MAX_ROUNDS} rounds")
    }
}

fn show(fixture: &Fixture, keep: &KeepSet) -> String {
    let mut out = String::new();
    let wide = keep.kept.keys().map(|path| path.encode().chars().count()).max().unwrap_or(0).min(48);
    for (path, reasons) in &keep.kept {
        let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "{:wide$}  {}", path.encode(), reasons.join("; "));
    }
    let entry = |path: &ImagePath| fixture.tree.get(path).map(|entry| (path.clone(), entry.clone()));
    let kept: Tree = keep.kept.keys().filter_map(entry).collect();
    let _ = writeln!(
        out,
        "\nkept {} of {} entries, {} of {} bytes",
        kept.len(),
        fixture.tree.len(),
        kept.bytes(),
        fixture.tree.bytes()
    );
    for (path, rule) in &keep.left_out {
        let _ = writeln!(out, "left out: {} ({rule})", path.encode());
    }
    for walker in &keep.walkers {
        let _ = writeln!(out, "walker: {} alone brought {} files, {} bytes", walker.process, walker.files, walker.bytes);
    }
    for app in &keep.app {
        let AppRoot { root, files, kept, bytes } = app;
        let _ = writeln!(out, "app: {}: {kept} of {files} files stay, {bytes} bytes go", root.encode());
    }
    for script in keep.scripts.iter().filter(|script| script.calls.iter().any(|call| !call.ran)) {
        let tell = |call: &Called| format!("{}{}", call.name, if call.kept { "" } else { " (goes)" });
        let calls: Vec<String> = script.calls.iter().filter(|call| !call.ran).map(tell).collect();
        let _ = writeln!(out, "script: {} also calls {}", script.path.encode(), calls.join(", "));
    }
    for warning in &keep.warnings {
        let _ = writeln!(out, "warning: {warning}");
    }
    out
}

/// Lines with their numbers, without comments and empty ones.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim_end()));
    numbered.filter(|(_, line)| !line.trim_start().starts_with("# ") && !line.trim().is_empty() && *line != "#")
}

fn path_of(word: &str) -> Result<ImagePath> {
    if !word.starts_with('/') {
        bail!("`{word}` is not an absolute path");
    }
    ImagePath::decode(word).ok_or_else(|| anyhow!("`{word}` has a broken \\ escape"))
}

fn parse_tree(text: &str) -> Result<Tree> {
    let mut tree = Tree::new();
    tree.insert(ImagePath::root(), Entry::new(Kind::Directory));
    for (number, line) in lines(text) {
        let (path, mut entry) = parse_entry(&tree, line).with_context(|| format!("line {number}"))?;
        for above in path.ancestors() {
            if !tree.contains(&above) {
                tree.insert(above, Entry::new(Kind::Directory));
            }
        }
        if let Some((_, first)) = line.split_once(" = ").filter(|_| line.starts_with("hard ")) {
            // Both names of the inode carry its number.
            let first = path_of(first.trim()).with_context(|| format!("line {number}"))?;
            let inode = entry.hardlink.unwrap_or(number as u64);
            entry.hardlink = Some(inode);
            tree.insert(first, entry.clone());
        }
        tree.insert(path, entry);
    }
    Ok(tree)
}

fn parse_entry(tree: &Tree, line: &str) -> Result<(ImagePath, Entry)> {
    let mut words = line.split_whitespace();
    let (kind, path) = (words.next().unwrap_or_default(), path_of(words.next().unwrap_or_default())?);
    let mut entry = Entry::new(match kind {
        "file" | "hard" => Kind::File,
        "dir" => Kind::Directory,
        "pipe" => Kind::Fifo,
        "char" => Kind::CharDevice { rdev: (1, 3) },
        "link" => {
            let arrow = words.next();
            let target = words.next().filter(|_| arrow == Some("->")).context("a link needs `-> TARGET`")?;
            Kind::Symlink { target: decode_bytes(target).context("a broken \\ escape")? }
        }
        _ => bail!("`{kind}` is none of file, dir, link, hard, pipe, char"),
    });
    if kind == "hard" {
        let equals = words.next();
        let other = path_of(words.next().filter(|_| equals == Some("=")).context("a hard link needs `= PATH`")?)?;
        entry = tree.get(&other).with_context(|| format!("{other} stands further down"))?.clone();
    }
    if entry.is_file() && kind == "file" {
        entry.size = 1000;
    }
    for word in words {
        let (key, value) = word.split_once('=').with_context(|| format!("`{word}` is not KEY=VALUE"))?;
        match key {
            "mode" => entry.mode = u32::from_str_radix(value, 8).context("mode")?,
            "size" => entry.size = value.parse().context("size")?,
            "owner" => {
                let (uid, gid) = value.split_once(':').context("owner=UID:GID")?;
                (entry.uid, entry.gid) = (uid.parse().context("uid")?, gid.parse().context("gid")?);
            }
            _ => bail!("`{key}` is none of mode, size, owner"),
        }
    }
    Ok((path, entry))
}

/// What a word of trace.txt means: kind, by the syscall recorder, last link not followed.
const USES: &[(&str, AccessKind, bool, bool)] = &[
    ("exec", AccessKind::Exec, false, false),
    ("open", AccessKind::Open, false, false),
    ("opendir", AccessKind::OpenDir, false, false),
    ("execve", AccessKind::Exec, true, false),
    ("openat", AccessKind::Open, true, false),
    ("stat", AccessKind::Stat, true, false),
    ("lstat", AccessKind::Stat, true, true),
    ("access", AccessKind::Stat, true, false),
    ("readlink", AccessKind::Readlink, true, true),
    ("chdir", AccessKind::Chdir, true, false),
    ("chroot", AccessKind::Chdir, true, false),
    ("connect", AccessKind::Socket, true, false),
    ("chmod", AccessKind::Meta, true, false),
    ("chown", AccessKind::Meta, true, false),
    ("lchown", AccessKind::Meta, true, true),
    ("rename", AccessKind::Name, true, true),
    ("unlink", AccessKind::Name, true, true),
    ("mkdir", AccessKind::Name, true, true),
    ("inotify_add_watch", AccessKind::Watch, true, false),
];

fn parse_trace(text: &str) -> Result<Trace> {
    let mut trace = Trace::default();
    trace.marks.insert(0, "start".into());
    for (number, line) in lines(text) {
        if let Some(name) = line.strip_prefix("mark ") {
            let next = trace.marks.len() as u32;
            trace.marks.insert(next, name.trim().into());
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(exe), Some(call), Some(path), None) = (words.next(), words.next(), words.next(), words.next()) else {
            bail!("line {number}: not `PROCESS USE PATH` or `mark NAME`");
        };
        let found = USES.iter().find(|(name, ..)| *name == call);
        let Some(&(_, kind, attempted, nofollow)) = found else {
            bail!("line {number}: `{call}` is no use of a path");
        };
        let path = decode_bytes(path).filter(|path| path.first() == Some(&b'/'));
        let path = path.with_context(|| format!("line {number}: not an absolute path"))?;
        let exe = decode_bytes(exe).with_context(|| format!("line {number}: a broken \\ escape"))?;
        let known = trace.processes.iter().find(|(_, process)| process.exe == exe).map(|(id, _)| *id);
        let process = known.unwrap_or(trace.processes.len() as u32);
        let image = Process { id: process, pid: 1, exe, comm: String::new(), origin: "target".into() };
        trace.processes.entry(process).or_insert(image);
        let call = if attempted { call.to_owned() } else { String::new() };
        let mark = trace.marks.len() as u32 - 1;
        trace.facts.entry(path).or_default().push(Fact { kind, resolved: !attempted, call, nofollow, process, mark });
        trace.accesses += 1;
    }
    Ok(trace)
}

fn parse_facts(text: &str) -> Result<Facts> {
    let mut facts = Facts::new();
    let mut last: Option<ImagePath> = None;
    for (number, line) in lines(text) {
        if let Some(content) = line.trim_start().strip_prefix('|') {
            let facts = last.as_ref().and_then(|path| facts.get_mut(path));
            let facts: &mut FileFacts = facts.with_context(|| format!("line {number}: text of no file"))?;
            let text = facts.text.get_or_insert_default();
            text.extend_from_slice(content.strip_prefix(' ').unwrap_or(content).as_bytes());
            text.push(b'\n');
            continue;
        }
        let (path, found) = parse_fact(line).with_context(|| format!("line {number}"))?;
        facts.insert(path.clone(), found);
        last = Some(path);
    }
    for (path, facts) in &mut facts {
        facts.imports = facts.text.as_ref().map(|text| super::imports::names(path, text));
    }
    Ok(facts)
}

fn parse_fact(line: &str) -> Result<(ImagePath, FileFacts)> {
    let mut words = line.split_whitespace();
    let path = path_of(words.next().unwrap_or_default())?;
    let mut facts = FileFacts::default();
    match words.next() {
        Some("text") => facts.text = Some(Vec::new()),
        Some("script") => {
            let interpreter = words.next().context("a script needs an interpreter")?.to_owned();
            let argument = words.by_ref().collect::<Vec<_>>().join(" ");
            facts.shebang = Some([interpreter, argument].into_iter().filter(|word| !word.is_empty()).collect());
        }
        Some(kind @ ("elf" | "elf32")) => {
            let class = if kind == "elf" { 64 } else { 32 };
            let mut elf = Elf { class, machine: if class == 64 { 62 } else { 3 }, ..Elf::default() };
            for word in words {
                let (key, value) = word.split_once('=').with_context(|| format!("`{word}` is not KEY=VALUE"))?;
                let list = |by: char| value.split(by).map(str::to_owned).collect();
                match key {
                    "interpreter" => elf.interpreter = Some(value.into()),
                    "machine" => elf.machine = value.parse().context("machine")?,
                    "soname" => elf.soname = Some(value.into()),
                    "needs" => elf.needed = list(','),
                    "may-need" => elf.dlopen = list(','),
                    "rpath" => elf.rpath = list(':'),
                    "runpath" => elf.runpath = list(':'),
                    _ => bail!("`{key}` says nothing about an ELF object"),
                }
            }
            facts.elf = Some(elf);
        }
        other => bail!("`{}` is none of elf, elf32, script, text", other.unwrap_or_default()),
    }
    Ok((path, facts))
}

/// Packages: a line `SYSTEM NAME VERSION needs=A|B,C provides=D`, then `| PATH` for each of its files and
/// `~ PATH` for those that describe it.
fn parse_packages(text: &str) -> Result<Packages> {
    let mut all: Vec<Package> = Vec::new();
    for (number, line) in lines(text) {
        let place = || format!("line {number}");
        let file = line.trim_start().split_once(' ').filter(|(sign, _)| ["|", "~"].contains(sign));
        if let Some((sign, path)) = file {
            let package = all.last_mut().context("a file of no package").with_context(place)?;
            let files = if sign == "|" { &mut package.files } else { &mut package.description };
            files.insert(path_of(path.trim()).with_context(place)?);
            continue;
        }
        all.push(parse_package(line).with_context(place)?);
    }
    Ok(Packages::new(all, Vec::new()))
}

fn parse_package(line: &str) -> Result<Package> {
    const SYSTEMS: &[System] = &[
        System::Dpkg,
        System::Apk,
        System::Rpm,
        System::Python,
        System::Node,
        System::Ruby,
        System::Java,
        System::Php,
        System::DotNet,
    ];
    let mut words = line.split_whitespace();
    let (system, name) = (words.next().unwrap_or_default(), words.next().context("a package needs a name")?);
    let system = SYSTEMS.iter().find(|known| known.name() == system);
    let system = system.with_context(|| format!("`{line}` does not begin with a package manager"))?;
    let mut package = Package::new(*system, name, words.next().unwrap_or_default());
    for word in words {
        let list = |value: &str, by: char| value.split(by).map(str::to_owned).collect::<Vec<_>>();
        match word.split_once('=') {
            Some(("needs", value)) => package.requires = value.split(',').map(|need| list(need, '|')).collect(),
            Some(("provides", value)) => package.provides = list(value, ','),
            _ => bail!("`{word}` is neither needs= nor provides="),
        }
    }
    Ok(package)
}

/// policy.toml: the flags, and the run where it differs from the image's config.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
#[derive(Default)]
struct Flags {
    keep: Level,
    keep_package: Vec<String>,
    include_path: Vec<String>,
    include_bin: Vec<String>,
    include_exe: Vec<String>,
    include_shell: bool,
    include_zoneinfo: bool,
    include_cert_all: bool,
    include_script_commands: Option<bool>,
    uses: Vec<Vec<String>>,
    exclude_pattern: Vec<String>,
    mount_points: Vec<String>,
    argv: Option<Vec<String>>,
    user: Option<String>,
    workdir: Option<String>,
    env: Option<Vec<String>>,
}

fn parse_policy(text: &str, config: &ImageConfig) -> Result<Policy> {
    let flags: Flags = toml::from_str(text)?;
    let mut policy = Policy {
        level: flags.keep,
        metadata: Mode::default(),
        keep_packages: flags.keep_package,
        include_paths: flags.include_path,
        include_bins: flags.include_bin,
        include_exes: flags.include_exe,
        include_shell: flags.include_shell,
        include_zoneinfo: flags.include_zoneinfo,
        include_certs: flags.include_cert_all,
        excludes: flags.exclude_pattern,
        argv: flags.argv.unwrap_or_else(|| [config.entrypoint(), config.cmd()].concat()),
        user: flags.user.unwrap_or_else(|| config.user().into()),
        workdir: flags.workdir.unwrap_or_else(|| config.workdir().into()),
        env: flags.env.unwrap_or_else(|| config.env()),
        mount_points: flags.mount_points,
        include_script_commands: flags.include_script_commands,
        uses: flags.uses.into_iter().map(|argv| Used { place: "uses.yaml".into(), argv }).collect(),
        lines: BTreeMap::new(),
    };
    for line in scripts::lines(config, &policy) {
        let script = scripts::read(Dialect::Words, &scripts::words_text(&line));
        policy.lines.insert(line, script);
    }
    Ok(policy)
}
