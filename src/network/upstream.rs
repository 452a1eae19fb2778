//! What upstream's plugins leave beside links and leases: masquerade and published ports in iptables.

use sha2::{Digest, Sha512};

use crate::fault::Result;
use crate::ids::{NetworkName, hex};
use crate::sys::iptables::Tables;

/// Removes the masquerade that upstream's `bridge` and `ptp` have made for a container, if there is any.
///
/// *Source:* `ip.SetupIPMasq`: a chain for each network and container in the table nat, and a jump to it for each address.
pub fn remove_masquerade(network: &NetworkName, owner: &str) -> Result<()> {
    remove_chain(network, owner, "CNI-")
}

/// Removes the published ports that upstream's `portmap` (iptables) has made for a container, if there are any; the chains that all
/// containers share stay.
///
/// *Source:* `genDnatChain`: a chain for each network and container in the table nat, and a jump to it for each protocol.
pub fn remove_published(network: &NetworkName, owner: &str) -> Result<()> {
    remove_chain(network, owner, "CNI-DN-")
}

/// Upstream's names of chains have 28 bytes.
fn remove_chain(network: &NetworkName, owner: &str, prefix: &str) -> Result<()> {
    let digest = hex(&Sha512::digest(format!("{network}{owner}").as_bytes()));
    let chain: String = format!("{prefix}{digest}").chars().take(28).collect();
    for tables in [Tables::V4, Tables::V6].into_iter().filter(|tables| tables.is_there()) {
        // A host without this table, or where it may not be read, has nothing of it.
        let Ok(rules) = tables.rules("nat") else { continue };
        let jump = format!("-j {chain}");
        let mut lines: Vec<String> = rules.iter().filter(|rule| rule.ends_with(&jump)).map(|rule| rule.replacen("-A ", "-D ", 1)).collect();
        if rules.contains(&format!("-N {chain}")) {
            lines.extend([format!("-F {chain}"), format!("-X {chain}")]);
        }
        tables.restore("nat", &lines)?;
    }
    Ok(())
}
