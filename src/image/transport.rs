//! Where an image comes from, as written on a command line.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::fault::{Fault, Kind, Result};

/// A place that holds images.
///
/// *Shape:* `oci:DIR[:TAG]`, `oci-archive:PATH[:TAG]`, `docker-archive:PATH[:REF]`, or a bare path that is looked at.
/// *Source:* containers-transports(5); as there, the path ends at the first colon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// A directory in OCI image layout.
    Oci {
        /// The directory.
        path: PathBuf,
        /// Which of its images; all when absent.
        tag: Option<String>,
    },
    /// A tar file of an OCI image layout.
    OciArchive {
        /// The file.
        path: PathBuf,
        /// Which of its images; all when absent.
        tag: Option<String>,
    },
    /// A tar file as `docker save` makes it.
    DockerArchive {
        /// The file.
        path: PathBuf,
        /// Which of its images; all when absent.
        reference: Option<String>,
    },
    /// A path whose content decides.
    Bare(PathBuf),
}

/// What skopeo also knows and rkbox does not read.
const OTHERS: [&str; 8] = ["containers-storage", "dir", "docker", "docker-daemon", "ostree", "sif", "tarball", "atomic"];

impl Transport {
    /// The name of the directory or archive up to its first dot: what its images are called when only a tag was saved.
    pub fn stem(&self) -> &str {
        let name = self.path().file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.split('.').next().unwrap_or_default()
    }
}

impl Transport {
    /// The path, for all of them.
    pub fn path(&self) -> &Path {
        let (Transport::Oci { path, .. }
        | Transport::OciArchive { path, .. }
        | Transport::DockerArchive { path, .. }
        | Transport::Bare(path)) = self;
        path
    }

    /// The same images, found at another path.
    pub fn at(mut self, elsewhere: PathBuf) -> Self {
        let (Transport::Oci { path, .. }
        | Transport::OciArchive { path, .. }
        | Transport::DockerArchive { path, .. }
        | Transport::Bare(path)) = &mut self;
        *path = elsewhere;
        self
    }
}

impl FromStr for Transport {
    type Err = Fault;

    fn from_str(text: &str) -> Result<Self> {
        let Some((name, rest)) = text.split_once(':') else { return bare(text) };
        if OTHERS.contains(&name) {
            return Err(Fault::new(Kind::Unimplemented, format!("images cannot be loaded from {name}: yet"))
                .hint("copy it first: skopeo copy SOURCE oci-archive:image.tar:NAME, or write ./ before a path with a colon"));
        }
        if !matches!(name, "oci" | "oci-archive" | "docker-archive") {
            return bare(text);
        }
        let (path, which) = match rest.split_once(':') {
            Some((path, which)) => (path, Some(which.to_owned())),
            None => (rest, None),
        };
        if path.is_empty() || path.contains('\0') || which.as_deref() == Some("") {
            return Err(Fault::invalid(format!("{text:?} does not name an image")).hint(format!("write {name}:PATH or {name}:PATH:NAME")));
        }
        let path = PathBuf::from(path);
        Ok(match name {
            "oci" => Transport::Oci { path, tag: which },
            "oci-archive" => Transport::OciArchive { path, tag: which },
            _ => Transport::DockerArchive { path, reference: which },
        })
    }
}

fn bare(text: &str) -> Result<Transport> {
    match text {
        "" => Err(Fault::invalid("an empty text does not name an image")),
        _ if text.contains('\0') => Err(Fault::invalid(format!("{text:?} is not a path"))),
        _ => Ok(Transport::Bare(PathBuf::from(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_ends_at_the_first_colon_and_the_rest_names_the_image() {
        let full = "oci:/var/lib/rkbox/images:docker.io/library/busybox:latest".parse::<Transport>().unwrap();
        assert_eq!(full, Transport::Oci { path: "/var/lib/rkbox/images".into(), tag: Some("docker.io/library/busybox:latest".into()) });
        assert_eq!("oci-archive:a.tar".parse::<Transport>().unwrap(), Transport::OciArchive { path: "a.tar".into(), tag: None });
        assert_eq!(
            "docker-archive:a.tar:x:1".parse::<Transport>().unwrap(),
            Transport::DockerArchive { path: "a.tar".into(), reference: Some("x:1".into()) }
        );
        assert_eq!("./oci:x".parse::<Transport>().unwrap(), Transport::Bare("./oci:x".into()));
        assert_eq!("busybox.tar".parse::<Transport>().unwrap(), Transport::Bare("busybox.tar".into()));
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        for text in ["docker://busybox", "dir:/x", "containers-storage:x"] {
            assert_eq!(text.parse::<Transport>().unwrap_err().kind(), Kind::Unimplemented, "{text}");
        }
        for text in ["", "oci:", "oci::tag", "oci-archive:a.tar:", "a\0b"] {
            assert_eq!(text.parse::<Transport>().unwrap_err().kind(), Kind::InvalidArgument, "{text:?}");
        }
    }
}
