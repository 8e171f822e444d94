//! Scan: what a vulnerability scanner found in the original, read from its own JSON: trivy's (`Results[].Vulnerabilities`)
//! or grype's (`matches[]`).

use anyhow::{Result, bail};
use serde_json::Value;

/// A vulnerability of a package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// `CVE-2024-1234`.
    pub id: String,
    /// The package, as the scanner spells its package URL.
    pub purl: String,
}

/// All findings of a report, in order, each once. What has no package URL is passed over.
///
/// # Errors
/// When it is neither scanner's.
pub fn findings(text: &[u8]) -> Result<Vec<Finding>> {
    let Ok(value) = serde_json::from_slice::<Value>(text) else { bail!("it is no JSON") };
    let mut found: Vec<Finding> = if let Some(matches) = value.get("matches").and_then(Value::as_array) {
        matches.iter().filter_map(|one| finding(&one["vulnerability"]["id"], &one["artifact"]["purl"])).collect()
    } else if value.get("SchemaVersion").is_some() {
        let results = value["Results"].as_array().into_iter().flatten();
        let all = results.filter_map(|result| result["Vulnerabilities"].as_array()).flatten();
        all.filter_map(|one| finding(&one["VulnerabilityID"], &one["PkgIdentifier"]["PURL"])).collect()
    } else {
        bail!("it is neither trivy's JSON (`SchemaVersion`, `Results`) nor grype's (`matches`)");
    };
    found.sort();
    found.dedup();
    Ok(found)
}

fn finding(id: &Value, purl: &Value) -> Option<Finding> {
    let (id, purl) = (id.as_str()?, purl.as_str()?);
    (!id.is_empty() && purl.starts_with("pkg:")).then(|| Finding { id: id.to_owned(), purl: purl.to_owned() })
}

/// What of a package URL says which package it is, however a tool spells the rest: type, path and version, with the
/// epoch that some tools set apart; the architecture and the distribution are the image's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Same(String);

impl Same {
    /// `TYPE/NAMESPACE/NAME@VERSION`, nothing encoded.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `None` for what is no package URL.
    pub fn of(purl: &str) -> Option<Self> {
        let rest = purl.strip_prefix("pkg:")?.split('#').next()?;
        let (path, qualifiers) = rest.split_once('?').unwrap_or((rest, ""));
        let (path, version) = path.rsplit_once('@').unwrap_or((path, ""));
        let epoch = qualifiers.split('&').find_map(|pair| pair.strip_prefix("epoch=")).filter(|epoch| *epoch != "0");
        let version = decoded(version);
        let version = version.strip_prefix("0:").unwrap_or(&version);
        let version = epoch.map_or(version.to_owned(), |epoch| format!("{epoch}:{version}"));
        Some(Self(format!("{}@{version}", decoded(path).to_lowercase())))
    }
}

/// With `%XX` as the bytes they are.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|two| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok());
        match hex.filter(|_| *byte == b'%') {
            Some(value) => {
                bytes.push(value);
                rest = &after[2..];
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_package_is_the_same_however_a_scanner_spells_it() {
        let ours = Same::of("pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1%2Bb1?arch=amd64&distro=debian-12.5");
        for theirs in [
            "pkg:deb/debian/zlib1g@1.2.13.dfsg-1%2Bb1?arch=amd64&distro=debian-12.5&epoch=1",
            "pkg:deb/debian/zlib1g@1:1.2.13.dfsg-1+b1?arch=amd64&distro=debian-12&upstream=zlib",
        ] {
            assert_eq!(Same::of(theirs), ours);
        }
        assert_ne!(Same::of("pkg:deb/debian/zlib1g@1.2.13.dfsg-1%2Bb1"), ours);
        assert_ne!(Same::of("pkg:deb/debian/zlib1g"), ours);
        assert_eq!(Same::of("CVE-1"), None);
    }

    #[test]
    fn both_scanners_are_read_and_others_refused() {
        let one = [Finding { id: "CVE-1".to_owned(), purl: "pkg:gem/a@1".to_owned() }];
        let trivy = r#"{"SchemaVersion":2,"Results":[{"Vulnerabilities":[{"VulnerabilityID":"CVE-1","PkgIdentifier":{"PURL":"pkg:gem/a@1"}},{"VulnerabilityID":"CVE-2"}]},{}]}"#;
        let grype = r#"{"matches":[{"vulnerability":{"id":"CVE-1"},"artifact":{"purl":"pkg:gem/a@1"}},{}]}"#;
        assert_eq!(findings(trivy.as_bytes()).unwrap(), one);
        assert_eq!(findings(grype.as_bytes()).unwrap(), one);
        assert!(findings(b"{}").is_err() && findings(b"\xff").is_err());
    }
}
