//! Pattern: which paths of a tree a rule or a flag means. A pattern is matched against real paths, but may be
//! written through a symlinked directory (`/lib/...` where /lib leads to /usr/lib).

use globset::{Candidate, GlobBuilder, GlobMatcher};

use crate::image::tree::Follow;
use crate::image::{ImagePath, Tree};

/// Where a pattern's leading directories, those without wildcards, lead in a tree.
#[derive(Clone, Debug)]
struct Root {
    /// As written, without a trailing slash; empty for the root.
    written: Vec<u8>,
    /// As resolved; `None` when the image does not have it.
    real: Option<ImagePath>,
    /// Symlinks on the way there.
    links: Vec<ImagePath>,
}

impl Root {
    fn new(tree: &Tree, written: &[u8]) -> Self {
        let walk = tree.resolve(&ImagePath::root(), written, Follow::All);
        let written = written.strip_suffix(b"/").unwrap_or(written).to_vec();
        Self { written, real: walk.found, links: walk.links }
    }

    /// The path as the pattern's author would write it; `None` for one that does not lie below.
    fn as_written(&self, path: &ImagePath) -> Option<Vec<u8>> {
        let real = self.real.as_ref()?;
        if !path.starts_with(real) {
            return None;
        }
        let tail = &path.as_bytes()[if real.is_root() { 0 } else { real.as_bytes().len() }..];
        Some([&self.written, tail].concat())
    }
}

/// A glob that a user wrote: `*` and `?` stay within a component, `**` does not, `[...]` and `{a,b}` choose.
#[derive(Clone, Debug)]
pub(super) struct PathGlob {
    matcher: GlobMatcher,
    root: Root,
}

impl PathGlob {
    /// Compiles one; relative ones start at the root.
    ///
    /// # Errors
    /// When it is no glob; the text says why.
    pub fn new(tree: &Tree, text: &str) -> Result<Self, String> {
        let text = format!("/{}", text.trim_start_matches('/'));
        let text = if text.len() > 1 { text.trim_end_matches('/') } else { &text };
        let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).empty_alternates(true).build();
        let glob = glob.map_err(|error| error.kind().to_string())?;
        let literal = text.find(['*', '?', '[', '{', '\\']).unwrap_or(text.len());
        let directory = text[..literal].rfind('/').unwrap_or(0);
        let root = Root::new(tree, &text.as_bytes()[..directory]);
        Ok(Self { matcher: glob.compile_matcher(), root })
    }

    /// Whether this very path is meant.
    pub fn matches(&self, path: &ImagePath) -> bool {
        let is_match = |bytes: &[u8]| self.matcher.is_match_candidate(&Candidate::from_bytes(bytes));
        self.root.as_written(path).is_some_and(|written| is_match(&written)) || is_match(path.as_bytes())
    }

    /// Every path of the tree that it means, and the links on the way to its leading directories.
    pub fn find(&self, tree: &Tree) -> (Vec<ImagePath>, &[ImagePath]) {
        let Some(real) = &self.root.real else { return (Vec::new(), &[]) };
        let below = tree.below(real).map(|(path, _)| path);
        (below.filter(|path| self.matches(path)).cloned().collect(), &self.root.links)
    }
}

/// One step of a [`Template`] once it is filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Byte(u8),
    /// `*`: any bytes but a slash.
    Within,
    /// `**`: any bytes.
    Across,
}

/// A rule's pattern: literal bytes with `*` and `**`, and places that the path which set the rule off fills:
/// `{dir}` its directory, `{parent}` the directory of that, `{grand}` the next one up, `{name}` its file name, `{base}` the name up to
/// its last dot, `{stem}` the name up to its first dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Step>);

impl Template {
    /// Fills a pattern in for the path that set the rule off. `None` where it has no such place (the root
    /// has no name).
    pub fn fill(text: &str, by: Option<&ImagePath>) -> Option<Self> {
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(tail) = rest.strip_prefix("**") {
                steps.push(Step::Across);
                rest = tail;
            } else if let Some(tail) = rest.strip_prefix('*') {
                steps.push(Step::Within);
                rest = tail;
            } else if let Some((place, tail)) = rest.strip_prefix('{').and_then(|tail| tail.split_once('}')) {
                steps.extend(place_of(place, by?)?.into_iter().map(Step::Byte));
                rest = tail;
            } else {
                let next = rest[1..].find(['*', '{']).map_or(rest.len(), |at| at + 1);
                steps.extend(rest[..next].bytes().map(Step::Byte));
                rest = &rest[next..];
            }
        }
        Some(Self(steps))
    }

    /// Every path of the tree that it means, and the links on the way to its leading directories. Without a
    /// wildcard it is looked up as the kernel would, but a last symlink is not followed.
    pub fn find(&self, tree: &Tree) -> (Vec<ImagePath>, Vec<ImagePath>) {
        let byte = |step: &Step| match step {
            Step::Byte(b) => Some(*b),
            Step::Within | Step::Across => None,
        };
        let literal: Vec<u8> = self.0.iter().map_while(byte).collect();
        if literal.len() == self.0.len() {
            let walk = tree.resolve(&ImagePath::root(), &literal, Follow::NotLast);
            return (walk.found.into_iter().collect(), walk.links);
        }
        let directory = literal.iter().rposition(|b| *b == b'/').unwrap_or(0);
        let root = Root::new(tree, &literal[..directory]);
        let Some(real) = &root.real else { return (Vec::new(), Vec::new()) };
        let slash = if real.is_root() { &b""[..] } else { real.as_bytes() };
        let prefix = [slash, &literal[directory..]].concat();
        let tail = &self.0[directory..];
        let skip = slash.len();
        let found = tree.with_prefix(&prefix).map(|(path, _)| path);
        (found.filter(|path| matches(tail, &path.as_bytes()[skip..])).cloned().collect(), root.links)
    }
}

