//! Packages against other readers of the same databases: dpkg-query, Python's importlib, Node's own resolver,
//! RubyGems, and trivy on what a slim image would carry. Needs an engine with the fixture images; trivy's path is in
//! SLIM_TEST_TRIVY.

#![allow(clippy::unwrap_used)] // helpers of tests too

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use slim::image::{Entry, ImagePath, Kind, Tree};
use slim::packages::metadata::{self, Ask, Metadata, Mode, metadata};
use slim::packages::{Packages, Step, Texts, read};

/// An image's files in a directory.
struct Rootfs {
    dir: tempfile::TempDir,
    tree: Tree,
    texts: Texts,
}

impl Rootfs {
    fn of_image(image: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let id = output(Command::new("docker").args(["create", image, "x"]));
        let mut export = Command::new("docker").args(["export", id.trim()]).stdout(Stdio::piped()).spawn().unwrap();
        let tar = Command::new("tar").arg("-xC").arg(dir.path()).stdin(export.stdout.take().unwrap()).status().unwrap();
        assert!(tar.success() && export.wait().unwrap().success());
        output(Command::new("docker").args(["rm", id.trim()]));
        let mut tree = Tree::new();
        tree.insert(ImagePath::root(), Entry::new(Kind::Directory));
        add(&mut tree, dir.path(), dir.path());
        Self { dir, tree, texts: Texts::new() }
    }

    fn on_disk(&self, path: &ImagePath) -> PathBuf {
        self.dir.path().join(std::ffi::OsStr::from_bytes(path.relative()))
    }

    fn fetch(&mut self, need: BTreeSet<ImagePath>) {
        for path in need {
            let text = fs::read(self.on_disk(&path)).unwrap();
            self.texts.insert(path, text);
        }
    }

    fn packages(&mut self) -> Packages {
        loop {
            match read(&self.tree, &self.texts) {
                Step::Need(need) => self.fetch(need),
                Step::Done(packages) => return packages,
            }
        }
    }

    fn metadata(&mut self, packages: &Packages, kept: &BTreeSet<ImagePath>, mode: Mode) -> Metadata {
        let wanted = BTreeSet::new();
        loop {
            match metadata(Ask { tree: &self.tree, texts: &self.texts, packages, kept, wanted: &wanted }, mode) {
                metadata::Step::Need(need) => self.fetch(need),
                metadata::Step::Done(made) => return made,
            }
        }
    }
}

fn add(tree: &mut Tree, root: &Path, dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let data = fs::symlink_metadata(&path).unwrap();
        let kind = match data.file_type() {
            kind if kind.is_dir() => Kind::Directory,
            kind if kind.is_symlink() => Kind::Symlink { target: fs::read_link(&path).unwrap().as_os_str().as_bytes().to_vec() },
            _ => Kind::File,
        };
        let size = if kind == Kind::File { data.len() } else { 0 };
        let at = ImagePath::new(path.strip_prefix(root).unwrap().as_os_str().as_bytes());
        let is_dir = kind == Kind::Directory;
        tree.insert(at, Entry { size, ..Entry::new(kind) });
        if is_dir {
            add(tree, root, &path);
        }
    }
}

