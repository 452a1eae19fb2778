//! One configuration, one sequence of bytes.

use oci_spec::runtime::Spec;
use serde_json::Value;

use crate::fault::{Fault, Kind, Result};

/// Writes a configuration so that equal ones are equal byte for byte: sorted keys, sorted capabilities, a newline at the end.
///
/// The types of oci-spec hold maps and capabilities in hash tables, whose order changes from run to run.
pub fn bytes(spec: &Spec) -> Result<Vec<u8>> {
    let internal = |error| Fault::from_error(Kind::Internal, error).doing("writing config.json");
    let mut value = serde_json::to_value(spec).map_err(internal)?;
    value.sort_all_objects();
    if let Some(sets) = value.pointer_mut("/process/capabilities").and_then(Value::as_object_mut) {
        for set in sets.values_mut().filter_map(Value::as_array_mut) {
            set.sort_by(|a, b| a.as_str().cmp(&b.as_str()));
        }
    }
    let mut content = serde_json::to_vec_pretty(&value).map_err(internal)?;
    content.push(b'\n');
    Ok(content)
}
