//! `registries.conf`, version 2: the containers tools' way to say who serves a registry.

use toml::{Table, Value};

use super::endpoint::Place;
use crate::fault::{Context as _, Fault, Result};
use crate::image::Reference;

/// The largest file, in bytes.
pub const LIMIT: u64 = 1 << 20;

/// One place of a registry: itself or a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// What stands for the prefix; empty keeps the name as it is.
    pub location: String,
    /// Whether plain HTTP and any certificate will do.
    pub insecure: bool,
    /// Whether it is asked what a tag means.
    pub tags: bool,
    /// Whether it is asked for what has a digest.
    pub digests: bool,
}

/// One `[[registry]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// What a name must start with: `docker.io/library`, `*.example.com`.
    pub prefix: String,
    /// The registry itself.
    pub own: Location,
    /// Tried before it, in order.
    pub mirrors: Vec<Location>,
    /// Whether nothing may be pulled from it.
    pub blocked: bool,
}

/// The registries of all files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegistriesConf {
    registries: Vec<Registry>,
}

impl RegistriesConf {
    /// Reads one file. *Source:* containers-registries.conf(5), version 2. *Errors:* `InvalidArgument`, with the place in the file.
    pub fn parse(text: &str) -> Result<Self> {
        let root: Table = toml::from_str(text).map_err(|error| Fault::invalid(error.message().to_owned()))?;
        if root.contains_key("registries") {
            return Err(
                Fault::invalid("it is of version 1, which is obsolete").hint("write [[registry]] tables: containers-registries.conf(5)")
            );
        }
        let mut registries = Vec::new();
        for (nth, table) in tables(&root, "registry")?.into_iter().enumerate() {
            registries.push(registry(table).doing(|| format!("registry {}", nth + 1))?);
        }
        Ok(RegistriesConf { registries })
    }

    /// Adds a file that is read later: a registry of the same prefix takes the place of the earlier one.
    pub fn merge(&mut self, later: RegistriesConf) {
        for registry in later.registries {
            self.registries.retain(|known| known.prefix != registry.prefix);
            self.registries.push(registry);
        }
    }

    /// The registry whose prefix fits `reference` best.
    pub fn find(&self, reference: &Reference) -> Option<&Registry> {
        self.registries.iter().filter(|registry| registry.fits(reference)).max_by_key(|registry| registry.prefix.len())
    }
}

impl Registry {
    fn fits(&self, reference: &Reference) -> bool {
        if let Some(suffix) = self.prefix.strip_prefix("*.") {
            let (host, path) = suffix.split_once('/').unwrap_or((suffix, ""));
            let below = reference.domain().strip_suffix(host).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'));
            return below && (path.is_empty() || follows(reference.path(), path).is_some());
        }
        follows(&reference.to_string(), &self.prefix).is_some()
    }

    /// The name of `reference` at `location`: host and path.
    pub fn renamed(&self, location: &Location, reference: &Reference) -> String {
        let name = reference.repository();
        if location.location.is_empty() {
            return name;
        }
        let rest = match self.prefix.strip_prefix("*.") {
            // All that a wildcard stands for is the host.
            Some(suffix) => match suffix.split_once('/') {
                Some((_, path)) => reference.path().strip_prefix(path).unwrap_or_default(),
                None => return format!("{}/{}", location.location, reference.path()),
            },
            None => name.strip_prefix(self.prefix.as_str()).unwrap_or_default(),
        };
        format!("{}{rest}", location.location)
    }
}

/// What follows `prefix` in `name`, when that is a whole part of it.
fn follows<'a>(name: &'a str, prefix: &str) -> Option<&'a str> {
    name.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with(['/', ':', '@']))
}

fn tables<'a>(table: &'a Table, name: &str) -> Result<Vec<&'a Table>> {
    let wrong = || Fault::invalid(format!("{name} is not a list of tables: write [[{name}]]"));
    match table.get(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(list)) => list.iter().map(|one| one.as_table().ok_or_else(wrong)).collect(),
        Some(_) => Err(wrong()),
    }
}

fn text<'a>(table: &'a Table, name: &str) -> Result<&'a str> {
    match table.get(name) {
        None => Ok(""),
        Some(value) => value.as_str().ok_or_else(|| Fault::invalid(format!("{name} is not a text"))),
    }
}

fn flag(table: &Table, name: &str) -> Result<bool> {
    match table.get(name) {
        None => Ok(false),
        Some(Value::Boolean(value)) => Ok(*value),
        Some(_) => Err(Fault::invalid(format!("{name} is not true or false"))),
    }
}