fn place_of(place: &str, by: &ImagePath) -> Option<Vec<u8>> {
    let name = by.file_name()?;
    let directory = |path: ImagePath| if path.is_root() { Vec::new() } else { path.as_bytes().to_vec() };
    match place {
        "dir" => by.parent().map(directory),
        "parent" => by.parent().and_then(|dir| dir.parent()).map(directory),
        "grand" => by.ancestors().nth(2).map(directory),
        "name" => Some(name.to_vec()),
        "base" => Some(name[..name.iter().rposition(|b| *b == b'.').unwrap_or(name.len())].to_vec()),
        "stem" => Some(name[..name.iter().position(|b| *b == b'.').unwrap_or(name.len())].to_vec()),
        _ => None,
    }
}

/// Linear in practice: a wildcard is retried only from its last position.
fn matches(steps: &[Step], bytes: &[u8]) -> bool {
    match steps.split_first() {
        None => bytes.is_empty(),
        Some((Step::Byte(b), rest)) => bytes.first() == Some(b) && matches(rest, &bytes[1..]),
        Some((Step::Within, rest)) => {
            let reach = bytes.iter().position(|b| *b == b'/').unwrap_or(bytes.len());
            (0..=reach).any(|taken| matches(rest, &bytes[taken..]))
        }
        Some((Step::Across, rest)) => (0..=bytes.len()).any(|taken| matches(rest, &bytes[taken..])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Entry, Kind};

    fn tree(files: &[&str]) -> Tree {
        let mut tree = Tree::new();
        for file in files {
            let path = ImagePath::from(*file);
            for dir in path.ancestors() {
                tree.insert(dir, Entry::new(Kind::Directory));
            }
            tree.insert(path, Entry::new(Kind::File));
        }
        let target = b"usr/lib".to_vec();
        tree.insert("/lib".into(), Entry::new(Kind::Symlink { target }));
        tree
    }

    fn names(paths: &[ImagePath]) -> Vec<String> {
        paths.iter().map(ImagePath::encode).collect()
    }

    #[test]
    fn a_pattern_reaches_through_a_linked_directory() {
        let tree = tree(&["/usr/lib/a/x.so", "/usr/lib/a/b/y.so", "/usr/lib/z"]);
        let glob = PathGlob::new(&tree, "/lib/a/*.so").unwrap();
        assert_eq!(names(&glob.find(&tree).0), ["/usr/lib/a/x.so"]);
        assert_eq!(names(glob.find(&tree).1), ["/lib"]);
        assert!(glob.matches(&"/usr/lib/a/x.so".into()));
        let (found, links) = Template::fill("/lib/a/**.so", None).unwrap().find(&tree);
        assert_eq!(names(&found), ["/usr/lib/a/b/y.so", "/usr/lib/a/x.so"]);
        assert_eq!(names(&links), ["/lib"]);
        assert!(PathGlob::new(&tree, "/a[").is_err());
        assert_eq!(names(&PathGlob::new(&tree, "/usr/lib/a/{,b/}*.so").unwrap().find(&tree).0), ["/usr/lib/a/b/y.so", "/usr/lib/a/x.so"]);
        assert_eq!(PathGlob::new(&tree, "usr/lib/z").unwrap().find(&tree).0.len(), 1);
    }

    #[test]
    fn a_template_is_filled_by_the_path_that_set_the_rule_off() {
        let tree = tree(&["/d*/m.py", "/d*/__pycache__/m.c-3.pyc", "/d*/__pycache__/m2.c-3.pyc", "/dx/m.py"]);
        let by = ImagePath::from("/d*/__pycache__/m.c-3.pyc");
        let find = |text, by: &ImagePath| names(&Template::fill(text, Some(by)).unwrap().find(&tree).0);
        assert_eq!(find("{parent}/{stem}.py", &by), ["/d*/m.py"]);
        assert_eq!(find("{dir}/__pycache__/{base}.*.pyc", &"/d*/m.py".into()), ["/d*/__pycache__/m.c-3.pyc"]);
        assert_eq!(find("{dir}/*", &by).len(), 2);
        assert_eq!(Template::fill("{dir}", Some(&ImagePath::root())), None);
    }
}
