//! A real registry on this world's loopback: Debian's `docker-registry`.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use super::world::DIR;
use super::{World, process};

/// A registry that runs until it is dropped.
pub struct Registry {
    /// Host and port: `127.0.0.1:5000`.
    pub address: String,
    child: Child,
}

/// `test` with the password `secret`, as `htpasswd -B` writes it.
pub const HTPASSWD: &str = "test:$2y$05$6.3sfhCTmHS7qHGIPK2J2e7wQYg/2eOAwiya6CIqycH.dkgSMhWyS\n";

impl Registry {
    /// Starts a registry on 127.0.0.1; `more` is added to its configuration, in YAML.
    pub fn start(world: &World, port: u16, more: &str) -> Self {
        Self::start_at(world, &format!("127.0.0.1:{port}"), "", more)
    }

    /// Starts a registry at `address`; `http` is added to the part of that name, indented by two.
    pub fn start_at(world: &World, address: &str, http: &str, more: &str) -> Self {
        let dir = Self::dir(address);
        fs::create_dir_all(&dir).unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage:\n  filesystem: {{rootdirectory: {0}/data}}\n\
             \x20 delete: {{enabled: true}}\nvalidation: {{disabled: true}}\nhttp:\n  addr: {address}\n  secret: none\n{http}{more}\n",
            dir.display()
        );
        fs::write(dir.join("config.yml"), config).unwrap();
        let log = fs::File::create(dir.join("log")).unwrap();
        let mut command = world.command("docker-registry");
        command.arg("serve").arg(dir.join("config.yml")).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().expect("docker-registry is missing: scripts/deps test");
        let mut registry = Registry { address: address.to_owned(), child };
        let up = || TcpStream::connect(address).is_ok() || registry.child.try_wait().unwrap().is_some();
        process::until(Duration::from_secs(20), up, |up| *up).unwrap();
        assert!(registry.child.try_wait().unwrap().is_none(), "{}", fs::read_to_string(dir.join("log")).unwrap());
        registry
    }

    fn dir(address: &str) -> PathBuf {
        PathBuf::from(DIR).join("registries").join(address)
    }

    /// Pushes an image with skopeo; `options` are words for `skopeo copy`.
    #[track_caller]
    pub fn push(&self, world: &World, source: &str, name: &str, options: &str) {
        let to = format!("docker://{}/{name}", self.address);
        world.sh(&format!("skopeo --insecure-policy copy -q --dest-tls-verify=false {options} {source} {to}")).ok();
    }

    /// A reference to an image of this registry.
    pub fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// Ends it.
    pub fn stop(self) {}
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Shell that starts a registry on port 5000 and pushes `LAYOUT` to it as `layers:1`; the world ends it.
pub fn script(layout: &str) -> String {
    format!(
        "mkdir -p $HOME/registry; cat >$HOME/registry/config.yml <<EOF
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: $HOME/registry/data}}}}
http: {{addr: 127.0.0.1:5000, secret: none}}
EOF
docker-registry serve $HOME/registry/config.yml >/dev/null 2>&1 &
n=0; until curl -fs http://127.0.0.1:5000/v2/ >/dev/null; do n=$((n + 1)); [ $n -lt 200 ]; sleep 0.05; done
skopeo --insecure-policy copy -q --dest-tls-verify=false oci:{layout}:latest docker://127.0.0.1:5000/layers:1"
    )
}
