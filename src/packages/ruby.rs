//! Ruby gems: what `specifications/NAME-VERSION.gemspec` describes, in any gem directory (RubyGems, Bundler's
//! `vendor/bundle`, Debian's rubygems-integration), Bundler's checkouts of git repositories, and a Ruby that is
//! no package of the operating system.

use std::collections::{BTreeMap, BTreeSet};

use super::gather::{all_below, files_below, is_foreign, name_of, text};
use super::{Package, Reading, System};
use crate::image::{ImagePath, Tree};

/// So many gems may be described in one directory of a checkout.
const MAX_SHARING: usize = 8;

/// Reads the gems of an image.
pub(super) fn read(reading: &mut Reading<'_>) {
    let extensions = extensions(reading.tree);
    let mut libraries: BTreeMap<ImagePath, Option<Library>> = BTreeMap::new();
    let mut checkouts: BTreeMap<ImagePath, usize> = BTreeMap::new();
    for (path, place) in specifications(reading.tree) {
        let Some(text) = text(reading, &path) else { continue };
        let stem = name_of(&path).trim_end_matches(".gemspec").to_owned();
        let specification = Specification::parse(&text, &stem);
        let mut package = Package::new(System::Ruby, &specification.name, &specification.version);
        package.requires = specification.needs.iter().map(|name| vec![name.clone()]).collect();
        package.requires.push(vec!["ruby".to_owned()]);
        match place {
            Place::Installed(home) | Place::Default(home) => {
                package.files = installed(reading.tree, &home, &stem, &specification);
                for dir in extensions.get(&(home.clone(), stem.clone().into_bytes())).into_iter().flatten() {
                    package.files.extend(all_below(reading.tree, dir));
                }
                let library = libraries.entry(home).or_insert_with_key(|home| Library::of(reading.tree, home));
                let came_with_ruby = is_default(&path);
                let library = library.as_ref().filter(|_| came_with_ruby);
                package.files.extend(library.map(|library| library.files(reading.tree, &specification.files)).unwrap_or_default());
            }
            Place::Checkout(dir) => {
                let count = checkouts.entry(dir.clone()).or_default();
                *count += 1;
                if *count <= MAX_SHARING {
                    package.files = files_below(reading.tree, &dir, is_foreign);
                }
            }
        }
        package.files.insert(path.clone());
        package.description = BTreeSet::from([path]);
        reading.packages.push(package);
    }
    for (home, library) in libraries {
        reading.packages.extend(library.and_then(|library| interpreter(reading.tree, &home, &library)));
    }
}

/// Whether a specification is of a gem that came with Ruby.
fn is_default(specification: &ImagePath) -> bool {
    specification.parent().is_some_and(|dir| dir.file_name() == Some(b"default"))
}

/// The directories `extensions/PLATFORM/ABI/NAME-VERSION` by gem directory and last name.
fn extensions(tree: &Tree) -> BTreeMap<(ImagePath, Vec<u8>), Vec<ImagePath>> {
    let mut found: BTreeMap<(ImagePath, Vec<u8>), Vec<ImagePath>> = BTreeMap::new();
    for (path, _) in tree.iter().filter(|(_, entry)| entry.is_dir()) {
        let Some(dir) = path.ancestors().nth(2).filter(|dir| dir.file_name() == Some(b"extensions")) else { continue };
        if let (Some(home), Some(name)) = (dir.parent(), path.file_name()) {
            found.entry((home, name.to_vec())).or_default().push(path.clone());
        }
    }
    found
}

/// Where a specification stands, and so what it describes.
enum Place {
    /// A directory of gems (GEM_HOME).
    Installed(ImagePath),
    /// The same, for a gem that came with Ruby: its files are in Ruby's own library.
    Default(ImagePath),
    /// A repository that Bundler checked out, or a directory of one that holds several gems.
    Checkout(ImagePath),
}

fn specifications(tree: &Tree) -> Vec<(ImagePath, Place)> {
    let files = tree.iter().filter(|(path, entry)| !entry.is_dir() && path.as_bytes().ends_with(b".gemspec"));
    files.filter_map(|(path, _)| Some((path.clone(), place(path)?))).collect()
}

fn place(specification: &ImagePath) -> Option<Place> {
    let dir = specification.parent()?;
    let above = dir.parent()?;
    match (above.file_name(), dir.file_name()) {
        (_, Some(b"specifications")) => Some(Place::Installed(above)),
        (Some(b"specifications"), Some(b"default")) => above.parent().map(Place::Default),
        _ => {
            let is_checkouts = |dir: ImagePath| dir.as_bytes().ends_with(b"/bundler/gems");
            let is_near = dir.ancestors().take(2).any(is_checkouts);
            is_near.then_some(Place::Checkout(dir))
        }
    }
}

