//! Which of the files in `/etc/cni/net.d` is a network, and what it means to the plugins that are built in.

use super::bridge::BridgeConf;
use super::list::{List, Plugin};
use crate::fault::{Context, Fault, Result};
use crate::ids::NetworkName;

/// A file of the configuration directory.
#[derive(Clone, Debug)]
pub struct ConfFile {
    /// Its name in the directory.
    pub name: String,
    /// Its content, or why it cannot be read.
    pub content: std::result::Result<Vec<u8>, String>,
}

/// What the plugins of a list amount to.
#[derive(Clone, Debug, PartialEq)]
pub enum Plane {
    /// A bridge on the host.
    Bridge(Box<BridgeConf>),
    /// Only the loopback interface.
    Loopback,
}

/// Reads one file by its extension; `None` for a file that libcni passes over.
pub fn parse_file(file: &ConfFile) -> Option<Result<List>> {
    let content = || file.content.as_deref().map_err(|error| Fault::invalid(error.clone()));
    let parsed = match extension(&file.name) {
        "conflist" => content().and_then(List::parse),
        "conf" | "json" => content().and_then(List::parse_single),
        _ => return None,
    };
    Some(parsed.doing(|| format!("reading {}", file.name)))
}

/// The files in the order in which libcni looks at them: every `.conflist` by name, then `.conf` and `.json` by name.
///
/// *Source:* libcni `LoadNetworkConf`. containerd's go-cni sorts all three together: the same directory may mean another network there.
pub fn in_order(mut files: Vec<ConfFile>) -> Vec<ConfFile> {
    files.retain(|file| matches!(extension(&file.name), "conflist" | "conf" | "json"));
    files.sort_by(|a, b| (extension(&a.name) != "conflist", &a.name).cmp(&(extension(&b.name) != "conflist", &b.name)));
    files
}

/// Finds the first list with a name, or the first of all; a broken file before it is an error that names the file.
pub fn find_list(files: &[ConfFile], wanted: Option<&NetworkName>) -> Result<Option<List>> {
    for file in files {
        let Some(parsed) = parse_file(file) else { continue };
        let list = parsed.hint(|| format!("mend or remove {}: libcni stops at it too", file.name))?;
        if wanted.is_none_or(|name| *name == list.name) {
            return Ok(Some(list));
        }
    }
    Ok(None)
}

/// Reads what the plugins of a list mean.
///
/// *Errors:* `Unimplemented` for a plugin that is not built in, named.
pub fn read_plane(list: &List) -> Result<Plane> {
    if let Some(plugin) = list.plugins.iter().find(|plugin| !matches!(plugin.kind.as_str(), "bridge" | "loopback")) {
        return Err(Plugin::foreign(&plugin.kind));
    }
    let mut bridges = list.plugins.iter().filter(|plugin| plugin.kind == "bridge");
    match (bridges.next(), bridges.next()) {
        (Some(bridge), None) => BridgeConf::read(bridge, list.version).map(|conf| Plane::Bridge(Box::new(conf))),
        (None, None) if !list.plugins.is_empty() => Ok(Plane::Loopback),
        (None, None) => Err(Fault::invalid("no plugin configs found")),
        _ => Err(Fault::invalid("two bridges in one list cannot both make the same interface")),
    }
}

/// What comes after the last dot of a name, as Go's `filepath.Ext` says it.
fn extension(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::BUILT_IN;
    use crate::fault::Kind;

    fn file(name: &str, text: &str) -> ConfFile {
        ConfFile { name: name.into(), content: Ok(text.as_bytes().to_vec()) }
    }

    #[test]
    fn lists_come_before_single_plugins_and_each_in_order_of_name() {
        let files = in_order(vec![
            file("00-a.conf", r#"{"name":"a","type":"bridge"}"#),
            file("50-b.conflist", r#"{"name":"b","plugins":[{"type":"bridge"}]}"#),
            file("10-c.conflist", r#"{"name":"c","plugins":[{"type":"bridge"}]}"#),
            file("01-d.json", r#"{"name":"d","type":"bridge"}"#),
            file("README", "not json"),
            file("10-c.conflist.bak", "not json"),
        ]);
        let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["10-c.conflist", "50-b.conflist", "00-a.conf", "01-d.json"]);
        assert_eq!(find_list(&files, None).unwrap().unwrap().name.as_ref(), "c");
        assert_eq!(find_list(&files, Some(&"d".parse().unwrap())).unwrap().unwrap().name.as_ref(), "d");
        assert!(find_list(&files, Some(&"z".parse().unwrap())).unwrap().is_none());
    }

    #[test]
    fn a_broken_earlier_file_is_an_error_that_names_it() {
        let files = in_order(vec![file("10-x.conflist", "{"), file("20-y.conflist", BUILT_IN)]);
        let fault = find_list(&files, Some(&"connet".parse().unwrap())).unwrap_err();
        assert!(fault.to_string().starts_with("reading 10-x.conflist: "), "{fault}");
        let files = [ConfFile { name: "a.conf".into(), content: Err("not a regular file".into()) }];
        assert!(find_list(&files, None).unwrap_err().to_string().contains("not a regular file"));
    }

    #[test]
    fn both_shipped_files_mean_the_same_network() {
        let list = List::parse(BUILT_IN.as_bytes()).unwrap();
        let single = List::parse_single(include_bytes!("../../cni-conf/10-connet.conf")).unwrap();
        assert_eq!((list.name.as_ref(), list.version.as_str(), single.version.as_str()), ("connet", "1.0.0", "0.4.0"));
        let plane = read_plane(&list).unwrap();
        assert_eq!(plane, read_plane(&single).unwrap());
        let Plane::Bridge(conf) = plane else { panic!("{plane:?}") };
        assert_eq!(conf.bridge.as_ref(), "cni0");
        assert!(conf.is_default_gateway && conf.is_gateway && conf.ip_masq && conf.hairpin && !conf.promisc);
        assert_eq!(conf.ipam.unwrap().sets[0].to_string(), "10.88.0.1-10.88.255.254");
    }

    #[test]
    fn a_plugin_that_is_not_built_in_is_refused_by_name() {
        let list = List::parse(br#"{"name":"n","plugins":[{"type":"bridge"},{"type":"portmap"}]}"#).unwrap();
        let fault = read_plane(&list).unwrap_err();
        assert_eq!(fault.kind(), Kind::Unimplemented);
        assert!(fault.to_string().contains("\"portmap\""));
        assert_eq!(read_plane(&List::parse_single(br#"{"name":"lo","type":"loopback"}"#).unwrap()).unwrap(), Plane::Loopback);
    }
}
