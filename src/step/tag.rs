//! Points a reference at a manifest in the index of the image store.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Action, Undone, Way};
use crate::fault::{Context, Fault, Kind, Result};
use crate::image::layout::{Descriptor, Index, REF_NAME, ref_name};
use crate::image::{Config, Manifest, entry, manifest};
use crate::script::{Script, quote};
use crate::sys::{Host, file, store};

/// Points a reference at a manifest in the index of the image store.
///
/// An image that loses its last name to another one stays in the index without a name, so that what runs on it keeps its layers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tag {
    /// The OCI layout of the store.
    pub store: PathBuf,
    /// `docker.io/library/busybox:latest`; empty for an image without a name.
    pub reference: String,
    /// The descriptor, as JSON text.
    pub manifest: String,
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.reference.is_empty() { f.write_str("keep an image without a name") } else { write!(f, "tag {}", self.reference) }
    }
}

/// What the store said of the reference.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The entry of the reference, or (without a reference) the entry of the manifest.
    pub entry: Option<Value>,
    /// Whether nothing else in the index leads to the manifest of that entry.
    #[serde(default)]
    pub alone: bool,
    /// Whether `index.json` was there.
    pub index: bool,
    /// Whether `oci-layout` was there.
    pub marker: bool,
}

impl Tag {
    /// The entry as it is written: the descriptor and its annotations, with the reference among them.
    fn entry(&self) -> Result<Value> {
        let entry: Value = serde_json::from_str(&self.manifest).map_err(|error| Fault::internal(error.to_string()))?;
        Ok(if self.reference.is_empty() { entry } else { entry::with_name(entry, Some(&self.reference)) })
    }

    fn find<'a>(&self, index: &'a Index, entry: &Value) -> Option<&'a Value> {
        match self.reference.as_str() {
            "" => index.raw_entries().iter().find(|known| known["digest"] == entry["digest"]),
            reference => index.find_tagged(reference),
        }
    }

    /// Refuses to name an image that is not whole: a sweep or a rollback may have taken a blob since it was planned.
    fn check_whole(&self, descriptor: &Descriptor, host: &Host) -> Result<()> {
        let gone = |what: String| Fault::new(Kind::Conflict, format!("{what} is not in the store any more"));
        let document = |descriptor: &Descriptor| {
            store::read_document(&self.store, descriptor).map_err(|fault| match fault.kind() {
                Kind::NotFound => gone(format!("blob {}", descriptor.digest)),
                _ => fault,
            })
        };
        let manifest = Manifest::named(&document(descriptor)?, descriptor.digest.clone())?;
        let config = Config::parse(&document(&manifest.config)?)?;
        config.check_against(&manifest)?;
        for layer in &manifest.layers {
            if store::find_blob_size(&layer.digest.blob(&self.store))? != Some(layer.size) {
                return Err(gone(format!("blob {}", layer.digest)));
            }
        }
        for chain in config.chain_ids() {
            if !file::exists(&host.layers().join(chain.hex()))? {
                return Err(gone(format!("layer {chain}")));
            }
        }
        Ok(())
    }

    fn place(&self, index: &Index, entry: &Value) -> Vec<Value> {
        let mut entries = index.raw_entries().to_vec();
        let place = if self.reference.is_empty() { None } else { entries.iter().position(|known| ref_name(known) == Some(&self.reference)) };
        let Some(place) = place else {
            entries.push(entry.clone());
            return entries;
        };
        let old = std::mem::replace(&mut entries[place], entry.clone());
        if !entries.iter().any(|known| known["digest"] == old["digest"]) {
            entries.push(entry::with_name(old, None));
        }
        entries
    }

    fn take_back(&self, index: &Index, before: &Before, entry: &Value) -> Option<Vec<Value>> {
        let mut entries = index.raw_entries().to_vec();
        let place = entries.iter().position(|known| known == entry)?;
        match (&before.entry, self.reference.is_empty()) {
            // Another step or tool made it.
            (Some(_), true) => return None,
            (Some(old), false) => {
                entries[place] = old.clone();
                let nameless = entry::with_name(old.clone(), None);
                if before.alone && entries.last() == Some(&nameless) {
                    entries.pop();
                }
            }
            (None, _) => {
                entries.remove(place);
            }
        }
        Some(entries)
    }
}

impl Action for Tag {
    type Before = Before;

    fn look(&self, _host: &Host) -> Result<Before> {
        let index = store::find_index(&self.store)?;
        let mine = self.entry()?;
        let entry = index.as_ref().and_then(|index| self.find(index, &mine)).cloned();
        let others = |old: &Value| index.iter().flat_map(Index::raw_entries).filter(|known| known["digest"] == old["digest"]).count();
        let alone = entry.as_ref().is_some_and(|old| others(old) == 1 && old["digest"] != mine["digest"]);
        Ok(Before { alone, index: index.is_some(), marker: file::exists(&self.store.join("oci-layout"))?, entry })
    }

    fn already(&self, before: &Before) -> bool {
        let same = |known: &Value| {
            self.reference.is_empty() || self.entry().is_ok_and(|mine| entry::essence(mine) == entry::essence(known.clone()))
        };
        before.marker && before.entry.as_ref().is_some_and(same)
    }

