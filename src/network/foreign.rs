//! The plugins of a list that are other programs: each gets the result of the one before from a file.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::networks::Network;
use crate::cni::cache;
use crate::cni::config::Member;
use crate::cni::inject::{self, Asked};
use crate::fault::{Fault, Kind, Result};
use crate::ids::{IfName, hex};
use crate::step::{self, Step};
use crate::sys::plugin;
use crate::sys::{Host, exec};

/// An attachment to a list with other programs in it.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a> {
    /// The host.
    pub host: &'a Host,
    /// The network.
    pub network: &'a Network,
    /// CNI container id.
    pub owner: &'a str,
    /// The interface.
    pub ifname: &'a IfName,
    /// The namespace.
    pub netns: &'a Path,
    /// What is asked beside the configuration.
    pub asked: &'a Asked,
}

impl Chain<'_> {
    /// Plans the ADD of plugins one after the other, the first after `previous`; answers the file that holds the last result.
    pub fn plan_add(&self, members: &[Member], previous: Option<Value>) -> Result<(Vec<Step>, PathBuf)> {
        let dir = self.results();
        let home = step::Home { dirs: vec![self.host.run.clone(), self.host.run.join("plugins")] };
        let mut steps: Vec<Step> = vec![home.into(), step::Directory::new(dir.clone(), 0o700).into()];
        let mut before: Option<PathBuf> = None;
        for (nth, member) in members.iter().enumerate() {
            let told = previous.as_ref().filter(|_| nth == 0);
            let result = dir.join(nth.to_string());
            let step = step::Plugin { previous: before.replace(result.clone()), result, ..self.plugin(member, told)? };
            steps.push(step.into());
        }
        let last = before.ok_or_else(|| Fault::internal("a chain without a plugin"))?;
        Ok((steps, last))
    }

    /// The step of one plugin as its DEL needs it.
    pub fn plugin(&self, member: &Member, told: Option<&Value>) -> Result<step::Plugin> {
        let conf = inject::inject(&self.network.name, self.network.version, &member.plugin, told, self.asked)?;
        let conf = serde_json::to_string(&conf.raw).map_err(|error| Fault::from_error(Kind::Internal, error))?;
        let own = member.built_in.is_some();
        let kind = member.plugin.kind.clone();
        let words = if own {
            vec![exec::own_program()?.to_string_lossy().into_owned(), "cni".to_owned(), "exec".to_owned(), kind.clone()]
        } else {
            vec![plugin::find(&kind, &self.host.plugins.dirs())?.to_string_lossy().into_owned()]
        };
        let state = own.then(|| self.host.cni_state.clone());
        Ok(step::Plugin {
            kind,
            words,
            conf,
            version: self.network.version.as_str().to_owned(),
            owner: self.owner.to_owned(),
            ifname: self.ifname.clone(),
            netns: self.netns.to_path_buf(),
            args: self.asked.args.to_text(),
            path: self.host.plugins.path.clone(),
            state,
            limit_secs: self.host.plugins.limit.as_secs(),
            previous: None,
            result: PathBuf::new(),
            cached: self.host.cni_state.join("results").join(cache::Attachment::file_name(&self.network.name, self.owner, self.ifname)),
        })
    }

    /// Asks another program something that changes nothing here: CHECK, STATUS, GC.
    pub fn ask(&self, member: &Member, command: &str, previous: Option<&Value>) -> Result<()> {
        self.plugin(member, previous)?.ask(command)
    }

    /// Where the plugins of this attachment leave their results for each other.
    pub fn results(&self) -> PathBuf {
        let digest = Sha256::digest(format!("{}\0{}\0{}", self.network.name, self.owner, self.ifname).as_bytes());
        self.host.run.join("plugins").join(&hex(&digest)[..24])
    }
}
