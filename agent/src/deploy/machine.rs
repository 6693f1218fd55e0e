//! The life of a deployment's operation as a pure function: where it stands and how that phase ended give
//! what comes next. No I/O, no clock; the task does what this says and writes it down first.
//!
//! ```text
//! Offered -> Fetching -> Verified -> Preflight -> AwaitingApproval -> AwaitingWindow
//!         -> Snapshotting -> Applying -> Gating -> (active)
//!                                    \-> RollingBack -> (previous active, release quarantined)
//! Removing -> (gone)
//! ```

use crate::store::Phase;

/// How a phase ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// As it should.
    Well,
    /// With a problem that another try, later, may not meet: network, disk, engine away.
    Passing,
    /// With the finding that part of the release is not here any more, or was damaged here.
    Lacking,
    /// With a problem that stays: signature, policy, a release that does not become healthy.
    Lasting,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// This phase.
    Enter(Phase),
    /// The same phase again, after a pause.
    Again,
    /// The target is the active generation; the operation is over.
    Activate,
    /// The previous generation is active again and the release is quarantined, or the stack that was to be adopted runs again
    /// as it was; the operation is over.
    Restored,
    /// The operation is over and what ran before it runs on untouched. The release is remembered as refused.
    GiveUp,
    /// The operation is over, nothing could be restored; what is there stays for people to look at.
    Fail,
    /// The deployment is gone.
    Gone,
}

/// What the rules depend on besides phase and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Situation {
    /// There is a generation to go back to, and the vendor's floor allows it; or the containers of an adopted stack are kept.
    pub can_go_back: bool,
    /// Somebody is told how it went, and asks again. A release from the tether, and one whose asker went away with the agent
    /// that they asked, is tried again by itself.
    pub is_waited_for: bool,
    /// Tries of this phase so far, this one included.
    pub attempt: u32,
    /// What was lacking has been fetched once more by this operation: should it be gone again, the disk is to blame.
    pub is_refetched: bool,
}

/// Tries of applying before a cause that might pass is taken for one that does not. An engine that is away is
/// waited for and counts as no try.
const TRIES_OF_APPLYING: u32 = 3;

/// What comes after `phase` has `ended`.
pub fn next(phase: Phase, ended: Ended, situation: Situation) -> Next {
    use Ended::{Lacking, Lasting, Passing, Well};
    match (phase, ended) {
        // Images are the first thing that the engine is given: on a first try no container has been touched.
        (Phase::Applying, Lacking) if situation.attempt <= 1 && !situation.is_refetched => {
            Next::Enter(Phase::Fetching)
        }
        (_, Lacking) => next(phase, Passing, situation),

        (Phase::Offered, Well) => Next::Enter(Phase::Fetching),
        (Phase::Fetching, Well) => Next::Enter(Phase::Verified),
        (Phase::Verified, Well) => Next::Enter(Phase::Preflight),
        (Phase::Preflight, Well) => Next::Enter(Phase::AwaitingApproval),
        (Phase::AwaitingApproval, Well) => Next::Enter(Phase::AwaitingWindow),
        (Phase::AwaitingWindow, Well) => Next::Enter(Phase::Snapshotting),
        (Phase::Snapshotting, Well) => Next::Enter(Phase::Applying),
        (Phase::Applying, Well) => Next::Enter(Phase::Gating),
        (Phase::Gating, Well) => Next::Activate,
        (Phase::RollingBack, Well) => Next::Restored,
        (Phase::Removing, Well) => Next::Gone,

        // Nothing has been touched yet: a person decides what to do; where none waits, better times are waited for.
        (Phase::Offered | Phase::Fetching | Phase::Verified | Phase::Preflight, Passing) => {
            if situation.is_waited_for { Next::GiveUp } else { Next::Again }
        }
        (Phase::AwaitingApproval | Phase::AwaitingWindow | Phase::Snapshotting, Passing) => Next::Again,
        (
            Phase::Offered
            | Phase::Fetching
            | Phase::Verified
            | Phase::Preflight
            | Phase::AwaitingApproval
            | Phase::AwaitingWindow
            | Phase::Snapshotting,
            Lasting,
        ) => Next::GiveUp,

        // Containers may have been touched: forwards while it can pass, backwards otherwise.
        (Phase::Applying, Passing) if situation.attempt < TRIES_OF_APPLYING => Next::Again,
        (Phase::Gating, Passing) => Next::Again,
        (Phase::Applying, Passing | Lasting) | (Phase::Gating, Lasting) => {
            if situation.can_go_back {
                Next::Enter(Phase::RollingBack)
            } else {
                Next::Fail
            }
        }

        // The old generation was good once. It is tried for ever: supervision would do the same.
        (Phase::RollingBack, Passing | Lasting) => Next::Again,
        (Phase::Removing, Passing | Lasting) => Next::Again,
    }
}

/// Whether a newer release may replace the operation's target in this phase: until containers are touched.
pub fn may_be_superseded(phase: Phase) -> bool {
    match phase {
        Phase::Offered
        | Phase::Fetching
        | Phase::Verified
        | Phase::Preflight
        | Phase::AwaitingApproval
        | Phase::AwaitingWindow => true,
        Phase::Snapshotting | Phase::Applying | Phase::Gating | Phase::RollingBack | Phase::Removing => false,
    }
}

/// Whether the engine may hold something of the operation's target in this phase.
pub fn touches_containers(phase: Phase) -> bool {
    matches!(phase, Phase::Applying | Phase::Gating | Phase::RollingBack | Phase::Removing)
}

