//! The verdict on every system call, in groups by what they are for.
//!
//! *Source:* the kernel's tables (`syscall_64.tbl` and `unistd.h` up to Linux 6.18), system call by system call, against what its manual page
//! says that a program without privileges needs it for; then the intent that Docker, containerd and podman document for their
//! profiles. Where they disagree the stricter one counts, unless a comment says why not. A name that the machine's architecture or
//! the runtime's libseccomp does not know is passed over by the runtime: it then has no rule, and answers ENOSYS.

/// What a container is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel decides.
    Allow,
    /// The kernel decides for those who have one of these capabilities; EPERM for all others.
    Needs(&'static [&'static str]),
    /// EPERM for everybody.
    Refuse,
    /// ENOSYS for those who have none of these capabilities, as from a kernel without it: programs then take the older call, which
    /// can be filtered or is safer.
    AbsentWithout(&'static [&'static str]),
    /// As in [`super::arguments`].
    Arguments,
}

/// System calls with one verdict.
pub struct Group {
    /// The verdict.
    pub verdict: Verdict,
    /// Names, by white space.
    pub names: &'static str,
}

const fn allow(names: &'static str) -> Group {
    Group { verdict: Verdict::Allow, names }
}

const fn needs(capabilities: &'static [&'static str], names: &'static str) -> Group {
    Group { verdict: Verdict::Needs(capabilities), names }
}

