//! A pool that host-local and rkbox share.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rkbox::cmd::network::attach::{self, Attach, Attached};
use rkbox::cmd::network::networks;
use rkbox::cni::inject::Asked;
use rkbox::fault::Fault;
use rkbox::ids::{CgroupDriver, IfName};
use rkbox::step::Step;
use rkbox::sys::Host;
use serde_json::{Value, json};
use tempfile::TempDir;

const PLUGIN: &str = "/usr/lib/cni/host-local";

/// A directory with one network called `n`, whose pool both programs use.
pub struct Pool {
    pub world: TempDir,
    ipam: Value,
}

/// What a pool holds: name → (mode, content); directories have no content.
pub type State = BTreeMap<String, (u32, Option<Vec<u8>>)>;

impl Pool {
    pub fn new(ranges: Value) -> Self {
        let world = tempfile::tempdir().unwrap();
        let pool = Pool { ipam: json!({"type": "host-local", "ranges": ranges, "dataDir": world.path().join("networks")}), world };
        fs::create_dir_all(pool.host().cni_conf).unwrap();
        fs::write(pool.host().cni_conf.join("n.conf"), pool.conf("1.0.0").to_string()).unwrap();
        pool
    }

    pub fn host(&self) -> Host {
        let at = |below: &str| self.world.path().join(below);
        Host {
            root: at("lib"),
            run: at("run"),
            netns: at("netns"),
            cni_conf: at("conf"),
            cni_state: at("cni"),
            plugins: rkbox::sys::Plugins::default(),
            runtime: "runc".into(),
            cgroup_driver: CgroupDriver::Cgroupfs,
            cgroup_parent: "/x".into(),
            ..Host::below(self.world.path())
        }
    }

    pub fn dir(&self) -> PathBuf {
        self.world.path().join("networks/n")
    }

    pub fn conf(&self, version: &str) -> Value {
        json!({"cniVersion": version, "name": "n", "type": "bridge", "ipam": self.ipam})
    }

    pub fn state(&self) -> State {
        let mut state = State::new();
        for entry in fs::read_dir(self.dir()).into_iter().flatten() {
            let entry = entry.unwrap();
            // Another worker may have removed it by now.
            let Ok(meta) = entry.metadata() else { continue };
            let mode = meta.permissions().mode() & 0o7777;
            state.insert(entry.file_name().into_string().unwrap(), (mode, fs::read(entry.path()).ok()));
        }
        state.remove("lock");
        state
    }

    pub fn restore(&self, state: &State) {
        fs::remove_dir_all(self.dir()).ok();
        fs::create_dir_all(self.dir()).unwrap();
        for (name, (mode, content)) in state {
            let path = self.dir().join(name);
            match content {
                Some(content) => {
                    fs::write(&path, content).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                }
                None => fs::create_dir(&path).unwrap(),
            }
        }
    }

