//! Arbitrary sequences of everything that can happen: requests and replays, approvals of other bytes and of more, clocks that
//! jump, restarts at any point, reboots, disconnects. What must never be is checked after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kedge_bundle::digest::Digest;
use kedge_bundle::roles::PublicKey;
use kedge_bundle::support::{Scope, Terms, testing::request};
use kedge_bundle::testing::{Vendor, now};
use proptest::prelude::*;

use super::Moment;
use super::again::{self, Next, Place};
use super::grant::{Consent, Event, Grant, Phase, Reason, ends_in};
use super::nonces::Nonces;
use super::verify::{Here, beforehand, verify};
use crate::guard::support::{Mode, Support, Window};

#[derive(Debug, Clone)]
enum Step {
    /// Gives out nonce number so.
    Nonce(u8),
    /// A request for grant number so with nonce number so, signed by the vendor or by somebody else.
    Request {
        grant: u8,
        nonce: u8,
        forged: bool,
        long: bool,
        reads: bool,
    },
    /// An approval of a grant, of its bytes or others, with more than was asked for or not.
    Approve {
        grant: u8,
        other: bool,
        wider: bool,
    },
    Deny(u8),
    Open(u8),
    End(u8, Reason),
    Cleaned(u8),
    /// Time passes for both clocks.
    Pass(u32),
    /// Somebody sets the wall clock.
    Jump(i32),
    Tick,
    Restart,
    Reboot,
    Off(bool),
    /// The customer's rules are these from now on.
    Rules(usize),
    /// The vendor's newest root names the key that signs requests, or another one.
    Root(bool),
    /// The next write fails as the power does: what was decided is lost, or written and not acted upon.
    Crash {
        written: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let id = 0..3_u8;
    let reason = prop_oneof![
        Just(Reason::TetherLost),
        Just(Reason::Customer),
        Just(Reason::Quota),
        Just(Reason::RecorderFailed)
    ];
    prop_oneof![
        3 => id.clone().prop_map(Step::Nonce),
        6 => (id.clone(), id.clone(), proptest::bool::weighted(0.1), any::<[bool; 2]>())
            .prop_map(|(grant, nonce, forged, [long, reads])| Step::Request { grant, nonce, forged, long, reads }),
        6 => (id.clone(), proptest::bool::weighted(0.2), proptest::bool::weighted(0.2))
            .prop_map(|(grant, other, wider)| Step::Approve { grant, other, wider }),
        1 => id.clone().prop_map(Step::Deny),
        8 => id.clone().prop_map(Step::Open),
        2 => (id.clone(), reason).prop_map(|(grant, reason)| Step::End(grant, reason)),
        2 => id.prop_map(Step::Cleaned),
        3 => (0..200_u32).prop_map(Step::Pass),
        2 => (-100_000..100_000_i32).prop_map(Step::Jump),
        4 => Just(Step::Tick),
        1 => Just(Step::Restart),
        1 => Just(Step::Reboot),
        1 => any::<bool>().prop_map(Step::Off),
        2 => (0..RULES.len()).prop_map(Step::Rules),
        1 => proptest::bool::weighted(0.6).prop_map(Step::Root),
        1 => any::<bool>().prop_map(|written| Step::Crash { written }),
    ]
}

/// What guard.toml may say. Windows are added to it: one that is open for two minutes from when it says so.
const RULES: [&str; 7] = [
    "mode = 'ask'\nscopes = ['logs', 'shell']",
    "mode = 'ask'\nscopes = ['logs', 'shell']",
    "mode = 'ask'\nscopes = ['logs']",
    "mode = 'ask'\nscopes = ['logs', 'shell']\nmax_session_seconds = 60",
    "mode = 'ask-signed'\nscopes = ['logs', 'shell']",
    "mode = 'window'\nscopes = ['logs', 'shell']",
    "mode = 'deny'",
];

/// A host: what is on its disk, what is in its memory, and what has really happened there.
struct World {
    vendor: Vendor,
    rules: Support,
    disk: BTreeMap<String, Grant>,
    memory: BTreeMap<String, Grant>,
    nonces: Nonces,
    off: bool,
    boot: u32,
    uptime: Duration,
    wall: Timestamp,
    crash: Option<bool>,
    /// Each grant that was ever opened, and on which terms.
    opened: BTreeMap<String, usize>,
    signed: BTreeSet<String>,
    approved: BTreeSet<String>,
}

impl World {
    fn new() -> Self {
        Self {
            vendor: Vendor::new("support"),
            rules: toml::from_str(RULES[0]).unwrap(),
            disk: BTreeMap::new(),
            memory: BTreeMap::new(),
            nonces: Nonces::default(),
            off: false,
            boot: 0,
            uptime: Duration::from_secs(10),
            wall: now(),
            crash: None,
            opened: BTreeMap::new(),
            signed: BTreeSet::new(),
            approved: BTreeSet::new(),
        }
    }

