//! Kubernetes versions as kubeadm takes them.

use std::fmt;

use crate::fault::{Fault, Result};

/// A version that was said whole.
///
/// *Shape:* `v1.36.2`, `v1.37.0-alpha.1.5+0123abc`. *Source:* kubeadm `KubernetesReleaseVersion`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release {
    /// Major, minor, patch.
    pub number: (u32, u32, u32),
    /// What follows the patch: a pre-release and build metadata.
    pub rest: String,
}

/// What a configuration asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A version.
    Release(Release),
    /// A version of a build that was not released: `ci/v1.37.0-…`.
    Ci(Release),
    /// A label that dl.k8s.io resolves: `stable-1`, `latest-1.35`, `ci/latest`.
    Label(String),
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.number;
        write!(f, "v{major}.{minor}.{patch}{}", self.rest)
    }
}

impl Release {
    /// Reads `1.36.2` or `v1.36.2`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let number = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let mut parts = text[..number].splitn(3, '.').map(|part| part.parse::<u32>().ok());
        let number_of = (parts.next()??, parts.next()??, parts.next()??);
        let rest = &text[number..];
        let sound = rest.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'+'));
        (sound && rest.len() <= 100 && !rest.starts_with('.')).then(|| Release { number: number_of, rest: rest.to_owned() })
    }

    /// The tag of the images of this version: what a tag cannot say becomes `_`.
    pub fn tag(&self) -> String {
        self.to_string().chars().map(|c| if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') { c } else { '_' }).collect()
    }
}

impl Wanted {
    /// Reads what stands in `kubernetesVersion`.
    ///
    /// *Errors:* `InvalidArgument` for what is neither a version nor a label, as kubeadm says it.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if let Some(release) = Release::parse(text) {
            return Ok(Wanted::Release(release));
        }
        let (ci, rest) = match text.split_once('/') {
            Some(("ci", rest)) => (true, rest),
            Some(("release", rest)) => (false, rest),
            _ => (false, text),
        };
        if let Some(release) = Release::parse(rest) {
            return Ok(if ci { Wanted::Ci(release) } else { Wanted::Release(release) });
        }
        let word = rest.trim_start_matches("k8s-");
        let suffix = ["stable", "latest"].iter().find_map(|label| word.strip_prefix(label));
        let numbers = |suffix: &str| {
            let mut parts = suffix.strip_prefix('-').unwrap_or("x").split('.');
            parts.clone().count() <= 2 && parts.all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
        };
        match suffix {
            Some(suffix) if suffix.is_empty() || numbers(suffix) => Ok(Wanted::Label(text.to_owned())),
            _ => Err(Fault::invalid(format!(
                "version {text:?} doesn't match patterns for neither semantic version nor labels (stable, latest, ...)"
            ))
            .hint("write a whole version, such as v1.36.2")),
        }
    }

    /// The minor that a label names: `stable-1.35` → 35.
    pub fn minor_of_label(label: &str) -> Option<u32> {
        label.rsplit_once('-')?.1.split_once('.')?.1.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_labels_are_told_apart() {
        for (text, shown, tag) in [
            ("1.36.2", "v1.36.2", "v1.36.2"),
            ("v1.35.0", "v1.35.0", "v1.35.0"),
            ("v1.37.0-alpha.1.5+0123abc", "v1.37.0-alpha.1.5+0123abc", "v1.37.0-alpha.1.5_0123abc"),
            ("release/v1.30.1", "v1.30.1", "v1.30.1"),
        ] {
            let Ok(Wanted::Release(release)) = Wanted::parse(text) else { panic!("{text}") };
            assert_eq!((release.to_string().as_str(), release.tag().as_str()), (shown, tag));
        }
        assert!(matches!(Wanted::parse("ci/v1.37.0-alpha.1+1").unwrap(), Wanted::Ci(_)));
        for label in ["stable", "stable-1", "latest-1.35", "ci/latest", "ci/k8s-stable1", "release/stable-1.34"] {
            let wanted = Wanted::parse(label);
            assert_eq!(matches!(wanted, Ok(Wanted::Label(_))), label != "ci/k8s-stable1", "{label}: {wanted:?}");
        }
        assert_eq!(Wanted::minor_of_label("stable-1.35"), Some(35));
        assert_eq!(Wanted::minor_of_label("stable-1"), None);
        for bad in ["", "1", "1.36", "v1.36.", "1.36.x", "1.36.2 x", "1.36.2/../x", "newest", "stable-", "1.2.3.4", "99999999999.1.1"] {
            assert!(Wanted::parse(bad).is_err(), "{bad}");
        }
    }
}
