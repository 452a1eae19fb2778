//! Changes lines of the hosts file of a box, in place.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Action, Undone, Way};
use crate::fault::Result;
use crate::script::{Script, quote};
use crate::sys::{Host, file};

/// A hosts file larger than this was filled by somebody else, and is left alone.
const LIMIT: u64 = 1 << 20;

/// Changes lines of the hosts file of a box, in place: those who have it mounted see it. A line that is not there any more is not missed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostsLines {
    /// The file.
    pub path: PathBuf,
    /// Lines as they are and as they become, without their ends.
    pub lines: Vec<(String, String)>,
}

impl fmt::Display for HostsLines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "change the own names in {}", self.path.display())
    }
}

impl HostsLines {
    /// The lines as they are and as they become, on the way there or back.
    fn pairs(&self, applies: bool) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().map(move |(from, to)| if applies { (from.as_str(), to.as_str()) } else { (to.as_str(), from.as_str()) })
    }

    fn replace(&self, applies: bool) -> Result<()> {
        let Some(text) = file::find(&self.path, LIMIT)? else { return Ok(()) };
        let text = String::from_utf8_lossy(&text);
        let new = |line: &str| self.pairs(applies).find(|(old, _)| line == *old).map_or(line, |(_, new)| new).to_owned();
        let changed: String = text
            .split_inclusive('\n')
            .map(|line| match line.strip_suffix('\n') {
                Some(line) => new(line) + "\n",
                None => new(line),
            })
            .collect();
        if changed != text { Ok(file::write_in_place(&self.path, changed.as_bytes())?) } else { Ok(()) }
    }
}

/// A line as a pattern of sed that fits nothing else.
fn pattern(line: &str) -> String {
    line.chars().fold(String::new(), |mut all, c| {
        if ".[]*^$/\\".contains(c) {
            all.push('\\');
        }
        all.push(c);
        all
    })
}

impl Action for HostsLines {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        Ok(())
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        self.replace(true)
    }

    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        self.replace(false)?;
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let path = quote(&self.path.to_string_lossy());
        let command = |(old, new): (&str, &str)| format!("-e {}", quote(&format!("s/^{}$/{}/", pattern(old), pattern(new))));
        let commands: Vec<String> = self.pairs(matches!(way, Way::Apply)).map(command).collect();
        if !commands.is_empty() {
            out.raw("# in place: containers have the file mounted");
            out.raw(&format!("if [ -e {path} ]; then changed=$(sed {} {path}); printf '%s\\n' \"$changed\" >{path}; fi", commands.join(" ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;
    use crate::step::test_world::sh;

    #[test]
    fn changed_lines_obey_the_laws() {
        let world = tempfile::tempdir().unwrap();
        let (host, path) = (Host::below(world.path()), world.path().join("hosts"));
        let old = "127.0.0.1\tlocalhost\n10.88.0.2\tweb old\n10x88.0.2\tweb old\nfd00::2\tweb old\n# 10.88.0.2\tweb old\n";
        let new = "127.0.0.1\tlocalhost\n10.88.0.2\tweb new\n10x88.0.2\tweb old\nfd00::2\tweb new\n# 10.88.0.2\tweb old\n";
        let lines = ["10.88.0.2", "fd00::2"].map(|address| (format!("{address}\tweb old"), format!("{address}\tweb new")));
        let step = HostsLines { path: path.clone(), lines: lines.to_vec() };
        // What is not there is not missed.
        step.apply(&(), &host).unwrap();
        step.undo(&(), &host).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, old).unwrap();
        let inode = std::fs::metadata(&path).unwrap().ino();
        let seen = || std::fs::read_to_string(&path).unwrap();
        for (act, text) in [(true, new), (true, new), (false, old), (false, old)] {
            if act {
                step.apply(&(), &host).unwrap();
            } else {
                step.undo(&(), &host).unwrap();
            }
            assert_eq!(seen(), text);
        }
        for (way, text) in [(Way::Apply, new), (Way::Undo(&()), old), (Way::Undo(&()), old)] {
            let mut script = Script::new();
            step.script(way, &mut script);
            sh(script.as_str());
            assert_eq!(seen(), text);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode);
    }
}
