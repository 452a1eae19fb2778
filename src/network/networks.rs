//! Which networks there are: `/etc/cni/net.d`, and with nothing there the built-in one.

use std::path::{Path, PathBuf};

use super::addresses::pool_dir;
use crate::cni::BUILT_IN;
use crate::cni::built_in::BuiltIn;
use crate::cni::config::{self, ConfFile, Member};
use crate::cni::inject::{self, Asked};
use crate::cni::ipam::Ipam;
use crate::cni::list::{List, Plugin};
use crate::cni::version::Version;
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::NetworkName;
use crate::sys::{Host, file};

/// A configuration larger than this is none.
const LIMIT: u64 = 1 << 20;
/// Where the built-in network says it comes from.
pub const BUILT_IN_SOURCE: &str = "built in";

/// A network that can be attached to.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its name.
    pub name: NetworkName,
    /// The version of its results.
    pub version: Version,
    /// `net check` does nothing.
    pub disable_check: bool,
    /// `net gc` does nothing.
    pub disable_gc: bool,
    /// Its plugins, in the order of ADD.
    pub members: Vec<Member>,
    /// The text of its list, for the attachment cache.
    pub text: String,
}

/// A configuration as `net ls` shows it.
#[derive(Debug)]
pub struct Entry {
    /// The file, or [`BUILT_IN_SOURCE`].
    pub source: String,
    /// The network, or why it is none.
    pub network: Result<Network>,
}

/// Finds a network by name, or the default one: the first in libcni's order.
///
/// *Errors:* `NotFound`, with those that there are; a broken file before it, named; `Unimplemented` for what is not honoured.
pub fn find_network(host: &Host, wanted: Option<&NetworkName>) -> Result<Network> {
    let files = read_files(host)?;
    let found = config::find_list(&files, wanted)?;
    match (found, wanted) {
        (Some(list), Some(_)) => interpret(host, with_directory(host, list)?),
        (Some(list), None) => {
            let source = list.name.clone();
            interpret(host, with_directory(host, list)?).hint(|| {
                format!(
                    "{source} is the default network, being the first of {}; name another one, such as the built-in connet",
                    host.cni_conf.display()
                )
            })
        }
        (None, None) => interpret(host, List::parse(BUILT_IN.as_bytes())?),
        (None, Some(name)) => {
            // No file has the name: the built-in network is there for who asks for it by its own.
            let built_in = interpret(host, List::parse(BUILT_IN.as_bytes())?)?;
            if built_in.name == *name {
                return Ok(built_in);
            }
            let mut names: Vec<String> = files.iter().filter_map(|file| Some(config::parse_file(file)?.ok()?.name.to_string())).collect();
            names.push(format!("{} (built in)", built_in.name));
            Err(unknown(host, name, &names))
        }
    }
}

fn unknown(host: &Host, name: &NetworkName, known: &[String]) -> Fault {
    Fault::not_found(format!("no network {name} in {}", host.cni_conf.display())).hint(format!("there is: {}", known.join(", ")))
}

/// Every configuration, in libcni's order; the built-in one when there is none.
pub fn all(host: &Host) -> Result<Vec<Entry>> {
    let files = read_files(host)?;
    if files.is_empty() {
        return Ok(vec![Entry {
            source: BUILT_IN_SOURCE.to_owned(),
            network: List::parse(BUILT_IN.as_bytes()).and_then(|list| interpret(host, list)),
        }]);
    }
    let read = |file: &ConfFile| {
        let list = config::parse_file(file)?;
        Some(Entry { source: file.name.clone(), network: list.and_then(|list| interpret(host, with_directory(host, list)?)) })
    };
    Ok(files.iter().filter_map(read).collect())
}

/// Reads how the plugins of a list are carried out on this host.
pub fn interpret(host: &Host, list: List) -> Result<Network> {
    let read = config::read_members(&list, host.plugins.policy);
    let members = read.doing(|| format!("network {}", list.name)).map_err(|fault| match fault.kind() {
        Kind::InvalidArgument if fault.hints().is_empty() => fault.hint("mend its configuration; rkbox net ls tells the file"),
        _ => fault,
    })?;
    Ok(Network {
        name: list.name,
        version: list.version,
        disable_check: list.disable_check,
        disable_gc: list.disable_gc,
        members,
        text: list.text,
    })
}

impl Network {
    /// Where its leases are.
    pub fn pools(&self, host: &Host) -> Vec<PathBuf> {
        let pool = |built_in: &BuiltIn| match built_in.ipam() {
            Ipam::HostLocal(conf) => Some(pool_dir(host, &self.name, conf)),
            _ => None,
        };
        self.built_in().filter_map(pool).collect()
    }

    /// What a built-in plugin is told, with what is asked beside the configuration.
    pub fn told(&self, member: &Member, asked: &Asked) -> Result<BuiltIn> {
        let conf = inject::inject(&self.name, self.version, &member.plugin, None, asked)?;
        BuiltIn::read(&conf, self.version, &asked.args)
    }

    /// The plugins that are built in, as the configuration tells them.
    pub fn built_in(&self) -> impl Iterator<Item = &BuiltIn> {
        self.members.iter().filter_map(|member| member.built_in.as_ref())
    }
}

/// Adds the plugins of `<directory>/<network>/*.conf`, as a list that does not forbid it asks for.
fn with_directory(host: &Host, mut list: List) -> Result<List> {
    if list.only_inlined {
        return Ok(list);
    }
    let dir = host.cni_conf.join(list.name.as_ref());
    for name in file::list(&dir)?.iter().filter(|name| name.ends_with(".conf")) {
        let content = file::read_following(&dir.join(name), LIMIT).doing(|| format!("reading {}/{name}", list.name))?;
        list.plugins.push(Plugin::parse(&content).doing(|| format!("reading {}/{name}", list.name))?);
    }
    Ok(list)
}

/// The files that may hold a network, in libcni's order.
pub fn read_files(host: &Host) -> Result<Vec<ConfFile>> {
    let mut files = Vec::new();
    for name in file::list(&host.cni_conf).doing(|| format!("reading {}", host.cni_conf.display()))? {
        let path = host.cni_conf.join(&name);
        if !file::is_dir(&path)? {
            files.push(ConfFile { content: Ok(Vec::new()), name });
        }
    }
    let mut files = config::in_order(files);
    for file in &mut files {
        file.content = read_one(&host.cni_conf.join(&file.name));
    }
    Ok(files)
}

fn read_one(path: &Path) -> std::result::Result<Vec<u8>, String> {
    file::read_following(path, LIMIT).map_err(|error| error.to_string())
}
