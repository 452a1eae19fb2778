//! Puts damaged files of an unpacked layer back as they were.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::fault::{Context as _, Fault, Kind, Result};
use crate::image::file_list::parse_path_text;
use crate::image::layer::read_layer;
use crate::image::layer_stamp::{LIST, TREE};
use crate::script::{Script, quote};
use crate::sys::tree_partial::{self, Partial};
use crate::sys::tree_repair::{self, Damage, Wanted};
use crate::sys::tree_verify::Flaw;
use crate::sys::{Host, mount, tree};

use super::layer::{Layer, LayerBefore, within_room};
use super::{Action, Undone, Way};

/// Puts damaged files of an unpacked layer back as they were.
///
/// Attributes, links and whiteouts come from the list beside the layer, contents from its blob, where they are known by their
/// digests; a file is whole before it takes its name. Without a list that can be trusted (`damages` is empty) the layer is unpacked
/// again. There is no way back: nobody wants the damage again, and what a killed repair has mended stays so. *Errors:*
/// `FailedPrecondition` while the layer is mounted, because overlayfs does not bear changes below it; `DataLoss` when a blob is
/// damaged too.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Repair {
    /// The layer.
    pub layer: Layer,
    /// The layers below it, highest first: files that the layer only links to are in their blobs.
    pub below: Vec<Layer>,
    /// What is wrong; empty when that cannot be known.
    pub damages: Vec<Damage>,
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.damages.len() {
            0 => write!(f, "unpack layer {} again", self.layer.diff_id),
            count => write!(f, "repair {count} files of layer {}", self.layer.diff_id),
        }
    }
}

impl Repair {
    fn check_unused(&self) -> Result<()> {
        let tree = self.layer.path.join(TREE);
        let uses = |row: &mount::MountRow| row.kind == "overlay" && row.options.contains(&*tree.to_string_lossy());
        let Some(row) = mount::list()?.into_iter().find(uses) else { return Ok(()) };
        let message = format!("layer {} is mounted on {}", self.layer.diff_id, row.target.display());
        Err(Fault::new(Kind::FailedPrecondition, message)
            .hint("overlayfs does not bear changes below a mount: remove the containers of the image and unmount it, then repair"))
    }

    fn again(&self, host: &Host) -> Result<()> {
        self.check_unused()?;
        tree_partial::discard(&self.layer.path)?;
        let blob = tree::open_blob(&self.layer.blob, 0)?;
        let below = Box::new(|| super::layer::overlay_lowers(&self.layer.lowers));
        self.layer.apply_from(&LayerBefore::default(), blob, below, host.keep_free)
    }

    fn mend(&self, host: &Host) -> Result<()> {
        let found = self.damages.iter().map(Damage::finding);
        let repair = tree_repair::Repair::of(&self.layer.path.join(LIST), &found.collect::<Result<Vec<_>>>()?)?;
        let spool = Partial::create(&self.layer.path)?;
        let mut wanted = repair.wanted();
        for layer in std::iter::once(&self.layer).chain(&self.below) {
            if !wanted.is_empty() {
                gather(layer, &mut wanted, &spool, host).doing(|| format!("reading blob {}", layer.digest))?;
            }
        }
        if !wanted.is_empty() {
            return Err(Fault::new(Kind::DataLoss, format!("{} contents are in no blob of the image", wanted.len())));
        }
        self.check_unused()?;
        repair.carry_out(&self.layer.path.join(TREE), spool.path())
    }
}

fn gather(layer: &Layer, wanted: &mut Wanted, spool: &Partial, host: &Host) -> Result<()> {
    let blob = tree::open_blob(&layer.blob, 0)?;
    within_room(spool.path(), host.keep_free, |limits| {
        read_layer(blob, &layer.claim(), limits, |reader| tree_repair::gather(reader, wanted, spool.path()))
    })
}

impl Action for Repair {
    type Before = ();

