//! What a client asked, done.

use super::clients::{Role, Said};
use super::loops::{Monitor, Stage};
use crate::record::life::{Reply, Request};
use crate::sys::pty::Size;

impl Monitor {
    /// A client said something, or went.
    pub(super) fn on_client(&mut self, place: usize) {
        let Some(all) = self.clients.hear(place) else {
            if let Some(role) = self.clients.close(place) {
                self.on_gone(role);
            }
            return;
        };
        for said in all {
            match said {
                Said::Asked(request) => self.on_request(place, &request),
                Said::Input(bytes) => self.on_input(place, &bytes),
                Said::Nonsense => {
                    self.clients.close(place);
                    return;
                }
            }
        }
    }

    /// One that sent input went: for some containers that is the end of it.
    pub(super) fn on_gone(&mut self, role: Role) {
        if self.order.stdin_once && !self.streams.has_terminal() && matches!(role, Role::Attached { stdin: true, .. }) {
            self.streams.end_input();
        }
    }

    fn on_input(&mut self, place: usize, bytes: &[u8]) {
        let Some(Role::Attached { stdin: true, pace }) = self.clients.at(place).map(|client| client.role) else { return };
        match bytes {
            // The input of who started it is the container's.
            [] if self.order.stdin_once || pace => self.streams.end_input(),
            // Others may send more.
            [] => {}
            bytes => self.streams.push(bytes),
        }
    }

    fn on_request(&mut self, place: usize, request: &Request) {
        let (role, reply) = self.answer(request);
        let Some(client) = self.clients.at(place) else { return };
        if let Some(role) = role {
            client.role = role;
        }
        if let Some(reply) = reply {
            client.reply(&reply);
        }
        if matches!(role, Some(Role::Attached { .. })) {
            self.on_attached();
        }
        let over = match request {
            Request::Stop => true,
            Request::Restart { policy } => self.exit.as_ref().is_some_and(|exit| !policy.wants(exit.exit_code, self.restarts)),
            _ => false,
        };
        if over && matches!(self.stage, Stage::Waiting(_)) {
            self.finish();
        }
    }

    /// What becomes of the connection, and what is answered at once.
    fn answer(&mut self, request: &Request) -> (Option<Role>, Option<Reply>) {
        let done = || (None, Some(Reply::Done));
        let refused = |why: &str| (None, Some(Reply::Refused { why: why.to_owned() }));
        match request {
            Request::Status => (None, Some(self.status())),
            Request::Wait | Request::Stop => {
                self.stopping |= *request == Request::Stop;
                match (&self.stage, &self.exit) {
                    (Stage::Over(_), Some(exit)) => (None, Some(Reply::Exited(exit.clone()))),
                    _ => (Some(Role::Waiting), None),
                }
            }
            Request::Attach { stdin, pace } => match &self.stage {
                Stage::Over(_) => refused("the container has ended"),
                _ => (Some(Role::Attached { stdin: *stdin, pace: *pace }), Some(Reply::Done)),
            },
            Request::Resize { rows, columns } => match self.streams.resize(Size { rows: *rows, columns: *columns }) {
                Ok(()) => (None, None),
                Err(fault) => refused(&fault.to_string()),
            },
            Request::CloseStdin => {
                self.streams.end_input();
                done()
            }
            Request::ReopenLog => match self.output.reopen() {
                Ok(true) => done(),
                Ok(false) => refused("the container has no log"),
                Err(fault) => refused(&fault.to_string()),
            },
            Request::LogLimit { max_bytes, max_files } if self.output.limit(*max_bytes, *max_files) => done(),
            Request::LogLimit { .. } => refused("the container has no log"),
            Request::Name { name } => {
                self.order.name.clone_from(name);
                done()
            }
            Request::Restart { policy } => {
                self.order.restart = *policy;
                done()
            }
        }
    }

    fn status(&self) -> Reply {
        Reply::Status {
            pid: self.process().map(|process| process.pid),
            restarts: self.restarts,
            waiting: matches!(self.stage, Stage::Waiting(_)),
            health: self.checks.state(),
        }
    }
}
