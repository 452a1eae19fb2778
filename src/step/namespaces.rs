//! Makes new namespaces, each pinned by a bind mount.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fault::{Fault, Kind, Result};
use crate::idmap::IdMap;
use crate::script::{Script, quote};
use crate::step::{Action, Undone, Way};
use crate::sys::ns::{NsKind, Pins};
use crate::sys::{Errno, Host, file, ns};

use std::path::{Path, PathBuf};

/// Makes new namespaces, each pinned by a bind mount.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Namespaces {
    /// Pin of the network namespace.
    pub net: Option<PathBuf>,
    /// Pin of the IPC namespace.
    pub ipc: Option<PathBuf>,
    /// Pin of the UTS namespace.
    pub uts: Option<PathBuf>,
    /// Host name set inside the UTS namespace.
    pub hostname: Option<String>,
    /// A user namespace that owns the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<NewUser>,
}

/// A user namespace to be made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewUser {
    /// Its pin.
    pub path: PathBuf,
    /// Its ids.
    pub map: IdMap,
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "make namespaces")
    }
}

impl Namespaces {
    fn pins(&self) -> Pins<'_> {
        Pins {
            user: self.user.as_ref().map(|user| (user.path.as_path(), &user.map)),
            net: self.net.as_deref(),
            ipc: self.ipc.as_deref(),
            uts: self.uts.as_deref(),
            hostname: self.hostname.as_deref(),
        }
    }

    /// The name under which `ip netns` knows the network namespace, where the pin is in its directory.
    fn netns_name(&self) -> Option<String> {
        let path = self.net.as_deref()?;
        let is_there = path.parent().is_some_and(|dir| dir == Path::new("/run/netns") || dir == Path::new("/var/run/netns"));
        path.file_name().filter(|_| is_there).map(|name| name.to_string_lossy().into_owned())
    }

    /// The map is written from outside, which unshare(1) cannot do without entries in `/etc/subuid`: a process waits in the namespaces meanwhile.
    fn script_owned(&self, map: &IdMap, out: &mut Script) {
        let kinds: Vec<(&str, String)> =
            self.pins().each().map(|(kind, path)| (kind.file(), quote(&path.to_string_lossy()))).collect();
        let options = kinds.iter().map(|(name, _)| format!(" --{name}")).collect::<String>();
        out.raw(&format!("unshare{options} sleep 60 & holder=$!"));
        out.raw("until [ \"$(readlink /proc/$holder/ns/user)\" != \"$(readlink /proc/self/ns/user)\" ]; do sleep 0.05; done");
        for file in ["uid_map", "gid_map"] {
            out.raw(&format!("printf '{}' >/proc/$holder/{file}", map.kernel_text().replace('\n', "\\n")));
        }
        if let (Some(hostname), true) = (&self.hostname, self.uts.is_some()) {
            out.raw(&format!("nsenter --uts=/proc/$holder/ns/uts hostname {}", quote(hostname)));
        }
        for (name, path) in kinds {
            out.raw(&format!("mount --bind /proc/$holder/ns/{name} {path}"));
        }
        out.raw("kill $holder; wait $holder || true");
    }

    fn script_apply(&self, out: &mut Script) {
        let mut words = vec!["unshare".to_owned()];
        for (kind, path) in self.pins().each() {
            // unshare(1) binds onto files that are there; noclobber refuses one that is. Our mark is what the file says: `ip netns
            // add` would leave it empty, and a removal would take the namespace for somebody else's.
            let quoted = quote(&path.to_string_lossy());
            out.raw(&format!("(set -C; echo rkbox > {quoted}) && chmod 0444 {quoted}"));
            let option = match kind {
                NsKind::Net => "net",
                NsKind::Ipc => "ipc",
                NsKind::Uts => "uts",
                NsKind::Pid => "pid",
                NsKind::User => "user",
            };
            words.push(format!("--{option}={}", path.display()));
        }
        if let Some(user) = &self.user {
            return self.script_owned(&user.map, out);
        }
        match &self.hostname {
            Some(hostname) if self.uts.is_some() => words.extend(["hostname".to_owned(), hostname.clone()]),
            _ => words.push("true".to_owned()),
        }
        out.run(words);
    }
}

impl Action for Namespaces {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        for (kind, path) in self.pins().each() {
            if file::exists(path)? {
                let what = if ns::is_namespace(path, kind)? { "a namespace is" } else { "something that is no namespace is" };
                let fault = Fault::new(Kind::AlreadyExists, format!("{what} at {} already", path.display()));
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                return Err(match kind {
                    NsKind::Net => fault.hint(format!("use another name, or delete it: ip netns delete {name}")),
                    _ => fault.hint(format!("delete it: umount {0}; rm {0}", path.display())),
                });
            }
        }
        Ok(())
    }

    fn apply(&self, (): &(), _: &Host) -> Result<()> {
        ns::create_pinned(&self.pins()).map_err(|error| match error.errno() {
            Some(Errno::EEXIST) => Fault::from(error).of_kind(Kind::Conflict),
            _ => error.into(),
        })
    }

    /// The pins go, and with the last reference the namespaces and all links in them; the kernel does that some 50 ms later.
    fn undo(&self, (): &(), _: &Host) -> Result<Undone> {
        let mut first = Ok(Undone::Done);
        for (_, path) in self.pins().each() {
            if let Err(error) = ns::unpin(path) {
                first = first.and(Err(error.into()));
            }
        }
        first
    }

    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        if let Way::Apply = way {
            return self.script_apply(out);
        }
        let named = self.netns_name();
        if let Some(name) = &named {
            out.run_ignoring(["ip", "netns", "delete", name]);
        }
        for (_, path) in self.pins().each().filter(|(kind, _)| !(named.is_some() && *kind == NsKind::Net)) {
            let path = path.to_string_lossy();
            out.run_ignoring(["umount", "-l", &path]);
            out.run(["rm", "-f", &path]);
        }
    }
}
