//! VLANs of a bridge port: `vlan`, `vlanTrunk` and `preserveDefaultVlan`.

use serde_json::Value;

use super::keys::Keys;
use crate::fault::{Fault, Result};

/// The VLANs of a bridge port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vlans {
    /// The one that frames without a tag belong to, 1 to 4094.
    pub native: Option<u16>,
    /// Those that pass with their tags, sorted, each once.
    pub trunk: Vec<u16>,
    /// VLAN 1, which the kernel gives every port, stays.
    pub keeps_default: bool,
}

impl Vlans {
    /// Whether nothing is asked of VLANs.
    pub fn is_none(&self) -> bool {
        self.native.is_none() && self.trunk.is_empty()
    }
}

/// Reads the keys of a plugin.
///
/// *Errors:* in the words of upstream. *Source:* reference `bridge` `loadNetConf` and `collectVlanTrunk`; `preserveDefaultVlan` is
/// true when it is not said.
pub fn read(keys: &Keys<'_>) -> Result<Vlans> {
    let vlan = keys.number("vlan")?;
    let native = match u16::try_from(vlan) {
        Ok(0) => None,
        Ok(id @ 1..=4094) => Some(id),
        _ => return Err(Fault::invalid(format!("invalid VLAN ID {vlan} (must be between 0 and 4094)"))),
    };
    let mut trunk = Vec::new();
    for entry in keys.array("vlanTrunk")? {
        trunk.extend(read_trunk(entry)?);
    }
    trunk.sort_unstable();
    trunk.dedup();
    let keeps_default = keys.find("preserveDefaultVlan").is_none() || keys.flag("preserveDefaultVlan")?;
    Ok(Vlans { native, trunk, keeps_default })
}

fn read_trunk(entry: &Value) -> Result<Vec<u16>> {
    let map = entry.as_object().ok_or_else(|| Fault::invalid("\"vlanTrunk\" of bridge must be an array of objects"))?;
    let keys = Keys::new(map, "vlanTrunk");
    let id = |key: &'static str| -> Result<Option<u16>> {
        let Some(value) = keys.find(key) else { return Ok(None) };
        match u16::try_from(keys.number(key)?) {
            Ok(id @ 1..=4094) => Ok(Some(id)),
            _ => Err(Fault::invalid(format!("incorrect trunk {key} parameter {value} (must be between 1 and 4094)"))),
        }
    };
    let mut ids = Vec::new();
    match (id("minID")?, id("maxID")?) {
        (Some(min), Some(max)) if min <= max => ids.extend(min..=max),
        (Some(_), Some(_)) => return Err(Fault::invalid("minID is greater than maxID in trunk parameter")),
        (Some(_), None) => return Err(Fault::invalid("minID and maxID should be configured simultaneously, maxID is missing")),
        (None, Some(_)) => return Err(Fault::invalid("minID and maxID should be configured simultaneously, minID is missing")),
        (None, None) => {}
    }
    ids.extend(id("id")?);
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::list::Plugin;

    fn of(text: &str) -> Result<Vlans> {
        read(&Plugin::parse(format!(r#"{{"type":"bridge"{text}}}"#).as_bytes()).unwrap().keys())
    }

    #[test]
    fn trunks_are_ids_and_ranges() {
        let vlans = of(r#","vlan":7,"vlanTrunk":[{"minID":10,"maxID":12},{"id":11},{"id":5}],"preserveDefaultVlan":false"#).unwrap();
        assert_eq!(vlans, Vlans { native: Some(7), trunk: vec![5, 10, 11, 12], keeps_default: false });
        assert!(of("").unwrap().keeps_default && of("").unwrap().is_none());
        for (text, expected) in [
            (r#","vlanTrunk":[{"minID":10}]"#, "maxID is missing"),
            (r#","vlanTrunk":[{"maxID":10}]"#, "minID is missing"),
            (r#","vlanTrunk":[{"minID":12,"maxID":10}]"#, "minID is greater"),
            (r#","vlanTrunk":[{"id":4095}]"#, "incorrect trunk id parameter 4095"),
            (r#","vlan":70000"#, "invalid VLAN ID 70000"),
        ] {
            assert!(of(text).unwrap_err().to_string().contains(expected), "{text}");
        }
    }
}
