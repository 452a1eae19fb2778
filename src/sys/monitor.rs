//! The monitor of a container, as others see it: started, found, ended.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use super::exec::{Bond, Exec, Stream};
use super::streams::{self, Moved};
use super::{file, proc, runc, scratch};
use crate::fault::{Context as _, Fault, Kind, Result};
use crate::record::life::{Alive, Answer, Order};

/// The name under which rkbox is called to be a monitor (`argv[0]`).
pub const PROGRAM: &str = "rkbox-monitor";
/// How long a monitor may take to answer: the runtime has its own, shorter limit.
const PATIENCE: Duration = runc::START_LIMIT.saturating_add(Duration::from_secs(10));
/// How long a monitor may take to go.
const END_LIMIT: Duration = Duration::from_secs(10);
/// A longer answer is none.
const ANSWER_LIMIT: usize = 64 << 10;

/// Starts a monitor and waits until it has carried out its order; answers the pid of the container's first process.
///
/// The monitor is this very program, executed again. Until it answers it dies with the calling thread; from then on it outlives all.
/// *Errors:* what the runtime said; nothing of the monitor or the process is left then.
pub fn start(order: &Order) -> Result<i32> {
    let mut child = spawn(order).doing(|| "starting the monitor")?;
    match answer(&mut child) {
        Ok(Answer::Ready(pid)) => Ok(pid),
        Ok(Answer::Failed { kind, message }) => {
            let _ = child.wait();
            Err(Fault::new(kind, message))
        }
        Err(fault) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(fault)
        }
    }
}

fn spawn(order: &Order) -> Result<Child> {
    let io = |error: std::io::Error| Fault::internal(error.to_string());
    let text = serde_json::to_vec(order).map_err(|error| Fault::from_error(Kind::Internal, error))?;
    let mut told = scratch::create().map_err(io)?;
    told.write_all(&text).and_then(|()| told.seek(SeekFrom::Start(0))).map_err(io)?;
    let exec = Exec::new(Path::new("/proc/self/exe")).arg0(PROGRAM).arg(order.id.short());
    Ok(exec.streams(Stream::Fd(told.into()), Stream::Pipe, Stream::Null).spawn(Bond::Monitor)?)
}

/// The one message of a monitor: four bytes of length, little endian, and JSON.
fn answer(child: &mut Child) -> Result<Answer> {
    let pipe = child.stdout.take().ok_or_else(|| Fault::internal("the monitor has no pipe"))?;
    let pipe = OwnedFd::from(pipe);
    streams::set_nonblocking(&pipe)?;
    let deadline = Instant::now() + PATIENCE;
    let mut got = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some((length, rest)) = got.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            if rest.len() >= length {
                return serde_json::from_slice(&rest[..length]).map_err(|error| Fault::from_error(Kind::Internal, error));
            }
        }
        match streams::read(&pipe, &mut chunk) {
            Moved::Bytes(count) if got.len() < ANSWER_LIMIT => got.extend_from_slice(&chunk[..count]),
            Moved::Bytes(_) | Moved::End => return Err(Fault::internal("the monitor ended without an answer")),
            Moved::Later => {
                if !proc::wait_readable(pipe.as_fd(), deadline.saturating_duration_since(Instant::now()))? {
                    return Err(Fault::new(Kind::DeadlineExceeded, format!("the monitor did not answer within {PATIENCE:?}")));
                }
            }
        }
    }
}

/// Sends the one message of a monitor, which is this process, and lets go of the streams that it was started with.
pub fn send_answer(answer: &Answer) -> Result<()> {
    let text = serde_json::to_vec(answer).map_err(|error| Fault::from_error(Kind::Internal, error))?;
    let mut message = u32::try_from(text.len()).unwrap_or(0).to_le_bytes().to_vec();
    message.extend_from_slice(&text);
    let mut out = std::io::stdout();
    out.write_all(&message).and_then(|()| out.flush()).map_err(|error| Fault::internal(error.to_string()))?;
    streams::let_go()
}

fn alive_file(run: &Path) -> PathBuf {
    run.join("monitor.json")
}

/// Writes down who watches, in the volatile directory of the container.
pub fn write_alive(run: &Path, alive: &Alive) -> Result<()> {
    let text = serde_json::to_vec(alive).map_err(|error| Fault::from_error(Kind::Internal, error))?;
    file::write_atomic(&alive_file(run), 0o600, &text, file::Durable::No)?;
    Ok(())
}

/// Removes what [`write_alive`] wrote.
pub fn forget(run: &Path) -> Result<()> {
    file::remove_file(&alive_file(run))?;
    Ok(())
}

/// What a monitor wrote of itself, dead or alive; `None` when there was none in this boot, or when it ended in order.
pub fn find(run: &Path) -> Result<Option<Alive>> {
    let Some(text) = file::find(&alive_file(run), 1 << 16)? else { return Ok(None) };
    let Ok(alive) = serde_json::from_slice::<Alive>(&text) else { return Ok(None) };
    Ok((alive.boot_id == proc::boot_id()?).then_some(alive))
}

/// Opens the monitor of a container; `None` when it is gone.
pub fn open(alive: &Alive) -> Result<Option<OwnedFd>> {
    proc::open_same(alive.monitor, alive.monitor_start)
}

/// Waits until the monitor of `run` has ended by itself; whether it has within `limit`.
pub fn wait_end(run: &Path, limit: Duration) -> Result<bool> {
    let Some(monitor) = find(run)?.map(|alive| open(&alive)).transpose()?.flatten() else { return Ok(true) };
    Ok(proc::wait_readable(monitor.as_fd(), limit)?)
}

/// Kills the monitor of `run`, if there is one; its container is not touched.
pub fn kill(run: &Path) -> Result<()> {
    let Some(alive) = find(run)? else { return Ok(()) };
    if let Some(monitor) = open(&alive)? {
        proc::send_signal(monitor.as_fd(), libc::SIGKILL)?;
        if !proc::wait_readable(monitor.as_fd(), END_LIMIT)? {
            return Err(Fault::new(Kind::DeadlineExceeded, format!("monitor {} survives SIGKILL", alive.monitor)));
        }
    }
    forget(run)
}
