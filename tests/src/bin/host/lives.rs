//! The whole life of an agent on a host of any suite, in short.

use kedge_tests::rig::images::Suite;

use crate::site::{Site, quote, say};
use crate::story::{PORT, PRODUCT};

/// From the kit over a reboot and a restart of the engine to the purge.
pub(crate) fn whole(name: &str, suite: Suite) {
    let site = Site::new(name, suite);
    deploy(&site);
    quote(&site.machine.sh("grep PRETTY_NAME /etc/os-release; systemctl --version | head -n 1; kedge version; kedge doctor 2>&1; kedge status"));
    let on = site.machine.reboot();
    site.wait_until_it_runs(PRODUCT, "1.0.0");
    let took = on.elapsed();
    say(&format!("a reboot: healthy {:.1} s after it was switched on", took.as_secs_f64()));
    assert!(took.as_secs() < 60, "it took {took:?}");
    let agent = site.unit("MainPID");
    site.machine.sh("systemctl restart docker.service");
    site.wait_until_it_runs(PRODUCT, "1.0.0");
    assert_eq!(site.unit("MainPID"), agent, "the agent should have waited, not ended");
    let before = site.containers();
    quote(&site.machine.sh("dpkg --purge kedge 2>&1"));
    assert_eq!(site.containers(), before, "the stack should run on");
    say(&format!("{suite:?}: installed, rebooted, engine restarted, purged; the stack runs on"));
}

/// Installs from a kit and waits until the product runs.
pub(crate) fn deploy(site: &Site) {
    let (kit, _) = site.kit(PRODUCT, "1.0.0", &site.packages("1"), None);
    quote(&site.install(&kit, &format!("--set PORT={PORT}")));
    site.wait_until_it_runs(PRODUCT, "1.0.0");
}
