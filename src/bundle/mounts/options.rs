//! How a thing is mounted: the option words that `-v`, `--mount` and `--tmpfs` share.

use super::Access;
use crate::fault::{Fault, Result};

/// Whether mounts made on one side of a bind mount appear on the other. *Source:* mount_namespaces(7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// Neither way, the default.
    #[default]
    Private,
    /// From the host into the container.
    Slave,
    /// Both ways; the source must be on a shared mount.
    Shared,
}

/// Whether what is mounted below the source comes too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// It does (`rbind`), the default.
    #[default]
    Below,
    /// The source alone (`bind`).
    Alone,
}

/// The label that an SELinux host would give to the content (`z`, `Z`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relabel {
    /// Many containers may use it.
    Shared,
    /// This container alone may.
    Private,
}

/// All that can be said of one mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `ro`, `rro` or `rw`; `None` when nothing was said.
    pub access: Option<Access>,
    /// Propagation, and whether that goes for what is below too (the `r` of `rslave`).
    pub propagation: Option<(Propagation, Reach)>,
    /// `bind` or `rbind`.
    pub reach: Reach,
    /// `z` or `Z`.
    pub relabel: Option<Relabel>,
    /// `U`: the content is given to the user of the container.
    pub chown: bool,
    /// `nocopy`: a new volume does not get what the image has there.
    pub nocopy: bool,
    /// `exec`, `noexec`.
    pub exec: Option<bool>,
    /// `suid`, `nosuid`.
    pub suid: Option<bool>,
    /// `dev`, `nodev`.
    pub dev: Option<bool>,
    /// A path below the source.
    pub subpath: Option<String>,
    /// `size=`, `mode=` and their kin of a tmpfs, verbatim.
    pub data: Vec<String>,
}

impl Options {
    /// Takes in one word of an option list; `false` when it is none of them.
    ///
    /// *Errors:* a word that contradicts one before it (`ro` after `rw`), as Docker says.
    pub fn take(&mut self, word: &str) -> Result<bool> {
        let flag = |slot: &mut Option<bool>, value| set_once(slot, value, word);
        match word {
            "ro" | "readonly" => set_once(&mut self.access, Access::ReadOnly, word)?,
            "rro" => set_once(&mut self.access, Access::ReadOnlyBelow, word)?,
            "rw" => set_once(&mut self.access, Access::ReadWrite, word)?,
            "z" => set_once(&mut self.relabel, Relabel::Shared, word)?,
            "Z" => set_once(&mut self.relabel, Relabel::Private, word)?,
            "bind" => self.reach = Reach::Alone,
            "rbind" => self.reach = Reach::Below,
            "U" => self.chown = true,
            "nocopy" => self.nocopy = true,
            "copy" => self.nocopy = false,
            "exec" => flag(&mut self.exec, true)?,
            "noexec" => flag(&mut self.exec, false)?,
            "suid" => flag(&mut self.suid, true)?,
            "nosuid" => flag(&mut self.suid, false)?,
            "dev" => flag(&mut self.dev, true)?,
            "nodev" => flag(&mut self.dev, false)?,
            // What Docker Desktop makes of them has no meaning on Linux.
            "cached" | "delegated" | "consistent" | "default" => {}
            word => match propagation(word) {
                Some(said) => set_once(&mut self.propagation, said, word)?,
                None => return Ok(false),
            },
        }
        Ok(true)
    }

    /// What the mount lets be done: read and write unless told otherwise.
    pub fn access(&self) -> Access {
        self.access.unwrap_or(Access::ReadWrite)
    }

    /// The propagation, private for all below unless told otherwise.
    pub fn propagation(&self) -> (Propagation, Reach) {
        self.propagation.unwrap_or((Propagation::Private, Reach::Below))
    }

