//! `rkbox cp`.

use std::io::{Write as _, stdin, stdout};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::CpArgs;
use super::place::{self, End, Place};
use crate::cmd::{Context, output};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::idmap::IdMap;
use crate::image::tar_path::TarPath;
use crate::image::tar_reader::Limits;
use crate::sys::proc;
use crate::sys::transfer::{Bounds, Found, Owners, Shifted, Sink, TarSink, Towards, TreeSink, create_as, read_tar, walk};

/// A stream of the user's own is not bounded but by the disk.
const UNBOUNDED: Limits = Limits { entries: u64::MAX, bytes: u64::MAX };

/// Copies files and trees between the host and containers, or to and from a tar stream.
pub fn run(cx: &Context, args: &CpArgs) -> Result<u8> {
    let (source, destination) = (place::parse(&args.source)?, place::parse(&args.destination)?);
    let doing = || format!("cannot copy {} to {}", args.source, args.destination);
    match (source, destination) {
        (End::Container(key, path), End::Host(to)) => {
            copy(args, &Place::in_container(cx, &key, &path, None).doing(doing)?, &Place::on_host(&to)?).doing(doing)?
        }
        (End::Host(path), End::Container(key, to)) => {
            copy(args, &Place::on_host(&path)?, &Place::in_container(cx, &key, &to, None).doing(doing)?).doing(doing)?
        }
        (End::Container(key, path), End::Stream) => {
            to_stream(args, &Place::in_container(cx, &key, &path, None).doing(doing)?).doing(doing)?
        }
        (End::Stream, End::Container(key, to)) => from_stream(&Place::in_container(cx, &key, &to, None).doing(doing)?).doing(doing)?,
        (End::Container(from, path), End::Container(into, to)) => {
            let from = Place::in_container(cx, &from, &path, None).doing(doing)?;
            let into = Place::in_container(cx, &into, &to, Some(&from)).doing(doing)?;
            copy(args, &from, &into).doing(doing)?
        }
        _ => return Err(Fault::invalid("neither end is in a container").hint("the form is CONTAINER:PATH; use cp(1) on the host")),
    }
    Ok(0)
}

/// Whether a path asks for what is in a directory, not for the directory.
fn asks_for_contents(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/.")
}

/// The name that the source has at its destination; the root has none.
fn name_of(path: &Path) -> Result<TarPath> {
    Ok(TarPath::parse(path.file_name().unwrap_or_default().as_bytes())?)
}

fn find_source(args: &CpArgs, from: &Place) -> Result<Found> {
    let slash = from.path.as_os_str().as_bytes().ends_with(b"/") || asks_for_contents(&from.path);
    let missing = || Fault::not_found(format!("{} is not there", from.path.display())).hint("mend the path");
    let found = from.find(args.follow_link || slash)?.ok_or_else(missing)?;
    if slash && !found.is_dir() {
        return Err(Fault::invalid(format!("{} is not a directory", from.path.display())).hint("leave the slash at its end out"));
    }
    Ok(found)
}

/// The rules of Docker: into a directory that is there, else under the new name; `/.` at the end of the source is what is in it.
fn copy(args: &CpArgs, from: &Place, to: &Place) -> Result<()> {
    let source = find_source(args, from)?;
    let (dir, name) = match to.find(true)? {
        Some(there) if there.is_dir() => {
            let name = if asks_for_contents(&from.path) { TarPath::root() } else { name_of(&from.path)? };
            (there, name)
        }
        Some(_) if source.is_dir() => {
            return Err(Fault::invalid(format!("{} is a file, and the source is a directory", to.path.display())).hint("name a directory"));
        }
        there => {
            if there.is_none() && to.path.as_os_str().as_bytes().ends_with(b"/") && !source.is_dir() {
                return Err(Fault::not_found(format!("{} is not there", to.path.display()))
                    .hint("make the directory first, or leave the slash out"));
            }
            let parent = to.path.parent().unwrap_or(Path::new("/"));
            let missing = || Fault::not_found(format!("{} is not there", parent.display())).hint("make the directory first");
            (to.find_at(parent)?.filter(Found::is_dir).ok_or_else(missing)?, name_of(&to.path)?)
        }
    };
    if source.is_dir() && dir.is_within(&source)? {
        return Err(Fault::invalid(format!("{} is in what is to be copied", to.path.display())).hint("name a place outside of it"));
    }
    let owners = match (args.archive, to.inside) {
        (true, _) => Owners::Kept,
        (false, true) => {
            let (uid, gid) = to.map().map_or((0, 0), IdMap::root);
            Owners::All(uid, gid)
        }
        (false, false) => {
            let (uid, gid) = proc::own_ids();
            Owners::All(uid, gid)
        }
    };
    become_creator(to);
    // A device of a container is nobody else's.
    let mut tree = TreeSink::new(&dir, owners, to.inside && !from.inside)?;
    let mut inwards = Shifted { sink: &mut tree, map: to.map(), towards: Towards::Container };
    let mut sink = Shifted { sink: &mut inwards, map: from.map(), towards: Towards::Host };
    walk(&source, &name, Bounds::Mounts, &mut sink)?;
    sink.finish()?;
    for passed in &tree.passed {
        output::note(&format!("warning: {passed} is not copied: there it would be open to whom the container chose"));
    }
    Ok(())
}

/// What is made in a container with a user namespace is made by its root.
fn become_creator(to: &Place) {
    if let Some(root) = to.map().filter(|_| to.inside).map(IdMap::root).filter(|root| *root != (0, 0)) {
        create_as(root);
    }
}

fn to_stream(args: &CpArgs, from: &Place) -> Result<()> {
    if output::is_terminal() {
        return Err(Fault::invalid("a tar stream is not for a terminal").hint("redirect standard output, or name a destination"));
    }
    let source = find_source(args, from)?;
    let name = if asks_for_contents(&from.path) { TarPath::root() } else { name_of(&from.path)? };
    let mut out = std::io::BufWriter::with_capacity(256 << 10, stdout().lock());
    let mut tar = TarSink::new(&mut out);
    let mut sink = Shifted { sink: &mut tar, map: from.map(), towards: Towards::Host };
    walk(&source, &name, Bounds::Mounts, &mut sink)?;
    sink.finish()?;
    drop(tar);
    out.flush().map_err(|error| Fault::from_error(Kind::Internal, error).doing("writing the tar stream"))
}

fn from_stream(to: &Place) -> Result<()> {
    let missing =
        || Fault::invalid(format!("{} is not a directory of the container", to.path.display())).hint("name a directory that is there");
    let dir = to.find(true)?.filter(Found::is_dir).ok_or_else(missing)?;
    become_creator(to);
    let mut tree = TreeSink::new(&dir, Owners::Kept, true)?;
    let mut sink = Shifted { sink: &mut tree, map: to.map(), towards: Towards::Container };
    read_tar(stdin().lock(), UNBOUNDED, &mut sink)?;
    sink.finish()
}
