//! What a runtime adds to the configuration of one plugin before it hands it over.

use serde_json::{Map, Value};

use super::keys::Keys;
use super::list::Plugin;
use super::version::Version;
use crate::fault::Result;
use crate::ids::NetworkName;

/// What a runtime knows about an attachment that the configuration does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Asked {
    /// `CNI_ARGS`.
    pub args: super::args::CniArgs,
    /// Capability arguments by capability: `portMappings`, `ips`, `mac`, `bandwidth`, `dns`, `ipRanges`, `aliases`.
    pub capabilities: Map<String, Value>,
}

/// The configuration of one plugin as it gets it on standard input.
///
/// *Source:* libcni `buildOneConfig` and `injectRuntimeConfig`: name and version of the list, the result of the plugin before, and
/// of the capability arguments those that the plugin's `capabilities` name as true.
pub fn inject(name: &NetworkName, version: Version, plugin: &Plugin, previous: Option<&Value>, asked: &Asked) -> Result<Plugin> {
    let mut raw = plugin.raw.clone();
    raw.insert("name".into(), name.as_ref().into());
    raw.insert("cniVersion".into(), version.as_str().into());
    if let Some(previous) = previous {
        raw.insert("prevResult".into(), previous.clone());
    }
    let told = told(plugin, asked)?;
    if !told.is_empty() {
        raw.insert("runtimeConfig".into(), Value::Object(told));
    }
    Ok(Plugin { kind: plugin.kind.clone(), raw })
}

fn told(plugin: &Plugin, asked: &Asked) -> Result<Map<String, Value>> {
    let mut told = Map::new();
    let Some(declared) = plugin.keys().object("capabilities")? else { return Ok(told) };
    for (key, value) in &asked.capabilities {
        if declared.flag(key)? {
            told.insert(key.clone(), value.clone());
        }
    }
    Ok(told)
}

/// The capabilities that no plugin of a list declares: what they ask for would be lost without a word.
pub fn undeclared<'a>(plugins: impl IntoIterator<Item = &'a Plugin>, asked: &Asked) -> Result<Vec<String>> {
    let mut left: Vec<String> = asked.capabilities.keys().cloned().collect();
    for plugin in plugins {
        let Some(declared) = plugin.keys().object("capabilities")? else { continue };
        let flags = left.iter().map(|key| declared.flag(key)).collect::<Result<Vec<bool>>>()?;
        let mut flags = flags.into_iter();
        left.retain(|_| !flags.next().unwrap_or(false));
    }
    Ok(left)
}

/// The `runtimeConfig` of a configuration.
pub fn runtime_config<'a>(plugin: &Keys<'a>) -> Result<Option<Keys<'a>>> {
    plugin.object("runtimeConfig")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_declared_capabilities_are_handed_over() {
        let plugin = Plugin::parse(br#"{"type":"bridge","capabilities":{"mac":true,"ips":false}}"#).unwrap();
        let capabilities = json!({"mac": "02:00:00:00:00:01", "ips": ["10.0.0.1"], "dns": {}}).as_object().unwrap().clone();
        let asked = Asked { capabilities, ..Asked::default() };
        let whole = inject(&"n".parse().unwrap(), Version::V1_0_0, &plugin, Some(&json!({"ips": []})), &asked).unwrap();
        assert_eq!(
            Value::Object(whole.raw),
            json!({
                "type": "bridge", "name": "n", "cniVersion": "1.0.0", "prevResult": {"ips": []},
                "capabilities": {"mac": true, "ips": false}, "runtimeConfig": {"mac": "02:00:00:00:00:01"},
            })
        );
        assert_eq!(undeclared([&plugin], &asked).unwrap(), ["dns", "ips"]);
    }
}