/// What a gemspec says, as RubyGems writes it (`Gem::Specification#to_ruby`) and people do. It is a program;
/// only its plain assignments are understood.
#[derive(Debug, Default, PartialEq, Eq)]
struct Specification {
    name: String,
    version: String,
    needs: BTreeSet<String>,
    files: Vec<String>,
    programs: Vec<String>,
}

impl Specification {
    fn parse(text: &str, stem: &str) -> Self {
        let mut found = Self::default();
        // `# stub: NAME VERSION PLATFORM DIRECTORIES`
        if let Some(stub) = text.lines().find_map(|line| line.strip_prefix("# stub: ")) {
            let mut words = stub.split(' ');
            found.name = words.next().unwrap_or_default().to_owned();
            found.version = words.next().unwrap_or_default().to_owned();
        }
        let (mut runtime, mut any) = (BTreeSet::new(), BTreeSet::new());
        for line in text.lines() {
            let Some((_, statement)) = line.trim().split_once('.') else { continue };
            let word: String = statement.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let rest = statement[word.len()..].trim_start();
            let value = rest.strip_prefix('=').filter(|rest| !rest.starts_with(['=', '~', '>']));
            match (word.as_str(), value) {
                ("name", Some(value)) if found.name.is_empty() => found.name = first(value),
                ("version", Some(value)) if found.version.is_empty() => found.version = first(value),
                ("files", Some(value)) => found.files = strings(value),
                ("executables", Some(value)) => found.programs = strings(value),
                ("add_runtime_dependency", _) => runtime.extend(strings(rest).into_iter().next()),
                ("add_dependency", _) => any.extend(strings(rest).into_iter().next()),
                _ => {}
            }
        }
        // Where both stand, the second kind is for a RubyGems of 2009 and mixes in what development needs.
        found.needs = if text.contains("add_runtime_dependency") { runtime } else { any };
        if found.name.is_empty() {
            let (name, version) = stem.rsplit_once('-').unwrap_or((stem, ""));
            (found.name, found.version) = (name.to_owned(), version.to_owned());
        }
        found
    }
}

fn first(text: &str) -> String {
    strings(text).into_iter().next().unwrap_or_default()
}

/// The strings of a line of Ruby: `"a"`, `'a'`, `%q<a>`.
fn strings(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(['"', '\'', '%']) {
        let (end, from) = match &rest[start..] {
            quoted if quoted.starts_with("%q<") => ('>', start + 3),
            quoted if quoted.starts_with('"') => ('"', start + 1),
            quoted if quoted.starts_with('\'') => ('\'', start + 1),
            _ => {
                rest = &rest[start + 1..];
                continue;
            }
        };
        let Some((string, after)) = rest[from..].split_once(end) else { break };
        found.push(string.to_owned());
        rest = after;
    }
    found
}

/// What belongs to a gem of a gem directory: its own directory and its commands.
fn installed(tree: &Tree, home: &ImagePath, stem: &str, specification: &Specification) -> BTreeSet<ImagePath> {
    let mut files = all_below(tree, &home.child(b"gems").child(stem.as_bytes()));
    let info = home.child(b"build_info").child(format!("{stem}.info").as_bytes());
    let programs = specification.programs.iter().filter(|name| !name.is_empty() && !name.contains('/') && !name.starts_with('.'));
    let bins = [Some(home.child(b"bin")), ruby_of(home).map(|(prefix, _)| prefix.child(b"bin"))];
    let commands: Vec<ImagePath> = programs.flat_map(|name| bins.iter().flatten().map(move |bin| bin.child(name.as_bytes()))).collect();
    let exists = |path: &ImagePath| tree.get(path).is_some_and(|entry| !entry.is_dir());
    files.extend(commands.into_iter().chain([info]).filter(exists));
    files
}

/// `/usr/local` and `3.1.0` of the gem directory `/usr/local/lib/ruby/gems/3.1.0`.
fn ruby_of(home: &ImagePath) -> Option<(ImagePath, &[u8])> {
    let ruby = home.parent().filter(|gems| gems.file_name() == Some(b"gems"))?.parent()?;
    let lib = ruby.parent().filter(|_| ruby.file_name() == Some(b"ruby"))?;
    let prefix = lib.parent().filter(|_| matches!(lib.file_name(), Some(b"lib" | b"lib64")))?;
    Some((prefix, home.file_name()?))
}

