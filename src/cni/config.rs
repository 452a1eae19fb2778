//! Which of the files in `/etc/cni/net.d` is a network, and what it means to the plugins that are built in.

use super::args::CniArgs;
use super::built_in::{BuiltIn, Policy};
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

/// A plugin of a list, and how rkbox carries it out.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The plugin as the list has it.
    pub plugin: Plugin,
    /// What it is told when it is built in; `None` for another program.
    pub built_in: Option<BuiltIn>,
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

/// Reads how the plugins of a list are carried out.
///
/// *Errors:* `Unimplemented` for a plugin that is not built in where nothing else is allowed, and for a key that is not honoured;
/// each is named.
pub fn read_members(list: &List, policy: Policy) -> Result<Vec<Member>> {
    if list.plugins.is_empty() {
        return Err(Fault::invalid("no plugin configs found"));
    }
    let mut makes_interface = None;
    let mut members = Vec::new();
    for plugin in &list.plugins {
        let known = BuiltIn::is_known(&plugin.kind) && policy != Policy::Never;
        if !known && policy == Policy::Always {
            return Err(Plugin::foreign(&plugin.kind));
        }
        let built_in = known.then(|| BuiltIn::read(plugin, list.version, &CniArgs::default())).transpose()?;
        if built_in.as_ref().is_some_and(|built_in| !built_in.is_chained() && *built_in != BuiltIn::Loopback)
            && let Some(first) = makes_interface.replace(plugin.kind.clone())
        {
            return Err(Fault::invalid(format!("{first} and {} in one list cannot both make the same interface", plugin.kind)));
        }
        members.push(Member { plugin: plugin.clone(), built_in });
    }
    Ok(members)
}

/// The file that containerd takes from the same directory, when that is another one than libcni's first.
///
/// *Source:* go-cni `loadFromConfDir`: `.conf`, `.conflist` and `.json` sorted together, the first one wins.
pub fn containerd_choice(files: &[ConfFile]) -> Option<&ConfFile> {
    let first = files.first()?;
    files.iter().min_by(|a, b| a.name.cmp(&b.name)).filter(|other| other.name != first.name)
}

/// What comes after the last dot of a name, as Go's `filepath.Ext` says it.
fn extension(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::BUILT_IN;
    use crate::cni::ipam::Ipam;
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
        let told = |list: &List| read_members(list, Policy::Always).unwrap().swap_remove(0).built_in.unwrap();
        let built_in = told(&list);
        assert_eq!(built_in, told(&single));
        let BuiltIn::Bridge(conf) = built_in else { panic!("{built_in:?}") };
        assert_eq!(conf.bridge.as_ref(), "cni0");
        assert!(conf.is_default_gateway && conf.is_gateway && conf.ip_masq && conf.hairpin && !conf.promisc);
        let Ipam::HostLocal(ipam) = conf.ipam else { panic!("{:?}", conf.ipam) };
        assert_eq!(ipam.sets[0].to_string(), "10.88.0.1-10.88.255.254");
    }

    #[test]
    fn plugins_are_built_in_or_other_programs() {
        let list = List::parse(br#"{"name":"n","plugins":[{"type":"bridge"},{"type":"calico"}]}"#).unwrap();
        let fault = read_members(&list, Policy::Always).unwrap_err();
        assert_eq!(fault.kind(), Kind::Unimplemented);
        assert!(fault.to_string().contains("\"calico\""));
        let built_in = |policy| read_members(&list, policy).unwrap().iter().map(|member| member.built_in.is_some()).collect::<Vec<_>>();
        assert_eq!((built_in(Policy::Prefer), built_in(Policy::Never)), (vec![true, false], vec![false, false]));
        let two = List::parse(br#"{"name":"n","plugins":[{"type":"bridge"},{"type":"macvlan"}]}"#).unwrap();
        assert!(read_members(&two, Policy::Prefer).unwrap_err().to_string().contains("bridge and macvlan"));
    }

    #[test]
    fn containerd_sorts_all_files_together() {
        let files = in_order(vec![file("00-a.conf", "{}"), file("10-b.conflist", "{}")]);
        assert_eq!((files[0].name.as_str(), containerd_choice(&files).unwrap().name.as_str()), ("10-b.conflist", "00-a.conf"));
        assert!(containerd_choice(&in_order(vec![file("a.conflist", ""), file("b.conf", "")])).is_none());
    }
}
