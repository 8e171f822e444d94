//! OpenAPI: the GETs of an API document that can be asked without knowing more: those without required
//! parameters. OpenAPI 3 and Swagger 2, as JSON (YAML is not read).

use anyhow::{Result, bail};
use serde_json::Value;

/// Paths, in the document's order. `prefix` comes before each; when empty, the document's own base path
/// (`servers[0].url`, `basePath`) does.
///
/// # Errors
/// When it is not an OpenAPI document in JSON.
pub(super) fn paths(document: &[u8], prefix: &str) -> Result<Vec<String>> {
    let text = document.strip_prefix(b"\xef\xbb\xbf").unwrap_or(document);
    let document: Value = match serde_json::from_slice(text) {
        Ok(document) => document,
        Err(error) => {
            bail!("{}:{}: not an OpenAPI document in JSON (YAML is not read): {error}", error.line(), error.column())
        }
    };
    let Some(paths) =
        document["paths"].as_object().filter(|_| document["openapi"].is_string() || document["swagger"].is_string())
    else {
        bail!("not an OpenAPI document: it lacks `openapi` or `swagger`, or `paths`");
    };
    let base = if prefix.is_empty() { base_path(&document) } else { prefix.trim_end_matches('/').to_owned() };
    let askable = paths
        .iter()
        .filter(|(path, item)| path.starts_with('/') && !path.contains('{') && can_be_asked(&document, item));
    Ok(askable.map(|(path, _)| format!("{base}{path}")).collect())
}

fn can_be_asked(document: &Value, item: &Value) -> bool {
    let get = &item["get"];
    let parameters = [&item["parameters"], &get["parameters"]].into_iter().filter_map(Value::as_array).flatten();
    get.is_object() && !parameters.into_iter().any(|parameter| resolved(document, parameter)["required"] == true)
}

/// Follows a `$ref` inside the document, once: parameters are not references to references.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value["$ref"].as_str().and_then(|reference| reference.strip_prefix('#'));
    pointer.and_then(|pointer| document.pointer(pointer)).unwrap_or(value)
}

/// The path of the first server; of an absolute address only the path, since it is the target that is asked.
fn base_path(document: &Value) -> String {
    if let Some(base) = document["basePath"].as_str() {
        return base.trim_end_matches('/').to_owned();
    }
    let server = document["servers"][0]["url"].as_str().unwrap_or_default();
    let path = match server.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => server,
    };
    if path.contains('{') || !path.starts_with('/') { String::new() } else { path.trim_end_matches('/').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gets_without_required_parameters_are_found_in_order() {
        let document = br##"{"openapi":"3.0.0","servers":[{"url":"https://example.org/v1/"}],"paths":{
            "/zoo":{"get":{}},"/pets":{"get":{"parameters":[{"name":"limit","in":"query"}]},"post":{}},
            "/pets/{id}":{"get":{}},"/search":{"get":{"parameters":[{"$ref":"#/components/parameters/q"}]}},
            "/upload":{"post":{}}},"components":{"parameters":{"q":{"required":true}}}}"##;
        assert_eq!(paths(document, "").unwrap(), ["/v1/zoo", "/v1/pets"]);
        assert_eq!(paths(document, "/api/").unwrap(), ["/api/zoo", "/api/pets"]);
    }

    #[test]
    fn what_is_not_openapi_is_refused() {
        for text in ["openapi: 3.0.0", "[]", "{\"paths\":{}}"] {
            assert!(paths(text.as_bytes(), "").is_err(), "{text}");
        }
    }
}
