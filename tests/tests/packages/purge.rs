//! What a purge takes and what it leaves, on a host that is a folder: the scripts' absolute paths are put below it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::{postrm, read, stub};

/// Folders and programs of the host that the scripts name.
const PATHS: &[&str] =
    &["/var/lib/kedge", "/etc/kedge", "/etc/systemd", "/run/kedge", "/run/systemd", "/usr/bin/kedge"];

struct Host(tempfile::TempDir);

impl Host {
    /// One on which the agent has run, that knows a user `kedge` and has removed the package's files.
    fn new() -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        for folder in ["var/lib/kedge/deployments", "var/lib/kedge/keys", "etc/kedge", "run/kedge"] {
            fs::create_dir_all(host.at(folder)).unwrap();
        }
        for name in ["agent.toml", "guard.toml"] {
            host.write(&format!("etc/kedge/{name}"), &read(&format!("etc/{name}")));
        }
        host.write("var/lib/kedge/keys/host", "a key");
        stub(&host.at("stubs"), "getent", "test -e \"$(dirname \"$0\")/../gone-$1\" && exit 2; exit 0");
        for (name, kind) in [("userdel", "passwd"), ("groupdel", "group")] {
            stub(&host.at("stubs"), name, &format!("touch \"$(dirname \"$0\")/../gone-{kind}\""));
        }
        for name in ["systemctl", "deb-systemd-helper"] {
            stub(&host.at("stubs"), name, "exit 0");
        }
        host
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.at(path), text).unwrap();
    }

    fn has(&self, path: &str) -> bool {
        self.at(path).exists()
    }

    /// Whether the user and the group are still there.
    fn has_user(&self) -> bool {
        !self.has("gone-passwd") && !self.has("gone-group")
    }

    /// Runs a script on it.
    fn run(&self, script: &str, arguments: &[&str]) -> Output {
        let below =
            |text: String, path: &&str| text.replace(*path, &self.at(&path[1..]).display().to_string());
        let script = PATHS.iter().fold(script.to_owned(), below);
        let search = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.at("stubs").display());
        let mut command = Command::new("sh");
        command.args(["-c", &script, "script"]).args(arguments);
        command.env("PATH", search).env("LC_ALL", "C").stdin(Stdio::null()).output().unwrap()
    }

    /// What a purge says, which ends well.
    #[track_caller]
    fn purge(&self) -> String {
        said(&self.run(&read("purge"), &[]))
    }

    #[track_caller]
    fn note(&self) {
        assert_eq!(said(&self.run(&read("purge"), &["--note"])), "");
    }
}

#[track_caller]
fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert_eq!(err, "", "{out}");
    out.into_owned()
}

#[test]
fn it_takes_what_the_agent_made_and_its_user() {
    let host = Host::new();
    host.write("etc/kedge/guard.toml.rpmsave", "");
    for file in ["agent.toml", "guard.toml"] {
        fs::remove_file(host.at("etc/kedge").join(file)).unwrap();
    }
    host.purge();
    for path in ["var/lib/kedge", "run/kedge", "etc/kedge"] {
        assert!(!host.has(path), "{path}");
    }
    assert!(host.has("gone-passwd") && host.has("gone-group"));
}

#[test]
fn what_stacks_mount_stays_and_so_does_its_owner() {
    let host = Host::new();
    fs::create_dir(host.at("var/lib/kedge/deployments/shop")).unwrap();
    let said = host.purge();
    assert!(said.contains("left on purpose: ") && said.contains("shop"), "{said}");
    assert!(host.has("var/lib/kedge/deployments/shop") && !host.has("var/lib/kedge/keys"));
    assert!(host.has_user());
}

