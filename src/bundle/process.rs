//! What a container runs: arguments, environment, working directory.

use crate::fault::{Context as _, Fault, Result, cut};

/// The longest argument or environment variable that the kernel gives a program, in bytes. *Source:* `MAX_ARG_STRLEN` of Linux, and
/// the NUL at its end.
const WORD_LIMIT: usize = 131_071;

/// The search path of a container whose image sets none. *Source:* Docker, containerd, podman.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether the process has a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// Plain streams.
    None,
    /// A pseudo terminal.
    Pty,
}

/// Reads the values of `--entrypoint`, repeated or one JSON array; never splits words.
///
/// *Shape:* `["sh", "-c"]` from two flags, or from the one flag `["sh","-c"]`; `None` without a flag; `[""]` and `[]` become no words.
/// *Source:* nerdctl (repeated), podman (JSON array), Docker (`--entrypoint ""` clears).
pub fn parse_entrypoint(flags: &[String]) -> Result<Option<Vec<String>>> {
    let words = match flags {
        [] => return Ok(None),
        [only] if only.trim_start().starts_with('[') => serde_json::from_str::<Vec<String>>(only)
            .map_err(|error| Fault::invalid(format!("entrypoint {only:?} is not a JSON array of strings: {error}")))?,
        several => several.to_vec(),
    };
    Ok(Some(without_lone_empty(&words).to_vec()))
}

fn without_lone_empty(words: &[String]) -> &[String] {
    match words {
        [only] if only.is_empty() => &[],
        several => several,
    }
}

/// Joins what the image and the user say into the arguments of the process.
///
/// The image's entrypoint comes first, then its Cmd. The user's `args` replace the Cmd only; the user's `entrypoint`, even
/// an empty one, replaces the entrypoint and drops the Cmd. *Errors:* `InvalidArgument` when nothing is left to run.
pub fn arguments(image_entrypoint: &[String], image_cmd: &[String], entrypoint: Option<&[String]>, args: &[String]) -> Result<Vec<String>> {
    let (first, rest) = match entrypoint {
        Some(words) => (words, args),
        None if args.is_empty() => (image_entrypoint, image_cmd),
        None => (image_entrypoint, args),
    };
    let all = [without_lone_empty(first), rest].concat();
    if all.is_empty() {
        return Err(Fault::invalid("no command or entrypoint provided, and no CMD or ENTRYPOINT from image")
            .hint("name a command after the image, or give --entrypoint"));
    }
    if all[0].is_empty() {
        return Err(Fault::invalid("the command to run is an empty word"));
    }
    // The runtime repeats it in its messages, on our caller's terminal.
    if all[0].chars().any(char::is_control) {
        return Err(Fault::invalid(format!("the command to run, {:?}, has a control character", cut(&all[0]))));
    }
    all.iter().try_for_each(|word| check_word(word, "argument"))?;
    Ok(all)
}

/// Refuses what the kernel gives no program.
fn check_word(word: &str, what: &str) -> Result<()> {
    if word.contains('\0') {
        return Err(Fault::invalid(format!("{what} {:?} has a NUL byte", cut(word))));
    }
    if word.len() > WORD_LIMIT {
        return Err(Fault::invalid(format!("{what} {:?} has {} bytes, more than {WORD_LIMIT}", cut(word), word.len())));
    }
    Ok(())
}

/// One change of the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvChange {
    /// `K=V`.
    Set {
        /// The name.
        name: String,
        /// The value.
        value: String,
    },
    /// `K` alone, when the caller has no such variable.
    Remove {
        /// The name.
        name: String,
    },
}

/// Reads one `-e`: `K=V`, or `K` to copy the caller's value, which `lookup` finds (and to remove the variable when there is none).
pub fn parse_env(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<EnvChange> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, lookup(text)),
    };
    if name.is_empty() || text.contains('\0') {
        return Err(Fault::invalid(format!("environment variable {text:?} is not NAME=VALUE or NAME"))
            .hint("the form is --env NAME=VALUE, or --env NAME to take the caller's"));
    }
    let name = name.to_owned();
    Ok(match value {
        Some(value) => EnvChange::Set { name, value },
        None => EnvChange::Remove { name },
    })
}

/// Reads an `--env-file`: one variable a line as in [`parse_env`], empty lines and lines that start with `#` are skipped.
pub fn parse_env_file(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<Vec<EnvChange>> {
    let lines = text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| parse_env(line, &lookup)).collect()
}

/// Builds the environment: default PATH, then the image's in its order, TERM for a terminal, HOSTNAME, then the user's changes in place.
///
/// Entries of the image without `=` are dropped: nothing can read them by name. HOME is left to the runtime, which takes it
/// from the passwd file of the container. *Errors:* a NUL byte, or more than 131071 bytes, which no process can be given.
pub fn environment(image: &[String], terminal: Terminal, hostname: Option<&str>, changes: &[EnvChange]) -> Result<Vec<String>> {
    let mut env: Vec<(String, String)> = vec![(String::from("PATH"), String::from(DEFAULT_PATH))];
    if terminal == Terminal::Pty {
        set(&mut env, "TERM", "xterm");
    }
    for entry in image {
        match entry.split_once('=') {
            Some((name, value)) if !name.is_empty() => set(&mut env, name, value),
            _ => {}
        }
    }
    if let Some(hostname) = hostname {
        set(&mut env, "HOSTNAME", hostname);
    }
    for change in changes {
        match change {
            EnvChange::Set { name, value } => set(&mut env, name, value),
            EnvChange::Remove { name } => env.retain(|(known, _)| known != name),
        }
    }
    let env: Vec<String> = env.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    env.iter().try_for_each(|entry| check_word(entry, "environment variable")).hint(|| "give it another value with --env NAME=VALUE")?;
    Ok(env)
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: &str) {
    match env.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => value.clone_into(old),
        None => env.push((name.to_owned(), value.to_owned())),
    }
}

