//! The fields that kubeadm knows: what it does not know it warns of, and goes on.

use serde_json::Value;

/// Paths of known fields; `[]` is any element of a list, `*` any key, and what is below a path that ends in `**` is not looked at.
/// A version behind it says that only that one has the field. *Source:* kubeadm `v1beta3/types.go`, `v1beta4/types.go`.
const CLUSTER: &str = "\
apiVersion kind kubernetesVersion controlPlaneEndpoint certificatesDir imageRepository clusterName featureGates.**
encryptionAlgorithm@v1beta4 certificateValidityPeriod@v1beta4 caCertificateValidityPeriod@v1beta4
etcd.local.imageRepository etcd.local.imageTag etcd.local.dataDir etcd.local.serverCertSANs.** etcd.local.peerCertSANs.**
etcd.local.extraArgs.*@v1beta3 etcd.local.extraArgs[].name@v1beta4 etcd.local.extraArgs[].value@v1beta4 etcd.local.extraEnvs.**@v1beta4
etcd.external.endpoints.** etcd.external.httpEndpoints.**@v1beta4 etcd.external.caFile etcd.external.certFile etcd.external.keyFile
networking.serviceSubnet networking.podSubnet networking.dnsDomain
dns.imageRepository dns.imageTag dns.disabled@v1beta4 proxy.disabled@v1beta4
apiServer.certSANs.** apiServer.timeoutForControlPlane@v1beta3";

const COMPONENTS: [&str; 3] = ["apiServer", "controllerManager", "scheduler"];

/// Below each of [`COMPONENTS`].
const COMPONENT: &str = "\
extraArgs.*@v1beta3 extraArgs[].name@v1beta4 extraArgs[].value@v1beta4 extraEnvs.**@v1beta4
extraVolumes[].name extraVolumes[].hostPath extraVolumes[].mountPath extraVolumes[].readOnly extraVolumes[].pathType";

const INIT: &str = "\
apiVersion kind certificateKey skipPhases.** patches.directory dryRun@v1beta4
bootstrapTokens[].token bootstrapTokens[].description bootstrapTokens[].ttl bootstrapTokens[].expires bootstrapTokens[].usages.**
bootstrapTokens[].groups.** localAPIEndpoint.advertiseAddress localAPIEndpoint.bindPort
nodeRegistration.name nodeRegistration.criSocket nodeRegistration.taints.** nodeRegistration.ignorePreflightErrors.**
nodeRegistration.imagePullPolicy nodeRegistration.imagePullSerial@v1beta4 nodeRegistration.kubeletExtraArgs.*@v1beta3
nodeRegistration.kubeletExtraArgs[].name@v1beta4 nodeRegistration.kubeletExtraArgs[].value@v1beta4
timeouts.controlPlaneComponentHealthCheck@v1beta4 timeouts.kubeletHealthCheck@v1beta4 timeouts.kubernetesAPICall@v1beta4
timeouts.etcdAPICall@v1beta4 timeouts.tlsBootstrap@v1beta4 timeouts.discovery@v1beta4 timeouts.upgradeManifests@v1beta4";

/// The fields of a document that its kind does not have, as paths: `dns.imagetag`, `apiServer.extraVolumes[0].path`.
pub(super) fn unknown(kind: &str, version: &str, document: &Value) -> Vec<String> {
    let mut known: Vec<String> = of_version(if kind == "InitConfiguration" { INIT } else { CLUSTER }, version).map(str::to_owned).collect();
    if kind != "InitConfiguration" {
        known.extend(COMPONENTS.iter().flat_map(|part| of_version(COMPONENT, version).map(move |path| format!("{part}.{path}"))));
    }
    let mut found = Vec::new();
    walk(document, ("", ""), &known, &mut found);
    found
}

fn of_version<'a>(table: &'a str, version: &'a str) -> impl Iterator<Item = &'a str> {
    table.split_whitespace().filter_map(move |word| match word.split_once('@') {
        Some((path, only)) => (only == version).then_some(path),
        None => Some(word),
    })
}

/// `at` is the path as it is shown, and as the table has it.
fn walk(value: &Value, at: (&str, &str), known: &[String], found: &mut Vec<String>) {
    let (shown, path) = at;
    if known.iter().any(|known| known.strip_suffix(".**") == Some(path)) {
        return;
    }
    match value {
        Value::Object(members) => {
            for (key, below) in members {
                let join = |path: &str, key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                let (shown, exact, any) = (join(shown, key), join(path, key), join(path, "*"));
                let path = if leads_to(known, &any) { any } else { exact };
                if leads_to(known, &path) { walk(below, (&shown, &path), known, found) } else { found.push(shown) }
            }
        }
        Value::Array(list) => {
            for (nth, below) in list.iter().enumerate() {
                walk(below, (&format!("{shown}[{nth}]"), &format!("{path}[]")), known, found);
            }
        }
        _ => {}
    }
}

/// Whether `path` is a known field or the beginning of one.
fn leads_to(known: &[String], path: &str) -> bool {
    known.iter().any(|known| known.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '['])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_kubeadm_does_not_know_is_found_in_any_depth() {
        let document = json!({"apiVersion": "x", "kind": "y", "imageRepositori": 1, "dns": {"imagetag": 1, "disabled": true}, "proxy": {},
            "featureGates": {"A": true}, "etcd": {"local": {"extraArgs": [{"name": "a", "valu": 1}]}, "remote": {}},
            "apiServer": {"extraVolumes": [{"name": "a"}, {"path": "b"}], "certSANs": ["a"], "extraEnvs": [{"name": "a"}]}});
        let unknown = |version: &str| unknown("ClusterConfiguration", version, &document);
        let mut found = unknown("v1beta4");
        found.sort();
        assert_eq!(
            found,
            ["apiServer.extraVolumes[1].path", "dns.imagetag", "etcd.local.extraArgs[0].valu", "etcd.remote", "imageRepositori"]
        );
        assert!(unknown("v1beta3").contains(&"proxy".to_owned()) && unknown("v1beta3").contains(&"dns.disabled".to_owned()));
        let old = json!({"etcd": {"local": {"extraArgs": {"any": "thing"}}}, "apiServer": {"extraArgs": {"a": "b"}}});
        assert!(super::unknown("ClusterConfiguration", "v1beta3", &old).is_empty());
        let init =
            json!({"nodeRegistration": {"taints": [{"key": "a"}], "nam": "x"}, "localAPIEndpoint": {"bindPort": 1}, "clusterName": "x"});
        let mut found = super::unknown("InitConfiguration", "v1beta4", &init);
        found.sort();
        assert_eq!(found, ["clusterName", "nodeRegistration.nam"]);
    }
}
