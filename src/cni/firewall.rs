//! The configuration of the `firewall` plugin.

use super::list::Plugin;
use super::version::Version;
use crate::fault::{Fault, Kind, Result};

/// Who may send to a sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IngressPolicy {
    /// Everybody.
    #[default]
    Open,
    /// Only sandboxes on the same bridge.
    SameBridge,
    /// Nobody on another or the same bridge.
    Isolated,
}

/// What the `firewall` plugin is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallConf {
    /// The chain in which an administrator puts rules of their own.
    pub admin_chain: String,
    /// Who may send to the sandbox.
    pub ingress: IngressPolicy,
}

impl FirewallConf {
    /// Reads a plugin of type `firewall`.
    ///
    /// *Errors:* `Unimplemented` for firewalld, by name. *Source:* reference `firewall` `parseConf`.
    pub fn read(plugin: &Plugin, version: Version) -> Result<FirewallConf> {
        let keys = plugin.keys();
        if version < Version::V0_4_0 {
            return Err(Fault::invalid(format!("firewall needs cniVersion 0.4.0 or later, not {version}")));
        }
        match keys.text("backend")? {
            "" | "iptables" => {}
            "firewalld" => {
                let fault = Fault::new(Kind::Unimplemented, "\"backend\": \"firewalld\" of firewall is not supported");
                return Err(fault.hint("use \"iptables\", or leave it out"));
            }
            other => return Err(Fault::invalid(format!("unrecognized firewall backend {other:?}"))),
        }
        let ingress = match keys.text("ingressPolicy")? {
            "" | "open" => IngressPolicy::Open,
            "same-bridge" => IngressPolicy::SameBridge,
            "isolated" => IngressPolicy::Isolated,
            other => return Err(Fault::invalid(format!("unsupported ingress policy: {other:?}"))),
        };
        let chain = keys.text("iptablesAdminChainName")?;
        let admin_chain = if chain.is_empty() { "CNI-ADMIN" } else { chain }.to_owned();
        let plain = admin_chain.len() <= 28 && admin_chain.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        if !plain || admin_chain.starts_with('-') {
            return Err(Fault::invalid(format!("{admin_chain:?} is not the name of an iptables chain")));
        }
        Ok(FirewallConf { admin_chain, ingress })
    }
}
