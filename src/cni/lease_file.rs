//! The content of a lease file: who holds an address.

use crate::ids::IfName;

/// What stands between the container id and the interface.
const BREAK: &str = "\r\n";

/// The text of a lease.
///
/// *Shape:* `containerID\r\nifname`, no newline at the end. *Source:* host-local `disk.Store.Reserve`.
pub fn content(owner: &str, ifname: &IfName) -> String {
    format!("{}{BREAK}{ifname}", owner.trim())
}

/// How a lease file names an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Match {
    /// By container id and interface.
    Exact,
    /// By container id alone, as versions before 0.8.3 wrote it.
    OldForm,
    /// It does not.
    Other,
}

/// Compares the content of a file with an owner; white space around the content does not count.
///
/// *Source:* host-local `disk.Store.GetByID` (`TrimSpace` of the content, then equality).
pub fn compare(file: &[u8], owner: &str, ifname: &IfName) -> Match {
    let Ok(text) = std::str::from_utf8(file) else { return Match::Other };
    let text = text.trim();
    let owner = owner.trim();
    match text.strip_prefix(owner) {
        Some("") if !owner.is_empty() => Match::OldForm,
        Some(rest) if rest.strip_prefix(BREAK) == Some(ifname.as_ref()) => Match::Exact,
        _ => Match::Other,
    }
}

/// The owner and interface that a lease file names, for people; `None` when it names nobody.
pub fn holder(file: &[u8]) -> Option<(String, Option<String>)> {
    let text = std::str::from_utf8(file).ok()?.trim();
    let mut lines = text.lines().map(str::trim);
    let owner = lines.next().filter(|owner| !owner.is_empty())?;
    Some((owner.to_owned(), lines.next().map(str::to_owned)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_forms_and_white_space_match_as_upstream_matches_them() {
        let eth0: IfName = "eth0".parse().unwrap();
        assert_eq!(content("web", &eth0), "web\r\neth0");
        let cases: [(&[u8], Match); 11] = [
            (b"web\r\neth0", Match::Exact),
            (b"  web\r\neth0\n", Match::Exact),
            (b"web", Match::OldForm),
            (b"web\n", Match::OldForm),
            (b"web\neth0", Match::Other),
            (b"web\r\neth1", Match::Other),
            (b"web2\r\neth0", Match::Other),
            (b"we", Match::Other),
            (b"web\r\neth0 x", Match::Other),
            (b"", Match::Other),
            (b"\xff\xfe", Match::Other),
        ];
        for (file, expected) in cases {
            assert_eq!(compare(file, "web", &eth0), expected, "{file:?}");
        }
    }

    #[test]
    fn the_holder_is_read_from_any_form() {
        assert_eq!(holder(b"web\r\neth0"), Some(("web".to_owned(), Some("eth0".to_owned()))));
        assert_eq!(holder(b"web"), Some(("web".to_owned(), None)));
        assert_eq!(holder(b" \n"), None);
    }
}
