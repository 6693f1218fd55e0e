//! What would be done to a deployment, asked without doing it.

use kedge_proto::local::v1::Diff;

use super::Host;
use crate::deploy::preview;
use crate::problem::Problem;

impl Host {
    /// What would be done to bring a deployment to its active release. Changes nothing.
    ///
    /// # Errors
    /// When there is no such deployment, or the engine cannot be asked.
    pub async fn diff(&self, deployment: &str) -> Result<Diff, Problem> {
        self.handle(deployment)?;
        preview::of_active(&self.inner.world, deployment).await
    }
}
