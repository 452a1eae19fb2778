//! A document held against the table: unknown keys, wrong values and refused fields by their path.

use serde_json::{Map, Number, Value};

use super::schema::{Field, Form};
use super::suggest;
use crate::fault::{Fault, Kind, Result};

/// The document with every value in its plainest form: numbers that came as texts are numbers, choices are names; nulls are left out.
pub(super) fn normal(raw: &Value, fields: &'static [Field]) -> Result<Value> {
    message(raw, &Place { path: String::new(), root: fields }, fields)
}

/// Where in the document a value is, for errors.
struct Place {
    path: String,
    root: &'static [Field],
}

impl Place {
    fn below(&self, key: &str) -> Self {
        let path = if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) };
        Place { path, root: self.root }
    }

    fn nth(&self, nth: usize) -> Self {
        Place { path: format!("{}[{nth}]", self.path), root: self.root }
    }

    fn is_no(&self, what: &str, value: &Value) -> Fault {
        Fault::invalid(format!("{}: {} is not {what}", self.path, shown(value)))
    }
}

/// A value for people: cut, and without control characters.
fn shown(value: &Value) -> String {
    let text = match value {
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string(),
    };
    let cut: String = text.chars().take(60).collect();
    if cut.len() < text.len() { format!("{cut}…") } else { cut }
}

fn message(value: &Value, place: &Place, fields: &'static [Field]) -> Result<Value> {
    let Value::Object(members) = value else { return Err(place.is_no("an object", value)) };
    let mut normal = Map::new();
    for (key, value) in members {
        let Some((name, form)) = fields.iter().find(|(name, _)| name == key) else {
            return Err(unknown(key, place, fields));
        };
        let place = place.below(name);
        if !value.is_null() {
            normal.insert((*name).to_owned(), self::value(value, &place, form)?);
        }
    }
    Ok(Value::Object(normal))
}

fn unknown(key: &str, place: &Place, fields: &'static [Field]) -> Fault {
    let fault = Fault::invalid(format!("{}: there is no such field", place.below(&key.escape_debug().to_string()).path));
    match suggest::nearest(key, fields.iter().map(|(name, _)| *name)) {
        Some(near) => fault.hint(format!("did you mean {near}?")),
        // What stands in a list belongs to its element.
        None => match suggest::elsewhere(key, place.root).filter(|_| !place.path.contains('[')) {
            Some(path) => fault.hint(format!("did you mean {path}?")),
            None => fault.hint(format!("there are {}", fields.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "))),
        },
    }
}

fn value(value: &Value, place: &Place, form: &'static Form) -> Result<Value> {
    match form {
        Form::Text => text(value, place).map(Value::String),
        Form::Flag => value.as_bool().map(Value::Bool).ok_or_else(|| place.is_no("true or false", value)),
        Form::Int(least, most) => int(value, place, (*least, *most)),
        Form::Choice(names) => choice(value, place, names),
        Form::Pairs => pairs(value, place),
        Form::One(fields) => message(value, place, fields),
        Form::Wrapped => wrapped(value, place),
        Form::List(of) => {
            let Value::Array(list) = value else { return Err(place.is_no("a list", value)) };
            list.iter().enumerate().map(|(nth, one)| self::value(one, &place.nth(nth), of)).collect()
        }
        Form::Refused(_) if is_default(value) => Ok(Value::Null),
        Form::Refused(why) => Err(Fault::new(Kind::Unimplemented, format!("{}: {why}", place.path)).hint("leave it out")),
    }
}

/// Whether a value says no more than its absence would.
fn is_default(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.values().all(is_default),
    }
}

/// A text; a YAML scalar that is a whole number or a truth value is its text, as crictl takes it.
fn text(value: &Value, place: &Place) -> Result<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        other => return Err(place.is_no("a text", other).hint("write it in quotes")),
    };
    if text.contains('\0') {
        return Err(Fault::invalid(format!("{}: it has a NUL byte", place.path)));
    }
    Ok(text)
}

/// A number, or a text that is one: JSON of protocol buffers writes 64 bits so.
fn int(value: &Value, place: &Place, (least, most): (i64, i64)) -> Result<Value> {
    let number = match value {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().filter(|float| is_whole(*float)).map(|float| float as i64)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let number = number.ok_or_else(|| place.is_no("a whole number", value))?;
    if (least..=most).contains(&number) {
        return Ok(Value::Number(Number::from(number)));
    }
    Err(Fault::invalid(format!("{}: {number} is not between {least} and {most}", place.path)))
}

/// Whether a float is a whole number that it holds exactly (`1e3` in JSON).
fn is_whole(float: f64) -> bool {
    float.fract() == 0.0 && float.abs() <= 9_007_199_254_740_992.0
}

fn choice(value: &Value, place: &Place, names: &'static [&'static str]) -> Result<Value> {
    let number = |text: &str| text.parse::<usize>().ok();
    let found = match value {
        Value::String(text) => names.iter().find(|name| *name == text).or_else(|| number(text).and_then(|at| names.get(at))),
        Value::Number(of) => of.as_u64().and_then(|at| names.get(usize::try_from(at).ok()?)),
        _ => None,
    };
    if let Some(name) = found {
        return Ok(Value::String((*name).to_owned()));
    }
    let fault = Fault::invalid(format!("{}: {} is none of its values", place.path, shown(value)));
    Err(match value.as_str().and_then(|text| suggest::nearest(text, names.iter().copied())) {
        Some(near) => fault.hint(format!("did you mean {near}?")),
        None if names.len() > 8 => fault.hint(format!("it goes from 0 ({}) to {} ({})", names[0], names.len() - 1, names[names.len() - 1])),
        None => {
            let all: Vec<String> = names.iter().enumerate().map(|(at, name)| format!("{at} ({name})")).collect();
            fault.hint(format!("there are {}", all.join(", ")))
        }
    })
}

fn pairs(value: &Value, place: &Place) -> Result<Value> {
    let Value::Object(members) = value else { return Err(place.is_no("an object of texts", value)) };
    let mut normal = Map::new();
    for (key, value) in members {
        let place = Place { path: format!("{}[{key:?}]", place.path), root: place.root };
        let value = if value.is_null() { String::new() } else { text(value, &place)? };
        normal.insert(key.clone(), Value::String(value));
    }
    Ok(Value::Object(normal))
}

fn wrapped(value: &Value, place: &Place) -> Result<Value> {
    let Value::Object(_) = value else {
        return Err(place.is_no("an object", value).hint("a number stands in a message of its own: {\"value\": 1000}"));
    };
    static FIELDS: [Field; 1] = [("value", Form::Int(i64::MIN, i64::MAX))];
    let normal = message(value, place, &FIELDS)?;
    Ok(normal.get("value").cloned().unwrap_or_else(|| Value::Number(0.into())))
}