fn output(command: &mut Command) -> String {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Every package's files as `dpkg-query -L` lists them, those that are there and no directories, with links in
/// their directories resolved by the kernel: `NAME<TAB>PATH` lines.
const DPKG_SAYS: &str = r#"
for my $package (split /\n/, `dpkg-query -W -f '\${binary:Package}\n'`) {
    my @paths;
    for (split /\n/, `dpkg-query -L $package`) {
        if (/^diverted by \S+ to: (.*)/ or /^locally diverted to: (.*)/) { $paths[-1] = $1 }
        elsif (m{^/}) { push @paths, $_ }
    }
    $package =~ s/:.*//;
    for (@paths) {
        next if (-d $_ and not -l $_) or not (-e $_ or -l $_);
        my ($dir, $name) = m{^(.*)/([^/]*)$};
        my $real = Cwd::realpath($dir eq '' ? '/' : $dir);
        print "$package\t", ($real eq '/' ? '' : $real), "/$name\n";
    }
}"#;

fn dpkg_says(image: &str) -> BTreeMap<String, BTreeSet<ImagePath>> {
    paths_by_name(&said(image, &["perl", "-MCwd", "-e", DPKG_SAYS]))
}

/// What a program of an image says.
fn said(image: &str, argv: &[&str]) -> String {
    output(Command::new("docker").args(["run", "--rm", "--entrypoint", argv[0], image]).args(&argv[1..]))
}

/// `NAME<TAB>PATH` lines.
fn paths_by_name(text: &str) -> BTreeMap<String, BTreeSet<ImagePath>> {
    let mut said: BTreeMap<String, BTreeSet<ImagePath>> = BTreeMap::new();
    for (package, path) in text.lines().filter_map(|line| line.split_once('\t')) {
        said.entry(package.to_owned()).or_default().insert(path.into());
    }
    said
}

#[test]
#[ignore = "needs an engine with the fixture images"]
fn dpkg_packages_have_the_files_that_dpkg_lists() {
    for image in ["slim-fixture/nginx", "slim-fixture/postgres", "slim-fixture/flask"] {
        let mut rootfs = Rootfs::of_image(image);
        let packages = rootfs.packages();
        let said = dpkg_says(image);
        assert!(said.values().map(BTreeSet::len).sum::<usize>() > 1000, "{image}: dpkg says too little");
        let os = || packages.iter().filter(|package| package.system.is_os());
        let is_link = |path: &&ImagePath| rootfs.tree.get(path).is_some_and(|entry| entry.link_target().is_some());
        let leads_to = |path: &ImagePath| rootfs.tree.find(path.as_bytes());
        for package in os() {
            let listed = said.get(&package.name).cloned().unwrap_or_default();
            // What is listed as a directory and is a link is nobody's.
            for path in listed.difference(&package.files) {
                let is_dir = leads_to(path).and_then(|end| rootfs.tree.get(&end)).is_some_and(Entry::is_dir);
                assert!(is_dir && is_link(&path), "{image}: {package} lacks {path}");
            }
            // Alternatives are in no list.
            for path in package.files.difference(&listed) {
                let end = leads_to(path).unwrap();
                assert!(is_link(&path) && listed.contains(&end), "{image}: {path} is not of {package}");
            }
        }
        let found: BTreeSet<&str> = os().map(|package| package.name.as_str()).collect();
        let names = said.keys().filter(|name| !found.contains(name.as_str()));
        assert_eq!(names.collect::<Vec<_>>(), [] as [&String; 0], "{image}");
        assert_eq!(packages.warnings, [] as [String; 0], "{image}");
    }
}

/// The same of Python's distributions, from their RECORDs and what else importlib reads; then, after an empty name,
/// `NAME needs NAME` with markers evaluated as pip does it.
const PYTHON_SAYS: &str = r#"
import importlib.metadata, os
from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name
found = {canonicalize_name(one.metadata['Name']): one for one in importlib.metadata.distributions()}
for one in found.values():
    for file in one.files or []:
        directory, name = os.path.split(file.locate())
        path = os.path.join(os.path.realpath(directory), name)
        if os.path.lexists(path):
            print(one.metadata['Name'], path, sep='\t')
for one in found.values():
    for need in map(Requirement, one.requires or []):
        other = found.get(canonicalize_name(need.name))
        if other and (need.marker is None or need.marker.evaluate({'extra': ''})):
            print('', one.metadata['Name'] + ' needs ' + other.metadata['Name'], sep='\t')
"#;

#[test]
#[ignore = "needs an engine with the fixture images"]
fn python_packages_have_the_files_and_needs_that_importlib_lists() {
    for (image, least) in [("slim-fixture/flask", 8), ("slim-fixture/django", 4), ("slim-fixture/fastapi", 10)] {
        let mut rootfs = Rootfs::of_image(image);
        let packages = rootfs.packages();
        let text = said(image, &["python3", "-c", PYTHON_SAYS]);
        let (needs, files): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('\t'));
        let said = paths_by_name(&files.join("\n"));
        assert!(said.len() >= least && needs.len() >= least / 2, "{image}: importlib says too little: {text}");
        for (name, listed) in &said {
            let package = packages.iter().find(|package| package.system.name() == "python" && package.name == *name);
            let package = package.unwrap_or_else(|| panic!("{image}: no {name}"));
            let lacks: Vec<_> = listed.difference(&package.files).collect();
            assert!(lacks.is_empty(), "{image}: {package} lacks {lacks:?}");
            // What was compiled afterwards is in no list.
            let more = package.files.difference(listed).find(|path| !path.as_bytes().ends_with(b".pyc"));
            assert_eq!(more, None, "{image}: not of {package}");
        }
        let place = |name: &str| packages.iter().position(|package| package.system.name() == "python" && package.name == name).unwrap();
        for (one, other) in needs.iter().filter_map(|line| line.trim().split_once(" needs ")) {
            let start = place(one);
            assert!(packages.closure([start]).contains_key(&place(other)), "{image}: {one} does not need {other}");
        }
    }
}

