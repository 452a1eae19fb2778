//! rkbox as a CNI plugin: started by the name of one, it reads a configuration from standard input and answers on standard output.
//!
//! Nothing of the command line is set up for it: a plugin lives for milliseconds.

mod delegate;
mod dispatch;
mod interface;
mod pool;
mod session;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::cni::built_in::names;

/// Answers a call of the CNI protocol when the program was started as a plugin: by the name of one, or as `rkbox cni exec NAME`.
pub fn entry() -> Option<ExitCode> {
    let mut words = std::env::args_os();
    let started_as = words.next()?;
    let own = Path::new(&started_as).file_name()?;
    let is = |word: Option<OsString>, text: &str| word.is_some_and(|word| word == text);
    let kind = match names().find(|name| own == *name) {
        Some(name) => name,
        None => {
            let named = is(words.next(), "cni") && is(words.next(), "exec");
            let wanted = words.next().filter(|_| named)?;
            names().find(|name| wanted == *name)?
        }
    };
    Some(ExitCode::from(dispatch::run(kind)))
}
