//! Unpacks one layer into a directory in overlayfs form, verified.

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::fault::{Context as _, Fault, Kind, Result};
use crate::image::layer::{Claim, Compression, read_layer};
use crate::image::layer_stamp::{LIST, STAMP, Stamp, TREE};
use crate::image::tar_entry::TarError;
use crate::image::tar_reader::{ENTRIES, Limits, UNPACKED_BYTES};
use crate::script::{Script, quote};
use crate::sys::registry::BlobReader;
use crate::sys::room::{self, Reserve, Stock};
use crate::sys::tree::{self, Below, Form, Place, TreeError};
use crate::sys::tree_partial::{self, Committed, Partial, Turn};
use crate::sys::{Host, file, signal, store};

use super::{Action, Undone, Way};

/// The largest stamp that is read.
const MAX_STAMP: u64 = 64 << 10;
/// The extended attributes that layers carry, as GNU tar is told them.
pub(super) const TAR: &str = "tar --numeric-owner --xattrs --xattrs-include='user.*' --xattrs-include=security.capability --xattrs-exclude='user.overlay.*'";

/// Unpacks one layer into a directory in overlayfs form, verified.
///
/// *Shape:* `PATH/fs` is the overlayfs directory, `PATH/layer.json` its [`Stamp`]. The layer is made in `PATH.partial-PID-N`
/// (see [`tree_partial`]), flushed and renamed; whoever renames second uses the layer of the first. *Errors:* `DataLoss`
/// when the blob is not what is claimed, `InvalidArgument` for an entry that is refused.
///
/// The script does the same with `tar` for ordinary layers. Of the lower layers it reads attributes and what there is to hide; entries
/// through a lower layer's symbolic links and hard links to lower files fail, and names with a line break are not understood.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layer {
    /// The stored blob.
    pub blob: PathBuf,
    /// Its media type in the manifest; empty when unknown (then its first bytes decide how it is compressed).
    #[serde(default)]
    pub media_type: String,
    /// Digest of the blob, `sha256:HEX` or `sha512:HEX`.
    pub digest: String,
    /// Size of the blob in bytes.
    pub size: u64,
    /// Digest of the uncompressed tar.
    pub diff_id: String,
    /// `layers/<chain id in hex>`.
    pub path: PathBuf,
    /// The layers below, lowest last.
    pub lowers: Vec<PathBuf>,
}

/// What stood there before a [`Layer`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct LayerBefore {
    /// Whether the layer was there, whole.
    pub present: bool,
    /// The word that the step writes into the stamp, so that its undo does not take the layer of another process.
    pub made_by: String,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unpack layer {diff_id}", diff_id = self.diff_id)
    }
}

