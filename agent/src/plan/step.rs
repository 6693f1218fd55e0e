//! The plan: typed steps, what each waits for, and why it is there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kedge_compose::model::Attachment;
use serde::Serialize;

use crate::engine::spec::{ContainerSpec, NetworkSpec, Update, VolumeSpec};

/// Position of a step in its plan.
pub type StepId = usize;

/// What must be done to get from what is to what should be. Empty when nothing is to be done.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Plan {
    /// Steps; each may start when all it needs are done. What a step needs stands before it.
    pub steps: Vec<Step>,
    /// What cannot be done, and why. Everything that does not depend on it is planned all the same.
    pub blocked: Vec<Blocked>,
    /// What is worth knowing and needs nothing done.
    pub notes: Vec<String>,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Its position in the plan.
    pub id: StepId,
    /// What to do.
    pub action: Action,
    /// For which service, where it is for one.
    pub service: Option<String>,
    /// Why, as words that follow "because".
    pub reason: String,
    /// Steps that must be done before it starts.
    pub needs: BTreeSet<StepId>,
    /// Steps that must be over before it starts, however they ended.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub after: BTreeSet<StepId>,
}

/// A container that a step is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Target {
    /// Its name when the plan was made, or the name that the plan creates it under.
    pub name: String,
    /// Its ID; `None` when the plan creates it.
    pub id: Option<String>,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Running, and its health check, if it has one, is good.
    Healthy,
    /// Ended with exit code 0.
    Completed,
}

/// What a step does. All are idempotent: "already so" is success.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub enum Action {
    /// Make a network.
    CreateNetwork {
        /// Engine name.
        name: String,
        /// Everything about it.
        #[serde(skip)]
        spec: Box<NetworkSpec>,
    },
    /// Remove a network of ours.
    RemoveNetwork {
        /// Engine name.
        name: String,
        /// ID.
        id: String,
    },
    /// Make a volume.
    CreateVolume {
        /// Engine name.
        name: String,
        /// Everything about it.
        #[serde(skip)]
        spec: Box<VolumeSpec>,
    },
    /// Make a container, not started.
    CreateContainer {
        /// Name to create it under; not its final one while an old container bears that.
        name: String,
        /// Everything about it. Not serialised: it holds the environment.
        #[serde(skip)]
        spec: Arc<ContainerSpec>,
        /// Anonymous volumes taken over from the container it replaces: target and volume name.
        carry: BTreeMap<String, String>,
    },
    /// Start a container.
    Start {
        /// Which.
        container: Target,
    },
    /// Ask a container to end; kill it after its grace.
    Stop {
        /// Which.
        container: Target,
    },
    /// Thaw a container.
    Unpause {
        /// Which.
        container: Target,
    },
    /// Remove a container of ours. Its volumes stay.
    Remove {
        /// Which.
        container: Target,
    },
    /// Give a container another name.
    Rename {
        /// Which.
        container: Target,
        /// New name.
        to: String,
    },
    /// Change limits or restart policy in place.
    Update {
        /// Which.
        container: Target,
        /// What.
        update: Box<Update>,
    },
    /// Attach a container to a network.
    Connect {
        /// Which.
        container: Target,
        /// Engine name of the network.
        network: String,
        /// Aliases and addresses.
        endpoint: Box<Attachment>,
    },
    /// Detach a container from a network.
    Disconnect {
        /// Which.
        container: Target,
        /// Engine name of the network.
        network: String,
    },
    /// Leave a network and join it again at once, under other names. DNS learns names only from joining.
    Rejoin {
        /// Which.
        container: Target,
        /// Engine name of the network.
        network: String,
        /// The aliases.
        endpoint: Box<Attachment>,
        /// Join with the address that it has, so that its connections live on.
        keep_address: bool,
    },
    /// Give one that is known by no name any more the time to end what it has begun, as long as its successor stays well.
    Drain {
        /// The one that ends.
        container: Target,
        /// The one that has taken over.
        successor: Target,
        /// How long.
        lasts: Duration,
    },
    /// Wait until all containers of a service have got somewhere.
    Wait {
        /// Its containers.
        containers: Vec<Target>,
        /// Where.
        until: Until,
        /// How long they have to stay there.
        stays: Duration,
    },
}

/// What cannot be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Blocked {
    /// What.
    pub what: What,
    /// Name of the object or service.
    pub name: String,
    /// Why, and what to do about it, as a sentence.
    pub why: String,
}

/// Kinds of blocked things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A container's name is somebody else's.
    ContainerName,
    /// A network of this name is somebody else's.
    NetworkName,
    /// A volume of this name is somebody else's.
    VolumeName,
    /// An external network does not exist.
    ExternalNetwork,
    /// An external volume does not exist.
    ExternalVolume,
    /// A service that keeps failing is left alone for now.
    Held,
    /// A service that depends on something blocked.
    Dependent,
}

