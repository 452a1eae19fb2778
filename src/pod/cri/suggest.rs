//! What was meant by a key that is not there.

use super::schema::{Field, Form};

/// A key as it is compared: `logDirectory`, `log-directory` and `Log_Directory` are the same.
fn bare(key: &str) -> Vec<char> {
    key.chars().filter(|c| !matches!(c, '_' | '-' | '.')).flat_map(char::to_lowercase).collect()
}

/// The name that is nearest to `key`, if any is near.
pub(super) fn nearest<'a>(key: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let key = bare(key);
    // A hostile key is not worth its square.
    if key.len() > 64 {
        return None;
    }
    let (distance, name) = names.map(|name| (distance(&key, &bare(name)), name)).min_by_key(|(distance, _)| *distance)?;
    (distance <= (key.len() / 3).max(1)).then_some(name)
}

/// The path of a field of that name anywhere else in the message `root`: it was written on a wrong level.
pub(super) fn elsewhere(key: &str, root: &'static [Field]) -> Option<String> {
    find(&bare(key), root, "")
}

fn find(key: &[char], fields: &'static [Field], path: &str) -> Option<String> {
    let at = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    if let Some((name, _)) = fields.iter().find(|(name, _)| bare(name) == key) {
        return Some(at(name));
    }
    fields.iter().find_map(|(name, form)| match form {
        Form::One(fields) => find(key, fields, &at(name)),
        Form::List(Form::One(fields)) => find(key, fields, &format!("{}[]", at(name))),
        _ => None,
    })
}

/// How many letters must be changed, added, left out or exchanged with their neighbour.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (at, from) in a.iter().enumerate() {
        let mut row = vec![at + 1];
        for (to_at, to) in b.iter().enumerate() {
            let changed = rows[at][to_at] + usize::from(from != to);
            let mut best = changed.min(rows[at][to_at + 1] + 1).min(row[to_at] + 1);
            if at > 0 && to_at > 0 && a[at - 1] == *to && b[to_at - 1] == *from {
                best = best.min(rows[at - 1][to_at - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
