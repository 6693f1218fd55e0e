//! What install.sh makes of a package that is there already, with dpkg's own answers.

use std::fs;
use std::process::Command;

use crate::{read, stub};

/// What it says for a package of version 1.0-1 where dpkg's database says this of `kedge`, and whether it installs.
fn on_a_host_with(status: &str, version: &str) -> (String, bool) {
    let host = tempfile::tempdir().unwrap();
    let at = |path: &str| host.path().join(path);
    for folder in ["kit", "dpkg/info", "dpkg/updates"] {
        fs::create_dir_all(at(folder)).unwrap();
    }
    let entry = format!(
        "Package: kedge\nStatus: {status}\nMaintainer: nobody\nArchitecture: amd64\nVersion: {version}\nDescription: none\n"
    );
    fs::write(at("dpkg/status"), entry).unwrap();
    fs::write(at("kit/kedge_1.0-1_amd64.deb"), "a package\n").unwrap();
    let sums =
        Command::new("sha256sum").arg("kedge_1.0-1_amd64.deb").current_dir(at("kit")).output().unwrap();
    fs::write(at("kit/SHA256SUMS"), sums.stdout).unwrap();
    let stubs = at("stubs");
    for (name, script) in [
        ("id", "echo 0"),
        ("uname", "echo x86_64"),
        ("systemctl", "exit 0"),
        ("kedge", "exit 0"),
        ("dpkg-deb", "echo 1.0-1"),
        ("dpkg", "touch \"$DPKG_ADMINDIR/installed\""),
    ] {
        stub(&stubs, name, script);
    }
    let script = read("install.sh")
        .replace("/run/systemd/system", &host.path().display().to_string())
        .replace("/var/lib/dpkg", &at("dpkg").display().to_string());
    fs::write(at("kit/install.sh"), script).unwrap();
    let output = Command::new("sh")
        .arg(at("kit/install.sh"))
        .env("PATH", format!("{}:/usr/bin:/bin", stubs.display()))
        .env("DPKG_ADMINDIR", at("dpkg"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    (said, at("dpkg/installed").exists())
}

#[test]
fn an_agent_that_is_held_counts_as_installed() {
    if Command::new("dpkg-query").arg("--version").output().is_err() {
        eprintln!("skipped: there is no dpkg-query (package dpkg)");
        return;
    }
    for (status, version, says, installs) in [
        ("install ok installed", "1.0-1", "is installed already", false),
        ("hold ok installed", "1.0-1", "is installed already", false),
        ("install ok installed", "2.0-1", "which is newer than 1.0-1, and stays", false),
        ("hold ok installed", "2.0-1", "which is newer than 1.0-1, and stays", false),
        ("hold ok installed", "0.9-1", "installed kedge 1.0-1", true),
        ("install ok half-configured", "1.0-1", "installed kedge 1.0-1", true),
        ("deinstall ok config-files", "1.0-1", "installed kedge 1.0-1", true),
    ] {
        let (said, did) = on_a_host_with(status, version);
        assert!(said.contains(says) && did == installs, "{status} {version}: {said}");
    }
}
