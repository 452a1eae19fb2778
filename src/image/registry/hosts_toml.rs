//! `hosts.toml`: containerd's way to say who serves a registry.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::endpoint::{Place, Trust};
use crate::fault::{Context as _, Fault, Result};

/// The largest file, in bytes.
pub const LIMIT: u64 = 1 << 20;
/// The most hosts of one file.
const HOST_LIMIT: usize = 64;

/// One host of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Where it is; `None` for the registry itself when `server` does not say.
    pub place: Option<Place>,
    /// Whether its path is the whole base of the API.
    pub override_path: bool,
    /// Whether it is asked what a tag means.
    pub resolves: bool,
    /// Whether it is asked for what has a digest.
    pub pulls: bool,
    /// Whom it trusts.
    pub trust: Trust,
    /// Headers that are sent to it.
    pub headers: Vec<(String, String)>,
}

/// The hosts that serve a registry, in the order in which they are tried: mirrors as the file has them, then the server.
///
/// `dir` is where the file is: relative paths in it start there. *Source:* containerd `docs/hosts.md`. *Errors:* `InvalidArgument`, with
/// the place in the file.
pub fn parse(text: &str, dir: &Path) -> Result<Vec<Host>> {
    let root: Table = toml::from_str(text).map_err(|error| Fault::invalid(error.message().to_owned()))?;
    let mut hosts = Vec::new();
    let listed = match root.get("host") {
        None => None,
        Some(Value::Table(listed)) => Some(listed),
        Some(_) => return Err(Fault::invalid("host is not a table")),
    };
    for (address, value) in listed.into_iter().flatten() {
        let doing = || format!("host {address:?}");
        let table = value.as_table().ok_or_else(|| Fault::invalid("it is not a table")).doing(doing)?;
        hosts.push(host(Some(address), table, dir).doing(doing)?);
    }
    if hosts.len() > HOST_LIMIT {
        return Err(Fault::invalid(format!("it has {} hosts, more than {HOST_LIMIT}", hosts.len())));
    }
    let server = root.get("server").map(|server| text_of(server, "server")).transpose()?;
    hosts.push(host(server.filter(|server| !server.is_empty()), &root, dir).doing(|| "server")?);
    Ok(hosts)
}

fn host(address: Option<&str>, table: &Table, dir: &Path) -> Result<Host> {
    let flag = |name: &str| match table.get(name) {
        None => Ok(false),
        Some(Value::Boolean(value)) => Ok(*value),
        Some(_) => Err(Fault::invalid(format!("{name} is not true or false"))),
    };
    let capabilities = table.get("capabilities").map(|list| texts(list, "capabilities")).transpose()?;
    if let Some(unknown) = capabilities.iter().flatten().find(|word| !matches!(**word, "pull" | "resolve" | "push" | "referrers")) {
        return Err(Fault::invalid(format!("capability {unknown:?} is not known")));
    }
    let can = |word: &str| capabilities.as_ref().is_none_or(|list| list.contains(&word));
    let ca = table.get("ca").map(|ca| texts(ca, "ca")).transpose()?.unwrap_or_default();
    let trust = Trust {
        ca: ca.into_iter().map(|path| dir.join(path)).collect(),
        client: table.get("client").map(|client| clients(client, dir)).transpose()?.unwrap_or_default(),
        skip_verify: flag("skip_verify")?,
    };
    Ok(Host {
        place: address.map(Place::parse).transpose()?,
        override_path: flag("override_path")?,
        resolves: can("resolve"),
        pulls: can("pull"),
        trust,
        headers: table.get("header").map(headers).transpose()?.unwrap_or_default(),
    })
}

fn text_of<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value.as_str().ok_or_else(|| Fault::invalid(format!("{name} is not a text")))
}

/// One text or a list of texts.
fn texts<'a>(value: &'a Value, name: &str) -> Result<Vec<&'a str>> {
    match value {
        Value::Array(list) => list.iter().map(|one| text_of(one, name)).collect(),
        one => Ok(vec![text_of(one, name)?]),
    }
}

