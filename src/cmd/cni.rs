//! `rkbox cni`: rkbox as CNI plugins for containerd, CRI-O and podman.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Context, Format, output};
use crate::cni::built_in::names;
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::sys::{exec, file};

/// Commands of `rkbox cni`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Link rkbox into a directory as the CNI plugins that it is
    Install(InstallArgs),
    /// Remove those links
    Uninstall(InstallArgs),
    /// Speak the CNI protocol as a plugin: bridge, host-local …
    Exec(ExecArgs),
}

/// Arguments of `rkbox cni install`.
#[derive(Debug, Args)]
pub struct InstallArgs {
    /// The directory, such as /opt/cni/bin
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Replace files of these names
    #[arg(long)]
    force: bool,
}

/// Arguments of `rkbox cni exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// The plugin
    #[arg(value_name = "PLUGIN")]
    plugin: String,
}

/// Carries a command out; answers the exit status.
pub fn run(cx: &Context, command: &Command) -> Result<u8> {
    match command {
        Command::Install(args) => install(cx, args),
        Command::Uninstall(args) => uninstall(cx, args),
        // A plugin that is one never gets here: main answers it before the command line is read.
        Command::Exec(args) => {
            let known = names().collect::<Vec<_>>().join(", ");
            Err(Fault::not_found(format!("no plugin {:?} is built in", args.plugin)).hint(format!("there is: {known}")))
        }
    }
}

/// Makes all links or none; one that is there already stays.
fn install(cx: &Context, args: &InstallArgs) -> Result<u8> {
    let target = exec::own_program()?;
    let text = target.to_string_lossy().into_owned();
    file::ensure_dir(&args.dir, 0o755)?;
    let mut missing = Vec::new();
    for name in names() {
        let path = args.dir.join(name);
        let found = file::find_symlink(&path).ok().flatten();
        if found.as_deref() == Some(text.as_str()) {
            continue;
        }
        if (found.is_some() || file::exists(&path)?) && !args.force {
            let fault = Fault::new(Kind::AlreadyExists, format!("{} is there already", path.display()));
            return Err(fault.hint("--force replaces it; a directory of its own, first in CNI_PATH, leaves it as it is"));
        }
        missing.push(path);
    }
    for path in &missing {
        let temporary = path.with_extension("rkbox-new");
        file::remove_file(&temporary)?;
        file::create_symlink(&text, &temporary)
            .and_then(|()| file::rename(&temporary, path))
            .doing(|| format!("linking {}", path.display()))?;
    }
    show(cx, args)
}

fn show(cx: &Context, args: &InstallArgs) -> Result<u8> {
    let paths: Vec<String> = names().map(|name| args.dir.join(name).to_string_lossy().into_owned()).collect();
    match cx.format {
        Format::Json => output::json(&paths)?,
        Format::Table => paths.iter().for_each(|path| output::line(path)),
    }
    Ok(0)
}

/// Removes links that lead to rkbox, and nothing else.
fn uninstall(cx: &Context, args: &InstallArgs) -> Result<u8> {
    let target = exec::own_program()?.to_string_lossy().into_owned();
    let mut gone = Vec::new();
    for name in names() {
        let path = args.dir.join(name);
        if file::find_symlink(&path).ok().flatten().as_deref() == Some(target.as_str()) {
            file::remove_file(&path)?;
            gone.push(path.to_string_lossy().into_owned());
        }
    }
    match cx.format {
        Format::Json => output::json(&gone)?,
        Format::Table => gone.iter().for_each(|path| output::line(path)),
    }
    Ok(0)
}