/// Whether an operation of a paused deployment waits before this phase. What may change containers waits, and so does the
/// check of the host before it, which would be out of date afterwards. What has begun to change them is seen to its end,
/// once: left half-way it would help nobody.
pub fn waits_while_paused(phase: Phase, attempt: u32) -> bool {
    match phase {
        Phase::Offered | Phase::Fetching | Phase::Verified | Phase::Removing => false,
        Phase::Preflight | Phase::AwaitingApproval | Phase::AwaitingWindow | Phase::Snapshotting => true,
        Phase::Applying | Phase::Gating | Phase::RollingBack => attempt > 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHASES: [Phase; 11] = [
        Phase::Offered,
        Phase::Fetching,
        Phase::Verified,
        Phase::Preflight,
        Phase::AwaitingApproval,
        Phase::AwaitingWindow,
        Phase::Snapshotting,
        Phase::Applying,
        Phase::Gating,
        Phase::RollingBack,
        Phase::Removing,
    ];

    fn situations() -> impl Iterator<Item = Situation> {
        [true, false].into_iter().flat_map(|is_waited_for| {
            [true, false].into_iter().flat_map(move |can_go_back| {
                (1..5).flat_map(move |attempt| {
                    let one = Situation { can_go_back, is_waited_for, attempt, is_refetched: false };
                    [one, Situation { is_refetched: true, ..one }]
                })
            })
        })
    }

    #[test]
    fn all_goes_well_from_offered_to_active() {
        let situation =
            Situation { can_go_back: true, is_waited_for: false, attempt: 1, is_refetched: false };
        let mut seen = vec![Phase::Offered];
        while let Next::Enter(phase) = next(seen[seen.len() - 1], Ended::Well, situation) {
            seen.push(phase);
        }
        assert_eq!(seen, PHASES[..9]);
        assert_eq!(next(Phase::Gating, Ended::Well, situation), Next::Activate);
    }

    #[test]
    fn a_release_that_does_not_become_healthy_is_rolled_back_where_there_is_something_to_go_back_to() {
        for situation in situations() {
            let expected = if situation.can_go_back { Next::Enter(Phase::RollingBack) } else { Next::Fail };
            assert_eq!(next(Phase::Gating, Ended::Lasting, situation), expected);
        }
    }

    #[test]
    fn before_containers_are_touched_nothing_is_ever_rolled_back_or_failed() {
        for phase in PHASES.into_iter().filter(|p| !touches_containers(*p)) {
            for ended in [Ended::Passing, Ended::Lasting] {
                for situation in situations() {
                    let next = next(phase, ended, situation);
                    assert!(matches!(next, Next::Again | Next::GiveUp), "{phase:?} {ended:?}: {next:?}");
                }
            }
        }
    }

    #[test]
    fn going_back_is_never_given_up() {
        for situation in situations() {
            assert_eq!(next(Phase::RollingBack, Ended::Lasting, situation), Next::Again);
            assert_eq!(next(Phase::RollingBack, Ended::Passing, situation), Next::Again);
            assert_eq!(next(Phase::RollingBack, Ended::Well, situation), Next::Restored);
        }
    }

    #[test]
    fn whoever_waits_is_told_at_once_and_what_nobody_waits_for_is_tried_again() {
        let alone = Situation { can_go_back: false, is_waited_for: false, attempt: 9, is_refetched: false };
        let waited_for = Situation { is_waited_for: true, ..alone };
        assert_eq!(next(Phase::Fetching, Ended::Passing, alone), Next::Again);
        assert_eq!(next(Phase::Fetching, Ended::Passing, waited_for), Next::GiveUp);
    }

    #[test]
    fn what_is_lacking_is_fetched_once_more_before_containers_are_touched_and_only_once() {
        for situation in situations() {
            let again = next(Phase::Applying, Ended::Passing, situation);
            let fetched = situation.attempt == 1 && !situation.is_refetched;
            let expected = if fetched { Next::Enter(Phase::Fetching) } else { again };
            assert_eq!(next(Phase::Applying, Ended::Lacking, situation), expected, "{situation:?}");
            let back = next(Phase::RollingBack, Ended::Lacking, situation);
            assert_eq!(back, Next::Again);
        }
    }

    #[test]
    fn applying_is_tried_a_bounded_number_of_times() {
        let mut situation =
            Situation { can_go_back: true, is_waited_for: false, attempt: 1, is_refetched: false };
        assert_eq!(next(Phase::Applying, Ended::Passing, situation), Next::Again);
        situation.attempt = TRIES_OF_APPLYING;
        assert_eq!(next(Phase::Applying, Ended::Passing, situation), Next::Enter(Phase::RollingBack));
    }

    #[test]
    fn while_paused_nothing_begins_that_leads_to_a_change_and_nothing_begun_is_left_half_way() {
        let waits: Vec<Phase> = PHASES.into_iter().filter(|p| waits_while_paused(*p, 1)).collect();
        assert_eq!(waits, PHASES[3..7]);
        let again: Vec<Phase> = PHASES.into_iter().filter(|p| waits_while_paused(*p, 2)).collect();
        assert_eq!(again, PHASES[3..10]);
    }

    #[test]
    fn what_touches_containers_cannot_be_superseded() {
        for phase in PHASES {
            assert!(!(touches_containers(phase) && may_be_superseded(phase)), "{phase:?}");
        }
    }
}