impl Layer {
    pub(super) fn claim(&self) -> Claim<'_> {
        Claim { media_type: &self.media_type, digest: &self.digest, size: self.size, diff_id: &self.diff_id }
    }

    /// [`Action::apply`] with the bytes of the blob from `blob`, which need not be stored yet: it is read as it comes. `below` answers
    /// [`overlay_lowers`] of the layers below, and is asked when something of them is needed: they may still be on their way too.
    pub fn apply_from(&self, before: &LayerBefore, blob: impl Read + Send, below: Below<'_>, kept: Reserve) -> Result<()> {
        let partial = Partial::create(&self.path)?;
        within_room(partial.path(), kept, |limits| self.unpack((partial.path(), limits), &before.made_by, blob, below))?;
        if tree::find_identity(&self.path)?.is_some() && find_stamp(&self.path)?.is_none() {
            // A directory without a stamp is no layer: what a power cut or somebody's hand left of one.
            tree_partial::discard(&self.path)?;
        }
        match partial.commit()? {
            Committed::Ours => Ok(()),
            Committed::Theirs if find_stamp(&self.path)?.is_some_and(|stamp| stamp.diff_id == self.diff_id) => Ok(()),
            Committed::Theirs => Err(Fault::new(Kind::Conflict, format!("{} was taken by something else", self.path.display()))),
        }
    }

    /// Waits for the turn to unpack this layer; `None` when somebody else did meanwhile.
    pub(super) fn turn(&self, go_on: impl Fn() -> Result<()>) -> Result<Option<Turn>> {
        let turn = Turn::take(&self.path, go_on)?;
        Ok(if find_stamp(&self.path)?.is_some_and(|stamp| stamp.diff_id == self.diff_id) { None } else { Some(turn) })
    }

    fn unpack(&self, (partial, limits): (&Path, Limits), made_by: &str, blob: impl Read + Send, below: Below<'_>) -> Result<()> {
        let root = partial.join(TREE);
        file::create_dir(&root, 0o755)?;
        let place = Place { root: &root, form: Form::Overlay, list: Some(tree::create_list(&partial.join(LIST))?) };
        let written = read_layer(blob, &self.claim(), limits, |reader| tree::write_layer(reader, place, below))?;
        let listed = written.listed;
        let stamp = Stamp {
            sealed: listed.as_ref().and_then(|listed| Stamp::sealed_text(listed.sealed)),
            list: listed.map(|listed| listed.digest),
            entries: written.entries,
            bytes: written.bytes,
            opaque_root: written.opaque_root,
            made_by: made_by.to_owned(),
            ..self.stamp()
        };
        // Durable with the rest: the whole directory is flushed before it gets its name.
        Ok(file::write_atomic(&partial.join(STAMP), 0o600, &stamp.to_json()?, file::Durable::No)?)
    }

    fn stamp(&self) -> Stamp {
        Stamp {
            v: 1,
            diff_id: self.diff_id.clone(),
            digest: self.digest.clone(),
            size: self.size,
            entries: 0,
            bytes: 0,
            opaque_root: false,
            made_by: String::new(),
            list: None,
            sealed: None,
        }
    }
}

impl Action for Layer {
    type Before = LayerBefore;

    fn look(&self, _: &Host) -> Result<LayerBefore> {
        let present = match find_stamp(&self.path)? {
            Some(stamp) if stamp.diff_id == self.diff_id => true,
            Some(stamp) => {
                let why = format!("{} holds layer {} where {} is wanted", self.path.display(), stamp.diff_id, self.diff_id);
                return Err(Fault::new(Kind::DataLoss, why).hint("remove that directory when no container uses it"));
            }
            None => false,
        };
        Ok(LayerBefore { present, made_by: token() })
    }

    fn already(&self, before: &LayerBefore) -> bool {
        before.present
    }

    fn apply(&self, before: &LayerBefore, host: &Host) -> Result<()> {
        if before.present {
            return Ok(());
        }
        let Some(_turn) = self.turn(signal::check)? else { return Ok(()) };
        let below = Box::new(|| overlay_lowers(&self.lowers));
        let unpacked = BlobReader::open(&self.blob, host).and_then(|blob| self.apply_from(before, blob, below, host.keep_free));
        BlobReader::judge(unpacked, (&self.blob, &self.digest), host)
    }

    fn undo(&self, before: &LayerBefore, host: &Host) -> Result<Undone> {
        if before.present {
            return Ok(Undone::Done);
        }
        tree_partial::remove_dead_of(&self.path)?;
        if self.path.parent() == Some(host.layers().as_path()) {
            let Some(_held) = store::lock_index(&host.images())? else { return self.remove(before) };
            if self.is_reached(host)? {
                return Ok(Undone::Kept);
            }
            return self.remove(before);
        }
        self.remove(before)
    }

    fn script(&self, way: Way<'_, LayerBefore>, out: &mut Script) {
        self.print(way, out);
    }
}

impl Layer {
    /// Whether an image of the store has come to use this layer; the caller holds the lock under which images are tagged.
    fn is_reached(&self, host: &Host) -> Result<bool> {
        let Some(index) = store::find_index(&host.images())? else { return Ok(false) };
        let hex = self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(store::Reach::of(&host.images(), &index)?.chains.iter().any(|chain| chain.hex() == hex))
    }

    fn remove(&self, before: &LayerBefore) -> Result<Undone> {
        let ours = find_stamp(&self.path)?
            .is_some_and(|stamp| stamp.diff_id == self.diff_id && (before.made_by.is_empty() || stamp.made_by == before.made_by));
        if ours {
            tree_partial::discard(&self.path)?;
        }
        Ok(Undone::Done)
    }

