//! `rkbox attach`, and the client that `run` is to its own container: streams, keys, sizes, signals.

use std::io::IsTerminal as _;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{ArgAction, Args};

use super::keys::{DETACH_KEYS, Keys, parse_keys, without_keys};
use super::{run_dir, state};
use crate::cmd::{Context, output, records};
use crate::fault::{Fault, Kind, Result};
use crate::record::ContainerRecord;
use crate::record::life::{Channel, Exit, Reply, Request};
use crate::sys::control::Connection;
use crate::sys::pty::{self, Raw};
use crate::sys::streams::{self, Moved};
use crate::sys::watch::{self, Interest, Signals, Watch};
use crate::sys::{Host, proc};

/// How long a monitor may take to say that it begins.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `rkbox attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// Do not send standard input
    #[arg(long)]
    pub no_stdin: bool,
    /// Keys that leave it without ending the container
    #[arg(long, value_name = "KEYS", default_value = DETACH_KEYS, value_parser = parse_keys)]
    pub detach_keys: Keys,
    /// Hand signals on to the container
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_missing_value = "true", hide_possible_values = true)]
    pub sig_proxy: bool,
    /// Name, id or unique prefix of an id
    #[arg(value_name = "CONTAINER")]
    pub key: String,
}

/// How a client is attached.
#[derive(Clone, Debug)]
pub struct How {
    /// Whether our input is the container's.
    pub stdin: bool,
    /// Whether our pace is the container's.
    pub pace: bool,
    /// Whether signals to us are for the container.
    pub sig_proxy: bool,
    /// What leaves it.
    pub keys: Keys,
}

/// Attaches to a container; answers its exit status, or 0 when it was left.
pub fn run(cx: &Context, args: &AttachArgs) -> Result<u8> {
    let id = records::find(&cx.host, records::BoxKind::Container, &args.key)?;
    let record = records::container(&cx.host, &id)?;
    if record.tty && !args.no_stdin && record.stdin && !std::io::stdin().is_terminal() {
        return Err(
            Fault::invalid("the container has a terminal, standard input is none").hint("add --no-stdin, or call rkbox from a terminal")
        );
    }
    let how = How { stdin: record.stdin && !args.no_stdin, pace: false, sig_proxy: args.sig_proxy, keys: args.detach_keys.clone() };
    let connection = connect(&cx.host, &record, &how)?;
    Ok(copy(&record, &how, connection)?.code())
}

/// What the thread that reads our input and the one that writes our output share.
struct Shared {
    connection: Mutex<Connection>,
    left: AtomicBool,
}

impl Shared {
    fn send(&self, act: impl FnOnce(&mut Connection) -> Result<()>) -> Result<()> {
        let mut connection = self.connection.lock().map_err(|_| Fault::internal("a thread of this client panicked"))?;
        act(&mut connection)
    }
}

/// What came of being attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The container ended, with this status.
    Ended(u8),
    /// It was left and goes on: by its keys (0), or because a signal that is not for it ended us (128 and the signal).
    Left(u8),
}

impl Outcome {
    /// The exit status of the command.
    pub fn code(self) -> u8 {
        match self {
            Outcome::Ended(code) | Outcome::Left(code) => code,
        }
    }
}

/// Copies until the container ends or is left. A terminal is put back as it was, whatever happens.
pub fn copy(record: &ContainerRecord, how: &How, mut connection: Connection) -> Result<Outcome> {
    let mut signals = vec![watch::RESIZED];
    signals.extend(watch::ASKED_TO_END);
    let signals = Signals::take(&signals)?;
    let shared = Arc::new(Shared { connection: Mutex::new(connection.writer()?), left: AtomicBool::new(false) });
    let raw = if record.tty && how.stdin && std::io::stdin().is_terminal() { Some(Raw::enter()?) } else { None };
    if record.tty {
        send_size(&shared)?;
    }
    if how.stdin {
        let (shared, keys) = (Arc::clone(&shared), if raw.is_some() { how.keys.bytes().to_vec() } else { Vec::new() });
        // It ends with the process: nobody can wait for a read of a terminal.
        std::thread::spawn(move || send_input(&shared, &keys));
    }
    let target = match how.sig_proxy {
        true => SignalsTo::Process(records::runtime(&record.runtime).open_process(record.id.as_str())?),
        false => SignalsTo::Us,
    };
    let outcome = receive(&mut connection, &shared, &signals, &target);
    drop(raw);
    match outcome? {
        Some(outcome) => Ok(outcome),
        None if shared.left.load(Ordering::SeqCst) => Ok(Outcome::Left(0)),
        None => state::exit(record).map(|exit| Outcome::Ended(exit.map_or(Exit::UNKNOWN, |exit| exit.exit_code))),
    }
}

