//! Reading what services have logged.

use kedge_bundle::support::Target;
use kedge_proto::support::v1::Logs;

use super::channel::Channel;
use super::container;
use super::pour::{Source, pour};
use crate::engine::types::LogQuery;
use crate::engine::{Container, Error};
use crate::problem::Problem;
use crate::redact::Redactor;

/// Sends the logs of the target's containers.
pub(super) async fn read(
    channel: &Channel,
    target: &Target,
    wanted: &Logs,
    redactor: &Redactor,
) -> Result<i64, Problem> {
    let world = &channel.support.inner.world;
    let failed = |e: Error| Problem::from_error(e.code(), &e);
    let containers = container::targets(world, target).await?;
    let since = match wanted.since.as_str() {
        "" => None,
        text => Some(crate::host::parse_time(text)?),
    };
    let query = LogQuery { follow: wanted.follow, tail: u64::try_from(wanted.tail).ok(), since };
    let mut sources = Vec::new();
    for container in &containers {
        let outputs =
            world.engine.log_output(&container.id, &query, wanted.timestamps).await.map_err(failed)?;
        sources.push((Source::new(Some(label(container)), wanted.timestamps, redactor), outputs));
    }
    // Cancel safe: what has not been said by then is not said.
    tokio::select! {
        outcome = pour(channel, sources, wanted.follow) => outcome.map(|()| 0),
        () = channel.cancel.cancelled() => Ok(0),
    }
}

fn label(container: &Container) -> String {
    format!("{}-{}", container.service().unwrap_or("?"), container.number().unwrap_or(1))
}
