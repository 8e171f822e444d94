//! Plugins: packages that put modules where another one looks for them. That one lists a directory of its own and
//! opens what is there when a request first asks for it, so nothing depends on them, and a run may touch none.
//! `Enhances` (Debian policy, 7.2) says whom they serve, the directory that they share proves it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Installed, needs, text_field};
use crate::image::ImagePath;

/// Makes each package need its plugins.
pub(super) fn add(found: &mut [Installed<'_>]) {
    for (host, plugin) in pairs(found) {
        let name = found[plugin].package.name.clone();
        found[host].package.requires.push(vec![name]);
    }
}

/// Packages and the plugins of each, as places in the list.
fn pairs(found: &[Installed<'_>]) -> BTreeSet<(usize, usize)> {
    let enhancing = enhancing(found);
    if enhancing.is_empty() {
        return BTreeSet::new();
    }
    let modules = modules(found);
    let mut pairs = BTreeSet::new();
    for (host, plugins) in &enhancing {
        let its_own = |owners: &&BTreeSet<usize>| owners.contains(host) && owners.iter().all(|owner| owner == host || plugins.contains(owner));
        for owners in modules.values().filter(its_own) {
            pairs.extend(plugins.intersection(owners).map(|plugin| (*host, *plugin)));
        }
    }
    pairs
}

/// The packages that say they enhance another, by that one's place.
fn enhancing(found: &[Installed<'_>]) -> BTreeMap<usize, BTreeSet<usize>> {
    let mut enhancing: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
    for (plugin, installed) in found.iter().enumerate() {
        let names: BTreeSet<String> = needs(&text_field(installed.stanza, "Enhances")).flatten().collect();
        if names.is_empty() {
            continue;
        }
        let hosts = found.iter().enumerate().filter(|(host, other)| {
            let package = &other.package;
            *host != plugin && std::iter::once(&package.name).chain(&package.provides).any(|name| names.contains(name))
        });
        for (host, _) in hosts {
            enhancing.entry(host).or_default().insert(plugin);
        }
    }
    enhancing
}

/// Whose shared objects lie in each directory.
fn modules(found: &[Installed<'_>]) -> BTreeMap<ImagePath, BTreeSet<usize>> {
    let mut modules: BTreeMap<ImagePath, BTreeSet<usize>> = BTreeMap::new();
    for (owner, installed) in found.iter().enumerate() {
        let objects = installed.package.files.iter().filter(|path| path.as_bytes().ends_with(b".so"));
        for dir in objects.filter_map(ImagePath::parent) {
            modules.entry(dir).or_default().insert(owner);
        }
    }
    modules
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use crate::packages::{read_with, tree_of};

    /// A drawing library with its modules; more modules; what claims to enhance it and puts nothing there.
    #[test]
    fn modules_in_the_directory_of_the_package_that_they_enhance_are_needed_by_it() {
        let tree = tree_of(&[
            "/var/lib/dpkg/status",
            "/var/lib/dpkg/info/libdraw.list",
            "/var/lib/dpkg/info/libdraw-extra.list",
            "/var/lib/dpkg/info/draw-tools.list",
            "/var/lib/dpkg/info/libother.list",
            "/usr/lib/libdraw.so",
            "/usr/lib/libother.so",
            "/usr/lib/libtools.so",
            "/usr/lib/draw/coders/png.so",
            "/usr/lib/draw/coders/svg.so",
        ]);
        let status = "Package: libdraw\nStatus: install ok installed\nProvides: drawing\n\n\
            Package: libdraw-extra\nStatus: install ok installed\nDepends: libdraw\nEnhances: drawing (>= 1)\n\n\
            Package: draw-tools\nStatus: install ok installed\nEnhances: libdraw\n\n\
            Package: libother\nStatus: install ok installed\n";
        let texts = [
            ("/var/lib/dpkg/status", status),
            ("/var/lib/dpkg/info/libdraw.list", "/usr/lib/libdraw.so\n/usr/lib/draw/coders\n/usr/lib/draw/coders/png.so\n"),
            ("/var/lib/dpkg/info/libdraw-extra.list", "/usr/lib/draw/coders\n/usr/lib/draw/coders/svg.so\n"),
            ("/var/lib/dpkg/info/draw-tools.list", "/usr/lib/libtools.so\n"),
            ("/var/lib/dpkg/info/libother.list", "/usr/lib/libother.so\n"),
        ];
        let packages = read_with(&tree, &texts, read);
        let library = packages.iter().find(|package| package.name == "libdraw").unwrap();
        assert_eq!(library.requires, [["libdraw-extra".to_owned()]]);
        let names = |index| packages.at(index).name.as_str();
        let start = packages.iter().position(|package| package.name == "libdraw").unwrap();
        assert_eq!(packages.closure([start]).into_keys().map(names).collect::<Vec<_>>(), ["libdraw", "libdraw-extra"]);
    }
}
