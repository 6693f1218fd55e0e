//! Looking again. Between a request, its approval and its opening guard.toml, the vendor's root and the time may have changed:
//! what was right once is not taken as right for good.

use jiff::Timestamp;
use kedge_bundle::roles::Root;
use kedge_bundle::support;

use super::Moment;
use super::grant::{Event, Grant, Phase, Reason, Window};
use super::refusal::Refusal;
use super::verify::in_window;
use crate::guard::support::{Mode, Support};

/// What is true of this host at this moment.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// The vendor's newest root, where one is known.
    pub root: Option<&'a Root>,
    /// The customer's rules.
    pub rules: &'a Support,
    /// The time that never falls.
    pub wall: Timestamp,
    /// The clock that nobody can set.
    pub now: &'a Moment,
    /// The kill switch is on.
    pub off: bool,
}

/// What becomes of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Next {
    /// The grant from now on.
    pub grant: Grant,
    /// Why it was ended instead of what the event was for.
    pub refused: Option<Refusal>,
}

/// As [`Grant::after`]; but what is approved, opened or found at a start is looked at again, and ended where it would no longer
/// be taken.
///
/// # Errors
/// [`Refusal`] when the event may not happen now; nothing becomes of the grant then.
pub fn next(place: &Place<'_>, grant: &Grant, event: &Event) -> Result<Next, Refusal> {
    let next = grant.after(event, place.now)?;
    let again = matches!(event, Event::Approve { .. } | Event::Open(_) | Event::Start) && !next.is_over();
    let refused = if again { holds(place, &next).err() } else { None };
    match refused {
        None => Ok(Next { grant: next, refused: None }),
        // What the switch does to grants is its own.
        Some(Refusal::Off) => Err(Refusal::Off),
        Some(refusal) => {
            let ended = grant.after(&Event::End(Reason::Withdrawn), place.now)?;
            Ok(Next { grant: ended, refused: Some(refusal) })
        }
    }
}

