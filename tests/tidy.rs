//! Rules of the house that no lint knows.

#![allow(clippy::unwrap_used)] // helpers of tests too

use std::fs;
use std::path::{Path, PathBuf};

/// The sentence of docs/design.md, as the order of modules: each uses only what stands before it.
const ORDER: &[&str] = &[
    "sys", "exit", "progress", "image", "packages", "store", "sensor", "engine", "probe", "trace", "keep", "report", "gate", "cli",
    "plan", "run", "pack", "verify", "copy", "xray", "diff", "ui", "build", "batch",
];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn every_file_opens_by_saying_what_it_is() {
    for path in sources(Path::new("src")).into_iter().chain(sources(Path::new("tests"))) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} does not open with //!", path.display());
    }
}

#[test]
fn every_source_file_is_named_in_the_design() {
    let design = fs::read_to_string("docs/design.md").unwrap();
    for path in sources(Path::new("src")) {
        let name = path.strip_prefix("src").unwrap().display().to_string();
        assert!(design.contains(&format!("`{name}`")), "docs/design.md does not name `{name}`");
    }
}

#[test]
fn modules_use_only_what_stands_before_them() {
    for path in sources(Path::new("src")) {
        let name = path.strip_prefix("src").unwrap();
        let module = name.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        let Some(place) = ORDER.iter().position(|m| *m == module) else {
            assert!(["lib", "main"].contains(&module), "{module} has no place in the order");
            continue;
        };
        for used in used_modules(&fs::read_to_string(&path).unwrap()) {
            let Some(used_place) = ORDER.iter().position(|m| *m == used) else { continue };
            assert!(used_place <= place, "{} uses crate::{used}, which comes after it", path.display());
        }
    }
}

/// The names that stand behind `crate::` in a source text, those in braces too.
fn used_modules(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut used = Vec::new();
    for part in code.split("crate::").skip(1) {
        let Some(list) = part.strip_prefix('{') else {
            used.push(word(part));
            continue;
        };
        let mut depth = 0;
        let mut item = String::new();
        for c in list.chars() {
            match c {
                '}' if depth == 0 => break,
                ',' if depth == 0 => used.push(word(std::mem::take(&mut item).trim_start())),
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if c != ',' || depth > 0 {
                item.push(c);
            }
        }
        used.push(word(item.trim_start()));
    }
    used
}

#[test]
fn the_check_of_the_order_sees_every_form_of_use() {
    let text = "use crate::a::x;\nuse crate::{b, c::{y, z},\n    d::w};\n// use crate::e;\nlet x = crate::f::g();\n";
    assert_eq!(used_modules(text), ["a", "b", "c", "d", "f"]);
}

#[test]
fn every_dependency_says_what_we_would_write_without_it() {
    let manifest = fs::read_to_string("Cargo.toml").unwrap();
    let design = fs::read_to_string("docs/design.md").unwrap();
    let (_, table) = design.split_once("## Dependencies").expect("docs/design.md has a table of dependencies");
    let named: Vec<&str> = table
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(" |").next())
        .flat_map(|names| names.split(", "))
        .collect();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let needed: Vec<&str> = section.lines().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
    assert!(needed.len() > 20, "{needed:?}");
    for name in &needed {
        assert!(named.contains(name), "docs/design.md has no row for the dependency {name}");
    }
    for name in named.iter().filter(|name| !["crate", "---"].contains(name)) {
        assert!(needed.contains(name), "docs/design.md has a row for {name}, which is no dependency");
    }
}

#[test]
fn only_the_ui_and_the_entry_print() {
    for path in sources(Path::new("src")) {
        let name = path.strip_prefix("src").unwrap().display().to_string();
        if name.starts_with("ui") || name == "main.rs" {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for macro_name in ["println!", "eprintln!", "print!(", "eprint!("] {
            let found = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(macro_name));
            assert!(!found, "{name} prints; only src/ui may");
        }
    }
}