/// The library of the Ruby that a gem directory belongs to.
struct Library {
    /// `/usr/local`
    prefix: ImagePath,
    /// `/usr/local/lib/ruby/3.1.0`
    dir: ImagePath,
    /// Directories that are for one platform.
    platforms: Vec<ImagePath>,
}

impl Library {
    /// `None` for a gem directory that is none of a Ruby.
    fn of(tree: &Tree, home: &ImagePath) -> Option<Self> {
        let (prefix, abi) = ruby_of(home)?;
        let dir = prefix.child(b"lib").child(b"ruby").child(abi);
        let is_platform = |dir: &ImagePath| tree.contains(&dir.child(b"rbconfig.rb"));
        let below = tree.children(&dir).map(|(dir, _)| dir.clone());
        // Debian: lib/x86_64-linux-gnu/ruby/3.1.0
        let lib = prefix.child(b"lib");
        let beside = tree.children(&lib).map(|(dir, _)| dir.child(b"ruby").child(abi));
        let platforms = below.chain(beside).filter(is_platform).collect();
        Some(Self { prefix, dir, platforms })
    }

    /// Those of a gem that came with Ruby.
    fn files(&self, tree: &Tree, files: &[String]) -> BTreeSet<ImagePath> {
        let mut found = BTreeSet::new();
        for file in files {
            let file = file.strip_prefix("lib/").unwrap_or(file);
            for dir in self.platforms.iter().chain([&self.dir]) {
                let path = dir.join(file);
                if path.starts_with(dir) && tree.get(&path).is_some_and(|entry| !entry.is_dir()) {
                    found.insert(path);
                }
            }
        }
        found
    }
}

/// A Ruby outside `/usr`, with its library, its commands and its shared object.
fn interpreter(tree: &Tree, home: &ImagePath, library: &Library) -> Option<Package> {
    let prefix = &library.prefix;
    if prefix.is_root() || *prefix == "/usr".into() || !tree.contains(&library.dir) {
        return None;
    }
    let mut package = Package::new(System::Ruby, "ruby", name_of(home));
    package.files = all_below(tree, &library.dir);
    for dir in ["site_ruby", "vendor_ruby"] {
        package.files.extend(all_below(tree, &prefix.child(b"lib").child(b"ruby").child(dir.as_bytes())));
    }
    let bin = prefix.child(b"bin");
    let commands = ["ruby", "gem", "bundle", "bundler", "irb", "rake", "erb"].map(|name| bin.child(name.as_bytes()));
    let lib = prefix.child(b"lib");
    let objects = lib.child(b"libruby");
    let objects = tree.with_prefix(objects.as_bytes()).map(|(path, _)| path.clone());
    let objects = objects.filter(|path| path.parent().as_ref() == Some(&lib) && !path.as_bytes().ends_with(b".a"));
    let found = commands.into_iter().chain(objects).filter(|path| tree.get(path).is_some_and(|entry| !entry.is_dir()));
    package.files.extend(found);
    Some(package)
}

#[cfg(test)]
mod tests {
    use super::super::{Packages, read_with, tree_of};
    use super::*;

    const SINATRA: &str = r#"# -*- encoding: utf-8 -*-
# stub: sinatra 3.0.5 ruby lib

Gem::Specification.new do |s|
  s.name = "sinatra".freeze
  s.version = "3.0.5"
  s.executables = ["sinatra".freeze, "../../etc/passwd".freeze]
  if s.respond_to? :add_runtime_dependency then
    s.add_runtime_dependency(%q<rack>.freeze, ["~> 2.2", ">= 2.2.4"])
    s.add_development_dependency(%q<rack-test>.freeze, ["~> 2"])
  else
    s.add_dependency(%q<rack-test>.freeze, ["~> 2"])
  end
end
"#;

    fn files(packages: &Packages, name: &str) -> Vec<String> {
        let package = packages.iter().find(|package| package.name == name).unwrap_or_else(|| panic!("no {name}"));
        package.files.iter().map(ImagePath::encode).collect()
    }