    /// Runs the reference plugin; the error is its message.
    pub fn upstream(&self, command: &str, owner: &str) -> Result<Value, String> {
        let mut child = Command::new(PLUGIN)
            .env_clear()
            .envs([("CNI_COMMAND", command), ("CNI_CONTAINERID", owner), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "/x"), ("CNI_PATH", "/x")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(self.conf("1.0.0").to_string().as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        let answer: Value = serde_json::from_slice(&out.stdout).unwrap_or(Value::Null);
        if out.status.success() { Ok(answer) } else { Err(answer["msg"].as_str().unwrap_or_default().to_owned()) }
    }

    /// Runs rkbox as host-local; the error is its message.
    pub fn plugin(&self, command: &str, owner: &str) -> Result<(), String> {
        let out = self.start_plugin(command, owner).wait_with_output().unwrap();
        let answer: Value = serde_json::from_slice(&out.stdout).unwrap_or(Value::Null);
        if out.status.success() { Ok(()) } else { Err(answer["msg"].as_str().unwrap_or_default().to_owned()) }
    }

    /// As `plugin`, but it is killed when so much time has passed.
    pub fn plugin_killed(&self, command: &str, owner: &str, after: std::time::Duration) {
        let mut child = self.start_plugin(command, owner);
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn start_plugin(&self, command: &str, owner: &str) -> Child {
        let mut child = Command::new(env!("CARGO_BIN_EXE_rkbox"))
            .args(["cni", "exec", "host-local"])
            .env_clear()
            .envs([("CNI_COMMAND", command), ("CNI_CONTAINERID", owner), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "/x"), ("CNI_PATH", "/x")])
            .env("RKBOX_RUN", self.host().run)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // One that is killed may not have read it.
        let _ = child.stdin.take().unwrap().write_all(self.conf("1.0.0").to_string().as_bytes());
        child
    }

    /// So many leases of others, at the start of the range.
    pub fn fill(&self, count: usize) {
        fs::create_dir_all(self.dir()).unwrap();
        for nth in 2..u32::try_from(count).unwrap() + 2 {
            let address = std::net::Ipv4Addr::from_bits((10 << 24) + nth);
            fs::write(self.dir().join(address.to_string()), format!("{nth:064x}\r\neth0")).unwrap();
        }
    }

    /// A change of the directory that is none of its leases.
    pub fn touch(&self) {
        let path = self.dir().join("touched");
        fs::write(&path, "").unwrap();
        let _ = fs::remove_file(&path);
    }

    pub fn upstream_add(&self, owner: &str) -> Result<Vec<String>, String> {
        let answer = self.upstream("ADD", owner)?;
        Ok(answer["ips"].as_array().unwrap().iter().map(|ip| ip["address"].as_str().unwrap().to_owned()).collect())
    }

    pub fn plan(&self, owner: &str) -> Result<Attached, Fault> {
        let host = self.host();
        let network = networks::find_network(&host, None)?;
        let ifname: IfName = "eth0".parse().unwrap();
        let attach = Attach {
            network: &network,
            owner,
            ifname: &ifname,
            netns: Path::new("/x"),
            own_netns: true,
            acting: true,
            asked: &Asked::default(),
            published: None,
            preferred: &[],
        };
        attach::plan_attach(&host, &attach)
    }

    /// Plans and carries out what concerns the pool.
    pub fn add(&self, owner: &str) -> Result<Vec<String>, Fault> {
        let attached = self.plan(owner)?;
        for step in ipam_steps(&attached) {
            let before = step.look(&self.host())?;
            if !step.already(&before)? {
                step.apply(&before, &self.host())?;
            }
        }
        Ok(attached.addresses.iter().map(ToString::to_string).collect())
    }

    /// Takes back the leases of an owner, as a removal does.
    pub fn del(&self, owner: &str) {
        for (name, (_, content)) in self.state() {
            let Ok(address) = name.parse() else { continue };
            if content == Some(format!("{owner}\r\neth0").into_bytes()) {
                let lease = rkbox::step::Lease {
                    dir: self.dir(),
                    address,
                    owner: owner.into(),
                    ifname: "eth0".parse().unwrap(),
                    in_new_pool: false,
                };
                let step = Step::from(lease);
                step.undo(&step.before_nothing().unwrap(), &self.host()).unwrap();
            }
        }
    }
}

/// Modes aside: releases before 1.6 make lease files 0644, later ones and rkbox 0600.
pub fn contents(state: State) -> Vec<(String, Option<Vec<u8>>)> {
    state.into_iter().map(|(name, (_, content))| (name, content)).collect()
}

pub fn ipam_steps(attached: &Attached) -> impl Iterator<Item = &Step> {
    attached.steps.iter().filter(|step| matches!(step, Step::Pool(_) | Step::Cursor(_) | Step::Lease(_)))
}

/// Both programs on one state: the same answer and the same files after it. The rkbox side is what stays.
pub fn assert_same(pool: &Pool, owner: &str, why: &str) -> Result<Vec<String>, String> {
    let before = pool.state();
    let theirs = pool.upstream_add(owner);
    let theirs_after = pool.state();
    pool.restore(&before);
    let ours = pool.add(owner);
    match (&theirs, &ours) {
        (Ok(their_addresses), Ok(our_addresses)) => assert_eq!(their_addresses, our_addresses, "{why}"),
        (Err(their_message), Err(fault)) => assert!(fault.to_string().contains(their_message.as_str()), "{why}: {their_message} / {fault}"),
        _ => panic!("{why}: upstream {theirs:?}, rkbox {ours:?}"),
    }
    if theirs.is_ok() {
        assert_eq!(contents(theirs_after), contents(pool.state()), "{why}");
    }
    theirs
}
