//! The labels that make us a good neighbour: with docker compose's, its `ps`, `logs`, `ls` and `down` work on our
//! stacks; with ours, we know what is ours.

use std::collections::BTreeMap;

use kedge_compose::model::{Condition, Project, Service};

use super::Placement;
use crate::engine::spec::{
    ContainerSpec, LABEL_DEPLOYMENT, LABEL_GENERATION, LABEL_NETWORK, LABEL_NUMBER, LABEL_PROJECT,
    LABEL_SERVICE, LABEL_SPEC, LABEL_VOLUME,
};

/// What stands in docker compose's label for its version.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn common(labels: &mut BTreeMap<String, String>, project: &Project, placement: &Placement<'_>) {
    labels.extend(placement.labels.clone());
    let ours = [
        (LABEL_DEPLOYMENT, placement.deployment.to_owned()),
        (LABEL_GENERATION, placement.generation.to_string()),
        (LABEL_PROJECT, project.name.clone()),
        ("com.docker.compose.version", VERSION.to_owned()),
    ];
    labels.extend(ours.map(|(key, value)| (key.to_owned(), value)));
}

/// Labels of a network.
pub(super) fn network(
    labels: &mut BTreeMap<String, String>,
    project: &Project,
    placement: &Placement<'_>,
    key: &str,
) {
    common(labels, project, placement);
    labels.insert(LABEL_NETWORK.to_owned(), key.to_owned());
}

/// Labels of a volume.
pub(super) fn volume(
    labels: &mut BTreeMap<String, String>,
    project: &Project,
    placement: &Placement<'_>,
    key: &str,
) {
    common(labels, project, placement);
    labels.insert(LABEL_VOLUME.to_owned(), key.to_owned());
}

/// Labels of a container, without those that depend on its digest.
pub(super) fn container(
    labels: &mut BTreeMap<String, String>,
    project: &Project,
    service: &Service,
    number: u32,
    image: &str,
    placement: &Placement<'_>,
) {
    common(labels, project, placement);
    let more = [
        (LABEL_SERVICE, service.name.clone()),
        (LABEL_NUMBER, number.to_string()),
        ("com.docker.compose.oneoff", "False".to_owned()),
        ("com.docker.compose.image", image.to_owned()),
        ("com.docker.compose.depends_on", depends_on(service)),
        ("com.docker.compose.project.working_dir", placement.working_dir.to_owned()),
        ("com.docker.compose.project.config_files", placement.config_files.join(",")),
    ];
    labels.extend(more.map(|(key, value)| (key.to_owned(), value)));
}

/// Adds the labels that hold the spec's own digest; they are not part of it.
pub(super) fn seal(spec: &mut ContainerSpec) {
    let digest = spec.digest();
    spec.labels.insert("com.docker.compose.config-hash".to_owned(), digest.clone());
    spec.labels.insert(LABEL_SPEC.to_owned(), digest);
}

/// `service:condition:restart`, joined by commas.
fn depends_on(service: &Service) -> String {
    let entry = |(on, dependency): (&String, &kedge_compose::model::Dependency)| {
        let condition = match dependency.condition {
            Condition::ServiceStarted => "service_started",
            Condition::ServiceHealthy => "service_healthy",
            Condition::ServiceCompletedSuccessfully => "service_completed_successfully",
        };
        format!("{on}:{condition}:{}", dependency.restart)
    };
    service.depends_on.iter().map(entry).collect::<Vec<_>>().join(",")
}
