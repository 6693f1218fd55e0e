//! Ceremonies as vendors hold them and as hosts take them: keys that are replaced, lost and stolen, and a site that heard of
//! nothing for five roots. Everything by `kedgectl` and `kedge`; no engine is needed to believe a release.

use std::path::PathBuf;

use kedge_tests::rig::docker::Docker;
use kedge_tests::rig::host::Host;
use kedge_tests::rig::outcome::{Outcome, run};
use kedge_tests::rig::programs;

/// A vendor's desk, and a host that has taken its first release.
struct Story {
    folder: tempfile::TempDir,
    host: Host,
    fingerprint: String,
}

impl Story {
    fn begin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = Docker::at(folder.path().join("no-engine.sock"), String::new());
        let mut story =
            Self { host: Host::start_on(nowhere, "site = 'here'"), folder, fingerprint: String::new() };
        let compose = "x-kedge:\n  product: shop\n  version: 1.0.0\n  images:\n    shop/web:1: dir:web\nservices:\n  web:\n    image: shop/web:1\n";
        std::fs::create_dir_all(story.path("shop/web")).unwrap();
        std::fs::write(story.path("shop/compose.yaml"), compose).unwrap();
        std::fs::write(story.path("shop/web/web"), "a program").unwrap();
        story.vendor(&["keys", "init", "--no-passphrase"]).succeeded();
        let shown = story.vendor(&["keys", "show", "-o", "json"]).succeeded();
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        story.fingerprint = shown["root_sha256"].as_str().unwrap().to_owned();
        story.brings("1", "keys/release.pem", &[]).succeeded();
        story
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn vendor(&self, arguments: &[&str]) -> Outcome {
        let mut command = std::process::Command::new(programs::path("kedgectl"));
        run(command.args(arguments).current_dir(self.folder.path()).env("NO_COLOR", "1"))
    }

    /// Builds a release with the chain in force, and has the host import it.
    fn brings(&self, seq: &str, key: &str, flags: &[&str]) -> Outcome {
        let build = [
            "bundle",
            "build",
            "shop",
            "-o",
            "shop.kedge",
            "--force",
            "--root",
            "keys/root",
            "--seq",
            seq,
            "--release-key",
            key,
        ];
        self.vendor(&[&build[..], flags].concat()).succeeded();
        self.imports("shop.kedge")
    }

    fn imports(&self, bundle: &str) -> Outcome {
        let bundle = self.path(bundle).display().to_string();
        self.host.kedge(&["import", &bundle, "--stage-only", "--root-sha256", &self.fingerprint])
    }

    /// A new key pair, and a root in which it replaces another, signed by these and published.
    fn replace(&self, role: &str, old: &str, new: &str, signers: &[&str], flags: &[&str]) {
        self.vendor(&["keys", "new", new, "--no-passphrase"]).succeeded();
        let public = format!("{new}.pub");
        let rotate = [
            "keys",
            "root",
            "rotate",
            "--draft",
            "next.json",
            "--role",
            role,
            "--key",
            old,
            "--with",
            &public,
        ];
        self.vendor(&[&rotate[..], flags].concat()).succeeded();
        for signer in signers {
            self.vendor(&["keys", "root", "sign", "next.json", "--yes", "--key", signer]).succeeded();
        }
        self.vendor(&["keys", "root", "publish", "next.json"]).succeeded();
        std::fs::remove_file(self.path("next.json")).unwrap();
    }
}

#[test]
fn a_root_key_and_a_release_key_are_replaced_and_hosts_follow() {
    let story = Story::begin();
    story.replace("root", "root-3", "dave", &["keys/root-1.pem", "keys/root-2.pem"], &[]);
    story.brings("2", "keys/release.pem", &[]).succeeded();
    // The new holder counts from now on, and the old one does not.
    story.replace("release", "release", "farm", &["keys/root-1.pem", "dave.pem"], &[]);
    let old = story.path("shop.kedge");
    std::fs::rename(&old, story.path("old.kedge")).unwrap();
    story.brings("3", "farm.pem", &[]).succeeded();
    story.vendor(&["keys", "root", "rotate", "--draft", "next.json"]).succeeded();
    let stranger = story.vendor(&["keys", "root", "sign", "next.json", "--yes", "--key", "keys/root-3.pem"]);
    assert!(stranger.failed_with(2, "KE-2304").contains("count for nothing"));
    // The host knows the newer root: what the replaced key has signed is not taken any more.
    story.imports("old.kedge").failed_with(11, "KE-2101");
}

