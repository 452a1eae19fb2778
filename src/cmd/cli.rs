//! The command line: what there is to say, and where each word goes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::{
    Context, Format, bundle, cni, container, doctor, driver, gc, image, network, output, port, port_forward, repair, sandbox, seccomp,
    transfer, unit, usage, volume,
};
use crate::bundle::resources::Resources;
use crate::cni::built_in::Policy;
use crate::fault::{Fault, Kind, Result};
use crate::sys::room::Reserve;
use crate::sys::{Halt, Host, Plugins, cgroup_lock, privilege, rootless, rootless_netns};

/// Drives runc directly: images, namespaces, networks, pods. No daemon.
#[derive(Debug, Parser)]
#[command(name = "rkbox", version, about, max_term_width = 80, subcommand_required = true, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit status of run and exec: the process's own; 125 rkbox failed, 126 not
executable, 127 not found, 128+n ended by signal n. Of all others: 0 done,
1 internal, 2 bad input, 3 not found, 4 exists, 5 state forbids it,
6 exhausted, 7 permission, 8 unavailable, 9 not implemented, 10 timed out,
11 lost races, 13 damaged data.

A global option can also be set in the environment: RKBOX_ROOT for --root.";

/// How long it takes about from the command line to the call of the runtime.
const PLANNING: Duration = Duration::from_millis(12);

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// What survives a reboot: images, layers, records
    #[arg(long, global = true, env = "RKBOX_ROOT", value_name = "DIR", default_value = "/var/lib/rkbox", hide_env = true)]
    root: PathBuf,
    /// What does not: journals, locks, runtime state
    #[arg(long, global = true, env = "RKBOX_RUN", value_name = "DIR", default_value = "/run/rkbox", hide_env = true)]
    run: PathBuf,
    /// CNI network configurations
    #[arg(long, global = true, env = "RKBOX_CNI_CONF_DIR", value_name = "DIR", default_value = "/etc/cni/net.d", hide_env = true)]
    cni_conf_dir: PathBuf,
    /// CNI leases and results
    #[arg(long, global = true, env = "RKBOX_CNI_STATE_DIR", value_name = "DIR", default_value = "/var/lib/cni", hide_env = true)]
    cni_state_dir: PathBuf,
    /// CNI plugins that are other programs: DIR:DIR
    #[arg(long, global = true, env = "CNI_PATH", value_name = "PATH", default_value = "/opt/cni/bin:/usr/lib/cni", hide_env = true)]
    cni_path: String,
    /// Built-in CNI plugins: always, prefer or never
    #[arg(long, global = true, env = "RKBOX_CNI_BUILTIN", value_name = "WHEN", default_value = "prefer", hide_env = true)]
    cni_builtin: String,
    /// How long another CNI plugin may take
    #[arg(long, global = true, env = "RKBOX_CNI_TIMEOUT", value_name = "SECONDS", default_value_t = 120, hide_env = true)]
    cni_timeout: u64,
    /// OCI runtime: a path, or a name in PATH
    #[arg(long, global = true, env = "RKBOX_RUNTIME", value_name = "PROGRAM", default_value = "runc", hide_env = true)]
    runtime: String,
    /// cgroupfs or systemd; by default what the host runs
    #[arg(long, global = true, env = "RKBOX_CGROUP_DRIVER", value_name = "DRIVER", hide_env = true)]
    cgroup_driver: Option<String>,
    /// Parent cgroup (/rkbox, or system.slice)
    #[arg(long, global = true, env = "RKBOX_CGROUP_PARENT", value_name = "CGROUP", hide_env = true)]
    cgroup_parent: Option<String>,
    /// What unpacked layers leave free on their file system: 5%, 10g
    #[arg(long, global = true, env = "RKBOX_KEEP_FREE", value_name = "SHARE", default_value = "5%", hide_env = true)]
    keep_free: Reserve,
    /// table for people, json for programs
    #[arg(long, global = true, env = "RKBOX_FORMAT", value_enum, default_value_t, hide_env = true, hide_possible_values = true)]
    format: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load, list, inspect and remove images
    Image(image::ImageArgs),
    /// Make, list, inspect, stop and remove pod sandboxes
    #[command(subcommand)]
    Sandbox(sandbox::Command),
    /// Attach network namespaces to CNI networks
    #[command(subcommand)]
    Net(network::Command),
    /// Be the CNI plugins of containerd, CRI-O and podman
    #[command(subcommand)]
    Cni(cni::Command),
    /// Make, list, inspect and remove volumes
    #[command(subcommand)]
    Volume(volume::Command),
    /// Make OCI bundles
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// Run a container and wait for it
    Run(Box<container::RunArgs>),
    /// Make a container that waits to be started
    Create(Box<container::CreateArgs>),
    /// Start containers that were created or have ended
    Start(container::StartArgs),
    /// Ask containers to end, then make them
    Stop(container::StopArgs),
    /// Stop containers, then start them again
    Restart(container::StopArgs),
    /// Send a signal to containers
    Kill(container::KillArgs),
    /// Freeze the processes of containers
    Pause(container::FreezeArgs),
    /// Let frozen processes go on
    Unpause(container::FreezeArgs),
    /// Wait until containers end, print how
    Wait(container::WaitArgs),
    /// Run one more process in a container
    Exec(Box<container::ExecArgs>),
    /// Copy the streams of a container that runs
    Attach(container::AttachArgs),
    /// Print what containers printed
    Logs(container::LogsArgs),
    /// List containers
    Ps(container::PsArgs),
    /// Print everything known of containers as JSON
    Inspect(container::InspectArgs),
    /// Give a container another name
    Rename(container::RenameArgs),
    /// Remove containers
    Rm(container::RmArgs),
    /// Copy files into and out of containers
    Cp(transfer::CpArgs),
    /// Show what a container changed of its image's files
    Diff(transfer::DiffArgs),
    /// Write the files of a container as a tar stream
    Export(transfer::ExportArgs),
    /// Show what containers use
    Stats(usage::StatsArgs),
    /// Show the processes of a container
    Top(usage::TopArgs),
    /// Change what containers may use, and what happens when they end
    Update(Box<usage::UpdateArgs>),
    /// Show the published ports of a container or sandbox
    Port(port::PortArgs),
    /// Print what happened to containers
    Events(container::EventsArgs),
    /// Give containers that lost their monitor a new one
    Repair(repair::RepairArgs),
    /// Lead local ports to ports inside a sandbox, until Ctrl-C
    PortForward(port_forward::PortForwardArgs),
    /// Undo what killed commands left behind
    Gc(gc::GcArgs),
    /// Say what this host has and lacks, and what would mend it
    Doctor(doctor::DoctorArgs),
    /// Print a systemd unit for a container, a sandbox or the boot
    Unit(unit::UnitArgs),
    /// Print the default seccomp profile
    Seccomp(seccomp::SeccompArgs),
    /// Print a completion script for a shell
    Completion(CompletionArgs),
}

