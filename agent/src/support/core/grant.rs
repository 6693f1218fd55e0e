//! A grant, from the request to the end of its session: the state machine.
//!
//! ```text
//! Requested ──approve──▶ Approved ──open──▶ Open ──▶ Closing(reason) ──cleaned──▶ Closed(reason)
//!     ╰──────deny, expiry, reboot, kill switch──────────────────────────────────────────▲
//! ```
//!
//! Every arrow is written down and flushed before its effect. There is one arrow into `Open`, and none out of it but
//! towards the end: what a restart finds open is closing.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use kedge_bundle::digest::Digest;
use kedge_bundle::support::{Request, Terms};
use serde::{Deserialize, Serialize};

use super::Moment;
use super::refusal::Refusal;
use crate::guard::support::Mode;

/// Why a session is over, or never began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The customer said no.
    Denied,
    /// Nobody opened it in time.
    Expired,
    /// Its time was up.
    Deadline,
    /// The engineer ended it.
    Engineer,
    /// The customer ended it.
    Customer,
    /// `kedge support off`.
    KillSwitch,
    /// The line to the hub, or to the engineer, was lost.
    TetherLost,
    /// As many bytes have passed as were permitted, or as much was begun as in any session.
    Quota,
    /// Nothing happened for too long.
    Idle,
    /// What happens could not be written down.
    RecorderFailed,
    /// A message of the engineer's was changed, replayed or reordered on its way.
    Tampered,
    /// The agent was started anew.
    Restarted,
    /// The machine was started anew.
    Rebooted,
    /// The vendor's key that signed for it, or the customer's rules that permitted it, count no more.
    Withdrawn,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Denied => "the customer denied it",
            Self::Expired => "nobody opened it in time",
            Self::Deadline => "its time was up",
            Self::Engineer => "the engineer ended it",
            Self::Customer => "the customer ended it",
            Self::KillSwitch => "support was switched off",
            Self::TetherLost => "the connection was lost",
            Self::Quota => "as many bytes have passed, or as many channels were opened, as are permitted",
            Self::Idle => "nothing happened for too long",
            Self::RecorderFailed => "the recording could not be written",
            Self::Tampered => "a message was tampered with on its way",
            Self::Restarted => "the agent was restarted",
            Self::Rebooted => "the machine was restarted",
            Self::Withdrawn => "the vendor's key or the customer's rules permit it no more",
        })
    }
}

/// Where a grant stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The vendor asked, the customer has not answered.
    Requested,
    /// Both consent; nothing has begun.
    Approved(Consent),
    /// The session runs.
    Open(Consent, Moment),
    /// It runs no more; what it left is being removed.
    Closing(Reason),
    /// Nothing is left of it.
    Closed(Reason),
}

/// The customer's yes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// Who said it.
    pub by: String,
    /// On which terms: never wider than the request's.
    pub terms: Terms,
    /// What guard.toml wanted when it was said; records of before this was kept do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub under: Option<Mode>,
    /// The window that it was said for beforehand: it counts for nothing after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
}

/// The end of a window, by the calendar and by the clock that nobody can set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// As guard.toml names it.
    pub until: Timestamp,
    /// The same, as it was when the yes was said.
    pub at: Moment,
}

/// Who says yes where guard.toml does.
const BEFOREHAND: &str = "guard.toml, beforehand";

impl Consent {
    /// That of a person, on these terms, as this mode wants it.
    pub fn of(by: String, terms: Terms, under: Mode) -> Self {
        Self { by, terms, under: Some(under), window: None }
    }

    /// That of guard.toml for a window that is open now.
    pub fn beforehand(terms: Terms, until: Timestamp, wall: Timestamp, now: &Moment) -> Self {
        let left = Duration::try_from(until.duration_since(wall)).unwrap_or_default();
        let at = Moment { since: now.since.saturating_add(left), ..now.clone() };
        let window = Some(Window { until, at });
        Self { by: BEFOREHAND.to_owned(), terms, under: Some(Mode::Window), window }
    }

