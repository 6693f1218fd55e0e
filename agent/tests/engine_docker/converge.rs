//! Observe, plan, apply and watch on a real engine.

use std::time::{Duration, Instant};

use kedge::apply::{Gate, wait_converged};
use kedge::engine::observe::{Wake, Watcher};
use kedge::engine::types::State;
use kedge::plan::{Desired, Memory};
use kedge_compose::model::{Condition, Dependency, Healthcheck, Mount, Service, Volume};

use crate::rig::{Rig, soon};

fn check() -> Healthcheck {
    Healthcheck {
        test: vec!["CMD".into(), "/bin/busybox".into(), "true".into()],
        interval: Some(Duration::from_secs(1)),
        retries: Some(3),
        ..Healthcheck::default()
    }
}

fn on(condition: Condition) -> Dependency {
    Dependency { condition, restart: false, required: true }
}

/// db, healthy; job, done; web after both.
fn services(image: &str) -> Vec<Service> {
    let service = |name: &str| Service { name: name.into(), image: image.into(), ..Service::default() };
    let mut db = service("db");
    db.healthcheck = Some(check());
    db.volumes.push(Mount { source: Some("data".into()), target: "/data".into(), ..Mount::default() });
    let mut job = service("job");
    job.command = Some(["/bin/busybox", "true"].map(str::to_owned).to_vec());
    job.depends_on.insert("db".into(), on(Condition::ServiceHealthy));
    let mut web = service("web");
    web.healthcheck = Some(check());
    web.depends_on.insert("job".into(), on(Condition::ServiceCompletedSuccessfully));
    web.depends_on.insert("db".into(), on(Condition::ServiceStarted));
    vec![db, job, web]
}

#[tokio::test]
async fn a_stack_is_brought_up_kept_up_updated_and_taken_away() {
    let Some(mut rig) = Rig::new("stack").await else { return };
    let (one, two) = (rig.image("1"), rig.image("2"));
    let images = soon(rig.load(&[one.clone(), two.clone()])).await.0.unwrap();
    let volume = Volume { name: format!("{}_data", rig.name), ..Volume::default() };
    let with = |reference: &str| {
        let mut project = rig.project(services(reference));
        project.volumes.insert("data".into(), volume.clone());
        rig.desired(&project, &images)
    };
    let desired = with(&one.reference);
    let gate = Gate { settle: Duration::from_millis(100), ..Gate::default() };
    let memory = Memory::default();

    soon(async { rig.apply(&rig.plan(&desired).await).await }).await;
    soon(wait_converged(&rig.engine, &rig.hub, &desired, &memory, gate)).await.unwrap();
    let began = Instant::now();
    assert!(rig.plan(&desired).await.is_empty());
    eprintln!("a pass with nothing to do, without cache: {:?}", began.elapsed());

    // Killed: noticed by event, started again.
    let mut watcher = Watcher::new(rig.engine.clone(), &rig.hub, desired.scope());
    watcher.observe().await.unwrap();
    let web = format!("{}-web-1", rig.name);
    rig.engine.kill_container(&web, "SIGKILL").await.unwrap();
    soon(async {
        loop {
            assert!(matches!(watcher.changed().await, Wake::Event(_)));
            let observed = watcher.observe().await.unwrap();
            if observed
                .containers
                .iter()
                .any(|container| container.name == web && container.state == State::Exited)
            {
                break;
            }
        }
    })
    .await;
    let plan = kedge::plan::plan(&desired, watcher.observe().await.unwrap(), &memory, Default::default());
    assert_eq!(plan.describe(), [format!("start {web}: it ended with an error")]);
    soon(rig.apply(&plan)).await;

    // Removed by hand: made anew. The job stays done.
    rig.engine.remove_container(&web).await.unwrap();
    let plan = rig.plan(&desired).await;
    assert_eq!(plan.services().into_iter().collect::<Vec<_>>(), ["web"]);
    soon(rig.apply(&plan)).await;

    // Another image: everything is swapped, in order, and the volume stays the same.
    let newer = with(&two.reference);
    soon(async { rig.apply(&rig.plan(&newer).await).await }).await;
    soon(wait_converged(&rig.engine, &rig.hub, &newer, &memory, gate)).await.unwrap();
    assert!(rig.plan(&newer).await.is_empty());
    let db = rig.engine.inspect_container(&format!("{}-db-1", rig.name)).await.unwrap();
    assert_eq!(db.image_id, images[&two.reference].id);
    assert_eq!(db.detail.unwrap().mounts[0].name.as_deref(), Some(volume.name.as_str()));

    // Towards nothing: only the volume is left.
    let nothing = Desired::nothing(&rig.name, &rig.name);
    soon(async { rig.apply(&rig.plan(&nothing).await).await }).await;
    let filter = kedge::engine::Filter::deployment(&rig.name);
    assert!(rig.engine.list_containers(&filter).await.unwrap().is_empty());
    assert!(rig.engine.list_networks(&filter).await.unwrap().is_empty());
    assert_eq!(rig.engine.list_volumes(&filter).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_failing_health_check_is_told_with_its_output() {
    let Some(mut rig) = Rig::new("sick").await else { return };
    let image = rig.image("1");
    let images = soon(rig.load(std::slice::from_ref(&image))).await.0.unwrap();
    let mut sick = Service { name: "sick".into(), image: image.reference.clone(), ..Service::default() };
    let test = ["CMD", "/bin/busybox", "sh", "-c", "echo no database; exit 1"].map(str::to_owned).to_vec();
    sick.healthcheck = Some(Healthcheck { test, retries: Some(1), ..check() });
    let desired = rig.desired(&rig.project(vec![sick]), &images);
    soon(async { rig.apply(&rig.plan(&desired).await).await }).await;
    let gated =
        soon(wait_converged(&rig.engine, &rig.hub, &desired, &Memory::default(), Gate::default())).await;
    let failures = gated.unwrap_err();
    assert_eq!(failures[0].code().id, "KE-4016");
    assert!(failures[0].to_string().contains("no database"), "{}", failures[0]);
}

#[tokio::test]
async fn a_network_that_differs_is_replaced_under_running_containers() {
    let Some(mut rig) = Rig::new("net").await else { return };
    let image = rig.image("1");
    let images = soon(rig.load(std::slice::from_ref(&image))).await.0.unwrap();
    let service = Service { name: "web".into(), image: image.reference.clone(), ..Service::default() };
    let mut project = rig.project(vec![service]);
    let desired = rig.desired(&project, &images);
    soon(async { rig.apply(&rig.plan(&desired).await).await }).await;
    let before = rig.engine.inspect_container(&format!("{}-web-1", rig.name)).await.unwrap();
    project.networks.get_mut("default").unwrap().internal = true;
    let newer = rig.desired(&project, &images);
    soon(async { rig.apply(&rig.plan(&newer).await).await }).await;
    assert!(rig.plan(&newer).await.is_empty());
    let after = rig.engine.inspect_container(&before.id).await.unwrap();
    assert_eq!(after.state, State::Running, "the container itself was not touched");
    let network = |container: kedge::engine::Container| {
        container.detail.unwrap().networks.into_values().next().unwrap().network_id
    };
    assert_ne!(network(before), network(after));
}