#[test]
fn the_owner_of_folders_elsewhere_stays_and_they_are_named() {
    for (file, text, named) in [
        ("agent.toml", "state_dir = \"/srv/kedge\"\n", Some("/srv/kedge")),
        (
            "agent.toml",
            "  state_dir='/srv/kedge' # not state_dir = '/var/lib/kedge'\n[trust]\n",
            Some("/srv/kedge"),
        ),
        (
            "guard.toml",
            "[support]\nmode = \"ask\"\nrecordings = \"/srv/some recordings\"\n",
            Some("/srv/some recordings"),
        ),
        ("guard.toml", "support.recordings = '/srv/rec'\n", Some("/srv/rec")),
        ("guard.toml", "support = { mode = 'ask', recordings = '/srv/rec' }\n", Some("/srv/rec")),
        ("agent.toml", "# state_dir = \"/srv/kedge\"\nother_state_dir = \"/srv/kedge\"\n", None),
        ("agent.toml", "state_dir = \"/var/lib/kedge\"\n", None),
        ("guard.toml", "[support]\nrecordings = \"/var/lib/kedge/recordings\"\n", None),
    ] {
        let host = Host::new();
        // The path that is the host's own is put below it as in the scripts.
        let own = host.at("var/lib/kedge").display().to_string();
        host.write(&format!("etc/kedge/{file}"), &text.replace("/var/lib/kedge", &own));
        host.note();
        assert_eq!(host.has("var/lib/kedge/elsewhere"), named.is_some(), "{text}");
        let said = host.purge();
        let line = named.map(|path| format!("kedge: left on purpose: {path}, "));
        assert_eq!(host.has_user(), named.is_some(), "{text}: {said}");
        assert!(line.is_none_or(|line| said.contains(&line)), "{text}: {said}");
        assert!(!host.has("var/lib/kedge"), "{text}: {said}");
    }
}

#[test]
fn all_of_them_are_named_and_a_note_that_no_longer_holds_goes() {
    let host = Host::new();
    let rules = host.at("etc/rules.toml");
    let agent = format!("state_dir = '/srv/kedge'\nguard = '{}'\n", rules.display());
    host.write("etc/kedge/agent.toml", &agent);
    host.write("etc/rules.toml", "[support]\nrecordings = '/srv/rec'\n");
    // Nobody has to have started the agent.
    fs::remove_dir_all(host.at("var/lib/kedge")).unwrap();
    host.note();
    let said = host.purge();
    assert!(said.contains("kedge: left on purpose: /srv/kedge, /srv/rec, "), "{said}");
    host.note();
    for file in ["agent.toml", "guard.toml"] {
        fs::remove_file(host.at("etc/kedge").join(file)).unwrap();
    }
    host.note();
    assert!(!host.has("var/lib/kedge/elsewhere"));
    fs::remove_dir_all(host.at("var/lib/kedge")).unwrap();
    host.note();
    assert!(!host.has("var/lib/kedge"), "with nothing to note none is made");
}

#[test]
fn dpkg_notes_it_before_the_configuration_goes() {
    let host = Host::new();
    host.write("etc/kedge/agent.toml", "state_dir = \"/srv/kedge\"\n");
    said(&host.run(&postrm(), &["remove"]));
    assert!(host.has("var/lib/kedge/keys/host"), "only a purge takes anything");
    for file in ["agent.toml", "guard.toml"] {
        fs::remove_file(host.at("etc/kedge").join(file)).unwrap();
    }
    let said = said(&host.run(&postrm(), &["purge"]));
    assert!(said.contains("left on purpose: /srv/kedge, "), "{said}");
    assert!(host.has_user() && !host.has("var/lib/kedge"));
}