/// `"both.pem"`, `["a.pem", "b.pem"]`, `[["a.cert", "a.key"]]`: one file holds certificate and key, or a pair does.
fn clients(value: &Value, dir: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let both = |path: &str| (dir.join(path), dir.join(path));
    let Value::Array(list) = value else { return Ok(vec![both(text_of(value, "client")?)]) };
    list.iter()
        .map(|one| match one {
            Value::Array(pair) => match pair.as_slice() {
                [cert] => Ok(both(text_of(cert, "client")?)),
                [cert, key] if text_of(key, "client")?.is_empty() => Ok(both(text_of(cert, "client")?)),
                [cert, key] => Ok((dir.join(text_of(cert, "client")?), dir.join(text_of(key, "client")?))),
                _ => Err(Fault::invalid("client has a list that is not a certificate and its key")),
            },
            one => Ok(both(text_of(one, "client")?)),
        })
        .collect()
}

fn headers(value: &Value) -> Result<Vec<(String, String)>> {
    let table = value.as_table().ok_or_else(|| Fault::invalid("header is not a table"))?;
    let mut all = Vec::new();
    for (name, value) in table {
        let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
        for text in texts(value, "header")? {
            if !is_name || !text.bytes().all(|b| matches!(b, b'\t' | 0x20..=0x7e)) {
                return Err(Fault::invalid(format!("header {name:?} is not valid")));
            }
            all.push((name.clone(), text.to_owned()));
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_come_in_the_order_of_the_file_and_the_server_last() {
        let text = r#"
            server = "https://registry.example"
            ca = "server.pem"
            [host."https://z.example"]
              capabilities = ["pull"]
              client = [["c.cert", "c.key"], "both.pem"]
            [host."http://a.example:5000/v2/hub"]
              override_path = true
              skip_verify = true
              ca = ["/abs.pem", "rel.pem"]
              [host."http://a.example:5000/v2/hub".header]
                x-one = "1"
                x-two = ["2", "3"]
        "#;
        let hosts = parse(text, Path::new("/certs/x")).unwrap();
        let bases: Vec<String> = hosts.iter().map(|host| host.place.as_ref().unwrap().base(host.override_path)).collect();
        assert_eq!(bases, ["https://z.example/v2", "http://a.example:5000/v2/hub", "https://registry.example/v2"]);
        assert!(!hosts[0].resolves && hosts[0].pulls && hosts[1].resolves);
        assert_eq!(hosts[0].trust.client[0], ("/certs/x/c.cert".into(), "/certs/x/c.key".into()));
        assert_eq!(hosts[0].trust.client[1], ("/certs/x/both.pem".into(), "/certs/x/both.pem".into()));
        assert_eq!(hosts[1].trust.ca, [PathBuf::from("/abs.pem"), "/certs/x/rel.pem".into()]);
        assert!(hosts[1].trust.skip_verify && !hosts[0].trust.skip_verify);
        assert_eq!(hosts[1].headers.len(), 3);
        assert_eq!(hosts[2].trust.ca, [PathBuf::from("/certs/x/server.pem")]);
    }

    #[test]
    fn an_empty_file_is_the_registry_itself() {
        let hosts = parse("", Path::new("/")).unwrap();
        assert!(hosts.len() == 1 && hosts[0].place.is_none() && hosts[0].resolves && hosts[0].pulls);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("server = 1", "server is not a text"),
            ("server = \"ftp://x\"", "neither http nor https"),
            ("[host.\"https://a b\"]", "odd characters"),
            ("[host.\"https://a\"]\ncapabilities = [\"fly\"]", "capability \"fly\""),
            ("[host.\"https://a\"]\nskip_verify = \"yes\"", "skip_verify is not true or false"),
            ("[host.\"https://a\".header]\n\"x y\" = \"1\"", "header \"x y\""),
            ("[host.\"https://a\".header]\nx = \"a\\r\\nb\"", "header \"x\""),
            ("host = 1", "host is not a table"),
            ("[host", "unclosed table"),
        ] {
            let fault = parse(text, Path::new("/")).unwrap_err().to_string();
            assert!(fault.contains(says), "{text:?}: {fault}");
        }
    }
}
