//! Registries as documents: where a repository is served, who may read it, what a server answered. Pure, no I/O.

pub mod answer;
pub mod auth_file;
pub mod challenge;
pub mod endpoint;
pub mod hosts_toml;
pub mod proxy;
pub mod registries_conf;
pub mod retry;
pub mod route;

pub use answer::Answer;
pub use auth_file::{AuthFile, Credential};
pub use challenge::Challenge;
pub use endpoint::{Endpoint, Trust};
pub use route::{HostDir, Sources, route};

/// What is asked for when a manifest is: the kinds that rkbox reads, and schema 1, so that it is refused by its name.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json, \
    application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1, application/vnd.docker.distribution.manifest.v1+json;q=0.1";
