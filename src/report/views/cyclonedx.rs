//! CycloneDX: an image's parts as a software bill of materials (CycloneDX 1.6, ECMA-424, JSON).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::bom::{Bom, Component};
use super::super::file::to_json;
use super::image_purl;

/// The document: packages as libraries with the files that are there as evidence, then files of no package.
pub fn cyclonedx(bom: &Bom) -> String {
    let mut taken = BTreeMap::new();
    let mut components: Vec<Value> = bom.os.iter().map(|os| {
        let named = json!({ "type": "operating-system", "bom-ref": format!("os:{}", os.id), "name": os.id });
        with(named, "version", Some(&os.version))
    }).collect();
    components.extend(bom.components.iter().map(|one| component(one, &mut taken)));
    components.extend(bom.files.iter().map(|path| json!({ "type": "file", "bom-ref": format!("file:{path}"), "name": path })));
    let refs: Vec<&Value> = components.iter().map(|one| &one["bom-ref"]).collect();
    let notes = bom.notes.iter().map(|note| json!({ "name": "slim:note", "value": note }));
    let properties: Vec<Value> = [json!({ "name": "slim:image-id", "value": bom.digest })].into_iter().chain(notes).collect();
    let mut image = json!({ "type": "container", "bom-ref": "image", "name": named(&bom.name) });
    image = with(image, "version", Some(&bom.digest));
    image = with(image, "purl", image_purl(bom).as_ref());
    let document = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": format!("urn:uuid:{}", bom.uuid("cyclonedx")),
        "version": 1,
        "metadata": {
            "timestamp": bom.created,
            "tools": { "components": [{ "type": "application", "name": "slim", "version": env!("CARGO_PKG_VERSION") }] },
            "component": image,
            "properties": properties,
        },
        "components": components,
        "dependencies": [{ "ref": "image", "dependsOn": refs }],
    });
    to_json(&document)
}

fn component(one: &Component, taken: &mut BTreeMap<String, u32>) -> Value {
    let base = one.purl.clone().unwrap_or_else(|| format!("{}:{}@{}", one.system, one.name, one.version));
    let count = taken.entry(base.clone()).or_default();
    *count += 1;
    // The same package in two places.
    let reference = if *count == 1 { base } else { format!("{base}#{count}") };
    let mut properties = vec![json!({ "name": "slim:system", "value": one.system })];
    if let Some((kept, all)) = one.parts {
        properties.push(json!({ "name": "slim:whole", "value": (kept == all).to_string() }));
        properties.push(json!({ "name": "slim:files", "value": format!("{kept} of {all}") }));
    }
    properties.extend(one.source.iter().map(|source| json!({ "name": "slim:source", "value": source })));
    let mut told = json!({ "type": "library", "bom-ref": reference, "name": one.name });
    told = with(told, "version", Some(&one.version));
    told = with(told, "purl", one.purl.as_ref());
    if !one.files.is_empty() {
        let places: Vec<Value> = one.files.iter().map(|path| json!({ "location": path })).collect();
        told["evidence"] = json!({ "occurrences": places });
    }
    told["properties"] = properties.into();
    told
}

/// A member that is left out where there is nothing to say.
fn with(mut value: Value, key: &str, text: Option<&String>) -> Value {
    if let Some(text) = text.filter(|text| !text.is_empty()) {
        value[key] = text.as_str().into();
    }
    value
}

fn named(name: &str) -> &str {
    if name.is_empty() { "image" } else { name }
}
