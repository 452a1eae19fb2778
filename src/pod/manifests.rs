//! The images that Kubernetes documents name.

use serde_json::Value;

use super::yaml;
use crate::fault::Result;

/// What a document may hold as data that only looks like an image.
const DATA: [&str; 2] = ["ConfigMap", "Secret"];

/// Every image that the documents of a file name, each once, document by document, in each in the order of its fields' names.
///
/// *Shape:* `image:` in containers of any kind, in custom resources too; `reference:` of image volumes. Documents without a kind are
/// not Kubernetes's. *Errors:* `InvalidArgument` for what is no YAML.
pub fn images(text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for document in yaml::documents(text)? {
        if !document.text("kind").is_empty() {
            walk(&document.value, &mut found);
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    found.retain(|image| seen.insert(image.clone()));
    Ok(found)
}

fn walk(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            if members.get("kind").and_then(Value::as_str).is_some_and(|kind| DATA.contains(&kind)) {
                return;
            }
            for (key, below) in members {
                match (key.as_str(), below) {
                    ("image", Value::String(image)) if !image.is_empty() => found.push(image.clone()),
                    ("image", Value::Object(source)) => match source.get("reference").and_then(Value::as_str) {
                        Some(image) if !image.is_empty() => found.push(image.to_owned()),
                        _ => walk(below, found),
                    },
                    _ => walk(below, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|below| walk(below, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_is_found_once_and_data_is_left_alone() {
        let text = "apiVersion: v1\nkind: List\nitems:\n- kind: Pod\n  spec:\n    initContainers: [{image: a:1}]\n    containers: [{image: b:2}, {image: a:1}]\n    \
            volumes: [{name: v, image: {reference: c:3, pullPolicy: Always}}]\n---\nkind: ConfigMap\ndata: {image: no:1}\n---\nkind: CronJob\nspec: \
            {jobTemplate: {spec: {template: {spec: {containers: [{name: image, image: d:4}]}}}}}\n---\nimage: not:kubernetes\n---\nkind: Prometheus\nspec: {image: e:5}\n";
        assert_eq!(images(text).unwrap(), ["b:2", "a:1", "c:3", "d:4", "e:5"]);
        assert!(images("kind: {{ .Values.kind }}\n").is_err());
        assert!(images("").unwrap().is_empty());
    }
}
