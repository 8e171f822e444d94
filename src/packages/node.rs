//! Node packages: every directory with a `package.json` in a `node_modules`, however npm, yarn or pnpm laid it
//! out. A package's needs are looked up as Node does ("Loading from node_modules folders" of its documentation),
//! so that of several copies the right one is found.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::gather::{at_place, files_below, is_foreign, is_shared, json, keys, string, warn};
use super::{Package, Reading, System};
use crate::image::{ImagePath, Tree};

/// The fields of a `package.json` that name what a package needs at run time.
const NEEDS: &[&str] = &["dependencies", "optionalDependencies", "peerDependencies"];

/// Where the packages of a tree are.
#[derive(Default)]
struct Places {
    /// Directories that hold a `node_modules`.
    above: BTreeSet<ImagePath>,
    /// Directories of packages, links resolved, each with the links that lead to it.
    packages: BTreeMap<ImagePath, Vec<ImagePath>>,
    /// Packages that were written where they are: a link in a `node_modules` leads out of all of them.
    workspaces: BTreeSet<ImagePath>,
}

/// Reads the packages of an image.
pub(super) fn read(reading: &mut Reading<'_>) {
    let places = Places::of(reading.tree);
    for path in plug_and_play(reading.tree) {
        warn(reading, format!("{path}: Yarn Plug'n'Play keeps packages in archives, which stay or go one by one as they are used"));
    }
    for (dir, links) in &places.packages {
        let described = dir.child(b"package.json");
        let value = json(reading, &described).unwrap_or(Value::Null);
        let name = string(&value, "name").map_or_else(|| plain_name(dir), str::to_owned);
        let mut package = Package::new(System::Node, name, string(&value, "version").unwrap_or_default());
        package.in_place = places.workspaces.contains(dir);
        package.files = files_below(reading.tree, dir, |below| places.is_inner(below) || (package.in_place && is_foreign(below)));
        package.files.extend(links.iter().cloned());
        package.description = BTreeSet::from([described]);
        package.provides = vec![at_place(&package.name, dir)];
        if package.name != plain_name(dir) {
            package.provides.push(at_place(&plain_name(dir), dir));
        }
        let above: Vec<ImagePath> = places.seen_from(dir).collect();
        let needs: BTreeSet<&str> = NEEDS.iter().flat_map(|field| keys(&value, field)).collect();
        let found = needs.into_iter().filter_map(|need| places.look_up(reading.tree, &above, need));
        package.requires = found.map(|at| vec![at_place(&plain_name(&at), &at)]).collect();
        reading.packages.push(package);
    }
}

fn is_modules(path: &ImagePath) -> bool {
    path.file_name() == Some(b"node_modules")
}

/// The loaders that Yarn writes instead of a `node_modules`.
fn plug_and_play(tree: &Tree) -> Vec<ImagePath> {
    let names = [&b".pnp.cjs"[..], b".pnp.js"];
    tree.iter().filter(|(path, _)| path.file_name().is_some_and(|name| names.contains(&name))).map(|(path, _)| path.clone()).collect()
}

/// `name` or `@scope/name`, as the directories say.
fn plain_name(dir: &ImagePath) -> String {
    let parts: Vec<&[u8]> = dir.components().collect();
    let name = match parts.as_slice() {
        [.., scope, name] if scope.starts_with(b"@") => [scope, &b"/"[..], name].concat(),
        [.., name] => name.to_vec(),
        [] => Vec::new(),
    };
    String::from_utf8_lossy(&name).into_owned()
}

impl Places {
    /// Finds them in one pass over the tree.
    fn of(tree: &Tree) -> Self {
        let mut places = Self::default();
        let modules: Vec<&ImagePath> =
            tree.iter().filter(|(path, entry)| is_modules(path) && entry.is_dir()).map(|(path, _)| path).collect();
        let mut links = Vec::new();
        for dir in &modules {
            places.above.extend(dir.parent());
            for candidate in candidates(tree, dir) {
                match tree.get(&candidate) {
                    Some(entry) if entry.is_dir() => {
                        if describes(tree, &candidate) {
                            places.packages.entry(candidate).or_default();
                        }
                    }
                    _ => links.push(candidate),
                }
            }
        }
        for link in links {
            places.add_link(tree, link);
        }
        for dir in modules {
            places.add_programs(tree, dir);
        }
        places
    }

