//! Taking over what `docker compose` itself has started.

use std::path::PathBuf;

use kedge_tests::rig::host::Host;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::outcome::{Outcome, run};
use kedge_tests::rig::vendor::Vendor;

use crate::stack::Stack;

const PRODUCT: &str = "hello";

/// The product as its customer ran it before: by `docker compose`, as a project of their own name.
struct Legacy {
    project: String,
    file: PathBuf,
    image: String,
}

impl Legacy {
    /// Starts it with the image that the bundle holds.
    fn start(host: &Host, vendor: &Vendor, stack: &Stack) -> Self {
        // The image comes from a registry in real life. Here it comes from the bundle, and stays in the engine.
        let donor = Stack::new(host, "donor");
        donor.import(host, vendor, &vendor.bundle(PRODUCT, "1.0.0")).succeeded();
        let container = host.docker().container(&donor.name, PRODUCT);
        let id = host.docker().run(&["inspect", "--format", "{{.Image}}", &container]).succeeded();
        let legacy = Self {
            project: host.name("legacy"),
            file: host.path("compose.yaml"),
            image: format!("{}:legacy", donor.name),
        };
        host.docker().run(&["tag", id.trim(), &legacy.image]).succeeded();
        host.kedge(&["remove", &donor.name, "--volumes", "--yes"]).succeeded();
        let text =
            std::fs::read_to_string(vendor.project(PRODUCT, "1.0.0").join("compose.yaml")).expect("a file");
        let theirs = text.replace("image: hello:1.0.0", &format!("image: {}", legacy.image));
        assert_ne!(text, theirs);
        std::fs::write(&legacy.file, theirs).expect("a writable folder");
        legacy.compose(host, stack, &["up", "--detach", "--wait", "--pull", "never"]).succeeded();
        legacy
    }

    fn compose(&self, host: &Host, stack: &Stack, arguments: &[&str]) -> Outcome {
        let binary = need::compose().expect("it was asked for");
        let mut command = host.docker().command(&binary);
        command.args(["-p", &self.project, "-f"]).arg(&self.file).args(arguments);
        run(command.env("PORT", stack.port.to_string()).env("GREETING", "Hello"))
    }

    /// IDs of its containers, networks and volumes.
    fn objects(&self, host: &Host) -> Vec<Vec<String>> {
        ["container", "network", "volume"].map(|kind| host.docker().of_project(kind, &self.project)).into()
    }

    fn adopt(&self, host: &Host, vendor: &Vendor, stack: &Stack, flags: &[&str]) -> Outcome {
        self.adopt_as(host, vendor, stack, "1.0.0", flags)
    }

    fn adopt_as(
        &self,
        host: &Host,
        vendor: &Vendor,
        stack: &Stack,
        version: &str,
        flags: &[&str],
    ) -> Outcome {
        let bundle = vendor.bundle(PRODUCT, version).display().to_string();
        let (port, root) = (format!("PORT={}", stack.port), vendor.root_sha256());
        let adopt = ["adopt", &self.project, "--deployment", &stack.name, "--bundle", &bundle];
        let more = ["--set", &port, "--root-sha256", &root];
        host.kedge(&[&adopt, &more[..], flags].concat())
    }
}