    fn look(&self, _: &Host) -> Result<()> {
        self.check_unused()
    }

    fn apply(&self, _: &(), host: &Host) -> Result<()> {
        if self.damages.is_empty() { self.again(host) } else { self.mend(host) }
    }

    fn undo(&self, _: &(), _: &Host) -> Result<Undone> {
        tree_partial::remove_dead_of(&self.layer.path)?;
        Ok(Undone::Done)
    }

    /// Prints an unpacking aside, from which the damaged paths are taken; names that are not UTF-8 are not understood.
    fn script(&self, way: Way<'_, ()>, out: &mut Script) {
        let Way::Apply = way else { return out.comment("nobody wants the damage again") };
        let path = self.layer.path.to_string_lossy().into_owned();
        if self.damages.is_empty() {
            out.run(["rm", "-rf", "--", &path]);
            return self.layer.script(Way::Apply, out);
        }
        let aside = Layer { path: self.layer.path.with_extension("repair"), ..self.layer.clone() };
        aside.script(Way::Apply, out);
        let fresh = aside.path.join(TREE).to_string_lossy().into_owned();
        let (tree, mut paths, mut links) = (format!("{path}/{TREE}"), vec![".".to_owned()], Vec::new());
        for damage in &self.damages {
            let name = plain(&damage.path);
            self.clear_in_shell(damage, &format!("{tree}/{name}"), out);
            // The times of the directories above change with what is in them.
            paths.extend(name.match_indices('/').map(|(at, _)| name[..at].to_owned()));
            match &damage.link_of {
                Some(of) => links.push((plain(of), name)),
                None if damage.flaw == Flaw::Extra => {}
                None => paths.push(name),
            }
        }
        paths.sort();
        paths.dedup();
        let names = paths.iter().map(|name| quote(name)).collect::<Vec<_>>().join(" ");
        let tar = "tar --numeric-owner --xattrs --xattrs-include='*'";
        out.raw(&format!("{tar} --no-recursion -C {} -cf - -- {names} | {tar} -xpf - -C {}", quote(&fresh), quote(&tree)));
        for (of, name) in links {
            out.run(["ln", "-f", "--", &format!("{tree}/{of}"), &format!("{tree}/{name}")]);
        }
        // tar sets the times of directories before it is done with them, and lets new ones inherit setgid.
        let (fresh, tree) = (quote(&fresh), quote(&tree));
        out.raw(&format!("for name in {names}; do"));
        out.raw(&format!("  [ -L {tree}/\"$name\" ] || [ ! -d {tree}/\"$name\" ] ||"));
        out.raw(&format!("    chmod \"0$(stat -c %04a {fresh}/\"$name\")\" {tree}/\"$name\""));
        out.raw(&format!("  touch -h -r {fresh}/\"$name\" {tree}/\"$name\""));
        out.raw("done");
        out.run(["rm", "-rf", "--", &aside.path.to_string_lossy()]);
    }
}

impl Repair {
    /// Takes away what tar would leave.
    fn clear_in_shell(&self, damage: &Damage, at: &str, out: &mut Script) {
        match damage.flaw {
            Flaw::Extra | Flaw::Type | Flaw::HardLink | Flaw::Target | Flaw::Device => out.run(["rm", "-rf", "--", at]),
            Flaw::Xattrs => {
                out.raw(&format!("getfattr --absolute-names -m - {} | grep -v '^#' | while IFS= read -r attribute; do", quote(at)));
                out.raw(&format!("  [ -z \"$attribute\" ] || setfattr -x \"$attribute\" {}", quote(at)));
                out.raw("done");
            }
            _ => {}
        }
    }
}

/// A path of a list as the shell has it.
fn plain(text: &str) -> String {
    let path = parse_path_text(text).map_or_else(|_| text.to_owned(), |path| String::from_utf8_lossy(path.as_bytes()).into_owned());
    if path.is_empty() { ".".to_owned() } else { path }
}
