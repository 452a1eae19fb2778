//! `rkbox port`: which ports of the host lead to a container or sandbox.

use clap::Args;

use super::records::{self, BoxKind};
use super::{Context, Format, output};
use crate::cni::ports;
use crate::fault::{Fault, Kind, Result};
use crate::ports::Forward;
use crate::record::Attachment;
use crate::sys::Host;

/// Arguments of `rkbox port`.
#[derive(Debug, Args)]
pub struct PortArgs {
    /// Name or id of a container or sandbox
    #[arg(value_name = "CONTAINER|SANDBOX")]
    key: String,
    /// Only where this port of it is published
    #[arg(value_name = "PORT[/PROTO]")]
    port: Option<String>,
}

/// Prints a line for each published port; a container in a sandbox has its sandbox's.
///
/// *Shape:* `80/tcp -> 0.0.0.0:8080`. *Errors:* `NotFound` when the port that is asked for is not published.
pub fn run(cx: &Context, args: &PortArgs) -> Result<u8> {
    let attachments = attachments(&cx.host, &args.key)?;
    let mut forwards: Vec<Forward> = attachments.into_iter().flat_map(|attachment| attachment.ports).collect();
    if let Some(text) = &args.port {
        let wanted = ports::parse_exposed(text)?;
        forwards.retain(|forward| wanted.container.contains(&forward.target_port) && forward.protocol == wanted.protocol);
        if forwards.is_empty() {
            return Err(Fault::not_found(format!("port {text} of {} is not published", args.key)).hint(format!("rkbox port {}", args.key)));
        }
    }
    forwards.sort_by_key(|forward| (forward.target_port, forward.protocol, *forward));
    match cx.format {
        Format::Json => output::json(&forwards)?,
        Format::Table => {
            for forward in &forwards {
                let at = std::net::SocketAddr::new(forward.host_address(), forward.host_port);
                match args.port {
                    Some(_) => output::line(&at.to_string()),
                    None => output::line(&format!("{}/{} -> {at}", forward.target_port, forward.protocol)),
                }
            }
        }
    }
    Ok(0)
}

fn attachments(host: &Host, key: &str) -> Result<Vec<Attachment>> {
    match records::find(host, BoxKind::Container, key) {
        Ok(id) => {
            let record = records::container(host, &id)?;
            match record.sandbox_id {
                Some(sandbox) => Ok(records::sandbox(host, &sandbox)?.attachments),
                None => Ok(record.attachments),
            }
        }
        Err(fault) if fault.kind() == Kind::NotFound => match records::find(host, BoxKind::Sandbox, key) {
            Ok(id) => Ok(records::sandbox(host, &id)?.attachments),
            Err(fault) if fault.kind() == Kind::NotFound => {
                Err(Fault::not_found(format!("no container or sandbox is named {key}")).hint("rkbox ps and rkbox sandbox ls show them"))
            }
            Err(fault) => Err(fault),
        },
        Err(fault) => Err(fault),
    }
}