    /// A link beside packages: to one of a store, or to a workspace.
    fn add_link(&mut self, tree: &Tree, link: ImagePath) {
        let Some(target) = tree.find(link.as_bytes()) else { return };
        if !self.packages.contains_key(&target) {
            let inside = target.components().any(|part| part == b"node_modules");
            if is_shared(&target) || !describes(tree, &target) {
                return;
            }
            if !inside {
                self.workspaces.insert(target.clone());
            }
        }
        self.packages.entry(target).or_default().push(link);
    }

    /// The links by which a package's programs are called: in `.bin`, and for a global installation in the
    /// `bin` of its prefix.
    fn add_programs(&mut self, tree: &Tree, modules: &ImagePath) {
        let global = modules.parent().filter(|lib| lib.file_name() == Some(b"lib")).and_then(|lib| lib.parent());
        let bins = std::iter::once(modules.child(b".bin")).chain(global.map(|prefix| prefix.child(b"bin")));
        for bin in bins {
            for (link, _) in tree.children(&bin).filter(|(_, entry)| entry.link_target().is_some()) {
                let Some(target) = tree.find(link.as_bytes()) else { continue };
                if !bin.starts_with(modules) && !target.starts_with(modules) {
                    continue;
                }
                if let Some(owner) = target.ancestors().find(|dir| self.packages.contains_key(dir)) {
                    self.packages.entry(owner).or_default().push(link.clone());
                }
            }
        }
    }

    /// Whether what is below a package's directory is another's.
    fn is_inner(&self, dir: &ImagePath) -> bool {
        is_modules(dir) || self.packages.contains_key(dir)
    }

    /// The directories whose `node_modules` a module in this one sees, nearest first.
    fn seen_from(&self, dir: &ImagePath) -> impl Iterator<Item = ImagePath> {
        std::iter::once(dir.clone()).chain(dir.ancestors()).filter(|dir| self.above.contains(dir) && !is_modules(dir))
    }

    /// The directory of the package that `require(need)` finds.
    fn look_up(&self, tree: &Tree, above: &[ImagePath], need: &str) -> Option<ImagePath> {
        let safe = need.split('/').all(|part| !["", ".", ".."].contains(&part));
        let found = above.iter().filter_map(|dir| tree.find(dir.child(b"node_modules").join(need).as_bytes()));
        found.filter(|_| safe).find(|at| self.packages.contains_key(at))
    }
}

/// Whether a directory has a `package.json`.
fn describes(tree: &Tree, dir: &ImagePath) -> bool {
    tree.find(dir.child(b"package.json").as_bytes()).and_then(|path| tree.get(&path)).is_some_and(|entry| entry.is_file())
}

