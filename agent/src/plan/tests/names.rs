//! Names, strangers and what is not ours; and what cannot be compiled at all.

use kedge_compose::model::{
    Condition, Dependency, FileMount, FileObject, FileSource, Mount, MountKind, PreStart,
};

use super::builders::{Observing, Stack, of_another, stranger};
use super::*;
use crate::engine::types::{Network, Volume};
use crate::plan::desired::Problem;
use crate::plan::step::What;

fn blocked(plan: &Plan) -> Vec<(What, &str)> {
    plan.blocked.iter().map(|blocked| (blocked.what, blocked.name.as_str())).collect()
}

#[test]
fn a_stranger_with_a_wanted_name_blocks_its_service_and_no_other() {
    let stack = Stack::of(&["a", "b"]);
    let mut observed = stack.running().gone("p-a-1").gone("p-b-1");
    observed.containers.push(stranger("p-a-1"));
    let plan = assert_plan(&stack, &observed, "create p-b-1 < start p-b-1");
    assert_eq!(blocked(&plan), [(What::ContainerName, "a")]);
    assert!(plan.blocked[0].why.contains("not Kedge's"));
}

#[test]
fn what_depends_on_a_blocked_service_is_not_begun() {
    let stack = Stack::of(&["db", "web>db"]);
    let mut observed = stack.running().gone("p-db-1").gone("p-web-1");
    observed.containers.push(stranger("p-db-1"));
    let plan = assert_plan(&stack, &observed, "");
    assert_eq!(blocked(&plan), [(What::ContainerName, "db"), (What::Dependent, "web")]);
}

#[test]
fn a_dependency_that_is_not_required_holds_nobody_up() {
    let stack = Stack::of(&["db", "web>db"])
        .edit("web", |web| web.depends_on.get_mut("db").unwrap().required = false);
    let mut observed = stack.running().gone("p-db-1").gone("p-web-1");
    observed.containers.push(stranger("p-db-1"));
    assert_plan(&stack, &observed, "create p-web-1 < start p-web-1");
}

#[test]
fn strangers_with_other_names_are_nothing_to_us() {
    let stack = Stack::of(&["web"]);
    let mut observed = stack.running();
    observed.containers.push(stranger("nginx"));
    let mut ours_by_project = stranger("p-old-1");
    ours_by_project.labels.insert("com.docker.compose.project".into(), "p".into());
    observed.containers.push(ours_by_project);
    assert_plan(&stack, &observed, "");
}

#[test]
fn containers_of_another_deployment_are_not_ours() {
    let stack = Stack::of(&["web"]);
    let mut observed = stack.running().gone("p-web-1");
    observed.containers.push(crate::engine::Container { labels: of_another(), ..stranger("p-web-1") });
    let plan = assert_plan(&stack, &observed, "");
    assert!(plan.blocked[0].why.contains("belongs to the deployment other"));
}

#[test]
fn a_network_of_the_same_name_that_is_not_ours_is_refused() {
    let stack = Stack::of(&["web"]);
    let strange = Network { id: "1".into(), name: "p_default".into(), ..Network::default() };
    let observed = Observed { networks: vec![strange], ..Observed::default() };
    let plan = assert_plan(&stack, &observed, "");
    assert_eq!(blocked(&plan), [(What::NetworkName, "p_default"), (What::Dependent, "web")]);
}

#[test]
fn a_volume_of_the_same_name_that_is_not_ours_is_refused() {
    let stack = Stack::of(&["db", "web"]).volume("db", "data");
    let strange =
        Volume { name: "p_data".into(), driver: "local".into(), labels: of_another(), ..Volume::default() };
    let observed = Observed { volumes: vec![strange], ..stack.running().gone("p-db-1") };
    let plan = assert_plan(&stack, &observed, "");
    assert_eq!(blocked(&plan), [(What::VolumeName, "p_data"), (What::Dependent, "db")]);
}

#[test]
fn a_volume_of_ours_that_was_kept_from_before_is_used() {
    let stack = Stack::of(&["db"]).volume("db", "data");
    let observed = Observed { volumes: stack.running().volumes, ..Observed::default() };
    assert_plan(&stack, &observed, "create network p_default < create p-db-1 < start p-db-1");
}

#[test]
fn a_volume_whose_options_differ_is_noted_and_never_made_anew() {
    let mut stack = Stack::of(&["db"]).volume("db", "data");
    let observed = stack.running();
    stack.project.volumes.get_mut("data").unwrap().driver_opts.insert("type".into(), "nfs".into());
    let plan = assert_plan(&stack, &observed, "");
    assert!(plan.notes[0].contains("would lose its data"));
}

#[test]
fn external_networks_and_volumes_are_used_and_never_made() {
    let mut stack = Stack::of(&["db"]).volume("db", "data").network("db", "shared");
    stack.project.volumes.get_mut("data").unwrap().external = true;
    stack.project.networks.get_mut("shared").unwrap().external = true;
    let missing = assert_plan(&stack, &Observed::default(), "create network p_default");
    assert_eq!(
        blocked(&missing),
        [(What::ExternalVolume, "p_data"), (What::ExternalNetwork, "p_shared"), (What::Dependent, "db")]
    );
    let observed = Observed {
        networks: vec![Network {
            id: "1".into(),
            name: "p_shared".into(),
            driver: "macvlan".into(),
            ..Network::default()
        }],
        volumes: vec![Volume { name: "p_data".into(), driver: "nfs".into(), ..Volume::default() }],
        ..Observed::default()
    };
    assert_plan(&stack, &observed, "create network p_default < create p-db-1 < start p-db-1");
}