    /// How long its window is still open, by whichever clock is ahead; `None` where a person has consented.
    fn left(&self, wall: Timestamp, now: &Moment) -> Option<Duration> {
        match &self.window {
            Some(window) => {
                let by_calendar = Duration::try_from(window.until.duration_since(wall)).unwrap_or_default();
                Some(by_calendar.min(window.at.after(now).unwrap_or_default()))
            }
            // Records of before windows were kept do not say which one it was.
            None => (self.by == BEFOREHAND).then_some(Duration::ZERO),
        }
    }
}

/// What happens to a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The customer says yes to these bytes.
    Approve {
        /// What they saw.
        digest: Digest,
        /// Who, and on which terms.
        consent: Consent,
    },
    /// The customer says no.
    Deny,
    /// The engineer has come and proved to be who the request names. The time that never falls.
    Open(Timestamp),
    /// It must end.
    End(Reason),
    /// What the session left has been removed.
    Cleaned,
    /// The agent has started.
    Start,
    /// Some time has passed. The time that never falls.
    Tick(Timestamp),
}

/// A request, and what has become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What the vendor signed.
    pub request: Request,
    /// Digest of the signed bytes.
    pub digest: Digest,
    /// The signed file.
    pub file: String,
    /// When it came.
    pub received: Moment,
    /// Where it stands.
    pub phase: Phase,
}

impl Grant {
    /// One that was just asked for.
    pub fn requested(request: Request, digest: Digest, file: String, received: Moment) -> Self {
        Self { request, digest, file, received, phase: Phase::Requested }
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.request.grant_id
    }

    /// What becomes of it; the same when the event says nothing new.
    ///
    /// # Errors
    /// [`Refusal`] when the event may not happen now; nothing becomes of it then.
    pub fn after(&self, event: &Event, now: &Moment) -> Result<Self, Refusal> {
        let phase = match (&self.phase, event) {
            (Phase::Requested, Event::Approve { digest, consent }) => {
                if *digest != self.digest {
                    return Err(Refusal::OtherBytes);
                }
                if let Some(beyond) = consent.terms.beyond(&self.request.terms) {
                    return Err(Refusal::Wider(beyond));
                }
                consent.terms.check().map_err(Refusal::Wider)?;
                Phase::Approved(consent.clone())
            }
            (Phase::Approved(consent), Event::Open(wall)) => {
                if let Some(reason) = self.lapsed(*wall, now) {
                    return Err(Refusal::Over(reason));
                }
                let mut consent = consent.clone();
                if let Some(left) = consent.left(*wall, now) {
                    // Not a moment longer than its window; counted like every session's time.
                    let lasts = &mut consent.terms.max_session_seconds;
                    *lasts = left.as_secs().min(*lasts);
                }
                Phase::Open(consent, now.clone())
            }
            (Phase::Requested | Phase::Approved(_), Event::Deny) => Phase::Closed(Reason::Denied),
            (Phase::Requested | Phase::Approved(_), Event::End(reason)) => Phase::Closed(*reason),
            (Phase::Requested | Phase::Approved(_), Event::Tick(wall)) => match self.lapsed(*wall, now) {
                Some(reason) => Phase::Closed(reason),
                None => self.phase.clone(),
            },
            (Phase::Requested | Phase::Approved(_), Event::Start) if now.after(&self.received).is_none() => {
                Phase::Closed(Reason::Rebooted)
            }
            (Phase::Requested | Phase::Approved(_), Event::Start) => self.phase.clone(),
            (Phase::Open(..), Event::End(reason)) => Phase::Closing(*reason),
            // Said late, it is a no all the same.
            (Phase::Open(..), Event::Deny) => Phase::Closing(Reason::Customer),
            (Phase::Open(..), Event::Start) => Phase::Closing(Reason::Restarted),
            (Phase::Open(consent, opened), Event::Tick(_)) => match ends_in(&consent.terms, opened, now) {
                None => Phase::Closing(Reason::Rebooted),
                Some(Duration::ZERO) => Phase::Closing(Reason::Deadline),
                Some(_) => self.phase.clone(),
            },
            (Phase::Closing(reason), Event::Cleaned) => Phase::Closed(*reason),
            // The end is the end, whatever else is said; the first reason stays.
            (Phase::Closing(_), Event::End(_) | Event::Start | Event::Tick(_))
            | (Phase::Closed(_), Event::End(_) | Event::Start | Event::Tick(_) | Event::Cleaned) => {
                self.phase.clone()
            }
            (
                Phase::Closing(reason) | Phase::Closed(reason),
                Event::Approve { .. } | Event::Deny | Event::Open(_),
            ) => {
                return Err(Refusal::Over(*reason));
            }
            (Phase::Requested, Event::Open(_)) => return Err(Refusal::State("not approved".into())),
            (Phase::Approved(_), Event::Approve { .. }) => {
                return Err(Refusal::State("approved already".into()));
            }
            (Phase::Open(..), Event::Approve { .. } | Event::Open(_)) => {
                return Err(Refusal::State("open already".into()));
            }
            (Phase::Requested | Phase::Approved(_) | Phase::Open(..), Event::Cleaned) => {
                return Err(Refusal::State("not closing".into()));
            }
        };
        Ok(Self { phase, ..self.clone() })
    }

