//! What a monitor is told, from the record of its container.

use super::{events, run_dir};
use crate::record::life::{Launch, Order};
use crate::record::{ContainerRecord, Pairs};
use crate::sys::{Host, rootless};

/// The order of the monitor of `record`.
pub fn order(host: &Host, record: &ContainerRecord, launch: Launch, awaits_client: bool) -> Order {
    let afterwards = match record.auto_remove {
        true => ["rm", "--force", record.id.as_str()].map(str::to_owned).to_vec(),
        false => Vec::new(),
    };
    Order {
        id: record.id.clone(),
        name: record.name.to_string(),
        launch,
        bundle: record.bundle.clone(),
        run: run_dir(host, &record.id),
        runtime: record.runtime.clone(),
        tty: record.tty,
        stdin: record.stdin,
        // With one client that came with the container, its input is the container's.
        stdin_once: awaits_client || record.life.stdin_once,
        awaits_client,
        log: record.life.log.clone(),
        restart: record.life.restart,
        health: record.life.health.clone(),
        events: events::path(host),
        afterwards,
        environment: environment(host),
    }
}

/// The roots and settings of this command, for the one that a monitor calls.
fn environment(host: &Host) -> Pairs {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let mut all = Pairs::from([
        ("RKBOX_ROOT".to_owned(), text(&host.root)),
        ("RKBOX_RUN".to_owned(), text(&host.run)),
        ("RKBOX_CNI_CONF_DIR".to_owned(), text(&host.cni_conf)),
        ("RKBOX_CNI_STATE_DIR".to_owned(), text(&host.cni_state)),
        ("RKBOX_RUNTIME".to_owned(), host.runtime.clone()),
        ("RKBOX_CGROUP_DRIVER".to_owned(), host.cgroup_driver.word().to_owned()),
        ("RKBOX_CGROUP_PARENT".to_owned(), host.cgroup_parent.clone()),
    ]);
    if let Ok(mark) = std::env::var(rootless::MARK) {
        all.insert(rootless::MARK.to_owned(), mark);
    }
    if cfg!(debug_assertions)
        && let Ok(first) = std::env::var("RKBOX_TEST_BACKOFF_MS")
    {
        all.insert("RKBOX_TEST_BACKOFF_MS".to_owned(), first);
    }
    all
}
