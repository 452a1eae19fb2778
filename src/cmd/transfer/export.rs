//! `rkbox export`.

use std::io::{BufWriter, Write, stdout};

use super::{ExportArgs, former};
use crate::cmd::{Context, output, records};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::idmap::IdMap;
use crate::image::tar_path::TarPath;
use crate::sys::file;
use crate::sys::transfer::{Bounds, Root, Shifted, Sink, TarSink, Towards, walk};

/// Writes the files of a container as a tar stream; what is mounted in it is not among them, as for Docker.
pub fn run(cx: &Context, args: &ExportArgs) -> Result<u8> {
    let id = records::find(&cx.host, records::BoxKind::Container, &args.key)?;
    let record = records::container(&cx.host, &id)?;
    let _former = former::mount_for_now(&cx.host, &record, None, None)?;
    let rootfs = record.bundle.join("rootfs");
    let map = record.userns.as_ref().map(|userns| &userns.map);
    let doing = || format!("exporting container {}", args.key);
    match &args.output {
        None if output::is_terminal() => {
            return Err(Fault::invalid("a tar stream is not for a terminal").hint("redirect standard output, or give --output FILE"));
        }
        None => write(&rootfs, map, stdout().lock()).doing(doing)?,
        Some(path) => {
            let path = std::path::absolute(path).map_err(|error| Fault::invalid(format!("{}: {error}", path.display())))?;
            file::replace_with(&path, 0o644, |out| write(&rootfs, map, out)).doing(doing)?;
        }
    }
    Ok(0)
}

fn write(rootfs: &std::path::Path, map: Option<&IdMap>, out: impl Write) -> Result<()> {
    let root = Root::of_path(rootfs)?;
    let found = root.find(std::path::Path::new("/"), false)?.ok_or_else(|| Fault::internal("a root file system without a root"))?;
    let mut out = BufWriter::with_capacity(256 << 10, out);
    let mut tar = TarSink::new(&mut out);
    let mut sink = Shifted { sink: &mut tar, map, towards: Towards::Host };
    walk(&found, &TarPath::root(), Bounds::OneFileSystem, &mut sink)?;
    sink.finish()?;
    drop(tar);
    out.flush().map_err(|error| Fault::from_error(Kind::Internal, error).doing("writing the tar stream"))
}
