//! systemd units: for one container, for one sandbox, and for what rkbox does once after a boot.

use super::{ContainerRecord, SandboxRecord};
use crate::fault::{Fault, Result};

/// The unit that takes back what the last boot left and starts what a restart policy wants; `{program}` is the path of rkbox.
const BOOT: &str = include_str!("../../dist/rkbox-boot.service");
/// The path in the unit as it is shipped.
const SHIPPED: &str = "/usr/local/bin/rkbox";

/// The words that made a box, told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Making {
    /// Path of rkbox.
    pub program: String,
    /// Options that every command of the unit needs (`--root DIR`).
    pub global: Vec<String>,
    /// Options of the command, without the subcommand's name.
    pub options: Vec<String>,
    /// Image and command of a container. (A sandbox's name may stand anywhere among the options.)
    pub operands: Vec<String>,
}

/// Writes the unit of a container: it is made anew at each start and runs in the foreground, so that systemd sees how it ends.
///
/// *Errors:* `InvalidArgument` for a container with a terminal, which a unit does not have.
pub fn container(record: &ContainerRecord, making: &Making) -> Result<String> {
    if record.tty {
        return Err(Fault::invalid(format!("container {} has a terminal, and a unit has none", record.name)).hint("make it without --tty"));
    }
    let name = record.name.to_string();
    let remove = line(making, &["rm", "--force", &name]);
    let options: Vec<&str> = without_own(&making.options);
    let words = [&["run", "--rm", "--name", &name][..], &options, &making.operands.iter().map(String::as_str).collect::<Vec<_>>()].concat();
    Ok(format!(
        "[Unit]\nDescription=rkbox container {name}\nWants=network-online.target\nAfter=network-online.target rkbox-boot.service\n\n\
         [Service]\nExecStartPre=-{remove}\nExecStart={start}\nExecStopPost=-{remove}\nKillMode=mixed\nTimeoutStopSec=70\nRestart=on-failure\n\n\
         [Install]\nWantedBy=multi-user.target\n",
        start = line(making, &words),
    ))
}

/// Writes the unit of a sandbox, which stays active while the sandbox is there.
pub fn sandbox(record: &SandboxRecord, making: &Making) -> String {
    let name = record.name.to_string();
    let remove = line(making, &["sandbox", "rm", "--force", &name]);
    let words = ["sandbox", "create"].into_iter().chain(making.options.iter().map(String::as_str));
    format!(
        "[Unit]\nDescription=rkbox sandbox {name}\nAfter=network-pre.target rkbox-boot.service\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStartPre=-{remove}\nExecStart={start}\nExecStop={remove}\n\n\
         [Install]\nWantedBy=multi-user.target\n",
        start = line(making, &words.collect::<Vec<_>>()),
    )
}

/// Writes the unit that runs once after a boot.
pub fn boot(making: &Making) -> String {
    let commands: [&[&str]; 2] = [&["gc"], &["start", "--all", "--restart-policy"]];
    commands.iter().fold(BOOT.to_owned(), |unit, words| {
        unit.replace(&format!("ExecStart={SHIPPED} {}\n", words.join(" ")), &format!("ExecStart={}\n", line(making, words)))
    })
}

/// The options that the unit sets itself: it names the container, removes it, restarts it, and does not detach from it.
fn without_own(options: &[String]) -> Vec<&str> {
    let mut kept = Vec::new();
    let mut words = options.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--name" | "--restart" => drop(words.next()),
            "--rm" | "-d" | "--detach" => {}
            word if word.starts_with("--name=") || word.starts_with("--restart=") => {}
            "-di" | "-id" => kept.push("-i"),
            word => kept.push(word),
        }
    }
    kept
}

fn line(making: &Making, words: &[&str]) -> String {
    let all = std::iter::once(&making.program).chain(&making.global).map(String::as_str).chain(words.iter().copied());
    all.map(quote).collect::<Vec<_>>().join(" ")
}

/// Quotes a word for a command line of a unit. *Source:* systemd.service(5), systemd.syntax(7): `%` and `$` are doubled, escapes are C's.
fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut text = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '%' | '$' => text.extend([c, c]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            c if c.is_control() => text.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn words_are_quoted_as_systemd_reads_them() {
        assert_eq!(quote("/a-b_c.d:e=f"), "/a-b_c.d:e=f");
        assert_eq!(quote(""), "\"\"");
        assert_eq!(quote("a b\"c\\d%e$f\n\u{1b}"), r#""a b\"c\\d%%e$$f\n\x1b""#);
    }

    #[test]
    fn what_the_unit_says_itself_is_left_out() {
        let all = words("-d --name web --restart=always -e A=1 --restart on-failure:3 --rm -id --memory 1g");
        let left = without_own(&all);
        assert_eq!(left, ["-e", "A=1", "-i", "--memory", "1g"]);
    }

    #[test]
    fn the_boot_unit_runs_this_program() {
        let making = Making { program: "/opt/rk box".to_owned(), global: words("--root /srv"), options: Vec::new(), operands: Vec::new() };
        for words in ["gc", "start --all --restart-policy"] {
            assert!(boot(&making).contains(&format!("ExecStart=\"/opt/rk box\" --root /srv {words}\n")), "{}", boot(&making));
        }
        assert!(!boot(&making).contains(SHIPPED));
    }
}