#[test]
fn with_fewer_root_keys_than_must_sign_nothing_is_lost_but_the_next_root() {
    let story = Story::begin();
    for lost in ["keys/root-2.pem", "keys/root-3.pem"] {
        std::fs::remove_file(story.path(lost)).unwrap();
    }
    story.vendor(&["keys", "root", "rotate", "--draft", "next.json"]).succeeded();
    story.vendor(&["keys", "root", "sign", "next.json", "--yes", "--key", "keys/root-1.pem"]).succeeded();
    let shown = story.vendor(&["keys", "root", "show", "next.json"]).succeeded();
    assert!(shown.contains("Still missing: 1 of 2 for version 1, 1 of 2 for version 2"), "{shown}");
    story.vendor(&["keys", "root", "publish", "next.json"]).failed_with(11, "KE-2101");
    // Put there by hand, it is refused by hosts as well.
    std::fs::copy(story.path("next.json"), story.path("keys/root/2.json")).unwrap();
    story.brings("2", "keys/release.pem", &[]).failed_with(11, "KE-2101");
    std::fs::remove_file(story.path("keys/root/2.json")).unwrap();
    // Releases go on under the root in force, for as long as it lives.
    story.brings("2", "keys/release.pem", &[]).succeeded();
    // A new first root is another vendor, to whoever was not told.
    story.vendor(&["keys", "init", "--no-passphrase", "--dir", "anew"]).succeeded();
    std::fs::rename(story.path("anew/root"), story.path("keys/root-anew")).unwrap();
    let build =
        ["bundle", "build", "shop", "-o", "shop.kedge", "--force", "--root", "keys/root-anew", "--seq", "3"];
    story.vendor(&[&build[..], &["--release-key", "anew/release.pem"]].concat()).succeeded();
    story.imports("shop.kedge").failed_with(11, "KE-2102");
}

#[test]
fn a_stolen_release_key_is_answered_by_a_new_key_and_a_new_epoch() {
    let story = Story::begin();
    let end = ((1_u64 << 53) - 1).to_string();
    // The thief uses up the numbers.
    story.brings(&end, "keys/release.pem", &["--min-seq", &end]).succeeded();
    story.brings("2", "keys/release.pem", &[]).failed_with(13, "KE-2113");
    std::fs::rename(story.path("shop.kedge"), story.path("thief.kedge")).unwrap();
    let signers = ["keys/root-1.pem", "keys/root-3.pem"];
    story.replace("release", "release", "release-2", &signers, &["--new-epoch"]);
    story.brings("2", "release-2.pem", &[]).succeeded();
    story.brings("3", "release-2.pem", &[]).succeeded();
    story.imports("thief.kedge").failed_with(11, "KE-2101");
    let no_way_back = ["keys", "root", "show", "-o", "json"];
    assert!(story.vendor(&no_way_back).succeeded().contains("\"epoch\":2"));
}

#[test]
fn a_site_without_a_line_takes_five_roots_at_once_from_a_stick() {
    let story = Story::begin();
    let mut holders =
        vec!["keys/root-1.pem".to_owned(), "keys/root-2.pem".to_owned(), "keys/root-3.pem".to_owned()];
    let mut names = vec!["root-1".to_owned(), "root-2".to_owned(), "root-3".to_owned()];
    // Five times, the holder who is there longest hands over: in the end nobody signs who signed the first.
    for round in 0..5 {
        let new = format!("holder-{round}");
        let signers = [holders[0].clone(), holders[1].clone()];
        story.replace("root", &names[0], &new, &[&signers[0], &signers[1], &holders[2]], &[]);
        holders.remove(0);
        names.remove(0);
        holders.push(format!("{new}.pem"));
        names.push(new);
    }
    assert!(story.path("keys/root/6.json").exists());
    story.brings("2", "keys/release.pem", &[]).succeeded();
}
