//! JSON in which no name occurs twice: `serde_json` keeps the last, other readers the first.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize as _, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::fault::cut;

/// What a reader takes.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// What a member is called in errors.
    pub member: &'static str,
    /// Which names in one object are two.
    pub names: Names,
    /// How deep lists and objects may lie in each other; `serde_json` itself ends at 127.
    pub depth: usize,
}

/// Which names in one object are two.
#[derive(Clone, Copy, Debug)]
pub enum Names {
    /// Those that differ.
    Differ,
    /// Those that differ by more than case, but for the members of these objects, whose names are an author's.
    DifferByMoreThanCase {
        /// The names of the objects.
        but_in: &'static [&'static str],
    },
}

impl Rules {
    /// Reads one document.
    ///
    /// *Errors:* `serde_json`'s, and those of the rules as errors of data, with line and column.
    pub fn read(self, bytes: &[u8]) -> serde_json::Result<Value> {
        let mut from = serde_json::Deserializer::from_slice(bytes);
        let value = Strict { rules: self, free: false, depth: 0 }.deserialize(&mut from)?;
        from.end().map(|()| value)
    }
}

#[derive(Clone, Copy)]
struct Strict {
    rules: Rules,
    /// Whether the names of this object are an author's.
    free: bool,
    depth: usize,
}

impl Strict {
    fn below<E: Error>(self, free: bool) -> std::result::Result<Strict, E> {
        let most = self.rules.depth;
        if self.depth == most {
            return Err(E::custom(format!("lists and objects lie more than {most} deep in each other")));
        }
        Ok(Strict { free, depth: self.depth + 1, ..self })
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
        while let Some(value) = from.next_element_seed(self.below(self.free)?)? {
            list.push(value);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> std::result::Result<Value, A::Error> {
        let (mut object, mut lower, member) = (Map::new(), BTreeSet::new(), self.rules.member);
        while let Some(name) = from.next_key_seed(Name)? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format!("{member} {:?} occurs twice", cut(&name))));
            }
            let mut free = false;
            if let Names::DifferByMoreThanCase { but_in } = self.rules.names {
                if !self.free && !lower.insert(name.to_ascii_lowercase()) {
                    let why = "occurs twice, if upper and lower case are the same";
                    return Err(A::Error::custom(format!("{member} {:?} {why}", cut(&name))));
                }
                free = but_in.contains(&name.as_str());
            }
            let value = from.next_value_seed(self.below(free)?)?;
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
