//! Adopting what another program started: nothing that fits is touched, and from then on it is ours.

use kedge_proto::local::v1::Diff;

use super::paused::until;
use super::*;
use crate::deploy::adoption::AdoptionRecord;
use crate::host::Adopt;

/// An engine on which `docker compose` has started the stack of release 1 as the project `hello`, and a host that knows
/// nothing of it.
async fn compose_stack() -> Rig {
    let first = Rig::new();
    let host = first.start().await;
    last(host.import(&first, first.bundle(1, |_| {}).bytes(), &[]).await).await.unwrap();
    host.stop().await;
    let engine = first.engine.clone();
    let not_ours =
        |labels: &mut BTreeMap<String, String>| labels.retain(|name, _| !name.starts_with("sh.kedge."));
    for container in engine.containers() {
        engine.tamper(&container.name, |container| {
            not_ours(&mut container.labels);
            let spec = &mut container.detail.as_mut().unwrap().spec;
            not_ours(&mut spec.labels);
            // The image's own, which the engine in memory does not know.
            spec.command = Some(vec!["/hello".into()]);
        });
    }
    for mut network in engine.networks() {
        not_ours(&mut network.labels);
        engine.put_network(network);
    }
    for mut volume in engine.volumes() {
        not_ours(&mut volume.labels);
        engine.put_volume(volume);
    }
    engine.forget_calls();
    Rig { engine, ..Rig::new() }
}

fn options(rig: &Rig, deployment: &str, project: &str) -> ImportOptions {
    ImportOptions {
        deployment: Some(deployment.into()),
        root_sha256: Some(rig.vendor.fingerprint().hex()),
        adopt: Some(Adopt { project: project.into(), by: "ada".into(), ..Adopt::default() }),
        ..ImportOptions::default()
    }
}

/// What was done to containers, networks and volumes. Naming an image touches none.
fn touched(rig: &Rig) -> Vec<String> {
    rig.engine.changes().into_iter().filter(|change| !change.starts_with("tag image")).collect()
}

async fn adopt(host: &Running, rig: &Rig, seq: u64, options: ImportOptions) -> Result<String, Problem> {
    last(host.import_with(options, rig.bundle(seq, |_| {}).bytes()).await).await
}

