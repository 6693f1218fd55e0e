//! The binary as a vendor uses it: what it prints, where, and what it exits with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

/// A folder with a vendor's keys and a small product.
struct Desk {
    folder: tempfile::TempDir,
}

impl Desk {
    fn new() -> Self {
        let desk = Desk { folder: tempfile::tempdir().unwrap() };
        desk.write(
            "shop/compose.yaml",
            "name: shop\nx-kedge:\n  product: shop\n  version: '1.0'\n  images:\n    shop/web:1: dir:web\nservices:\n  web:\n    image: shop/web:1\n    command: [/web]\n",
        );
        desk.write("shop/web/web", "not really a program\n");
        desk
    }

    fn with_keys() -> Self {
        let desk = Self::new();
        desk.ok(&["keys", "init", "--no-passphrase", "--vendor", "Example"]);
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kedgectl"));
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null());
        command
            .env("KEDGE_HUB_DATA", self.path("hub"))
            .env_remove("KEDGE_PASSPHRASE_FILE")
            .env_remove("RUST_LOG");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs a command that must succeed; its standard output.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(&[args, &["-o", "json"]].concat())).unwrap()
    }

    /// Runs a command that must fail with this exit code, saying so on standard error and nothing on standard output.
    fn fails(&self, args: &[&str], exit: i32) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(exit), "{args:?}: {errors}");
        assert!(output.stdout.is_empty(), "{args:?} printed a result");
        assert!(
            errors.contains("error: ") && errors.contains("KE-") && errors.contains("help: "),
            "{errors}"
        );
        errors
    }

    fn build(&self, output: &str, seq: &str) {
        let keys = ["--release-key", "keys/release.pem", "--root", "keys"];
        self.ok(&[&["bundle", "build", "shop", "-o", output, "--seq", seq], &keys[..]].concat());
    }

    fn serve(&self) -> Server {
        let args =
            ["hub", "serve", "--listen", "127.0.0.1:0", "--root", "keys", "--fresh-key", "keys/fresh.pem"];
        let port = ["--port-file", "port"];
        let mut child = self
            .command(&[&args[..], &port].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Server { child, url: line.trim().to_owned() }
    }
}

/// A hub in a process of its own; killed when dropped.
struct Server {
    child: Child,
    url: String,
}

