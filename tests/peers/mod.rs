//! Two tools in one world: rkbox, and podman of Debian on the same runtime, each with the same images.

use super::common::{Output, World, images, wait_for};

/// Podman's settings: all of it in this world, no network, the host's limits where it may not raise them.
const SETTINGS: &str = r#"
mount -t tmpfs tmpfs /dev/shm
mkdir -p /run/containers $HOME/images
cat >$HOME/containers.conf <<X
[containers]
cgroups = "no-conmon"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
netns = "none"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
X
cat >$HOME/storage.conf <<X
[storage]
driver = "vfs"
graphroot = "$HOME/graph"
runroot = "/run/podman-storage"
X
"#;

/// What a command came to: exit status, standard output.
pub type Outcome = (i32, String);

/// An image made of a test image.
pub struct Made {
    of: String,
    /// Its name, for both.
    pub name: String,
    words: Vec<String>,
}

impl Made {
    pub fn of(of: &str, name: &str) -> Self {
        Made { of: of.to_owned(), name: name.to_owned(), words: Vec::new() }
    }

    /// With these words for `umoci config`.
    pub fn with(mut self, words: &[&str]) -> Self {
        self.words.extend(words.iter().map(|word| (*word).to_owned()));
        self
    }
}

/// A world with both, and the differences seen so far.
pub struct Peers {
    pub world: World,
    rows: usize,
    wrong: Vec<String>,
}

impl Peers {
    pub fn new(images: &[Made]) -> Self {
        let mut world = World::new();
        world.allow_leaks();
        world.sh(SETTINGS).ok();
        let peers = Peers { world, rows: 0, wrong: Vec::new() };
        images.iter().for_each(|made| peers.make(made));
        peers
    }

    fn make(&self, made: &Made) {
        let layout = self.world.path("images").join(&made.name).display().to_string();
        self.world.sh(&format!("cp -r {} {layout}", images().layout(&made.of))).ok();
        if !made.words.is_empty() {
            let image = format!("{layout}:latest");
            let words = ["config", "--no-history", "--image", &image];
            Output::of(self.world.command("umoci").args(words).args(&made.words), self.world.limit).ok();
        }
        let id = self.podman(&["pull", "-q", &format!("oci:{layout}:latest")]).ok().stdout;
        // A name of which both make the same.
        let name = format!("{}:latest", made.name);
        self.podman(&["tag", id.trim(), &format!("docker.io/library/{name}")]).ok();
        self.rkbox(&["image", "load", "--name", &name, &format!("oci:{layout}:latest")]).ok();
    }

    /// Writes a file that both can read; answers its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.world.path(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    /// Runs podman to its end.
    #[track_caller]
    pub fn podman(&self, words: &[&str]) -> Output {
        let mut command = self.world.command("podman");
        let at = |name: &str| self.world.path(name);
        command.env("CONTAINERS_CONF", at("containers.conf")).env("CONTAINERS_STORAGE_CONF", at("storage.conf"));
        Output::of(command.env("FROM_CALLER", "yes").args(words), self.world.limit)
    }

    /// Runs rkbox to its end.
    #[track_caller]
    pub fn rkbox(&self, words: &[&str]) -> Output {
        let mut command = self.world.command(&self.world.program);
        Output::of(command.env("FROM_CALLER", "yes").args(words), self.world.limit)
    }

    /// What `verb` (`run --rm`, `run -d`) of both comes to with the same words.
    #[track_caller]
    pub fn both(&self, verb: &[&str], words: &[&str]) -> [Output; 2] {
        let podman = [verb, &["--cgroup-parent", &self.world.cgroup_parent], words].concat();
        let rkbox = [verb, &["--net", "none"], words].concat();
        [self.podman(&podman), self.rkbox(&rkbox)]
    }

    /// Both must come to the same; answers what.
    #[track_caller]
    pub fn same(&mut self, words: &[&str]) -> Outcome {
        let both = self.both(&["run", "--rm"], words);
        self.judge(words, &both, |podman, rkbox| podman == rkbox);
        outcome(&both[1])
    }

    /// They differ on purpose, in exactly this way: podman's outcome, then rkbox's.
    #[track_caller]
    pub fn differ(&mut self, words: &[&str], podman: (i32, &str), rkbox: (i32, &str)) {
        let both = self.both(&["run", "--rm"], words);
        let is = |outcome: &Outcome, (code, text): (i32, &str)| *outcome == (code, text.to_owned());
        self.judge(words, &both, |a, b| is(a, podman) && is(b, rkbox));
    }

    /// Both end the same when they are stopped; answers with which status.
    #[track_caller]
    pub fn same_end(&mut self, options: &[&str], image: &str, line: &str) -> i32 {
        let words = [options, &["--name", "c", image, "sh", "-c", line]].concat();
        for output in self.both(&["run", "-d"], &words) {
            output.ok();
        }
        let logs = |peers: &Self| [peers.podman(&["logs", "c"]), peers.rkbox(&["logs", "c"])];
        wait_for("both to run", || logs(self).iter().all(|output| output.stdout.contains("up")));
        self.podman(&["stop", "-t", "1", "c"]).ok();
        self.rkbox(&["stop", "-t", "1", "c"]).ok();
        let both = [self.podman(&["wait", "c"]), self.rkbox(&["wait", "c"])];
        self.judge(&words, &both, |podman, rkbox| podman == rkbox);
        self.podman(&["rm", "-f", "c"]).ok();
        self.rkbox(&["rm", "-f", "c"]).ok();
        both[1].stdout.trim().parse().unwrap()
    }

    fn judge(&mut self, words: &[&str], both: &[Output; 2], right: impl Fn(&Outcome, &Outcome) -> bool) {
        self.rows += 1;
        let [podman, rkbox] = both;
        if !right(&outcome(podman), &outcome(rkbox)) {
            self.wrong.push(format!("{words:?}\n    podman {}\n    rkbox  {}", shown(podman), shown(rkbox)));
        }
    }

    /// Ends the comparison; `rows` must have been compared.
    #[track_caller]
    pub fn end(self, rows: usize) {
        assert!(self.wrong.is_empty(), "{} of {} rows:\n  {}", self.wrong.len(), self.rows, self.wrong.join("\n  "));
        assert_eq!(self.rows, rows, "rows compared");
    }
}

fn outcome(output: &Output) -> Outcome {
    (output.code, output.stdout.clone())
}

fn shown(output: &Output) -> String {
    format!("{} {:?} {:?}", output.code, output.stdout, output.stderr.lines().next().unwrap_or_default())
}