/// Arguments of `rkbox completion`.
#[derive(Debug, Args)]
struct CompletionArgs {
    /// The shell
    shell: clap_complete::Shell,
}

impl Global {
    fn context(self) -> Result<Context> {
        let (root, run) = (absolute(self.root)?, absolute(self.run)?);
        let chosen = driver::Choice::make(&root, self.cgroup_driver.as_deref())?;
        let policy = match self.cni_builtin.as_str() {
            "always" => Policy::Always,
            "prefer" => Policy::Prefer,
            "never" => Policy::Never,
            other => return Err(Fault::invalid(format!("--cni-builtin {other:?} is not known")).hint("use always, prefer or never")),
        };
        let host = Host {
            root,
            netns: if rootless::is_rootless() { run.join("netns") } else { PathBuf::from("/run/netns") },
            rootless_netns: rootless::is_rootless().then(|| Host::rootless_netns_of(&run)),
            run,
            cni_conf: absolute(self.cni_conf_dir)?,
            cni_state: absolute(self.cni_state_dir)?,
            plugins: Plugins { path: self.cni_path, policy, limit: Duration::from_secs(self.cni_timeout.max(1)) },
            runtime: self.runtime,
            cgroup_driver: chosen.driver,
            cgroup_parent: self.cgroup_parent.unwrap_or_else(|| chosen.driver.default_parent().to_owned()),
            keep_free: self.keep_free,
            registry: None,
            halt: Halt::default(),
        };
        Ok(Context { host, format: self.format, driver: chosen })
    }
}