impl Server {
    fn terminate(mut self) -> std::process::ExitStatus {
        let id = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_vendor_makes_keys_builds_verifies_and_inspects_a_bundle() {
    let desk = Desk::with_keys();
    let shown = desk.json(&["keys", "show"]);
    let fingerprint = shown["root_sha256"].as_str().unwrap().to_owned();
    desk.build("shop.kedge", "1");
    let by_root = desk.json(&["bundle", "verify", "shop.kedge", "--root", "keys/root/1.json"]);
    let by_fingerprint = desk.json(&["bundle", "verify", "shop.kedge", "--root-sha256", &fingerprint]);
    assert_eq!(by_root, by_fingerprint);
    assert_eq!((&by_root["release"]["product"], &by_root["release"]["seq"]), (&"shop".into(), &1.into()));
    let inspected = desk.json(&["bundle", "inspect", "shop.kedge"]);
    assert_eq!(inspected["trusted"], false);
    assert_eq!(inspected["digest"], by_root["digest"]);
    assert_eq!(inspected["content"]["images"][0]["reference"], "shop/web:1");
    assert!(desk.ok(&["bundle", "inspect", "shop.kedge"]).contains("signatures and dates were not"));
}

#[test]
fn a_build_that_cannot_succeed_or_would_overwrite_says_so_at_once() {
    let desk = Desk::with_keys();
    let build = |folder: &str, output: &str, more: &[&str]| {
        let keys = ["--release-key", "keys/release.pem", "--root", "keys"];
        [&["bundle", "build", folder, "-o", output], &keys[..], more]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let refused = |args: Vec<String>, why: &str| {
        let output = desk.run(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && errors.contains(why), "{args:?}: {errors}");
    };
    refused(build("shop", "a.kedge", &["--seq", "0"]), "sequence numbers begin with 1");
    refused(build("shop", "a.kedge", &["--seq", "9007199254740992"]), "from 1 to 9007199254740991");
    refused(build("shop", "a.kedge", &["--seq", "1", "--min-seq", "2"]), "--min-seq 2 is above --seq 1");
    refused(build("no-such", "a.kedge", &["--seq", "1"]), "the project's folder no-such does not exist");
    refused(build("shop/compose.yaml", "a.kedge", &["--seq", "1"]), "is not a folder");
    refused(build("shop", "no-such/a.kedge", &["--seq", "1"]), "there is no folder no-such");
    assert!(!desk.path("a.kedge").exists());
    desk.build("a.kedge", "1");
    let before = std::fs::read(desk.path("a.kedge")).unwrap();
    refused(build("shop", "a.kedge", &["--seq", "2"]), "a.kedge is there already [KE-7408]");
    assert_eq!(std::fs::read(desk.path("a.kedge")).unwrap(), before);
    let forced = build("shop", "a.kedge", &["--seq", "2", "--force"]);
    desk.ok(&forced.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(desk.json(&["bundle", "inspect", "a.kedge"])["release"]["seq"], 2);
}

#[test]
fn a_bill_of_materials_is_written_once_and_names_what_layers_hold() {
    let desk = Desk::with_keys();
    desk.write("shop/web/lib/apk/db/installed", "P:musl\nV:1.2.5-r8\nA:x86_64\nL:MIT\n");
    desk.write("shop/web/var/lib/rpm/rpmdb.sqlite", "SQLite format 3");
    desk.build("shop.kedge", "1");
    let spdx = ["bundle", "sbom", "shop.kedge", "--format", "spdx"];
    let text = desk.ok(&spdx);
    let document: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["spdxVersion"], "SPDX-2.3");
    assert!(text.contains("pkg:apk/alpine/musl@1.2.5-r8?arch=x86_64"), "{text}");
    assert_eq!(desk.ok(&spdx), text, "the same bundle, the same document");
    let cyclonedx = ["bundle", "sbom", "shop.kedge", "--format", "cyclonedx", "-o", "shop.cdx.json"];
    let output = desk.run(&cyclonedx);
    assert!(output.status.success() && output.stdout.is_empty());
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("var/lib/rpm/rpmdb.sqlite, which cannot be read")
    );
    let document: Value =
        serde_json::from_slice(&std::fs::read(desk.path("shop.cdx.json")).unwrap()).unwrap();
    assert_eq!(document["specVersion"], "1.6");
    desk.fails(&cyclonedx, 2);
    desk.ok(&[&cyclonedx[..], &["--force"]].concat());
    desk.fails(&["bundle", "sbom", "missing.kedge", "--format", "spdx"], 2);
    assert_eq!(desk.run(&["bundle", "sbom", "shop.kedge"]).status.code(), Some(2), "a format must be named");
}

#[test]
fn places_in_registries_are_told_apart_from_what_is_none() {
    let desk = Desk::with_keys();
    desk.build("shop.kedge", "1");
    for (place, why) in [
        ("shop:1", "names no registry"),
        ("library/shop:1", "does not begin with a registry's host name"),
        ("r.example/shop", "has no tag"),
        ("r.example/Shop:1", "write REGISTRY/REPOSITORY:TAG"),
    ] {
        let output = desk.run(&["bundle", "push", "shop.kedge", place]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && errors.contains(why), "{place}: {errors}");
    }
    let digest = format!("127.0.0.1:1/shop@sha256:{}", "0".repeat(64));
    assert!(desk.fails(&["bundle", "push", "shop.kedge", &digest], 2).contains("push needs a tag"));
    desk.fails(&["bundle", "push", "missing.kedge", "127.0.0.1:1/shop:1"], 2);
    std::fs::write(desk.path("bad.kedge"), "not a bundle").unwrap();
    desk.fails(&["bundle", "push", "bad.kedge", "127.0.0.1:1/shop:1"], 10);
}

#[test]
fn keys_are_never_overwritten() {
    let desk = Desk::with_keys();
    let before = std::fs::read(desk.path("keys/release.pem")).unwrap();
    desk.fails(&["keys", "init", "--no-passphrase"], 2);
    assert_eq!(std::fs::read(desk.path("keys/release.pem")).unwrap(), before);
}

#[test]
fn encrypted_keys_sign_with_their_passphrase_only() {
    let desk = Desk::new();
    desk.write("passphrase", "correct horse\n");
    desk.write("wrong", "battery staple\n");
    desk.fails(&["keys", "init"], 2);
    assert!(!desk.path("keys").exists(), "without a passphrase nothing is made");
    desk.ok(&["keys", "init", "--passphrase-file", "passphrase"]);
    let unsigned =
        ["bundle", "build", "shop", "-o", "shop.kedge", "--unsigned", "--root", "keys", "--seq", "1"];
    desk.ok(&unsigned);
    desk.fails(&["bundle", "verify", "shop.kedge", "--root", "keys"], 11);
    let sign = ["bundle", "sign", "shop.kedge", "--key", "keys/release.pem"];
    desk.fails(&sign, 2);
    desk.fails(&[&sign[..], &["--passphrase-file", "wrong"]].concat(), 2);
    desk.ok(&[&sign[..], &["--passphrase-file", "passphrase"]].concat());
    desk.ok(&["bundle", "verify", "shop.kedge", "--root", "keys"]);
}

const HOLDERS: [&str; 7] = ["alice", "bob", "carol", "release", "fresh", "licence", "support"];

/// Three holders, each with a key of their own, and a first root drafted.
fn drafted(desk: &Desk) {
    let roles = ["release", "fresh", "licence", "support"]
        .map(|role| [format!("--{role}-key"), format!("{role}.pub")]);
    let mut args: Vec<&str> =
        vec!["keys", "root", "init", "--draft", "1.json", "--vendor", "Example", "--threshold", "2"];
    args.extend(["--root-key", "alice.pub", "--root-key", "bob.pub", "--root-key", "carol.pub"]);
    args.extend(roles.iter().flatten().map(String::as_str));
    desk.ok(&args);
    desk.fails(&["keys", "root", "publish", "1.json", "--root", "keys/root"], 11);
}

/// The same with keys in files, and the root signed by two of them.
fn ceremony(desk: &Desk) {
    for name in HOLDERS {
        let public = desk.ok(&["keys", "new", name, "--no-passphrase"]);
        assert_eq!(public.trim().len(), 64, "the public key alone: {public}");
    }
    drafted(desk);
    for holder in ["alice.pem", "carol.pem"] {
        desk.ok(&["keys", "root", "sign", "1.json", "--key", holder, "--yes"]);
    }
    desk.ok(&["keys", "root", "publish", "1.json", "--root", "keys/root"]);
}

#[test]
fn a_root_is_drafted_signed_by_its_holders_and_published() {
    let desk = Desk::new();
    ceremony(&desk);
    desk.ok(&["keys", "new", "dave", "--no-passphrase"]);
    desk.ok(&[
        "keys", "root", "rotate", "--draft", "2.json", "--role", "root", "--key", "carol", "--with",
        "dave.pub",
    ]);
    let shown = desk.json(&["keys", "root", "show", "2.json"]);
    assert_eq!((&shown["root"]["version"], &shown["complete"]), (&2.into(), &false.into()));
    let changes = shown["changes"].to_string();
    assert!(
        changes.contains("removes key") && changes.contains("(carol)") && changes.contains("(dave)"),
        "{changes}"
    );
    // Two holders sign copies of their own; a stranger's signature is refused; without a yes nobody signs.
    std::fs::copy(desk.path("2.json"), desk.path("2-bob.json")).unwrap();
    desk.fails(&["keys", "root", "sign", "2.json", "--key", "release.pem", "--yes"], 2);
    let before = std::fs::read(desk.path("2.json")).unwrap();
    desk.fails(&["keys", "root", "sign", "2.json", "--key", "alice.pem"], 2);
    desk.ok(&["keys", "root", "sign", "2.json", "--key", "alice.pem", "--dry-run"]);
    assert_eq!(std::fs::read(desk.path("2.json")).unwrap(), before);
    let said = desk.ok(&["keys", "root", "sign", "2.json", "--key", "alice.pem", "--yes"]);
    assert!(said.contains("1 of 2 for version 1, 1 of 2 for version 2"), "{said}");
    desk.fails(&["keys", "root", "add", "--draft", "2.json", "--role", "release", "--key", "dave.pub"], 2);
    let output = desk.run(&["keys", "root", "sign", "2-bob.json", "--key", "dave.pem", "--yes"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.contains("the threshold of version 2 only"), "{errors}");
    desk.fails(&["keys", "root", "publish", "2.json", "2-bob.json"], 11);
    desk.ok(&["keys", "root", "sign", "2-bob.json", "--key", "bob.pem", "--yes"]);
    desk.ok(&["keys", "root", "publish", "2.json", "2-bob.json", "--dry-run"]);
    assert!(!desk.path("keys/root/2.json").exists());
    desk.ok(&["keys", "root", "publish", "2.json", "2-bob.json"]);
    desk.fails(&["keys", "root", "publish", "2.json", "2-bob.json"], 2);
    let shown = desk.json(&["keys", "root", "show"]);
    assert_eq!((&shown["root"]["version"], &shown["complete"]), (&2.into(), &true.into()));
    desk.ok(&[
        "bundle",
        "build",
        "shop",
        "-o",
        "shop.kedge",
        "--seq",
        "1",
        "--release-key",
        "release.pem",
        "--root",
        "keys",
    ]);
    desk.ok(&["bundle", "verify", "shop.kedge", "--root", "keys/root/1.json"]);
}

#[test]
fn everything_is_signed_by_a_command_where_no_key_is_at_hand() {
    let desk = Desk::new();
    if Command::new("openssl").arg("version").output().is_err() {
        return;
    }
    // `openssl` stands for the hardware module. It signs files, so the script keeps what it is given.
    let module = "cat > $1.bytes && openssl pkeyutl -sign -rawin -inkey $1.key -in $1.bytes";
    desk.write("module", &format!("#!/bin/sh\n{module}\n"));
    let chmod = Command::new("chmod").arg("+x").arg(desk.path("module")).status();
    assert!(chmod.unwrap().success());
    for name in HOLDERS {
        let openssl = |args: &[&str]| {
            let output = Command::new("openssl").args(args).current_dir(desk.folder.path()).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            output.stdout
        };
        let file = format!("{name}.key");
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", &file]);
        let public = openssl(&["pkey", "-in", &file, "-pubout", "-outform", "DER"]);
        let digits: String = public[public.len() - 32..].iter().map(|byte| format!("{byte:02x}")).collect();
        desk.write(&format!("{name}.pub"), &digits);
    }
    drafted(&desk);
    let by = |holder: &str| {
        [
            "--signer-cmd".to_owned(),
            format!("./module {holder}"),
            "--public-key".into(),
            format!("{holder}.pub"),
        ]
    };
    let with = |args: &[&str], signer: [String; 4]| {
        let all: Vec<String> = args.iter().map(ToString::to_string).chain(signer).collect();
        all
    };
    let ok = |args: Vec<String>| desk.ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    for holder in ["alice", "carol"] {
        ok(with(&["keys", "root", "sign", "1.json", "--yes"], by(holder)));
    }
    desk.ok(&["keys", "root", "publish", "1.json"]);
    ok(with(&["bundle", "build", "shop", "-o", "shop.kedge", "--seq", "1", "--root", "keys"], by("release")));
    desk.ok(&["bundle", "verify", "shop.kedge", "--root", "keys"]);
    ok(with(&["bundle", "sign", "shop.kedge"], by("release")));
    ok(with(
        &[
            "licence",
            "issue",
            "--product",
            "shop",
            "--customer",
            "North",
            "--id",
            "n1",
            "--root",
            "keys",
            "-o",
            "n1.licence",
        ],
        by("licence"),
    ));
    desk.ok(&["licence", "inspect", "n1.licence", "--root", "keys"]);
    desk.ok(&["keys", "root", "rotate", "--draft", "2.json", "--new-epoch"]);
    for holder in ["alice", "bob"] {
        ok(with(&["keys", "root", "sign", "2.json", "--yes"], by(holder)));
    }
    desk.ok(&["keys", "root", "publish", "2.json"]);
    assert_eq!(desk.json(&["keys", "root", "show"])["root"]["epoch"], 2);
    // Another key than the one named, a command that fails, one without its public key.
    let mixed = ["--signer-cmd", "./module bob", "--public-key", "release.pub"];
    let sign = ["bundle", "sign", "shop.kedge"];
    assert!(desk.fails(&[&sign[..], &mixed].concat(), 2).contains("no signature by the public key"));
    let failing = ["--signer-cmd", "false", "--public-key", "release.pub"];
    desk.fails(&[&sign[..], &failing].concat(), 2);
    assert_eq!(desk.run(&[&sign[..], &["--signer-cmd", "true"]].concat()).status.code(), Some(2));
    assert_eq!(desk.run(&sign).status.code(), Some(2));
}

#[test]
fn a_bundle_that_is_not_as_it_should_be_has_its_own_exit_code() {
    let desk = Desk::with_keys();
    desk.ok(&["keys", "init", "--no-passphrase", "--dir", "other"]);
    desk.build("shop.kedge", "1");
    let good = std::fs::read(desk.path("shop.kedge")).unwrap();
    std::fs::write(desk.path("short.kedge"), &good[..good.len() - 700]).unwrap();
    std::fs::write(desk.path("long.kedge"), [&good[..], b"more"].concat()).unwrap();
    let verify = |file, root| desk.fails(&["bundle", "verify", file, "--root", root], 10);
    verify("short.kedge", "keys");
    verify("long.kedge", "keys");
    desk.fails(&["bundle", "verify", "shop.kedge", "--root", "other"], 11);
    desk.fails(&["bundle", "verify", "missing.kedge", "--root", "keys"], 2);
    desk.fails(&["bundle", "inspect", "missing.kedge"], 2);
    desk.fails(&["bundle", "verify", "shop.kedge", "--root-sha256", "xyz"], 2);
}

#[test]
fn compose_config_prints_the_project_or_every_error_with_its_place() {
    let desk = Desk::new();
    let project: Value =
        serde_json::from_str(&desk.ok(&["compose", "config", "-f", "shop/compose.yaml"])).unwrap();
    assert_eq!(project["services"]["web"]["image"], "shop/web:1");
    desk.write("bad.yaml", "services:\n  web:\n    image: a\n    imagee: b\n    restartt: always\n");
    let errors = desk.fails(&["compose", "config", "-f", "bad.yaml"], 10);
    assert!(errors.contains("bad.yaml:4:") && errors.contains("bad.yaml:5:"), "{errors}");
    desk.fails(&["compose", "config", "-f", "missing.yaml"], 10);
}

#[test]
fn a_hub_is_served_filled_and_stopped_from_the_command_line() {
    let desk = Desk::with_keys();
    desk.build("one.kedge", "1");
    desk.fails(&["fleet", "ls"], 23);
    let server = desk.serve();
    let port = std::fs::read_to_string(desk.path("port")).unwrap();
    assert!(server.url.ends_with(&format!(":{}", port.trim())), "{}", server.url);

    let token = desk.ok(&["hub", "token", "create", "--site", "acme", "--ttl", "5m", "--uses", "2"]);
    assert!(token.starts_with("kt1.") && token.lines().count() == 1, "the token alone: {token}");
    let tokens = desk.json(&["hub", "token", "ls"]);
    assert_eq!((&tokens[0]["site"], &tokens[0]["uses_left"]), (&"acme".into(), &2.into()));
    assert!(!tokens.to_string().contains(token.split('.').nth(2).unwrap()), "secrets are not listed");
    desk.ok(&["hub", "token", "revoke", tokens[0]["id"].as_str().unwrap()]);
    desk.fails(&["hub", "token", "revoke", "no-such"], 2);
    desk.fails(&["hub", "token", "create", "--site", "Not A Site"], 2);

    let published = desk.json(&["release", "publish", "one.kedge", "--stream", "stable"]);
    assert_eq!((&published["already"], &published["release"]["seq"]), (&false.into(), &1.into()));
    assert_eq!(desk.json(&["release", "publish", "one.kedge"])["already"], true);
    desk.fails(&["release", "publish", "one.kedge", "--stream", "beta"], 14);
    std::fs::write(desk.path("bad.kedge"), "not a bundle").unwrap();
    desk.fails(&["release", "publish", "bad.kedge"], 10);
    desk.fails(&["release", "publish", "missing.kedge"], 2);
    assert_eq!(desk.json(&["release", "ls"]).as_array().unwrap().len(), 1);
    assert_eq!(desk.json(&["fleet", "ls"]), Value::Array(Vec::new()));
    desk.fails(&["fleet", "show", "h-0000000000000000"], 2);
    desk.fails(&["fleet", "revoke", "h-0000000000000000"], 2);

    desk.fails(&["hub", "serve", "--listen", "127.0.0.1:0"], 24);
    assert!(server.terminate().success(), "a signal is an orderly end");
    desk.fails(&["release", "ls"], 23);
}

#[test]
fn a_hub_that_cannot_start_says_why() {
    let desk = Desk::with_keys();
    desk.ok(&["keys", "init", "--no-passphrase", "--dir", "other"]);
    desk.fails(&["hub", "serve", "--listen", "127.0.0.1:0"], 2);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    desk.fails(&["hub", "serve", "--listen", &address, "--root", "keys"], 22);
    let foreign = ["--root", "keys", "--fresh-key", "other/fresh.pem"];
    desk.fails(&[&["hub", "serve", "--listen", "127.0.0.1:0"], &foreign[..]].concat(), 2);
}

#[test]
fn versions_and_completions_are_for_programs() {
    let desk = Desk::new();
    let version = desk.json(&["version"]);
    assert_eq!((&version["name"], &version["protocol"]), (&"kedgectl".into(), &1.into()));
    assert!(desk.ok(&["completions", "bash"]).contains("kedgectl"));
    assert_eq!(desk.run(&["no-such-command"]).status.code(), Some(2));
}
