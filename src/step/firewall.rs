//! Lets forwarded traffic of addresses through the iptables of the host.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::cni::firewall::IngressPolicy;
use crate::fault::Result;
use crate::ids::IfName;
use crate::script::Script;
use crate::sys::{Errno, Host};
use crate::sys::iptables::Tables;
use crate::sys::nft::{Family, ForwardChains, Nft, Passage};

const TABLE: &str = "filter";
const FORWARD: &str = "CNI-FORWARD";
const STAGE_1: &str = "CNI-ISOLATION-STAGE-1";
const STAGE_2: &str = "CNI-ISOLATION-STAGE-2";

/// Lets forwarded traffic of addresses through the iptables of the host, in upstream's chains.
///
/// The chains stay when the last address goes, and so do the rules of an ingress policy: others may have added to them.
/// *Source:* reference `firewall`, iptables backend.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Firewall {
    /// The addresses.
    pub addresses: Vec<IpAddr>,
    /// The chain in which an administrator puts rules of their own.
    pub admin_chain: String,
    /// Who may send to them.
    pub ingress: IngressPolicy,
    /// The bridge that they are on; needed where not everybody may.
    pub bridge: Option<IfName>,
}

/// The lines that were missing, by program.
pub type FirewallBefore = BTreeMap<String, Vec<String>>;

impl fmt::Display for Firewall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        write!(f, "let {all} through the firewall")
    }
}

fn jump(comment: &str, to: &str) -> String {
    format!("-m comment --comment \"{comment}\" -j {to}")
}

/// A rule of an address, as `-S` prints it without the verb.
fn own_rule(address: IpAddr, passage: Passage) -> String {
    let net = format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 });
    match passage {
        Passage::Answers => format!("{FORWARD} -d {net} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"),
        Passage::Sent => format!("{FORWARD} -s {net} -j ACCEPT"),
    }
}

impl Firewall {
    fn families(&self) -> impl Iterator<Item = Tables> {
        let has = |v4: bool| self.addresses.iter().any(|address| address.is_ipv4() == v4);
        [(Tables::V4, has(true)), (Tables::V6, has(false))].into_iter().filter(|(_, wanted)| *wanted).map(|(tables, _)| tables)
    }

    /// The rules of the addresses, as `-S` prints them without the verb.
    fn own_rules(&self, tables: Tables) -> Vec<String> {
        let both = |address| [Passage::Answers, Passage::Sent].map(|passage| own_rule(address, passage));
        self.of_family(tables).into_iter().flat_map(both).collect()
    }

    /// Those addresses that are of a family.
    fn of_family(&self, tables: Tables) -> Vec<IpAddr> {
        self.addresses.iter().copied().filter(|address| address.is_ipv4() == (tables == Tables::V4)).collect()
    }

