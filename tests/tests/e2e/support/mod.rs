//! Support sessions: the sixteen things that must hold, on a real engine, with the real hub in between. The last, how well the
//! service is shut in, is tested where the service is packaged.

mod audit;
mod consent;
mod diagnostics;
mod ends;
mod forward;
mod hostile;
mod records;
mod skew;
mod work;

use kedge_tests::rig::need::{self, Need};

fn engine() -> bool {
    need::met(&[Need::Engine])
}
