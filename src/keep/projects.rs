//! Projects: the packages that the application itself says it needs. A package's own needs are in its
//! manager's database; those of the user's code are in a file beside it.

use std::collections::BTreeSet;

use super::draft::Draft;
use super::whole::same_python_name;
use crate::image::ImagePath;
use crate::packages::{Package, System};

/// Finds the packages that a text declares; the path is that of the file.
type Reader = fn(&Draft<'_>, &ImagePath, &str) -> BTreeSet<usize>;

/// Files that declare needs, by the beginning and the end of their names.
const DECLARATIONS: &[(&str, &str, Reader)] = &[
    ("package", ".json", node),
    ("composer", ".json", composer),
    ("Gemfile", "", gemfile),
    ("gems", ".rb", gemfile),
    ("requirements", ".txt", requirements),
    ("pyproject", ".toml", pyproject),
];

/// The installed packages that files among these declare.
pub(super) fn declared<'a>(draft: &mut Draft<'_>, files: impl Iterator<Item = &'a ImagePath>) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for path in files {
        let name = String::from_utf8_lossy(path.file_name().unwrap_or_default()).into_owned();
        let reader = DECLARATIONS.iter().find(|(start, end, _)| name.starts_with(start) && name.ends_with(end));
        let Some((_, _, reader)) = reader.filter(|(_, end, _)| !end.is_empty() || name == "Gemfile") else { continue };
        let text = draft.text(path.as_bytes()).map(|text| String::from_utf8_lossy(text).into_owned());
        found.extend(reader(draft, path, &text.unwrap_or_default()));
    }
    found
}

/// A `package.json`'s needs, looked up as Node does: in the `node_modules` of each directory above.
fn node(draft: &Draft<'_>, path: &ImagePath, text: &str) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for name in ["dependencies", "optionalDependencies"].iter().flat_map(|field| keys(text, field)) {
        let places = path.ancestors().map(|dir| dir.join("node_modules").join(&name).child(b"package.json"));
        let place = places.filter_map(|place| draft.ask.tree.find(place.as_bytes())).next();
        found.extend(place.iter().flat_map(|place| draft.ask.packages.owners(place)));
    }
    found
}

fn composer(draft: &Draft<'_>, _: &ImagePath, text: &str) -> BTreeSet<usize> {
    let names = keys(text, "require");
    of(draft, System::Php, |package| names.iter().any(|name| package.name.eq_ignore_ascii_case(name)))
}

/// `gem 'name'` and `gem "name"`, in whatever group.
fn gemfile(draft: &Draft<'_>, _: &ImagePath, text: &str) -> BTreeSet<usize> {
    let name = |line: &str| {
        let rest = line.trim().strip_prefix("gem")?.trim_start_matches([' ', '(']);
        let quote = rest.chars().next().filter(|c| ['\'', '"'].contains(c))?;
        rest[1..].split(quote).next().map(str::to_owned)
    };
    let names: BTreeSet<String> = text.lines().filter_map(name).collect();
    of(draft, System::Ruby, |package| names.contains(&package.name))
}

/// pip's requirements: a name at the beginning of each line; options and addresses are passed over.
fn requirements(draft: &Draft<'_>, _: &ImagePath, text: &str) -> BTreeSet<usize> {
    python(draft, text.lines().map(str::to_owned))
}

/// `dependencies` of `[project]`.
fn pyproject(draft: &Draft<'_>, _: &ImagePath, text: &str) -> BTreeSet<usize> {
    let value: Option<toml::Table> = text.parse().ok();
    let list = value.as_ref().and_then(|value| value.get("project")?.get("dependencies")?.as_array());
    let texts = list.into_iter().flatten().filter_map(|item| item.as_str().map(str::to_owned));
    python(draft, texts)
}

fn python(draft: &Draft<'_>, requirements: impl Iterator<Item = String>) -> BTreeSet<usize> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    let name = |line: String| line.trim().split(|c| !allowed(c)).next().unwrap_or_default().to_owned();
    let names: Vec<String> = requirements.map(name).filter(|name| name.starts_with(|c: char| c.is_ascii_alphanumeric())).collect();
    of(draft, System::Python, |package| names.iter().any(|name| same_python_name(name, &package.name)))
}

/// The packages of a system that fit.
fn of(draft: &Draft<'_>, system: System, fits: impl Fn(&Package) -> bool) -> BTreeSet<usize> {
    let all = draft.ask.packages.iter().enumerate();
    all.filter(|(_, package)| package.system == system && fits(package)).map(|(index, _)| index).collect()
}

/// The keys of an object in a JSON text; none where there is no such thing.
fn keys(text: &str, field: &str) -> Vec<String> {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let object = value.get(field).and_then(serde_json::Value::as_object);
    object.into_iter().flat_map(|object| object.keys().cloned()).collect()
}
