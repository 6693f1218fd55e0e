//! What the customer says to it: on this host, or in a file that an approver has signed.

use kedge_bundle::support::Terms;
use kedge_bundle::support::approval::{self, Decision};

use super::core::grant::{Consent, Event, Grant, Reason};
use super::core::refusal::Refusal;
use super::{Support, notify, problem};
use crate::guard::support::Mode;
use crate::problem::Problem;

/// The customer's answer.
#[derive(Debug)]
pub enum Answer<'a> {
    /// Yes, by somebody on this host.
    Approve {
        /// Who, by the socket's credentials.
        by: &'a str,
        /// Digest of what they have seen.
        seen: Option<&'a str>,
        /// On narrower terms.
        narrowed: Option<Terms>,
    },
    /// No.
    Deny,
    /// A file.
    Signed(&'a [u8]),
}

impl Support {
    /// The customer's answer, given on this host by `by`, or in a file that an approver has signed.
    ///
    /// # Errors
    /// Why it does not count; audited too.
    pub async fn decide(&self, id: &str, answer: Answer<'_>) -> Result<Grant, Problem> {
        let grant = self.find(id).await?;
        let event = match self.event_of(&grant, answer) {
            Ok(event) => event,
            Err(refusal) => {
                let why = problem(refusal);
                self.refused(Some(grant.id().to_owned()), &why).await?;
                return Err(why);
            }
        };
        let answered = match self.step(grant.id(), &event).await {
            // A session that runs, or is about to, is told; what it was told counts already.
            Ok(grant) if event == Event::Deny => {
                self.end_for(grant.id(), Reason::Customer).await;
                self.until_closed(&[grant.id().to_owned()]).await;
                self.find(grant.id()).await
            }
            other => other,
        };
        match answered {
            Ok(grant) => {
                notify::of(&self.inner.world, &grant);
                Ok(grant)
            }
            Err(why) => {
                self.refused(Some(grant.id().to_owned()), &why).await?;
                Err(why)
            }
        }
    }

    fn event_of(&self, grant: &Grant, answer: Answer<'_>) -> Result<Event, Refusal> {
        let rules = &self.inner.world.rules.support;
        match answer {
            // No is always heard.
            Answer::Deny => Ok(Event::Deny),
            Answer::Approve { by, seen, narrowed } => {
                self.permitted()?;
                beforehand_only(rules.mode)?;
                if rules.mode == Mode::AskSigned {
                    let why =
                        "guard.toml wants an approval that an approver has signed: give it with --approval";
                    return Err(Refusal::Mode(why.into()));
                }
                if seen.is_some_and(|seen| seen != grant.digest.hex()) {
                    return Err(Refusal::OtherBytes);
                }
                let terms = narrowed.unwrap_or_else(|| grant.request.terms.clone());
                Ok(Event::Approve {
                    digest: grant.digest,
                    consent: Consent::of(by.to_owned(), terms, rules.mode),
                })
            }
            Answer::Signed(file) => {
                let (approval, key) = approval::read(&rules.approver_keys(), file)?;
                if approval.request != grant.digest || approval.grant_id != grant.id() {
                    return Err(Refusal::OtherBytes);
                }
                if approval.decision == Decision::Deny {
                    return Ok(Event::Deny);
                }
                self.permitted()?;
                beforehand_only(rules.mode)?;
                let by = format!("{} with the key of {key}", approval.approver);
                Ok(Event::Approve {
                    digest: approval.request,
                    consent: Consent::of(by, approval.terms, rules.mode),
                })
            }
        }
    }
}

/// In the `window` mode nobody's word is asked for, and none counts.
fn beforehand_only(mode: Mode) -> Result<(), Refusal> {
    if mode == Mode::Window {
        return Err(Refusal::Mode("guard.toml approves in its windows, and nobody does otherwise".into()));
    }
    Ok(())
}
