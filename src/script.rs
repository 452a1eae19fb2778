//! The one writer of shell: every step prints itself through it, so that quoting is right in one place.

use std::fmt::Write as _;

/// A POSIX shell script in the making.
///
/// *Shape:* `set -eu`, then per step a comment with its phrase and one or a few commands.
#[derive(Debug, Default)]
pub struct Script {
    text: String,
}

impl Script {
    /// Starts a script: interpreter line, strict mode, a closed umask.
    pub fn new() -> Self {
        Script { text: String::from("#!/bin/sh\nset -eu\numask 022\n") }
    }

    /// Adds a comment; line breaks in `text` cannot leave it.
    pub fn comment(&mut self, text: &str) {
        for line in text.lines() {
            let _ = writeln!(self.text, "# {}", line.replace(['\r', '\0'], " "));
        }
    }

    /// Adds an empty line.
    pub fn blank(&mut self) {
        self.text.push('\n');
    }

    /// Adds one command, every word quoted as needed.
    pub fn run<S: AsRef<str>>(&mut self, words: impl IntoIterator<Item = S>) {
        let line = words.into_iter().map(|word| quote(word.as_ref())).collect::<Vec<_>>().join(" ");
        self.raw(&line);
    }

    /// Adds one command whose failure is accepted (an undo of what may be absent).
    pub fn run_ignoring<S: AsRef<str>>(&mut self, words: impl IntoIterator<Item = S>) {
        let line = words.into_iter().map(|word| quote(word.as_ref())).collect::<Vec<_>>().join(" ");
        self.raw(&format!("{line} 2>/dev/null || true"));
    }

    /// Adds a line as it stands; the caller has quoted every value in it with [`quote`].
    pub fn raw(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    /// Adds a command that is fed `input` on its standard input by a here-document.
    pub fn feed<S: AsRef<str>>(&mut self, words: impl IntoIterator<Item = S>, input: &str) {
        let line = words.into_iter().map(|word| quote(word.as_ref())).collect::<Vec<_>>().join(" ");
        let mut mark = String::from("EOF");
        while input.lines().any(|input_line| input_line == mark) {
            mark.push('_');
        }
        let newline = if input.is_empty() || input.ends_with('\n') { "" } else { "\n" };
        let _ = writeln!(self.text, "{line} <<'{mark}'\n{input}{newline}{mark}");
    }

    /// Adds commands that write `content` byte for byte (text) to `path` with the octal `mode`.
    pub fn write_file(&mut self, path: &str, mode: u32, content: &[u8]) {
        let target = quote(path);
        let _ = writeln!(self.text, "printf '{}' > {target}", octal_escape(content));
        let _ = writeln!(self.text, "chmod {mode:04o} {target}");
    }

    /// The script so far.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Ends the script.
    pub fn into_string(self) -> String {
        self.text
    }
}

/// Quotes one word for a POSIX shell; words of plain characters stay as they are.
///
/// *Shape:* `web` → `web`, `a b` → `'a b'`, `it's` → `'it'\''s'`, the empty word → `''`.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// Escapes bytes for a single-quoted `printf` format; printable ASCII stays readable.
fn octal_escape(content: &[u8]) -> String {
    let mut out = String::with_capacity(content.len());
    for &byte in content {
        match byte {
            b'%' => out.push_str("%%"),
            b'\\' => out.push_str("\\\\"),
            b'\'' => out.push_str("\\047"),
            b'\n' => out.push_str("\\n"),
            0x20..=0x7e => out.push(char::from(byte)),
            other => {
                let _ = write!(out, "\\{other:03o}");
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_when_needed() {
        assert_eq!(quote("10.88.0.0/16"), "10.88.0.0/16");
        assert_eq!(quote(""), "''");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's; rm -rf $HOME"), "'it'\\''s; rm -rf $HOME'");
    }

    #[test]
    fn a_comment_cannot_become_a_command() {
        let mut script = Script::default();
        script.comment("one\nrm -rf /");
        assert_eq!(script.as_str(), "# one\n# rm -rf /\n");
    }

    #[test]
    fn a_here_document_ends_only_at_its_own_mark() {
        let mut script = Script::default();
        script.feed(["cat"], "EOF\nx");
        assert_eq!(script.as_str(), "cat <<'EOF_'\nEOF\nx\nEOF_\n");
    }

    #[test]
    fn files_come_back_byte_for_byte() {
        let content = b"a'b%c\\d\n\x00\xff\r";
        let mut script = Script::default();
        script.write_file("/x", 0o644, content);
        assert_eq!(script.as_str(), "printf 'a\\047b%%c\\\\d\\n\\000\\377\\015' > /x\nchmod 0644 /x\n");
    }
}
