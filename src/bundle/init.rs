//! The init program of `--init`: hands signals on to the command, reaps orphans, ends with the command's status.

/// The static program, about 2 KB; built from `freestanding/init.rs` by `build.rs`.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/init"));

/// Its name in the root of the init layer: there no link of the image is in its way, and nothing of the image is hidden.
pub const NAME: &str = ".rkbox-init";

/// Puts it before a command.
///
/// *Shape:* `["sleep", "9"]` → `["/.rkbox-init", "--", "sleep", "9"]`.
pub fn before(command: &[String]) -> Vec<String> {
    [format!("/{NAME}"), "--".to_owned()].iter().chain(command).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_a_small_static_executable() {
        assert_eq!(&PROGRAM[..4], b"\x7fELF");
        assert!(PROGRAM.len() < 4096, "{} bytes", PROGRAM.len());
        assert_eq!(before(&["a".to_owned()]), ["/.rkbox-init", "--", "a"]);
    }
}
