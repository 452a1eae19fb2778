//! A network configuration list, as libcni reads it from a file; a single plugin becomes a list of one.

use serde_json::{Map, Value, json};

use super::keys::Keys;
use super::version::{self, Version};
use crate::fault::{Fault, Kind, Result};
use crate::ids::NetworkName;

/// A configuration of one network: what libcni loads before any plugin is asked.
#[derive(Clone, Debug)]
pub struct List {
    /// The network.
    pub name: NetworkName,
    /// The version that its results are written in.
    pub version: Version,
    /// CHECK does nothing.
    pub disable_check: bool,
    /// GC does nothing.
    pub disable_gc: bool,
    /// Plugins in `<directory>/<network>/*.conf` are not added.
    pub only_inlined: bool,
    /// The plugins, in the order of ADD.
    pub plugins: Vec<Plugin>,
    /// The document itself; libcni's cache keeps it.
    pub text: String,
}

/// One plugin of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Plugin {
    /// `type`: the name of the program.
    pub kind: String,
    /// The whole object.
    pub raw: Map<String, Value>,
}

impl List {
    /// Reads a `.conflist`.
    ///
    /// *Errors:* `InvalidArgument`, with the key named. *Source:* libcni `NetworkConfFromBytes`; `plugins` may be absent unless
    /// `loadOnlyInlinedPlugins` is set, may not be empty.
    pub fn parse(text: &[u8]) -> Result<List> {
        let map = parse_object(text)?;
        let keys = Keys::new(&map, "the configuration list");
        let name = parse_name(&keys)?;
        let version = version::pick(keys.text("cniVersion")?, &keys.texts("cniVersions")?)?;
        let only_inlined = keys.lenient_flag("loadOnlyInlinedPlugins")?;
        let inlined = keys.array("plugins")?;
        match keys.find("plugins") {
            None if only_inlined => return Err(Fault::invalid("loadOnlyInlinedPlugins is true and there is no \"plugins\"")),
            Some(_) if inlined.is_empty() => return Err(Fault::invalid("no plugins in list")),
            _ => {}
        }
        let mut plugins = Vec::new();
        for (nth, value) in inlined.iter().enumerate() {
            let raw = value.as_object().ok_or_else(|| Fault::invalid(format!("plugin {nth} is not an object")))?;
            plugins.push(Plugin::read(raw.clone()).map_err(|fault| fault.doing(format!("reading plugin {nth}")))?);
        }
        let (disable_check, disable_gc) = (keys.lenient_flag("disableCheck")?, keys.lenient_flag("disableGC")?);
        Ok(List { name, version, disable_check, disable_gc, only_inlined, plugins, text: String::from_utf8_lossy(text).into_owned() })
    }

    /// Reads a `.conf` or `.json`: one plugin, which becomes a list of one.
    ///
    /// *Source:* libcni `ConfListFromConf`.
    pub fn parse_single(text: &[u8]) -> Result<List> {
        let plugin = Plugin::parse(text)?;
        let keys = Keys::new(&plugin.raw, "the configuration");
        let name = parse_name(&keys)?;
        let version = version::pick(keys.text("cniVersion")?, &[])?;
        let list = json!({ "cniVersion": keys.text("cniVersion")?, "name": name.as_ref(), "plugins": [plugin.raw] });
        let plugins = vec![plugin];
        Ok(List { name, version, disable_check: false, disable_gc: false, only_inlined: true, plugins, text: list.to_string() })
    }
}

impl Plugin {
    /// Reads a document of one plugin.
    pub fn parse(text: &[u8]) -> Result<Plugin> {
        Plugin::read(parse_object(text)?)
    }

    fn read(raw: Map<String, Value>) -> Result<Plugin> {
        let kind = Keys::new(&raw, "the plugin").text("type")?.to_owned();
        if kind.is_empty() {
            return Err(Fault::invalid("missing \"type\""));
        }
        if kind.contains('/') || kind.contains('\0') || matches!(kind.as_str(), "." | "..") {
            return Err(Fault::invalid(format!("plugin type {kind:?} is not the name of a program")));
        }
        Ok(Plugin { kind, raw })
    }

    /// The keys of the plugin.
    pub fn keys(&self) -> Keys<'_> {
        Keys::new(&self.raw, &self.kind)
    }

    /// The fault that names a plugin which is not run in-process.
    pub fn foreign(kind: &str) -> Fault {
        Fault::new(Kind::Unimplemented, format!("plugin {kind:?} is not built in"))
            .hint("--cni-builtin prefer lets rkbox start it from a directory of --cni-path")
    }
}

fn parse_object(text: &[u8]) -> Result<Map<String, Value>> {
    serde_json::from_slice(text).map_err(|error| Fault::from_error(Kind::InvalidArgument, error))
}

fn parse_name(keys: &Keys<'_>) -> Result<NetworkName> {
    match keys.find("name") {
        None => Err(Fault::invalid("no name")),
        Some(_) => keys.text("name")?.parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_plugin_becomes_a_list_that_reads_back_the_same() {
        let single = List::parse_single(br#"{"name":"n","cniVersion":"0.4.0","type":"bridge","mtu":9}"#).unwrap();
        let again = List::parse(single.text.as_bytes()).unwrap();
        assert_eq!((single.name, single.version), (again.name, again.version));
        assert_eq!(single.plugins, again.plugins);
    }

    #[test]
    fn flags_of_a_list_may_be_strings() {
        let text = br#"{"name":"n","disableCheck":"True","disableGC":"false","loadOnlyInlinedPlugins":true,"plugins":[{"type":"bridge"}]}"#;
        let list = List::parse(text).unwrap();
        assert!(list.disable_check && !list.disable_gc && list.only_inlined);
        assert_eq!(list.version, Version::V0_1_0);
    }

    #[test]
    fn hostile_documents_are_refused_and_named() {
        let deep = format!("{{\"name\":\"n\",\"plugins\":{}", "[".repeat(100_000));
        let nested = format!("{{\"name\":\"n\",\"plugins\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
        let cases: [(&str, &str); 18] = [
            ("", "EOF"),
            ("[]", "expected a map"),
            ("null", "expected a map"),
            ("{", "EOF"),
            ("{} x", "trailing"),
            (&deep, "recursion limit"),
            (&nested, "recursion limit"),
            ("{}", "no name"),
            (r#"{"name":7}"#, "\"name\" of the configuration list must be a string, not a number"),
            (r#"{"name":"a/b","plugins":[{"type":"x"}]}"#, "network name \"a/b\" is not valid"),
            (r#"{"name":"..","plugins":[{"type":"x"}]}"#, "is not valid"),
            (r#"{"name":"n","plugins":{}}"#, "must be an array, not an object"),
            (r#"{"name":"n","plugins":[]}"#, "no plugins in list"),
            (r#"{"name":"n","plugins":[7]}"#, "plugin 0 is not an object"),
            (r#"{"name":"n","plugins":[{}]}"#, "reading plugin 0: missing \"type\""),
            (r#"{"name":"n","plugins":[{"type":"../sh"}]}"#, "\"../sh\" is not the name of a program"),
            (r#"{"name":"n","cniVersion":"9.9.9","plugins":[{"type":"x"}]}"#, "cniVersion \"9.9.9\" is not supported"),
            (r#"{"name":"n","loadOnlyInlinedPlugins":true}"#, "there is no \"plugins\""),
        ];
        for (text, expected) in cases {
            let error = List::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(expected), "{}: {error}", &text[..text.len().min(60)]);
        }
        assert!(List::parse(b"\xff\xfe").is_err());
    }
}
