//! A product that asks for a licence: nothing is begun without one, nothing is ended for one.

use kedge_bundle::licence::{Licence, Limits, Terms};

use super::*;

const COMPOSE: &str = "services:\n  web:\n    image: example/hello:1\n    environment: {V: '${V:-1}'}\n    \
     scale: ${SCALE:-1}\n    healthcheck: {test: [CMD, check]}\n  reports:\n    image: example/hello:1\n    \
     profiles: [reports]\n    healthcheck: {test: [CMD, check]}\n";

fn licensed(product: &mut kedge_bundle::product::Product) {
    let features = [("reporting".to_owned(), "reports".to_owned())].into();
    product.licence = Some(Terms { required: true, features, services: Some(vec!["web".into()]) });
    product
        .parameters
        .insert("SCALE".into(), serde_json::from_str(r#"{"type":"integer","default":1}"#).unwrap());
}

fn licence(serial: u64) -> Licence {
    let time = |text: &str| text.parse().unwrap();
    Licence {
        format: 1,
        id: "north-1".into(),
        serial,
        epoch: 1,
        customer: "North Bank".into(),
        sites: Vec::new(),
        product: "hello".into(),
        issued: time("2026-01-01T00:00:00Z"),
        not_before: time("2026-01-01T00:00:00Z"),
        expires: time("2027-01-01T00:00:00Z"),
        grace_days: 0,
        limits: Limits { services: Some(2), ..Limits::default() },
        features: ["reporting".to_owned()].into(),
    }
}

fn lapsed(serial: u64) -> Licence {
    Licence { expires: "2026-02-01T00:00:00Z".parse().unwrap(), ..licence(serial) }
}

impl Running {
    async fn license(&self, rig: &Rig, licence: &Licence) -> Result<(), Problem> {
        let file = licence.sign(&[&rig.vendor.licence_key]).unwrap();
        self.host.install_licence(&file).await.map(|_| ())
    }

    async fn set(&self, rig: &Rig, bundle: &TestBundle, scale: &str) -> Result<String, Problem> {
        last(self.import(rig, bundle.bytes(), &[("SCALE", scale)]).await).await
    }
}

fn running(rig: &Rig) -> Vec<String> {
    let mut names: Vec<String> = rig
        .engine
        .containers()
        .into_iter()
        .filter(|container| container.state == State::Running && !container.name.contains(".kept-"))
        .map(|container| container.name)
        .collect();
    names.sort();
    names
}

#[tokio::test]
async fn without_a_licence_a_product_that_asks_for_one_is_not_begun() {
    let rig = Rig::new();
    let host = rig.start().await;
    let bundle = rig.bundle_of(1, COMPOSE, licensed);
    let problem = last(host.import(&rig, bundle.bytes(), &[]).await).await.unwrap_err();
    assert_eq!(problem.code, codes::LICENCE, "{problem}");
    assert!(running(&rig).is_empty());
    host.license(&rig, &licence(1)).await.unwrap();
    last(host.import(&rig, bundle.bytes(), &[]).await).await.unwrap();
    assert_eq!(running(&rig), ["hello-reports-1", "hello-web-1"], "with the profile of its feature");
    let web = rig.engine.container("hello-web-1").unwrap();
    let mounts = &web.detail.as_ref().unwrap().spec.mounts;
    let mount = mounts.iter().find(|mount| mount.target == "/run/kedge/licence").expect("a mount");
    assert!(mount.read_only);
    let file = std::path::Path::new(mount.source.as_ref().unwrap()).join("licence.json");
    assert_eq!(std::fs::read(file).unwrap(), licence(1).sign(&[&rig.vendor.licence_key]).unwrap());
    let reports = rig.engine.container("hello-reports-1").unwrap();
    assert!(reports.detail.as_ref().unwrap().spec.mounts.is_empty(), "only who asks for it");
}

#[tokio::test]
async fn when_it_has_lapsed_what_runs_goes_on_and_nothing_is_added() {
    let rig = Rig::new();
    let host = rig.start().await;
    // The root comes with the first bundle, and with it the licence can be checked.
    let first = rig.bundle_of(1, COMPOSE, licensed);
    let _ = last(host.import(&rig, first.bytes(), &[]).await).await;
    host.license(&rig, &licence(1)).await.unwrap();
    host.set(&rig, &first, "1").await.unwrap();
    host.license(&rig, &lapsed(2)).await.unwrap();
    assert_eq!(host.set(&rig, &first, "2").await.unwrap_err().code, codes::LICENCE);
    let second = rig.bundle_of(2, COMPOSE, licensed);
    assert_eq!(host.set(&rig, &second, "1").await.unwrap_err().code, codes::LICENCE);
    assert_eq!(running(&rig), ["hello-reports-1", "hello-web-1"]);

    host.stop().await;
    rig.engine.snatch("hello-reports-1");
    let host = rig.start().await;
    let mut status = host.host.status();
    let healthy = |s: &Arc<v1::HostStatus>| s.deployments.iter().any(|d| d.health() == v1::Health::Healthy);
    status.wait_for(healthy).await.unwrap();
    assert_eq!(
        running(&rig),
        ["hello-reports-1", "hello-web-1"],
        "put right, after a restart of the agent too"
    );

    host.license(&rig, &licence(3)).await.unwrap();
    host.set(&rig, &second, "1").await.unwrap();
}

#[tokio::test]
async fn a_renewal_whose_time_has_not_come_does_not_take_the_place_of_one_that_counts() {
    let rig = Rig::new();
    let host = rig.start().await;
    let bundle = rig.bundle_of(1, COMPOSE, licensed);
    let _ = last(host.import(&rig, bundle.bytes(), &[]).await).await;
    host.license(&rig, &licence(1)).await.unwrap();
    let early = Licence { not_before: "2026-09-01T00:00:00Z".parse().unwrap(), ..licence(2) };
    let problem = host.license(&rig, &early).await.unwrap_err();
    assert_eq!(problem.code, kedge_bundle::codes::LICENCE_EARLY);
    host.set(&rig, &bundle, "1").await.unwrap();
}

#[tokio::test]
async fn where_none_is_required_one_that_has_lapsed_restricts_nothing() {
    let rig = Rig::new();
    let host = rig.start().await;
    let optional = |product: &mut kedge_bundle::product::Product| {
        licensed(product);
        product.licence.as_mut().unwrap().required = false;
    };
    host.set(&rig, &rig.bundle_of(1, COMPOSE, optional), "1").await.unwrap();
    assert_eq!(running(&rig), ["hello-web-1"], "without the feature's profile");
    host.license(&rig, &lapsed(1)).await.unwrap();
    host.set(&rig, &rig.bundle_of(2, COMPOSE, optional), "3").await.unwrap();
}

#[tokio::test]
async fn a_limit_counts_the_containers_that_are_there_to_stay() {
    let rig = Rig::new();
    let host = rig.start().await;
    let bundle = rig.bundle_of(1, COMPOSE, licensed);
    let _ = last(host.import(&rig, bundle.bytes(), &[]).await).await;
    host.license(&rig, &licence(1)).await.unwrap();
    let problem = host.set(&rig, &bundle, "2").await.unwrap_err();
    assert!(problem.message.contains("3 service containers; the licence allows 2"), "{problem}");
    host.set(&rig, &bundle, "1").await.unwrap();
}

#[tokio::test]
async fn a_licence_that_was_superseded_does_not_come_back_and_is_audited() {
    let rig = Rig::new();
    let host = rig.start().await;
    let bundle = rig.bundle_of(1, COMPOSE, licensed);
    let _ = last(host.import(&rig, bundle.bytes(), &[]).await).await;
    host.license(&rig, &licence(2)).await.unwrap();
    let problem = host.license(&rig, &licence(1)).await.unwrap_err();
    assert_eq!(problem.code, kedge_bundle::codes::LICENCE_STALE);
    let stranger = licence(9).sign(&[&rig.vendor.release_key]).unwrap();
    assert_eq!(host.host.install_licence(&stranger).await.unwrap_err().code, kedge_bundle::codes::UNSIGNED);
    assert_eq!(host.host.licences().await.unwrap()[0].licence, licence(2));
    let log = std::fs::read_to_string(rig.folder.path().join("audit.jsonl")).unwrap();
    for expected in ["licence_installed", "KE-2118", "KE-2101"] {
        assert!(log.contains(expected), "{expected}: {log}");
    }
}
