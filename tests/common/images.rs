//! Real images, made once by `scripts/test-images` from this machine's packages.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where the images are; see `scripts/test-images` for what is in them.
#[derive(Clone, Debug)]
pub struct Images(PathBuf);

impl Images {
    /// The OCI layout directory of `name` (`busybox`, `layers`); the tag is `latest`.
    pub fn layout(&self, name: &str) -> String {
        self.file(&format!("{name}.oci"))
    }

    /// The oci-archive of `name`.
    pub fn oci_archive(&self, name: &str) -> String {
        self.file(&format!("{name}.oci.tar"))
    }

    /// The docker-archive of `name`.
    pub fn docker_archive(&self, name: &str) -> String {
        self.file(&format!("{name}.docker.tar"))
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

/// The images, made when they are not there (all test processes wait for the one that makes them).
pub fn images() -> &'static Images {
    static IMAGES: OnceLock<Images> = OnceLock::new();
    IMAGES.get_or_init(|| {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let dir = project.join("target/test-images");
        let output = Command::new(project.join("scripts/test-images")).arg(&dir).output().unwrap();
        assert!(output.status.success(), "scripts/test-images: {}", String::from_utf8_lossy(&output.stderr));
        Images(dir)
    })
}
