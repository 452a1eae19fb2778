//! What is known against versions of runc, as far as a hostile image could use it.

/// A weakness and the versions that have it no more.
#[derive(Clone, Copy, Debug)]
pub struct Advisory {
    /// Its CVE number.
    pub id: &'static str,
    /// What it lets an image do.
    pub what: &'static str,
    /// The first release of each line that has the fix, oldest line first.
    pub fixed: &'static [(u32, u32, u32)],
}

/// *Source:* the advisories of opencontainers/runc. Older than two years: only those that matter on what distributions still ship.
pub const OF_RUNC: [Advisory; 7] = [
    Advisory { id: "CVE-2023-28642", what: "/proc of an image as a link passes by AppArmor", fixed: &[(1, 1, 5)] },
    Advisory { id: "CVE-2024-21626", what: "a leaked descriptor as working directory", fixed: &[(1, 1, 12)] },
    Advisory { id: "CVE-2024-45310", what: "empty files and directories made on the host", fixed: &[(1, 1, 14)] },
    Advisory { id: "CVE-2025-31133", what: "masked paths through a replaced /dev/null", fixed: &[(1, 2, 8), (1, 3, 3)] },
    Advisory { id: "CVE-2025-52565", what: "/dev/console mounted where a link leads", fixed: &[(1, 2, 8), (1, 3, 3)] },
    Advisory { id: "CVE-2025-52881", what: "writes to /proc led elsewhere", fixed: &[(1, 2, 8), (1, 3, 3)] },
    Advisory { id: "CVE-2026-41579", what: "links made and files removed through /dev as a link", fixed: &[(1, 3, 6), (1, 4, 3)] },
];

/// Reads the version of `runc --version` (`runc version 1.1.5+ds1`); `None` for another runtime.
pub fn version_of_runc(line: &str) -> Option<(u32, u32, u32)> {
    let text = line.strip_prefix("runc version ")?.trim();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(|word| word.parse::<u32>().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

/// Lists the advisories that a version has by its number; a distribution may have mended some without changing it.
pub fn against(version: (u32, u32, u32)) -> impl Iterator<Item = &'static Advisory> {
    OF_RUNC.iter().filter(move |advisory| !is_fixed(version, advisory.fixed))
}

/// A release has a fix when its own line got it before, or when it is of a line younger than the last one that needed it.
fn is_fixed(version: (u32, u32, u32), fixed: &[(u32, u32, u32)]) -> bool {
    let (major, minor, patch) = version;
    match fixed.iter().find(|(m, n, _)| (*m, *n) == (major, minor)) {
        Some((_, _, first)) => patch >= *first,
        None => fixed.last().is_some_and(|(m, n, _)| (major, minor) > (*m, *n)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(line: &str) -> Vec<&'static str> {
        against(version_of_runc(line).unwrap()).map(|advisory| advisory.id).collect()
    }

    #[test]
    fn a_version_has_what_its_line_has_not_mended() {
        assert_eq!(ids("runc version 1.1.5+ds1").len(), 6);
        assert_eq!(ids("runc version 1.1.15"), ["CVE-2025-31133", "CVE-2025-52565", "CVE-2025-52881", "CVE-2026-41579"]);
        assert_eq!(ids("runc version 1.2.8"), ["CVE-2026-41579"]);
        assert_eq!(ids("runc version 1.3.5"), ["CVE-2026-41579"]);
        assert_eq!(ids("runc version 1.4.2"), ["CVE-2026-41579"]);
        for sound in ["runc version 1.3.6", "runc version 1.4.3", "runc version 1.5.0", "runc version 2.0.1"] {
            assert!(ids(sound).is_empty(), "{sound}");
        }
        assert_eq!(version_of_runc("crun version 1.8.1"), None);
    }
}
