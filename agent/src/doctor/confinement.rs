//! SELinux and AppArmor: whether the host confines, and whether the engine takes part in it.

use async_trait::async_trait;

use super::{Check, Finding, Place};

/// The check.
pub(super) struct Confinement;

#[async_trait]
impl Check for Confinement {
    fn id(&self) -> &'static str {
        "confinement"
    }

    fn what(&self) -> &'static str {
        "SELinux, AppArmor"
    }

    async fn look(&self, place: &Place) -> Finding {
        let selinux = place.read("/sys/fs/selinux/enforce");
        let apparmor = place.read("/sys/module/apparmor/parameters/enabled").as_deref() == Some("Y");
        let info = place.info().await;
        let labels = info.map(|info| info.is_selinux());
        let engine = info.map(|info| info.security.join(" ")).unwrap_or_default();
        match selinux.as_deref() {
            Some("1") if labels.is_err() => Finding::skipped("SELinux enforces; the engine does not answer"),
            Some("1") if labels == Ok(false) => Finding::warning(
                "SELinux enforces, but Docker does not label containers: SELinux does not confine what runs in them",
                "It works like this. To have containers confined, set \"selinux-enabled\": true in /etc/docker/daemon.json and restart Docker, which may end what runs; folders of the host that releases mount then need a label that containers may read, such as container_file_t",
            ),
            Some("1") => Finding::good("SELinux enforces, and Docker labels containers"),
            Some(_) => Finding::good("SELinux is there and does not enforce"),
            None if apparmor && !engine.is_empty() && !engine.contains("name=apparmor") => Finding::warning(
                "AppArmor is on, and Docker does not use it",
                "Containers run without its profile. Install the package apparmor, and restart Docker",
            ),
            None if apparmor => Finding::good("AppArmor is on"),
            None => Finding::good("neither is there; containers have seccomp and capabilities alone"),
        }
    }
}
