//! Metadata: what a slim image tells scanners of its packages, as part of the keep set.

use std::collections::BTreeSet;

use super::{KeepSet, Reason};
use crate::image::{Entry, ImagePath, Tree};
use crate::packages::metadata::Metadata;

/// The name under which reports explain it.
const RULE: &str = "package-metadata";

impl KeepSet {
    /// The paths that the run used or that a flag named: what a program found must stay as it found it.
    pub fn wanted(&self) -> BTreeSet<ImagePath> {
        let asked = |reason: &Reason| match reason {
            Reason::Touched { .. } => !reason.is_walked(),
            Reason::Include { .. } => true,
            _ => false,
        };
        self.kept.iter().filter(|(_, why)| why.iter().any(asked)).map(|(path, _)| path.clone()).collect()
    }

    /// Adds what was made of the package managers' databases, with the directories above it.
    pub fn describe_packages(&mut self, tree: &Tree, made: Metadata) {
        for path in &made.leave_out {
            self.kept.remove(path);
            self.left_out.insert(path.clone(), RULE.into());
        }
        for path in made.keep.iter().chain(made.written.keys()) {
            for above in path.ancestors().filter(|above| tree.contains(above)) {
                self.kept.entry(above).or_insert_with(|| vec![Reason::OnTheWay { to: path.clone() }]);
            }
            let reason = Reason::Rule { name: RULE.into(), by: None };
            let reasons = self.kept.entry(path.clone()).or_default();
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        self.warnings.extend(made.warnings);
        self.written = made.written;
    }

    /// A kept path as the slim image has it: written anew, or as in the untouched image.
    pub fn entry<'a>(&'a self, tree: &'a Tree, path: &ImagePath) -> Option<&'a Entry> {
        self.written.get(path).map(|written| &written.entry).or_else(|| tree.get(path))
    }

    /// The tree that the slim image is packed from.
    pub fn tree(&self, tree: &Tree) -> Tree {
        let entry = |path: &ImagePath| self.entry(tree, path).map(|entry| (path.clone(), entry.clone()));
        self.kept.keys().filter_map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::metadata::Written;
    use crate::packages::tree_of;

    #[test]
    fn what_is_written_is_kept_with_the_directories_above_it() {
        let tree = tree_of(&["/var/lib/dpkg/status", "/bin/a"]);
        let mut keep = KeepSet::default();
        let touched = Reason::Touched { how: "opened".into(), process: "a".into(), probe: "start".into() };
        keep.kept.insert("/bin/a".into(), vec![touched]);
        keep.kept.insert("/var/lib/dpkg/status".into(), vec![Reason::App { root: "/".into() }]);
        assert_eq!(keep.wanted(), BTreeSet::from(["/bin/a".into()]));
        let entry = Entry { size: 3, ..Entry::new(crate::image::Kind::File) };
        let status = ImagePath::from("/var/lib/dpkg/status.d/a");
        let made = Metadata {
            written: [(status.clone(), Written { entry, content: b"abc".to_vec() })].into(),
            leave_out: ["/var/lib/dpkg/status".into()].into(),
            ..Metadata::default()
        };
        keep.describe_packages(&tree, made);
        assert!(keep.kept.contains_key(&ImagePath::from("/var/lib")));
        assert!(!keep.kept.contains_key(&ImagePath::from("/var/lib/dpkg/status")));
        assert_eq!(keep.entry(&tree, &status).unwrap().size, 3);
        assert_eq!(keep.tree(&tree).get(&status).unwrap().size, 3);
        assert!(keep.kept.values().all(|why| !why.is_empty()));
    }
}
