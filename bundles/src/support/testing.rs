//! A request in memory, for tests.

use jiff::{SignedDuration, Timestamp};

use super::{Request, Scope, Terms};
use crate::roles::{FORMAT, PublicKey};
use crate::testing::Vendor;

/// A request of this vendor that is good at `now`: logs and a shell of the deployment `shop`, for a minute.
#[must_use]
pub fn request(vendor: &Vendor, now: Timestamp) -> Request {
    Request {
        format: FORMAT,
        grant_id: "0123456789abcdef".repeat(2),
        key_id: PublicKey::new(&vendor.support_key.verifying_key(), None).id(),
        product: "hello".into(),
        host_key: "aa".repeat(32),
        agent_nonce: "bb".repeat(32),
        engineer: "ada".into(),
        session_key: "cc".repeat(32),
        ticket: "T-1".into(),
        reason: "it does not start".into(),
        terms: Terms {
            scopes: [Scope::Logs, Scope::Shell].into(),
            targets: ["shop".parse().unwrap_or_else(|_| unreachable!())].into(),
            max_session_seconds: 60,
            max_bytes: 1 << 20,
        },
        issued: now,
        not_after: now + SignedDuration::from_hours(1),
    }
}
