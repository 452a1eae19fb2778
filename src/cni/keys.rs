//! Reads the keys of a JSON object as Go's decoder does: ASCII case does not count, `null` is absence, types are strict.

use serde_json::{Map, Value};

use crate::fault::{Fault, Kind, Result};

/// An object whose keys are read by name.
#[derive(Clone, Copy, Debug)]
pub struct Keys<'a> {
    map: &'a Map<String, Value>,
    of: &'a str,
}

impl<'a> Keys<'a> {
    /// Reads `map`, which errors call `of`.
    pub fn new(map: &'a Map<String, Value>, of: &'a str) -> Self {
        Keys { map, of }
    }

    /// The value of a key, `null` being none.
    pub fn find(&self, key: &str) -> Option<&'a Value> {
        let exact = self.map.get(key);
        let value = exact.or_else(|| self.map.iter().find(|(known, _)| known.eq_ignore_ascii_case(key)).map(|(_, value)| value));
        value.filter(|value| !value.is_null())
    }

    /// A flag, false when absent.
    pub fn flag(&self, key: &str) -> Result<bool> {
        self.find(key).map_or(Ok(false), |value| value.as_bool().ok_or_else(|| self.wrong(key, "a bool", value)))
    }

    /// A flag of a list, which may also be written as a string.
    ///
    /// *Source:* libcni `NetworkConfFromBytes`, `readBool`.
    pub fn lenient_flag(&self, key: &str) -> Result<bool> {
        match self.find(key) {
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
            _ => self.flag(key),
        }
    }

    /// A text, empty when absent.
    pub fn text(&self, key: &str) -> Result<&'a str> {
        self.find(key).map_or(Ok(""), |value| value.as_str().ok_or_else(|| self.wrong(key, "a string", value)))
    }

    /// A whole number from zero up, zero when absent.
    pub fn number(&self, key: &str) -> Result<u32> {
        self.find(key).map_or(Ok(0), |value| {
            value.as_u64().and_then(|n| u32::try_from(n).ok()).ok_or_else(|| self.wrong(key, "a whole number from 0 up", value))
        })
    }

    /// An array, empty when absent.
    pub fn array(&self, key: &str) -> Result<&'a [Value]> {
        self.find(key).map_or(Ok(&[]), |value| value.as_array().map(Vec::as_slice).ok_or_else(|| self.wrong(key, "an array", value)))
    }

    /// An array of texts, empty when absent.
    pub fn texts(&self, key: &str) -> Result<Vec<String>> {
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(|| self.wrong(key, "an array of strings", value));
        self.array(key)?.iter().map(text).collect()
    }

    /// An object, none when absent.
    pub fn object(&self, key: &'a str) -> Result<Option<Keys<'a>>> {
        let Some(value) = self.find(key) else { return Ok(None) };
        let map = value.as_object().ok_or_else(|| self.wrong(key, "an object", value))?;
        Ok(Some(Keys::new(map, key)))
    }

    /// Refuses keys that ask for what rkbox does not do; a value that asks for nothing (`false`, 0, empty) is let through.
    ///
    /// *Errors:* `Unimplemented`, with the key named.
    pub fn refuse(&self, keys: &[&str]) -> Result<()> {
        let asks = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            Value::Object(map) => !map.is_empty(),
            Value::Bool(true) => true,
        };
        match keys.iter().find(|key| self.find(key).is_some_and(asks)) {
            Some(key) => Err(Fault::new(Kind::Unimplemented, format!("{key:?} of {} is not supported", self.of))
                .hint(format!("leave {key:?} out of the configuration"))),
            None => Ok(()),
        }
    }

    /// The keys that are none of `known`, as they are.
    pub fn others(&self, known: &[&str]) -> Map<String, Value> {
        let is_known = |key: &str| known.iter().any(|known| known.eq_ignore_ascii_case(key));
        self.map.iter().filter(|(key, _)| !is_known(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    fn wrong(&self, key: &str, wanted: &str, value: &Value) -> Fault {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "a bool",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::Object(_) => "an object",
        };
        Fault::invalid(format!("{key:?} of {} must be {wanted}, not {found}", self.of))
    }
}
