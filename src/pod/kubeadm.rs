//! Which images `kubeadm init` will need, from its configuration: what `kubeadm config images list --config` prints.

use serde_json::Value;

use super::kubeadm_fields::unknown;
use super::release::{Release, Wanted};
use super::versions::Table;
use super::yaml::{Document, documents};
use crate::fault::{Fault, Result};

/// Where Kubernetes has its images.
const REPOSITORY: &str = "registry.k8s.io";
/// Where builds that were not released are.
const CI_REPOSITORY: &str = "gcr.io/k8s-staging-ci-images";
/// The API versions that are no more, and the last kubeadm that can migrate them.
const OLD: [(&str, &str); 5] =
    [("v1alpha1", "v1.11"), ("v1alpha2", "v1.12"), ("v1alpha3", "v1.14"), ("v1beta1", "v1.15"), ("v1beta2", "v1.22")];

/// What a configuration says of images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// `kubernetesVersion`, as written; empty when it is not.
    pub version: String,
    /// `imageRepository`; empty when it is not said.
    pub repository: String,
    /// `dns`: repository and tag, each empty when it is not said.
    pub dns: (String, String),
    /// `etcd.local`: repository and tag.
    pub etcd: (String, String),
    /// `dns.disabled`
    pub without_dns: bool,
    /// `proxy.disabled`
    pub without_proxy: bool,
    /// `etcd.external`
    pub external_etcd: bool,
}

/// Reads a configuration; answers what kubeadm would warn of besides.
///
/// *Errors:* `InvalidArgument`, in kubeadm's words. *Source:* kubeadm `documentMapToInitConfiguration`.
pub fn read(text: &str) -> Result<(Cluster, Vec<String>)> {
    let documents = documents(text)?;
    let (mut cluster, mut found, mut warnings) = (Cluster::default(), false, Vec::new());
    let mut kinds: Vec<&str> = Vec::new();
    for document in &documents {
        let (api, kind) = (document.text("apiVersion"), document.text("kind"));
        let (group, version) = api.split_once('/').unwrap_or(("", api));
        if group.is_empty() || version.is_empty() || kind.is_empty() {
            let named = format!("{group}/{version}, Kind={kind}");
            return Err(Fault::invalid(format!(
                "invalid configuration for GroupVersionKind {named}: kind and apiVersion is mandatory information that must be specified"
            ))
            .hint(format!("the document at line {} is not kubeadm's", document.line)));
        }
        if kinds.contains(&kind) {
            return Err(Fault::invalid(format!("invalid configuration: kind {kind:?} is specified twice in YAML file")));
        }
        kinds.push(kind);
        if group == "kubeadm.k8s.io" {
            check_version(api, version, kind, &mut warnings)?;
        }
        match (group, kind) {
            ("kubeadm.k8s.io", "InitConfiguration" | "ClusterConfiguration") => {
                found = true;
                warn_of_unknown(document, version, kind, &mut warnings);
                if kind == "ClusterConfiguration" {
                    cluster = read_cluster(document)?;
                }
            }
            ("kubelet.config.k8s.io" | "kubeproxy.config.k8s.io", _) => {}
            _ => warnings.push(format!("[config] WARNING: Ignored configuration document with GroupVersionKind {api}, Kind={kind}")),
        }
    }
    if !found {
        let message = "no InitConfiguration or ClusterConfiguration kind was found in the configuration file";
        return Err(Fault::invalid(message).doing("could not convert cfg to an internal cfg"));
    }
    Ok((cluster, warnings))
}

/// Refuses an API version that is no more or not yet, and warns of one that will go.
fn check_version(api: &str, version: &str, kind: &str, warnings: &mut Vec<String>) -> Result<()> {
    let migrate = "'kubeadm config migrate --old-config old-config-file --new-config new-config-file', which will write the new, similar \
                   spec using a newer API version.";
    if let Some((_, last)) = OLD.iter().find(|(old, _)| *old == version) {
        return Err(Fault::invalid(format!(
            "your configuration file uses an old API spec: {api:?} (kind: {kind:?}). Please use kubeadm {last} instead and run {migrate}"
        )));
    }
    match version {
        "v1beta4" => {}
        "v1beta3" => {
            warnings.push(format!("your configuration file uses a deprecated API spec: {api:?} (kind: {kind:?}). Please use {migrate}"))
        }
        _ => {
            let fault = Fault::invalid(format!("no kind {kind:?} is registered for version {api:?}"));
            return Err(fault.hint("rkbox knows kubeadm.k8s.io/v1beta3 and v1beta4"));
        }
    }
    Ok(())
}

