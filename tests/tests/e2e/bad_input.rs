//! Everything that can be wrong with what a person gives: each is refused with its exit code, a message that says
//! what, where and what to do, and nothing is changed.

use std::fs;
use std::path::{Path, PathBuf};

use kedge_tests::rig::docker::Docker;
use kedge_tests::rig::host::Host;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::outcome::{Outcome, run};
use kedge_tests::rig::programs;
use kedge_tests::rig::vendor::{Recipe, Vendor};

use crate::stack::Stack;

/// A host with `hello` 2.0.0, and what must be the same afterwards.
struct Running {
    vendor: Vendor,
    host: Host,
    stack: Stack,
    containers: Vec<String>,
}

impl Running {
    fn start() -> Self {
        let (vendor, host) = (Vendor::shared(), Host::start_on(Docker::of_this_machine(), "site = 'here'"));
        let stack = Stack::new(&host, "hello");
        stack.import(&host, &vendor, &vendor.bundle("hello", "2.0.0")).succeeded();
        let containers = host.docker().of_project("container", &stack.name);
        Self { vendor, host, stack, containers }
    }

    fn build(&self, name: &str, version: &str, seq: u64, flags: &[&str]) -> PathBuf {
        let path = self.host.path(name);
        self.vendor.build(&Recipe { product: "hello", version, seq, flags }, &path);
        path
    }

    /// The import is refused with these codes, the message holds `said`, and everything is as before.
    #[track_caller]
    fn refuses(&self, bundle: &Path, exit: i32, code: &str, said: &str) {
        let message = self.stack.import(&self.host, &self.vendor, bundle).failed_with(exit, code);
        assert!(message.contains(said), "the message should hold \"{said}\": {message}");
        self.is_unchanged();
    }

    #[track_caller]
    fn is_unchanged(&self) {
        assert_eq!(self.host.docker().of_project("container", &self.stack.name), self.containers);
        let status = self.stack.status(&self.host);
        assert_eq!(status["active"]["version"], "2.0.0", "{status}");
        assert_eq!(self.stack.get(&self.host, "/").trim(), "Hello from hello 2.0.0");
    }
}

#[test]
fn bundles_that_may_not_be_installed_are_refused() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let it = Running::start();
    let good = it.vendor.bundle("hello", "3.0.0");

    let bytes = fs::read(&good).unwrap();
    let truncated = it.host.path("truncated.kedge");
    fs::write(&truncated, &bytes[..bytes.len() / 2]).unwrap();
    it.refuses(&truncated, 10, "KE-2002", "ends in the middle");

    let trailing = it.host.path("trailing.kedge");
    fs::write(&trailing, [&bytes[..], &[1; 512]].concat()).unwrap();
    it.refuses(&trailing, 10, "KE-2003", "");

    let no_bundle = it.host.path("no-bundle.kedge");
    fs::write(&no_bundle, "not a bundle at all".repeat(100)).unwrap();
    it.refuses(&no_bundle, 10, "KE-2001", "");

    it.refuses(&it.vendor.bundle("hello", "1.0.0"), 13, "KE-2112", "2");
    it.refuses(&it.build("other-site.kedge", "2.1.0", 9, &["--site", "elsewhere"]), 14, "KE-2117", "here");

    let expired = it.build("expired.kedge", "2.2.0", 9, &["--expires", "1s"]);
    // What is waited for is the time itself.
    std::thread::sleep(std::time::Duration::from_millis(2_100));
    it.refuses(&expired, 12, "KE-2109", "expired");

    let stranger = Vendor::another(&it.host.path("stranger"));
    let project = it.vendor.project("hello", "1.0.0");
    let foreign = it.host.path("foreign.kedge");
    stranger
        .build_from(&project, &Recipe { product: "hello", version: "1.0.0", seq: 9, flags: &[] }, &foreign)
        .succeeded();
    it.refuses(&foreign, 11, "KE-2102", "root");

    let unsigned = it.host.path("unsigned.kedge");
    it.vendor.build_unsigned(&project, 9, &unsigned);
    it.refuses(&unsigned, 11, "KE-2101", "release");

    let other = it.host.path("other-product");
    fs::create_dir(&other).unwrap();
    let compose = fs::read_to_string(project.join("compose.yaml")).unwrap();
    let compose = compose.replace("product: hello", "product: other").replace("bin/hello", "hello");
    fs::write(other.join("compose.yaml"), compose).unwrap();
    fs::copy(project.join("bin/hello"), other.join("hello")).unwrap();
    let bundle = it.host.path("other-product.kedge");
    let recipe = Recipe { product: "other", version: "1.0.0", seq: 9, flags: &[] };
    it.vendor.build_from(&other, &recipe, &bundle).succeeded();
    it.refuses(&bundle, 14, "KE-3011", "other");

    let absent = it.host.path("absent.kedge");
    it.refuses(&absent, 10, "KE-6006", "absent.kedge");
}

#[test]
fn parameters_that_are_missing_or_wrong_are_refused() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let it = Running::start();
    let bundle = it.vendor.bundle("hello", "2.0.0").display().to_string();
    for (set, named) in [("PORT=80", "PORT"), ("PORT=many", "PORT"), ("COLOUR=red", "COLOUR")] {
        let outcome = it.host.kedge(&["import", &bundle, "--deployment", &it.stack.name, "--set", set]);
        let message = outcome.failed_with(15, "KE-");
        assert!(message.contains(named), "{set}: {message}");
    }
    it.is_unchanged();
}