    fn print(&self, way: Way<'_, LayerBefore>, out: &mut Script) {
        let path = self.path.to_string_lossy();
        match way {
            Way::Undo(before) if before.present => {}
            Way::Undo(_) => out.run(["rm", "-rf", "--", &path]),
            Way::Apply => {
                let blob = quote(&self.blob.to_string_lossy());
                check_in_shell(&format!("cat {blob}"), &self.claim(), out);
                out.raw(&format!("layer={}", quote(&path)));
                out.raw("mkdir -m 0700 \"$layer\" && mkdir -m 0755 \"$layer/fs\"");
                out.raw(&format!("cat {blob} | {} | {TAR} -xpf - -C \"$layer/fs\"", inflate_in_shell(&self.media_type)));
                // The positional parameters are the trees below, highest first.
                let lowers: Vec<String> = self.lowers.iter().map(|lower| lower.join(TREE).to_string_lossy().into_owned()).collect();
                out.run(["set", "--"].into_iter().chain(lowers.iter().map(String::as_str)));
                let inflate = inflate_in_shell(&self.media_type);
                out.raw(&format!("cat {blob} | {inflate} | tar --quoting-style=literal -tf - > \"$layer/names\""));
                out.raw(IMPLIED);
                out.raw(CONVERT);
                let stamp = self.stamp().to_json().map(|json| String::from_utf8_lossy(&json).trim_end().to_owned()).unwrap_or_default();
                out.raw(&format!("printf '%s\\n' {} | sed \"s/\\\"opaque_root\\\":false/\\\"opaque_root\\\":$opaque/\" > \"$layer/{STAMP}\"", quote(&stamp)));
                out.raw(&format!("chmod 0600 \"$layer/{STAMP}\""));
            }
        }
    }
}

