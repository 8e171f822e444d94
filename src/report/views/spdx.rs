//! SPDX: an image's parts as a software bill of materials (SPDX 2.3, JSON). Its files need a SHA-1 each, which nobody
//! here computes: they are told as annotations of their packages instead.

use serde_json::{Value, json};

use super::super::bom::{Bom, Component};
use super::super::file::to_json;
use super::image_purl;

/// The document: the image, its distribution, its packages, and that the image contains them.
pub fn spdx(bom: &Bom) -> String {
    let mut packages = vec![image(bom)];
    packages.extend(bom.os.iter().map(|os| {
        let base = json!({ "SPDXID": "SPDXRef-os", "name": os.id, "primaryPackagePurpose": "OPERATING-SYSTEM" });
        completed(base, &os.version)
    }));
    packages.extend(bom.components.iter().enumerate().map(|(number, one)| package(bom, number + 1, one)));
    let relation = |from: &Value, kind: &str, to: &Value| json!({ "spdxElementId": from, "relationshipType": kind, "relatedSpdxElement": to });
    let mut relationships = vec![relation(&"SPDXRef-DOCUMENT".into(), "DESCRIBES", &packages[0]["SPDXID"])];
    relationships.extend(packages[1..].iter().map(|one| relation(&packages[0]["SPDXID"], "CONTAINS", &one["SPDXID"])));
    let document = json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": packages[0]["name"],
        "documentNamespace": format!("urn:uuid:{}", bom.uuid("spdx")),
        "creationInfo": { "created": bom.created, "creators": [format!("Tool: slim-{}", env!("CARGO_PKG_VERSION"))] },
        "packages": packages,
        "relationships": relationships,
    });
    to_json(&document)
}

fn image(bom: &Bom) -> Value {
    let name = if bom.name.is_empty() { "image" } else { &bom.name };
    let mut image = completed(json!({ "SPDXID": "SPDXRef-image", "name": name, "primaryPackagePurpose": "CONTAINER" }), &bom.digest);
    if let Some(hex) = bom.digest.strip_prefix("sha256:") {
        image["checksums"] = json!([{ "algorithm": "SHA256", "checksumValue": hex }]);
    }
    if let Some(purl) = image_purl(bom) {
        image["externalRefs"] = reference(&purl);
    }
    let mut notes: Vec<Value> = bom.notes.iter().map(|note| annotation(bom, note)).collect();
    if !bom.files.is_empty() {
        notes.push(annotation(bom, &format!("files of no package:\n{}", bom.files.join("\n"))));
    }
    annotated(image, notes)
}

fn package(bom: &Bom, number: usize, one: &Component) -> Value {
    let base = json!({ "SPDXID": format!("SPDXRef-package-{number}"), "name": one.name, "primaryPackagePurpose": "LIBRARY" });
    let mut told = completed(base, &one.version);
    if let Some(purl) = &one.purl {
        told["externalRefs"] = reference(purl);
    }
    if let Some(source) = &one.source {
        told["sourceInfo"] = format!("built from {source}").into();
    }
    let how_much = match one.parts {
        Some((kept, all)) if kept == all => format!("{} package, whole ({all} files)", one.system),
        Some((kept, all)) => format!("{} package, in part ({kept} of {all} files)", one.system),
        None => format!("{} package in a file", one.system),
    };
    let files = if one.files.is_empty() { String::new() } else { format!(":\n{}", one.files.join("\n")) };
    annotated(told, vec![annotation(bom, &format!("{how_much}{files}"))])
}

/// With what every package has to say.
fn completed(mut package: Value, version: &str) -> Value {
    if !version.is_empty() {
        package["versionInfo"] = version.into();
    }
    package["downloadLocation"] = "NOASSERTION".into();
    package["filesAnalyzed"] = false.into();
    for field in ["licenseConcluded", "licenseDeclared", "copyrightText"] {
        package[field] = "NOASSERTION".into();
    }
    package
}

fn annotated(mut package: Value, annotations: Vec<Value>) -> Value {
    if !annotations.is_empty() {
        package["annotations"] = annotations.into();
    }
    package
}

fn annotation(bom: &Bom, text: &str) -> Value {
    json!({
        "annotationDate": bom.created,
        "annotationType": "OTHER",
        "annotator": format!("Tool: slim-{}", env!("CARGO_PKG_VERSION")),
        "comment": text,
    })
}

fn reference(purl: &str) -> Value {
    json!([{ "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl }])
}
