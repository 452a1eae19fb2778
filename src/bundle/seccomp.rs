//! The seccomp filter of a container: our own profile, made for its capabilities, or a file in Docker's or the OCI form.
//!
//! What is not in the table answers ENOSYS, so that a C library which tries a call newer than the profile takes the older one; what is
//! there and refused answers EPERM. Only the machine's own system calls have rules: those of its 32-bit kin (`int 0x80`, x32) would each
//! double the filter, and the kernel's oldest code, for programs that few images have; `seccomp-archs=all` asks for them.

mod arguments;
mod file;
mod rule;
mod table;

use std::collections::BTreeSet;

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompBuilder};

use super::capabilities::CapabilitySet;
use super::spec::internal;
use crate::fault::Result;
pub use file::{Target, parse};
pub use rule::{Compare, Outcome, Rule};
use rule::{ENOSYS, EPERM};
use table::{GROUPS, Verdict};

/// Which instruction sets of the machine may make system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Architectures {
    /// The machine's own.
    #[default]
    Native,
    /// Its 32-bit kin too.
    All,
}

/// Makes the default profile for a container with these capabilities.
pub fn default_profile(capabilities: &CapabilitySet, architectures: Architectures) -> Result<LinuxSeccomp> {
    let calls = rules(capabilities, architectures).iter().map(Rule::syscall).collect::<Result<Vec<_>>>()?;
    LinuxSeccompBuilder::default()
        .default_action(LinuxSeccompAction::ScmpActErrno)
        .default_errno_ret(ENOSYS)
        .architectures(of_machine(architectures))
        .syscalls(calls)
        .build()
        .map_err(internal)
}