/// Becomes a client of the container's monitor: from here on nothing that the container prints is missed.
pub fn connect(host: &Host, record: &ContainerRecord, how: &How) -> Result<Connection> {
    let refused = |why: String| Fault::new(Kind::FailedPrecondition, why);
    let mut connection = Connection::open(&run_dir(host, &record.id))?.ok_or_else(|| {
        let state = state::of(host, record).map_or("in an unknown state".to_owned(), |state| state.text());
        refused(format!("container {} has no monitor: it is {state}", record.name))
            .hint("only what was started with run -d, run -t or start can be attached to; rkbox repair finds lost ones")
    })?;
    connection.ask(&Request::Attach { stdin: how.stdin, pace: how.pace })?;
    match connection.reply(Some(PATIENCE))? {
        Some(Reply::Done) => {}
        Some(Reply::Refused { why }) => return Err(refused(why)),
        _ => return Err(refused("the monitor is gone".to_owned())),
    }
    connection.wait_for_ever()?;
    Ok(connection)
}

fn send_size(shared: &Shared) -> Result<()> {
    match pty::size(std::io::stdout()).or_else(|| pty::size(std::io::stdin())) {
        Some(size) if size.rows > 0 && size.columns > 0 => {
            shared.send(|connection| connection.ask(&Request::Resize { rows: size.rows, columns: size.columns }))
        }
        _ => Ok(()),
    }
}

/// Sends what is typed until the keys that leave come, or the input ends.
fn send_input(shared: &Shared, keys: &[u8]) {
    let mut chunk = [0; 32 << 10];
    let mut seen = 0;
    loop {
        let count = match streams::read(std::io::stdin(), &mut chunk) {
            Moved::Bytes(count) => count,
            Moved::Later => {
                let _ = proc::wait_readable(std::os::fd::AsFd::as_fd(&std::io::stdin()), Duration::from_secs(60));
                continue;
            }
            Moved::End => {
                let _ = shared.send(|connection| connection.send(Channel::Stdin, &[]));
                return;
            }
        };
        let (bytes, leaves) = without_keys(&chunk[..count], keys, &mut seen);
        if !bytes.is_empty() && shared.send(|connection| connection.send(Channel::Stdin, &bytes)).is_err() {
            return;
        }
        if leaves {
            shared.left.store(true, Ordering::SeqCst);
            let _ = shared.send(|connection| connection.shut());
            return;
        }
    }
}

/// For whom the signals are that ask us to end.
enum SignalsTo {
    /// For the container's process, if there is one.
    Process(Option<OwnedFd>),
    /// For us.
    Us,
}

/// Writes what the container prints; answers what came of it, `None` when the connection ended first.
fn receive(connection: &mut Connection, shared: &Shared, signals: &Signals, target: &SignalsTo) -> Result<Option<Outcome>> {
    const FRAME: u64 = 1;
    let watch = Watch::new()?;
    watch.add(&*connection, FRAME, Interest::Read)?;
    watch.add(signals, 0, Interest::Read)?;
    loop {
        for ready in watch.wait(None)? {
            if ready.token != FRAME {
                match on_signals(signals, shared, target)? {
                    Some(signal) => return Ok(Some(Outcome::Left(u8::try_from(128 + signal).unwrap_or(Exit::UNKNOWN)))),
                    None => continue,
                }
            }
            let Some((channel, payload)) = connection.receive()? else { return Ok(None) };
            match channel {
                Channel::Stdout if write(std::io::stdout().lock(), &payload) => {}
                Channel::Stderr if write(std::io::stderr().lock(), &payload) => {}
                Channel::Missed => {
                    output::note(&format!("rkbox: {} bytes of output were left out here", String::from_utf8_lossy(&payload)))
                }
                Channel::Word => {
                    if let Ok(Reply::Exited(exit)) = serde_json::from_slice(&payload) {
                        return Ok(Some(Outcome::Ended(exit.exit_code)));
                    }
                }
                // Nobody reads us any more.
                _ => {
                    shared.left.store(true, Ordering::SeqCst);
                    return Ok(None);
                }
            }
        }
    }
}

fn write(mut out: impl std::io::Write, bytes: &[u8]) -> bool {
    out.write_all(bytes).and_then(|()| out.flush()).is_ok()
}

/// Sees to the signals that have come; answers the one that ends us.
fn on_signals(signals: &Signals, shared: &Shared, target: &SignalsTo) -> Result<Option<i32>> {
    while let Some(signal) = signals.next() {
        match target {
            _ if signal == watch::RESIZED => send_size(shared)?,
            SignalsTo::Process(Some(process)) => proc::send_signal(std::os::fd::AsFd::as_fd(process), signal)?,
            SignalsTo::Process(None) => {}
            SignalsTo::Us => return Ok(Some(signal)),
        }
    }
    Ok(None)
}