/// Every system call once.
pub const GROUPS: &[Group] = &[
    // Files and directories. `mknod` is for FIFOs and sockets; a device needs CAP_MKNOD and the device group besides.
    allow(
        "read write open openat openat2 creat close close_range stat fstat lstat newfstatat statx lseek pread64 pwrite64 readv writev preadv \
         pwritev preadv2 pwritev2 access faccessat faccessat2 dup dup2 dup3 pipe pipe2 fcntl flock fsync fdatasync truncate ftruncate \
         getdents getdents64 getcwd chdir fchdir rename renameat renameat2 mkdir mkdirat rmdir link linkat unlink unlinkat symlink symlinkat \
         readlink readlinkat chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat umask utime utimes futimesat utimensat mknod mknodat \
         statfs fstatfs sync syncfs sync_file_range sendfile splice tee fallocate fadvise64 readahead copy_file_range ioctl cachestat",
    ),
    // Attributes; what a name of theirs lets one do is decided by the kernel (`trusted.` needs CAP_SYS_ADMIN).
    allow(
        "setxattr lsetxattr fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr lremovexattr fremovexattr \
         setxattrat getxattrat listxattrat removexattrat file_getattr file_setattr",
    ),
    // Mounts of the own namespace, read only (also in /proc/self/mountinfo).
    allow("statmount listmount"),
    // Waiting.
    allow(
        "poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd \
         signalfd4 timerfd_create timerfd_settime timerfd_gettime inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark",
    ),
    // Memory.
    allow(
        "mmap mprotect munmap brk mremap msync mincore madvise mlock mlock2 munlock mlockall munlockall remap_file_pages memfd_create \
         memfd_secret membarrier pkey_mprotect pkey_alloc pkey_free map_shadow_stack mseal process_mrelease",
    ),
    // Sockets; what may be asked of `socket` is in the arguments.
    allow(
        "socketpair connect accept accept4 bind listen sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg shutdown getsockname getpeername \
         setsockopt getsockopt",
    ),
    // Processes and threads, and what they leave to one another.
    allow(
        "fork vfork execve execveat exit exit_group wait4 waitid kill tkill tgkill pidfd_open pidfd_send_signal getpid gettid getppid getpgrp \
         getpgid setpgid getsid setsid set_tid_address set_robust_list get_robust_list futex futex_waitv futex_wake futex_wait futex_requeue \
         rseq prctl arch_prctl restart_syscall uname sysinfo getrusage times getcpu getrandom sched_yield set_thread_area get_thread_area",
    ),
    // Debugging a process of the same user, as the kernel allows it; a filter cannot be slipped past with ptrace since Linux 4.8.
    allow("ptrace"),
    // Users and capabilities; the bounding set limits them.
    allow(
        "getuid geteuid getgid getegid setuid setgid setreuid setregid getgroups setgroups setresuid getresuid setresgid getresgid setfsuid \
         setfsgid capget capset",
    ),
    // A process that restricts itself further.
    allow("seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self lsm_get_self_attr lsm_set_self_attr lsm_list_modules"),
    // Signals.
    allow(
        "rt_sigaction rt_sigprocmask rt_sigreturn rt_sigpending rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo rt_sigsuspend sigaltstack \
         pause alarm",
    ),
    // Clocks and timers; `adjtimex` also only reads, and the kernel asks CAP_SYS_TIME of those who write.
    allow(
        "time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep getitimer setitimer timer_create timer_settime timer_gettime \
         timer_getoverrun timer_delete adjtimex clock_adjtime",
    ),
    // Limits, priorities and processors of one's own.
    allow(
        "getrlimit setrlimit prlimit64 getpriority setpriority ioprio_set ioprio_get sched_setparam sched_getparam sched_setscheduler \
         sched_getscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval sched_setaffinity sched_getaffinity \
         sched_setattr sched_getattr",
    ),
    // System V and POSIX messages, semaphores, shared memory: of the ipc namespace.
    allow(
        "shmget shmat shmctl shmdt semget semop semctl semtimedop msgget msgsnd msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedreceive \
         mq_notify mq_getsetattr",
    ),
    // Asynchronous input and output of old. Not `io_pgetevents`, without which libraries use `io_getevents`.
    allow("io_setup io_destroy io_submit io_cancel io_getevents"),
    Group { verdict: Verdict::Arguments, names: "clone unshare socket personality" },
    // Its flags are in memory, where no filter can read them; C libraries then call `clone`.
    Group { verdict: Verdict::AbsentWithout(&["CAP_SYS_ADMIN"]), names: "clone3" },
    Group { verdict: Verdict::AbsentWithout(&[]), names: "io_pgetevents" },
    // Mounts, namespaces, names of the host.
    needs(
        &["CAP_SYS_ADMIN"],
        "mount umount2 pivot_root mount_setattr move_mount open_tree open_tree_attr fsopen fsconfig fsmount fspick setns sethostname \
         setdomainname quotactl quotactl_fd fanotify_init lookup_dcookie listns",
    ),
    // The kernel's own machines, with a record of holes: rings, filters, keyrings (keys are not of any namespace).
    needs(&["CAP_SYS_ADMIN"], "io_uring_setup io_uring_enter io_uring_register add_key request_key keyctl"),
    needs(&["CAP_SYS_ADMIN", "CAP_BPF"], "bpf"),
    needs(&["CAP_SYS_ADMIN", "CAP_PERFMON"], "perf_event_open"),
    needs(&["CAP_SYS_ADMIN", "CAP_SYSLOG"], "syslog"),
    // Other processes' descriptors, memory and faults.
    needs(&["CAP_SYS_PTRACE"], "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev userfaultfd"),
    needs(&["CAP_DAC_READ_SEARCH"], "open_by_handle_at name_to_handle_at"),
    needs(&["CAP_SYS_NICE"], "mbind set_mempolicy get_mempolicy set_mempolicy_home_node migrate_pages move_pages"),
    needs(&["CAP_SYS_CHROOT"], "chroot"),
    needs(&["CAP_SYS_TIME"], "settimeofday clock_settime"),
    needs(&["CAP_SYS_MODULE"], "init_module finit_module delete_module"),
    needs(&["CAP_SYS_BOOT"], "reboot kexec_load kexec_file_load"),
    needs(&["CAP_SYS_RAWIO"], "iopl ioperm"),
    needs(&["CAP_SYS_PACCT"], "acct"),
    needs(&["CAP_SYS_TTY_CONFIG"], "vhangup"),
    // Swap is the host's; the rest is of old kernels or of no use but to attack: 16-bit segments, pages lent to a pipe.
    Group { verdict: Verdict::Refuse, names: "swapon swapoff modify_ldt vmsplice uselib ustat sysfs nfsservctl" },
    // Never there in the kernels that rkbox runs on, or only on paper.
    Group {
        verdict: Verdict::AbsentWithout(&[]),
        names: "_sysctl create_module get_kernel_syms query_module getpmsg putpmsg afs_syscall tuxcall security vserver epoll_ctl_old \
                epoll_wait_old uretprobe uprobe",
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names that the kernel has and the headers of Debian 12 do not.
    const SINCE_5_18: &str = "cachestat fchmodat2 map_shadow_stack futex_wake futex_wait futex_requeue statmount listmount lsm_get_self_attr \
        lsm_set_self_attr lsm_list_modules mseal setxattrat getxattrat listxattrat removexattrat open_tree_attr file_getattr file_setattr \
        uretprobe uprobe listns";

    #[test]
    fn every_system_call_has_one_verdict() {
        let header = std::fs::read_to_string("/usr/include/x86_64-linux-gnu/asm/unistd_64.h").unwrap_or_default();
        let of_kernel: BTreeSet<&str> = header
            .lines()
            .filter_map(|line| line.strip_prefix("#define __NR_")?.split_whitespace().next())
            .chain(SINCE_5_18.split_whitespace())
            .collect();
        let mut seen = BTreeSet::new();
        for name in GROUPS.iter().flat_map(|group| group.names.split_whitespace()) {
            assert!(seen.insert(name), "{name} has two verdicts");
        }
        if header.is_empty() {
            return;
        }
        assert_eq!(of_kernel.difference(&seen).collect::<Vec<_>>(), Vec::<&&str>::new(), "without a verdict");
        assert_eq!(seen.difference(&of_kernel).collect::<Vec<_>>(), Vec::<&&str>::new(), "no such system call");
    }

    #[test]
    fn every_capability_in_a_verdict_is_one() {
        for group in GROUPS {
            if let Verdict::Needs(names) | Verdict::AbsentWithout(names) = group.verdict {
                for name in names {
                    assert!(name.parse::<caps::Capability>().is_ok(), "{name}");
                }
            }
        }
    }
}
