//! Updates while clients that retry nothing use the service: none of their requests is lost.

use std::fs;
use std::path::PathBuf;

use kedge_tests::rig::host::Host;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::requests::{self, Clients, Told};
use kedge_tests::rig::vendor::{Recipe, Vendor};

/// Updates of each story.
const UPDATES: u32 = 3;

/// A vendor whose product has one service, and a host that runs it.
struct Story {
    vendor: Vendor,
    host: Host,
    image: String,
    name: String,
    clients: String,
}

impl Story {
    fn new() -> Self {
        let host = Host::start();
        let vendor = Vendor::another(&host.path("vendor"));
        // The clients go first when all is removed: their network goes with the other project.
        let (clients, name) = (host.name("clients"), host.name("requests"));
        Self { vendor, host, image: requests::image(), name, clients }
    }

    fn bundle(&self, edition: u32, change: impl Fn(String) -> String) -> PathBuf {
        let project = self.host.path(&format!("project-{edition}"));
        fs::create_dir_all(&project).unwrap();
        let version = format!("{edition}.0.0");
        let head = format!("x-kedge: {{product: requests, version: {version}, gate: {{timeout: 60s}}}}\n");
        let text = change(head + &requests::compose_file(&self.image, edition));
        fs::write(project.join("compose.yaml"), text).unwrap();
        let bundle = self.host.path(&format!("{edition}.kedge"));
        let recipe = Recipe { product: "requests", version: &version, seq: edition.into(), flags: &[] };
        self.vendor.build_from(&project, &recipe, &bundle).succeeded();
        bundle
    }

    fn import(&self, bundle: &std::path::Path) -> kedge_tests::rig::outcome::Outcome {
        let (bundle, root) = (bundle.display().to_string(), self.vendor.root_sha256());
        self.host.kedge(&["import", &bundle, "--deployment", &self.name, "--root-sha256", &root])
    }

    fn clients(&self) -> Clients<'_> {
        Clients::start(self.host.docker(), &self.image, &self.name, &self.clients)
    }
}

#[track_caller]
fn assert_nothing_lost(told: &[Told; 2], editions: usize) {
    for told in told {
        assert_eq!(told.lost, 0, "{told:#?}");
        assert_eq!(told.editions.len(), editions, "{told:#?}");
    }
}

#[test]
fn an_update_of_a_stateless_service_loses_no_request() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let story = Story::new();
    let bundles: Vec<_> = (1..=UPDATES + 1).map(|edition| story.bundle(edition, |text| text)).collect();
    story.import(&bundles[0]).succeeded();
    let clients = story.clients();
    for bundle in &bundles[1..] {
        story.import(bundle).succeeded();
    }
    assert_nothing_lost(&clients.stop(), bundles.len());
    let docker = story.host.docker();
    let current = docker.container(&story.name, requests::SERVICE);
    docker.wait_until_replaced_are_gone(&story.name);
    assert_eq!(docker.of_project("container", &story.name), [current], "what was kept to go back to is gone");
}

#[test]
fn an_update_that_does_not_get_well_is_undone_and_loses_no_request() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let story = Story::new();
    story.import(&story.bundle(1, |text| text)).succeeded();
    let clients = story.clients();
    let before = story.host.docker().container(&story.name, requests::SERVICE);
    let broken = story.bundle(2, |text| {
        text.replace("[CMD, /bin/requests, check]", "[CMD, /bin/requests, nonsense]")
            .replace("retries: 10", "retries: 2")
    });
    story.import(&broken).failed_with(30, "KE-3006");
    assert_nothing_lost(&clients.stop(), 1);
    assert_eq!(story.host.docker().container(&story.name, requests::SERVICE), before, "it never stopped");
}

#[test]
fn an_agent_killed_while_one_takes_over_from_the_other_finishes_it() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let mut story = Story::new();
    let bundles: Vec<_> = (1..=4).map(|edition| story.bundle(edition, |text| text)).collect();
    story.import(&bundles[0]).succeeded();
    let docker = story.host.docker().clone();
    let clients = Clients::start(&docker, &story.image, &story.name, &story.clients);
    // Killed as soon as the agent says that it does this.
    let moments = ["wait until", "give ", "take the names"];
    for (bundle, moment) in bundles[1..].iter().zip(moments) {
        let (after, root) = (story.host.log().count(), story.vendor.root_sha256());
        let bundle = bundle.display().to_string();
        let arguments = ["import", &bundle, "--deployment", &story.name, "--root-sha256", &root];
        let mut import = story.host.kedge_command().args(arguments).spawn().expect("kedge starts");
        let said = story.host.log().wait_for(after, |line| line.contains(&format!(" {moment}")));
        said.unwrap_or_else(|why| panic!("never at {moment}: {why}"));
        story.host.kill_agent();
        let _ = import.wait();
        story.host.start_agent();
        let version = format!("{}.0.0", bundle.rsplit('/').next().and_then(|n| n.split('.').next()).unwrap());
        story.host.wait_for(&story.name, &format!("should run {version}"), |deployment| {
            kedge_tests::rig::host::runs(deployment, &version)
        });
    }
    assert_nothing_lost(&clients.stop(), bundles.len());
}