/// Cleans the working directory: empty is `/`, relative ones start at `/`, `.` and `..` are resolved by their letters.
///
/// *Errors:* a path under `/proc` is refused. It is never a place to work in, and `/proc/self/fd/N` once led out of the
/// container through a descriptor that the runtime had leaked (CVE-2024-21626).
pub fn working_directory(text: &str) -> Result<String> {
    let refuse =
        |why: &str| Err(Fault::invalid(format!("working directory {:?} {why}", cut(text))).hint("give another one with --workdir"));
    if text.chars().any(char::is_control) {
        return refuse("has a control character");
    }
    let clean = clean_absolute(text);
    if is_too_long(&clean) {
        return refuse("is too long for the kernel");
    }
    if clean == "/proc" || clean.starts_with("/proc/") {
        return refuse("is under /proc");
    }
    Ok(clean)
}

/// Whether the kernel takes no such path. *Source:* `PATH_MAX` and `NAME_MAX` of Linux.
pub(super) fn is_too_long(path: &str) -> bool {
    path.len() > 4095 || path.split('/').any(|name| name.len() > 255)
}

/// Resolves `.`, `..` and doubled slashes by their letters, from `/`.
pub(super) fn clean_absolute(text: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn arguments_replace_cmd_and_an_entrypoint_drops_it() {
        let (entry, cmd) = (words("nginx"), words("-g x"));
        assert_eq!(arguments(&entry, &cmd, None, &[]).unwrap(), words("nginx -g x"));
        assert_eq!(arguments(&entry, &cmd, None, &words("-t")).unwrap(), words("nginx -t"));
        assert_eq!(arguments(&entry, &cmd, Some(&words("sh")), &[]).unwrap(), words("sh"));
        assert_eq!(arguments(&entry, &cmd, Some(&words("sh -c")), &words("ls")).unwrap(), words("sh -c ls"));
        assert_eq!(arguments(&entry, &cmd, Some(&[]), &words("ls")).unwrap(), words("ls"));
        assert_eq!(arguments(&[String::new()], &cmd, None, &[]).unwrap(), words("-g x"));
        assert!(arguments(&entry, &cmd, Some(&[]), &[]).unwrap_err().to_string().contains("no command or entrypoint"));
        for bad in ["a\0b", "a\u{1b}[31m", "a\nb"] {
            assert!(arguments(&[], &[], None, &[bad.to_owned()]).is_err(), "{bad:?}");
        }
        assert!(arguments(&[], &[], None, &["a".to_owned(), "b\n\0".to_owned()]).is_err());
        assert!(arguments(&[], &[], None, &["a".to_owned(), "b\nc".to_owned()]).is_ok());
    }

    #[test]
    fn entrypoint_flags_are_repeated_or_json_and_never_split() {
        let parse = |flags: &[&str]| parse_entrypoint(&flags.iter().map(|f| f.to_string()).collect::<Vec<_>>());
        assert_eq!(parse(&[]).unwrap(), None);
        assert_eq!(parse(&["sh", "-c"]).unwrap().unwrap(), ["sh", "-c"]);
        assert_eq!(parse(&["[\"sh\", \"-c\"]"]).unwrap().unwrap(), ["sh", "-c"]);
        assert_eq!(parse(&["sh -c"]).unwrap().unwrap(), ["sh -c"]);
        for empty in ["", "[]", "[\"\"]"] {
            assert!(parse(&[empty]).unwrap().unwrap().is_empty(), "{empty:?}");
        }
        assert!(parse(&["[1]"]).is_err());
    }

    #[test]
    fn the_environment_keeps_its_order_and_is_changed_in_place() {
        let image = ["A=1", "PATH=/x", "B=2", "bare", "=odd"].map(str::to_owned);
        let lookup = |name: &str| (name == "FROM").then(|| "caller=1".to_owned());
        let changes = [
            parse_env("A=9", lookup).unwrap(),
            parse_env("B", lookup).unwrap(),
            parse_env("FROM", lookup).unwrap(),
            parse_env("E=", lookup).unwrap(),
        ];
        let env = environment(&image, Terminal::Pty, Some("web"), &changes).unwrap();
        assert_eq!(env, ["PATH=/x", "TERM=xterm", "A=9", "HOSTNAME=web", "FROM=caller=1", "E="]);
        assert_eq!(environment(&[], Terminal::None, None, &[]).unwrap(), [format!("PATH={DEFAULT_PATH}")]);
        assert!(environment(&["A=\0".to_owned()], Terminal::None, None, &[]).is_err());
        assert!(parse_env("=x", lookup).is_err());
        assert_eq!(parse_env_file("# c\n\nA=1 # kept\nFROM\n", lookup).unwrap().len(), 2);
    }

    #[test]
    fn a_working_directory_is_absolute_and_never_in_proc() {
        assert_eq!(working_directory("").unwrap(), "/");
        assert_eq!(working_directory("srv/./a//../b").unwrap(), "/srv/b");
        assert_eq!(working_directory("/../..").unwrap(), "/");
        assert_eq!(working_directory("/process").unwrap(), "/process");
        for bad in ["/a\u{1b}c", "/proc/self/fd/8", "/srv/../proc/self", "//proc", "proc/1/cwd"] {
            assert!(working_directory(bad).is_err(), "{bad}");
        }
    }
}
