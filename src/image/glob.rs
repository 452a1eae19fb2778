//! Shell patterns for image names, as `docker image ls --filter reference=` has them.

use super::Reference;

/// Whether `pattern` fits a name of an image: full or as people write it, with or without its tag.
///
/// *Shape:* `busybox`, `busybox:1.*`, `*/busybox:latest`, `quay.io/*/*`. *Source:* distribution/reference `FamiliarMatch`.
pub fn fits(pattern: &str, reference: &Reference) -> bool {
    let (full, name) = (reference.to_string(), reference.repository());
    let familiar = |text: &str| {
        let short = text.strip_prefix("docker.io/library/").or_else(|| text.strip_prefix("docker.io/"));
        short.is_some_and(|short| matches(pattern, short))
    };
    matches(pattern, &full) || matches(pattern, &name) || familiar(&full) || familiar(&name)
}

/// Go's `path.Match`: `*` and `?` do not cross a slash, `[a-z]` and `[^a-z]` are one character, `\` takes the next one as it is.
///
/// A pattern that is not well formed fits nothing.
pub fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    // Where to go on when the text after the last star does not fit: one character further.
    let (mut p, mut t, mut again) = (0, 0, None);
    loop {
        let next = match (pattern.get(p), text.get(t)) {
            (None, None) => return true,
            (Some('*'), _) => {
                again = Some((p + 1, t));
                p += 1;
                continue;
            }
            (Some(_), Some(&c)) => one(&pattern[p..], c),
            _ => None,
        };
        match (next, again) {
            (Some(length), _) => (p, t) = (p + length, t + 1),
            (None, Some((after, from))) if text.get(from).is_some_and(|c| *c != '/') => {
                again = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// How many characters of the pattern stand for `c`; `None` when it does not fit.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern[0] {
        '?' => (c != '/').then_some(1),
        '\\' => (pattern.get(1) == Some(&c)).then_some(2),
        '[' => class(pattern, c),
        plain => (plain == c).then_some(1),
    }
}

fn class(pattern: &[char], c: char) -> Option<usize> {
    let negated = pattern.get(1) == Some(&'^');
    let mut at = if negated { 2 } else { 1 };
    let (first, mut found) = (at, false);
    let bound = |at: &mut usize| {
        *at += usize::from(pattern.get(*at) == Some(&'\\'));
        *at += 1;
        pattern.get(*at - 1).copied()
    };
    while at == first || pattern.get(at) != Some(&']') {
        let low = bound(&mut at)?;
        let high = if pattern.get(at) == Some(&'-') {
            at += 1;
            bound(&mut at)?
        } else {
            low
        };
        found |= (low..=high).contains(&c);
    }
    (found != negated && c != '/').then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_go() {
        for (pattern, text, fits) in [
            ("", "", true),
            ("a", "", false),
            ("*", "abc", true),
            ("*", "a/b", false),
            ("a*/b", "ac/b", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXbYbZ", false),
            ("?b", "ab", true),
            ("?b", "/b", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("[]x", "x", false),
            ("[a", "a", false),
            ("\\*", "*", true),
            ("\\", "\\", false),
            ("a*a*a*a*a*a*a*a*a*a*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            assert_eq!(matches(pattern, text), fits, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn names_fit_in_every_form() {
        let busybox: Reference = "busybox:1.36".parse().unwrap();
        for pattern in ["busybox", "busybox:1.36", "busybox:1.*", "busy*", "docker.io/library/busybox", "docker.io/*/*:*", "*"] {
            assert!(fits(pattern, &busybox), "{pattern}");
        }
        let other: Reference = "quay.io/a/busybox:1".parse().unwrap();
        assert!(fits("quay.io/*/busybox", &other) && fits("*/*/busy*:1", &other));
        for pattern in ["busybox:2", "busy", "*/busybox", "quay.io/library/busybox"] {
            assert!(!fits(pattern, &busybox), "{pattern}");
        }
    }
}
