//! libcni's cache of attachments, shared with `cnitool` and every other user of libcni.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::args::CniArgs;
use super::base64;
use super::inject::Asked;
use super::portmap::CAPABILITY;
use crate::fault::{Fault, Kind, Result};
use crate::ids::{IfName, NetworkName};

/// What `kind` says.
const KIND: &str = "cniCacheV1";

/// One attachment.
///
/// *Shape:* `{"kind":"cniCacheV1","containerId":…,"config":base64,"ifName":…,"networkName":…,"netns":…,"result":{…}}`.
/// *Source:* libcni `cachedInfo`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    kind: String,
    /// The CNI container id.
    pub container_id: String,
    config: String,
    /// The interface in the sandbox.
    pub if_name: String,
    /// The network.
    pub network_name: String,
    /// The namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub netns: String,
    /// CNI_ARGS as pairs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni_args: Option<Vec<[String; 2]>>,
    /// Capability arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capability_args: Option<Value>,
    /// The result of the ADD.
    #[serde(default)]
    pub result: Value,
}

impl Attachment {
    /// Describes an attachment; `config` is the text of the network's list.
    pub fn new(network: &NetworkName, owner: &str, ifname: &IfName, config: &str) -> Attachment {
        Attachment {
            kind: KIND.to_owned(),
            container_id: owner.to_owned(),
            config: base64::encode(config.as_bytes()),
            if_name: ifname.to_string(),
            network_name: network.to_string(),
            netns: String::new(),
            cni_args: None,
            capability_args: None,
            result: Value::Null,
        }
    }

    /// What the runtime asked beside the configuration.
    pub fn asked(&self) -> Asked {
        let capabilities = self.capability_args.as_ref().and_then(Value::as_object).cloned().unwrap_or_default();
        Asked { args: self.cni_args.as_deref().map(CniArgs::from_pairs).unwrap_or_default(), capabilities }
    }

    /// Notes what the runtime asked beside the configuration.
    pub fn note_asked(&mut self, asked: &Asked) {
        self.cni_args = asked.args.to_pairs();
        self.capability_args = (!asked.capabilities.is_empty()).then(|| Value::Object(asked.capabilities.clone()));
    }

    /// Notes port mappings that no plugin was handed.
    pub fn note_published(&mut self, mappings: Option<&Value>) {
        if let Some(mappings) = mappings {
            let mut told = self.asked().capabilities;
            told.insert(CAPABILITY.to_owned(), mappings.clone());
            self.capability_args = Some(Value::Object(told));
        }
    }

    /// The name of its file in `results/`.
    pub fn file_name(network: &NetworkName, owner: &str, ifname: &IfName) -> String {
        format!("{network}-{owner}-{ifname}")
    }

    /// Reads a cache file.
    ///
    /// *Errors:* `DataLoss` when it is not one.
    pub fn parse(text: &[u8]) -> Result<Attachment> {
        let attachment: Attachment = serde_json::from_slice(text).map_err(|error| Fault::from_error(Kind::DataLoss, error))?;
        if attachment.kind != KIND {
            return Err(Fault::new(Kind::DataLoss, format!("kind {:?} is not {KIND:?}", attachment.kind)));
        }
        Ok(attachment)
    }

    /// The text of its file.
    pub fn to_text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Fault::from_error(Kind::Internal, error))
    }

    /// The text of the network's list as it was at ADD.
    pub fn config(&self) -> Result<Vec<u8>> {
        base64::decode(&self.config).ok_or_else(|| Fault::new(Kind::DataLoss, "the cached configuration is not base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_those_of_libcni_in_its_order() {
        let mut attachment = Attachment::new(&"n".parse().unwrap(), "id", &"eth0".parse().unwrap(), "{}");
        attachment.netns = "/run/netns/a".into();
        attachment.result = serde_json::json!({"cniVersion": "1.0.0"});
        let text = attachment.to_text().unwrap();
        let expected = concat!(
            r#"{"kind":"cniCacheV1","containerId":"id","config":"e30=","ifName":"eth0","networkName":"n","#,
            r#""netns":"/run/netns/a","result":{"cniVersion":"1.0.0"}}"#
        );
        assert_eq!(text, expected);
        let back = Attachment::parse(text.as_bytes()).unwrap();
        assert_eq!((back.config().unwrap(), back), (b"{}".to_vec(), attachment));
    }

    #[test]
    fn what_is_no_cache_file_is_data_loss() {
        let other = br#"{"kind":"x","containerId":"","config":"","ifName":"","networkName":""}"#;
        for text in [&b""[..], b"{}", b"null", other, b"\xff"] {
            assert_eq!(Attachment::parse(text).unwrap_err().kind(), Kind::DataLoss, "{text:?}");
        }
    }
}
