//! The images of the store as the entries of its index tell of them: one file is read, whatever the store holds.

use std::collections::HashMap;

use super::store;
use crate::fault::{Fault, Result};
use crate::image::entry::{self, Origin};
use crate::image::layout::{Descriptor, Index};
use crate::image::{Algorithm, Digest, Platform, Reference};
use crate::sys::Host;

/// An image, all its entries together.
#[derive(Clone, Debug)]
pub struct Listed {
    /// `sha256:HEX`.
    pub id: String,
    /// Its names, sorted.
    pub references: Vec<Reference>,
    /// The digest of its manifest; of the first when it has several (the same image, compressed in two ways).
    pub digest: Digest,
    /// Bytes of the configuration and the layers as stored.
    pub size: u64,
    /// When it was made, as written in its configuration.
    pub created: Option<String>,
    /// What it runs on.
    pub platform: Option<Platform>,
    /// Whether a removal needs `--force`.
    pub pinned: bool,
    /// Where it came from.
    pub origin: Option<Origin>,
    /// Its entries, by their places in the index.
    pub entries: Vec<usize>,
}

impl Listed {
    /// The first 12 digits of the id, for people.
    pub fn short(&self) -> &str {
        self.id.get(7..19).unwrap_or(&self.id)
    }

    /// When it was used last, by a container, a mount or a bundle; `None` when it was not since it came.
    pub fn last_use(&self, host: &Host, catalog: &Catalog) -> Option<jiff::Timestamp> {
        store::last_use(host, &self.id, self.entries.first().and_then(|&nth| catalog.index.entries().get(nth)))
    }

    /// When it was made, in seconds since 1970; the epoch when nobody knows.
    pub fn age_mark(&self) -> i64 {
        self.created.as_deref().and_then(|text| text.parse::<jiff::Timestamp>().ok()).map_or(0, |time| time.as_second())
    }
}

/// The fewest digits that count as the beginning of an id.
const FEWEST_DIGITS: usize = 4;

/// The index and its images.
#[derive(Debug)]
pub struct Catalog {
    /// The index.
    pub index: Index,
    /// In the order of the index.
    pub images: Vec<Listed>,
    /// Entries that cannot be read, in words.
    pub broken: Vec<String>,
}

/// The first origin, with the digests of both: one image may be in several registries.
fn joined(first: Option<Origin>, second: Option<Origin>) -> Option<Origin> {
    match (first, second) {
        (Some(mut first), Some(second)) => {
            first.repo_digests.extend(second.repo_digests);
            Some(first)
        }
        (first, second) => first.or(second),
    }
}

impl Catalog {
    /// Reads the index of the store. An entry that another tool wrote costs two more files.
    pub fn read(host: &Host) -> Result<Self> {
        Self::of(host, store::index(host)?)
    }

    /// The images of `index`.
    pub fn of(host: &Host, index: Index) -> Result<Self> {
        let (mut images, mut broken): (Vec<Listed>, Vec<String>) = (Vec::new(), Vec::new());
        let mut known: HashMap<String, usize> = HashMap::new();
        for (nth, entry) in index.entries().iter().enumerate() {
            let image = match listed(host, nth, entry) {
                Ok(image) => image,
                Err(fault) => {
                    broken.push(format!("image {:?}: {fault}", entry.name().unwrap_or("<none>")));
                    continue;
                }
            };
            match known.get(&image.id).and_then(|&at| images.get_mut(at)) {
                Some(same) => {
                    same.references.extend(image.references);
                    same.entries.push(nth);
                    same.pinned |= image.pinned;
                    same.origin = joined(same.origin.take(), image.origin);
                }
                None => {
                    known.insert(image.id.clone(), images.len());
                    images.push(image);
                }
            }
        }
        for image in &mut images {
            image.references.sort();
            image.references.dedup();
        }
        Ok(Catalog { index, images, broken })
    }

    /// The image of an entry; `None` for one that cannot be read.
    pub fn image_of(&self, entry: usize) -> Option<&Listed> {
        self.images.iter().find(|image| image.entries.contains(&entry))
    }