#[test]
fn a_container_that_was_renamed_by_hand_gets_its_name_back() {
    let stack = Stack::of(&["web"]);
    let observed = stack.running().but("p-web-1", |web| web.name = "renamed".into());
    assert_plan(&stack, &observed, "rename renamed to p-web-1");
}

#[test]
fn a_fixed_name_is_honoured() {
    let stack = Stack::of(&["web"]).edit("web", |web| web.container_name = Some("shop".into()));
    assert_plan(&stack, &Observed::default(), "create network p_default < create shop < start shop");
    assert_plan(&stack, &stack.running(), "");
}

#[test]
fn a_fixed_name_that_moves_to_another_service_is_freed_first() {
    let old = Stack::of(&["a"]).edit("a", |a| a.container_name = Some("shop".into()));
    let newer = Stack::of(&["b"]).edit("b", |b| b.container_name = Some("shop".into()));
    assert_plan(
        &newer,
        &old.running(),
        "create shop.next < rename shop.next to shop < start shop.next; stop shop < remove shop < rename shop.next to shop",
    );
}

#[track_caller]
fn problems(stack: &Stack) -> Vec<Problem> {
    stack.compile().unwrap_err()
}

#[test]
fn a_circle_of_dependencies_is_shown() {
    let stack = Stack::of(&["a>c", "b>a", "c>b", "d"]);
    assert_eq!(problems(&stack), [Problem::Circle("a, c, b, a".into())]);
}

#[test]
fn waiting_for_the_health_of_what_has_no_check_is_refused() {
    let mut stack = Stack::of(&["db", "web>db"]);
    let healthy = Dependency { condition: Condition::ServiceHealthy, restart: false, required: true };
    stack.project.services.get_mut("web").unwrap().depends_on.insert("db".into(), healthy);
    assert_eq!(problems(&stack), [Problem::NeverHealthy { service: "web".into(), on: "db".into() }]);
    stack.image.healthcheck = Some(super::builders::check());
    assert!(stack.compile().is_ok(), "the image's check counts");
}

#[test]
fn everything_that_is_in_the_way_is_said_at_once() {
    let stack = Stack::of(&["a", "b", "c", "d"])
        .image("a", "unknown:1")
        .replicas("b", 2)
        .edit("b", |b| b.container_name = Some("fixed".into()))
        .edit("c", |c| {
            c.volumes.push(Mount {
                kind: MountKind::Bind,
                source: Some("/missing".into()),
                target: "/x".into(),
                ..Mount::default()
            });
        })
        .edit("d", |d| d.pre_start.push(PreStart { image: Some("tool:9".into()), ..PreStart::default() }));
    let found = problems(&stack);
    assert_eq!(
        found,
        [
            Problem::NoImage { service: "a".into(), image: "unknown:1".into() },
            Problem::FixedName { service: "b".into(), replicas: 2 },
            Problem::NoFile { service: "c".into(), what: "/missing".into() },
            Problem::NoImage { service: "d".into(), image: "tool:9".into() },
        ]
    );
}

#[test]
fn two_containers_of_one_name_are_refused() {
    let stack = Stack::of(&["a", "b"])
        .edit("a", |a| a.container_name = Some("one".into()))
        .edit("b", |b| b.container_name = Some("one".into()));
    assert!(matches!(problems(&stack)[..], [Problem::SameName { .. }]));
}

#[test]
fn secrets_and_configs_become_read_only_files() {
    let mut stack = Stack::of(&["web"]).edit("web", |web| {
        web.secrets.push(FileMount {
            source: "key".into(),
            target: "/run/secrets/key".into(),
            ..FileMount::default()
        });
    });
    let source = FileSource::Environment("KEY".into());
    stack.project.secrets.insert("key".into(), FileObject { source, ..FileObject::default() });
    let desired = stack.desired();
    let mount = &desired.containers["p-web-1"].spec.mounts[0];
    assert_eq!((mount.source.as_deref(), mount.read_only), (Some("/hostkey"), true));
    stack.project.secrets.get_mut("key").unwrap().source = FileSource::External;
    assert!(matches!(problems(&stack)[..], [Problem::NoFile { .. }]));
}

#[test]
fn a_plan_as_json_holds_no_value_of_the_environment() {
    let stack = Stack::of(&["web"]).edit("web", |web| {
        web.environment.insert("PASSWORD".into(), Some("hunter2".into()));
    });
    let plan = plan(&stack.desired(), &Observed::default(), &Memory::default(), Policy::default());
    let json = serde_json::to_string(&plan).unwrap();
    assert!(json.contains("create_container") && !json.contains("hunter2"));
    assert!(!format!("{plan:?}").contains("hunter2"));
    assert!(!plan.describe().join("\n").contains("hunter2"));
}

#[test]
fn containers_carry_the_labels_that_docker_compose_looks_for() {
    let stack = Stack::of(&["db", "web>db:healthy"]);
    let desired = stack.desired();
    let labels = &desired.containers["p-web-1"].spec.labels;
    let expected = [
        ("com.docker.compose.project", "p"),
        ("com.docker.compose.service", "web"),
        ("com.docker.compose.container-number", "1"),
        ("com.docker.compose.oneoff", "False"),
        ("com.docker.compose.depends_on", "db:service_healthy:false"),
        ("com.docker.compose.project.working_dir", "/work"),
        ("com.docker.compose.project.config_files", "compose.yaml"),
        ("com.docker.compose.image", "sha256:app:1"),
        ("sh.kedge.deployment", "p"),
        ("sh.kedge.generation", "1"),
    ];
    for (label, value) in expected {
        assert_eq!(labels.get(label).map(String::as_str), Some(value), "{label}");
    }
    assert_eq!(labels["com.docker.compose.config-hash"], desired.containers["p-web-1"].digest);
    assert_eq!(desired.networks["p_default"].labels["com.docker.compose.network"], "default");
}