#[test]
fn a_stack_of_docker_compose_is_taken_over_untouched_kept_and_updated() {
    if !need::met(&[Need::Engine, Need::Compose]) {
        return;
    }
    let (vendor, mut host) = (Vendor::shared(), Host::start());
    let stack = Stack::new(&host, PRODUCT);
    let legacy = Legacy::start(&host, &vendor, &stack);
    stack.post(host.docker(), "/data").succeeded();
    let before = legacy.objects(&host);

    // Shown and not done: asked for, or for want of a terminal to say yes on.
    let shown = legacy.adopt(&host, &vendor, &stack, &["--dry-run"]).succeeded();
    assert!(shown.contains("= unchanged: hello") && shown.contains("no downtime"), "{shown}");
    let refused = legacy.adopt(&host, &vendor, &stack, &[]);
    assert!(refused.code == Some(2) && refused.stdout.contains("unchanged: hello"), "{refused:#?}");
    assert!(stack.status(&host).is_null());

    legacy.adopt(&host, &vendor, &stack, &["--yes"]).succeeded();
    let status = stack.wait_until_it_runs(&host, "1.0.0");
    assert_eq!(status["compose_project"], legacy.project.as_str(), "{status}");
    assert_eq!(legacy.objects(&host), before);
    host.kill_agent();
    host.start_agent();
    stack.wait_until_it_runs(&host, "1.0.0");
    let said = host.kedge(&["diff", &stack.name]).succeeded();
    assert!(said.contains("nothing to do"), "{said}");
    assert_eq!(legacy.objects(&host), before);
    let logs = host.kedge(&["logs", &stack.name]).succeeded();
    assert!(logs.contains("listens on port"), "{logs}");

    // It is kept from now on.
    host.docker().run(&["update", "--restart", "no", &before[0][0]]).succeeded();
    host.wait_for(&stack.name, "should be put right", |d| d["last_drift"]["outcome"] == "put right");
    assert_eq!(legacy.objects(&host), before);

    // And updated, with its data.
    let newer = vendor.bundle(PRODUCT, "2.0.0").display().to_string();
    host.kedge(&["import", &newer, "--deployment", &stack.name]).succeeded();
    assert_eq!(stack.get(&host, "/").trim(), "Hello from hello 2.0.0");
    assert_eq!(stack.get(&host, "/data").trim(), "1");
    let after = legacy.objects(&host);
    assert_eq!((after[0].len(), &after[1], &after[2]), (1, &before[1], &before[2]));
    assert_ne!(after[0], before[0]);
    let listed = legacy.compose(&host, &stack, &["ps", "--format", "json"]).succeeded();
    assert!(listed.contains("\"Service\":\"hello\"") && listed.contains("running"), "{listed}");

    host.kedge(&["remove", &stack.name, "--yes"]).succeeded();
    assert_eq!(legacy.objects(&host), [vec![], vec![], before[2].clone()]);
    host.docker().run(&["rmi", &legacy.image]).succeeded();
}

#[test]
fn a_stack_that_a_broken_release_was_to_take_over_runs_again_as_it_was() {
    if !need::met(&[Need::Engine, Need::Compose]) {
        return;
    }
    let (vendor, host) = (Vendor::shared(), Host::start());
    let stack = Stack::new(&host, PRODUCT);
    let legacy = Legacy::start(&host, &vendor, &stack);
    stack.post(host.docker(), "/data").succeeded();
    let before = legacy.objects(&host);
    let name = host.docker().container(&legacy.project, PRODUCT);

    legacy.adopt_as(&host, &vendor, &stack, "3.0.0", &["--yes"]).failed_with(30, "KE-3036");
    assert_eq!(legacy.objects(&host), before);
    assert_eq!(host.docker().container(&legacy.project, PRODUCT), name);
    legacy.compose(&host, &stack, &["up", "--detach", "--wait", "--no-recreate"]).succeeded();
    assert_eq!(stack.get(&host, "/data").trim(), "1");
    assert!(stack.status(&host).is_null());

    // And can be taken over after all.
    legacy.adopt(&host, &vendor, &stack, &["--yes"]).succeeded();
    stack.wait_until_it_runs(&host, "1.0.0");
    assert_eq!(legacy.objects(&host), before);
    host.kedge(&["remove", &stack.name, "--volumes", "--yes"]).succeeded();
    assert_eq!(legacy.objects(&host), [const { Vec::<String>::new() }; 3]);
    host.docker().run(&["rmi", &legacy.image]).succeeded();
}

#[test]
fn what_is_not_there_or_anothers_is_refused() {
    if !need::met(&[Need::Engine, Need::Compose]) {
        return;
    }
    let (vendor, host) = (Vendor::shared(), Host::start());
    let (stack, other) = (Stack::new(&host, PRODUCT), Stack::new(&host, "other"));
    let nothing = Legacy { project: host.name("nothing"), file: PathBuf::new(), image: String::new() };
    nothing.adopt(&host, &vendor, &stack, &["--yes"]).failed_with(2, "KE-3030");
    stack.import(&host, &vendor, &vendor.bundle(PRODUCT, "1.0.0")).succeeded();
    let ours = Legacy { project: stack.name.clone(), file: PathBuf::new(), image: String::new() };
    ours.adopt(&host, &vendor, &other, &["--yes"]).failed_with(16, "KE-3031");
    nothing.adopt(&host, &vendor, &stack, &["--yes"]).failed_with(16, "KE-3032");
    stack.wait_until_it_runs(&host, "1.0.0");
}
