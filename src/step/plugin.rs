//! Runs the ADD of a CNI plugin that is another program; its undo is the DEL.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Action, Undone, Way};
use crate::cni::cache::Attachment;
use crate::cni::result::CniResult;
use crate::cni::version::Version;
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::ids::IfName;
use crate::script::{Script, quote};
use crate::sys::ns::{self, NsKind};
use crate::sys::plugin::{self, PluginCall};
use crate::sys::{Host, file};

/// A result larger than this is none.
const LIMIT: u64 = 4 << 20;

/// Runs the ADD of a CNI plugin that is another program.
///
/// Its result goes to a file, from which the plugin after it gets it as `prevResult`. *Source:* libcni `addNetwork`, `delNetwork`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plugin {
    /// Its type.
    pub kind: String,
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Its configuration.
    pub conf: String,
    /// The version of its documents.
    pub version: String,
    /// CNI container id.
    pub owner: String,
    /// The interface.
    pub ifname: IfName,
    /// The namespace.
    pub netns: PathBuf,
    /// `CNI_ARGS`.
    pub args: String,
    /// `CNI_PATH`.
    pub path: String,
    /// The roots of a plugin that is rkbox itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<PathBuf>,
    /// When it is killed, in seconds.
    pub limit_secs: u64,
    /// Where the plugin before it has left its result.
    pub previous: Option<PathBuf>,
    /// Where its result goes.
    pub result: PathBuf,
    /// Where libcni keeps the attachment; DEL is told the result in it.
    pub cached: PathBuf,
}

impl fmt::Display for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "add {} by plugin {}", self.ifname, self.kind)
    }
}

impl Plugin {
    fn env(&self) -> Vec<(&'static str, String)> {
        // Upstream's plugins take an empty path for a namespace that is gone.
        let netns = if ns::is_namespace(&self.netns, NsKind::Net).unwrap_or(false) { self.netns.to_string_lossy().into_owned() } else { String::new() };
        let mut env = vec![
            ("CNI_CONTAINERID", self.owner.clone()),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", self.ifname.to_string()),
            ("CNI_ARGS", self.args.clone()),
            ("CNI_PATH", self.path.clone()),
        ];
        env.extend(self.state.as_ref().map(|state| ("RKBOX_CNI_STATE_DIR", state.to_string_lossy().into_owned())));
        env
    }

    /// Calls the plugin with another command than the two that make and take back.
    pub fn ask(&self, command: &str) -> Result<()> {
        self.call(command, None).map(drop)
    }

    fn call(&self, command: &str, previous: Option<&Value>) -> Result<Vec<u8>> {
        let mut conf: Map<String, Value> =
            serde_json::from_str(&self.conf).map_err(|error| Fault::from_error(Kind::DataLoss, error))?;
        if let Some(previous) = previous {
            conf.insert("prevResult".into(), previous.clone());
        }
        let stdin = serde_json::to_vec(&conf).map_err(|error| Fault::from_error(Kind::Internal, error))?;
        let limit = Duration::from_secs(self.limit_secs);
        Ok(plugin::run(&PluginCall { command, words: &self.words, env: &self.env(), stdin: &stdin, limit })?)
    }

    /// The result as the configuration's version has it, whatever version the plugin answered in; no answer is an empty result.
    fn as_asked(&self, answer: &[u8], previous: Option<&Value>) -> Result<Value> {
        let version = Version::parse(&self.version)?;
        if answer.iter().all(u8::is_ascii_whitespace) {
            return Ok(previous.cloned().unwrap_or(Value::Null));
        }
        let answer: Value = serde_json::from_slice(answer).map_err(|error| Fault::from_error(Kind::DataLoss, error))?;
        CniResult::from_json(&answer)?.to_json(version)
    }

    fn read_json(path: &Path) -> Result<Option<Value>> {
        let Some(text) = file::find(path, LIMIT)? else { return Ok(None) };
        let value = serde_json::from_slice(&text).map_err(|error| Fault::from_error(Kind::DataLoss, error));
        value.doing(|| format!("reading {}", path.display())).map(Some)
    }

    /// What DEL is told from 0.4.0 on: the result of the whole list, or of what there is of it.
    fn result_of_list(&self) -> Result<Option<Value>> {
        if Version::parse(&self.version)? < Version::V0_4_0 {
            return Ok(None);
        }
        let cached = file::find(&self.cached, LIMIT)?.and_then(|text| Attachment::parse(&text).ok()).map(|cached| cached.result);
        match cached.filter(|result| !result.is_null()) {
            Some(result) => Ok(Some(result)),
            None if self.result.as_os_str().is_empty() => Ok(None),
            None => Plugin::read_json(&self.result),
        }
    }
}

impl Action for Plugin {
    type Before = ();
    const AT_BRIDGES: bool = true;

    fn look(&self, _: &Host) -> Result<()> {
        drop(ns::open_foreign_netns(&self.netns)?);
        Ok(())
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        let previous = self.previous.as_deref().map(Plugin::read_json).transpose()?.flatten();
        let answer = self.call("ADD", previous.as_ref())?;
        let result = self.as_asked(&answer, previous.as_ref()).doing(|| format!("reading the result of plugin {}", self.kind))?;
        file::write_atomic(&self.result, 0o600, result.to_string().as_bytes(), file::Durable::No)?;
        Ok(())
    }

    /// DEL is for an ADD that never was as well, and twice as well as once: so says the specification.
    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        let result = self.result_of_list()?;
        self.call("DEL", result.as_ref()).map_err(|fault| fault.hint("what it made stays until its DEL succeeds"))?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let (command, previous, to) = match way {
            Way::Apply => ("ADD", self.previous.as_ref(), format!("> {}", quote(&self.result.to_string_lossy()))),
            Way::Undo(()) => ("DEL", (!self.result.as_os_str().is_empty()).then_some(&self.result), "> /dev/null".to_owned()),
        };
        let netns = ("CNI_NETNS", self.netns.to_string_lossy().into_owned());
        let env = self.env().into_iter().map(|pair| if pair.0 == netns.0 { netns.clone() } else { pair });
        let env = env.map(|(key, value)| quote(&format!("{key}={value}"))).collect::<Vec<_>>().join(" ");
        let words = self.words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" ");
        let call = format!("env CNI_COMMAND={command} {env} {words} {to}");
        match previous {
            None => out.feed(["sh", "-c", &call], &self.conf),
            Some(path) => {
                let add = format!("jq -c --slurpfile previous {} '. + {{prevResult: $previous[0]}}'", quote(&path.to_string_lossy()));
                out.feed(["sh", "-c", &format!("{add} | {call}")], &self.conf);
            }
        }
    }
}
