//! The keys that leave a terminal: how they are written, and how they are found in what is typed.

use crate::fault::{Fault, Result};

/// Docker's.
pub const DETACH_KEYS: &str = "ctrl-p,ctrl-q";

/// A sequence of keys, as bytes; empty for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys(Vec<u8>);

impl Keys {
    /// The bytes that they send.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Reads `ctrl-p,ctrl-q`, `a,b`, `ctrl-]`; the empty text is no keys. *Source:* Docker's `--detach-keys`.
pub fn parse_keys(text: &str) -> Result<Keys> {
    let bad = |key: &str| {
        Fault::invalid(format!("key {key:?} is not known")).hint("the form is KEY,KEY with a letter, or ctrl- and one of a-z @ [ \\ ] ^ _")
    };
    let key = |key: &str| match (key.as_bytes(), key.strip_prefix("ctrl-").map(str::as_bytes)) {
        ([one], _) => Ok(*one),
        (_, Some([one])) if matches!(one.to_ascii_lowercase(), b'a'..=b'z' | b'@' | b'['..=b'_') => Ok(one.to_ascii_uppercase() & 0x1f),
        _ => Err(bad(key)),
    };
    if text.is_empty() {
        return Ok(Keys(Vec::new()));
    }
    text.split(',').map(key).collect::<Result<_>>().map(Keys)
}

/// The bytes to be sent, and whether the keys that leave are complete; `seen` of them came before. What turns out not to be the keys is sent late.
pub fn without_keys(bytes: &[u8], keys: &[u8], seen: &mut usize) -> (Vec<u8>, bool) {
    let mut out = Vec::with_capacity(bytes.len());
    for byte in bytes {
        if keys.get(*seen) == Some(byte) {
            *seen += 1;
            if *seen == keys.len() {
                return (out, true);
            }
            continue;
        }
        out.extend_from_slice(&keys[..*seen]);
        *seen = 0;
        if keys.first() == Some(byte) && keys.len() > 1 {
            *seen = 1;
        } else {
            out.push(*byte);
        }
    }
    (out, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_letters_and_control_letters() {
        for (text, bytes) in [("ctrl-p,ctrl-q", &[16, 17][..]), ("a,b", b"ab"), ("ctrl-]", &[29]), ("ctrl-@", &[0]), ("", &[])] {
            assert_eq!(parse_keys(text).unwrap(), Keys(bytes.to_vec()), "{text}");
        }
        for bad in ["ctrl-", "ctrl-1", "ab", "a,", "alt-x"] {
            assert!(parse_keys(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_the_whole_sequence_leaves_and_nothing_else_is_kept() {
        let typed = |chunks: &[&[u8]]| {
            let mut seen = 0;
            let mut all = Vec::new();
            for chunk in chunks {
                let (bytes, leaves) = without_keys(chunk, b"pq", &mut seen);
                all.extend(bytes);
                if leaves {
                    return (all, true);
                }
            }
            (all, false)
        };
        assert_eq!(typed(&[b"ap", b"qz"]), (b"a".to_vec(), true));
        assert_eq!(typed(&[b"p", b"x", b"pp", b"a"]), (b"pxppa".to_vec(), false));
        assert_eq!(typed(&[b"ppq"]), (b"p".to_vec(), true));
        assert_eq!(without_keys(b"pq", b"", &mut 0), (b"pq".to_vec(), false));
    }
}
