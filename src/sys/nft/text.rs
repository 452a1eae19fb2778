//! The same changes as text for `nft -f -`.

use std::fmt::Write as _;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::{POSTROUTING, TABLE, chain_of, map_of, mark_of, multicast_of};
use crate::ids::NetworkName;

/// The table, its maps and its base chain; the rules are written again, whatever was there.
pub fn table_text() -> String {
    format!(
        "table inet {TABLE} {{\n\
         \tmap masq {{ type ipv4_addr : verdict; }}\n\
         \tmap masq6 {{ type ipv6_addr : verdict; }}\n\
         \tchain {POSTROUTING} {{ type nat hook postrouting priority srcnat; policy accept; }}\n\
         }}\n\
         flush chain inet {TABLE} {POSTROUTING}\n\
         table inet {TABLE} {{\n\
         \tchain {POSTROUTING} {{\n\t\tip saddr vmap @masq\n\t\tip6 saddr vmap @masq6\n\t}}\n\
         }}\n"
    )
}

/// The chain of a network; its rules are written again, whatever was there.
pub fn network_text(network: &NetworkName, subnets: &[IpNetwork]) -> String {
    let chain = chain_of(network);
    let mut text = format!("add chain inet {TABLE} {chain}\nflush chain inet {TABLE} {chain}\ntable inet {TABLE} {{\n\tchain {chain} {{\n");
    for subnet in subnets.iter().copied().chain(multicast_of(subnets)) {
        let word = if subnet.is_ipv4() { "ip" } else { "ip6" };
        let _ = writeln!(text, "\t\t{word} daddr {}/{} return", subnet.network(), subnet.prefix());
    }
    let _ = write!(text, "\t\tmasquerade comment \"{}\"\n\t}}\n}}\n", mark_of(subnets));
    text
}

/// The element of a pod, for `add element` (with `network`) or `delete element`.
pub fn element_text(address: IpAddr, network: Option<&NetworkName>, owner: &str) -> String {
    let map = map_of(address);
    let Some(network) = network else { return format!("delete element inet {TABLE} {map} {{ {address} }}\n") };
    // A quote cannot be written inside a comment of nft; owners are ids and names, which have none.
    let owner: String = owner.chars().filter(|c| !c.is_control() && *c != '"').take(127).collect();
    let comment = if owner.is_empty() { String::new() } else { format!(" comment \"{owner}\"") };
    format!("create element inet {TABLE} {map} {{ {address}{comment} : jump {} }}\n", chain_of(network))
}