    fn moment(&self) -> Moment {
        Moment { boot: self.boot.to_string(), since: self.uptime }
    }

    /// Writes down, then acts: as the agent does. A crash between the two is one of the steps.
    fn put(&mut self, grant: Grant) {
        match self.crash.take() {
            Some(false) => return self.restart(),
            Some(true) => {
                self.disk.insert(grant.id().to_owned(), grant);
                return self.restart();
            }
            None => {}
        }
        let id = grant.id().to_owned();
        let before = self.memory.get(&id).map(|grant| &grant.phase);
        if matches!(grant.phase, Phase::Open(..)) && !matches!(before, Some(Phase::Open(..))) {
            *self.opened.entry(id.clone()).or_default() += 1;
            self.check_opening(&grant);
        }
        self.disk.insert(id.clone(), grant.clone());
        self.memory.insert(id, grant);
    }

    fn apply(&mut self, id: &str, event: &Event) {
        let Some(grant) = self.memory.get(id) else { return };
        let (root, now) = (self.vendor.roots.last(), self.moment());
        let off = self.off && *event != Event::Start;
        let place = Place { root, rules: &self.rules, wall: self.wall, now: &now, off };
        if let Ok(Next { grant: next, .. }) = again::next(&place, grant, event) {
            if let (Event::Approve { .. }, Phase::Approved(_)) = (event, &next.phase) {
                self.approved.insert(id.to_owned());
            }
            self.put(next);
        }
    }

    fn restart(&mut self) {
        self.nonces = Nonces::default();
        self.memory = self.disk.clone();
        for id in self.memory.keys().cloned().collect::<Vec<_>>() {
            self.apply(&id, &Event::Start);
        }
        for grant in self.memory.values().filter(|grant| !grant.is_over() && !self.off) {
            assert!(self.rules.mode != Mode::Deny && self.has_key(), "kept over a start");
            assert!(self.rules.beyond(&grant.request.terms).is_none(), "kept beyond the rules");
        }
    }

    fn has_key(&self) -> bool {
        let key = PublicKey::new(&self.vendor.support_key.verifying_key(), None);
        self.vendor.roots.last().unwrap().roles.support.keys.contains(&key)
    }

    /// At the moment at which a grant is opened everything is as it must be, whatever it was before.
    fn check_opening(&self, grant: &Grant) {
        let Phase::Open(consent, opened) = &grant.phase else { panic!("{grant:?}") };
        assert!(!self.off && self.has_key());
        assert!(self.rules.beyond(&consent.terms).is_none(), "opened beyond the rules");
        assert!(
            self.rules.mode != Mode::Deny && consent.under == Some(self.rules.mode),
            "opened as nobody wants it"
        );
        assert_eq!(consent.window.is_some(), self.rules.mode == Mode::Window);
        if let Some(window) = &consent.window {
            assert!(consent.terms.scopes.iter().all(Scope::reads_only));
            assert!(self.wall < window.until, "opened after its window");
            assert!(
                self.rules.window(self.wall) >= Some(window.until),
                "opened for longer than the window is now"
            );
            let ends = opened.since + Duration::from_secs(consent.terms.max_session_seconds);
            assert!(ends <= window.at.since, "open after its window");
        }
    }

    fn tick(&mut self) {
        for id in self.memory.keys().cloned().collect::<Vec<_>>() {
            self.apply(&id, &Event::Tick(self.wall));
        }
    }

