//! What plain `docker compose` needs, asked for by a person who leaves.

use kedge_proto::local::v1::ExportReply;

use super::Host;
use crate::deploy::export;
use crate::problem::Problem;

impl Host {
    /// Files with which plain `docker compose` goes on with a deployment. Changes nothing.
    ///
    /// # Errors
    /// When there is no such deployment, or nothing of it is active.
    pub async fn export(&self, deployment: &str, secrets: bool, by: &str) -> Result<ExportReply, Problem> {
        self.handle(deployment)?;
        export::of_active(&self.inner.world, deployment, secrets, by).await
    }
}
