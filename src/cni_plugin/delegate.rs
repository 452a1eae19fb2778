//! IPAM plugins that are other programs: called with the same environment and the same configuration.

use serde_json::Value;

use super::session::{Answer, Session};
use crate::cni::request::{self, CniError};
use crate::cni::result::CniResult;
use crate::fault::Fault;
use crate::sys::plugin::{self, PluginCall, PluginError};

/// Calls `kind`; the result of an ADD, `None` for all others.
///
/// *Errors:* those of the delegate, code and words as they are. *Source:* cni `invoke.DelegateAdd`.
pub fn call(session: &Session, kind: &str, command: &str) -> Answer<Option<CniResult>> {
    let program = plugin::find(kind, &session.host.plugins.dirs()).map_err(as_answer)?;
    let words = [program.to_string_lossy().into_owned()];
    let env = [
        ("CNI_CONTAINERID", session.owner.clone()),
        ("CNI_NETNS", session.netns.clone()),
        ("CNI_IFNAME", session.ifname.as_ref().map_or(String::new(), ToString::to_string)),
        ("CNI_ARGS", session.args.clone()),
        ("CNI_PATH", session.host.plugins.path.clone()),
    ];
    let limit = session.host.plugins.limit;
    let answer = plugin::run(&PluginCall { command, words: &words, env: &env, stdin: &session.stdin, limit }).map_err(as_answer)?;
    if command != "ADD" {
        return Ok(None);
    }
    let garbage = |text: String| CniError::new(request::DECODING_FAILURE, format!("result of IPAM plugin {kind}: {text}"));
    let value: Value = serde_json::from_slice(&answer).map_err(|error| garbage(error.to_string()))?;
    CniResult::from_json(&value).map(Some).map_err(|fault| garbage(fault.to_string()))
}

fn as_answer(error: PluginError) -> CniError {
    match error {
        PluginError::Refused(refused) => {
            let details = format!("{}{}", refused.details.trim_start_matches("; "), refused.stderr);
            CniError::new(u32::try_from(refused.code).unwrap_or(request::INTERNAL), refused.msg).details(details)
        }
        other => Fault::from(other).into(),
    }
}