async fn would(host: &Running, rig: &Rig, seq: u64, project: &str) -> Diff {
    let options = ImportOptions { dry_run: true, ..options(rig, "shop", project) };
    let mut progress = host.import_with(options, rig.bundle(seq, |_| {}).bytes()).await;
    loop {
        match progress.recv().await.unwrap() {
            Progress::Would { diff, .. } => return *diff,
            Progress::Step { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_stack_that_fits_is_taken_over_untouched_stays_so_after_a_restart_and_is_updated_later() {
    let rig = compose_stack().await;
    let id = rig.engine.container("hello-web-1").unwrap().id;
    let host = rig.start().await;
    let before = tree(rig.folder.path());
    let diff = would(&host, &rig, 1, "hello").await;
    assert_eq!(
        (diff.services.len(), diff.objects.len(), diff.unchanged.as_slice()),
        (0, 0, &["web".into()][..]),
        "{diff:#?}"
    );
    assert_eq!(tree(rig.folder.path()), before);

    let mut options = options(&rig, "shop", "hello");
    options.adopt.as_mut().unwrap().agreed = diff.digest;
    adopt(&host, &rig, 1, options).await.unwrap();
    let status = until(&host, "it is healthy", |d| d.health() == v1::Health::Healthy).await;
    assert_eq!((status.name.as_str(), status.compose_project.as_str()), ("shop", "hello"));
    assert_eq!(touched(&rig), Vec::<String>::new());
    let log = std::fs::read_to_string(rig.folder.path().join("audit.jsonl")).unwrap();
    assert!(log.contains(r#""adopted","deployment":"shop","project":"hello","by":"ada""#), "{log}");
    host.stop().await;

    let host = rig.start().await;
    until(&host, "it is healthy after a restart", |d| d.health() == v1::Health::Healthy).await;
    // Something to put right makes sure that it has looked.
    rig.engine.kill("hello-web-1");
    until(&host, "it is put right", |d| {
        d.health() == v1::Health::Healthy
            && d.last_drift.as_ref().is_some_and(|drift| drift.outcome == "put right")
    })
    .await;
    assert_eq!(rig.engine.container("hello-web-1").unwrap().id, id);
    assert!(
        !rig.engine.changes().iter().any(|change| change.contains("create")),
        "{:?}",
        rig.engine.changes()
    );

    let update = ImportOptions { adopt: None, ..self::options(&rig, "shop", "hello") };
    adopt(&host, &rig, 2, update).await.unwrap();
    assert_eq!(version_running(&rig).as_deref(), Some("2"));
    assert_eq!(rig.engine.volumes().len(), 1);

    last(host.host.remove("shop", false, "").await).await.unwrap();
    assert!(rig.engine.containers().is_empty() && rig.engine.networks().is_empty());
    assert_eq!(rig.engine.volumes().len(), 1);
    assert_eq!(host.world.store.get::<AdoptionRecord>("shop").unwrap(), None);
}

#[tokio::test]
async fn what_differs_is_said_before_and_its_data_is_kept() {
    let rig = compose_stack().await;
    let host = rig.start().await;
    let diff = would(&host, &rig, 2, "hello").await;
    assert_eq!((diff.services[0].service.as_str(), diff.services[0].action.as_str()), ("web", "recreate"));
    assert!(diff.services[0].fields.iter().any(|field| field.field == "environment V"), "{diff:?}");
    assert!(diff.left_behind.is_empty(), "{diff:?}");
    adopt(&host, &rig, 2, options(&rig, "shop", "hello")).await.unwrap();
    assert_eq!(version_running(&rig).as_deref(), Some("2"));
    let volumes: Vec<String> = rig.engine.volumes().into_iter().map(|volume| volume.name).collect();
    assert_eq!(volumes, ["hello_data"]);
    // And goes only when somebody on this host says so.
    last(host.host.remove("shop", true, "").await).await.unwrap();
    assert!(rig.engine.volumes().is_empty() && rig.engine.networks().is_empty());
}

#[tokio::test]
async fn what_is_not_there_anothers_or_of_another_name_is_refused_and_changes_nothing() {
    let rig = compose_stack().await;
    let host = rig.start().await;
    let problem = adopt(&host, &rig, 1, options(&rig, "shop", "nothing")).await.unwrap_err();
    assert_eq!(problem.code, codes::NO_PROJECT, "{problem}");
    let mut changed = options(&rig, "shop", "hello");
    changed.adopt.as_mut().unwrap().agreed = "something else".into();
    let problem = adopt(&host, &rig, 1, changed).await.unwrap_err();
    assert_eq!(problem.code, codes::NOT_AGREED, "{problem}");
    assert!(host.world.store.get::<AdoptionRecord>("shop").unwrap().is_none());

    adopt(&host, &rig, 1, options(&rig, "shop", "hello")).await.unwrap();
    let problem = adopt(&host, &rig, 1, options(&rig, "other", "hello")).await.unwrap_err();
    assert_eq!(problem.code, codes::OTHERS, "{problem}");
    let problem = adopt(&host, &rig, 1, options(&rig, "shop", "another")).await.unwrap_err();
    assert_eq!(problem.code, codes::OTHER_PROJECT, "{problem}");
    assert_eq!(touched(&rig), Vec::<String>::new());

    // What carries the label of a deployment is its own, whoever remembers it.
    let ours = Rig { engine: rig.engine.clone(), ..Rig::new() };
    ours.engine.tamper("hello-web-1", |container| {
        container.labels.insert("sh.kedge.deployment".into(), "somebody".into());
    });
    let elsewhere = ours.start().await;
    let problem = adopt(&elsewhere, &ours, 1, options(&ours, "shop", "hello")).await.unwrap_err();
    assert_eq!(problem.code, codes::OTHERS, "{problem}");
}

#[tokio::test]
async fn data_that_would_be_left_behind_and_a_secret_that_would_be_made_anew_are_refused() {
    let rig = compose_stack().await;
    let host = rig.start().await;
    rig.engine.tamper("hello-web-1", |container| {
        let mount = &mut container.detail.as_mut().unwrap().mounts[0];
        (mount.kind, mount.name, mount.source) = ("bind".into(), None, "/home/ada/data".into());
    });
    let diff = would(&host, &rig, 1, "hello").await;
    assert!(diff.left_behind[0].contains("/home/ada/data"), "{diff:?}");
    let problem = adopt(&host, &rig, 1, options(&rig, "shop", "hello")).await.unwrap_err();
    assert_eq!(problem.code, codes::LEFT_BEHIND, "{problem}");
    assert_eq!(touched(&rig), Vec::<String>::new());

    let bundle = rig.bundle(1, |product| {
        let secret = kedge_bundle::parameters::Parameter {
            kind: kedge_bundle::parameters::ParameterKind::Secret,
            generate: Some(24),
            ..Default::default()
        };
        product.parameters.insert("DB_PASSWORD".into(), secret);
    });
    let problem =
        last(host.import_with(options(&rig, "shop", "hello"), bundle.bytes()).await).await.unwrap_err();
    assert_eq!(problem.code, codes::PARAMETERS, "{problem}");
    assert!(problem.message.contains("DB_PASSWORD"), "{problem}");
    let mut given = options(&rig, "shop", "hello");
    given.parameters.insert("DB_PASSWORD".into(), "the old one".into());
    given.adopt.as_mut().unwrap().leave_binds = true;
    last(host.import_with(given, bundle.bytes()).await).await.unwrap();
}

#[tokio::test]
async fn an_adoption_that_is_cut_off_goes_on_after_a_restart() {
    let rig = compose_stack().await;
    let host = rig.start().await;
    *rig.hooks.crash_in.lock().unwrap() = Some(Phase::Applying);
    let progress = host.import_with(options(&rig, "shop", "hello"), rig.bundle(1, |_| {}).bytes()).await;
    rig.hooks.crashed.notified().await;
    host.host.abort();
    drop((host, progress));
    *rig.hooks.crash_in.lock().unwrap() = None;
    let host = rig.start().await;
    until(&host, "it is active", |d| d.phase() == v1::Phase::Active && d.health() == v1::Health::Healthy)
        .await;
    assert_eq!(touched(&rig), Vec::<String>::new());
}

/// Names, IDs and states, sorted.
fn containers(rig: &Rig) -> Vec<(String, String, State)> {
    let mut all: Vec<_> =
        rig.engine.containers().into_iter().map(|c| (c.name.clone(), c.id.clone(), c.state)).collect();
    all.sort();
    all
}

#[tokio::test(start_paused = true)]
async fn an_adoption_that_fails_leaves_the_stack_running_as_it_was_and_can_be_tried_again() {
    let rig = compose_stack().await;
    let before = containers(&rig);
    let networks: Vec<_> = rig.engine.networks();
    let host = rig.start().await;
    rig.engine.behave("web", Behaviour::UnhealthyAfter(Duration::from_secs(1)));
    let problem = adopt(&host, &rig, 2, options(&rig, "shop", "hello")).await.unwrap_err();
    assert_eq!(problem.code, codes::AS_IT_WAS, "{problem}");
    assert!(problem.message.contains("started again as it was"), "{problem}");
    assert!(rig.engine.changes().iter().any(|change| change.contains("create")));
    assert_eq!(containers(&rig), before);
    assert_eq!(rig.engine.networks(), networks);
    assert_eq!(rig.engine.volumes().len(), 1);
    assert!(host.world.store.get::<AdoptionRecord>("shop").unwrap().is_none());
    assert!(host.world.store.get::<DeploymentRecord>("shop").unwrap().is_none());
    // Nothing of it is the agent's to remove any more.
    last(host.host.remove("shop", true, "").await).await.unwrap_err();
    assert_eq!(containers(&rig), before);

    rig.engine.behave("web", Behaviour::Run);
    adopt(&host, &rig, 2, options(&rig, "shop", "hello")).await.unwrap();
    assert_eq!(version_running(&rig).as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn undoing_an_adoption_goes_on_after_a_restart() {
    let rig = compose_stack().await;
    let before = containers(&rig);
    let host = rig.start().await;
    rig.engine.behave("web", Behaviour::UnhealthyAfter(Duration::from_secs(1)));
    *rig.hooks.crash_in.lock().unwrap() = Some(Phase::RollingBack);
    let progress = host.import_with(options(&rig, "shop", "hello"), rig.bundle(2, |_| {}).bytes()).await;
    rig.hooks.crashed.notified().await;
    assert_ne!(containers(&rig), before);
    host.host.abort();
    drop((host, progress));
    *rig.hooks.crash_in.lock().unwrap() = None;
    let host = rig.start().await;
    while host.world.store.get::<DeploymentRecord>("shop").unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(containers(&rig), before);
}

#[tokio::test]
async fn a_volume_that_somebody_else_has_made_anew_is_not_removed() {
    for other in [("sh.kedge.deployment", "theirs"), ("com.docker.compose.project", "theirs")] {
        let rig = compose_stack().await;
        let host = rig.start().await;
        adopt(&host, &rig, 1, options(&rig, "shop", "hello")).await.unwrap();
        let mut volume = rig.engine.volumes().remove(0);
        volume.labels.insert(other.0.into(), other.1.into());
        rig.engine.put_volume(volume);
        let mut progress = host.host.remove("shop", true, "").await;
        let kept = loop {
            match progress.recv().await.unwrap() {
                Progress::Done { kept, .. } => break kept,
                Progress::Step { .. } => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(kept, ["volume hello_data, which somebody else has made anew"]);
        assert_eq!(rig.engine.volumes().len(), 1, "{other:?}");
    }
}

#[tokio::test]
async fn of_two_adoptions_of_one_project_at_once_one_is_refused() {
    let rig = compose_stack().await;
    let host = rig.start().await;
    let bundle = rig.bundle(1, |_| {}).bytes();
    // The root is pinned by now, so that both go the same way.
    would(&host, &rig, 1, "hello").await;
    let one = host.import_with(options(&rig, "shop", "hello"), bundle.clone()).await;
    let two = host.import_with(options(&rig, "store", "hello"), bundle).await;
    let (one, two) = tokio::join!(last(one), last(two));
    let problem = match (one, two) {
        (Ok(_), Err(problem)) | (Err(problem), Ok(_)) => problem,
        both => panic!("{both:?}"),
    };
    assert_eq!(problem.code, codes::OTHERS, "{problem}");
    assert_eq!(host.world.store.scan::<AdoptionRecord>("").unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_only_to_be_stored_adopts_nothing_and_says_so() {
    let rig = compose_stack().await;
    let host = rig.start().await;
    let options = ImportOptions { stage_only: true, ..options(&rig, "shop", "hello") };
    let problem = adopt(&host, &rig, 1, options).await.unwrap_err();
    assert_eq!(problem.code, codes::STAGED_ADOPTION, "{problem}");
}

#[tokio::test]
async fn data_where_nothing_memory_or_a_new_volume_would_be_mounted_is_left_behind() {
    let rig = compose_stack().await;
    let host = rig.start().await;
    let told = async |mounts: &str| {
        let compose = format!("services:\n  web:\n    image: example/hello:1\n{mounts}");
        let bundle = rig.bundle_of(1, &compose, |_| {});
        let options = ImportOptions { dry_run: true, ..options(&rig, "shop", "hello") };
        let mut progress = host.import_with(options, bundle.bytes()).await;
        loop {
            match progress.recv().await.unwrap() {
                Progress::Would { diff, .. } => return diff.left_behind.join("; "),
                Progress::Step { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    };
    let (tmpfs, anonymous) = ("    tmpfs: /data\n", "    volumes: [/data]\n");
    assert!(told("").await.ends_with("nothing would be mounted there"));
    assert!(told(tmpfs).await.ends_with("in memory only"));
    // The planner carries a volume over.
    assert_eq!(told(anonymous).await, "");
    rig.engine.tamper("hello-web-1", |container| {
        let mount = &mut container.detail.as_mut().unwrap().mounts[0];
        (mount.kind, mount.name, mount.source) = ("bind".into(), None, "/home/ada/data".into());
    });
    assert!(told(anonymous).await.ends_with("a new volume without a name"));
}
