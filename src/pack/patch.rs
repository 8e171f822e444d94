//! Patch: a JSON text with some members changed, every other byte of it as it was: spelling of numbers, escapes,
//! blanks, order.

use std::fmt;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// The text of `new`, made from `text`, which is that of `old`.
///
/// # Errors
/// When `text` is not JSON.
pub fn patched(text: &str, old: &Value, new: &Value) -> Result<String> {
    match (old, new) {
        _ if old == new => Ok(text.to_owned()),
        (Value::Object(old), Value::Object(new)) if old.keys().all(|key| new.contains_key(key)) => {
            with_members(text, old, new)
        }
        (Value::Object(old), Value::Object(new)) => without_members(text, old, new),
        _ => Ok(serde_json::to_string(new)?),
    }
}

/// Members change and are added; none goes.
fn with_members(text: &str, old: &Map<String, Value>, new: &Map<String, Value>) -> Result<String> {
    let members = Members::of(text)?;
    let mut made = String::with_capacity(text.len() + 1024);
    let mut copied = 0;
    for (key, raw) in &members.0 {
        let start = raw.get().as_ptr() as usize - text.as_ptr() as usize;
        made.push_str(&text[copied..start]);
        made.push_str(&patched(raw.get(), &old[key], &new[key])?);
        copied = start + raw.get().len();
    }
    let mut first = members.0.is_empty();
    if first {
        copied = text.find('{').context("an object has no beginning")? + 1;
        made.push_str(&text[..copied]);
    }
    for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(*key)) {
        made.push_str(if first { "" } else { "," });
        made.push_str(&format!("{}:{}", serde_json::to_string(key)?, serde_json::to_string(value)?));
        first = false;
    }
    made.push_str(&text[copied..]);
    Ok(made)
}

/// Where a member goes, the blanks around it have no place; what stays keeps its value's bytes.
fn without_members(text: &str, old: &Map<String, Value>, new: &Map<String, Value>) -> Result<String> {
    let members = Members::of(text)?;
    let mut made = Vec::new();
    for (key, value) in new {
        let was = members.0.iter().rev().find(|(name, _)| name == key);
        let value = match was {
            Some((_, raw)) => patched(raw.get(), &old[key], value)?,
            None => serde_json::to_string(value)?,
        };
        made.push(format!("{}:{value}", serde_json::to_string(key)?));
    }
    Ok(format!("{{{}}}", made.join(",")))
}

/// The members of an object, in its order, their values as they are written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Members<'a> {
    fn of(text: &'a str) -> Result<Self> {
        serde_json::from_str(text).context("read the members of a JSON object")
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_changed_changes_and_nothing_else() {
        for (text, new, expected) in [
            (r#"{ "a":1e2 , "b":2 }"#, r#"{"a":1e2,"b":3}"#, r#"{ "a":1e2 , "b":3 }"#),
            (r#"{ "a":1e2 , "b":2 }"#, r#"{"a":1e2,"b":2,"c":[]}"#, r#"{ "a":1e2 , "b":2,"c":[] }"#),
            (r#"{ }"#, r#"{"a":1}"#, r#"{"a":1 }"#),
            (r#"{"a":{"x":1.0,"y":2},"b":"\u0061"}"#, r#"{"a":{"y":2}}"#, r#"{"a":{"y":2}}"#),
            (r#"{"x":0,"a":{"x":1.0,"y":2},"b":"\u0061"}"#, r#"{"a":{"x":1.0,"y":3},"b":"a"}"#, r#"{"a":{"x":1.0,"y":3},"b":"\u0061"}"#),
            (r#"{"\u0061":null}"#, r#"{"a":{}}"#, r#"{"\u0061":{}}"#),
            (r#"[1.0]"#, r#"[1.0, 2]"#, r#"[1.0,2]"#),
        ] {
            let (old, new): (Value, Value) = (serde_json::from_str(text).unwrap(), serde_json::from_str(new).unwrap());
            let made = patched(text, &old, &new).unwrap();
            assert_eq!(made, expected);
            assert_eq!(serde_json::from_str::<Value>(&made).unwrap(), new);
        }
    }
}
