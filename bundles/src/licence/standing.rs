//! What a licence amounts to at a moment, and what that permits.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Licence, Limits};

/// What a product asks of licences: `x-kedge.licence` of its compose file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Whether it can be installed only with one.
    #[serde(default)]
    pub required: bool,
    /// Compose profiles that are enabled only by a feature: feature to profile.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub features: std::collections::BTreeMap<String, String>,
    /// Services that find the licence file at [`MOUNT`]; all where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub services: Option<Vec<String>>,
}

impl Terms {
    /// Checks the rules that terms keep by themselves.
    ///
    /// # Errors
    /// The rule that is broken.
    pub fn check(&self) -> Result<(), String> {
        if self.features.len() > MAX_FEATURES || self.services.as_ref().is_some_and(|all| all.len() > 512) {
            return Err("licence: more features or services than anybody means".into());
        }
        for (feature, profile) in &self.features {
            crate::roles::name("licence.features", feature)?;
            crate::roles::text("licence.features", profile, 128)?;
        }
        Ok(())
    }

    /// The profiles that these features switch on.
    #[must_use]
    pub fn profiles(&self, features: &std::collections::BTreeSet<String>) -> Vec<String> {
        let on = self.features.iter().filter(|(feature, _)| features.contains(*feature));
        on.map(|(_, profile)| profile.clone()).collect()
    }

    /// Whether a service finds the licence at [`MOUNT`].
    #[must_use]
    pub fn delivers_to(&self, service: &str) -> bool {
        self.services.as_ref().is_none_or(|named| named.iter().any(|one| one == service))
    }
}

/// Most features that a product knows.
const MAX_FEATURES: usize = 256;

/// Folder inside of containers in which the licence, as it was signed, is the file `licence.json`.
pub const MOUNT: &str = "/run/kedge/licence";

/// What a licence amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It counts.
    Valid {
        /// Until then.
        until: Timestamp,
    },
    /// It has expired and still counts.
    Grace {
        /// When it expired.
        expired: Timestamp,
        /// Until when it counts.
        until: Timestamp,
    },
    /// It does not count: what runs goes on, nothing more is begun.
    Restricted(Restriction),
}

/// Why a licence does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Restriction {
    /// There is none.
    #[error("there is no licence for {0}")]
    Missing(String),
    /// It is for another product.
    #[error("the licence is for {0}")]
    Product(String),
    /// It names sites, and not this one.
    #[error("the licence is for {}, not for this host's site", .0.join(", "))]
    Site(Vec<String>),
    /// Its time has not come.
    #[error("the licence counts from {0} on")]
    NotYet(Timestamp),
    /// It has expired, and so has its grace.
    #[error("the licence expired at {expired} and its grace ended at {ended}")]
    Expired {
        /// When it expired.
        expired: Timestamp,
        /// When its grace ended.
        ended: Timestamp,
    },
}

/// What a licence is judged by.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The product that is to run.
    pub product: &'a str,
    /// This host's site, if it has one.
    pub site: Option<&'a str>,
    /// Epoch of the newest root, and when that root was issued.
    pub root: (u64, Timestamp),
    /// The time, defended against clocks that are set back: [`crate::clock`].
    pub now: Timestamp,
}

/// Judges a verified licence, or that there is none.
#[must_use]
pub fn standing(licence: Option<&Licence>, place: &Place<'_>) -> Standing {
    let Some(licence) = licence else {
        return Standing::Restricted(Restriction::Missing(place.product.to_owned()));
    };
    if licence.product != place.product {
        return Standing::Restricted(Restriction::Product(licence.product.clone()));
    }
    let named = |site: &str| licence.sites.iter().any(|one| one == site);
    if !licence.sites.is_empty() && !place.site.is_some_and(named) {
        return Standing::Restricted(Restriction::Site(licence.sites.clone()));
    }
    if place.now < licence.not_before {
        return Standing::Restricted(Restriction::NotYet(licence.not_before));
    }
    let (epoch, issued) = place.root;
    let expires = if licence.epoch < epoch { licence.expires.min(issued) } else { licence.expires };
    let grace = SignedDuration::from_hours(24 * i64::from(licence.grace_days));
    let ended = expires.saturating_add(grace).unwrap_or(Timestamp::MAX);
    if place.now < expires {
        Standing::Valid { until: expires }
    } else if place.now < ended {
        Standing::Grace { expired: expires, until: ended }
    } else {
        Standing::Restricted(Restriction::Expired { expired: expires, ended })
    }
}

impl Standing {
    /// `valid`, `grace` or `restricted`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Valid { .. } => "valid",
            Self::Grace { .. } => "grace",
            Self::Restricted(_) => "restricted",
        }
    }

    /// Why nothing may be begun, if so.
    #[must_use]
    pub const fn restriction(&self) -> Option<&Restriction> {
        match self {
            Self::Valid { .. } | Self::Grace { .. } => None,
            Self::Restricted(why) => Some(why),
        }
    }
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// A deployment that is not there, or a release other than the active one.
    Install,
    /// The active release with other parameters.
    Reconfigure,
}

/// Why a change is not permitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nothing may be begun.
    #[error(transparent)]
    Restricted(Restriction),
    /// More containers than before, when nothing may be begun.
    #[error("{wanted} containers instead of {now}: {why}")]
    ScaleUp {
        /// That are there.
        now: u32,
        /// That there would be.
        wanted: u32,
        /// Why not.
        why: Restriction,
    },
    /// More containers than the licence allows.
    #[error("{wanted} service containers; the licence allows {limit}")]
    Services {
        /// That there would be.
        wanted: u32,
        /// That may be.
        limit: u32,
    },
}

/// Whether a change is permitted. `now` and `wanted` are the containers that are there to stay, before and after it.
///
/// Fewer containers, and as many of the active release, are always permitted: going back, putting right and turning
/// down need no licence.
///
/// # Errors
/// [`Denied`].
pub fn permit(
    standing: &Standing,
    limits: Limits,
    change: Change,
    now: u32,
    wanted: u32,
) -> Result<(), Denied> {
    if let Standing::Restricted(why) = standing {
        return match change {
            Change::Install => Err(Denied::Restricted(why.clone())),
            Change::Reconfigure if wanted > now => Err(Denied::ScaleUp { now, wanted, why: why.clone() }),
            Change::Reconfigure => Ok(()),
        };
    }
    match limits.services {
        Some(limit) if wanted > limit && wanted > now => Err(Denied::Services { wanted, limit }),
        _ => Ok(()),
    }
}