    fn step(&mut self, step: &Step) {
        let id = |number: u8| format!("{number:032x}");
        let nonce = |number: u8| format!("{number:064x}");
        match step {
            Step::Nonce(number) => self.nonces.give(nonce(*number), &self.moment()),
            Step::Request { grant, nonce: number, forged, long, reads } => {
                let mut request = request(&self.vendor, self.wall);
                request.grant_id = id(*grant);
                request.agent_nonce = nonce(*number);
                request.terms.max_session_seconds = if *long { 120 } else { 30 };
                request.not_after = request.issued + SignedDuration::from_mins(5);
                if *reads {
                    request.terms.scopes = [Scope::Logs].into();
                }
                let key = if *forged { &self.vendor.release_key } else { &self.vendor.support_key };
                let file = request.sign(&[key]).unwrap();
                let moment = self.moment();
                let here = Here {
                    root: self.vendor.roots.last().unwrap(),
                    rules: &self.rules,
                    host_key: &request.host_key,
                    products: &[("shop".to_owned(), "hello".to_owned())],
                    wall: self.wall,
                    now: &moment,
                    off: self.off,
                };
                let known = self.memory.keys().cloned().collect();
                if let Ok(taken) = verify(&here, &self.nonces, &known, &file) {
                    assert!(!forged);
                    self.nonces.used(&request.agent_nonce);
                    self.signed.insert(id(*grant));
                    let yes = beforehand(&self.rules, self.wall, &moment, &taken);
                    self.put(taken);
                    if let Some(yes) = yes {
                        self.apply(&id(*grant), &yes);
                    }
                }
            }
            Step::Approve { grant, other, wider } => {
                let Some(known) = self.memory.get(&id(*grant)) else { return };
                let digest = if *other { Digest::of(b"other") } else { known.digest };
                let mut terms: Terms = known.request.terms.clone();
                if *wider {
                    terms.scopes.insert(Scope::Run(vec!["id".into()]));
                }
                let allowed = !other && !wider;
                let event =
                    Event::Approve { digest, consent: Consent::of("bea".into(), terms, self.rules.mode) };
                let before = self.approved.clone();
                self.apply(&id(*grant), &event);
                assert!(allowed || self.approved == before);
            }
            Step::Deny(grant) => self.apply(&id(*grant), &Event::Deny),
            Step::Open(grant) => self.apply(&id(*grant), &Event::Open(self.wall)),
            Step::End(grant, reason) => self.apply(&id(*grant), &Event::End(*reason)),
            Step::Cleaned(grant) => self.apply(&id(*grant), &Event::Cleaned),
            Step::Pass(seconds) => {
                self.uptime += Duration::from_secs(u64::from(*seconds));
                self.wall += SignedDuration::from_secs(i64::from(*seconds));
            }
            Step::Jump(seconds) => self.wall += SignedDuration::from_secs(i64::from(*seconds)),
            Step::Tick => self.tick(),
            Step::Restart => self.restart(),
            Step::Reboot => {
                self.boot += 1;
                self.uptime = Duration::from_secs(1);
                self.restart();
            }
            Step::Off(off) => {
                self.off = *off;
                if *off {
                    for id in self.memory.keys().cloned().collect::<Vec<_>>() {
                        self.apply(&id, &Event::End(Reason::KillSwitch));
                    }
                }
            }
            Step::Rules(number) => {
                self.rules = toml::from_str(RULES[*number]).unwrap();
                let (from, until) = (self.wall, self.wall + SignedDuration::from_secs(120));
                self.rules.windows = vec![Window { from, until }];
            }
            Step::Root(good) => {
                let key = if *good { &self.vendor.support_key } else { &self.vendor.fresh_key };
                let key = PublicKey::new(&key.verifying_key(), None);
                self.vendor.rotate(&[], |root| root.roles.support.keys = vec![key]);
            }
            Step::Crash { written } => self.crash = Some(*written),
        }
    }

    fn check(&self) {
        for (id, grant) in &self.memory {
            if let Phase::Open(consent, opened) = &grant.phase {
                assert!(self.signed.contains(id) && self.approved.contains(id), "open without both consents");
                assert!(consent.terms.within(&grant.request.terms), "open on wider terms");
                assert!(!self.off, "open while switched off");
                assert_eq!(opened.boot, self.boot.to_string(), "open after a reboot");
            }
        }
        for (id, times) in &self.opened {
            assert!(*times <= 1, "{id} was opened {times} times");
        }
    }

    /// At the next tick nothing is open whose time is up, wherever the wall clock was set.
    fn check_deadlines(&mut self) {
        self.crash = None;
        self.tick();
        for grant in self.memory.values() {
            if let Phase::Open(consent, opened) = &grant.phase {
                let left = ends_in(&consent.terms, opened, &self.moment());
                assert!(left.is_some_and(|left| left > Duration::ZERO), "open past its deadline");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(400), ..ProptestConfig::default() })]
    #[test]
    fn never_open_without_both_consents_nor_past_the_deadline_nor_twice(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        world.check_deadlines();
        world.check();
    }
}

#[test]
fn the_ordinary_course_opens_once() {
    let mut world = World::new();
    let open = [
        Step::Nonce(0),
        Step::Request { grant: 0, nonce: 0, forged: false, long: false, reads: false },
        Step::Approve { grant: 0, other: false, wider: false },
        Step::Open(0),
    ];
    for step in &open {
        world.step(step);
    }
    assert_eq!(world.opened.values().sum::<usize>(), 1);
    // The same again, and again after a crash and a restart.
    for step in open.iter().chain(&[Step::Restart]).chain(&open) {
        world.step(step);
        world.check();
    }
    assert_eq!(world.opened.values().sum::<usize>(), 1);
    let other = World::new();
    assert!(other.opened.is_empty());
}
