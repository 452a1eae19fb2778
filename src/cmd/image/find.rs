//! An image by name for a command that needs one: from the store, or pulled first.

use clap::ValueEnum;

use super::pull::{self, JOBS, Wanted, pull_all};
use super::registry_args::{RegistryArgs, Talk};
use super::store::{self, Image};
use crate::cmd::{Context, output};
use crate::fault::{Kind, Result};
use crate::image::{Digest, Platform, Reference};

/// When an image is pulled before it is used. *Source:* podman run(1), `--pull`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum PullPolicy {
    /// Each time
    Always,
    /// When it is not in the store
    #[default]
    Missing,
    /// Not at all
    Never,
    /// When it is not in the store, or the registry has another one
    Newer,
}

/// Where and how an image is found.
#[derive(Clone, Copy, Debug)]
pub struct Finding<'a> {
    /// When it is pulled.
    pub policy: PullPolicy,
    /// Where from.
    pub registry: &'a RegistryArgs,
    /// For which platform; the host's when absent.
    pub platform: Option<&'a Platform>,
    /// How much is said while it comes.
    pub talk: Talk,
}

/// Finds the image that `text` names (a reference, an id or its start), pulling it as the policy says.
///
/// An id is never pulled; a name of digits alone is one only when no image has an id that starts so. `docker://REFERENCE` is
/// pulled unless the policy says never. *Errors:* as those of [`store::find`] and of a pull. With `newer` an image that is there is used when its registry does not
/// answer, with a warning.
pub fn find_or_pull(cx: &Context, text: &str, finding: &Finding<'_>) -> Result<Image> {
    if let (Some(name), policy) = (text.strip_prefix("docker://"), finding.policy) {
        let reference = pull::reference(text)?;
        return if policy == PullPolicy::Never { store::find(&cx.host, name) } else { pulled(cx, &reference, finding) };
    }
    let found = store::find(&cx.host, text);
    let reference = text.parse::<Reference>().ok().filter(|_| !is_id(text, found.as_ref().ok()));
    let (Some(reference), policy) = (reference, finding.policy) else { return found };
    match (policy, found) {
        (PullPolicy::Always, _) => pulled(cx, &reference, finding),
        (PullPolicy::Missing | PullPolicy::Newer, Err(fault)) if fault.kind() == Kind::NotFound => pulled(cx, &reference, finding),
        (PullPolicy::Newer, Ok(image)) => newer(cx, image, &reference, finding),
        (_, found) => found,
    }
}

/// Whether a text means an image by its id.
fn is_id(text: &str, found: Option<&Image>) -> bool {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    text.starts_with("sha256:")
        || text.parse::<Digest>().is_ok()
        || Digest::from_hex(digits).is_some()
        || found.is_some_and(|image| image.id[7..].starts_with(digits))
}

fn pulled(cx: &Context, reference: &Reference, finding: &Finding<'_>) -> Result<Image> {
    let session = finding.registry.session(JOBS, finding.talk)?;
    let wanted = Wanted { platform: finding.platform.cloned(), ..Wanted::default() };
    for (_, outcome) in pull_all(cx, &session, std::slice::from_ref(reference), &wanted) {
        outcome?;
    }
    store::find(&cx.host, &reference.to_string())
}

fn newer(cx: &Context, image: Image, reference: &Reference, finding: &Finding<'_>) -> Result<Image> {
    // What a digest names does not change.
    if reference.digest().is_some() {
        return Ok(image);
    }
    let session = finding.registry.session(JOBS, finding.talk)?;
    let vigil = session.watch_signals();
    let there = session.digest_of(reference);
    drop(vigil);
    match there {
        Ok(digest) if is_of(&image, &digest) => Ok(image),
        Ok(_) => pulled(cx, reference, finding),
        Err(fault) if fault.kind() == Kind::Cancelled => Err(fault),
        Err(fault) => {
            output::note(&format!("warning: {fault}; the image of the store is used"));
            Ok(image)
        }
    }
}

fn is_of(image: &Image, digest: &Digest) -> bool {
    let ends = format!("@{digest}");
    let known = image.origin.iter().flat_map(|origin| &origin.repo_digests).any(|known| known.ends_with(&ends));
    known || image.manifest_digest == digest.as_str()
}