    #[test]
    fn a_gem_is_its_directory_its_extensions_and_its_commands() {
        let tree = tree_of(&[
            "/usr/local/bundle/specifications/sinatra-3.0.5.gemspec",
            "/usr/local/bundle/gems/sinatra-3.0.5/lib/sinatra.rb",
            "/usr/local/bundle/gems/sinatra-3.0.50/lib/sinatra.rb",
            "/usr/local/bundle/extensions/x86_64-linux/3.1.0/sinatra-3.0.5/gem.build_complete",
            "/usr/local/bundle/build_info/sinatra-3.0.5.info",
            "/usr/local/bundle/bin/sinatra",
            "/usr/local/bundle/cache/sinatra-3.0.5.gem",
            "/usr/local/bundle/specifications/rack-2.gemspec",
            "/usr/local/bundle/specifications/rack-test-2.gemspec",
            "/etc/passwd",
        ]);
        let packages = read_with(&tree, &[("/usr/local/bundle/specifications/sinatra-3.0.5.gemspec", SINATRA)], read);
        assert_eq!(
            files(&packages, "sinatra"),
            [
                "/usr/local/bundle/bin/sinatra",
                "/usr/local/bundle/build_info/sinatra-3.0.5.info",
                "/usr/local/bundle/extensions/x86_64-linux/3.1.0/sinatra-3.0.5/gem.build_complete",
                "/usr/local/bundle/gems/sinatra-3.0.5/lib/sinatra.rb",
                "/usr/local/bundle/specifications/sinatra-3.0.5.gemspec",
            ]
        );
        let start = packages.iter().position(|package| package.name == "sinatra").unwrap();
        let needed: Vec<&str> = packages.closure([start]).keys().map(|index| packages.at(*index).name.as_str()).collect();
        assert_eq!(needed, ["rack", "sinatra"]);
    }

    #[test]
    fn a_gem_that_came_with_ruby_is_in_its_library() {
        let tree = tree_of(&[
            "/usr/local/lib/ruby/gems/3.1.0/specifications/default/json-2.6.1.gemspec",
            "/usr/local/lib/ruby/3.1.0/json.rb",
            "/usr/local/lib/ruby/3.1.0/x86_64-linux/rbconfig.rb",
            "/usr/local/lib/ruby/3.1.0/x86_64-linux/json/ext/parser.so",
            "/usr/local/lib/ruby/3.1.0/set.rb",
            "/usr/local/lib/libruby.so.3.1",
            "/usr/local/bin/ruby",
        ]);
        let text = "  s.files = [\"README.md\".freeze, \"lib/json.rb\".freeze, \"json/ext/parser.so\".freeze, \"../../../../bin/ruby\".freeze]\n";
        let packages = read_with(&tree, &[("/usr/local/lib/ruby/gems/3.1.0/specifications/default/json-2.6.1.gemspec", text)], read);
        assert_eq!(
            files(&packages, "json"),
            [
                "/usr/local/lib/ruby/3.1.0/json.rb",
                "/usr/local/lib/ruby/3.1.0/x86_64-linux/json/ext/parser.so",
                "/usr/local/lib/ruby/gems/3.1.0/specifications/default/json-2.6.1.gemspec",
            ]
        );
        assert_eq!(files(&packages, "ruby").len(), 6);
    }

    #[test]
    fn a_checkout_of_bundler_is_whole() {
        let dir = "/app/vendor/bundle/ruby/3.1.0/bundler/gems/own-0123abc";
        let paths = [format!("{dir}/own.gemspec"), format!("{dir}/lib/own.rb"), format!("{dir}/.git/HEAD")];
        let tree = tree_of(&paths.each_ref().map(String::as_str));
        let text = "Gem::Specification.new do |spec|\n  spec.name = 'own'\n  spec.version = Own::VERSION\n  spec.add_dependency 'rack', '~> 2'\n";
        let packages = read_with(&tree, &[(&paths[0], text)], read);
        assert_eq!(files(&packages, "own"), [paths[1].clone(), paths[0].clone()]);
        assert_eq!(packages.iter().next().unwrap().requires[0], ["rack"]);
    }

    #[test]
    fn what_only_development_needs_is_no_need() {
        let text = "if s.respond_to? :add_runtime_dependency then\n  s.add_development_dependency(%q<rake>)\nelse\n  s.add_dependency(%q<rake>)\nend\n";
        assert!(Specification::parse(text, "a-1").needs.is_empty());
        assert_eq!(Specification::parse("  s.add_dependency(%q<rack>.freeze)\n", "a-1").needs, ["rack".to_owned()].into());
    }

    #[test]
    fn what_is_no_specification_is_survived() {
        for text in ["", "s.name = \"", "# stub:", "s.name =\u{fffd}%q<", "é.é = é"] {
            let found = Specification::parse(text, "a-b-1.2");
            assert_eq!((found.name.as_str(), found.version.as_str()), ("a-b", "1.2"), "{text}");
        }
    }
}
