//! The JSON of images, read so that no two readers can see two different documents in it.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize as _, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::{Map, Number, Value};

use crate::fault::{Fault, Result};

/// How deep lists and objects may lie in each other.
pub const DEPTH: usize = 64;

/// Objects whose members are named by strangers: there `a` and `A` are two.
const FREE: [&str; 4] = ["annotations", "Labels", "Volumes", "ExposedPorts"];

/// Reads the document that `noun` names.
///
/// A name that occurs twice in one object is refused: parsers take the first or the last one, so that what one tool has checked
/// another would not run. So are names that differ by case only, which readers written in Go take for the same one; not where
/// an author names the members (annotations, labels). *Errors:* `InvalidArgument`, with line and column.
pub fn read(bytes: &[u8], noun: &str) -> Result<Value> {
    let mut from = serde_json::Deserializer::from_slice(bytes);
    let read = Strict { names: Names::OfFields, depth: 0 }.deserialize(&mut from);
    read.and_then(|value| from.end().map(|()| value)).map_err(|error| {
        let how = if error.classify() == Category::Data { "not valid" } else { "not JSON" };
        Fault::invalid(format!("{noun} is {how}: {error}"))
    })
}

/// Whose choice the names of an object are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// The format's.
    OfFields,
    /// The author's.
    Free,
}

struct Strict {
    names: Names,
    depth: usize,
}

impl Strict {
    fn below<E: Error>(&self, names: Names) -> std::result::Result<Strict, E> {
        if self.depth == DEPTH {
            return Err(E::custom(format!("lists and objects lie more than {DEPTH} deep in each other")));
        }
        Ok(Strict { names, depth: self.depth + 1 })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_unit<E: Error>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E: Error>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E: Error>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E: Error>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E: Error>(self, value: f64) -> std::result::Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is out of range"))
    }
    fn visit_str<E: Error>(self, value: &str) -> std::result::Result<Value, E> {
        Ok(value.into())
    }
    fn visit_string<E: Error>(self, value: String) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> std::result::Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = from.next_element_seed(self.below(self.names)?)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> std::result::Result<Value, A::Error> {
        let (mut object, mut lower) = (Map::new(), BTreeSet::new());
        while let Some(name) = from.next_key_seed(Name)? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format!("member {:?} occurs twice", shown(&name))));
            }
            if self.names == Names::OfFields && !lower.insert(name.to_ascii_lowercase()) {
                return Err(A::Error::custom(format!("member {:?} occurs twice, if upper and lower case are the same", shown(&name))));
            }
            let names = if FREE.contains(&name.as_str()) { Names::Free } else { Names::OfFields };
            let value = from.next_value_seed(self.below(names)?)?;
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = String;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> std::result::Result<String, D::Error> {
        String::deserialize(from)
    }
}

fn shown(name: &str) -> String {
    name.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_serde_json_reads() {
        for text in [r#"{"b":[1,-2,3.5,true,null,"x\n"],"a":{}}"#, "[]", "null", " 1 ", r#""A""#, "18446744073709551615"] {
            assert_eq!(read(text.as_bytes(), "it").unwrap(), serde_json::from_str::<Value>(text).unwrap(), "{text}");
        }
    }

    #[test]
    fn two_meanings_are_refused_by_name_and_place() {
        for (text, says) in [
            ("{\"a\":1,\n\"a\":1}", r#"it is not valid: member "a" occurs twice at line 2 column 3"#),
            (r#"{"a":1,"\u0061":2}"#, r#"member "a" occurs twice"#),
            (r#"[{"x":{"layers":[],"Layers":[]}}]"#, r#"member "Layers" occurs twice, if upper"#),
            (r#"{"Labels":{"a":"","a":""}}"#, r#"member "a" occurs twice"#),
            ("{} {}", "it is not JSON: trailing characters"),
            ("", "it is not JSON: EOF"),
        ] {
            let fault = read(text.as_bytes(), "it").unwrap_err().to_string();
            assert!(fault.contains(says), "{text}: {fault}");
        }
        for text in [r#"{"Labels":{"a":"","A":""}}"#, r#"{"annotations":{"x.Y":"","x.y":""}}"#, r#"[{"a":1},{"a":1}]"#] {
            assert!(read(text.as_bytes(), "it").is_ok(), "{text}");
        }
    }

    #[test]
    fn depth_ends_somewhere() {
        let nested = |depth: usize, open: &str, close: &str| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            assert!(read(nested(DEPTH, open, close).as_bytes(), "it").is_ok());
            let fault = read(nested(DEPTH + 1, open, close).as_bytes(), "it").unwrap_err().to_string();
            assert!(fault.contains("more than 64 deep"), "{fault}");
        }
        assert!(read(nested(100_000, "[", "]").as_bytes(), "it").is_err());
    }
}
