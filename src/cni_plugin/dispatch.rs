//! One command of the protocol in, one JSON document out; the exit status is 0 if and only if it is a result.

use std::io::Write as _;

use serde::Serialize as _;
use serde_json::{Value, json};

use super::session::{self, Answer, Session};
use super::{interface, pool};
use crate::cni::request::CniError;
use crate::cni::version::{ALL_TEXT, Version};

/// Answers one call of the plugin `kind`; the exit status.
pub fn run(kind: &'static str) -> u8 {
    let command = session::command();
    if std::env::var_os("CNI_COMMAND").is_none_or(|command| command.is_empty()) && command.is_err() {
        // Somebody calls it by hand.
        let _ = writeln!(std::io::stderr(), "CNI {kind} plugin of rkbox {}", env!("CARGO_PKG_VERSION"));
        let _ = writeln!(std::io::stderr(), "CNI protocol versions supported: {}", ALL_TEXT.join(", "));
        return 0;
    }
    let answer = command.and_then(|command| match command.as_str() {
        "VERSION" => Ok(Some(json!({ "cniVersion": Version::V1_1_0.as_str(), "supportedVersions": ALL_TEXT }))),
        _ => answer(&Session::read(kind, command)?),
    });
    match answer {
        Ok(document) => {
            document.iter().for_each(print);
            0
        }
        Err(error) => {
            let mut document = json!({ "cniVersion": Version::V1_0_0.as_str(), "code": error.code, "msg": error.msg });
            if !error.details.is_empty() {
                document["details"] = error.details.into();
            }
            print(&document);
            1
        }
    }
}

fn answer(session: &Session) -> Answer<Option<Value>> {
    let gives_addresses = crate::cni::built_in::IPAM_PLUGINS.contains(&session.kind);
    match (session.command.as_str(), gives_addresses) {
        ("ADD", true) => pool::add(session).map(Some),
        ("ADD", false) => interface::add(session).map(Some),
        ("DEL", true) => pool::del(session).map(|()| None),
        ("DEL", false) => interface::del(session).map(|()| None),
        ("CHECK", true) => pool::check(session).map(|()| None),
        ("CHECK", false) => interface::check(session).map(|()| None),
        ("GC", true) => pool::gc(session).map(|()| None),
        ("GC", false) => interface::gc(session).map(|()| None),
        ("STATUS", true) => pool::status(session).map(|()| None),
        ("STATUS", false) => interface::status(session).map(|()| None),
        // The session has refused all others.
        (other, _) => Err(CniError::new(crate::cni::request::INVALID_ENVIRONMENT, format!("unknown CNI_COMMAND: {other}"))),
    }
}

/// Prints a document as Go's `json.MarshalIndent` with four spaces does.
fn print(document: &Value) {
    let mut text = Vec::new();
    let mut out = serde_json::Serializer::with_formatter(&mut text, serde_json::ser::PrettyFormatter::with_indent(b"    "));
    if document.serialize(&mut out).is_ok() {
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(&text).and_then(|()| stdout.flush());
    }
}