/// How the words of a command that made a box divide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operands {
    /// How many words at the end are image and command.
    pub count: usize,
    /// The word after which its options begin.
    pub subcommand: &'static str,
}

/// Reads the words of a command that makes a container or a sandbox; `None` for any other.
pub fn operands(words: &[String]) -> Option<Operands> {
    match Cli::try_parse_from(words).ok()?.command {
        Command::Run(args) => Some(Operands { count: 1 + args.container.command().len(), subcommand: "run" }),
        Command::Create(args) => Some(Operands { count: 1 + args.container.command().len(), subcommand: "create" }),
        Command::Sandbox(sandbox::Command::Create(_)) => Some(Operands { count: 0, subcommand: "create" }),
        _ => None,
    }
}

fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path).map_err(|error| Fault::invalid(format!("{}: {error}", path.display())).hint("give an absolute path"))
}

impl Cli {
    /// Whether every fault of this command answers 125, so that it cannot be taken for the container's own status.
    pub fn runs_a_container(&self) -> bool {
        matches!(self.command, Command::Run(_) | Command::Exec(_))
    }

    /// Carries the command out; answers the exit status.
    pub fn run(self) -> Result<u8> {
        if let Command::Completion(args) = self.command {
            return complete(args.shell);
        }
        // Before all else: a process with threads can enter no user namespace.
        if !matches!(self.command, Command::Doctor(_) | Command::Seccomp(_) | Command::Cni(_)) {
            rootless::enter()?;
        }
        self.refuse_without_root()?;
        let needs_privilege = self.changes_the_host();
        if self.command.starts_a_process() {
            cgroup_lock::keep_fast(PLANNING);
        }
        let context = self.global.context()?;
        if needs_privilege {
            privilege::require()?;
            mend_the_way_out(&context.host);
        }
        self.command.run(&context).map_err(with_a_way_out)
    }

    /// Refuses what an ordinary user's rkbox cannot do.
    fn refuse_without_root(&self) -> Result<()> {
        let (what, way) = match &self.command {
            Command::Pause(_) | Command::Unpause(_) => ("freezing", "rkbox kill -s STOP and -s CONT stop the first process"),
            Command::Update(args) if args.bounds.read().is_ok_and(|bounds| bounds == Resources::default()) => return Ok(()),
            Command::Update(_) | Command::Stats(_) => ("what works by control groups", "run rkbox as root"),
            _ => return Ok(()),
        };
        rootless::refuse(what, way)
    }

    /// Whether the command makes or takes back links, mounts, namespaces or files of other users.
    fn changes_the_host(&self) -> bool {
        match &self.command {
            Command::Image(_)
            | Command::Completion(_)
            | Command::Seccomp(_)
            | Command::Doctor(_)
            | Command::Unit(_)
            | Command::Ps(_)
            | Command::Cp(_)
            | Command::Diff(_)
            | Command::Export(_)
            | Command::Stats(_)
            | Command::Top(_)
            | Command::Inspect(_)
            | Command::Logs(_)
            | Command::Events(_)
            | Command::Port(_)
            | Command::Bundle(_) => false,
            Command::Sandbox(command) => !matches!(command, sandbox::Command::Ls(_) | sandbox::Command::Inspect(_)),
            Command::Net(command) => !command.only_reads(),
            Command::Cni(_) => false,
            Command::Volume(command) => command.changes_the_host(),
            Command::Run(_)
            | Command::PortForward(_)
            | Command::Update(_)
            | Command::Rename(_)
            | Command::Rm(_)
            | Command::Gc(_)
            | Command::Create(_)
            | Command::Start(_)
            | Command::Restart(_)
            | Command::Stop(_) => true,
            Command::Kill(_) | Command::Pause(_) | Command::Unpause(_) | Command::Wait(_) | Command::Exec(_) | Command::Attach(_) => true,
            Command::Repair(_) => true,
        }
    }
}

