//! Publishes ports of a container for an ordinary user.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::fault::Result;
use crate::ports::Forward;
use crate::script::{Script, quote};
use crate::step::{Action, Undone, Way};
use crate::sys::{Host, exec, port_relay};

/// Publishes ports of a container for an ordinary user, who may not write rules on the host: a process listens and leads in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PortRelay {
    /// The network namespace of his bridges.
    pub netns: PathBuf,
    /// The ports.
    pub forwards: Vec<Forward>,
    /// Whose they are, our mark: the CNI container id.
    pub owner: String,
}

/// What was there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayBefore {
    /// That process.
    pub runs: bool,
}

impl fmt::Display for PortRelay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "relay {}", crate::ports::named(&self.forwards))
    }
}

impl Action for PortRelay {
    type Before = RelayBefore;

    fn look(&self, _: &Host) -> Result<RelayBefore> {
        Ok(RelayBefore { runs: !port_relay::find(&self.netns, &self.owner, &self.forwards).is_empty() })
    }

    fn already(&self, before: &RelayBefore) -> bool {
        before.runs
    }

    fn apply(&self, _: &RelayBefore, _: &Host) -> Result<()> {
        port_relay::start(&self.netns, &self.owner, &self.forwards)
    }

    fn undo(&self, before: &RelayBefore, _: &Host) -> Result<Undone> {
        if !before.runs {
            port_relay::stop(&self.netns, &self.owner, &self.forwards)?;
        }
        Ok(Undone::Done)
    }

    /// The process is rkbox's own program under another name.
    fn script(&self, way: Way<'_, RelayBefore>, out: &mut Script) {
        let words = port_relay::words(&self.netns, &self.owner, &self.forwards);
        let words: Vec<String> = words.iter().map(|word| quote(word)).collect();
        let words = words.join(" ");
        match way {
            Way::Apply => {
                let program = quote(&exec::own_program().unwrap_or_else(|_| PathBuf::from("rkbox")).to_string_lossy());
                let start = format!("exec -a {} {program} {words} </dev/null 2>/dev/null", port_relay::PROGRAM);
                out.raw(&format!("[ \"$({{ setsid bash -c {} & }} | head -n1)\" = ready ]", quote(&start)));
            }
            Way::Undo(before) if before.runs => {}
            Way::Undo(_) => {
                let all = [vec![port_relay::PROGRAM.to_owned()], port_relay::words(&self.netns, &self.owner, &self.forwards)].concat().join(" ");
                let is_plain = |c: char| c.is_ascii_alphanumeric() || " -/:_".contains(c);
                let pattern: String = all.chars().flat_map(|c| (!is_plain(c)).then_some('\\').into_iter().chain([c])).collect();
                out.raw(&format!("pkill -KILL -x -f {} || true", quote(&pattern)));
            }
        }
    }
}
