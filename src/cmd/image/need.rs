//! Which images a cluster needs: `image ls` and `image pull` with `--kubeadm` and `--manifests`.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::cmd::{Context, Format, output};
use crate::fault::{Context as _, Fault, Faults, Kind, Result};
use crate::pod::kubeadm::{self, Cluster};
use crate::pod::versions::Table;
use crate::pod::{manifests, yaml};
use crate::sys::file;

/// Where it is said which images are needed.
#[derive(Clone, Debug, Default, Args)]
#[group(id = "need", multiple = true)]
pub struct NeedArgs {
    /// The images that kubeadm init needs with this configuration; - stands
    /// for standard input
    #[arg(long, value_name = "FILE")]
    pub kubeadm: Option<PathBuf>,
    /// The images that the Kubernetes documents of a directory, or of a file,
    /// name; may be repeated
    #[arg(long, value_name = "DIR")]
    pub manifests: Vec<PathBuf>,
    /// The images of this Kubernetes version; stands above --kubeadm's own
    #[arg(long, value_name = "VERSION")]
    pub kubernetes_version: Option<String>,
    /// A table of the tags of coredns, etcd and pause, instead of the built-in
    /// one
    #[arg(long, value_name = "FILE")]
    pub component_versions: Option<PathBuf>,
}

/// `--output` of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// One image a line.
    Text,
    /// kubeadm's `Images`, as JSON.
    Json,
    /// The same as YAML.
    Yaml,
}

impl NeedArgs {
    /// Whether anything of it was said.
    pub fn is_asked(&self) -> bool {
        self.kubeadm.is_some() || !self.manifests.is_empty() || self.kubernetes_version.is_some() || self.component_versions.is_some()
    }
}

/// The images that are needed, each once; and the faults of files that could not be read, which do not stop the others.
///
/// Warnings go to stderr, in kubeadm's words.
pub fn images(args: &NeedArgs) -> (Vec<String>, Faults) {
    let (mut all, mut faults): (Vec<String>, Faults) = Default::default();
    if args.kubeadm.is_some() || args.kubernetes_version.is_some() || args.manifests.is_empty() {
        all.extend(faults.keep(of_kubeadm(args)).unwrap_or_default());
    }
    for place in &args.manifests {
        for path in faults.keep(files(place).doing(|| format!("reading {}", place.display()))).unwrap_or_default() {
            let found = text_of(&path).and_then(|text| manifests::images(&text)).doing(|| format!("reading {}", path.display()));
            all.extend(faults.keep(found).unwrap_or_default());
        }
    }
    let mut seen = BTreeSet::new();
    all.retain(|image| seen.insert(image.clone()));
    (all, faults)
}

fn of_kubeadm(args: &NeedArgs) -> Result<Vec<String>> {
    let table = match &args.component_versions {
        Some(path) => Table::parse(&text_of(path)?).doing(|| format!("reading {}", path.display()))?,
        None => Table::built_in()?,
    };
    let (cluster, warnings) = match &args.kubeadm {
        Some(path) => text_of(path).and_then(|text| kubeadm::read(&text)).doing(|| format!("reading {}", path.display()))?,
        None => (Cluster::default(), Vec::new()),
    };
    warnings.iter().for_each(|text| warn(text));
    let (images, warnings) = cluster.images(args.kubernetes_version.as_deref(), &table)?;
    warnings.iter().for_each(|text| warn(text));
    Ok(images)
}

fn warn(text: &str) {
    output::note(&format!("warning: {}", text.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'")));
}

/// The YAML and JSON files of a directory, by name; or the file itself.
fn files(place: &Path) -> Result<Vec<PathBuf>> {
    if !file::is_dir(place)? {
        return Ok(vec![place.to_path_buf()]);
    }
    let wanted = |name: &String| !name.starts_with('.') && [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end));
    let files: Vec<PathBuf> = file::list(place)?.into_iter().filter(wanted).map(|name| place.join(name)).collect();
    match files.is_empty() {
        true => Err(Fault::not_found("it has no .yaml, .yml or .json file")),
        false => Ok(files),
    }
}

fn text_of(path: &Path) -> Result<String> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        let read = std::io::stdin().take(yaml::LIMIT).read_to_end(&mut bytes);
        read.map_err(|error| Fault::new(Kind::Internal, error.to_string()).doing("reading standard input"))?;
        bytes
    } else {
        file::read_following(path, yaml::LIMIT)?
    };
    String::from_utf8(bytes).map_err(|_| Fault::invalid(format!("{} is not UTF-8", path.display())))
}

/// Prints what is needed.
pub fn list(cx: &Context, args: &NeedArgs, form: Option<Form>) -> Result<u8> {
    let (images, faults) = images(args);
    let form = form.unwrap_or(if cx.format == Format::Json { Form::Json } else { Form::Text });
    match form {
        Form::Text => output::text(&images.iter().map(|image| format!("{image}\n")).collect::<String>()),
        Form::Json => output::line(&json(&images)),
        Form::Yaml => output::text(&yaml_of(&images)),
    }
    faults.or(0)
}

const API: &str = "output.kubeadm.k8s.io/v1alpha3";

/// As kubeadm prints it: four spaces, in this order.
fn json(images: &[String]) -> String {
    let quoted: Vec<String> = images.iter().map(|image| format!("        {}", serde_json::Value::from(image.as_str()))).collect();
    format!("{{\n    \"kind\": \"Images\",\n    \"apiVersion\": \"{API}\",\n    \"images\": [\n{}\n    ]\n}}", quoted.join(",\n"))
}

fn yaml_of(images: &[String]) -> String {
    let plain = |image: &str| image.bytes().all(|b| b.is_ascii_alphanumeric() || b"./:@_-".contains(&b)) && !image.ends_with(':');
    let word = |image: &String| if plain(image) { image.clone() } else { serde_json::Value::from(image.as_str()).to_string() };
    let rows: String = images.iter().map(|image| format!("- {}\n", word(image))).collect();
    format!("apiVersion: {API}\nimages:\n{rows}kind: Images\n")
}
