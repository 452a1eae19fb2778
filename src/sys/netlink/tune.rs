//! What can be changed of a link that stands: MAC, flags, MTU, queue, all in one request.

use netlink_packet_route::link::{LinkAttribute, LinkFlags};
use rtnetlink::LinkUnspec;

use super::error::{NetlinkError, Request};
use super::{Link, Netlink};
use crate::ids::Mac;

/// What a link is to be; `None` leaves it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tune {
    /// MAC.
    pub mac: Option<Mac>,
    /// Promiscuous mode.
    pub promisc: Option<bool>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// Whether all multicast frames are received.
    pub allmulti: Option<bool>,
    /// Length of the transmit queue in packets.
    pub tx_queue: Option<u32>,
}

impl Netlink {
    /// Changes a link.
    pub fn tune(&mut self, link: &Link, tune: Tune) -> Result<(), NetlinkError> {
        let mut builder = LinkUnspec::new_with_index(link.index);
        if let Some(mac) = tune.mac {
            builder = builder.address(mac.0.to_vec());
        }
        if let Some(mtu) = tune.mtu {
            builder = builder.mtu(mtu);
        }
        if let Some(packets) = tune.tx_queue {
            builder = builder.append_extra_attribute(LinkAttribute::TxQueueLen(packets));
        }
        let mut message = builder.build();
        for (wanted, flag) in [(tune.promisc, LinkFlags::Promisc), (tune.allmulti, LinkFlags::Allmulti)] {
            let Some(on) = wanted else { continue };
            message.header.change_mask |= flag;
            message.header.flags.set(flag, on);
        }
        self.set_link(Request::Tune { name: link.name.clone() }, message)
    }
}