/// What stands where packages stand in a `node_modules`: directories and links.
fn candidates(tree: &Tree, modules: &ImagePath) -> Vec<ImagePath> {
    let mut found = Vec::new();
    for (path, entry) in tree.children(modules) {
        let name = path.file_name().unwrap_or_default();
        let is_scope = name.starts_with(b"@") && entry.is_dir();
        if is_scope {
            found.extend(tree.children(path).filter(|(_, inner)| inner.is_dir() || inner.link_target().is_some()).map(|(path, _)| path.clone()));
        } else if !name.starts_with(b".") && (entry.is_dir() || entry.link_target().is_some()) {
            found.push(path.clone());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::{Packages, read_with, tree_of};
    use super::*;

    fn named<'p>(packages: &'p Packages, name: &str, version: &str) -> (usize, &'p Package) {
        let found = packages.iter().enumerate().find(|(_, package)| package.name == name && package.version == version);
        found.unwrap_or_else(|| panic!("no {name} {version}"))
    }

    fn needed(packages: &Packages, name: &str, version: &str) -> Vec<String> {
        let (start, _) = named(packages, name, version);
        let all = packages.closure([start]).into_keys().filter(|index| *index != start);
        all.map(|index| format!("{}@{}", packages.at(index).name, packages.at(index).version)).collect()
    }

    #[test]
    fn of_two_copies_the_one_that_node_would_load_is_needed() {
        let tree = tree_of(&[
            "/app/node_modules/a/package.json",
            "/app/node_modules/a/lib/index.js",
            "/app/node_modules/a/node_modules/c/package.json",
            "/app/node_modules/@s/b/package.json",
            "/app/node_modules/c/package.json",
            "/app/node_modules/.bin/a -> ../a/lib/index.js",
            "/app/src/index.js",
        ]);
        let packages = read_with(
            &tree,
            &[
                ("/app/node_modules/a/package.json", r#"{"name":"a","version":"1","dependencies":{"c":"^2"},"devDependencies":{"@s/b":"*"}}"#),
                ("/app/node_modules/a/node_modules/c/package.json", r#"{"name":"c","version":"2"}"#),
                ("/app/node_modules/@s/b/package.json", r#"{"name":"@s/b","version":"1","peerDependencies":{"c":"^1"},"optionalDependencies":{"gone":"1"}}"#),
                ("/app/node_modules/c/package.json", r#"{"name":"c","version":"1"}"#),
            ],
            read,
        );
        assert_eq!(needed(&packages, "a", "1"), ["c@2"]);
        assert_eq!(needed(&packages, "@s/b", "1"), ["c@1"]);
        let (_, a) = named(&packages, "a", "1");
        let files: Vec<String> = a.files.iter().map(ImagePath::encode).collect();
        assert_eq!(files, ["/app/node_modules/.bin/a", "/app/node_modules/a/lib/index.js", "/app/node_modules/a/package.json"]);
        assert!(packages.owner(&"/app/src/index.js".into()).is_none());
    }

    #[test]
    fn links_of_a_store_are_their_packages_and_circles_are_survived() {
        let tree = tree_of(&[
            "/app/node_modules/a -> .pnpm/a@1/node_modules/a",
            "/app/node_modules/loop -> loop",
            "/app/node_modules/up -> ..",
            "/app/node_modules/.pnpm/a@1/node_modules/a/package.json",
            "/app/node_modules/.pnpm/a@1/node_modules/b -> ../../b@1/node_modules/b",
            "/app/node_modules/.pnpm/b@1/node_modules/b/package.json",
            "/app/node_modules/.pnpm/b@1/node_modules/a -> ../../a@1/node_modules/a",
            "/app/node_modules/ui -> ../packages/ui",
            "/app/packages/ui/package.json",
            "/app/packages/ui/index.js",
            "/app/packages/ui/node_modules/b -> ../../../node_modules/.pnpm/b@1/node_modules/b",
        ]);
        let store = "/app/node_modules/.pnpm";
        let packages = read_with(
            &tree,
            &[
                (&format!("{store}/a@1/node_modules/a/package.json"), r#"{"name":"a","version":"1","dependencies":{"b":"1"}}"#),
                (&format!("{store}/b@1/node_modules/b/package.json"), r#"{"name":"b","version":"1","dependencies":{"a":"1","../../x":"1"}}"#),
                ("/app/packages/ui/package.json", r#"{"name":"ui","version":"0","dependencies":{"b":"1"}}"#),
            ],
            read,
        );
        assert_eq!(packages.iter().count(), 3);
        assert_eq!(needed(&packages, "ui", "0"), ["a@1", "b@1"]);
        assert_eq!(packages.owner(&"/app/node_modules/a".into()).unwrap().name, "a");
        let (_, ui) = named(&packages, "ui", "0");
        assert!(ui.in_place && ui.files.contains(&"/app/packages/ui/index.js".into()));
        assert!(!ui.files.contains(&"/app/packages/ui/node_modules/b".into()));
    }

    /// As its linkers `pnpm` (a store, each package in a directory of the same name) and `node-modules` make it, and
    /// what does not work in an archive beside Plug'n'Play.
    #[test]
    fn layouts_of_yarn_are_read() {
        let tree = tree_of(&[
            "/app/node_modules/a -> .store/a-npm-1.0.0-0123abcd/package",
            "/app/node_modules/.store/a-npm-1.0.0-0123abcd/package/package.json",
            "/app/node_modules/.store/a-npm-1.0.0-0123abcd/package/index.js",
            "/app/node_modules/.store/a-npm-1.0.0-0123abcd/node_modules/b -> ../../b-npm-2.0.0-4567cdef/package",
            "/app/node_modules/.store/b-npm-2.0.0-4567cdef/package/package.json",
            "/app/node_modules/c/package.json",
            "/app/.yarn/unplugged/d-npm-3.0.0-89abef01/node_modules/d/package.json",
            "/app/.yarn/unplugged/d-npm-3.0.0-89abef01/node_modules/d/build/d.node",
        ]);
        let store = "/app/node_modules/.store";
        let packages = read_with(
            &tree,
            &[
                (&format!("{store}/a-npm-1.0.0-0123abcd/package/package.json"), r#"{"name":"a","version":"1","dependencies":{"b":"2","c":"1"}}"#),
                (&format!("{store}/b-npm-2.0.0-4567cdef/package/package.json"), r#"{"name":"b","version":"2"}"#),
                ("/app/node_modules/c/package.json", r#"{"name":"c","version":"1"}"#),
                ("/app/.yarn/unplugged/d-npm-3.0.0-89abef01/node_modules/d/package.json", r#"{"name":"d","version":"3"}"#),
            ],
            read,
        );
        assert_eq!(packages.iter().count(), 4);
        assert_eq!(needed(&packages, "a", "1"), ["b@2", "c@1"]);
        let owner = |path: &str| packages.owner(&path.into()).map(|package| package.name.as_str());
        assert_eq!(owner("/app/node_modules/a"), Some("a"));
        assert_eq!(owner(&format!("{store}/a-npm-1.0.0-0123abcd/package/index.js")), Some("a"));
        assert_eq!(owner("/app/.yarn/unplugged/d-npm-3.0.0-89abef01/node_modules/d/build/d.node"), Some("d"));
        assert!(packages.iter().all(|package| !package.in_place));
    }

    #[test]
    fn npm_itself_and_its_commands_are_a_package() {
        let tree = tree_of(&[
            "/usr/local/lib/node_modules/npm/package.json",
            "/usr/local/lib/node_modules/npm/bin/npm-cli.js",
            "/usr/local/bin/npm -> ../lib/node_modules/npm/bin/npm-cli.js",
            "/usr/local/bin/node",
        ]);
        let packages = read_with(&tree, &[("/usr/local/lib/node_modules/npm/package.json", "{}")], read);
        assert_eq!(packages.owner(&"/usr/local/bin/npm".into()).unwrap().name, "npm");
        assert!(packages.owner(&"/usr/local/bin/node".into()).is_none());
    }

    #[test]
    fn what_is_no_json_is_still_a_package_of_that_directory() {
        let tree = tree_of(&["/n/node_modules/@s/x/package.json", "/n/node_modules/@s/x/i.js", "/n/.pnp.cjs"]);
        let packages = read_with(&tree, &[("/n/node_modules/@s/x/package.json", "{{{")], read);
        assert_eq!(packages.owner(&"/n/node_modules/@s/x/i.js".into()).unwrap().name, "@s/x");
        assert_eq!(packages.warnings.len(), 2);
        let honest = "/n/.pnp.cjs: Yarn Plug'n'Play keeps packages in archives, which stay or go one by one as they are used";
        assert_eq!(packages.warnings[0], honest);
    }
}
