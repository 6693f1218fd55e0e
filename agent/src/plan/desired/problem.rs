//! What stands in the way of running a project here.

/// Why a project cannot run on this host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The bundle has no such image.
    #[error("service {service}: the image {image} is not in the release")]
    NoImage {
        /// Service.
        service: String,
        /// Reference as written.
        image: String,
    },
    /// A file that is mounted does not exist.
    #[error("service {service}: {what} is not in the release or on this host")]
    NoFile {
        /// Service.
        service: String,
        /// Which file.
        what: String,
    },
    /// Something that is asked for and is not there.
    #[error("service {service}: {what}")]
    Unresolved {
        /// Service.
        service: String,
        /// What refers to what.
        what: String,
    },
    /// A dependency could never be met.
    #[error(
        "service {service}: waits for {on} to be healthy, and {on} has no health check; add one or use service_started"
    )]
    NeverHealthy {
        /// Service that waits.
        service: String,
        /// Service that has no health check.
        on: String,
    },
    /// A fixed name for several containers.
    #[error("service {service}: container_name allows one container, {replicas} are asked for")]
    FixedName {
        /// Service.
        service: String,
        /// How many.
        replicas: u32,
    },
    /// Two containers of one name.
    #[error("services {service} and {other} both name their container {name}")]
    SameName {
        /// One service.
        service: String,
        /// The other.
        other: String,
        /// The name.
        name: String,
    },
    /// Dependencies that lead back to themselves.
    #[error("services depend on each other in a circle: {0}")]
    Circle(String),
}
