//! A rule of a filter, in words of our own, and how it is written in `config.json`.

use oci_spec::runtime::{
    LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};

use crate::bundle::spec::internal;
use crate::fault::Result;

/// "Operation not permitted": the call is there, and refused.
pub(super) const EPERM: u32 = 1;
/// "Function not implemented": as from a kernel without the call.
pub(super) const ENOSYS: u32 = 38;

/// What a container is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The kernel decides.
    Allow,
    /// This errno.
    Error(u32),
}

/// How an argument is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compare {
    /// All 64 bits are the value's.
    Equal(u64),
    /// Any bit differs.
    NotEqual(u64),
    /// Unsigned.
    Greater(u64),
    /// The bits of the mask are the value's.
    Masked {
        /// Which bits count.
        mask: u64,
        /// What they are.
        value: u64,
    },
}

/// System calls, conditions on their arguments (all must hold), and the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The names.
    pub names: Vec<&'static str>,
    /// Index of an argument and what it is compared with.
    pub when: Vec<(usize, Compare)>,
    /// The answer.
    pub outcome: Outcome,
}

impl Rule {
    /// Whatever the arguments.
    pub fn always(outcome: Outcome, names: &[&'static str]) -> Self {
        Rule { names: names.to_vec(), when: Vec::new(), outcome }
    }

    /// Under conditions.
    pub fn when(outcome: Outcome, name: &'static str, when: &[(usize, Compare)]) -> Self {
        Rule { names: vec![name], when: when.to_vec(), outcome }
    }

    /// As the runtime reads it.
    pub(super) fn syscall(&self) -> Result<LinuxSyscall> {
        let names: Vec<String> = self.names.iter().map(|name| (*name).to_owned()).collect();
        let builder = match self.outcome {
            Outcome::Allow => LinuxSyscallBuilder::default().action(LinuxSeccompAction::ScmpActAllow),
            Outcome::Error(errno) => LinuxSyscallBuilder::default().action(LinuxSeccompAction::ScmpActErrno).errno_ret(errno),
        };
        let builder = builder.names(names);
        let args = self.when.iter().map(argument).collect::<Result<Vec<_>>>()?;
        let builder = if args.is_empty() { builder } else { builder.args(args) };
        builder.build().map_err(internal)
    }
}

fn argument((index, compare): &(usize, Compare)) -> Result<LinuxSeccompArg> {
    let (op, value, second) = match *compare {
        Compare::Equal(value) => (LinuxSeccompOperator::ScmpCmpEq, value, None),
        Compare::NotEqual(value) => (LinuxSeccompOperator::ScmpCmpNe, value, None),
        Compare::Greater(value) => (LinuxSeccompOperator::ScmpCmpGt, value, None),
        Compare::Masked { mask, value } => (LinuxSeccompOperator::ScmpCmpMaskedEq, mask, Some(value)),
    };
    let builder = LinuxSeccompArgBuilder::default().index(*index).value(value).op(op);
    let builder = if let Some(second) = second { builder.value_two(second) } else { builder };
    builder.build().map_err(internal)
}
