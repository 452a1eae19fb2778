//! One netlink socket and the exchange of messages over it, for the rtnetlink and the nf_tables door.

use std::os::fd::AsRawFd;

use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

use super::wire::{self, Malformed};

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// The kernel never builds a larger datagram for a dump (it stops at 32 KiB).
const RECEIVE: usize = 64 * 1024;
/// A send larger than this may not fit the default buffer (`net.core.wmem_default`, 208 KiB).
const LARGE: usize = 96 * 1024;

/// Why an exchange did not take place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelError {
    /// `socket`, `bind` or `setsockopt` failed.
    #[error("open a netlink socket: {0}")]
    Open(Errno),
    /// `send` failed.
    #[error("send to the kernel: {0}")]
    Send(Errno),
    /// `recv` failed.
    #[error("receive from the kernel: {0}")]
    Receive(Errno),
    /// An answer did not fit its own lengths.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The kernel left a request without an answer.
    #[error("the kernel gave no answer")]
    NoAnswer,
}

impl ChannelError {
    /// What the kernel answered, when it was asked.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            ChannelError::Open(errno) | ChannelError::Send(errno) | ChannelError::Receive(errno) => Some(*errno),
            ChannelError::Malformed(_) | ChannelError::NoAnswer => None,
        }
    }
}

/// A message that answers a request with data.
#[derive(Clone, Debug)]
pub struct Reply {
    /// `nlmsg_type`.
    pub kind: u16,
    /// What follows the header.
    pub body: Vec<u8>,
}

/// The kernel's verdict on one request.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The request, by its sequence number.
    pub seq: u32,
    /// `None` is an ACK.
    pub refused: Option<Refusal>,
}

/// A request that the kernel did not carry out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its errno.
    pub errno: Errno,
    /// Its own words (extended ACK), when it has some.
    pub note: Option<String>,
}

/// All that the kernel said to one send.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// Data.
    pub replies: Vec<Reply>,
    /// ACKs and errors, in order.
    pub verdicts: Vec<Verdict>,
    /// A dump reached its end.
    pub done: bool,
    /// Something changed during a dump, which may therefore be inconsistent.
    pub interrupted: bool,
}

/// An open netlink socket; it belongs for ever to the network namespace of the thread that opened it.
pub struct Channel {
    socket: Socket,
    seq: u32,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Channel({})", self.socket.as_raw_fd())
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

impl Channel {
    /// Opens a socket of `protocol` (`NETLINK_ROUTE`, `NETLINK_NETFILTER`) in the calling thread's network namespace.
    pub fn open(protocol: isize) -> Result<Channel, ChannelError> {
        let open = || -> std::io::Result<Socket> {
            let mut socket = Socket::new(protocol)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_cap_ack(true)?;
            socket.set_ext_ack(true)?;
            // Lets the kernel filter dumps; it also refuses what it would have ignored. Kernels before 4.20 do without.
            let _ = socket.set_netlink_get_strict_chk(true);
            Ok(socket)
        };
        let socket = open().map_err(|error| ChannelError::Open(errno_of(&error)))?;
        Ok(Channel { socket, seq: 1, buffer: Vec::with_capacity(RECEIVE) })
    }

    /// Takes `count` sequence numbers; answers the first.
    pub fn sequence(&mut self, count: u32) -> u32 {
        let first = self.seq;
        self.seq = self.seq.wrapping_add(count).max(1);
        first
    }

    /// Sends `bytes` in one datagram and reads until `enough` or until the kernel has nothing more to say.
    ///
    /// The kernel carries out requests inside `send`, and queues its answers before `send` returns; the next part of a dump is made
    /// inside `recv`. So a receive that would block means that nothing will ever come, and no exchange can hang.
    pub fn exchange(&mut self, bytes: &[u8], enough: impl Fn(&Answers) -> bool) -> Result<Answers, ChannelError> {
        self.drain();
        if bytes.len() > LARGE {
            self.make_room(bytes.len());
        }
        self.socket.send(bytes, 0).map_err(|error| ChannelError::Send(errno_of(&error)))?;
        let mut answers = Answers::default();
        while !enough(&answers) && self.receive()? {
            for frame in wire::frames(&self.buffer) {
                note_frame(&frame?, &mut answers)?;
            }
        }
        Ok(answers)
    }

    /// Receives one datagram into the buffer; `false` when none is there.
    fn receive(&mut self) -> Result<bool, ChannelError> {
        loop {
            self.buffer.clear();
            match self.socket.recv(&mut self.buffer, libc::MSG_DONTWAIT | libc::MSG_TRUNC) {
                Ok(length) if length > RECEIVE => return Err(Malformed("datagram").into()),
                Ok(_) => return Ok(true),
                Err(error) => match errno_of(&error) {
                    Errno::EAGAIN => return Ok(false),
                    // A transaction of thousands, each refused, says so more often than there is room; the first answers are there.
                    Errno::EINTR | Errno::ENOBUFS => {}
                    errno => return Err(ChannelError::Receive(errno)),
                },
            }
        }
    }

    /// Lets one datagram be as long as `length`; where that is not allowed the send says so.
    fn make_room(&self, length: usize) {
        use std::os::fd::{AsRawFd as _, BorrowedFd};
        #[allow(unsafe_code)]
        // SAFETY: the socket owns the descriptor and outlives the borrow.
        let fd = unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) };
        let _ = nix::sys::socket::setsockopt(&fd, nix::sys::socket::sockopt::SndBufForce, &(length + LARGE));
    }

    /// Throws away what an exchange that ended early has left.
    fn drain(&mut self) {
        while matches!(self.receive(), Ok(true)) {}
    }
}

fn note_frame(frame: &wire::Frame<'_>, answers: &mut Answers) -> Result<(), ChannelError> {
    answers.interrupted |= frame.flags & NLM_F_DUMP_INTR != 0;
    match frame.kind {
        NLMSG_ERROR => {
            let refused = refusal_in(frame)?;
            answers.verdicts.push(Verdict { seq: frame.seq, refused });
        }
        NLMSG_DONE => {
            // A dump that fails on its way says so in its last message.
            let code = frame.body.get(..4).map_or(Ok(0), |code| wire::u32_of(code, "end of a dump"))? as i32;
            if code < 0 {
                answers.verdicts.push(Verdict { seq: frame.seq, refused: Some(Refusal { errno: Errno::from_raw(-code), note: None }) });
            }
            answers.done = true;
        }
        kind if kind < 16 => {}
        kind => answers.replies.push(Reply { kind, body: frame.body.to_vec() }),
    }
    Ok(())
}

fn refusal_in(frame: &wire::Frame<'_>) -> Result<Option<Refusal>, Malformed> {
    let code = frame.body.get(..4).ok_or(Malformed("verdict")).and_then(|code| wire::u32_of(code, "verdict"))? as i32;
    if code == 0 {
        return Ok(None);
    }
    // NETLINK_CAP_ACK: only the header of the request follows the code, then the attributes of the extended ACK.
    let note = match frame.body.get(20..) {
        Some(extended) if frame.flags & NLM_F_ACK_TLVS != 0 => wire::find(extended, NLMSGERR_ATTR_MSG)?.map(wire::string_of),
        _ => None,
    };
    Ok(Some(Refusal { errno: Errno::from_raw(-code), note }))
}
