//! Differences between sorted facts, for people.

use super::observation::Fact;

/// `- what: how` for what only `before` has, `+ what: how` for what only `after` has.
pub fn lines(before: &[Fact], after: &[Fact]) -> Vec<String> {
    let (mut left, mut right) = (before.iter().peekable(), after.iter().peekable());
    let mut found = Vec::new();
    loop {
        let order = match (left.peek(), right.peek()) {
            (None, None) => return found,
            (Some(_), None) => std::cmp::Ordering::Less,
            (None, Some(_)) => std::cmp::Ordering::Greater,
            (Some(a), Some(b)) => a.cmp(b),
        };
        match order {
            std::cmp::Ordering::Less => found.extend(left.next().map(|fact| line('-', fact))),
            std::cmp::Ordering::Greater => found.extend(right.next().map(|fact| line('+', fact))),
            std::cmp::Ordering::Equal => {
                left.next();
                right.next();
            }
        }
    }
}

fn line(sign: char, (key, value): &Fact) -> String {
    if value.is_empty() { format!("{sign} {key}") } else { format!("{sign} {key}: {value}") }
}

/// The first 60 lines of difference.
pub fn text(before: &[Fact], after: &[Fact]) -> String {
    let all = lines(before, after);
    let more = if all.len() > 60 { format!("\n  … and {} more", all.len() - 60) } else { String::new() };
    let shown: Vec<String> = all.iter().take(60).map(|line| format!("  {line}")).collect();
    format!("{}{more}", shown.join("\n"))
}
