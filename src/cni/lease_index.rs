//! The text of an index of leases: which addresses an owner may hold, for one state of a pool's directory.
//!
//! *Shape:* a header of fixed length, then `10.88.0.2 CONTAINERID eth0` or, in the old form, `10.88.0.2 CONTAINERID`, a line each. A line
//! may be of a lease that is gone, so whoever finds one looks into the lease; none is missing, so an owner without a line holds nothing.

use std::net::IpAddr;

use memchr::memmem;

/// Bytes of the header, its newline included.
pub const HEADER: usize = 192;
const MAGIC: &str = "rkbox-leases-1";

/// What an index is valid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Boot id: after a power cut a directory may be older than its index.
    pub boot: String,
    /// The state of the directory, one word; the next one is another.
    pub state: String,
    /// Bytes of the lines.
    pub size: u64,
    /// Bytes of the lines when it was built.
    pub built: u64,
}

impl Header {
    /// The header as it is written; `None` when it does not fit.
    pub fn text(&self) -> Option<String> {
        let text = format!("{MAGIC} {} {} {} {}", self.boot, self.state, self.size, self.built);
        (text.len() < HEADER).then(|| format!("{text:<0$}\n", HEADER - 1))
    }

    /// Reads a header; `None` when it is none.
    pub fn parse(bytes: &[u8]) -> Option<Header> {
        let text = std::str::from_utf8(bytes.get(..HEADER)?).ok()?.strip_suffix('\n')?;
        let [MAGIC, boot, state, size, built] = text.split_whitespace().collect::<Vec<_>>()[..] else { return None };
        Some(Header { boot: boot.to_owned(), state: state.to_owned(), size: size.parse().ok()?, built: built.parse().ok()? })
    }
}

/// The line of a lease; `None` for a content that no owner's can equal.
pub fn line(address: IpAddr, content: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(content).ok()?.trim();
    let (owner, ifname) = text.split_once("\r\n").map_or((text, None), |(owner, ifname)| (owner, Some(ifname)));
    if !is_word(owner) || !ifname.is_none_or(is_word) {
        return None;
    }
    Some(ifname.map_or_else(|| format!("{address} {owner}\n"), |ifname| format!("{address} {owner} {ifname}\n")))
}

/// Whether a text can stand in a line.
pub fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| !c.is_whitespace() && !c.is_control())
}

/// The addresses that `owner` may hold for `ifname`, in either form; both must be words.
pub fn find(lines: &[u8], owner: &str, ifname: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for end in [format!(" {owner} {ifname}\n"), format!(" {owner}\n")] {
        for at in memmem::find_iter(lines, end.as_bytes()) {
            let begin = memchr::memrchr(b'\n', &lines[..at]).map_or(0, |newline| newline + 1);
            let address = std::str::from_utf8(&lines[begin..at]).ok().and_then(|text| text.parse().ok());
            found.extend(address.filter(|address| !found.contains(address)));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cni::lease_file::{self, Match};
    use crate::ids::IfName;

    #[test]
    fn a_header_is_read_as_it_was_written_and_nothing_else_is() {
        let header = Header { boot: "b-1".into(), state: "8.1.2.3".into(), size: 17, built: 4 };
        let text = header.text().unwrap();
        assert_eq!(text.len(), HEADER);
        assert_eq!(Header::parse(text.as_bytes()), Some(header.clone()));
        assert_eq!(Header::parse(&text.as_bytes()[..HEADER - 1]), None);
        for garbage in
            [text.replace("leases-1", "leases-2"), text.replace(" 17 ", " x "), text.replace(" 17 ", " 17 17 "), "\0".repeat(HEADER)]
        {
            assert_eq!(Header::parse(garbage.as_bytes()), None, "{garbage}");
        }
        assert_eq!(Header { state: "x".repeat(HEADER), ..header }.text(), None);
    }

    #[test]
    fn owners_are_not_taken_for_others() {
        let lines = b"10.0.0.2 web eth0\n10.0.0.3 web eth1\n10.0.0.4 web2 eth0\nfd00::2 web eth0\n10.0.0.5 old\n10.0.0.6 web\nx web eth0\n";
        let ips = |owner, ifname| find(lines, owner, ifname).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(ips("web", "eth0"), ["10.0.0.2", "fd00::2", "10.0.0.6"]);
        assert_eq!(ips("web2", "eth0"), ["10.0.0.4"]);
        assert_eq!(ips("old", "eth7"), ["10.0.0.5"]);
        assert!(ips("eb", "eth0").is_empty() && ips("web2", "eth").is_empty() && ips("10.0.0.2", "web").is_empty());
    }

    proptest! {
        /// What a lease says of an owner and what its line says are the same, whatever is in the file.
        #[test]
        fn no_lease_is_missing(content in "[ a\\r\\n\t]{0,3}(a|b|a\\.a)?(\\r\\n|\\n| )?(eth0|eth1| )?[ \\n]{0,2}") {
            let address: IpAddr = "10.0.0.2".parse().unwrap();
            let lines = format!("10.0.0.9 z eth0\n{}", line(address, content.as_bytes()).unwrap_or_default());
            for owner in ["a", "b", "a.a"] {
                for ifname in ["eth0", "eth1"] {
                    let ifname: IfName = ifname.parse().unwrap();
                    let holds = lease_file::compare(content.as_bytes(), owner, &ifname) != Match::Other;
                    prop_assert_eq!(holds, !find(lines.as_bytes(), owner, ifname.as_ref()).is_empty(), "{:?} {} {}", content, owner, ifname);
                }
            }
        }

        #[test]
        fn garbage_is_searched_without_harm(lines in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = find(&lines, "a", "b");
            let _ = Header::parse(&lines);
        }
    }
}
