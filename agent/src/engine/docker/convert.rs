//! Small conversions that creating and inspecting share.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bollard::models::{HealthConfig, RestartPolicy, RestartPolicyNameEnum};
use jiff::Timestamp;
use kedge_compose::model::{Healthcheck, Restart};

/// Docker's maps have no order; ours do.
pub(super) fn ordered<V>(map: Option<HashMap<String, V>>) -> BTreeMap<String, V> {
    map.unwrap_or_default().into_iter().collect()
}

/// And back, `None` when empty.
pub(super) fn unordered<V: Clone>(map: &BTreeMap<String, V>) -> Option<HashMap<String, V>> {
    (!map.is_empty()).then(|| map.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// `None` when empty.
pub(super) fn some<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}

/// An empty string is none.
pub(super) fn text(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

/// Zero is none: that is how Docker writes "not set".
pub(super) fn number(value: Option<i64>) -> Option<i64> {
    value.filter(|value| *value != 0)
}

/// A size; what is not positive is none.
pub(super) fn size(value: Option<i64>) -> Option<u64> {
    value.and_then(|value| u64::try_from(value).ok()).filter(|value| *value > 0)
}

/// A size for Docker.
pub(super) fn signed(value: Option<u64>) -> Option<i64> {
    value.map(|value| i64::try_from(value).unwrap_or(i64::MAX))
}

/// A time; Docker writes "never" as the year 1.
pub(super) fn time(value: Option<&str>) -> Option<Timestamp> {
    value?.parse::<Timestamp>().ok().filter(|time| time.as_second() > 0)
}

/// `NAME=value` split; a bare name unsets.
pub(super) fn environment(list: Option<Vec<String>>) -> BTreeMap<String, Option<String>> {
    let split = |entry: String| match entry.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (entry, None),
    };
    list.unwrap_or_default().into_iter().map(split).collect()
}

fn nanos(duration: Option<Duration>) -> Option<i64> {
    duration.map(|duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
}

fn duration(nanos: Option<i64>) -> Option<Duration> {
    nanos.and_then(|nanos| u64::try_from(nanos).ok()).filter(|nanos| *nanos > 0).map(Duration::from_nanos)
}

/// A health check for Docker.
pub(super) fn health_config(check: &Healthcheck) -> HealthConfig {
    HealthConfig {
        test: some(&check.test),
        interval: nanos(check.interval),
        timeout: nanos(check.timeout),
        retries: check.retries.and_then(|retries| i64::try_from(retries).ok()),
        start_period: nanos(check.start_period),
        start_interval: nanos(check.start_interval),
    }
}

/// A health check from Docker; `None` when there is no test.
pub(super) fn healthcheck(config: Option<HealthConfig>) -> Option<Healthcheck> {
    let config = config?;
    let test = config.test.filter(|test| !test.is_empty())?;
    Some(Healthcheck {
        test,
        interval: duration(config.interval),
        timeout: duration(config.timeout),
        retries: config
            .retries
            .and_then(|retries| u64::try_from(retries).ok())
            .filter(|retries| *retries > 0),
        start_period: duration(config.start_period),
        start_interval: duration(config.start_interval),
    })
}

/// A restart policy for Docker.
pub(super) fn restart_policy(restart: Restart) -> RestartPolicy {
    let (name, retries) = match restart {
        Restart::No => (RestartPolicyNameEnum::NO, None),
        Restart::Always => (RestartPolicyNameEnum::ALWAYS, None),
        Restart::UnlessStopped => (RestartPolicyNameEnum::UNLESS_STOPPED, None),
        Restart::OnFailure { max_retries } => (RestartPolicyNameEnum::ON_FAILURE, max_retries.map(i64::from)),
    };
    RestartPolicy { name: Some(name), maximum_retry_count: retries }
}

/// A restart policy from Docker.
pub(super) fn restart(policy: Option<RestartPolicy>) -> Restart {
    let Some(policy) = policy else { return Restart::No };
    match policy.name {
        None | Some(RestartPolicyNameEnum::EMPTY | RestartPolicyNameEnum::NO) => Restart::No,
        Some(RestartPolicyNameEnum::ALWAYS) => Restart::Always,
        Some(RestartPolicyNameEnum::UNLESS_STOPPED) => Restart::UnlessStopped,
        Some(RestartPolicyNameEnum::ON_FAILURE) => {
            let retries = policy.maximum_retry_count.and_then(|retries| u32::try_from(retries).ok());
            Restart::OnFailure { max_retries: retries.filter(|retries| *retries > 0) }
        }
    }
}