/// The rules for these capabilities: all that is allowed, all that is refused, then those that look at arguments.
pub fn rules(capabilities: &CapabilitySet, architectures: Architectures) -> Vec<Rule> {
    let holds = |names: &[&str]| names.iter().any(|name| capabilities.contains(*name));
    let (mut allowed, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for group in GROUPS {
        let names = group.names.split_whitespace();
        match group.verdict {
            Verdict::Allow => allowed.extend(names),
            Verdict::Needs(needed) | Verdict::AbsentWithout(needed) if holds(needed) => allowed.extend(names),
            Verdict::Needs(_) | Verdict::Refuse => refused.extend(names),
            // The default answer.
            Verdict::AbsentWithout(_) | Verdict::Arguments => {}
        }
    }
    let list = |names: BTreeSet<&'static str>| names.into_iter().collect::<Vec<_>>();
    let mut rules = vec![Rule::always(Outcome::Allow, &list(allowed)), Rule::always(Outcome::Error(EPERM), &list(refused))];
    rules.extend(arguments::rules(holds(&["CAP_SYS_ADMIN"]), holds(&["CAP_AUDIT_WRITE"]), architectures));
    rules
}

/// The machine's own architecture, and with `All` those whose programs it runs too. *Source:* libseccomp's names.
fn of_machine(architectures: Architectures) -> Vec<Arch> {
    let all: &[Arch] = match std::env::consts::ARCH {
        "x86_64" => &[Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32],
        "aarch64" => &[Arch::ScmpArchAarch64, Arch::ScmpArchArm],
        // Nothing named: the runtime takes the machine's own.
        _ => &[],
    };
    let count = if architectures == Architectures::All { all.len() } else { all.len().min(1) };
    all[..count].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::capabilities;

    /// What the rules answer to a call, as the kernel would run them.
    pub(super) fn answer(rules: &[Rule], name: &str, args: &[u64]) -> Outcome {
        let holds = |(index, compare): &(usize, Compare)| {
            let arg = args.get(*index).copied().unwrap_or(0);
            match *compare {
                Compare::Equal(value) => arg == value,
                Compare::NotEqual(value) => arg != value,
                Compare::Greater(value) => arg > value,
                Compare::Masked { mask, value } => arg & mask == value,
            }
        };
        let matching: BTreeSet<Outcome> =
            rules.iter().filter(|rule| rule.names.contains(&name) && rule.when.iter().all(holds)).map(|rule| rule.outcome).collect();
        assert!(matching.len() <= 1, "{name} {args:x?} has two answers: {matching:?}");
        matching.first().copied().unwrap_or(Outcome::Error(ENOSYS))
    }

    const REFUSED: Outcome = Outcome::Error(EPERM);
    const ABSENT: Outcome = Outcome::Error(ENOSYS);

    #[test]
    fn the_default_container_is_refused_what_leads_out() {
        let rules = rules(&capabilities::default_set(), Architectures::Native);
        for name in
            ["mount", "bpf", "keyctl", "io_uring_setup", "setns", "kexec_load", "open_by_handle_at", "perf_event_open", "userfaultfd"]
        {
            assert_eq!(answer(&rules, name, &[]), REFUSED, "{name}");
        }
        for name in ["clone3", "io_pgetevents", "no_such_call", "vserver"] {
            assert_eq!(answer(&rules, name, &[]), ABSENT, "{name}");
        }
        for name in ["read", "chroot", "ptrace", "statx", "execve"] {
            assert_eq!(answer(&rules, name, &[]), Outcome::Allow, "{name}");
        }
    }

    #[test]
    fn a_capability_opens_what_the_kernel_asks_it_for() {
        let with = |names: &[&str]| {
            let mut set = capabilities::default_set();
            set.extend(names.iter().map(|name| (*name).to_owned()));
            rules(&set, Architectures::Native)
        };
        for (capability, call) in [
            ("CAP_SYS_ADMIN", "mount"),
            ("CAP_SYS_ADMIN", "clone3"),
            ("CAP_BPF", "bpf"),
            ("CAP_PERFMON", "perf_event_open"),
            ("CAP_SYS_PTRACE", "kcmp"),
            ("CAP_SYS_NICE", "mbind"),
            ("CAP_SYS_TIME", "clock_settime"),
        ] {
            assert_eq!(answer(&with(&[capability]), call, &[]), Outcome::Allow, "{call}");
            assert_ne!(answer(&with(&[]), call, &[]), Outcome::Allow, "{call}");
        }
        assert_eq!(answer(&with(&["CAP_SYS_ADMIN"]), "unshare", &[0x1000_0000]), Outcome::Allow);
        assert_eq!(answer(&rules(&CapabilitySet::new(), Architectures::Native), "chroot", &[]), REFUSED);
        for never in ["swapon", "modify_ldt"] {
            assert_eq!(answer(&with(&["CAP_SYS_ADMIN"]), never, &[]), REFUSED);
        }
    }

    #[test]
    fn arguments_are_judged_with_all_their_bits() {
        let rules = rules(&capabilities::default_set(), Architectures::Native);
        let of = |name: &str, args: &[u64]| answer(&rules, name, args);
        let thread = 0x3d_0f00; // What a C library passes for a thread.
        for call in ["clone", "unshare"] {
            assert_eq!(of(call, &[thread]), Outcome::Allow);
            for flag in [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000_u64] {
                assert_eq!(of(call, &[thread | flag]), REFUSED, "{call} {flag:x}");
            }
        }
        assert_eq!((of("clone", &[0x80 | 0x11]), of("unshare", &[0x80])), (Outcome::Allow, REFUSED));
        for (family, expected) in
            [(1, true), (2, true), (10, true), (16, true), (17, true), (38, false), (40, false), (44, false), (4, false)]
        {
            let outcome = of("socket", &[family, 1, 0]);
            assert_eq!(outcome == Outcome::Allow, expected, "family {family}");
            assert!(expected || outcome == Outcome::Error(97), "family {family}");
            // The kernel looks at the lower half only.
            assert_eq!(of("socket", &[family | 1 << 32, 1, 0]), Outcome::Error(97), "family {family}");
        }
        assert_eq!(of("socket", &[16, 3, 9]), Outcome::Error(22));
        assert_eq!(of("personality", &[0xffff_ffff]), Outcome::Allow);
        for no_randomization in [0x4_0000, 0x40_0000 | 8] {
            assert_eq!(of("personality", &[no_randomization]), ABSENT);
        }
    }

    #[test]
    fn the_filter_is_for_the_machine_alone_unless_asked() {
        let set = capabilities::default_set();
        let archs = |which| default_profile(&set, which).unwrap().architectures().clone().unwrap_or_default().len();
        assert_eq!(archs(Architectures::Native), 1);
        assert!(archs(Architectures::All) > 1);
    }
}