impl Plan {
    /// Nothing is to be done. There may still be blocked things.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Everything can be done.
    pub fn is_whole(&self) -> bool {
        self.blocked.is_empty()
    }

    /// The ends of containers that others have taken over from, where no other step waits for them: nobody needs to wait for
    /// these, and whoever plans again finds them again.
    pub fn aftermath(&self) -> BTreeSet<StepId> {
        let mut ends = BTreeSet::new();
        for step in &self.steps {
            let is_end = match step.action {
                Action::Drain { .. } => true,
                Action::Stop { .. } | Action::Rename { .. } | Action::Remove { .. } => {
                    !step.needs.is_disjoint(&ends)
                }
                _ => false,
            };
            if is_end {
                ends.insert(step.id);
            }
        }
        // What a step needs stands before it, so one pass from the end finds all that others wait for.
        for step in self.steps.iter().rev() {
            if !ends.contains(&step.id) {
                ends.retain(|end| !step.needs.contains(end) && !step.after.contains(end));
            }
        }
        ends
    }

    /// Whether nothing is to be done but the [aftermath](Self::aftermath).
    pub fn is_settled(&self) -> bool {
        self.aftermath().len() == self.steps.len()
    }

    /// Services that steps are about.
    pub fn services(&self) -> BTreeSet<&str> {
        self.steps.iter().filter_map(|step| step.service.as_deref()).collect()
    }

    /// The plan as sentences, in an order in which it could be done, then what is blocked and what is noted.
    pub fn describe(&self) -> Vec<String> {
        let steps = self.steps.iter().map(Step::to_string);
        let blocked = self.blocked.iter().map(Blocked::to_string);
        steps.chain(blocked).chain(self.notes.iter().cloned()).collect()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.action, self.reason)
    }
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.what {
            What::ContainerName => "container",
            What::NetworkName | What::ExternalNetwork => "network",
            What::VolumeName | What::ExternalVolume => "volume",
            What::Held | What::Dependent => "service",
        };
        write!(f, "cannot go on with {what} {}: {}", self.name, self.why)
    }
}

impl Action {
    /// Whether it only waits, which costs the engine nothing.
    pub fn is_wait(&self) -> bool {
        matches!(self, Self::Wait { .. } | Self::Drain { .. })
    }

    /// The container that it does something to, if it is one that is or will be there.
    pub fn about(&self) -> Option<&Target> {
        match self {
            Self::Start { container }
            | Self::Stop { container }
            | Self::Unpause { container }
            | Self::Remove { container }
            | Self::Rename { container, .. }
            | Self::Update { container, .. }
            | Self::Connect { container, .. }
            | Self::Rejoin { container, .. }
            | Self::Disconnect { container, .. } => Some(container),
            Self::CreateNetwork { .. }
            | Self::RemoveNetwork { .. }
            | Self::CreateVolume { .. }
            | Self::CreateContainer { .. }
            | Self::Drain { .. }
            | Self::Wait { .. } => None,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateNetwork { name, .. } => write!(f, "create network {name}"),
            Self::RemoveNetwork { name, .. } => write!(f, "remove network {name}"),
            Self::CreateVolume { name, .. } => write!(f, "create volume {name}"),
            Self::CreateContainer { name, .. } => write!(f, "create {name}"),
            Self::Start { container } => write!(f, "start {}", container.name),
            Self::Stop { container } => write!(f, "stop {}", container.name),
            Self::Unpause { container } => write!(f, "unpause {}", container.name),
            Self::Remove { container } => write!(f, "remove {}", container.name),
            Self::Rename { container, to } => write!(f, "rename {} to {to}", container.name),
            Self::Update { container, .. } => write!(f, "update {}", container.name),
            Self::Connect { container, network, .. } => write!(f, "connect {} to {network}", container.name),
            Self::Disconnect { container, network } => {
                write!(f, "disconnect {} from {network}", container.name)
            }
            Self::Rejoin { container, network, endpoint, .. } if endpoint.aliases.is_empty() => {
                write!(f, "take the names of {} in {network} away", container.name)
            }
            Self::Rejoin { container, network, .. } => {
                write!(f, "give {} its names in {network}", container.name)
            }
            Self::Drain { container, lasts, .. } => {
                write!(f, "let {} end what it has begun for {lasts:?}", container.name)
            }
            Self::Wait { containers, until, stays } => {
                let names: Vec<_> = containers.iter().map(|target| target.name.as_str()).collect();
                let until = match until {
                    Until::Healthy => "healthy",
                    Until::Completed => "completed",
                };
                write!(f, "wait until {} {until}", names.join(", "))?;
                if stays.is_zero() { Ok(()) } else { write!(f, " for {stays:?}") }
            }
        }
    }
}