/// Where Node finds what each installed package depends on: `PACKAGE.JSON<TAB>FILE` lines.
const NODE_SAYS: &str = r#"
const fs = require('fs'), path = require('path');
function walk(dir) {
  for (const entry of fs.readdirSync(dir, { withFileTypes: true })) {
    const at = path.join(dir, entry.name);
    if (entry.isDirectory()) walk(at);
    else if (entry.name === 'package.json' && dir.includes('node_modules')) tell(at);
  }
}
function tell(file) {
  const find = require('module').createRequire(file);
  for (const name of Object.keys(JSON.parse(fs.readFileSync(file)).dependencies || {})) {
    let found = '';
    try { found = find.resolve(name); } catch { continue; }
    if (path.isAbsolute(found)) console.log(fs.realpathSync(file) + '\t' + fs.realpathSync(found));
  }
}
walk(path.resolve('node_modules'));
"#;

#[test]
#[ignore = "needs an engine with the fixture images"]
fn node_packages_need_the_copies_that_node_resolves() {
    for image in ["slim-fixture/express", "slim-fixture/next"] {
        let mut rootfs = Rootfs::of_image(image);
        let packages = rootfs.packages();
        let text = said(image, &["node", "-e", NODE_SAYS]);
        assert!(text.lines().count() >= 15, "{image}: node says too little: {text}");
        let node = |path: &str| packages.owners(&path.into()).iter().copied().find(|index| packages.at(*index).system.name() == "node");
        for (described, found) in text.lines().filter_map(|line| line.split_once('\t')) {
            let (Some(start), Some(end)) = (node(described), node(found)) else {
                panic!("{image}: {described} or {found} is of no package");
            };
            assert!(packages.closure([start]).contains_key(&end), "{image}: {described} does not need {found}");
        }
    }
}

/// The specifications of gems: `has<TAB>SPECIFICATION<TAB>FILE` for what lies in a gem's directory, and
/// `needs<TAB>SPECIFICATION<TAB>NAME` for what it depends on and is there.
const RUBY_SAYS: &str = r#"
Gem::Specification.each do |gem|
  at = File.realpath(gem.loaded_from)
  Dir.glob(File.join(gem.full_gem_path, '**', '*')).select { |file| File.file?(file) }.each { |file| puts ['has', at, File.realpath(file)].join("\t") }
  gem.runtime_dependencies.each do |need|
    puts ['needs', at, need.name].join("\t") unless Gem::Specification.find_all_by_name(need.name, need.requirement).empty?
  end
end
"#;

#[test]
#[ignore = "needs an engine with the fixture images"]
fn gems_have_the_files_and_needs_that_rubygems_lists() {
    let image = "slim-fixture/sinatra";
    let mut rootfs = Rootfs::of_image(image);
    let packages = rootfs.packages();
    let text = said(image, &["ruby", "-e", RUBY_SAYS]);
    for (word, least) in [("has\t", 20), ("needs\t", 8)] {
        assert!(text.lines().filter(|line| line.starts_with(word)).count() >= least, "RubyGems says too little: {text}");
    }
    let ruby = |path: &str| packages.owners(&path.into()).iter().copied().find(|index| packages.at(*index).system.name() == "ruby");
    for line in text.lines() {
        let mut words = line.split('\t');
        let (Some(word), Some(described), Some(other)) = (words.next(), words.next(), words.next()) else { panic!("{line}") };
        let start = ruby(described).unwrap_or_else(|| panic!("{described} is of no gem"));
        match word {
            "has" => assert!(packages.at(start).files.contains(&other.into()), "{described} lacks {other}"),
            _ => assert!(packages.closure([start]).into_keys().any(|index| packages.at(index).name == other), "{described} does not need {other}"),
        }
    }
}

