//! What customers install, as far as it can be judged without a host of its own: the unit and its score, the scripts, the
//! manual pages. `./test host` installs it.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests fail loudly")]

mod install;
mod purge;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The score of `systemd-analyze security` that the shipped unit may have.
const MOST: f64 = 2.0;

fn packaging(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(path)
}

fn read(path: &str) -> String {
    std::fs::read_to_string(packaging(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The script that runs when the package is removed, as `packaging/build` puts it together.
fn postrm() -> String {
    read("deb/postrm").replace("\n@PURGE@\n", &format!("\n{}", read("purge")))
}

/// A program of this name in a folder, that a script finds before the real one.
fn stub(folder: &Path, name: &str, script: &str) {
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// The score of a unit; `None` where this machine has no systemd to tell.
fn score(unit: &Path) -> Option<f64> {
    let output =
        Command::new("systemd-analyze").args(["security", "--offline=true"]).arg(unit).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.split_once("Overall exposure level for "))?;
    line.1.split_once(": ")?.1.split_whitespace().next()?.parse().ok()
}

#[test]
fn the_unit_gives_away_little() {
    let Some(found) = score(&packaging("systemd/kedge.service")) else {
        eprintln!("skipped: there is no systemd-analyze that reads units offline (package systemd)");
        return;
    };
    assert!(found <= MOST, "the unit scores {found}");
    // The score is one that can be missed.
    let folder = tempfile::tempdir().unwrap();
    let bare = folder.path().join("kedge.service");
    std::fs::write(&bare, "[Service]\nExecStart=/usr/bin/kedge agent\n").unwrap();
    assert!(score(&bare).unwrap() > MOST);
}

#[test]
fn every_relaxation_of_the_unit_says_why() {
    let unit = read("systemd/kedge.service");
    let relaxed = |line: &str| {
        line.starts_with("AmbientCapabilities=")
            || (line.starts_with("CapabilityBoundingSet=") && line != "CapabilityBoundingSet=")
            || line.starts_with("RestrictAddressFamilies=")
            || line == "UMask=0022"
            || line == "SystemCallFilter=@chown"
            || line.ends_with("=no")
    };
    let mut reason = false;
    let mut found = 0;
    for line in unit.lines() {
        match line {
            line if line.starts_with("# Needed: ") => reason = true,
            line if line.starts_with('#') => {}
            line if relaxed(line) => {
                assert!(reason, "{line} does not say why it is needed");
                found += 1;
            }
            // A reason covers the lines right below it.
            _ => reason = false,
        }
    }
    assert!(found >= 5, "only {found} relaxations were found: has the unit another form?");
}

#[test]
fn systemd_reads_unit_and_socket() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["kedge.service", "kedge.socket"] {
        // There need not be such a program here.
        let text = read(&format!("systemd/{name}")).replace("/usr/bin/kedge agent", "/bin/true");
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let units = ["kedge.service", "kedge.socket"].map(|name| folder.path().join(name));
    let Ok(output) = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(units).output() else {
        eprintln!("skipped: there is no systemd-analyze (package systemd)");
        return;
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    // What older ones do not know they ignore, and the unit says so.
    let newer = ["RestartSteps", "RestartMaxDelaySec"];
    let ours = |line: &&str| line.contains("kedge.s") && !newer.iter().any(|key| line.contains(key));
    let found: Vec<&str> = said.lines().filter(ours).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_program_that_needs_a_newer_c_library_than_promised_is_not_packed() {
    let program = kedge_tests::rig::programs::path("kedge");
    let Ok(output) = Command::new("readelf").args(["--version-info", "--wide"]).arg(&program).output() else {
        eprintln!("skipped: there is no readelf (package binutils)");
        return;
    };
    // What this machine's compiler made, which may be too new or not.
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let minor = |word: &str| word.strip_prefix("GLIBC_2.")?.split('.').next()?.parse::<u32>().ok();
    let newest = text.split_whitespace().filter_map(minor).max().unwrap();
    let fits = newest <= 28 && !text.contains("GLIBC_ABI");
    let output = Command::new(packaging("build")).arg("--check").arg(&program).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.success(), fits, "it needs 2.{newest}: {said}");
    assert!(said.contains("GLIBC_"), "{said}");
}

#[test]
fn every_script_is_one_that_its_shell_reads() {
    for (shell, script) in [
        ("bash", "build"),
        ("sh", "install.sh"),
        ("sh", "purge"),
        ("sh", "kit/header.sh"),
        ("sh", "deb/postinst"),
        ("sh", "deb/prerm"),
        ("sh", "deb/postrm"),
    ] {
        assert!(is_read_by(shell, &packaging(script)), "{script}");
    }
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("postrm");
    assert!(!postrm().contains("@PURGE@"), "packaging/build finds its place by a line of its own");
    std::fs::write(&whole, postrm()).unwrap();
    assert!(is_read_by("sh", &whole), "deb/postrm with the purge in it");
}

fn is_read_by(shell: &str, script: &Path) -> bool {
    Command::new(shell).arg("-n").arg(script).stdin(Stdio::null()).status().unwrap().success()
}

#[test]
fn who_closed_a_file_of_the_configuration_to_others_finds_it_so() {
    let lines = read("systemd/tmpfiles.conf");
    let lines: Vec<Vec<&str>> = lines
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert!(lines.len() >= 3, "{lines:?}");
    for line in lines {
        let [kind, _, mode, user, group, _] = line[..] else { panic!("{line:?}") };
        assert_eq!((kind, mode, user, group), ("z", "-", "root", "-"), "{line:?}");
    }
    for script in ["deb/postinst", "rpm/scripts.spec"] {
        let text = read(script);
        assert!(!["chmod", "chown", "%attr"].iter().any(|word| text.contains(word)), "{script}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = tempfile::tempdir().unwrap();
    let program = kedge_tests::rig::programs::path("manuals");
    assert!(Command::new(program).arg(folder.path()).status().unwrap().success());
    for page in [
        "kedge.1",
        "kedge-import.1",
        "kedge-doctor.1",
        "kedgectl.1",
        "kedgectl-kit-build.1",
        "kedge.bash",
        "_kedgectl",
    ] {
        let text =
            std::fs::read_to_string(folder.path().join(page)).unwrap_or_else(|e| panic!("{page}: {e}"));
        assert!(text.len() > 200, "{page}");
    }
}
