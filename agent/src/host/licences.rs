//! Licences, asked for from this host.

use super::Host;
use crate::licence::{self, Judged};
use crate::problem::Problem;

impl Host {
    /// Takes a licence; deployments that waited for one try again by themselves.
    ///
    /// # Errors
    /// Why it was refused.
    pub async fn install_licence(&self, file: &[u8]) -> Result<Judged, Problem> {
        licence::install(&self.inner.world, file).await
    }

    /// Every licence on this host and what it amounts to now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn licences(&self) -> Result<Vec<Judged>, Problem> {
        licence::all(&self.inner.world).await
    }
}