    /// Why it can no longer be opened: the date it names has come, the time between its two dates has passed here, or the window
    /// that it was approved for is over.
    fn lapsed(&self, wall: Timestamp, now: &Moment) -> Option<Reason> {
        let Some(waited) = now.after(&self.received) else { return Some(Reason::Rebooted) };
        let span = self.request.not_after.duration_since(self.request.issued);
        let span = Duration::try_from(span).unwrap_or_default();
        let shut = match &self.phase {
            Phase::Approved(consent) => consent.left(wall, now).is_some_and(|left| left.as_secs() == 0),
            _ => false,
        };
        (wall > self.request.not_after || waited > span || shut).then_some(Reason::Expired)
    }

    /// Whether the session runs or may yet.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Closing(_) | Phase::Closed(_))
    }
}

/// How long a session opened then may still last; `None` when the machine was started anew in between.
pub fn ends_in(terms: &Terms, opened: &Moment, now: &Moment) -> Option<Duration> {
    let lasts = Duration::from_secs(terms.max_session_seconds);
    now.after(opened).map(|passed| lasts.saturating_sub(passed))
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use kedge_bundle::support::testing::request;
    use kedge_bundle::testing::{Vendor, now};

    use super::*;

    const RECEIVED: u64 = 500;
    /// From when the request was made until it may no longer be opened.
    const SPAN: u64 = 300;

    fn at(boot: &str, seconds: u64) -> Moment {
        Moment { boot: boot.into(), since: Duration::from_secs(seconds) }
    }

    /// One that was asked for, and the same approved.
    fn grants() -> [Grant; 2] {
        let mut request = request(&Vendor::new("support"), now());
        request.not_after = request.issued + SignedDuration::from_secs(300);
        let (digest, terms) = (Digest::of(b"request"), request.terms.clone());
        let asked = Grant::requested(request, digest, String::new(), at("b", RECEIVED));
        let approve = Event::Approve { digest, consent: Consent::of("bea".into(), terms, Mode::Ask) };
        let approved = asked.after(&approve, &at("b", RECEIVED)).unwrap();
        [asked, approved]
    }

    #[test]
    fn a_grant_is_not_opened_after_its_date_nor_after_its_time_nor_after_a_reboot() {
        let [_, approved] = grants();
        let open = |later: i64, moment: &Moment| {
            approved.after(&Event::Open(now() + SignedDuration::from_secs(later)), moment)
        };
        let opened = open(300, &at("b", RECEIVED + SPAN)).unwrap();
        assert!(matches!(opened.phase, Phase::Open(..)));
        assert_eq!(open(301, &at("b", RECEIVED)), Err(Refusal::Over(Reason::Expired)));
        // Whatever the wall clock was set to.
        assert_eq!(open(-9000, &at("b", RECEIVED + SPAN + 1)), Err(Refusal::Over(Reason::Expired)));
        assert_eq!(open(0, &at("c", 1)), Err(Refusal::Over(Reason::Rebooted)));
    }

    #[test]
    fn a_no_ends_what_it_does_not_prevent() {
        let [asked, approved] = grants();
        let moment = at("b", RECEIVED);
        let open = approved.after(&Event::Open(now()), &moment).unwrap();
        let closed = |grant: &Grant| grant.after(&Event::Deny, &moment).map(|grant| grant.phase);
        assert_eq!(closed(&asked), Ok(Phase::Closed(Reason::Denied)));
        assert_eq!(closed(&approved), Ok(Phase::Closed(Reason::Denied)));
        assert_eq!(closed(&open), Ok(Phase::Closing(Reason::Customer)));
    }

    #[test]
    fn what_waits_is_closed_by_a_reboot_and_by_its_time_and_by_nothing_else() {
        for grant in grants() {
            let after = |event: &Event, moment: &Moment| grant.after(event, moment).unwrap().phase;
            let (soon, late) = (at("b", RECEIVED + SPAN), at("b", RECEIVED + SPAN + 1));
            assert_eq!(after(&Event::Start, &soon), grant.phase);
            assert_eq!(after(&Event::Start, &at("c", 1)), Phase::Closed(Reason::Rebooted));
            assert_eq!(after(&Event::Tick(now()), &soon), grant.phase);
            assert_eq!(after(&Event::Tick(now()), &late), Phase::Closed(Reason::Expired));
            assert_eq!(after(&Event::Tick(now()), &at("c", 1)), Phase::Closed(Reason::Rebooted));
        }
    }

    #[test]
    fn what_was_approved_beforehand_opens_in_its_window_only_and_ends_with_it() {
        let [asked, _] = grants();
        let approved = |until: i64, received: &Moment| {
            let until = now() + SignedDuration::from_secs(until);
            let consent = Consent::beforehand(asked.request.terms.clone(), until, now(), received);
            asked.after(&Event::Approve { digest: asked.digest, consent }, received).unwrap()
        };
        let grant = approved(40, &at("b", RECEIVED));
        let open = |later: i64, moment: &Moment| {
            grant.after(&Event::Open(now() + SignedDuration::from_secs(later)), moment)
        };
        let lasts = |grant: Grant| match grant.phase {
            Phase::Open(consent, _) => consent.terms.max_session_seconds,
            phase => panic!("{phase:?}"),
        };
        // Asked for were 60 s.
        assert_eq!(lasts(open(0, &at("b", RECEIVED)).unwrap()), 40);
        assert_eq!(lasts(open(30, &at("b", RECEIVED + 30)).unwrap()), 10);
        // Whichever clock is ahead.
        assert_eq!(lasts(open(-9000, &at("b", RECEIVED + 39)).unwrap()), 1);
        assert_eq!(lasts(open(35, &at("b", RECEIVED)).unwrap()), 5);
        let over = Err(Refusal::Over(Reason::Expired));
        assert_eq!(open(40, &at("b", RECEIVED)), over);
        assert_eq!(open(-9000, &at("b", RECEIVED + 40)), over);
        let ticked = grant.after(&Event::Tick(now()), &at("b", RECEIVED + 40)).unwrap();
        assert_eq!(ticked.phase, Phase::Closed(Reason::Expired));
        // A long window makes no session longer than was asked for.
        let long = approved(200, &at("b", RECEIVED));
        assert_eq!(lasts(long.after(&Event::Open(now()), &at("b", RECEIVED)).unwrap()), 60);
        let opened = open(30, &at("b", RECEIVED + 30)).unwrap();
        let ended = opened.after(&Event::Tick(now()), &at("b", RECEIVED + 40)).unwrap();
        assert_eq!(ended.phase, Phase::Closing(Reason::Deadline));
    }

    #[test]
    fn a_record_that_does_not_say_its_window_is_not_opened() {
        let [_, approved] = grants();
        let mut record = serde_json::to_value(&approved).unwrap();
        assert!(!record.to_string().contains("window"));
        let by_a_person: Grant = serde_json::from_value(record.clone()).unwrap();
        assert!(by_a_person.after(&Event::Open(now()), &at("b", RECEIVED)).is_ok());
        let consent = record["phase"]["approved"].as_object_mut().unwrap();
        consent.remove("under");
        consent.insert("by".into(), BEFOREHAND.into());
        let old: Grant = serde_json::from_value(record).unwrap();
        let refused = old.after(&Event::Open(now()), &at("b", RECEIVED));
        assert_eq!(refused, Err(Refusal::Over(Reason::Expired)));
    }
}
