//! Support sessions, asked for from this host.

use kedge_bundle::support::{Scope, Target, Terms};
use kedge_proto::local::v1 as local;

use super::Host;
use crate::codes;
use crate::problem::Problem;
use crate::support::{Answer, Support, diagnostics};

impl Host {
    /// Support sessions.
    pub fn support(&self) -> &Support {
        &self.inner.support
    }

    /// Those there are, newest first; one where one is named, with the signed file.
    ///
    /// # Errors
    /// [`codes::NO_SUPPORT_SESSION`].
    pub async fn support_sessions(&self, id: &str) -> Result<local::SupportSessionsReply, Problem> {
        let support = self.support();
        let grants = if id.is_empty() { support.grants().await } else { vec![support.find(id).await?] };
        let sessions = grants.iter().map(|grant| support.shown(grant, !id.is_empty())).collect();
        Ok(local::SupportSessionsReply { sessions, off: support.is_off(), mode: support.mode().to_owned() })
    }

    /// The customer's answer to a request. `by` is who the socket says it is.
    ///
    /// # Errors
    /// Why it does not count.
    pub async fn support_decide(
        &self,
        request: &local::SupportDecideRequest,
        by: &str,
    ) -> Result<local::SupportSession, Problem> {
        let support = self.support();
        let answer = if request.deny {
            Answer::Deny
        } else if !request.approval.is_empty() {
            Answer::Signed(&request.approval)
        } else {
            let asked = support.find(&request.grant_id).await?.request.terms;
            let narrowed = request.narrowed.as_ref().map(|to| narrow(asked, to)).transpose()?;
            let seen = Some(request.seen_sha256.as_str()).filter(|seen| !seen.is_empty());
            Answer::Approve { by, seen, narrowed }
        };
        let grant = support.decide(&request.grant_id, answer).await?;
        Ok(support.shown(&grant, false))
    }

    /// A diagnostics bundle of everything here, for a file that the customer sends themselves.
    ///
    /// # Errors
    /// When not even its beginning can be had.
    pub async fn support_bundle(&self, wish: &diagnostics::Wish) -> Result<Vec<diagnostics::Piece>, Problem> {
        let status = self.status().borrow().clone();
        let target = |name: &String| Target { deployment: name.clone(), service: None };
        let targets = status.deployments.iter().map(|deployment| target(&deployment.name)).collect();
        let owner = diagnostics::Owner::customer(self.support());
        // Whoever goes away is waited for no longer, and neither is what runs for them.
        let _guard = owner.cancel.clone().drop_guard();
        diagnostics::make(self.support(), &owner, &targets, wish).await
    }
}

/// Terms as requested, but for what is said.
fn narrow(asked: Terms, to: &local::SupportTerms) -> Result<Terms, Problem> {
    let wrong = |why: String| Problem::new(&codes::SUPPORT_APPROVAL, why);
    let mut terms = asked;
    if !to.scopes.is_empty() {
        let scopes = to.scopes.iter().map(|scope| scope.parse::<Scope>());
        terms.scopes = scopes.collect::<Result<_, _>>().map_err(wrong)?;
    }
    if !to.targets.is_empty() {
        let targets = to.targets.iter().map(|target| target.parse::<Target>());
        terms.targets = targets.collect::<Result<_, _>>().map_err(wrong)?;
    }
    if to.max_session_seconds > 0 {
        terms.max_session_seconds = to.max_session_seconds;
    }
    if to.max_bytes > 0 {
        terms.max_bytes = to.max_bytes;
    }
    Ok(terms)
}