    /// The entries that `text` speaks of: one of a name, those of a digest, or all of an id or of a unique start of one, of
    /// four digits or more.
    ///
    /// *Errors:* `NotFound`, with the way to bring it; `InvalidArgument` when the start of an id fits several images.
    pub fn choose(&self, text: &str) -> Result<Vec<usize>> {
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        let whole = text.parse::<Digest>().ok().or_else(|| Digest::from_hex(digits));
        if whole.is_none()
            && let Ok(reference) = text.parse::<Reference>()
        {
            let found = self.named(&reference);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        if let Some(digest) = whole.as_ref().filter(|digest| digest.algorithm() != Algorithm::Sha256) {
            return self.by_manifest(digest).ok_or_else(|| missing(text));
        }
        // A short word is only a name, as it is for containers: `rm db` cannot take another image once `db` is gone.
        if digits.len() < FEWEST_DIGITS || !digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            // A text that is no reference at all is told why; one that is, that it is not there.
            return Err(text.parse::<Reference>().err().unwrap_or_else(|| missing(text)));
        }
        let found: Vec<&Listed> = self.images.iter().filter(|image| image.id[7..].starts_with(digits)).collect();
        match found.as_slice() {
            [image] => Ok(image.entries.clone()),
            [] => {
                // An entry that cannot be read any more still goes by the digest of its manifest.
                whole.as_ref().and_then(|digest| self.by_manifest(digest)).ok_or_else(|| missing(text))
            }
            several => {
                let ids: Vec<&str> = several.iter().map(|image| image.short()).collect();
                Err(Fault::invalid(format!("image id {text:?} is not unique")).hint(format!("it fits {}", ids.join(", "))))
            }
        }
    }

    /// The image that `text` speaks of, as [`Catalog::choose`] finds it.
    pub fn find(&self, text: &str) -> Result<&Listed> {
        let first = self.choose(text)?.first().copied().unwrap_or_default();
        self.image_of(first).ok_or_else(|| missing(text))
    }

    fn by_manifest(&self, digest: &Digest) -> Option<Vec<usize>> {
        let entries = self.index.entries();
        let found: Vec<usize> = (0..entries.len()).filter(|&nth| has_digest(&entries[nth], digest)).collect();
        (!found.is_empty()).then_some(found)
    }

    fn named(&self, reference: &Reference) -> Vec<usize> {
        let fits = |entry: &Descriptor| {
            let Some(known) = store::reference_of(entry) else { return false };
            match reference.digest() {
                None => known == *reference,
                Some(digest) => {
                    let tag = reference.tag().is_none() || reference.tag() == known.tag();
                    known.repository() == reference.repository() && tag && (has_digest(entry, digest) || known.digest() == Some(digest))
                }
            }
        };
        let entries = self.index.entries();
        (0..entries.len()).filter(|&nth| fits(&entries[nth])).collect()
    }
}

/// Whether `digest` is that of the entry's manifest, or of the index in which its registry has it.
fn has_digest(entry: &Descriptor, digest: &Digest) -> bool {
    entry.digest == *digest
        || entry::origin(entry).is_some_and(|origin| origin.repo_digests.iter().any(|known| known.ends_with(&format!("@{digest}"))))
}

fn missing(text: &str) -> Fault {
    Fault::not_found(format!("image {:?} is not in the store", text.chars().take(300).collect::<String>()))
        .hint("rkbox image load ARCHIVE brings it, rkbox image ls lists what is there")
}

fn listed(host: &Host, nth: usize, entry: &Descriptor) -> Result<Listed> {
    let (references, pinned, origin) = (store::reference_of(entry).into_iter().collect(), entry::is_pinned(entry), entry::origin(entry));
    if let Some(facts) = entry::facts(entry) {
        let (id, digest, platform) = (facts.id.to_string(), entry.digest.clone(), entry.platform.clone());
        return Ok(Listed {
            id,
            references,
            digest,
            size: facts.size,
            created: facts.created,
            platform,
            pinned,
            origin,
            entries: vec![nth],
        });
    }
    let image = store::open(host, entry)?;
    let config = crate::image::Config::parse(&image.config_raw)?;
    Ok(Listed {
        size: image.size(),
        created: config.created().map(str::to_owned),
        platform: Some(config.platform()),
        digest: image.manifest.digest(),
        id: image.id,
        references,
        pinned,
        origin,
        entries: vec![nth],
    })
}
