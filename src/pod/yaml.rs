//! YAML as Kubernetes reads it: documents between lines of `---`, YAML 1.1 scalars, no more than JSON can say.

use serde_json::Value;

use crate::fault::{Fault, Result};

/// The largest file, in bytes.
pub const LIMIT: u64 = 16 << 20;

/// One document of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The line of the file on which it begins, counted from 1.
    pub line: usize,
    /// What it says.
    pub value: Value,
}

impl Document {
    /// A member that is a text; empty when it is not there or something else.
    pub fn text(&self, key: &str) -> &str {
        self.value.get(key).and_then(Value::as_str).unwrap_or_default()
    }
}

/// Reads all documents; one that says nothing is left out.
///
/// *Errors:* `InvalidArgument` for what is no YAML, an alias bomb, a key that occurs twice. *Source:* apimachinery's `YAMLReader`.
pub fn documents(text: &str) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for (line, part) in parts(text)? {
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        let read = serde_saphyr::from_str_with_options::<Value>(part, options);
        let value = read.map_err(|error| Fault::invalid(format!("document at line {line} is no YAML: {}", flat(&error.to_string()))))?;
        if !value.is_null() {
            documents.push(Document { line, value });
        }
    }
    Ok(documents)
}

/// The first line of an error; the others draw the place.
fn flat(text: &str) -> String {
    text.lines().next().unwrap_or_default().escape_debug().to_string().replace("\\\"", "\"")
}

/// Splits at lines that begin with `---`, which only a comment may follow.
fn parts(text: &str) -> Result<Vec<(usize, &str)>> {
    let (mut parts, mut begin, mut first, mut at) = (Vec::new(), 0, 1, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if let Some(rest) = line.strip_prefix("---") {
            let rest = rest.trim();
            if !rest.is_empty() && !rest.starts_with('#') {
                return Err(Fault::invalid(format!("line {} is not valid: only a comment may follow ---", number + 1)));
            }
            parts.push((first, &text[begin..at]));
            (begin, first) = (at + line.len(), number + 2);
        }
        at += line.len();
    }
    parts.push((first, &text[begin..]));
    parts.retain(|(_, part)| !part.trim().is_empty());
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_are_split_and_scalars_are_those_of_yaml_1_1() {
        let text =
            "# only a comment\n---\na: yes\nb: off\nc: 0755\nd: \"no\"\ne: 1.35\nf: v1.35.0\ng: ~\n--- # next\n{\"json\": [true]}\n---\n";
        let documents = documents(text).unwrap();
        assert_eq!(documents.len(), 2, "{documents:?}");
        let said = json!({"a": true, "b": false, "c": 0o755, "d": "no", "e": 1.35, "f": "v1.35.0", "g": null});
        assert_eq!((documents[0].line, &documents[0].value), (3, &said));
        assert_eq!((documents[1].line, &documents[1].value), (11, &json!({"json": [true]})));
        let block = super::documents("a: |\n  text\n  --- inside\nb: &x [1]\nc: *x\n").unwrap();
        assert_eq!(block[0].value, json!({"a": "text\n--- inside\n", "b": [1], "c": [1]}));
    }

    #[test]
    fn hostile_documents_are_refused_and_quoted() {
        let bomb: String = std::iter::once("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned())
            .chain((1..12).map(|n| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "))))
            .collect();
        let deep = format!("a: {}", "[".repeat(100_000));
        for text in ["a: [", "a: 1\na: 2\n", "--- a: 1\n", "a: *nowhere\n", "\u{1b}[2J: [", "a:\n\t- b", bomb.as_str(), deep.as_str()] {
            let fault = documents(text).unwrap_err().to_string();
            assert!(!fault.chars().any(char::is_control) && fault.len() < 1000, "{fault:?}");
        }
    }
}
