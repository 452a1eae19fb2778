//! `rkbox net check`.

use std::path::Path;

use clap::Args;
use serde_json::json;

use super::{Target, repair};
use crate::cmd::{Context, Format, output};
use crate::cni::built_in::BuiltIn;
use crate::cni::config::Member;
use crate::cni::list::List;
use crate::cni::result::CniResult;
use crate::cni::version::Version;
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::network::call::Call;
use crate::network::check::differences;
use crate::network::foreign::Chain;
use crate::network::networks;
use crate::plan::journal;
use crate::sys::file;

/// Arguments of `rkbox net check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    #[command(flatten)]
    target: Target,
}

/// Compares an attachment with its cached result; prints every difference.
///
/// *Errors:* `NotFound` when it is not attached, `FailedPrecondition` when anything differs. *Source:* libcni `CheckNetworkList`:
/// needs 0.4.0 where other programs are asked, and `disableCheck` leaves it out.
pub fn run(cx: &Context, args: &CheckArgs) -> Result<u8> {
    let host = &cx.host;
    let handle = args.target.handle(host)?;
    let Some(cached) = handle.find_cached(host)? else {
        let fault = Fault::not_found(format!("{} of {} is not attached to {}", handle.ifname, args.target.netns, handle.network));
        return Err(fault.hint(format!("attach it: rkbox net add {} {}", handle.network, args.target.netns)));
    };
    let network = networks::interpret(host, List::parse(&cached.config()?)?).doing(|| "reading the cached configuration")?;
    let result = CniResult::from_json(&cached.result).doing(|| "reading the cached result")?;
    let netns = args.target.netns_path(host)?;
    let by_rkbox = file::exists(&journal::path(host, &handle.box_id()))?;
    let (asked, owner, ifname) = (cached.asked(), handle.owner.as_str(), &handle.ifname);
    let chain = Chain { host, network: &network, owner, ifname, netns: Path::new(&cached.netns), asked: &asked };
    let call = Call {
        host,
        network: &network.name,
        version: network.version,
        owner,
        ifname,
        netns: &netns,
        own_netns: false,
        lo: true,
        acting: true,
        preferred: &[],
    };
    let mut found = Vec::new();
    for (nth, member) in network.members.iter().enumerate().filter(|_| !network.disable_check) {
        match &member.built_in {
            Some(_) => {
                let built_in = as_it_ends(&network.told(member, &asked)?, &network.members[nth + 1..]);
                found.extend(host.at_bridges(|| differences(call, &built_in, &result, by_rkbox))?);
            }
            None if network.version < Version::V0_4_0 => {
                output::note(&format!("rkbox: plugin {} is not asked: CHECK needs cniVersion 0.4.0", member.plugin.kind));
            }
            None => found.extend(chain.ask(member, "CHECK", Some(&cached.result)).err().map(|fault| fault.to_string())),
        }
    }
    if by_rkbox && !network.disable_check {
        let missing = repair::missing_of(host, &handle.box_id())?;
        found.extend(missing.into_iter().filter(|phrase| !found.contains(phrase)).collect::<Vec<_>>());
    }
    if cx.format == Format::Json {
        output::json(&json!({ "differences": found }))?;
    } else {
        found.iter().for_each(|difference| output::line(difference));
    }
    match found.len() {
        0 => Ok(0),
        count => Err(Fault::new(
            Kind::FailedPrecondition,
            format!("attachment {} differs in {count} places from what was made", args.target.netns),
        )
        .hint(format!("make it again: rkbox net del {0} {1}; rkbox net add {0} {1}", handle.network, args.target.netns))),
    }
}

/// What a plugin is told, without what a later one of its list changes again.
fn as_it_ends(built_in: &BuiltIn, later: &[Member]) -> BuiltIn {
    let mut built_in = built_in.clone();
    if let BuiltIn::Tuning(conf) = &mut built_in {
        for later in later.iter().filter_map(|member| member.built_in.as_ref()) {
            if let BuiltIn::Tuning(later) = later {
                conf.give_way(later);
            }
        }
    }
    built_in
}
