//! The image configuration: what to run, and the digests of the uncompressed layers.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;
use serde_json::Value;

use super::manifest::DOCUMENT_LIMIT;
use super::{Digest, Manifest, Platform};
use crate::fault::{Context, Fault, Kind, Result};
use crate::image::Compression;

/// A configuration, validated, with its raw bytes, whose digest is the image's id.
#[derive(Clone, Debug)]
pub struct Config {
    /// The typed view. *Source:* image-spec `config.md`.
    pub spec: ImageConfiguration,
    /// Digests of the uncompressed layers, lowest first.
    pub diff_ids: Vec<Digest>,
    /// As stored.
    pub raw: Vec<u8>,
}

impl Config {
    /// Reads a configuration.
    ///
    /// *Errors:* `InvalidArgument` for a malformed one, `Unimplemented` for another operating system than Linux.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        if bytes.len() as u64 > DOCUMENT_LIMIT {
            return Err(Fault::invalid(format!("image config of {} bytes is larger than {DOCUMENT_LIMIT}", bytes.len())));
        }
        let bad = |error: serde_json::Error| Fault::invalid(format!("image config is not valid: {}", error.to_string().escape_debug()));
        let mut value = super::json::read(bytes, "image config")?;
        without_nulls(&mut value);
        // serde would take a list of the values for the object.
        if [Some(&value), value.get("config"), value.get("rootfs")].into_iter().flatten().any(|part| !part.is_object()) {
            return Err(Fault::invalid("image config is not valid: it, its config or its rootfs is not an object"));
        }
        let spec: ImageConfiguration = serde_json::from_value(value).map_err(bad)?;
        if *spec.os() != oci_spec::image::Os::Linux {
            return Err(Fault::new(Kind::Unimplemented, format!("image is made for {:?}, not for linux", spec.os().to_string())));
        }
        let parse = |(nth, text): (usize, &String)| text.parse::<Digest>().doing(|| format!("reading diff id {nth} of the image config"));
        let diff_ids = spec.rootfs().diff_ids().iter().enumerate().map(parse).collect::<Result<_>>()?;
        Ok(Config { spec, diff_ids, raw: bytes.to_vec() })
    }

    /// The image's id: the SHA-256 of the raw bytes, by whatever digest its manifest names them.
    ///
    /// *Source:* image-spec `config.md`, "ImageID".
    pub fn id(&self) -> Digest {
        Digest::of(&self.raw)
    }

    /// What it runs on.
    pub fn platform(&self) -> Platform {
        Platform {
            architecture: self.spec.architecture().to_string(),
            os: self.spec.os().to_string(),
            variant: self.spec.variant().clone().unwrap_or_default(),
        }
    }

    /// The chain id of each layer: what it gives on top of all below it.
    ///
    /// *Source:* image-spec `config.md`, "Layer ChainID".
    pub fn chain_ids(&self) -> Vec<Digest> {
        let mut chain: Vec<Digest> = Vec::new();
        for diff_id in &self.diff_ids {
            let next = chain.last().map_or_else(|| diff_id.clone(), |below| Digest::of(format!("{below} {diff_id}").as_bytes()));
            chain.push(next);
        }
        chain
    }

    /// Refuses a configuration that does not belong to `manifest`: another count of layers, or a plain layer under another digest.
    pub fn check_against(&self, manifest: &Manifest) -> Result<()> {
        let (layers, diff_ids) = (manifest.layers.len(), self.diff_ids.len());
        if layers != diff_ids {
            return Err(Fault::invalid(format!("manifest has {layers} layers, image config has {diff_ids} diff ids")));
        }
        for (nth, (layer, diff_id)) in manifest.layers.iter().zip(&self.diff_ids).enumerate() {
            if Compression::from_media_type(&layer.media_type)? == Compression::None && layer.digest != *diff_id {
                let message = format!("layer {nth} is a plain tar {}, its diff id is {diff_id}", layer.digest);
                return Err(Fault::new(Kind::DataLoss, message));
            }
        }
        Ok(())
    }

    /// When it was made, as written; not validated.
    pub fn created(&self) -> Option<&str> {
        self.spec.created().as_deref()
    }

    /// `User`: empty means root.
    pub fn user(&self) -> &str {
        self.run().and_then(|run| run.user().as_deref()).unwrap_or("")
    }

    /// `Env`, in order.
    pub fn env(&self) -> &[String] {
        self.run().and_then(|run| run.env().as_deref()).unwrap_or(&[])
    }

    /// `Entrypoint`.
    pub fn entrypoint(&self) -> &[String] {
        self.run().and_then(|run| run.entrypoint().as_deref()).unwrap_or(&[])
    }

    /// `Cmd`.
    pub fn cmd(&self) -> &[String] {
        self.run().and_then(|run| run.cmd().as_deref()).unwrap_or(&[])
    }

    /// `WorkingDir`: empty means `/`.
    pub fn working_dir(&self) -> &str {
        self.run().and_then(|run| run.working_dir().as_deref()).unwrap_or("")
    }

    /// `Labels`, sorted.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let labels = self.run().and_then(|run| run.labels().clone()).unwrap_or_default();
        labels.into_iter().collect()
    }

    /// `Volumes`: paths, sorted.
    pub fn volumes(&self) -> Vec<String> {
        sorted(self.run().and_then(|run| run.volumes().clone()))
    }

    /// `ExposedPorts`: `80/tcp`, sorted.
    pub fn exposed_ports(&self) -> Vec<String> {
        sorted(self.run().and_then(|run| run.exposed_ports().clone()))
    }

    /// `StopSignal`, as written.
    pub fn stop_signal(&self) -> Option<&str> {
        self.run().and_then(|run| run.stop_signal().as_deref()).filter(|signal| !signal.is_empty())
    }

    fn run(&self) -> Option<&oci_spec::image::Config> {
        self.spec.config().as_ref()
    }
}