    /// The option words of a bind mount for the runtime.
    ///
    /// `nosuid` and `nodev` unless told otherwise, as podman: what a stranger put into a volume gains nothing there.
    /// *Errors:* `rro` with a propagation that lets writable mounts come in later.
    pub fn bind_words(&self) -> Result<Vec<String>> {
        let (propagation, below) = self.propagation();
        if self.access() == Access::ReadOnlyBelow && propagation != Propagation::Private {
            return Err(
                Fault::invalid("a mount that is read-only with all below it must be private").hint("use ro, or leave the propagation out")
            );
        }
        let word = match (propagation, below) {
            (Propagation::Private, Reach::Below) => "rprivate",
            (Propagation::Private, Reach::Alone) => "private",
            (Propagation::Slave, Reach::Below) => "rslave",
            (Propagation::Slave, Reach::Alone) => "slave",
            (Propagation::Shared, Reach::Below) => "rshared",
            (Propagation::Shared, Reach::Alone) => "shared",
        };
        let mut words = vec![if self.reach == Reach::Below { "rbind" } else { "bind" }, word];
        words.extend(match (self.access(), propagation, self.reach) {
            (Access::ReadWrite, ..) => ["rw"].as_slice(),
            // Since Docker 25 what is mounted below is read-only too, where nothing can come in later.
            (Access::ReadOnly, Propagation::Private, Reach::Below) | (Access::ReadOnlyBelow, ..) => &["ro", "rro"],
            (Access::ReadOnly | Access::ReadOnlyTop, ..) => &["ro"],
        });
        words.extend(self.flag_words(true));
        Ok(words.into_iter().map(str::to_owned).collect())
    }

    /// The option words of a tmpfs for the runtime: `noexec` too unless told otherwise, as Docker.
    pub fn tmpfs_words(&self) -> Vec<String> {
        let mut words: Vec<String> = self.flag_words(false).into_iter().map(str::to_owned).collect();
        words.push(if self.access() == Access::ReadWrite { "rw" } else { "ro" }.to_owned());
        if !self.data.iter().any(|word| word.starts_with("mode=")) {
            words.push("mode=1777".to_owned());
        }
        words.extend(self.data.iter().cloned());
        words
    }

    fn flag_words(&self, exec: bool) -> Vec<&'static str> {
        let mut words = Vec::new();
        if !self.suid.unwrap_or(false) {
            words.push("nosuid");
        }
        if !self.dev.unwrap_or(false) {
            words.push("nodev");
        }
        if !self.exec.unwrap_or(exec) {
            words.push("noexec");
        }
        words
    }
}

/// Reads a propagation word.
pub fn propagation(word: &str) -> Option<(Propagation, Reach)> {
    Some(match word {
        "private" => (Propagation::Private, Reach::Alone),
        "rprivate" => (Propagation::Private, Reach::Below),
        "slave" => (Propagation::Slave, Reach::Alone),
        "rslave" => (Propagation::Slave, Reach::Below),
        "shared" => (Propagation::Shared, Reach::Alone),
        "rshared" => (Propagation::Shared, Reach::Below),
        _ => return None,
    })
}

fn set_once<T: PartialEq>(slot: &mut Option<T>, value: T, word: &str) -> Result<()> {
    match slot {
        Some(known) if *known != value => Err(Fault::invalid(format!("the option {word} contradicts one before it"))),
        _ => {
            *slot = Some(value);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<Vec<String>> {
        let mut options = Options::default();
        for word in text.split(',').filter(|word| !word.is_empty()) {
            assert!(options.take(word)?, "{word}");
        }
        options.bind_words()
    }

    #[test]
    fn option_words_become_those_of_the_runtime() {
        for (said, made) in [
            ("", "rbind rprivate rw nosuid nodev"),
            ("rw,exec", "rbind rprivate rw nosuid nodev"),
            ("ro", "rbind rprivate ro rro nosuid nodev"),
            ("rro", "rbind rprivate ro rro nosuid nodev"),
            ("ro,rslave", "rbind rslave ro nosuid nodev"),
            ("ro,bind", "bind rprivate ro nosuid nodev"),
            ("rshared,noexec", "rbind rshared rw nosuid nodev noexec"),
            ("shared,suid,dev", "rbind shared rw"),
            ("bind,private,z,U,nocopy", "bind private rw nosuid nodev"),
        ] {
            assert_eq!(words(said).unwrap().join(" "), made, "{said}");
        }
        for bad in ["ro,rw", "rw,rro", "z,Z", "exec,noexec", "rshared,rslave", "rro,rslave"] {
            assert!(words(bad).is_err(), "{bad}");
        }
        assert!(!Options::default().take("O").unwrap());
        assert!(words("ro,ro").is_ok());
    }
}
