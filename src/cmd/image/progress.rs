//! How far the blobs have come: a bar each on a terminal, plain lines elsewhere. All on standard error.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::ls::human_size;
use crate::cmd::output;
use crate::image::Digest;
use crate::sys::registry::Watch;

/// Whoever is told of downloads.
pub(super) fn watch() -> Arc<dyn Watch> {
    if std::io::stderr().is_terminal() {
        Arc::new(Bars { all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(10)), bars: Mutex::default() })
    } else {
        Arc::new(Lines)
    }
}

/// Plain lines.
struct Lines;

impl Watch for Lines {
    fn begins(&self, digest: &Digest, size: u64, have: u64) {
        let there = if have > 0 { format!(", going on after {}", human_size(have)) } else { String::new() };
        output::note(&format!("fetching {digest} ({}{there})", human_size(size)));
    }

    fn waits(&self, digest: &Digest) {
        output::note(&format!("waiting for {digest}, which another command fetches"));
    }

    fn retries(&self, what: &str) {
        output::note(&format!("trying again: {what}"));
    }
}

/// A bar for each blob.
struct Bars {
    all: MultiProgress,
    bars: Mutex<HashMap<Digest, ProgressBar>>,
}

impl Bars {
    fn bar(&self, digest: &Digest) -> ProgressBar {
        let mut bars = self.bars.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || {
            let bar = self.all.add(ProgressBar::new(0)).with_prefix(digest.short().to_owned());
            bar.set_style(style("{prefix} [{bar:24}] {bytes:>10}/{total_bytes:<10} {msg}"));
            bar
        };
        bars.entry(digest.clone()).or_insert_with(new).clone()
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

impl Watch for Bars {
    fn begins(&self, digest: &Digest, size: u64, have: u64) {
        let bar = self.bar(digest);
        bar.set_length(size);
        bar.set_position(have);
        bar.set_message("fetching");
    }

    fn reaches(&self, digest: &Digest, bytes: u64) {
        self.bar(digest).set_position(bytes);
    }

    fn waits(&self, digest: &Digest) {
        self.bar(digest).set_message("another command fetches it");
    }

    fn retries(&self, what: &str) {
        let _ = self.all.println(format!("trying again: {what}"));
    }

    fn ends(&self, digest: &Digest) {
        let bar = self.bar(digest);
        bar.set_position(bar.length().unwrap_or_default());
        bar.finish_with_message("done");
    }
}
