//! OpenVEX: which of the vulnerabilities that a scanner finds in the original are not in the result, because no file of
//! their package is (OpenVEX 0.2.0, JSON). A statement names one vulnerability, so there is none without a scan.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::super::bom::Bom;
use super::super::model::Report;
use super::super::scan::{Finding, Same};
use super::super::file::to_json;
use super::image_purl;

/// The document; `None` where there is nothing to state (its schema wants one statement at least), or no result that
/// it could be bound to.
pub fn openvex(report: &Report, findings: &[Finding]) -> Option<String> {
    let digest = report.result.as_ref()?.digest.strip_prefix("sha256:")?;
    let absent = Absent::new(report);
    let mut by_id: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for finding in findings.iter().filter(|finding| absent.has(finding)) {
        by_id.entry(&finding.id).or_default().insert(&finding.purl);
    }
    if by_id.is_empty() {
        return None;
    }
    let bom = Bom::of_report(report);
    let product = image_purl(&bom)?;
    let statement = |(id, purls): (&&str, &BTreeSet<&str>)| {
        let parts: Vec<Value> = purls.iter().map(|purl| json!({ "@id": purl, "identifiers": { "purl": purl } })).collect();
        json!({
            "vulnerability": { "name": id },
            "products": [{
                "@id": product,
                "identifiers": { "purl": product },
                "hashes": { "sha-256": digest },
                "subcomponents": parts,
            }],
            "status": "not_affected",
            "justification": "vulnerable_code_not_present",
            "status_notes": "the image holds no file of these packages of the image that it was made from",
        })
    };
    let statements: Vec<Value> = by_id.iter().map(statement).collect();
    let document = json!({
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": format!("urn:uuid:{}", bom.uuid(&format!("openvex\n{statements:?}"))),
        "author": "slim",
        "role": "tool",
        "timestamp": bom.created,
        "version": 1,
        "tooling": format!("slim {}", env!("CARGO_PKG_VERSION")),
        "statements": statements,
    });
    Some(to_json(&document))
}

/// Packages of which nothing stays, and those of which something does.
struct Absent {
    gone: BTreeSet<Same>,
    here: BTreeSet<Same>,
}

impl Absent {
    fn new(report: &Report) -> Self {
        let (mut gone, mut here) = (BTreeSet::new(), BTreeSet::new());
        let packages = report.packages.iter().map(|one| (&one.purl, one.files > 0 && one.kept_files == 0));
        let embedded = report.embedded.iter().map(|one| (&one.purl, !one.kept));
        for (purl, is_gone) in packages.chain(embedded) {
            if let Some(same) = purl.as_deref().and_then(Same::of) {
                if is_gone { gone.insert(same) } else { here.insert(same) };
            }
        }
        Self { gone, here }
    }

    /// One that is also elsewhere, in whatever part, is not gone.
    fn has(&self, finding: &Finding) -> bool {
        Same::of(&finding.purl).is_some_and(|same| self.gone.contains(&same) && !self.here.contains(&same))
    }
}
