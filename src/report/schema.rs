//! Schema: what the fields of a report are, for programs: JSON Schema (draft 2020-12), made of the model itself.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};

use super::Report;

/// The schema of what this program writes, as one JSON document that ends with a newline. A reader should skip what it
/// does not know: a minor version adds fields.
///
/// # Errors
/// Never: a schema is plain JSON.
pub fn schema() -> serde_json::Result<String> {
    let mut schema = SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<Report>();
    schema.insert("title".to_owned(), super::SCHEMA.into());
    RecursiveTransform(tidy).transform(&mut schema);
    Ok(format!("{}\n", serde_json::to_string_pretty(&schema)?))
}

/// What was written for readers of the code: links, and the values that missing fields are read as.
fn tidy(schema: &mut Schema) {
    schema.remove("default");
    if let Some(text) = schema.get("description").and_then(|text| text.as_str()) {
        let plain = text.replace("[`", "`").replace("`]", "`").replace("`None`", "`null`").replace('\n', " ");
        schema.insert("description".to_owned(), plain.into());
    }
}
