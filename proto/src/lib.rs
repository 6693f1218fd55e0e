//! The protocols of Kedge, generated from `proto/*.proto`; nothing else is in here.
//!
//! Compatibility: fields are only ever added, numbers are never reused, and both ends say in their first
//! message what they can. An unknown field or enum value is never an error.
#![allow(missing_docs, clippy::all, clippy::unwrap_used)]

/// What is said about a host everywhere: status, events, problems.
pub mod v1 {
    tonic::include_proto!("kedge.v1");
}

/// Host to hub.
pub mod tether {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("kedge.tether.v1");
    }
}

/// Command line to daemon.
pub mod local {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("kedge.local.v1");
    }
}

/// Vendor's command line to hub.
pub mod hub {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("kedge.hub.v1");
    }
}

/// Within a support session.
pub mod support {
    /// Version 1.
    pub mod v1 {
        tonic::include_proto!("kedge.support.v1");
    }
}

/// The protocol number both ends speak.
pub const PROTOCOL: u32 = 1;

/// Enums by name, as JSON and tables show them: `rolling_back`, `healthy`. A value that this version does
/// not know keeps its number: `phase 17`.
pub mod name {
    use crate::v1::{Health, Phase};

    /// The name of a [`Phase`] field; `unspecified` where it was not set.
    pub fn of_phase(value: i32) -> String {
        let known = Phase::try_from(value).map(|phase| phase.as_str_name());
        known.map_or_else(|_| format!("phase {value}"), |name| plain(name, "PHASE_"))
    }

    /// The name of a [`Health`] field; `unspecified` where it was not set.
    pub fn of_health(value: i32) -> String {
        let known = Health::try_from(value).map(|health| health.as_str_name());
        known.map_or_else(|_| format!("health {value}"), |name| plain(name, "HEALTH_"))
    }

    fn plain(name: &str, prefix: &str) -> String {
        name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
    }

    pub(crate) fn phase<S: serde::Serializer>(value: &i32, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&of_phase(*value))
    }

    pub(crate) fn health<S: serde::Serializer>(value: &i32, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&of_health(*value))
    }
}

#[cfg(test)]
mod tests {
    use crate::{local, v1};

    #[test]
    fn enums_are_shown_by_name_and_unknown_ones_by_number() {
        let status = v1::DeploymentStatus {
            phase: v1::Phase::RollingBack.into(),
            health: 99,
            ..v1::DeploymentStatus::default()
        };
        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["phase"], "rolling_back");
        assert_eq!(json["health"], "health 99");
        assert_eq!(crate::name::of_phase(0), "unspecified");
    }

    #[test]
    fn a_progress_message_is_one_flat_object() {
        let done = local::v1::Done { message: "ready".into(), ..local::v1::Done::default() };
        let progress = local::v1::Progress { body: Some(local::v1::progress::Body::Done(done)) };
        let json = serde_json::to_value(&progress).unwrap();
        assert_eq!(json["done"]["message"], "ready");
        assert_eq!(serde_json::to_string(&local::v1::Progress::default()).unwrap(), "null");
    }
}
