//! `-v` and `--tmpfs`: what colons and commas say.

use std::path::PathBuf;

use super::options::Options;
use super::{Ask, Source, check_destination};
use crate::fault::{Context as _, Fault, Result};

/// Reads one `-v [SOURCE:]DESTINATION[:OPTIONS]`.
///
/// *Shape:* a path of the host (absolute), a name, or no source for an anonymous volume. *Errors:* `InvalidArgument` for a destination as in
/// [`check_destination`], a relative source, an option that is unknown, contradicts another, or is not for this kind of source.
/// *Source:* docker run, podman run; relative sources are refused because a typing error would make a volume of that name.
pub fn parse_volume(text: &str) -> Result<Ask> {
    parse(text).doing(|| format!("volume {text:?}")).hint(|| "the form is [SOURCE:]DESTINATION[:ro,rslave,…]")
}

fn parse(text: &str) -> Result<Ask> {
    let parts: Vec<&str> = text.split(':').collect();
    let (source, destination, words) = match parts[..] {
        [destination] => (None, destination, ""),
        [source, destination] => (Some(source), destination, ""),
        [source, destination, words] => (Some(source), destination, words),
        _ => return Err(Fault::invalid("it has more than three parts")),
    };
    if text.contains('\0') {
        return Err(Fault::invalid("it has a NUL byte"));
    }
    let source = match source {
        None => Source::Anonymous,
        Some("") => return Err(Fault::invalid("it has no source")),
        Some(path) if path.starts_with('/') => Source::Host { path: PathBuf::from(path), create: true },
        Some(path) if path.contains('/') || matches!(path, "." | "..") => {
            return Err(Fault::invalid("its source is a relative path").hint(format!("give the whole path: \"$PWD/{path}\"")));
        }
        Some(name) => Source::Named(volume_name(name)?),
    };
    let mut options = Options::default();
    for word in words.split(',').filter(|word| !word.is_empty()) {
        if !options.take(word)? {
            return Err(Fault::invalid(format!("it has the unknown option {word:?}")));
        }
    }
    Ask { source, destination: check_destination(destination)?, options }.checked()
}

/// Reads one `--tmpfs DESTINATION[:OPTIONS]`; options are `size=`, `mode=`, `uid=`, `gid=`, `nr_inodes=` and mount flags.
pub fn parse_tmpfs(text: &str) -> Result<Ask> {
    let (destination, words) = text.split_once(':').unwrap_or((text, ""));
    let parse = || {
        let mut options = Options::default();
        for word in words.split(',').filter(|word| !word.is_empty()) {
            if !tmpfs_data(&mut options, word)? && !options.take(word)? {
                return Err(Fault::invalid(format!("it has the unknown option {word:?}")));
            }
        }
        Ask { source: Source::Tmpfs, destination: check_destination(destination)?, options }.checked()
    };
    parse().doing(|| format!("tmpfs {text:?}")).hint(|| "the form is DESTINATION[:size=64m,mode=1777]")
}

/// Takes in a word that only a tmpfs has; `false` when it is none.
pub(super) fn tmpfs_data(options: &mut Options, word: &str) -> Result<bool> {
    let Some((key, value)) = word.split_once('=') else { return Ok(false) };
    let bad = || Fault::invalid(format!("{value:?} is no {key} of a tmpfs"));
    let number = |radix| u32::from_str_radix(value, radix).map_err(|_| bad());
    let word = match key {
        "size" if value.ends_with('%') => match value.trim_end_matches('%').parse::<u8>() {
            Ok(percent) if (1..=100).contains(&percent) => word.to_owned(),
            _ => return Err(bad()),
        },
        "size" => format!("size={}", crate::bundle::size::parse(value)?),
        "mode" => match number(8)? {
            mode if mode <= 0o7777 => format!("mode={mode:o}"),
            _ => return Err(bad()),
        },
        "uid" | "gid" | "nr_inodes" => format!("{key}={}", number(10)?),
        _ => return Ok(false),
    };
    options.data.push(word);
    Ok(true)
}

/// The name of a volume: as Docker, two or more of letters, digits, `_ . -`, a letter or digit first.
pub fn volume_name(text: &str) -> Result<String> {
    let mut bytes = text.bytes();
    let word = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if word && (2..=128).contains(&text.len()) {
        return Ok(text.to_owned());
    }
    Err(Fault::invalid(format!("volume name {text:?} is not valid"))
        .hint("use letters, digits, _ . -, a letter or digit first, 2 to 128 in all"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::mounts::Access;

    #[test]
    fn volumes_are_host_paths_names_or_anonymous() {
        let volume = parse_volume("/srv/data:/data//x/./y:ro").unwrap();
        assert_eq!(volume.source, Source::Host { path: "/srv/data".into(), create: true });
        assert_eq!((volume.destination.as_str(), volume.options.access()), ("/data/x/y", Access::ReadOnly));
        assert_eq!(parse_volume("cache:/var/cache").unwrap().source, Source::Named("cache".to_owned()));
        assert_eq!(parse_volume("/data").unwrap().source, Source::Anonymous);
        assert!(parse_volume("cache:/c:nocopy,z,exec,rw").unwrap().options.nocopy);
        for bad in [
            "",
            ":/a",
            "/a:",
            "/a:b",
            "./a:/b",
            "..:/b",
            "/a:/b:ro:x",
            "/a:/b:O",
            "a/b:/c",
            "/a:/b\0",
            "a:/b",
            "-a:/b",
            "/a:/proc",
            "/a:/b:ro,rw",
            "/a:/b:nocopy",
            "/a:/b:size=1m",
            "a b:/c",
            "vol:/c:rshared",
            "rel",
        ] {
            let fault = parse_volume(bad).unwrap_err();
            assert!(!fault.hints().is_empty(), "{bad:?}");
        }
    }

    #[test]
    fn a_tmpfs_has_a_size_and_a_mode() {
        let words = |text| parse_tmpfs(text).map(|ask| ask.options.tmpfs_words().join(","));
        assert_eq!(words("/run").unwrap(), "nosuid,nodev,noexec,rw,mode=1777");
        assert_eq!(words("/run:size=64m,mode=0755,exec,ro").unwrap(), "nosuid,nodev,ro,size=67108864,mode=755");
        assert_eq!(words("/run:size=50%,uid=7").unwrap(), "nosuid,nodev,noexec,rw,mode=1777,size=50%,uid=7");
        for bad in [
            "run",
            "/run:size=x",
            "/run:mode=9",
            "/run:mode=17777",
            "/run:size=0%",
            "/run:uid=-1",
            "/run:x",
            "/proc/x",
            "/run:rslave",
            "/run:z",
        ] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }
}
