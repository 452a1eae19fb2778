//! `CNI_ARGS`: pairs that a runtime hands to every plugin of a network.

use crate::fault::{Fault, Result};

/// The pairs of `CNI_ARGS`.
///
/// *Shape:* `IgnoreUnknown=1;K8S_POD_NAME=web;IP=10.88.0.7`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniArgs(Vec<(String, String)>);

impl CniArgs {
    /// Reads the value of `CNI_ARGS`.
    ///
    /// *Errors:* a pair that is none. *Source:* cni `types.LoadArgs`: one `=` in each pair, no white space is taken away.
    pub fn parse(text: &str) -> Result<CniArgs> {
        if text.is_empty() {
            return Ok(CniArgs::default());
        }
        let pair = |pair: &str| match pair.split_once('=') {
            Some((key, value)) if !value.contains('=') => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Fault::invalid(format!("ARGS: invalid pair {pair:?}"))),
        };
        text.split(';').map(pair).collect::<Result<Vec<_>>>().map(CniArgs)
    }

    /// Makes them of pairs, as libcni's cache keeps them.
    pub fn from_pairs(pairs: &[[String; 2]]) -> CniArgs {
        CniArgs(pairs.iter().map(|[key, value]| (key.clone(), value.clone())).collect())
    }

    /// The pairs, as libcni's cache keeps them; `None` when there are none.
    pub fn to_pairs(&self) -> Option<Vec<[String; 2]>> {
        (!self.0.is_empty()).then(|| self.0.iter().map(|(key, value)| [key.clone(), value.clone()]).collect())
    }

    /// The value of `CNI_ARGS`.
    pub fn to_text(&self) -> String {
        self.0.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(";")
    }

    /// The last value of a key; an empty one is none.
    pub fn find(&self, key: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == key).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Refuses keys that a plugin does not know, unless `IgnoreUnknown` says to pass over them.
    ///
    /// *Source:* cni `types.LoadArgs`.
    pub fn refuse_unknown(&self, known: &[&str]) -> Result<()> {
        let ignore = match self.0.iter().rev().find(|(key, _)| key == "IgnoreUnknown") {
            None => false,
            Some((key, value)) => match value.to_ascii_lowercase().as_str() {
                "1" | "true" => true,
                "0" | "false" => false,
                _ => {
                    let reason = format!("boolean unmarshal error: invalid input {value}");
                    return Err(Fault::invalid(format!("ARGS: error parsing value of pair \"{key}={value}\": {reason}")));
                }
            },
        };
        let is_known = |key: &str| key == "IgnoreUnknown" || known.contains(&key);
        let unknown: Vec<String> =
            self.0.iter().filter(|(key, _)| !is_known(key)).map(|(key, value)| format!("{:?}", format!("{key}={value}"))).collect();
        if ignore || unknown.is_empty() {
            return Ok(());
        }
        Err(Fault::invalid(format!("ARGS: unknown args [{}]", unknown.join(" "))).hint("IgnoreUnknown=1 passes over them"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_read_as_upstream_reads_them() {
        let args = CniArgs::parse("IgnoreUnknown=1;IP=10.0.0.1;K8S_POD_NAME=web").unwrap();
        assert_eq!((args.find("IP"), args.find("MAC")), (Some("10.0.0.1"), None));
        args.refuse_unknown(&[]).unwrap();
        assert_eq!(CniArgs::from_pairs(&args.to_pairs().unwrap()), args);
        assert_eq!(args.to_text(), "IgnoreUnknown=1;IP=10.0.0.1;K8S_POD_NAME=web");
        for (text, expected) in [
            ("IP", "ARGS: invalid pair \"IP\""),
            (";;", "ARGS: invalid pair \"\""),
            ("a=b=c", "ARGS: invalid pair \"a=b=c\""),
            ("IP=1;", "ARGS: invalid pair \"\""),
        ] {
            assert_eq!(CniArgs::parse(text).unwrap_err().to_string(), expected);
        }
        let unknown = CniArgs::parse("A=1;IP=2;B=3").unwrap();
        assert_eq!(unknown.refuse_unknown(&["IP"]).unwrap_err().to_string(), "ARGS: unknown args [\"A=1\" \"B=3\"]");
        assert!(CniArgs::parse("IgnoreUnknown=yes").unwrap().refuse_unknown(&[]).unwrap_err().to_string().contains("boolean"));
        CniArgs::parse("IgnoreUnknown=TRUE;x=y").unwrap().refuse_unknown(&[]).unwrap();
    }
}
