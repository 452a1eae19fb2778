//! `rkbox image rm`: first the name goes, then what nobody needs any more, so that a crash leaves only garbage.

use super::RmArgs;
use super::store;
use super::sweep::{self, Use};
use crate::cmd::{Context, Format, carry, output};
use crate::fault::{Context as _, Fault, Faults, Kind, Result};
use crate::image::layout::{Descriptor, Index};
use crate::image::{Digest, Reference};
use crate::plan::reach;
use crate::script::Script;
use crate::sys::dir_lock::DirLock;
use crate::sys::{Host, file, store as disk};

/// What a removal did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names that are gone.
    pub untagged: Vec<Reference>,
    /// The id of the image, when that is gone too.
    pub deleted: Option<String>,
    /// Warnings for people.
    pub notes: Vec<String>,
}

/// Removes every image that is named; goes on after a failure and then answers the first.
pub fn run(cx: &Context, args: &RmArgs) -> Result<u8> {
    let (mut all, mut faults) = (Vec::new(), Faults::default());
    for text in &args.images {
        if args.explain {
            carry::show(&explain(&cx.host, text).doing(|| format!("cannot remove image {text:?}"))?);
            continue;
        }
        match remove(&cx.host, text).doing(|| format!("cannot remove image {text:?}")) {
            Ok(removed) => all.push(removed),
            Err(fault) => {
                faults.note(fault);
            }
        }
    }
    let objects = all.iter().map(|removed| serde_json::json!({"untagged": removed.untagged, "deleted": removed.deleted}));
    if cx.format == Format::Json && !args.explain {
        output::json(&objects.collect::<Vec<_>>())?;
    }
    for removed in &all {
        removed.notes.iter().for_each(|note| output::note(&format!("warning: {note}")));
        if cx.format == Format::Table {
            removed.untagged.iter().for_each(|reference| output::line(&format!("Untagged: {reference}")));
            removed.deleted.iter().for_each(|id| output::line(&format!("Deleted: {id}")));
        }
    }
    faults.or(0)
}

/// What a removal will do, decided under the lock of the index.
struct Removal {
    _held: DirLock,
    kept: Index,
    orphans: disk::Reach,
    needed: disk::Reach,
    uses: Vec<Use>,
    answer: Removed,
}

/// Removes one name of an image, or (by id) all; with the last name go its blobs and layers that no other image has.
///
/// *Errors:* `NotFound`; `FailedPrecondition` when a container uses the image and its last name would go.
pub fn remove(host: &Host, text: &str) -> Result<Removed> {
    let removal = decide(host, text)?;
    reach("remove", 0)?;
    disk::write_index(&host.images(), &removal.kept)?;
    reach("remove", 1)?;
    if removal.needed.broken.is_empty() {
        let trees = sweep::discard(host, &removal.orphans, &removal.needed, &removal.uses)?;
        drop(removal._held);
        reach("remove", 2)?;
        trees.iter().try_for_each(|tree| file::remove_tree(tree))?;
    }
    Ok(removal.answer)
}

/// The same as a script, from the store as it is now.
fn explain(host: &Host, text: &str) -> Result<Script> {
    let removal = decide(host, text)?;
    let mut script = Script::new();
    script.comment(&format!("remove image {text}"));
    script.blank();
    script.comment("take its names out of the index");
    let index = disk::index_path(&host.images()).to_string_lossy().into_owned();
    script.write_file(&index, 0o644, removal.kept.to_text().as_bytes());
    if removal.needed.broken.is_empty() {
        let (blobs, layers) = sweep::to_discard(host, &removal.orphans, &removal.needed, &removal.uses);
        script.blank();
        script.comment("remove the blobs and layers that nobody needs any more");
        blobs.iter().for_each(|blob| script.run(["rm", "-f", &blob.to_string_lossy()]));
        layers.iter().for_each(|layer| script.run(["rm", "-rf", "--one-file-system", &layer.to_string_lossy()]));
    }
    Ok(script)
}

