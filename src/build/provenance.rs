//! Provenance: what a published result was made of, and how, as an in-toto statement that others can sign and check:
//! `Statement` v1 of the in-toto Attestation Framework with the predicate `Provenance` v1 of SLSA.
//!
//! No clock and no number of a run is in it: the same build gives the same statement. Values of flags are not in it
//! either; what they come to is in the digest of the inputs.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::base::Base;
use super::subject::Subject;
use crate::pack::archive::PackedImage;
use crate::plan::BuildPlan;
use crate::report::{self, Redactor, Report};
use crate::store::manifest::media;

/// Which type of statement it is.
const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// Which predicate it has.
const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// How the parameters are to be read: docs/formats.md, "Provenance".
const BUILD_TYPE: &str = "urn:x-slim:build:1";
/// Who built it: this program, wherever it ran.
const BUILDER: &str = "urn:x-slim:builder";

/// What one image was made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Made {
    base: Base,
    id: String,
    source_id: String,
    platform: String,
    keep_set: String,
    inputs: Option<String>,
}

impl Made {
    /// Of a result that was published.
    pub fn of(subject: &Subject, slim: &PackedImage, keep_set: String) -> Self {
        Self {
            base: subject.base.clone(),
            id: slim.id.clone(),
            source_id: subject.config_digest.clone(),
            platform: format!("{}/{}", subject.info.os, subject.info.arch),
            keep_set,
            inputs: subject.inputs.clone(),
        }
    }
}

/// Writes the statement, where it was asked for. `made`: each image with its report; `published`: names and digests.
///
/// # Errors
/// When the file cannot be written.
pub fn write(plan: &BuildPlan, made: &[(Made, Report)], published: &[(String, String)]) -> Result<()> {
    match &plan.outputs.provenance {
        Some(path) if !published.is_empty() => {
            let text = statement(plan, made, published);
            report::file::replace(Path::new(path), |out| out.write_all(text.as_bytes()))
        }
        Some(_) | None => Ok(()),
    }
}

/// The statement.
fn statement(plan: &BuildPlan, made: &[(Made, Report)], published: &[(String, String)]) -> String {
    let redactor = super::redactor(plan);
    let is_id = |digest: &str| made.iter().any(|(made, _)| made.id == digest);
    let media_type = |digest: &str| match made.len() {
        _ if is_id(digest) => media::OCI_CONFIG,
        1 => media::OCI_MANIFEST,
        _ => media::OCI_INDEX,
    };
    let subject = published.iter().map(|(name, digest)| resource(&redactor.text(name), digest, Some(media_type(digest))));
    let image = made.first().map(|(_, report)| redactor.text(&report.source.reference)).unwrap_or_default();
    let document = json!({
        "_type": STATEMENT,
        "subject": subject.collect::<Vec<_>>(),
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "command": "build",
                    "image": image,
                    "flags": plan.given.iter().map(|flag| format!("--{flag}")).collect::<Vec<_>>(),
                },
                "internalParameters": {"images": made.iter().map(internal).collect::<Vec<_>>()},
                "resolvedDependencies": dependencies(made, &redactor),
            },
            "runDetails": {"builder": {"id": BUILDER, "version": {"slim": env!("CARGO_PKG_VERSION")}}},
        },
    });
    report::file::to_json(&document)
}

/// How one image came to be.
fn internal((made, report): &(Made, Report)) -> Value {
    json!({
        "platform": made.platform,
        "id": made.id,
        "level": report.level,
        "keepSet": made.keep_set,
        "inputs": made.inputs,
        "verdict": report.verdict.kind,
    })
}

/// The originals, by their manifests where these are known, and the recordings that went in.
fn dependencies(made: &[(Made, Report)], redactor: &Redactor) -> Vec<Value> {
    let mut all = Vec::new();
    for (made, report) in made {
        let name = made.base.name.clone().unwrap_or_else(|| report.source.reference.clone());
        let (digest, media_type) = match &made.base.digest {
            Some(digest) => (digest, None),
            None => (&made.source_id, Some(media::OCI_CONFIG)),
        };
        let mut source = resource(&redactor.text(&name), digest, media_type);
        source["annotations"] = json!({"platform": made.platform, "imageId": made.source_id});
        all.push(source);
        for used in &report.traces {
            let trace = resource(&redactor.text(&used.path), &format!("sha256:{}", used.sha256), None);
            if !all.contains(&trace) {
                all.push(trace);
            }
        }
    }
    all
}

/// A `ResourceDescriptor`.
fn resource(name: &str, digest: &str, media_type: Option<&str>) -> Value {
    let (algorithm, hex) = digest.split_once(':').unwrap_or(("sha256", digest));
    let mut resource = json!({"name": name, "digest": {algorithm: hex}});
    if let Some(media_type) = media_type {
        resource["mediaType"] = json!(media_type);
    }
    resource
}