    fn apply(&self, before: &Before, host: &Host) -> Result<()> {
        let mine = self.entry()?;
        let descriptor = manifest::descriptor(&mine)?;
        let gone = || Fault::new(Kind::Conflict, format!("{} is not there any more", self.store.display()));
        let _held = store::lock_index(&self.store)?.ok_or_else(gone)?;
        self.check_whole(&descriptor, host).doing(|| format!("checking image {}", descriptor.digest))?;
        let index = store::find_index(&self.store)?.unwrap_or_else(Index::empty);
        if self.find(&index, &mine) != before.entry.as_ref() {
            return Err(Fault::new(Kind::Conflict, format!("{:?} was tagged by another command", self.reference)));
        }
        if !before.marker {
            file::write_atomic(&self.store.join("oci-layout"), 0o644, store::MARKER.as_bytes(), file::Durable::Yes)?;
        }
        if self.reference.is_empty() && before.entry.is_some() {
            return Ok(());
        }
        store::write_index(&self.store, &index.with_entries(self.place(&index, &mine))?)
    }

    fn undo(&self, before: &Before, _host: &Host) -> Result<Undone> {
        let Some(_held) = store::lock_index(&self.store)? else { return Ok(Undone::Done) };
        let mut index = store::find_index(&self.store)?;
        if let Some(found) = &index
            && !self.already(before)
            && let Some(entries) = self.take_back(found, before, &self.entry()?)
        {
            let old = found.with_entries(entries)?;
            store::write_index(&self.store, &old)?;
            index = Some(old);
        }
        let empty = index.is_none_or(|index| index.raw_entries().is_empty());
        if empty && !before.index {
            file::remove_file(&store::index_path(&self.store))?;
            if !before.marker {
                file::remove_file(&self.store.join("oci-layout"))?;
            }
        }
        Ok(Undone::Done)
    }

    fn script(&self, way: Way<'_, Before>, out: &mut Script) {
        let Ok(mine) = self.entry() else { return out.comment("the descriptor is not valid") };
        let (index, marker) = (store::index_path(&self.store), self.store.join("oci-layout"));
        let (index, marker) = (index.to_string_lossy(), marker.to_string_lossy());
        let name = format!(".annotations[\"{REF_NAME}\"]");
        let reference = Value::String(self.reference.clone());
        match way {
            Way::Apply => {
                for (path, text) in [(&marker, store::MARKER), (&index, "{\"manifests\":[],\"schemaVersion\":2}\n")] {
                    out.raw(&format!("[ -e {path} ] || printf '%s' {text} > {path}", path = quote(path), text = quote(text)));
                }
                let filter = format!(
                    "def essence: {}; def add($e): if any(.[]; .digest == $e.digest) then . else . + [$e] end; .manifests |= \
                     (map(select({name} == $r))[0] as $old | if $r == \"\" then add($d) elif $old == null then . + [$d] \
                     elif ($old | essence) == ($d | essence) then . \
                     else map(if {name} == $r then $d else . end) | add($old | del({name})) end)",
                    essence_in_jq()
                );
                rewrite(out, &index, &filter, &[("r", &reference), ("d", &mine)]);
            }
            Way::Undo(before) if self.already(before) => out.comment("it was so before"),
            Way::Undo(before) => {
                let old = before.entry.clone().unwrap_or_default();
                let alone = Value::Bool(before.alone);
                let filter = format!(
                    ".manifests |= (if $old == null then map(select(. != $d)) else map(if . == $d then $old else . end) | \
                     if $alone and .[-1] == ($old | del({name})) then .[:-1] else . end end)"
                );
                out.raw(&format!("if [ -e {} ]; then", quote(&index)));
                rewrite(out, &index, &filter, &[("d", &mine), ("old", &old), ("alone", &alone)]);
                if !before.index {
                    let files = if before.marker { quote(&index) } else { format!("{} {}", quote(&index), quote(&marker)) };
                    out.raw(&format!("! jq -e '.manifests == []' {} >/dev/null || rm -f -- {files}", quote(&index)));
                }
                out.raw("fi");
            }
        }
    }
}

/// [`entry::essence`] as a filter of jq.
fn essence_in_jq() -> String {
    let paths: Vec<String> = entry::PASSING.iter().map(|key| format!(".annotations[\"{key}\"]")).collect();
    format!("del({})", paths.join(", "))
}

/// Prints a change of the index with jq, whose `-cS` writes the same bytes as [`Index::to_text`].
pub(super) fn rewrite(out: &mut Script, index: &str, filter: &str, arguments: &[(&str, &Value)]) {
    let arguments: String = arguments.iter().map(|(key, value)| format!("--argjson {key} {} ", quote(&value.to_string()))).collect();
    let new = format!("{index}.new");
    out.raw(&format!("jq -cS {arguments}{} {} > {}", quote(filter), quote(index), quote(&new)));
    out.run(["mv", "--", &new, index]);
}

#[cfg(test)]
#[path = "tag_tests.rs"]
mod tests;
