//! `--mount`: comma-separated keys and values.

use std::path::PathBuf;

use super::flag::{tmpfs_data, volume_name};
use super::options::{self, Options, Reach};
use super::{Access, Ask, Source, check_destination};
use crate::fault::{Context as _, Fault, Result};

/// Reads one `--mount type=bind,source=/a,target=/b,readonly`.
///
/// *Shape:* the types are `bind`, `volume` (the default), `tmpfs` and `image`; a field with a comma is written in double quotes, as in CSV.
/// *Errors:* `InvalidArgument` for an unknown key or type, a key that is not for the type, a missing target. *Source:* docker run, podman run.
pub fn parse_mount(text: &str) -> Result<Ask> {
    parse(text).doing(|| format!("mount {text:?}")).hint(|| "the form is type=bind,source=/on/host,target=/in/container[,readonly]")
}

#[derive(Default)]
struct Keys {
    kind: Option<String>,
    source: Option<String>,
    target: Option<String>,
    writable_below: bool,
    options: Options,
}

fn parse(text: &str) -> Result<Ask> {
    if text.contains('\0') {
        return Err(Fault::invalid("it has a NUL byte"));
    }
    let mut keys = Keys::default();
    for field in fields(text)? {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (field.as_str(), None),
        };
        take(&mut keys, key, value).doing(|| format!("key {key:?}"))?;
    }
    if keys.writable_below && keys.options.access == Some(Access::ReadOnly) {
        keys.options.access = Some(Access::ReadOnlyTop);
    }
    let target = keys.target.ok_or_else(|| Fault::invalid("it has no target"))?;
    let source = match (keys.kind.as_deref().unwrap_or("volume"), keys.source) {
        ("bind", Some(path)) if path.starts_with('/') => Source::Host { path: PathBuf::from(path), create: false },
        ("bind", Some(path)) => return Err(Fault::invalid(format!("its source {path:?} is not an absolute path"))),
        ("volume", None) => Source::Anonymous,
        ("volume", Some(name)) => Source::Named(volume_name(&name)?),
        ("tmpfs", None) => Source::Tmpfs,
        ("tmpfs", Some(_)) => return Err(Fault::invalid("a tmpfs has no source")),
        ("image", Some(reference)) => Source::Image(reference),
        ("bind" | "image", None) => return Err(Fault::invalid("it has no source")),
        (other, _) => return Err(Fault::invalid(format!("its type {other:?} is not bind, volume, tmpfs or image"))),
    };
    Ask { source, destination: check_destination(&target)?, options: keys.options }.checked()
}

fn take(keys: &mut Keys, key: &str, value: Option<&str>) -> Result<()> {
    let given = || value.filter(|value| !value.is_empty()).map(str::to_owned).ok_or_else(|| Fault::invalid("it needs a value"));
    let once = |slot: &mut Option<String>| match slot.replace(given()?) {
        Some(_) => Err(Fault::invalid("it is given twice")),
        None => Ok(()),
    };
    let options = &mut keys.options;
    match key {
        "type" => once(&mut keys.kind)?,
        "source" | "src" => once(&mut keys.source)?,
        "target" | "dst" | "destination" => once(&mut keys.target)?,
        "readonly" | "ro" | "rw" => {
            let read_only = truth(value)? == (key != "rw");
            options.take(if read_only { "ro" } else { "rw" })?;
        }
        "bind-propagation" => {
            let word = given()?;
            options::propagation(&word).ok_or_else(|| Fault::invalid(format!("{word:?} is no propagation")))?;
            options.take(&word)?;
        }
        "bind-nonrecursive" if truth(value)? => options.reach = Reach::Alone,
        "bind-nonrecursive" => options.reach = Reach::Below,
        "bind-recursive" => match given()?.as_str() {
            "enabled" => options.reach = Reach::Below,
            "disabled" => options.reach = Reach::Alone,
            "writable" => keys.writable_below = true,
            "readonly" => options.access = Some(Access::ReadOnlyBelow),
            word => return Err(Fault::invalid(format!("{word:?} is not enabled, disabled, writable or readonly"))),
        },
        "volume-nocopy" => options.nocopy = truth(value)?,
        "volume-subpath" | "image-subpath" | "subpath" => options.subpath = Some(subpath(&given()?)?),
        "tmpfs-size" => drop(tmpfs_data(options, &format!("size={}", given()?))?),
        "tmpfs-mode" => drop(tmpfs_data(options, &format!("mode={}", given()?))?),
        "relabel" => match given()?.as_str() {
            "shared" => drop(options.take("z")?),
            "private" => drop(options.take("Z")?),
            word => return Err(Fault::invalid(format!("{word:?} is not shared or private"))),
        },
        "U" | "chown" => options.chown = truth(value)?,
        "consistency" => {}
        word if value.is_none() && options.take(word)? => {}
        "volume-driver" | "volume-opt" | "volume-label" => return Err(Fault::invalid("volumes are local and take no options here")),
        _ => return Err(Fault::invalid("it is not known")),
    }
    Ok(())
}

