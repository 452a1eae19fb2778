//! Where images are loaded from: a directory or an archive, seen as named members.

use std::path::{Path, PathBuf};

use crate::fault::{Context, Fault, Kind, Result};
use crate::image::Transport;
use crate::image::layout::Descriptor;
use crate::image::manifest::DOCUMENT_LIMIT;
use crate::sys::archive::{Archive, Span};
use crate::sys::file;

/// The members of a source.
pub(super) enum Members {
    Directory(PathBuf),
    Archive(Box<Archive>),
}

/// What the members are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Oci,
    Docker,
}

/// An opened source.
pub(super) struct Source {
    pub members: Members,
    pub form: Form,
    /// Which of its images; all when absent.
    pub which: Option<String>,
}

impl Source {
    /// Opens what `transport` names; a bare path is looked at.
    pub fn open(transport: &Transport) -> Result<Self> {
        let archive = |path: &Path| Archive::open(path).map(Box::new).map(Members::Archive);
        let (members, form, which) = match transport {
            Transport::Oci { path, tag } => (directory(path)?, Form::Oci, tag.clone()),
            Transport::OciArchive { path, tag } => (archive(path)?, Form::Oci, tag.clone()),
            Transport::DockerArchive { path, reference } => (archive(path)?, Form::Docker, reference.clone()),
            Transport::Bare(path) => {
                let (members, form) = look_at(path)?;
                (members, form, None)
            }
        };
        Ok(Source { members, form, which })
    }

    /// The bytes of a member; names come from constants, digests and validated documents only.
    pub fn find(&self, name: &str) -> Result<Option<Span>> {
        match &self.members {
            Members::Archive(archive) => archive.find(name),
            Members::Directory(path) => match Span::of_file(&path.join(name)).map_err(Fault::from) {
                Ok(span) => Ok(Some(span)),
                Err(fault) if fault.kind() == Kind::NotFound => Ok(None),
                Err(fault) => Err(fault),
            },
        }
    }

    /// As [`Source::find`]; a missing member is an error.
    pub fn member(&self, name: &str) -> Result<Span> {
        self.find(name)?.ok_or_else(|| {
            let fault = Fault::new(Kind::DataLoss, format!("the source has no {name:?}"));
            let is_blob = name.starts_with("blobs/");
            fault.hint(if is_blob { "it is not whole: copy it again" } else { "leave the transport out: rkbox finds out what it is" })
        })
    }

    /// A small member.
    pub fn document(&self, name: &str) -> Result<Vec<u8>> {
        self.member(name)?.read(DOCUMENT_LIMIT).doing(|| format!("reading {name:?}"))
    }

    /// The blob of a descriptor, of the size that it says.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<Span> {
        let span = self.member(&descriptor.digest.member())?;
        if span.size != descriptor.size {
            let message = format!("blob {} has {} bytes, its descriptor says {}", descriptor.digest, span.size, descriptor.size);
            return Err(Fault::new(Kind::DataLoss, message));
        }
        Ok(span)
    }
}

fn directory(path: &Path) -> Result<Members> {
    if !file::exists(&path.join("index.json"))? {
        return Err(no_image(path, "it has no index.json"));
    }
    Ok(Members::Directory(path.to_path_buf()))
}

fn look_at(path: &Path) -> Result<(Members, Form)> {
    if !file::exists(path)? {
        return Err(Fault::not_found(format!("{:?} is not there", path.display().to_string()))
            .hint("give the path of an archive or of an OCI layout directory, or transport:path"));
    }
    if file::exists(&path.join("."))? {
        if !file::exists(&path.join("oci-layout"))? {
            return Err(no_image(path, "the directory has no oci-layout file"));
        }
        return Ok((directory(path)?, Form::Oci));
    }
    let archive = match Archive::open(path).map_err(Fault::from) {
        Err(fault) if fault.kind() == Kind::InvalidArgument => return Err(no_image(path, &fault.to_string())),
        other => other?,
    };
    let form = match archive.has("oci-layout") || archive.has("index.json") {
        true => Form::Oci,
        false if archive.has("manifest.json") => Form::Docker,
        false => return Err(no_image(path, "the archive has none of oci-layout, index.json and manifest.json")),
    };
    Ok((Members::Archive(Box::new(archive)), form))
}

fn no_image(path: &Path, why: &str) -> Fault {
    Fault::invalid(format!("{:?} is not an image: {why}", path.display().to_string()))
        .hint("rkbox reads OCI layouts, oci-archives and docker-archives, as skopeo copy, podman save and docker save write them")
}
