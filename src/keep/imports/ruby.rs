//! Names in Ruby texts, and what they mean: `require 'a/b'`, `require_relative 'c'`, `autoload :D, 'd'`, anywhere in
//! the text. `$LOAD_PATH` is not in the image; the `lib` directories of the gems in use and the directories of the
//! standard library are (Ruby's documentation, "Kernel#require").

use std::collections::BTreeSet;

use crate::image::{ImagePath, Tree};

/// Before a path that is relative to the text itself.
const RELATIVE: &str = "./";

/// The files that a text names.
pub(super) fn names(text: &str) -> Vec<String> {
    text.lines().filter_map(of_line).collect()
}

fn of_line(line: &str) -> Option<String> {
    let at = ["require_relative", "require", "autoload"].iter().find_map(|word| {
        let at = line.find(word)?;
        let ahead = line[..at].chars().next_back();
        let free = ahead.is_none_or(|c| !c.is_alphanumeric() && !"_.:#'\"".contains(c));
        free.then(|| (*word, &line[at + word.len()..]))
    });
    let (word, rest) = at.filter(|(_, rest)| rest.starts_with([' ', '(']))?;
    if line.trim_start().starts_with('#') {
        return None;
    }
    let rest = rest.trim_start_matches([' ', '(']);
    let literal = match word {
        "autoload" => rest.split_once(',')?.1.trim_start(),
        _ => rest,
    };
    let quote = literal.chars().next().filter(|c| ['\'', '"'].contains(c))?;
    let name = literal[1..].split(quote).next()?;
    let plain = !name.is_empty() && !name.contains(['#', '\\', ':']);
    plain.then(|| if word == "require_relative" { format!("{RELATIVE}{name}") } else { name.to_owned() })
}

/// The directory of a used file from which it was required; `None` where that cannot be told.
pub(super) fn root_of(path: &ImagePath) -> Option<ImagePath> {
    let version = |name: &[u8]| name.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.') && name.contains(&b'.');
    path.ancestors().find(|dir| {
        let name = dir.file_name().unwrap_or_default();
        let above = dir.parent();
        let under = above.as_ref().and_then(|above| above.file_name()).unwrap_or_default();
        name == b"vendor_ruby" || name == b"lib" && !dir.as_bytes().ends_with(b"/usr/lib") || under == b"ruby" && version(name)
    })
}

/// The files of a name: a text or an extension.
pub(super) fn files(tree: &Tree, roots: &BTreeSet<ImagePath>, importer: &ImagePath, name: &str) -> Vec<ImagePath> {
    let named = |place: ImagePath| {
        let text = |ending: &str| ImagePath::new([place.as_bytes(), ending.as_bytes()].concat());
        [place.clone(), text(".rb"), text(".so")].into_iter().filter(|path| tree.get(path).is_some_and(|entry| entry.is_file())).collect::<Vec<_>>()
    };
    match name.strip_prefix(RELATIVE) {
        Some(name) => importer.parent().map(|dir| named(dir.join(name))).unwrap_or_default(),
        None => roots.iter().flat_map(|root| named(root.join(name))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_that_name_files_are_found() {
        for (text, found) in [
            ("require 'json'\n  require(\"csv/table\") if x", "json csv/table"),
            ("require_relative '../lib/quay'", "./../lib/quay"),
            ("autoload :Tempfile, 'tempfile'", "tempfile"),
            ("# require 'no'\nx.require 'no'\nmy_require 'no'\nrequire name\nrequire \"a#{b}\"", ""),
        ] {
            assert_eq!(names(text).join(" "), found, "{text:?}");
        }
    }

    #[test]
    fn roots_are_directories_of_gems_and_of_the_standard_library() {
        for (path, root) in [
            ("/usr/lib/ruby/3.1.0/json/common.rb", Some("/usr/lib/ruby/3.1.0")),
            ("/usr/lib/ruby/vendor_ruby/rack.rb", Some("/usr/lib/ruby/vendor_ruby")),
            ("/usr/lib/x86_64-linux-gnu/ruby/3.1.0/digest.so", Some("/usr/lib/x86_64-linux-gnu/ruby/3.1.0")),
            ("/app/vendor/ruby/3.1.0/gems/rack-3.0/lib/rack/utils.rb", Some("/app/vendor/ruby/3.1.0/gems/rack-3.0/lib")),
            ("/srv/app.rb", None),
        ] {
            assert_eq!(root_of(&path.into()), root.map(ImagePath::from), "{path}");
        }
    }
}
