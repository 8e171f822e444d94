//! Text: descriptions of packages that are of nobody whom a package manager knows.

use std::io::Read;

use super::{Found, Language};

/// Longer descriptions are not read, in bytes.
const MAX: u64 = 4 << 20;

/// What a `package.json` calls itself; `None` for one without name or version, which is no package.
pub(super) fn package_json(file: &mut impl Read) -> Option<Found> {
    let value: serde_json::Value = serde_json::from_slice(&content(file)?).ok()?;
    let field = |name: &str| value.get(name)?.as_str().filter(|text| !text.is_empty());
    let (name, version) = (field("name")?, field("version")?);
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-._@/".contains(c);
    name.chars().all(is_name).then(|| Found::new(Language::Node, name, version))
}

/// What the head of a `METADATA` or `PKG-INFO` says ("Core metadata specifications").
pub(super) fn metadata(file: &mut impl Read) -> Option<Found> {
    let text = String::from_utf8_lossy(&content(file)?).into_owned();
    let field = |name: &str| {
        let head = text.lines().take_while(|line| !line.is_empty());
        let mut lines = head.filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().to_owned())
    };
    Some(Found::new(Language::Python, field("Name")?, field("Version")?))
}

/// All of it; `None` when it is too long or cannot be read.
fn content(file: &mut impl Read) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() as u64 <= MAX).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_has_a_name_and_a_version_is_a_package() {
        let json = |text: &str| package_json(&mut text.as_bytes()).map(|found| format!("{}@{}", found.name, found.version));
        assert_eq!(json(r#"{"name":"@s/a","version":"1.0"}"#).as_deref(), Some("@s/a@1.0"));
        for none in [r#"{"type":"module"}"#, r#"{"name":"a"}"#, r#"{"name":"a b","version":"1"}"#, r#"{"name":1,"version":"1"}"#, "{"] {
            assert_eq!(json(none), None, "{none}");
        }
        let text = |text: &str| metadata(&mut text.as_bytes()).map(|found| format!("{}@{}", found.name, found.version));
        assert_eq!(text("Metadata-Version: 2.1\nName: a\nVersion: 1\n\nName: b\n").as_deref(), Some("a@1"));
        assert_eq!(text("Name: a\n\nVersion: 1\n"), None);
    }
}
