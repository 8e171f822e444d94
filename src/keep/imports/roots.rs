//! Roots: where Python finds modules. `sys.path` is not in the image; the directories of the modules in use are.

use std::collections::BTreeSet;

use crate::image::{Entry, ImagePath, Tree};

/// Directories from which modules were imported, or could have been.
#[derive(Default)]
pub(super) struct Roots {
    dirs: BTreeSet<ImagePath>,
}

impl Roots {
    /// Learns from a kept file: the directory in which its outermost package lies is one to import from.
    pub fn learn(&mut self, tree: &Tree, path: &ImagePath) {
        let compiled = path.parent().filter(|dir| dir.file_name() == Some(b"__pycache__"));
        let module = compiled.unwrap_or_else(|| path.clone());
        if !path.as_bytes().ends_with(b".py") && !path.as_bytes().ends_with(b".pyc") {
            return;
        }
        let Some(root) = root_of(tree, &module) else { return };
        if tree.contains(&root.child(b"os.py")) {
            self.dirs.insert(root.child(b"lib-dynload"));
            for name in ["site-packages", "dist-packages"] {
                self.dirs.insert(root.join(name));
            }
        }
        self.dirs.insert(root);
    }

    /// The files of a module and of the packages around it, as far as the image has them.
    pub fn modules(&self, tree: &Tree, importer: &ImagePath, name: &str) -> Vec<ImagePath> {
        let absolute = name.trim_start_matches('.');
        let level = name.len() - absolute.len();
        let parts: Vec<&str> = absolute.split('.').filter(|part| !part.is_empty()).collect();
        if level > 0 {
            let dir = (0..level).try_fold(importer.clone(), |dir, _| dir.parent());
            return dir.map(|dir| below(tree, &dir, &parts)).unwrap_or_default();
        }
        let own = root_of(tree, importer);
        let first = own.iter().map(|root| below(tree, root, &parts)).find(|found| !found.is_empty());
        first.unwrap_or_else(|| self.dirs.iter().flat_map(|root| below(tree, root, &parts)).collect())
    }
}

/// The first directory above that is no package.
fn root_of(tree: &Tree, path: &ImagePath) -> Option<ImagePath> {
    path.ancestors().find(|dir| !tree.contains(&dir.child(b"__init__.py")))
}

/// What `a.b.c` means in a directory: the files of `a`, `a.b` and `a.b.c`. Where the last is none, it is something
/// within the one before.
fn below(tree: &Tree, root: &ImagePath, parts: &[&str]) -> Vec<ImagePath> {
    let mut found = Vec::new();
    let mut dir = root.clone();
    if parts.is_empty() {
        found.extend(Some(dir.child(b"__init__.py")).filter(|init| tree.contains(init)));
    }
    for part in parts {
        let package = dir.child(part.as_bytes());
        if tree.get(&package).is_some_and(Entry::is_dir) {
            found.extend(Some(package.child(b"__init__.py")).filter(|init| tree.contains(init)));
            dir = package;
            continue;
        }
        found.extend(file(tree, &dir, part));
        break;
    }
    found
}

/// A module that is one file: a text, or an extension for whatever interpreter.
fn file(tree: &Tree, dir: &ImagePath, name: &str) -> Vec<ImagePath> {
    let text = dir.child(format!("{name}.py").as_bytes());
    if tree.contains(&text) {
        return vec![text];
    }
    let prefix = dir.child(format!("{name}.").as_bytes());
    let all = tree.with_prefix(prefix.as_bytes()).map(|(path, _)| path);
    let direct = all.filter(|path| path.parent().as_ref() == Some(dir));
    direct.filter(|path| path.as_bytes().ends_with(b".so") || path.as_bytes().ends_with(b".pyc")).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::Kind;

    fn tree(files: &[&str]) -> Tree {
        let mut tree = Tree::new();
        for file in files {
            let path = ImagePath::from(*file);
            for dir in path.ancestors() {
                tree.insert(dir, Entry::new(Kind::Directory));
            }
            tree.insert(path, Entry::new(Kind::File));
        }
        tree
    }

    #[test]
    fn names_mean_files_of_the_directories_in_use() {
        let tree = tree(&[
            "/app/main.py",
            "/app/shop/__init__.py",
            "/app/shop/late.py",
            "/app/shop/sub/__init__.py",
            "/usr/lib/python3.11/os.py",
            "/usr/lib/python3.11/json/__init__.py",
            "/usr/lib/python3.11/json/decoder.py",
            "/usr/lib/python3.11/lib-dynload/_csv.cpython-311-x86_64-linux-gnu.so",
            "/venv/site-packages/six.py",
            "/venv/site-packages/ns/deep/mod.py",
        ]);
        let mut roots = Roots::default();
        for used in ["/app/main.py", "/usr/lib/python3.11/os.py", "/venv/site-packages/six.py"] {
            roots.learn(&tree, &used.into());
        }
        let late = "/app/shop/late.py";
        for (importer, name, found) in [
            ("/app/main.py", "shop.late", "/app/shop/__init__.py /app/shop/late.py"),
            ("/app/main.py", "json.decoder", "/usr/lib/python3.11/json/__init__.py /usr/lib/python3.11/json/decoder.py"),
            ("/app/main.py", "json.loads", "/usr/lib/python3.11/json/__init__.py"),
            ("/app/main.py", "_csv", "/usr/lib/python3.11/lib-dynload/_csv.cpython-311-x86_64-linux-gnu.so"),
            ("/app/main.py", "ns.deep.mod", "/venv/site-packages/ns/deep/mod.py"),
            ("/app/main.py", "nowhere", ""),
            (late, ".", "/app/shop/__init__.py"),
            (late, ".sub", "/app/shop/sub/__init__.py"),
            (late, "..main", "/app/main.py"),
            (late, "......main", ""),
        ] {
            let got: Vec<String> = roots.modules(&tree, &importer.into(), name).iter().map(ImagePath::encode).collect();
            assert_eq!(got.join(" "), found, "{importer} {name}");
        }
    }
}
