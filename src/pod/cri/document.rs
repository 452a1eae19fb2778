//! The text of a file as one document.

use serde_json::Value;

use crate::fault::{Fault, Result};
use crate::json::{Names, Rules};
use crate::pod::yaml;

/// Reads the one document of a file, JSON or YAML.
///
/// *Errors:* `InvalidArgument` for what is neither, a key that occurs twice, several documents, and what is no object.
pub fn document(text: &str) -> Result<Value> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let value = if text.trim_start().starts_with('{') {
        // JSON is nearly YAML: what is not JSON may be YAML in braces, but its errors are told as JSON's, which know the column.
        json(text).or_else(|fault| one(text).map_err(|_| fault))?
    } else {
        one(text)?
    };
    if value.is_object() {
        Ok(value)
    } else {
        Err(Fault::invalid("the file holds no object").hint("such as {\"metadata\": {\"name\": …}, …}"))
    }
}

fn json(text: &str) -> Result<Value> {
    let rules = Rules { member: "the key", names: Names::Differ, depth: usize::MAX };
    rules.read(text.as_bytes()).map_err(|error| Fault::invalid(format!("it is no JSON: {error}")))
}

fn one(text: &str) -> Result<Value> {
    let mut documents = yaml::documents(text)?;
    match (documents.pop(), documents.len()) {
        (Some(document), 0) => Ok(document.value),
        (None, _) => Err(Fault::invalid("the file is empty")),
        (Some(second), more) => Err(Fault::invalid(format!("the file holds {} documents, the last at line {}", more + 1, second.line))
            .hint("give each a file of its own")),
    }
}
