//! A gate before a registry: an HTTP proxy that lets requests through, writes them down, and spoils those that it is told to.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One request, as it came.
#[derive(Clone, Debug)]
pub struct Request {
    /// `GET`.
    pub verb: String,
    /// Path and query.
    pub path: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// A header; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Whether a blob is asked for.
    pub fn is_blob(&self) -> bool {
        self.verb == "GET" && self.path.contains("/blobs/")
    }
}

/// What the gate does with a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Lets it through.
    Pass,
    /// Lets so many bytes of the answer's body through, then closes.
    Cut(usize),
    /// As [`Act::Cut`], but stays open and silent.
    Stall(usize),
    /// Lets the answer through with one byte of its body changed.
    Spoil,
    /// Lets the request through without its `Range`.
    Whole,
    /// Answers itself: status line, headers with their line ends, body.
    Say(String, String, Vec<u8>),
}

impl Act {
    /// An empty answer.
    pub fn status(line: &str, headers: &str) -> Self {
        Act::Say(line.to_owned(), headers.to_owned(), Vec::new())
    }
}

/// A gate that stands until it is dropped.
pub struct Gate {
    /// Host and port.
    pub address: String,
    seen: Arc<Mutex<Vec<Request>>>,
    closed: Arc<AtomicBool>,
}

impl Gate {
    /// Opens a gate on 127.0.0.1 before `upstream`; `judge` says what to do with the nth request (from 0).
    pub fn open(port: u16, upstream: &str, judge: impl Fn(usize, &Request) -> Act + Send + Sync + 'static) -> Self {
        let address = format!("127.0.0.1:{port}");
        let listener = TcpListener::bind(&address).unwrap();
        let (seen, closed) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (upstream, judge) = (upstream.to_owned(), Arc::new(judge));
        let (noted, over) = (seen.clone(), closed.clone());
        std::thread::spawn(move || {
            apart();
            for client in listener.incoming() {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                let (upstream, judge, noted, over) = (upstream.clone(), judge.clone(), noted.clone(), over.clone());
                std::thread::spawn(move || {
                    apart();
                    serve(client, &upstream, judge.as_ref(), &noted, &over);
                });
            }
        });
        Gate { address, seen, closed }
    }

    /// What came so far.
    pub fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// How often each blob was asked for, by the end of its path.
    pub fn blobs(&self) -> std::collections::BTreeMap<String, usize> {
        let mut counts = std::collections::BTreeMap::new();
        for request in self.seen().iter().filter(|request| request.is_blob()) {
            *counts.entry(request.path.rsplit('/').next().unwrap().to_owned()).or_default() += 1;
        }
        counts
    }

    /// A reference to an image behind the gate.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
    }
}

/// Gives this thread a working directory of its own: a world cannot end while another thread shares that of its thread.
pub fn apart() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
}

fn serve(
    mut client: TcpStream,
    upstream: &str,
    judge: &(dyn Fn(usize, &Request) -> Act + Send + Sync),
    noted: &Mutex<Vec<Request>>,
    over: &AtomicBool,
) {
    let Some(request) = read_request(&mut client) else { return };
    let nth = {
        let mut noted = noted.lock().unwrap();
        noted.push(request.clone());
        noted.len() - 1
    };
    let act = judge(nth, &request);
    if let Act::Say(line, headers, body) = &act {
        let head = format!("HTTP/1.1 {line}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let _ = client.write_all(head.as_bytes()).and_then(|()| client.write_all(body));
        return;
    }
    let Ok(mut server) = TcpStream::connect(upstream) else { return };
    let mut head = format!("{} {} HTTP/1.1\r\n", request.verb, request.path);
    for (name, value) in &request.headers {
        let dropped = name == "connection" || (name == "range" && matches!(act, Act::Whole));
        if !dropped {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    let mut answer = Vec::new();
    if server.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).and_then(|()| server.read_to_end(&mut answer)).is_err() {
        return;
    }
    let body = answer.windows(4).position(|four| four == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let end = match act {
        Act::Cut(bytes) | Act::Stall(bytes) => (body + bytes).min(answer.len()),
        _ => answer.len(),
    };
    if matches!(act, Act::Spoil) && body < answer.len() {
        let last = answer.len() - 1;
        answer[last] ^= 1;
    }
    let _ = client.write_all(&answer[..end]);
    while matches!(act, Act::Stall(_)) && !over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn read_request(client: &mut TcpStream) -> Option<Request> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let text = String::from_utf8(head).ok()?;
    let mut lines = text.lines();
    let mut words = lines.next()?.split(' ');
    let (verb, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Some(Request { verb, path, headers })
}
