//! Whether a request is taken: signed by the vendor, for this host, of now, never seen before, and within what the customer
//! permits. The order is that of the questions' cost and worth: nothing of a request is looked at before its signature.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use kedge_bundle::roles::Root;
use kedge_bundle::support::{self, Read, Scope, Terms};

use super::Moment;
use super::grant::{Consent, Event, Grant};
use super::nonces::Nonces;
use super::refusal::Refusal;
use crate::guard::support::{Mode, Support};

/// How far the vendor's clock may be ahead of this host's.
const AHEAD: SignedDuration = SignedDuration::from_mins(10);

/// What is true of this host at this moment.
#[derive(Debug, Clone)]
pub struct Here<'a> {
    /// The vendor's newest root.
    pub root: &'a Root,
    /// The customer's rules.
    pub rules: &'a Support,
    /// This host's public key.
    pub host_key: &'a str,
    /// Product of each deployment.
    pub products: &'a [(String, String)],
    /// The time that never falls.
    pub wall: Timestamp,
    /// The clock that nobody can set.
    pub now: &'a Moment,
    /// The kill switch is on.
    pub off: bool,
}

/// Takes a request or says why not. In the `window` mode a good request is approved by the same rules that took it.
///
/// # Errors
/// [`Refusal`].
pub fn verify(
    here: &Here<'_>,
    nonces: &Nonces,
    known: &BTreeSet<String>,
    file: &[u8],
) -> Result<Grant, Refusal> {
    let Read { request, digest } = support::read(here.root, file)?;
    if here.off {
        return Err(Refusal::Off);
    }
    if here.rules.mode == Mode::Deny {
        return Err(Refusal::Mode("guard.toml denies support sessions".into()));
    }
    if request.host_key != here.host_key {
        return Err(Refusal::Audience("the request is for another host".into()));
    }
    for target in &request.terms.targets {
        let is_its =
            |(name, product): &(String, String)| *name == target.deployment && *product == request.product;
        if !here.products.iter().any(is_its) {
            return Err(Refusal::Audience(format!(
                "there is no deployment {} of product {} here",
                target.deployment, request.product
            )));
        }
    }
    if known.contains(&request.grant_id) {
        return Err(Refusal::Known(request.grant_id));
    }
    if !nonces.is_good(&request.agent_nonce, here.now) {
        return Err(Refusal::Nonce);
    }
    if here.wall > request.not_after {
        return Err(Refusal::Expired(request.not_after.to_string()));
    }
    if request.issued.duration_since(here.wall) > AHEAD {
        return Err(Refusal::Early(request.issued.to_string()));
    }
    if let Some(beyond) = here.rules.beyond(&request.terms) {
        return Err(Refusal::Ceiling(beyond));
    }
    in_window(here.rules, &request.terms, here.wall)?;
    let text = String::from_utf8_lossy(file).into_owned();
    Ok(Grant::requested(request, digest, text, here.now.clone()))
}

/// What the `window` mode asks of terms, and of this moment.
pub(super) fn in_window(rules: &Support, terms: &Terms, wall: Timestamp) -> Result<(), Refusal> {
    if rules.mode != Mode::Window {
        return Ok(());
    }
    if let Some(scope) = terms.scopes.iter().find(|scope| !Scope::reads_only(scope)) {
        return Err(Refusal::Ceiling(format!("the scope {scope} does more than read")));
    }
    if rules.window(wall).is_none() {
        let why = "guard.toml names no window for support sessions that is open now";
        return Err(Refusal::Mode(why.into()));
    }
    Ok(())
}

/// The yes that guard.toml has said beforehand to a request that was just taken, for as long as the window is open.
pub fn beforehand(rules: &Support, wall: Timestamp, now: &Moment, grant: &Grant) -> Option<Event> {
    let until = rules.window(wall).filter(|_| rules.mode == Mode::Window)?;
    let consent = Consent::beforehand(grant.request.terms.clone(), until, wall, now);
    Some(Event::Approve { digest: grant.digest, consent })
}

#[cfg(test)]
mod tests {
    use kedge_bundle::support::{Request, testing::request};
    use kedge_bundle::testing::{Vendor, now};

    use super::super::grant::{Phase, Reason};
    use super::*;

    struct World {
        vendor: Vendor,
        rules: Support,
        nonces: Nonces,
        moment: Moment,
        wall: Timestamp,
        known: BTreeSet<String>,
        off: bool,
        host_key: String,
        products: Vec<(String, String)>,
    }

    impl World {
        fn new() -> Self {
            let moment = Moment { boot: "b".into(), since: std::time::Duration::from_secs(500) };
            let mut nonces = Nonces::default();
            nonces.give("bb".repeat(32), &moment);
            let rules = toml::from_str("mode = 'ask'\nscopes = ['logs', 'inspect', 'shell']").unwrap();
            Self {
                vendor: Vendor::new("support"),
                rules,
                nonces,
                moment,
                wall: now(),
                known: BTreeSet::new(),
                off: false,
                host_key: "aa".repeat(32),
                products: vec![("shop".into(), "hello".into()), ("crm".into(), "other".into())],
            }
        }

