//! The JSON of images, read so that no two readers can see two different documents in it.

use serde_json::Value;
use serde_json::error::Category;

use crate::fault::{Fault, Result};
use crate::json::{Names, Rules};

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
    let rules = Rules { member: "member", names: Names::DifferByMoreThanCase { but_in: &FREE }, depth: DEPTH };
    rules.read(bytes).map_err(|error| {
        let how = if error.classify() == Category::Data { "not valid" } else { "not JSON" };
        Fault::invalid(format!("{noun} is {how}: {error}"))
    })
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