#[test]
fn rpm_notes_it_while_its_files_are_there_and_forgets_it_when_it_is_back() {
    let spec = read("rpm/scripts.spec");
    let section = |name: &str| -> &str {
        let text = spec.split_once(&format!("\n%{name}\n")).unwrap().1;
        text.split("\n%").next().unwrap()
    };
    let host = Host::new();
    host.write("etc/kedge/agent.toml", "state_dir = \"/srv/kedge\"\n");
    fs::create_dir_all(host.at("usr/share/kedge")).unwrap();
    let own = host.at("usr/share/kedge").display().to_string();
    // As the package has it, with this host's paths.
    let below = |text: String, path: &&str| text.replace(*path, &host.at(&path[1..]).display().to_string());
    host.write("usr/share/kedge/purge", &PATHS.iter().fold(read("purge"), below));
    let preun = section("preun").replace("/usr/share/kedge", &own);
    said(&host.run(&preun, &["1"]));
    assert!(!host.has("var/lib/kedge/elsewhere"), "an upgrade is no removal");
    said(&host.run(&preun, &["0"]));
    let left = ["var/lib/kedge/purge", "var/lib/kedge/elsewhere"];
    assert!(left.iter().all(|path| host.has(path)));
    stub(&host.at("stubs"), "systemd-sysusers", "exit 0");
    stub(&host.at("stubs"), "systemd-tmpfiles", "exit 0");
    said(&host.run(section("post"), &["1"]));
    assert!(!left.iter().any(|path| host.has(path)));
    assert!(host.has("var/lib/kedge/keys/host"));
}

#[test]
fn what_was_laid_over_the_units_goes_with_a_purge_and_not_before() {
    let host = Host::new();
    let folders = ["etc/systemd/system/kedge.service.d", "etc/systemd/system/kedge.socket.d"];
    for folder in folders {
        fs::create_dir_all(host.at(folder)).unwrap();
        host.write(&format!("{folder}/override.conf"), "[Service]\n");
    }
    said(&host.run(&postrm(), &["remove"]));
    assert!(folders.iter().all(|folder| host.has(folder)));
    let said = said(&host.run(&postrm(), &["purge"]));
    assert!(folders.iter().all(|folder| !host.has(folder) && said.contains(folder)), "{said}");
}

#[test]
fn under_an_installed_agent_nothing_is_touched() {
    let host = Host::new();
    fs::create_dir_all(host.at("usr/bin")).unwrap();
    host.write("usr/bin/kedge", "");
    let output = host.run(&read("purge"), &[]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("remove the package first"), "{said}");
    assert!(host.has("var/lib/kedge/keys/host") && host.has("run/kedge") && host.has_user());
}

/// An `rm` that cannot remove one path, and takes the rest.
fn busy(host: &Host, path: &Path) {
    let path = path.display();
    stub(
        &host.at("stubs"),
        "rm",
        &format!(
            "for last; do :; done\ncase $last in {path}) find {path} -mindepth 1 -delete; echo \"rm: cannot remove '{path}': Device or resource busy\" >&2; exit 1 ;; esac\nexec /bin/rm \"$@\""
        ),
    );
}

#[test]
fn a_mount_point_is_named_and_left_and_the_purge_ends() {
    let host = Host::new();
    let state = host.at("var/lib/kedge");
    busy(&host, &state);
    stub(&host.at("stubs"), "mountpoint", &format!("[ \"$2\" = {} ]", state.display()));
    host.write("etc/kedge/agent.toml.rpmsave", "");
    let said = said(&host.run(&postrm(), &["purge"]));
    assert!(said.contains(&format!("kedge: left: {}, which is a mount point", state.display())), "{said}");
    assert!(
        !host.has("var/lib/kedge/keys")
            && !host.has("etc/kedge/agent.toml.rpmsave")
            && !host.has("run/kedge")
    );
    assert!(host.has_user(), "whose folder it is: {said}");
}

#[test]
fn a_file_that_cannot_be_removed_is_named_and_left_and_the_purge_ends() {
    let host = Host::new();
    let file = host.at("var/lib/kedge/fixed");
    fs::create_dir(&file).unwrap();
    host.write("var/lib/kedge/later", "");
    // What is left in a deployment's folder keeps the folder around it out of this.
    fs::create_dir(host.at("var/lib/kedge/deployments/shop")).unwrap();
    busy(&host, &file);
    let said = host.purge();
    assert!(said.contains(&format!("kedge: left: {}: Device or resource busy", file.display())), "{said}");
    assert!(!host.has("var/lib/kedge/later") && !host.has("run/kedge"), "{said}");
}