    fn chains(&self, tables: Tables) -> ForwardChains<'_> {
        let family = if tables == Tables::V4 { Family::V4 } else { Family::V6 };
        ForwardChains { family, chain: FORWARD, admin: &self.admin_chain }
    }

    /// As [`Firewall::missing`], asked of the kernel itself where the chains stand as they should; `None` where iptables has to say.
    fn missing_by_netlink(&self, tables: Tables) -> Result<Option<Vec<(IpAddr, Passage)>>> {
        if self.ingress != IngressPolicy::Open || !tables.is_nft() {
            return Ok(None);
        }
        Ok(Nft::open()?.missing_passages(self.chains(tables), &self.of_family(tables))?)
    }

    /// What is missing of the chains, the jumps and the rules.
    fn missing(&self, tables: Tables, now: &[String]) -> Vec<String> {
        let has = |line: &str| now.iter().any(|known| known == line);
        let mut lines = Vec::new();
        let chain = |name: &str, lines: &mut Vec<String>| {
            if !has(&format!("-N {name}")) {
                lines.push(format!("-N {name}"));
            }
        };
        let first = |chain: &str, rule: String, lines: &mut Vec<String>| {
            if !has(&format!("-A {chain} {rule}")) {
                lines.push(format!("-I {chain} 1 {rule}"));
            }
        };
        chain(&self.admin_chain, &mut lines);
        chain(FORWARD, &mut lines);
        first("FORWARD", jump("CNI firewall plugin rules", FORWARD), &mut lines);
        first(FORWARD, jump("CNI firewall plugin admin overrides", &self.admin_chain), &mut lines);
        if let (Some(bridge), true) = (&self.bridge, self.ingress != IngressPolicy::Open) {
            chain(STAGE_1, &mut lines);
            chain(STAGE_2, &mut lines);
            let word = if self.ingress == IngressPolicy::SameBridge { "same-bridge" } else { "isolated" };
            let comment = format!("CNI firewall plugin rules (ingressPolicy: {word})");
            first("FORWARD", jump(&comment, STAGE_1), &mut lines);
            let others = if self.ingress == IngressPolicy::SameBridge { format!(" ! -o {bridge}") } else { String::new() };
            first(STAGE_1, format!("-i {bridge}{others} {}", jump(&comment, STAGE_2)), &mut lines);
            first(STAGE_2, format!("-o {bridge} {}", jump(&comment, "DROP")), &mut lines);
            let returns = [STAGE_1, STAGE_2].map(|chain| format!("-A {chain} {}", jump(&comment, "RETURN")));
            lines.extend(returns.into_iter().filter(|line| !has(line)));
        }
        lines.extend(self.own_rules(tables).iter().map(|rule| format!("-A {rule}")).filter(|line| !has(line)));
        lines
    }

    /// Adds the missing lines where they are rules of addresses only and the chain is there; false when iptables has to.
    fn apply_by_netlink(&self, tables: Tables, lines: &[String]) -> Result<bool> {
        let all = self.of_family(tables).into_iter().flat_map(|address| [Passage::Answers, Passage::Sent].map(|passage| (address, passage)));
        let asked: Vec<_> = all.filter(|(address, passage)| lines.contains(&format!("-A {}", own_rule(*address, *passage)))).collect();
        if asked.len() != lines.len() || !tables.is_nft() {
            return Ok(false);
        }
        match Nft::open()?.add_passages(self.chains(tables), &asked) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(false),
            added => added.map(|()| true).map_err(Into::into),
        }
    }

    /// The chains, jumps and rules that are missing.
    ///
    /// *Source:* CHECK of the reference `firewall`.
    pub fn differences(&self, host: &Host) -> Result<Vec<String>> {
        let missing = self.look(host)?;
        let of = |(program, lines): (&String, &Vec<String>)| {
            lines.iter().map(|line| format!("{program} has no {line}")).collect::<Vec<_>>()
        };
        Ok(missing.iter().flat_map(of).collect())
    }

    /// What takes the rules of the addresses away, of those that are there.
    fn surplus(&self, tables: Tables, now: &[String]) -> Vec<String> {
        let there = |rule: &String| now.contains(&format!("-A {rule}"));
        self.own_rules(tables).into_iter().filter(there).map(|rule| format!("-D {rule}")).collect()
    }
}

impl Action for Firewall {
    type Before = FirewallBefore;
    const AT_BRIDGES: bool = true;

    fn look(&self, _: &Host) -> Result<FirewallBefore> {
        let mut before = FirewallBefore::new();
        for tables in self.families() {
            let missing = match self.missing_by_netlink(tables)? {
                Some(missing) => missing.into_iter().map(|(address, passage)| format!("-A {}", own_rule(address, passage))).collect(),
                None => self.missing(tables, &tables.rules(TABLE)?),
            };
            before.insert(tables.program().to_owned(), missing);
        }
        Ok(before)
    }

    fn apply(&self, before: &FirewallBefore, _: &Host) -> Result<()> {
        for tables in self.families() {
            let lines = before.get(tables.program()).map_or(&[][..], Vec::as_slice);
            if !self.apply_by_netlink(tables, lines)? {
                tables.restore(TABLE, lines)?;
            }
        }
        Ok(())
    }

    fn undo(&self, _: &FirewallBefore, _: &Host) -> Result<Undone> {
        for tables in self.families().filter(|tables| tables.is_there()) {
            if tables.is_nft() && Nft::open()?.remove_passages(self.chains(tables), &self.of_family(tables))? {
                continue;
            }
            tables.restore(TABLE, &self.surplus(tables, &tables.rules(TABLE)?))?;
        }
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, FirewallBefore>, out: &mut Script) {
        for tables in self.families() {
            let program = tables.program();
            match way {
                Way::Apply => {
                    for line in self.missing(tables, &[]) {
                        let check = line.strip_prefix("-I ").map(|rest| rest.replacen(" 1 ", " ", 1));
                        let check = check.or_else(|| line.strip_prefix("-A ").map(str::to_owned));
                        match check {
                            Some(rule) => out.raw(&format!("{program} -w -C {rule} 2>/dev/null || {program} -w {line}")),
                            None => out.raw(&format!("{program} -w {line} 2>/dev/null || true")),
                        }
                    }
                }
                Way::Undo(_) => {
                    for rule in self.own_rules(tables) {
                        out.raw(&format!("{program} -w -D {rule} 2>/dev/null || true"));
                    }
                }
            }
        }
    }
}