#[test]
fn a_port_that_is_taken_is_named_before_anything_is_created() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let (vendor, host) = (Vendor::shared(), Host::start());
    let stack = Stack::new(&host, "hello");
    let _taken = std::net::TcpListener::bind(("127.0.0.1", stack.port)).unwrap();
    let said = stack.import(&host, &vendor, &vendor.bundle("hello", "1.0.0")).failed_with(22, "KE-3003");
    assert!(said.contains(&stack.port.to_string()), "{said}");
    for kind in ["container", "network", "volume"] {
        assert_eq!(host.docker().of_project(kind, &stack.name), Vec::<String>::new(), "{kind}s were created");
    }
}

#[test]
fn an_engine_that_is_down_is_named_and_nothing_else_breaks() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let nowhere = Docker::at(folder.path().join("nowhere.sock"), String::new());
    let (vendor, host) = (Vendor::shared(), Host::start_on(nowhere, ""));
    assert_eq!(host.status()["engine"]["reachable"], false);
    let name = host.path("x").file_name().unwrap().to_string_lossy().into_owned();
    let bundle = vendor.bundle("hello", "1.0.0").display().to_string();
    let root = vendor.root_sha256();
    let said = host
        .kedge(&["import", &bundle, "--deployment", &name, "--root-sha256", &root])
        .failed_with(20, "KE-4001");
    assert!(said.contains("nowhere.sock"), "{said}");
}

#[test]
fn a_disk_that_is_too_small_is_noticed_before_anything_is_written() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    // More than any disk has must stay free.
    let config = "[limits]\nreserve_bytes = 1000000000000000";
    let (vendor, host) = (Vendor::shared(), Host::start_on(Docker::of_this_machine(), config));
    let stack = Stack::new(&host, "hello");
    let before = size(&host.state_dir());
    stack.import(&host, &vendor, &vendor.bundle("hello", "1.0.0")).failed_with(21, "KE-3004");
    assert!(host.docker().of_project("volume", &stack.name).is_empty());
    let grown = size(&host.state_dir()).saturating_sub(before);
    assert!(grown < 256 * 1024, "{grown} bytes were written");
}

#[test]
fn a_second_agent_on_the_same_folder_is_refused() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let host = Host::start();
    let outcome = run(&mut host.agent_command(&programs::path("kedge")));
    let said = outcome.failed_with(24, "KE-6002");
    assert!(
        said.contains(&host.run_dir().display().to_string())
            || said.contains(&host.state_dir().display().to_string()),
        "{said}"
    );
    assert_eq!(host.kedge(&["status"]).code, Some(0), "the first one goes on");
}

#[test]
fn a_configuration_that_cannot_be_read_is_named_with_its_line() {
    let host = Host::prepare(Docker::of_this_machine(), "[limits]\nreserve_byte = 1\n");
    let said = run(&mut host.agent_command(&programs::path("kedge"))).failed_with(2, "KE-6005");
    assert!(
        said.contains("agent.toml") && said.contains("reserve_byte") && said.contains("line 2"),
        "{said}"
    );
}

#[test]
fn without_an_agent_the_command_line_says_how_to_start_one() {
    let host = Host::prepare(Docker::of_this_machine(), "");
    let said = host.kedge(&["status"]).failed_with(23, "KE-6001");
    assert!(said.contains("kedge.sock") && said.contains("systemctl start kedge"), "{said}");
}

#[test]
fn projects_that_cannot_become_a_bundle_are_refused_with_file_and_line() {
    let vendor = Vendor::shared();
    let folder = tempfile::tempdir().unwrap();
    let cases: &[(&str, &[&str])] = &[
        ("services:\n  web:\n    image: [\n", &["compose.yaml:"]),
        ("services:\n  web:\n    image: a\n    imagee: b\n", &["compose.yaml:4:", "imagee"]),
        ("services:\n  web:\n    build: .\n", &["compose.yaml:", "build"]),
        ("services:\n  web:\n    image: ${TAG:?say which}\n", &["TAG"]),
        ("services:\n  web:\n    image: nosuch/image:1\n", &["nosuch/image:1"]),
    ];
    for (services, named) in cases {
        let head = "x-kedge:\n  product: bad\n  version: 1.0.0\n";
        fs::write(folder.path().join("compose.yaml"), format!("{services}{head}")).unwrap();
        let out = folder.path().join("out.kedge");
        let recipe = Recipe { product: "bad", version: "1.0.0", seq: 1, flags: &[] };
        let outcome: Outcome = vendor.build_from(folder.path(), &recipe, &out);
        assert!(outcome.code == Some(10), "{services}: {outcome:#?}");
        for word in *named {
            assert!(outcome.stderr.contains(word), "{services} should name {word}: {}", outcome.stderr);
        }
        assert!(outcome.stderr.contains("KE-"), "{}", outcome.stderr);
        assert!(!out.exists(), "nothing may be left behind");
    }
}

/// Bytes of all files under a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of_entry = |entry: fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => size(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(of_entry).sum()
}