fn sorted(list: Option<Vec<String>>) -> Vec<String> {
    let mut list = list.unwrap_or_default();
    list.sort();
    list
}

/// Go writes an absent list or map as `null`; to readers it is the same as not being there.
fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, member| !member.is_null());
            map.values_mut().for_each(without_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_go_writes_is_read() {
        let raw = json!({"architecture": "amd64", "os": "linux", "created": null, "config": {"Env": null, "Cmd": ["sh"], "Labels": null,
            "Volumes": {"/b": {}, "/a": {}}, "ExposedPorts": null, "OnBuild": null, "Entrypoint": null, "User": ""}, "container": "x",
            "rootfs": {"type": "layers", "diff_ids": []}, "history": null});
        let config = Config::parse(raw.to_string().as_bytes()).unwrap();
        assert_eq!(config.cmd(), ["sh"]);
        assert_eq!(config.volumes(), ["/a", "/b"]);
        assert!(config.env().is_empty() && config.entrypoint().is_empty() && config.labels().is_empty() && config.stop_signal().is_none());
        assert_eq!(config.id(), Digest::of(raw.to_string().as_bytes()));
    }

    #[test]
    fn chain_ids_are_those_of_the_specification() {
        let (a, b, c) = (Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"c"));
        let raw = json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [a, b, c]}});
        let chain = Config::parse(raw.to_string().as_bytes()).unwrap().chain_ids();
        let ab = Digest::of(format!("{a} {b}").as_bytes());
        assert_eq!(chain, [a, ab.clone(), Digest::of(format!("{ab} {c}").as_bytes())]);
    }

    #[test]
    fn hostile_configs_are_refused() {
        let refusal = |raw: Value| Config::parse(raw.to_string().as_bytes()).unwrap_err().to_string();
        let rootfs = |diff_ids: Value| json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        assert!(refusal(rootfs(json!(["sha256:../../x"]))).contains("64 lowercase hex"));
        assert!(
            refusal(json!({"architecture": "amd64", "os": "windows", "rootfs": {"type": "layers", "diff_ids": []}}))
                .contains("not for linux")
        );
        assert!(refusal(json!({})).contains("not valid"));
        let manifest = Manifest::compose(b"{}", &[(Digest::of(b"a"), 1, Compression::None)]).unwrap();
        let check = |diff_ids: Value| Config::parse(rootfs(diff_ids).to_string().as_bytes()).unwrap().check_against(&manifest);
        assert!(check(json!([])).unwrap_err().to_string().contains("1 layers, image config has 0 diff ids"));
        assert!(check(json!([Digest::of(b"a"), Digest::of(b"b")])).unwrap_err().to_string().contains("has 2 diff ids"));
        assert_eq!(check(json!([Digest::of(b"b")])).unwrap_err().kind(), Kind::DataLoss);
        assert!(check(json!([Digest::of(b"a")])).is_ok());
    }
}
