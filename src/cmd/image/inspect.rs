//! `rkbox image inspect`.

use serde_json::{Value, json};

use super::InspectArgs;
use super::store::{self, Image, LayerRef};
use crate::cmd::{Context, output};
use crate::fault::{Fault, Kind, Result};
use crate::image::{Digest, Reference};
use crate::step::layer::find_stamp;
use crate::sys::{Host, blob_seal};

/// Prints an array with one object for each image, in the members of `docker image inspect` where it has them.
pub fn run(cx: &Context, args: &InspectArgs) -> Result<u8> {
    let images = args.images.iter().map(|text| store::find(&cx.host, text)).collect::<Result<Vec<_>>>()?;
    let text = serde_json::to_string_pretty(&images.iter().map(|image| describe(&cx.host, image)).collect::<Result<Vec<_>>>()?);
    output::line(&escape(&text.map_err(|error| Fault::from_error(Kind::Internal, error))?));
    Ok(0)
}

fn describe(host: &Host, image: &Image) -> Result<Value> {
    let raw: Value = serde_json::from_slice(&image.config_raw).map_err(|error| Fault::from_error(Kind::DataLoss, error))?;
    let (origin, config) = (image.origin.as_ref(), &image.manifest.config.digest);
    let pulled: Vec<&String> = origin.iter().flat_map(|origin| &origin.repo_digests).collect();
    // A registry may have it under another digest than the store.
    let is_known = |repository: &str| pulled.iter().any(|known| known.split('@').next() == Some(repository));
    let own = image.references.iter().map(Reference::repository).filter(|repository| !is_known(repository));
    let own = own.map(|repository| format!("{repository}@{}", image.manifest_digest));
    let digests: std::collections::BTreeSet<String> = own.chain(pulled.iter().map(|known| (*known).clone())).collect();
    let tags: Vec<&Reference> = image.references.iter().filter(|reference| reference.digest().is_none()).collect();
    let layers: Vec<Value> = image
        .layers
        .iter()
        .map(|layer| {
            json!({"MediaType": layer.media, "Digest": layer.digest, "Size": layer.size, "DiffID": layer.diff_id, "ChainID": layer.chain_id})
        })
        .collect();
    Ok(json!({
        "Id": image.id,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Digest": image.manifest_digest,
        "MediaType": image.manifest.media_type,
        "Created": raw["created"],
        "Author": raw["author"],
        "Architecture": raw["architecture"],
        "Os": raw["os"],
        "Variant": raw["variant"],
        "Size": image.size(),
        "UnpackedSize": unpacked_size(host, image),
        "Pinned": image.pinned,
        "PulledAt": origin.map(|origin| &origin.at),
        "LastUsed": blob_seal::last_use(&config.blob(&host.images()), config).and_then(|time| Some(jiff::Timestamp::try_from(time).ok()?.to_string())),
        "Source": origin.map(|origin| &origin.source),
        "Config": raw["config"],
        "RootFS": {"Type": "layers", "Layers": image.layers.iter().map(|layer| &layer.diff_id).collect::<Vec<_>>()},
        "Layers": layers,
        "History": raw["history"],
    }))
}

/// Bytes of the files of the layers; `None` when one is not unpacked.
fn unpacked_size(host: &Host, image: &Image) -> Option<u64> {
    let bytes = |layer: &LayerRef| {
        let path = host.layers().join(layer.chain_id.parse::<Digest>().ok()?.hex());
        Some(find_stamp(&path).ok()??.bytes)
    };
    image.layers.iter().map(bytes).sum()
}

/// Writes characters that could steer a terminal as JSON escapes: C1 controls, and those that turn the direction of text.
///
/// JSON has them only inside of strings, and already escapes the C0 controls itself.
fn escape(text: &str) -> String {
    let steers = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if steers(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal_and_nothing_is_lost() {
        let value = json!({"\u{9b}2J": "\u{202e}evil\u{1b}[31m\u{7f}é"});
        let text = escape(&value.to_string());
        assert!(!text.chars().any(char::is_control) && !text.contains('\u{202e}'), "{text}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