fn registry(table: &Table) -> Result<Registry> {
    let (location, said) = (place(text(table, "location")?)?, text(table, "prefix")?.trim_end_matches('/'));
    let prefix = if said.is_empty() { location.clone() } else { said.to_owned() };
    if prefix.is_empty() {
        return Err(Fault::invalid("it has neither prefix nor location"));
    }
    place(prefix.strip_prefix("*.").unwrap_or(&prefix)).doing(|| "prefix")?;
    let own = Location { location, insecure: flag(table, "insecure")?, tags: true, digests: true };
    let digests_only = flag(table, "mirror-by-digest-only")?;
    let mirrors = tables(table, "mirror")?.into_iter().map(|table| mirror(table, digests_only)).collect::<Result<_>>()?;
    Ok(Registry { prefix, own, mirrors, blocked: flag(table, "blocked")? })
}

fn mirror(table: &Table, digests_only: bool) -> Result<Location> {
    let location = place(text(table, "location")?)?;
    if location.is_empty() {
        return Err(Fault::invalid("a mirror has no location"));
    }
    let (tags, digests) = match text(table, "pull-from-mirror")? {
        "" => (!digests_only, true),
        "all" => (true, true),
        "digest-only" => (false, true),
        "tag-only" => (true, false),
        other => return Err(Fault::invalid(format!("pull-from-mirror {other:?} is not known"))),
    };
    Ok(Location { location, insecure: flag(table, "insecure")?, tags, digests })
}

/// A location: host, port, path, no scheme.
fn place(text: &str) -> Result<String> {
    let text = text.trim_end_matches('/');
    if text.is_empty() {
        return Ok(String::new());
    }
    match Place::parse(text)?.scheme {
        None => Ok(text.to_owned()),
        Some(_) => Err(Fault::invalid(format!("{text:?} has a scheme")).hint("leave it out; insecure = true allows plain HTTP")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        unqualified-search-registries = ["docker.io"]
        [[registry]]
        location = "docker.io"
        [[registry.mirror]]
        location = "mirror.example:5000/hub"
        [[registry.mirror]]
        location = "second.example"
        insecure = true
        pull-from-mirror = "digest-only"
        [[registry]]
        prefix = "docker.io/library"
        location = "internal.example/base"
        [[registry]]
        prefix = "*.corp.example"
        location = "cache.example"
        insecure = true
        [[registry]]
        location = "bad.example"
        blocked = true
    "#;

    fn found(conf: &RegistriesConf, name: &str) -> Option<(String, bool)> {
        let reference: Reference = name.parse().unwrap();
        conf.find(&reference).map(|registry| (registry.renamed(&registry.own, &reference), registry.blocked))
    }

    #[test]
    fn the_longest_prefix_decides_and_is_replaced() {
        let conf = RegistriesConf::parse(FILE).unwrap();
        assert_eq!(found(&conf, "busybox"), Some(("internal.example/base/busybox".into(), false)));
        assert_eq!(found(&conf, "user/app"), Some(("docker.io/user/app".into(), false)));
        assert_eq!(found(&conf, "a.b.corp.example/x"), Some(("cache.example/x".into(), false)));
        assert_eq!(found(&conf, "corp.example/x"), None);
        assert_eq!(found(&conf, "evilcorp.example/x"), None);
        assert!(found(&conf, "bad.example/x").unwrap().1);
        assert_eq!(found(&conf, "bad.example.org/x"), None);
        assert_eq!(found(&conf, "docker.io/libraryx/y"), Some(("docker.io/libraryx/y".into(), false)));
        let reference: Reference = "user/app:1".parse().unwrap();
        let registry = conf.find(&reference).unwrap();
        let mirrors: Vec<String> = registry.mirrors.iter().map(|mirror| registry.renamed(mirror, &reference)).collect();
        assert_eq!(mirrors, ["mirror.example:5000/hub/user/app", "second.example/user/app"]);
        assert!(registry.mirrors[0].tags && !registry.mirrors[1].tags && registry.mirrors[1].insecure);
    }

    #[test]
    fn a_later_file_replaces_a_registry() {
        let mut conf = RegistriesConf::parse(FILE).unwrap();
        conf.merge(RegistriesConf::parse("[[registry]]\nprefix = \"bad.example\"\nlocation = \"good.example\"").unwrap());
        assert_eq!(found(&conf, "bad.example/x"), Some(("good.example/x".into(), false)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, says) in [
            ("[registries.search]\nregistries = []", "version 1"),
            ("[[registry]]", "neither prefix nor location"),
            ("registry = 1", "[[registry]]"),
            ("[[registry]]\nlocation = \"https://x\"", "has a scheme"),
            ("[[registry]]\nlocation = \"x\"\n[[registry.mirror]]", "no location"),
            ("[[registry]]\nlocation = \"x\"\ninsecure = 1", "insecure is not"),
            ("[[registry]]\nlocation = \"x\"\n[[registry.mirror]]\nlocation = \"y\"\npull-from-mirror = \"z\"", "\"z\" is not known"),
            ("[[registry]]\nprefix = \"a b\"", "odd characters"),
        ] {
            let fault = RegistriesConf::parse(text).unwrap_err().to_string();
            assert!(fault.contains(says), "{text:?}: {fault}");
        }
    }
}
