//! Lifecycle hooks: kept in a label of the container, so that whoever starts or stops it knows them, also when the
//! release that brought them is gone.

use std::collections::BTreeMap;

use kedge_compose::model::{Hook, Resources, Restart, Service};
use serde::{Deserialize, Serialize};

use super::{PlacedImage, Placement, Problem};
use crate::engine::Exec;
use crate::engine::spec::{LABEL_FILES, LABEL_HOOKS, digest_of};

/// Longest label that is read.
const LONGEST: usize = 256 << 10;

/// The hooks of one container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hooks {
    /// Before it starts for the first time, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pre_start: Vec<PreStart>,
    /// After each of its starts on request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub post_start: Vec<Exec>,
    /// Before it is asked to end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pre_stop: Vec<Exec>,
    /// Digest of the service's definition, where there is a `pre_start`: containers of one service that have it in common
    /// share what runs once for all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub definition: String,
}

/// A hook that runs in a container of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PreStart {
    /// Image ID; `None` is the container's own.
    pub image: Option<String>,
    /// For each container instead of once for the service.
    pub per_replica: bool,
    /// What it runs.
    pub run: Exec,
}

impl Hooks {
    /// The hooks that a container's labels tell of; none where they make no sense.
    pub fn of(labels: &BTreeMap<String, String>) -> Self {
        let text = labels.get(LABEL_HOOKS).filter(|text| text.len() <= LONGEST);
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.pre_start.is_empty() && self.post_start.is_empty() && self.pre_stop.is_empty()
    }
}

/// Adds the label, where the service has hooks.
pub(super) fn label(
    labels: &mut BTreeMap<String, String>,
    service: &Service,
    image: &PlacedImage,
    placement: &Placement<'_>,
    problems: &mut Vec<Problem>,
) {
    let mut pre_start = Vec::new();
    for hook in &service.pre_start {
        let other = hook.image.as_ref().map(|reference| placement.images.get(reference).ok_or(reference));
        let image = match other.transpose() {
            Ok(other) => other.map(|image| image.id.clone()),
            Err(reference) => {
                let (service, image) = (service.name.clone(), reference.clone());
                problems.push(Problem::NoImage { service, image });
                continue;
            }
        };
        pre_start.push(PreStart { image, per_replica: hook.per_replica, run: exec(&hook.hook) });
    }
    let mut hooks = Hooks {
        pre_start,
        post_start: service.post_start.iter().map(exec).collect(),
        pre_stop: service.pre_stop.iter().map(exec).collect(),
        definition: String::new(),
    };
    if hooks.is_empty() {
        return;
    }
    if !hooks.pre_start.is_empty() {
        hooks.definition = definition(service, &image.id, labels.get(LABEL_FILES));
    }
    // Our own types serialise without fail.
    labels.extend(serde_json::to_string(&hooks).ok().map(|text| (LABEL_HOOKS.to_owned(), text)));
}

/// What makes the service's containers anew when it changes. What is changed in place, or decides only about order and number,
/// is left out.
fn definition(service: &Service, image: &str, files: Option<&String>) -> String {
    let lasting = Service {
        replicas: 0,
        depends_on: BTreeMap::new(),
        update_config: None,
        restart: Restart::No,
        resources: Resources::default(),
        ..service.clone()
    };
    digest_of(&(digest_of(&lasting), image, files))
}

fn exec(hook: &Hook) -> Exec {
    Exec {
        command: hook.command.clone(),
        user: hook.user.clone(),
        working_dir: hook.working_dir.clone(),
        environment: hook.environment.clone(),
        privileged: hook.privileged,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_nonsense_is_nothing() {
        let run = Exec { command: vec!["flush".into()], privileged: true, ..Exec::default() };
        let hooks = Hooks { pre_stop: vec![run], ..Hooks::default() };
        let text = serde_json::to_string(&hooks).unwrap();
        assert_eq!(Hooks::of(&[(LABEL_HOOKS.to_owned(), text)].into()), hooks);
        assert!(Hooks::of(&[(LABEL_HOOKS.to_owned(), "no".into())].into()).is_empty());
        assert!(Hooks::of(&BTreeMap::new()).is_empty());
    }

    #[test]
    fn the_definition_changes_with_what_makes_containers_anew() {
        let service = Service { name: "web".into(), ..Service::default() };
        let of = |service: &Service| definition(service, "sha256:1", None);
        assert_eq!(of(&service), of(&Service { replicas: 3, restart: Restart::Always, ..service.clone() }));
        assert_ne!(of(&service), of(&Service { user: Some("root".into()), ..service.clone() }));
        assert_ne!(of(&service), definition(&service, "sha256:2", None));
    }
}