        fn take(&self, change: impl FnOnce(&mut Request)) -> Result<Grant, Refusal> {
            let mut request = request(&self.vendor, now());
            change(&mut request);
            let file = request.sign(&[&self.vendor.support_key]).unwrap();
            let here = Here {
                root: self.vendor.roots.last().unwrap(),
                rules: &self.rules,
                host_key: &self.host_key,
                products: &self.products,
                wall: self.wall,
                now: &self.moment,
                off: self.off,
            };
            verify(&here, &self.nonces, &self.known, &file)
        }
    }

    fn in_world(change: impl FnOnce(&mut World)) -> Result<Grant, Refusal> {
        let mut world = World::new();
        change(&mut world);
        world.take(|_| {})
    }

    #[test]
    fn a_good_request_is_taken_and_nothing_else() {
        assert!(in_world(|_| {}).is_ok());
        assert!(in_world(|w| w.wall += SignedDuration::from_mins(59)).is_ok());
        let rules = |text: &str| toml::from_str::<Support>(text).unwrap();
        assert_eq!(in_world(|w| w.off = true), Err(Refusal::Off));
        assert!(matches!(in_world(|w| w.rules = Support::default()), Err(Refusal::Mode(_))));
        assert!(matches!(in_world(|w| w.host_key = "dd".repeat(32)), Err(Refusal::Audience(_))));
        assert!(matches!(in_world(|w| w.products.clear()), Err(Refusal::Audience(_))));
        assert!(matches!(in_world(|w| w.products[0].1 = "crm".into()), Err(Refusal::Audience(_))));
        assert!(matches!(
            in_world(|w| w.known.extend(["0123456789abcdef".repeat(2)])),
            Err(Refusal::Known(_))
        ));
        assert_eq!(in_world(|w| w.nonces = Nonces::default()), Err(Refusal::Nonce));
        assert_eq!(in_world(|w| w.moment.boot = "c".into()), Err(Refusal::Nonce));
        assert!(matches!(in_world(|w| w.wall += SignedDuration::from_mins(61)), Err(Refusal::Expired(_))));
        assert!(matches!(in_world(|w| w.wall -= SignedDuration::from_mins(11)), Err(Refusal::Early(_))));
        for narrow in [
            "mode = 'ask'\nscopes = ['logs']",
            "mode = 'ask'\nscopes = ['logs', 'shell']\ntargets = ['shop/api']",
            "mode = 'ask'\nscopes = ['logs', 'shell']\nmax_session_seconds = 59",
            "mode = 'ask'\nscopes = ['logs', 'shell']\nmax_bytes = 1000",
        ] {
            assert!(matches!(in_world(|w| w.rules = rules(narrow)), Err(Refusal::Ceiling(_))), "{narrow}");
        }
    }

    #[test]
    fn in_a_window_only_what_reads_is_taken_and_opened_and_only_while_it_is_open() {
        let mut world = World::new();
        world.rules = toml::from_str(
            "mode = 'window'\nscopes = ['logs', 'shell']\nwindows = [{ from = '2026-06-01T11:00:00Z', until = '2026-06-01T13:00:00Z' }]",
        )
        .unwrap();
        let logs = |request: &mut Request| request.terms.scopes = [Scope::Logs].into();
        assert!(world.take(logs).is_ok());
        assert!(matches!(world.take(|_| {}), Err(Refusal::Ceiling(_))));
        world.wall = "2026-06-01T12:59:59Z".parse().unwrap();
        let taken = world
            .take(|request| {
                logs(request);
                request.not_after += SignedDuration::from_hours(9);
            })
            .unwrap();
        let yes = beforehand(&world.rules, world.wall, &world.moment, &taken).unwrap();
        let approved = taken.after(&yes, &world.moment).unwrap();
        let opened = approved.after(&Event::Open(world.wall), &world.moment).unwrap();
        let Phase::Open(consent, _) = &opened.phase else { panic!("{opened:?}") };
        assert_eq!(consent.terms.max_session_seconds, 1, "a second is left of the window");
        world.wall = "2026-06-01T13:00:00Z".parse().unwrap();
        assert_eq!(beforehand(&world.rules, world.wall, &world.moment, &taken), None);
        let refused = approved.after(&Event::Open(world.wall), &world.moment);
        assert_eq!(refused, Err(Refusal::Over(Reason::Expired)), "whatever date the request names");
        let late = world.take(|request| {
            logs(request);
            request.not_after += SignedDuration::from_hours(9);
        });
        assert!(matches!(late, Err(Refusal::Mode(_))));
    }

    #[test]
    fn a_request_by_another_key_is_refused_before_anything_in_it_is_looked_at() {
        let world = World { off: true, ..World::new() };
        let stranger = Vendor::new("stranger");
        let file = request(&world.vendor, now()).sign(&[&stranger.support_key]).unwrap();
        let here = Here {
            root: world.vendor.roots.last().unwrap(),
            rules: &world.rules,
            host_key: &world.host_key,
            products: &world.products,
            wall: world.wall,
            now: &world.moment,
            off: true,
        };
        assert!(matches!(verify(&here, &world.nonces, &world.known, &file), Err(Refusal::Document(_))));
    }
}
