//! The packages for the other half of the world, on a host whose package database is rpm's.

use kedge_tests::rig::images::Suite;
use kedge_tests::rig::services::write;

use crate::site::{Site, quote, say};
use crate::story::{PORT, PRODUCT};

/// What a host of that kind has and this one does not: a database in which somebody provides what the packages ask for. No
/// distribution of rpm's can be fetched here, so that theirs provide it is not shown; that the packages ask for nothing
/// else than [`ANYWHERE`] is.
const BASE: &str =
    "Name: base\nVersion: 1\nRelease: 1\nSummary: stands for the distribution\nLicense: none\n";
/// What RHEL 8, Fedora and SUSE provide under these very names: their C library, its loader, systemd and a shell.
const ANYWHERE: &[&str] = &[
    "/bin/sh",
    "glibc",
    "ld-linux-x86-64.so.2()(64bit)",
    "libc.so.6()(64bit)",
    "libdl.so.2()(64bit)",
    "libm.so.6()(64bit)",
    "libpthread.so.0()(64bit)",
    "rtld(GNU_HASH)",
    "systemd",
];

/// Tells it; panics where it comes out otherwise.
pub(crate) fn tell() {
    let site = Site::new("rpm", Suite::Bookworm);
    // Now nobody there takes it for a Debian.
    site.machine.sh("mv /var/lib/dpkg/status /var/lib/dpkg/status.aside");
    let packages = site.packages("1");
    let package = site.bring(&Site::find(&packages, "kedge-", ".rpm"));
    let vendors = site.bring(&Site::find(&packages, "kedgectl-", ".rpm"));
    let asked = site.machine.sh(&format!("rpm -qp --requires {package} {vendors} | sort -u"));
    // Of these rpm itself provides the first, and a package the second: its own configuration.
    let is_others = |line: &&str| !line.starts_with("rpmlib(") && !line.starts_with("config(");
    let others: Vec<&str> = asked.lines().filter(is_others).collect();
    let unknown: Vec<&&str> = others.iter().filter(|line| !is_anywhere(line)).collect();
    assert!(unknown.is_empty(), "the packages ask for what no distribution may have: {unknown:?}");
    let provided: String =
        others.iter().map(|line| format!("Provides: {}\n", line.replace(">=", "="))).collect();
    let spec = format!("{BASE}{provided}%description\nstands for the distribution\n%files\n");
    write(&site.machine, "/root/base.spec", &spec);
    site.machine
        .sh("cd /root && rpmbuild -bb --quiet base.spec && rpm -i $(find /root/rpmbuild -name 'base-*.rpm')");
    say(&format!(
        "the packages ask for {} things, all of the C library, systemd and a shell; a package that stands for the distribution provides them",
        others.len()
    ));
    quote(&site.machine.sh(&format!(
        "rpm -qp --requires {package} | grep -v GLIBC_ && rpm -qpi {package} && rpm -qpc {package}"
    )));
    let (kit, _) = site.kit(PRODUCT, "1.0.0", &packages, None);
    quote(&site.install(&kit, &format!("--set PORT={PORT}")));
    site.wait_until_it_runs(PRODUCT, "1.0.0");
    quote(&site.machine.sh(
        "rpm -V kedge && id kedge && stat -c '%A %U %G %n' /etc/kedge/* /var/lib/kedge /run/kedge/kedge.sock",
    ));

    let next = site.bring(&Site::find(&site.packages("2"), "kedge-", ".rpm"));
    let (before, agent) = (site.containers(), site.unit("MainPID"));
    site.machine.sh("echo '# mine' >>/etc/kedge/agent.toml");
    quote(&site.machine.sh(&format!("rpm -U {next} 2>&1; rpm -q kedge")));
    site.wait_until_it_runs(PRODUCT, "1.0.0");
    assert_ne!(site.unit("MainPID"), agent, "the agent should be a new one");
    assert_eq!(site.containers(), before, "no container should have been touched");
    assert_eq!(site.machine.sh("tail -n 1 /etc/kedge/agent.toml").trim(), "# mine");
    say("the package was upgraded: a new agent, the same containers, the changed configuration kept");

    site.machine.sh(&format!("rpm -i {vendors} && kedgectl version && rpm -V kedgectl && rpm -e kedgectl && ! test -e /usr/bin/kedgectl"));
    quote(&site.machine.sh("rpm -e kedge 2>&1"));
    assert_eq!(site.containers(), before, "the stack should run on");
    assert_ne!(site.machine.exec(&["systemctl", "cat", "kedge.service"]).code, Some(0));
    quote(&site.machine.sh("sh /var/lib/kedge/purge 2>&1"));
    assert_ne!(
        site.machine.exec(&["test", "-e", "/etc/kedge"]).code,
        Some(0),
        "nothing of it should be left there"
    );
    assert_eq!(site.containers(), before, "the stack should still run on");
    assert_eq!(site.machine.sh(&format!("curl -fsS http://127.0.0.1:{PORT}/")).trim(), "three-tier 1.0.0");
    say("removed and purged: the stack runs on");
}

/// Whether every distribution of rpm's provides it; versions of symbols (`libc.so.6(GLIBC_2.28)(64bit)`) are judged where the
/// programs are built.
fn is_anywhere(requirement: &str) -> bool {
    let name = requirement.split(' ').next().unwrap_or_default();
    let unversioned = match (name.find("(GLIBC_"), name.ends_with("(64bit)")) {
        (Some(at), true) => format!("{}()(64bit)", &name[..at]),
        _ => name.to_owned(),
    };
    ANYWHERE.contains(&unversioned.as_str())
}