/// An ordinary user's pasta that was killed is started again by the next command; one that cannot be is no reason not to go on.
fn mend_the_way_out(host: &Host) {
    let mended = host.rootless_netns.as_deref().map(rootless_netns::mend);
    match mended {
        Some(Ok(true)) => output::note("rkbox: pasta had ended, and was started again"),
        Some(Err(fault)) => {
            output::note(&format!("rkbox: nothing leads out of the networks: {fault}"));
            output::hints(&fault);
        }
        _ => {}
    }
}

/// Adds what helps against any fault of its kind to one that says nothing itself.
fn with_a_way_out(fault: Fault) -> Fault {
    if !fault.hints().is_empty() {
        return fault;
    }
    match fault.kind() {
        Kind::PermissionDenied => match privilege::require() {
            Err(lacking) => fault.hint(format!("{lacking}: run it as root")),
            Ok(()) => fault,
        },
        Kind::ResourceExhausted => fault.hint("make room there, then try again; rkbox gc takes back what was left"),
        _ => fault,
    }
}

impl Command {
    /// Whether the command calls the runtime to start a process, soon.
    fn starts_a_process(&self) -> bool {
        match self {
            Command::Run(_) | Command::Exec(_) | Command::Create(_) | Command::Start(_) | Command::Restart(_) => true,
            Command::Sandbox(command) => matches!(command, sandbox::Command::Create(_) | sandbox::Command::Start(_)),
            _ => false,
        }
    }

    fn run(self, context: &Context) -> Result<u8> {
        match self {
            Command::Image(command) => image::run(context, command),
            Command::Sandbox(command) => sandbox::run(context, command),
            Command::Net(command) => network::run(context, command),
            Command::Cni(command) => cni::run(context, &command),
            Command::Volume(command) => volume::run(context, command),
            Command::Bundle(command) => bundle::run(context, command),
            Command::Run(args) => container::run(context, &args),
            Command::Create(args) => container::create(context, &args),
            Command::Start(args) => container::start(context, &args),
            Command::Stop(args) => container::stop(context, &args),
            Command::Restart(args) => container::restart(context, &args),
            Command::Kill(args) => container::kill(context, &args),
            Command::Pause(args) => container::pause(context, &args),
            Command::Unpause(args) => container::unpause(context, &args),
            Command::Wait(args) => container::wait(context, &args),
            Command::Exec(args) => container::exec(context, &args),
            Command::Attach(args) => container::attach(context, &args),
            Command::Logs(args) => container::logs(context, &args),
            Command::Ps(args) => container::ps(context, &args),
            Command::Inspect(args) => container::inspect(context, &args),
            Command::Rename(args) => container::rename(context, &args),
            Command::Rm(args) => container::rm(context, &args),
            Command::Cp(args) => transfer::cp(context, &args),
            Command::Diff(args) => transfer::diff(context, &args),
            Command::Export(args) => transfer::export(context, &args),
            Command::Stats(args) => usage::stats(context, &args),
            Command::Top(args) => usage::top(context, &args),
            Command::Update(args) => usage::update(context, &args),
            Command::Port(args) => port::run(context, &args),
            Command::Events(args) => container::events(context, &args),
            Command::Repair(args) => repair::run(context, &args),
            Command::PortForward(args) => port_forward::run(context, &args),
            Command::Gc(args) => gc::run(context, &args),
            Command::Doctor(args) => doctor::run(context, &args),
            Command::Unit(args) => unit::run(context, &args),
            Command::Seccomp(args) => seccomp::run(context, &args),
            Command::Completion(_) => Ok(0),
        }
    }
}

fn complete(shell: clap_complete::Shell) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut <Cli as clap::CommandFactory>::command(), "rkbox", &mut script);
    super::output::text(&String::from_utf8_lossy(&script));
    Ok(0)
}

#[cfg(test)]
#[path = "cli_tests.rs"]
mod tests;
