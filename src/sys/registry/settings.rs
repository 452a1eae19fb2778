//! The configuration of this host: who serves a registry, who we are there, what lies in between.

use std::path::{Path, PathBuf};

use super::Options;
use crate::fault::{Context as _, Result};
use crate::image::registry::auth_file::{self, AuthFile};
use crate::image::registry::proxy::ProxyEnvironment;
use crate::image::registry::registries_conf::{self, RegistriesConf};
use crate::image::registry::{HostDir, Trust, hosts_toml};
use crate::sys::file;

/// Where the directories of hosts are looked for; the first that has one for a host decides.
const HOSTS_DIRS: [&str; 3] = ["/etc/containerd/certs.d", "/etc/containers/certs.d", "/etc/docker/certs.d"];

/// What the files and the environment say.
pub(super) struct Settings {
    pub registries: RegistriesConf,
    pub proxies: ProxyEnvironment,
    hosts_dirs: Vec<PathBuf>,
    auth_files: Vec<PathBuf>,
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn home(below: &str) -> Option<PathBuf> {
    Some(Path::new(&variable("HOME")?).join(below))
}

fn config_home(below: &str) -> Option<PathBuf> {
    variable("XDG_CONFIG_HOME").map(|dir| Path::new(&dir).join(below)).or_else(|| home(&format!(".config/{below}")))
}

impl Settings {
    pub fn read(options: &Options) -> Result<Self> {
        let usual = || HOSTS_DIRS.map(PathBuf::from).to_vec();
        Ok(Settings {
            registries: registries()?,
            proxies: ProxyEnvironment::read(variable),
            hosts_dirs: if options.hosts_dirs.is_empty() { usual() } else { options.hosts_dirs.clone() },
            auth_files: auth_files(options),
        })
    }

    /// The directory of `host` (`quay.io`, `localhost:5000`), by containerd's rules: `HOST_PORT_`, `HOST:PORT`, `_default`.
    pub fn find_host_dir(&self, host: &str) -> Result<Option<HostDir>> {
        let underscored = host.rsplit_once(':').map(|(name, port)| format!("{name}_{port}_"));
        let names: Vec<&str> = underscored.as_deref().into_iter().chain([host, "_default"]).collect();
        for base in &self.hosts_dirs {
            for dir in names.iter().map(|name| base.join(name)) {
                if let Some(found) = host_dir(&dir).doing(|| format!("reading {}", dir.display()))? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    /// The files with credentials, in the order in which they are asked.
    pub fn auth_files(&self) -> &[PathBuf] {
        &self.auth_files
    }

    /// Reads one of them; `None` when it is not there.
    pub fn find_auth_file(path: &Path) -> Result<Option<AuthFile>> {
        if !file::exists(path)? {
            return Ok(None);
        }
        let read = || AuthFile::parse(&file::read_following(path, auth_file::LIMIT)?);
        read().map(Some).doing(|| format!("reading {}", path.display()))
    }
}

/// *Source:* containers-auth.json(5), then Docker's file.
fn auth_files(options: &Options) -> Vec<PathBuf> {
    if let Some(only) = options.auth_file.clone().or_else(|| variable("REGISTRY_AUTH_FILE").map(PathBuf::from)) {
        return vec![only];
    }
    let uid = nix::unistd::geteuid();
    let run = variable("XDG_RUNTIME_DIR").map_or_else(|| format!("/run/containers/{uid}"), |dir| format!("{dir}/containers"));
    let docker = variable("DOCKER_CONFIG").map_or_else(|| home(".docker"), |dir| Some(PathBuf::from(dir)));
    [Some(Path::new(&run).join("auth.json")), config_home("containers/auth.json"), docker.map(|dir| dir.join("config.json"))]
        .into_iter()
        .flatten()
        .collect()
}

/// *Source:* containers-registries.conf(5): one main file, then the drop-ins.
fn registries() -> Result<RegistriesConf> {
    let mut all = RegistriesConf::default();
    let mut merge = |path: &Path| -> Result<()> {
        let read = || {
            let text = file::read_following(path, registries_conf::LIMIT)?;
            RegistriesConf::parse(&String::from_utf8_lossy(&text))
        };
        all.merge(read().doing(|| format!("reading {}", path.display()))?);
        Ok(())
    };
    if let Some(only) = variable("CONTAINERS_REGISTRIES_CONF") {
        merge(Path::new(&only))?;
        return Ok(all);
    }
    let user = config_home("containers/registries.conf");
    let main = match user {
        Some(user) if file::exists(&user)? => user,
        _ => PathBuf::from("/etc/containers/registries.conf"),
    };
    if file::exists(&main)? {
        merge(&main)?;
    }
    for dir in [Some(PathBuf::from("/etc/containers/registries.conf.d")), config_home("containers/registries.conf.d")].into_iter().flatten()
    {
        for name in file::list(&dir)?.into_iter().filter(|name| name.ends_with(".conf")) {
            merge(&dir.join(name))?;
        }
    }
    Ok(all)
}

/// What one directory says; `None` when it is not there or says nothing.
fn host_dir(dir: &Path) -> Result<Option<HostDir>> {
    let hosts = dir.join("hosts.toml");
    if file::exists(&hosts)? {
        let text = file::read_following(&hosts, hosts_toml::LIMIT)?;
        return hosts_toml::parse(&String::from_utf8_lossy(&text), dir).doing(|| "reading hosts.toml").map(HostDir::Hosts).map(Some);
    }
    let names = file::list(dir)?;
    let with = |end: &str| names.iter().filter(move |name| name.ends_with(end)).map(|name| dir.join(name)).collect::<Vec<_>>();
    let pairs = with(".cert").into_iter().map(|cert| (cert.clone(), cert.with_extension("key")));
    let trust = Trust { ca: with(".crt"), client: pairs.collect(), skip_verify: false };
    Ok((trust != Trust::default()).then_some(HostDir::Certificates(trust)))
}