fn decide(host: &Host, text: &str) -> Result<Removal> {
    let images = host.images();
    let missing = || Fault::not_found(format!("image {text:?} is not in the store")).hint("rkbox image ls lists what is there");
    let Some(held) = disk::lock_index(&images)? else { return Err(missing()) };
    let index = disk::find_index(&images)?.ok_or_else(missing)?;
    let chosen = choose(host, text, index.entries())?;
    let id_of = |entry: &Descriptor| store::open(host, entry).ok().map(|image| image.id);
    let id = chosen.iter().find_map(|&nth| id_of(&index.entries()[nth]));
    let stays = |nth: &usize| !chosen.contains(nth);
    let rest: Vec<usize> = (0..index.entries().len()).filter(stays).collect();
    let last =
        id.is_none() || !rest.iter().any(|&nth| store::reference_of(&index.entries()[nth]).is_some() && id_of(&index.entries()[nth]) == id);
    // With the last name go the entries without one.
    let rest: Vec<usize> = rest.into_iter().filter(|&nth| !last || id.is_none() || id_of(&index.entries()[nth]) != id).collect();
    let uses = sweep::uses(host)?;
    if last && let Some(id) = &id {
        refuse_used(id, &uses)?;
    }
    let pick = |list: &[usize]| list.iter().filter_map(|&nth| index.raw_entries().get(nth).cloned()).collect::<Vec<_>>();
    let gone: Vec<usize> = (0..index.entries().len()).filter(|nth| !rest.contains(nth)).collect();
    let (kept, removed) = (index.with_entries(pick(&rest))?, index.with_entries(pick(&gone))?);
    let orphans = disk::Reach::of(&images, &removed)?;
    let needed = disk::Reach::of(&images, &kept)?;
    let untagged = gone.iter().filter_map(|&nth| store::reference_of(&index.entries()[nth])).collect();
    let mut answer = Removed { untagged, deleted: id.filter(|_| last), notes: Vec::new() };
    if !needed.broken.is_empty() {
        answer.notes.clone_from(&needed.broken);
        answer.notes.push("blobs and layers stay, because not all of the other images can be read".to_owned());
    }
    Ok(Removal { _held: held, kept, orphans, needed, uses, answer })
}

/// The entries that `text` speaks of: those of a name, or all of an id.
fn choose(host: &Host, text: &str, entries: &[Descriptor]) -> Result<Vec<usize>> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if Digest::from_hex(digits).is_none()
        && let Ok(reference) = text.parse::<Reference>()
    {
        let repository = |entry: &Descriptor| store::reference_of(entry).map(|known| known.repository());
        let fits = |entry: &Descriptor| match reference.digest() {
            Some(digest) => entry.digest == *digest && repository(entry) == Some(reference.repository()),
            None => store::reference_of(entry).as_ref() == Some(&reference),
        };
        let found: Vec<usize> = (0..entries.len()).filter(|&nth| fits(&entries[nth])).collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    // An entry that cannot be read any more still goes by the digest of its manifest.
    let by_manifest = |nth: &usize| Digest::from_hex(digits).is_some_and(|digest| entries[*nth].digest == digest);
    let direct: Vec<usize> = (0..entries.len()).filter(by_manifest).collect();
    if !direct.is_empty() {
        return Ok(direct);
    }
    let image = store::find(host, text)?;
    Ok((0..entries.len()).filter(|&nth| store::open(host, &entries[nth]).is_ok_and(|other| other.id == image.id)).collect())
}

fn refuse_used(id: &str, uses: &[Use]) -> Result<()> {
    let users: Vec<&str> = uses.iter().filter(|used| used.image_id == id).map(|used| used.container.as_str()).collect();
    let Some(first) = users.first() else { return Ok(()) };
    let more = if users.len() > 1 { format!(" and {} more", users.len() - 1) } else { String::new() };
    Err(Fault::new(Kind::FailedPrecondition, format!("image is used by container {first:?}{more}")).hint(format!("rkbox rm {first}")))
}
