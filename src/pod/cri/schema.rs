//! The fields of the CRI v1 API, all of them.

/// What a field holds.
#[derive(Debug)]
pub(super) enum Form {
    /// A text.
    Text,
    /// True or false.
    Flag,
    /// A whole number from here to there.
    Int(i64, i64),
    /// One of these names, or its number.
    Choice(&'static [&'static str]),
    /// Texts by name.
    Pairs,
    /// A message.
    One(&'static [Field]),
    /// `Int64Value`: a number in a message of its own, so that 0 can be told from nothing.
    Wrapped,
    /// Any number of them.
    List(&'static Form),
    /// rkbox does not honour it, for this reason: only its default is taken.
    Refused(&'static str),
}

/// A field by its name in the API.
pub(super) type Field = (&'static str, Form);

const I32: Form = Form::Int(0, i32::MAX as i64);
const U32: Form = Form::Int(0, u32::MAX as i64);
const I64: Form = Form::Int(i64::MIN, i64::MAX);
const TEXTS: Form = Form::List(&Form::Text);

/// `NamespaceMode`.
const MODES: Form = Form::Choice(&["POD", "CONTAINER", "NODE", "TARGET"]);

const WINDOWS: Form = Form::Refused("this is a Linux host");

/// `PodSandboxConfig`.
pub(super) static SANDBOX: [Field; 9] = [
    ("metadata", Form::One(&[("name", Form::Text), ("uid", Form::Text), ("namespace", Form::Text), ("attempt", U32)])),
    ("hostname", Form::Text),
    ("log_directory", Form::Text),
    ("dns_config", Form::One(&[("servers", TEXTS), ("searches", TEXTS), ("options", TEXTS)])),
    ("port_mappings", Form::List(&Form::One(&PORT_MAPPING))),
    ("labels", Form::Pairs),
    ("annotations", Form::Pairs),
    ("linux", Form::One(&LINUX_SANDBOX)),
    ("windows", WINDOWS),
];

static PORT_MAPPING: [Field; 4] =
    [("protocol", Form::Choice(&["TCP", "UDP", "SCTP"])), ("container_port", I32), ("host_port", I32), ("host_ip", Form::Text)];

static LINUX_SANDBOX: [Field; 5] = [
    ("cgroup_parent", Form::Text),
    ("security_context", Form::One(&SANDBOX_SECURITY)),
    ("sysctls", Form::Pairs),
    ("overhead", Form::One(&RESOURCES)),
    ("resources", Form::One(&RESOURCES)),
];

static SANDBOX_SECURITY: [Field; 11] = [
    ("namespace_options", Form::One(&NAMESPACES)),
    ("selinux_options", Form::One(&SELINUX)),
    ("run_as_user", Form::Wrapped),
    ("run_as_group", Form::Wrapped),
    ("readonly_rootfs", Form::Flag),
    ("supplemental_groups", Form::List(&I64)),
    ("supplemental_groups_policy", POLICY),
    ("privileged", Form::Flag),
    ("seccomp", Form::One(&PROFILE)),
    ("apparmor", Form::One(&PROFILE)),
    ("seccomp_profile_path", Form::Text),
];

/// `SupplementalGroupsPolicy`.
const POLICY: Form = Form::Choice(&["Merge", "Strict"]);

static NAMESPACES: [Field; 5] =
    [("network", MODES), ("pid", MODES), ("ipc", MODES), ("target_id", Form::Text), ("userns_options", Form::One(&USERNS))];

const NO_IDMAP: &str = "rkbox maps the ids of no single mount; a pod has them by userns_options";

static USERNS: [Field; 3] = [("mode", MODES), ("uids", MAPPINGS), ("gids", MAPPINGS)];

/// `IDMapping`.
const MAPPINGS: Form = Form::List(&Form::One(&[("host_id", U32), ("container_id", U32), ("length", U32)]));

static SELINUX: [Field; 4] = [("user", Form::Text), ("role", Form::Text), ("type", Form::Text), ("level", Form::Text)];

static PROFILE: [Field; 2] =
    [("profile_type", Form::Choice(&["RuntimeDefault", "Unconfined", "Localhost"])), ("localhost_ref", Form::Text)];

static RESOURCES: [Field; 10] = [
    ("cpu_period", I64),
    ("cpu_quota", I64),
    ("cpu_shares", I64),
    ("memory_limit_in_bytes", I64),
    ("memory_swap_limit_in_bytes", I64),
    ("oom_score_adj", I64),
    ("cpuset_cpus", Form::Text),
    ("cpuset_mems", Form::Text),
    ("hugepage_limits", Form::List(&Form::One(&HUGEPAGES))),
    ("unified", Form::Pairs),
];

static HUGEPAGES: [Field; 2] = [("page_size", Form::Text), ("limit", Form::Int(0, i64::MAX))];

/// `ContainerConfig`.
pub(super) static CONTAINER: [Field; 18] = [
    ("metadata", Form::One(&[("name", Form::Text), ("attempt", U32)])),
    ("image", Form::One(&IMAGE)),
    ("command", TEXTS),
    ("args", TEXTS),
    ("working_dir", Form::Text),
    ("envs", Form::List(&Form::One(&[("key", Form::Text), ("value", Form::Text)]))),
    ("mounts", Form::List(&Form::One(&MOUNT))),
    ("devices", Form::List(&Form::One(&[("container_path", Form::Text), ("host_path", Form::Text), ("permissions", Form::Text)]))),
    ("labels", Form::Pairs),
    ("annotations", Form::Pairs),
    ("log_path", Form::Text),
    ("stdin", Form::Flag),
    ("stdin_once", Form::Flag),
    ("tty", Form::Flag),
    ("linux", Form::One(&LINUX_CONTAINER)),
    ("windows", WINDOWS),
    ("CDI_devices", Form::Refused("rkbox does not read CDI specifications; name the device nodes in devices")),
    ("stop_signal", Form::Choice(&SIGNALS)),
];

static IMAGE: [Field; 5] = [
    ("image", Form::Text),
    ("annotations", Form::Pairs),
    ("user_specified_image", Form::Text),
    ("runtime_handler", Form::Refused("rkbox has one runtime, which --runtime names")),
    ("image_ref", Form::Text),
];

static MOUNT: [Field; 10] = [
    ("container_path", Form::Text),
    ("host_path", Form::Text),
    ("readonly", Form::Flag),
    ("selinux_relabel", Form::Flag),
    ("propagation", Form::Choice(&["PROPAGATION_PRIVATE", "PROPAGATION_HOST_TO_CONTAINER", "PROPAGATION_BIDIRECTIONAL"])),
    ("uidMappings", Form::Refused(NO_IDMAP)),
    ("gidMappings", Form::Refused(NO_IDMAP)),
    ("recursive_read_only", Form::Flag),
    ("image", Form::One(&IMAGE)),
    ("image_sub_path", Form::Text),
];

static LINUX_CONTAINER: [Field; 2] = [("resources", Form::One(&RESOURCES)), ("security_context", Form::One(&CONTAINER_SECURITY))];

static CONTAINER_SECURITY: [Field; 17] = [
    ("capabilities", Form::One(&[("add_capabilities", TEXTS), ("drop_capabilities", TEXTS), ("add_ambient_capabilities", TEXTS)])),
    ("privileged", Form::Flag),
    ("namespace_options", Form::One(&NAMESPACES)),
    ("selinux_options", Form::One(&SELINUX)),
    ("run_as_user", Form::Wrapped),
    ("run_as_group", Form::Wrapped),
    ("run_as_username", Form::Text),
    ("readonly_rootfs", Form::Flag),
    ("supplemental_groups", Form::List(&I64)),
    ("supplemental_groups_policy", POLICY),
    ("no_new_privs", Form::Flag),
    ("masked_paths", TEXTS),
    ("readonly_paths", TEXTS),
    ("seccomp", Form::One(&PROFILE)),
    ("apparmor", Form::One(&PROFILE)),
    ("apparmor_profile", Form::Text),
    ("seccomp_profile_path", Form::Text),
];

/// `Signal`; the order is that of its numbers.
pub(super) static SIGNALS: [&str; 66] = [
    "RUNTIME_DEFAULT",
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGRTMIN",
    "SIGRTMINPLUS1",
    "SIGRTMINPLUS2",
    "SIGRTMINPLUS3",
    "SIGRTMINPLUS4",
    "SIGRTMINPLUS5",
    "SIGRTMINPLUS6",
    "SIGRTMINPLUS7",
    "SIGRTMINPLUS8",
    "SIGRTMINPLUS9",
    "SIGRTMINPLUS10",
    "SIGRTMINPLUS11",
    "SIGRTMINPLUS12",
    "SIGRTMINPLUS13",
    "SIGRTMINPLUS14",
    "SIGRTMINPLUS15",
    "SIGRTMAXMINUS14",
    "SIGRTMAXMINUS13",
    "SIGRTMAXMINUS12",
    "SIGRTMAXMINUS11",
    "SIGRTMAXMINUS10",
    "SIGRTMAXMINUS9",
    "SIGRTMAXMINUS8",
    "SIGRTMAXMINUS7",
    "SIGRTMAXMINUS6",
    "SIGRTMAXMINUS5",
    "SIGRTMAXMINUS4",
    "SIGRTMAXMINUS3",
    "SIGRTMAXMINUS2",
    "SIGRTMAXMINUS1",
    "SIGRTMAX",
];