/// Gives the directories that the layer does not describe the attributes that they have below, or the time 0.
const IMPLIED: &str = r#"find "$layer/fs" -type d | while IFS= read -r dir; do
  name=${dir#"$layer/fs"} && name=${name#/} && name=${name:-.}
  ! grep -qxF -e "$name" -e "$name/" -e "./$name" -e "./$name/" "$layer/names" || continue
  touch -d @0 "$dir"
  for lower in "$@"; do
    if [ -d "$lower/$name" ] && [ ! -L "$lower/$name" ]; then
      chown --reference="$lower/$name" "$dir" && chmod --reference="$lower/$name" "$dir" && touch -r "$lower/$name" "$dir"
      break
    fi
  done
done
rm -f "$layer/names""#;

/// Turns whiteout files into overlayfs's own where there is something to hide, keeping the times of their directories.
const CONVERT: &str = r#"opaque=false
find "$layer/fs" -depth -name '.wh.*' | while IFS= read -r hidden; do
  above=${hidden%/*} name=${hidden##*/}
  touch -r "$above" "$layer/time"
  rm -rf -- "$hidden"
  case $name in
    .wh..wh..opq) if [ "$above" = "$layer/fs" ]; then : > "$layer/opaque"; else setfattr -n trusted.overlay.opaque -v y "$above"; fi ;;
    .wh..wh.*) ;;
    *) hidden=$above/${name#.wh.}
      for lower in "$@"; do
        below=$lower${hidden#"$layer/fs"}
        [ -e "$below" ] || [ -L "$below" ] || continue
        [ "$(stat -c %F%t%T "$below")" != 'character special file00' ] || break
        if [ -d "$hidden" ] && [ ! -L "$hidden" ]; then setfattr -n trusted.overlay.opaque -v y "$hidden"
        elif [ ! -e "$hidden" ] && [ ! -L "$hidden" ]; then mknod -m 0 "$hidden" c 0 0 && chown 0:0 "$hidden"; fi
        break
      done ;;
  esac
  touch -r "$layer/time" "$above"
done
if [ -e "$layer/opaque" ]; then opaque=true; fi
rm -f "$layer/time" "$layer/opaque""#;

/// The `fs` directories of `layers` (highest first), down to one that hides all below it: overlayfs's `lowerdir`.
///
/// *Errors:* `NotFound` for a layer without a stamp.
pub fn overlay_lowers(layers: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut lowers = Vec::with_capacity(layers.len());
    for layer in layers {
        let missing = || Fault::not_found(format!("layer {} is not unpacked", layer.display())).hint("import the image again");
        let stamp = find_stamp(layer)?.ok_or_else(missing)?;
        lowers.push(layer.join(TREE));
        if stamp.opaque_root {
            break;
        }
    }
    Ok(lowers)
}

/// The stamp of the layer at `path`; `None` when there is none, and so no layer.
///
/// *Errors:* `DataLoss` when it does not parse.
pub fn find_stamp(path: &Path) -> Result<Option<Stamp>> {
    let stamp = path.join(STAMP);
    let Some(text) = file::find(&stamp, MAX_STAMP)? else { return Ok(None) };
    // An empty file is what a power cut leaves of one that was never flushed.
    if text.is_empty() {
        return Ok(None);
    }
    Stamp::parse(&text).map(Some).doing(|| format!("reading {}", stamp.display()))
}

/// Unpacks below `path` by `unpack`, which gets the default limits, and no more bytes and entries than the file system can take when
/// `kept` of it is kept back.
///
/// *Errors:* `ResourceExhausted` when that was too little, with what is free and what is kept back.
pub(super) fn within_room<T>(path: &Path, kept: Reserve, unpack: impl FnOnce(Limits) -> Result<T>) -> Result<T> {
    let (most, room) = (Limits::default(), room::room(path, kept)?);
    let bytes = Some(room.bytes).filter(|stock| stock.usable() < most.bytes);
    let entries = room.inodes.filter(|stock| stock.usable() < most.entries);
    let least = |stock: Option<Stock>, most| stock.map_or(most, Stock::usable);
    let unpacked = unpack(Limits { bytes: least(bytes, most.bytes), entries: least(entries, most.entries) });
    unpacked.map_err(|fault| match (limit_of(&fault), bytes, entries) {
        (Some(UNPACKED_BYTES), Some(stock), _) => room::used_up("the layer", path.parent().unwrap_or(path), ("bytes", stock), kept),
        (Some(ENTRIES), _, Some(stock)) => room::used_up("the layer", path.parent().unwrap_or(path), ("inodes", stock), kept),
        _ => fault,
    })
}

/// Which limit a layer has passed.
fn limit_of(fault: &Fault) -> Option<&'static str> {
    let source = std::error::Error::source(fault)?;
    match (source.downcast_ref::<TarError>(), source.downcast_ref::<TreeError>()) {
        (Some(TarError::Limit { what, .. }), _) => Some(what),
        (_, Some(TreeError::TooMany)) => Some(ENTRIES),
        _ => None,
    }
}

/// A word that no other process will choose.
pub(super) fn token() -> String {
    let (one, two) = (RandomState::new().hash_one(std::process::id()), RandomState::new().hash_one(std::time::SystemTime::now()));
    format!("{one:016x}{two:016x}")
}

/// The program that inflates a blob in a script.
pub(super) fn inflate_in_shell(media_type: &str) -> &'static str {
    match Compression::of_media_type(media_type) {
        Ok(Some(Compression::Plain)) => "cat",
        Ok(Some(Compression::Zstd)) => "zstd -dc",
        // `-f` passes on what is not compressed.
        _ => "gzip -dcf",
    }
}

/// Prints the checks of a blob that `source` writes to its standard output.
pub(super) fn check_in_shell(source: &str, claim: &Claim<'_>, out: &mut Script) {
    let plain = format!("{source} | {}", inflate_in_shell(claim.media_type));
    for (from, digest) in [(source, claim.digest), (&plain, claim.diff_id)] {
        let (algorithm, hex) = digest.split_once(':').unwrap_or(("sha256", digest));
        out.raw(&format!("[ \"$({from} | {algorithm}sum | cut -c1-{})\" = {} ]", hex.len(), quote(hex)));
    }
}