fn truth(value: Option<&str>) -> Result<bool> {
    match value {
        None | Some("true" | "1" | "t" | "T" | "TRUE" | "True") => Ok(true),
        Some("false" | "0" | "f" | "F" | "FALSE" | "False") => Ok(false),
        Some(other) => Err(Fault::invalid(format!("{other:?} is not true or false"))),
    }
}

/// A path below the source: relative, without `..`.
pub fn subpath(text: &str) -> Result<String> {
    let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if text.starts_with('/') || parts.is_empty() || parts.contains(&"..") {
        return Err(Fault::invalid(format!("{text:?} is not a path below the source")));
    }
    Ok(parts.join("/"))
}

/// The fields of one line of CSV.
fn fields(text: &str) -> Result<Vec<String>> {
    let (mut fields, mut field, mut chars) = (Vec::new(), String::new(), text.chars().peekable());
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            '"' => return Err(Fault::invalid("it has a quote in the middle of a field")),
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    if quoted {
        return Err(Fault::invalid("its quote does not end"));
    }
    fields.push(field);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::mounts::options::Propagation;

    #[test]
    fn keys_say_the_same_as_colons() {
        let ask = parse_mount("type=bind,src=/a,dst=/b,ro,bind-propagation=rslave").unwrap();
        assert_eq!(ask.source, Source::Host { path: "/a".into(), create: false });
        assert_eq!((ask.destination.as_str(), ask.options.access()), ("/b", Access::ReadOnly));
        assert_eq!(ask.options.propagation(), (Propagation::Slave, Reach::Below));
        assert_eq!(parse_mount("source=vol,target=/v,volume-nocopy").unwrap().source, Source::Named("vol".to_owned()));
        assert_eq!(parse_mount("target=/v").unwrap().source, Source::Anonymous);
        assert_eq!(parse_mount("type=image,source=busybox:latest,target=/i").unwrap().source, Source::Image("busybox:latest".to_owned()));
        let tmpfs = parse_mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700").unwrap();
        assert_eq!(tmpfs.options.data, ["size=1048576", "mode=700"]);
        assert_eq!(parse_mount("type=bind,\"source=/a,b\",target=/c").unwrap().source, Source::Host { path: "/a,b".into(), create: false });
        assert_eq!(parse_mount("type=bind,source=/a,target=/c,readonly=false").unwrap().options.access(), Access::ReadWrite);
        assert_eq!(parse_mount("src=vol,dst=/c,volume-subpath=a//b/.").unwrap().options.subpath.as_deref(), Some("a/b"));
    }

    #[test]
    fn what_is_not_meant_is_refused() {
        for bad in [
            "",
            "type=bind,target=/a",
            "type=bind,source=a,target=/b",
            "type=bind,source=/a",
            "type=x,target=/a",
            "source=/a,target=/b",
            "target=/proc",
            "type=tmpfs,source=/a,target=/b",
            "type=bind,source=/a,target=/b,tmpfs-size=1m",
            "type=bind,source=/a,target=/b,volume-nocopy",
            "type=bind,source=/a,target=/b,colour=blue",
            "type=bind,source=/a,target=/b,readonly=maybe",
            "type=bind,source=/a,target=/b,target=/c",
            "type=tmpfs,target=/b,bind-propagation=rslave",
            "src=vol,dst=/a,volume-subpath=../b",
            "src=vol,dst=/a,volume-subpath=/b",
            "type=bind,source=/a,target=/b\"",
            "\"target=/a",
            "type=image,source=x,target=/b,U",
            "src=vol,dst=/a,volume-opt=x=y",
            "type=bind,source=/a,target=/b,subpath=x",
        ] {
            assert!(parse_mount(bad).is_err(), "{bad:?}");
        }
    }
}
