//! `-p`: ports of a container on addresses of the host.

use std::net::IpAddr;

use clap::Args;
use serde_json::Value;

use super::Context;
use super::records::{self, BoxKind};
use crate::cni::inject::{self, Asked};
use crate::cni::portmap::{CAPABILITY, owner_of, read_mappings, write_mappings};
use crate::cni::ports::{self, PortAsk};
use crate::fault::{Fault, Result};
use crate::ids::Id;
use crate::network::attach::Attached;
use crate::network::networks::Network;
use crate::network::publish::{self, Request};
use crate::ports::Forward;
use crate::step::Step;
use crate::sys::{Host, rootless};

/// The published ports of a sandbox or container.
#[derive(Clone, Debug, Default, Args)]
pub struct PortArgs {
    /// Publish a port (or FIRST-LAST); without HOST any free one
    #[arg(short, long = "publish", value_name = "[[IP:]HOST:]PORT[/PROTO]", value_parser = ports::parse)]
    pub publish: Vec<PortAsk>,
    /// Publish although a process holds the port
    #[arg(long = "force-publish", alias = "force", requires = "publish")]
    pub force_publish: bool,
}

impl PortArgs {
    /// Refuses ports where there is no network of the box's own to publish them from; `all` is `-P`.
    pub fn refuse_without_network(&self, all: bool, network: Option<&str>) -> Result<()> {
        match (all || !self.publish.is_empty(), network) {
            (true, Some(word @ ("none" | "host"))) => {
                let fault = Fault::invalid(format!("ports cannot be published with --net {word}"));
                Err(fault.hint(match word {
                    "host" => "its processes are on the host's network, where their ports are reachable already",
                    _ => "give it a network: leave --net out, or name one",
                }))
            }
            _ => Ok(()),
        }
    }
}

/// The ports that an image exposes, as `-P` asks for them.
pub fn exposed(ports: &[String]) -> Result<Vec<PortAsk>> {
    ports.iter().map(|text| ports::parse_exposed(text)).collect()
}

/// The ports of one attachment, before it is planned.
#[derive(Debug, Default)]
pub struct Wanted {
    /// What its plugins are asked, the ports included where one of them declares the capability.
    pub asked: Asked,
    /// The ports that were handed to that plugin; `None` where rkbox publishes itself.
    handed: Option<Vec<Forward>>,
    /// What rkbox publishes itself.
    asks: Vec<PortAsk>,
    force: bool,
}

/// Hands ports to the plugin of the network that declares `portMappings`; without one rkbox publishes them itself.
pub fn hand_over(network: &Network, asked: &Asked, (asks, force): (&[PortAsk], bool)) -> Result<Wanted> {
    let mut wanted = Wanted { asked: asked.clone(), asks: asks.to_vec(), force, ..Wanted::default() };
    // What a plugin writes for an ordinary user lies in a namespace of his own, and leads nowhere from this host.
    if asks.is_empty() || rootless::is_rootless() {
        return Ok(wanted);
    }
    let mut only = Asked::default();
    only.capabilities.insert(CAPABILITY.to_owned(), Value::Null);
    if inject::undeclared(network.members.iter().map(|member| &member.plugin), &only)?.is_empty() {
        let forwards = publish::resolve(asks, false)?;
        wanted.asked.capabilities.insert(CAPABILITY.to_owned(), write_mappings(&forwards, force));
        wanted.handed = Some(forwards);
        wanted.asks.clear();
    }
    Ok(wanted)
}

impl Wanted {
    /// The mappings of what rkbox publishes itself, each with its port of the host.
    pub fn settle(&mut self) -> Result<Option<Value>> {
        if self.asks.is_empty() {
            return Ok(None);
        }
        let mappings = write_mappings(&publish::resolve(&self.asks, rootless::is_rootless())?, self.force);
        self.asks = read_mappings(&mappings)?;
        Ok(Some(mappings))
    }
}

/// Chooses the ports of an attachment and adds what they and its network take to its steps.
pub fn secure(cx: &Context, network: &Network, attached: &mut Attached, owner: &str, wanted: &Wanted) -> Result<Vec<Forward>> {
    if let Some(handed) = &wanted.handed {
        publish::secure(attached, network, owner, &[])?;
        let made = attached.steps.iter().find_map(|step| if let Step::Publish(step) = step { Some(&step.forwards) } else { None });
        return Ok(made.unwrap_or(handed).clone());
    }
    let relay = cx.host.rootless_netns.as_deref();
    let addresses: Vec<IpAddr> = attached.addresses.iter().map(ipnetwork::IpNetwork::ip).collect();
    let name_of = |owner: &str| name_of(&cx.host, owner);
    let relayed = relay.is_some();
    let request = Request { asks: &wanted.asks, addresses: &addresses, force: wanted.force, holder: None, relayed, name_of: &name_of };
    let forwards = publish::choose(request)?;
    publish::secure(attached, network, owner, &forwards)?;
    publish::relay(&mut attached.steps, relay);
    Ok(forwards)
}

/// What people call the owner of a port: the name of its box, else what its mark says.
fn name_of(host: &Host, owner: &str) -> String {
    let owner = owner_of(owner);
    let Ok(id) = owner.parse::<Id>() else { return owner.to_owned() };
    for (kind, word) in [(BoxKind::Sandbox, "sandbox"), (BoxKind::Container, "container")] {
        let name = match kind {
            BoxKind::Sandbox => records::sandbox(host, &id).map(|record| record.name),
            BoxKind::Container => records::container(host, &id).map(|record| record.name),
        };
        if let Ok(name) = name {
            return format!("{word} {name}");
        }
    }
    id.short().to_owned()
}

/// What would publish the ports of an attachment once more.
pub fn asks(forwards: &[Forward]) -> Result<Vec<PortAsk>> {
    words(forwards, ":").iter().map(|word| ports::parse(word)).collect()
}

/// The ports of a record's attachments as `ls` shows them; both families in one where they are the same.
///
/// *Shape:* `8080->80/tcp, 127.0.0.1:53->53/udp`.
pub fn shown(forwards: &[Forward]) -> String {
    words(forwards, "->").join(", ")
}

fn words(forwards: &[Forward], leads_to: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for forward in forwards {
        let to = format!("{}{leads_to}{}/{}", forward.host_port, forward.target_port, forward.protocol);
        let word = match forward.host_ip {
            Some(address) if address.is_ipv6() => format!("[{address}]:{to}"),
            Some(address) => format!("{address}:{to}"),
            None => to,
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words
}