/// Every OS package that trivy finds below a directory, with its version.
fn trivy_says(dir: &Path) -> BTreeSet<(String, String)> {
    let trivy = std::env::var_os("SLIM_TEST_TRIVY").expect("set SLIM_TEST_TRIVY to the trivy executable");
    let cache = tempfile::tempdir().unwrap();
    let mut command = Command::new(trivy);
    command.args(["rootfs", "--quiet", "--offline-scan", "--skip-db-update", "--skip-java-db-update", "--cache-dir"]);
    command.arg(cache.path()).args(["--list-all-pkgs", "--format", "json", "--scanners", "license"]).arg(dir);
    let report: serde_json::Value = serde_json::from_str(&output(&mut command)).unwrap();
    let results = report["Results"].as_array().cloned().unwrap_or_default();
    let of_os = results.iter().filter(|result| result["Class"] == "os-pkgs");
    let packages = of_os.flat_map(|result| result["Packages"].as_array().cloned().unwrap_or_default());
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    packages.map(|package| (text(&package["Name"]), text(&package["Version"]))).collect()
}

fn copy(from: &Rootfs, to: &Path, path: &ImagePath) {
    let target = to.join(std::ffi::OsStr::from_bytes(path.relative()));
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    assert!(Command::new("cp").arg("-a").arg(from.on_disk(path)).arg(target).status().unwrap().success());
}

#[test]
#[ignore = "needs an engine with the fixture images, and trivy in SLIM_TEST_TRIVY"]
fn trivy_finds_exactly_the_packages_of_which_files_are_kept() {
    let mut rootfs = Rootfs::of_image("slim-fixture/nginx");
    let packages = rootfs.packages();
    let stays = ["nginx", "libc6", "libssl3", "zlib1g", "libpcre2-8-0", "base-files"];
    // One file of each, and the documentation of one that is gone.
    let mut kept: BTreeSet<ImagePath> = BTreeSet::from(["/usr/share/doc/bash/copyright".into()]);
    for name in stays {
        let package = packages.iter().find(|package| package.name == name).unwrap();
        let file = package.files.iter().find(|path| !path.starts_with(&"/usr/share".into())).unwrap();
        kept.insert(file.clone());
    }
    kept.extend(["/etc/os-release".into(), "/usr/lib/os-release".into(), "/etc/debian_version".into()]);
    let everything = trivy_says(rootfs.dir.path());
    assert!(everything.len() > 50, "trivy finds {} packages in the untouched image", everything.len());

    let of_mode = |rootfs: &mut Rootfs, mode| {
        let made = rootfs.metadata(&packages, &kept, mode);
        let out = tempfile::tempdir().unwrap();
        kept.iter().chain(&made.keep).for_each(|path| copy(rootfs, out.path(), path));
        for (path, one) in &made.written {
            let target = out.path().join(std::ffi::OsStr::from_bytes(path.relative()));
            if one.entry.is_dir() {
                fs::create_dir_all(target).unwrap();
            } else {
                fs::create_dir_all(target.parent().unwrap()).unwrap();
                fs::write(target, &one.content).unwrap();
            }
        }
        trivy_says(out.path())
    };
    let auto = of_mode(&mut rootfs, Mode::Auto);
    let expected = everything.iter().filter(|(name, _)| stays.contains(&name.as_str())).cloned().collect();
    assert_eq!(auto, expected);
    assert_eq!(auto.len(), stays.len());
    assert_eq!(of_mode(&mut rootfs, Mode::Full), everything);
    assert_eq!(of_mode(&mut rootfs, Mode::None), BTreeSet::new());
}