/// Whether a grant that was taken would be taken now, on the terms that were consented to.
///
/// # Errors
/// Why it would not.
pub fn holds(place: &Place<'_>, grant: &Grant) -> Result<(), Refusal> {
    let unknown = || Refusal::State("signed under a root that this host does not know".into());
    let read = support::read(place.root.ok_or_else(unknown)?, grant.file.as_bytes())?;
    if read.digest != grant.digest {
        return Err(Refusal::OtherBytes);
    }
    if place.off {
        return Err(Refusal::Off);
    }
    let rules = place.rules;
    if rules.mode == Mode::Deny {
        return Err(Refusal::Mode("guard.toml denies support sessions".into()));
    }
    let consent = match &grant.phase {
        Phase::Approved(consent) | Phase::Open(consent, _) => Some(consent),
        _ => None,
    };
    if let Some(consent) = consent {
        let as_wanted = consent.under.is_none_or(|under| under == rules.mode);
        if !as_wanted || (rules.mode == Mode::Window && consent.window.is_none()) {
            return Err(Refusal::Mode("guard.toml wants consent in another way than it was given".into()));
        }
        let shorter = |window: &Window| rules.window(place.wall).is_some_and(|until| until < window.until);
        if consent.window.as_ref().is_some_and(shorter) {
            return Err(Refusal::Mode(
                "guard.toml has made the window shorter that it was approved for".into(),
            ));
        }
    }
    let terms = consent.map_or(&grant.request.terms, |consent| &consent.terms);
    if let Some(beyond) = rules.beyond(terms) {
        return Err(Refusal::Ceiling(beyond));
    }
    in_window(rules, terms, place.wall)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::SignedDuration;
    use kedge_bundle::support::{Scope, testing::request};
    use kedge_bundle::testing::{Vendor, now};

    use super::super::grant::Consent;
    use super::*;

    struct World {
        vendor: Vendor,
        rules: Support,
        off: bool,
    }

    const ASK: &str = "mode = 'ask'\nscopes = ['logs', 'shell']";

    fn rules(text: &str) -> Support {
        toml::from_str(text).unwrap()
    }

    impl World {
        fn new() -> Self {
            Self { vendor: Vendor::new("support"), rules: rules(ASK), off: false }
        }

        fn moment() -> Moment {
            Moment { boot: "b".into(), since: Duration::from_secs(500) }
        }

        fn asked(&self) -> Grant {
            let request = request(&self.vendor, now());
            let file = request.sign(&[&self.vendor.support_key]).unwrap();
            let read = support::read(&self.vendor.roots[0], &file).unwrap();
            Grant::requested(request, read.digest, String::from_utf8(file).unwrap(), Self::moment())
        }

        fn yes(&self, grant: &Grant) -> Event {
            let consent = Consent::of("bea".into(), grant.request.terms.clone(), self.rules.mode);
            Event::Approve { digest: grant.digest, consent }
        }

        fn next(&self, grant: &Grant, event: &Event) -> Result<Next, Refusal> {
            let moment = Self::moment();
            let root = self.vendor.roots.last();
            let place = Place { root, rules: &self.rules, wall: now(), now: &moment, off: self.off };
            next(&place, grant, event)
        }
    }

    /// What becomes of a grant that was good, after a change: when it is approved, opened, and found asked for or approved.
    fn becomes(change: impl Fn(&mut World)) -> [Result<Next, Refusal>; 4] {
        let mut world = World::new();
        let asked = world.asked();
        let yes = world.yes(&asked);
        let approved = world.next(&asked, &yes).unwrap().grant;
        change(&mut world);
        [
            world.next(&asked, &yes),
            world.next(&approved, &Event::Open(now())),
            world.next(&asked, &Event::Start),
            world.next(&approved, &Event::Start),
        ]
    }

    #[test]
    fn what_still_holds_goes_on() {
        for next in becomes(|_| {}) {
            let next = next.unwrap();
            assert!(next.refused.is_none() && !next.grant.is_over());
        }
    }

    #[test]
    fn what_the_rules_or_the_root_no_longer_permit_is_ended_wherever_it_stands() {
        let ended = |change: &dyn Fn(&mut World), is_why: &dyn Fn(&Refusal) -> bool| {
            for next in becomes(change) {
                let next = next.unwrap();
                assert!(next.refused.as_ref().is_some_and(is_why), "{next:?}");
                assert_eq!(next.grant.phase, Phase::Closed(Reason::Withdrawn));
            }
        };
        let ceiling = |refusal: &Refusal| matches!(refusal, Refusal::Ceiling(_));
        let mode = |refusal: &Refusal| matches!(refusal, Refusal::Mode(_));
        ended(&|world| world.rules = rules("mode = 'ask'\nscopes = ['logs']"), &ceiling);
        ended(&|world| world.rules = rules(&format!("{ASK}\nmax_session_seconds = 59")), &ceiling);
        ended(&|world| world.rules.targets = ["crm".parse().unwrap()].into(), &ceiling);
        ended(&|world| world.rules.mode = Mode::Deny, &mode);
        let other = Vendor::new("another").roots[0].roles.support.clone();
        ended(&|world| world.vendor.rotate(&[], |root| root.roles.support = other.clone()), &|refusal| {
            matches!(refusal, Refusal::Document(_))
        });
        ended(&|world| world.vendor.roots.clear(), &|refusal| matches!(refusal, Refusal::State(_)));
        // A word on this host where a signed one is wanted now, or only a window.
        let [_, opened, asked, found] = becomes(|world| world.rules.mode = Mode::AskSigned);
        assert!(asked.unwrap().refused.is_none());
        assert!([opened, found].into_iter().all(|next| next.unwrap().refused.as_ref().is_some_and(mode)));
        let window = format!(
            "windows = [{{ from = '{}', until = '{}' }}]",
            now(),
            now() + SignedDuration::from_hours(1)
        );
        let window = format!("mode = 'window'\nscopes = ['logs', 'shell']\n{window}");
        let [approved, opened, asked, found] = becomes(|world| world.rules = rules(&window));
        assert!(
            [approved, opened, found].into_iter().all(|next| next
                .unwrap()
                .refused
                .as_ref()
                .is_some_and(mode))
        );
        assert!(asked.unwrap().refused.as_ref().is_some_and(ceiling), "a shell does more than read");
    }

    #[test]
    fn a_record_whose_file_is_not_the_one_that_was_taken_is_ended() {
        let world = World::new();
        let asked = Grant { digest: kedge_bundle::digest::Digest::of(b"another"), ..world.asked() };
        let next = world.next(&asked, &Event::Start).unwrap();
        assert_eq!(next.refused, Some(Refusal::OtherBytes));
        assert_eq!(next.grant.phase, Phase::Closed(Reason::Withdrawn));
    }

    #[test]
    fn a_window_that_the_customer_takes_back_is_open_no_more() {
        let mut world = World::new();
        let (from, until) = (now(), now() + SignedDuration::from_hours(1));
        world.rules =
            rules(&format!("mode = 'window'\nwindows = [{{ from = '{from}', until = '{until}' }}]"));
        let mut asked = world.asked();
        asked.request.terms.scopes = [Scope::Logs].into();
        let file = asked.request.sign(&[&world.vendor.support_key]).unwrap();
        asked.digest = support::read(&world.vendor.roots[0], &file).unwrap().digest;
        asked.file = String::from_utf8(file).unwrap();
        let yes = super::super::verify::beforehand(&world.rules, now(), &World::moment(), &asked).unwrap();
        let approved = world.next(&asked, &yes).unwrap();
        assert_eq!(approved.refused, None);
        assert_eq!(world.next(&approved.grant, &Event::Open(now())).unwrap().refused, None);
        world.rules.windows[0].until -= SignedDuration::from_mins(1);
        let shorter = world.next(&approved.grant, &Event::Open(now())).unwrap();
        assert!(matches!(shorter.refused, Some(Refusal::Mode(_))), "{shorter:?}");
        world.rules.windows[0].until += SignedDuration::from_mins(2);
        assert_eq!(world.next(&approved.grant, &Event::Open(now())).unwrap().refused, None);
        world.rules.windows.clear();
        for event in [Event::Open(now()), Event::Start] {
            let next = world.next(&approved.grant, &event).unwrap();
            assert!(matches!(next.refused, Some(Refusal::Mode(_))), "{next:?}");
        }
    }

    #[test]
    fn while_switched_off_nothing_is_approved_or_opened_and_a_no_is_heard() {
        let [approved, opened, ..] = becomes(|world| world.off = true);
        assert_eq!((approved, opened), (Err(Refusal::Off), Err(Refusal::Off)));
        let world = World { off: true, ..World::new() };
        let denied = world.next(&world.asked(), &Event::Deny).unwrap();
        assert_eq!((denied.grant.phase, denied.refused), (Phase::Closed(Reason::Denied), None));
    }
}