fn warn_of_unknown(document: &Document, version: &str, kind: &str, warnings: &mut Vec<String>) {
    let fields: Vec<String> = unknown(kind, version, &document.value).iter().map(|field| format!("unknown field {field:?}")).collect();
    if !fields.is_empty() {
        let named = format!("Group:\"kubeadm.k8s.io\", Version:{version:?}, Kind:{kind:?}");
        warnings.push(format!(
            "error unmarshaling configuration schema.GroupVersionKind{{{named}}}: strict decoding error: {}",
            fields.join(", ")
        ));
    }
}

fn read_cluster(document: &Document) -> Result<Cluster> {
    let root = &document.value;
    let text = |path: &str| read_text(root, path);
    let truth = |path: &str| match root.pointer(path) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(other) => Err(mistyped(path, other, "bool")),
    };
    let part = |path: &str| match root.pointer(path) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Object(_)) => Ok(true),
        Some(other) => Err(mistyped(path, other, "object")),
    };
    for path in ["/dns", "/etcd", "/proxy"] {
        part(path)?;
    }
    let (local, external) = (part("/etcd/local")?, part("/etcd/external")?);
    if local && external {
        return Err(Fault::invalid("etcd: Invalid value: \"\": .Etcd.Local and .Etcd.External are mutually exclusive"));
    }
    Ok(Cluster {
        version: text("/kubernetesVersion")?,
        repository: text("/imageRepository")?,
        dns: (text("/dns/imageRepository")?, text("/dns/imageTag")?),
        etcd: (text("/etcd/local/imageRepository")?, text("/etcd/local/imageTag")?),
        without_dns: truth("/dns/disabled")?,
        without_proxy: truth("/proxy/disabled")?,
        external_etcd: external,
    })
}

fn read_text(root: &Value, path: &str) -> Result<String> {
    match root.pointer(path) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(mistyped(path, other, "string").hint("put it into quotes")),
    }
}

fn mistyped(path: &str, value: &Value, wanted: &str) -> Fault {
    let found = match value {
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        _ => "string",
    };
    let field = path.trim_start_matches('/').replace('/', ".");
    Fault::invalid(format!("json: cannot unmarshal {found} into Go struct field ClusterConfiguration.{field} of type {wanted}"))
}

impl Cluster {
    /// The images, in kubeadm's order; `version` stands above that of the configuration. Answers warnings besides.
    ///
    /// *Errors:* `InvalidArgument` for a version that is none, or a label of which the table does not know the newest version.
    pub fn images(&self, version: Option<&str>, table: &Table) -> Result<(Vec<String>, Vec<String>)> {
        let mut warnings = Vec::new();
        let (release, ci) = self.release(version, table, &mut warnings)?;
        let Some((components, known)) = table.components(&release) else { return Err(Fault::internal("the table has no row")) };
        if !known {
            warnings
                .push(format!("the tags of coredns, etcd and pause for {release} are not known; those of the nearest version are used"));
        }
        let or = |said: &str, default: &str| if said.is_empty() { default.to_owned() } else { said.to_owned() };
        let repository = or(&self.repository, REPOSITORY);
        let core = if ci && repository == REPOSITORY { CI_REPOSITORY.to_owned() } else { repository.clone() };
        let built = |name: &str| format!("{core}/{name}:{}", release.tag());
        let mut images = vec![built("kube-apiserver"), built("kube-controller-manager"), built("kube-scheduler")];
        if !self.without_proxy {
            images.push(built("kube-proxy"));
        }
        if !self.without_dns {
            // The official image is one directory deeper than those of mirrors.
            let dns = or(&self.dns.0, &repository);
            let dns = if dns == REPOSITORY { format!("{dns}/coredns") } else { dns };
            images.push(format!("{dns}/coredns:{}", or(&self.dns.1, &components.coredns)));
        }
        images.push(format!("{repository}/pause:{}", components.pause));
        if !self.external_etcd {
            images.push(format!("{}/etcd:{}", or(&self.etcd.0, &repository), or(&self.etcd.1, &components.etcd)));
        }
        Ok((images, warnings))
    }

    fn release(&self, version: Option<&str>, table: &Table, warnings: &mut Vec<String>) -> Result<(Release, bool)> {
        let said = version.unwrap_or(&self.version);
        let said = if said.is_empty() { "stable-1" } else { said };
        match Wanted::parse(said)? {
            Wanted::Release(release) => Ok((release, false)),
            Wanted::Ci(release) => Ok((release, true)),
            Wanted::Label(label) => {
                let newest = table.newest(Wanted::minor_of_label(&label)).filter(|_| !label.starts_with("ci/"));
                let Some(newest) = newest else {
                    return Err(
                        Fault::invalid(format!("nobody here knows which version {label:?} is")).hint("name one: --kubernetes-version")
                    );
                };
                warnings.push(format!("{label:?} is taken for {newest}, without asking dl.k8s.io; --kubernetes-version names another one"));
                Ok((newest.clone(), false))
            }
        }
    }
}

#[cfg(test)]
#[path = "kubeadm_tests.rs"]
mod tests;
