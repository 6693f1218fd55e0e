//! Bundles made by an attacker, each by code, each with what must come of it: a reason and an exit code of its own, nothing
//! changed on disk or in the engine, and a line in the audit log.
//!
//! ```text
//!  metadata    1 to 30: signatures, roots, numbers, dates, JSON
//!  archives   31 to 47: tricks of tar
//!  layouts    48 to 57: images, bombs, splits, resuming, full disks
//!  deltas     54, and what else is done with thin bundles
//!  accepted   three that look wrong and must be taken
//!  further    what attackers try beyond that list
//!  tamper     how good bundles are made bad        stage    the host that they are brought to
//! ```

mod accepted;
mod archives;
mod core;
mod deltas;
mod further;
mod layouts;
mod metadata;
pub mod stage;
pub mod tamper;

use std::collections::BTreeMap;

use kedge_bundle::codes::Code;
use kedge_bundle::testing::Vendor;

use stage::{Seen, Stage};

/// One hostile bundle, or a way to bring one.
pub struct Case {
    /// Its number in the list; several variants may share one. `A` to `C` must be accepted, `+` is beyond the list.
    pub number: &'static str,
    /// What is wrong.
    pub name: &'static str,
    /// The code of the refusal; `None` where it must be accepted.
    pub wanted: Option<Code>,
    /// How it is brought.
    pub brought: Brought,
}

/// How a case is brought to the host.
pub enum Brought {
    /// As a file that `kedge import` is given.
    File(fn(&Vendor) -> Vec<u8>),
    /// In several steps.
    Steps(fn(&Stage) -> Seen),
    /// To the core that the agent gives it to: what comes over the tether only, and needs a hub that lies.
    Core(fn(&Vendor) -> Result<(), Code>),
}

/// What became of a case.
#[derive(Debug)]
pub struct Verdict {
    /// Of the case.
    pub number: &'static str,
    /// Of the case.
    pub name: &'static str,
    /// The code that came, or `accepted`.
    pub reason: String,
    /// The exit code.
    pub exit: Option<i32>,
    /// What is not as it must be; empty where all is.
    pub wrong: Vec<String>,
}

/// Every case, in the order in which they are brought: those that change what the host trusts come last.
pub fn cases() -> Vec<Case> {
    [
        metadata::cases(),
        archives::cases(),
        layouts::cases(),
        deltas::cases(),
        further::cases(),
        accepted::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Brings every case to one host.
pub fn run(tell: &mut dyn FnMut(&Verdict)) -> Vec<Verdict> {
    let stage = Stage::set();
    let mut verdicts = Vec::new();
    for case in cases() {
        let verdict = stage.judge(&case);
        tell(&verdict);
        verdicts.push(verdict);
    }
    stage.inspect().unwrap_or_else(|why| panic!("after all of them: {why}"));
    verdicts
}

/// One line of the table.
pub fn line(verdict: &Verdict) -> String {
    let Verdict { number, name, reason, exit, wrong } = verdict;
    let exit = exit.map_or_else(|| "-".to_owned(), |exit| exit.to_string());
    let wrong = if wrong.is_empty() { String::new() } else { format!("  WRONG: {}", wrong.join("; ")) };
    format!("{number:<4} {name:<58} {reason:<9} {exit:>4}{wrong}")
}

/// How many cases of the list were as expected, all their variants included: `60 of 60 as expected`.
pub fn summary(verdicts: &[Verdict]) -> String {
    let mut good: BTreeMap<&str, bool> = BTreeMap::new();
    for verdict in verdicts.iter().filter(|verdict| verdict.number != "+") {
        *good.entry(verdict.number).or_insert(true) &= verdict.wrong.is_empty();
    }
    format!("{} of {} as expected", good.values().filter(|good| **good).count(), good.len())
}

/// The same of those beyond the list.
pub fn further_summary(verdicts: &[Verdict]) -> String {
    let further: Vec<_> = verdicts.iter().filter(|verdict| verdict.number == "+").collect();
    let good = further.iter().filter(|verdict| verdict.wrong.is_empty()).count();
    format!("{good} of {} beyond the list as expected", further.len())
}

#[test]
fn every_number_of_the_list_has_a_case() {
    let have: std::collections::BTreeSet<&str> = cases().iter().map(|case| case.number).collect();
    let wanted: Vec<String> =
        (1..=57).map(|n| n.to_string()).chain(["A", "B", "C"].map(Into::into)).collect();
    let missing: Vec<_> = wanted.iter().filter(|number| !have.contains(number.as_str())).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
