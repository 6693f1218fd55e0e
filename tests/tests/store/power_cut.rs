//! Power cuts: the writer is held at a random moment, what its disk holds then is copied, and the copy must have
//! every record that was acknowledged.

use std::io;
use std::path::Path;

use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::scratch_disk::Image;
use rand::RngExt;

use super::{Writer, read};

/// Cuts that one writer goes through before a new one starts on an empty disk: some early, while the files are
/// new, some late.
const CUTS_A_WRITER: usize = 4;

/// What one cut left.
#[derive(Debug)]
struct Cut {
    acknowledged: u64,
    found: Result<u64, String>,
}

impl Cut {
    fn lost(&self) -> bool {
        self.found.as_ref().is_ok_and(|found| *found < self.acknowledged) || self.found.is_err()
    }
}

fn cuts() -> usize {
    std::env::var("KEDGE_CUTS").ok().map_or(12, |n| n.parse().expect("KEDGE_CUTS is a number"))
}

fn cut_power(count: usize, flags: &[&str]) -> io::Result<Vec<Cut>> {
    let work = tempfile::tempdir()?;
    let mut cuts = Vec::new();
    while cuts.len() < count {
        let image = Image::make(work.path().join("disk"))?;
        let disk = image.mount(work.path().join("mounted"))?;
        // Declared after the mount, so that it ends before the unmount.
        let mut writer = Writer::start(&disk.folder().join("store"), flags);
        for _ in 0..CUTS_A_WRITER.min(count - cuts.len()) {
            writer.wait_for(rand::rng().random_range(1..60));
            let moment = rand::rng().random_range(0..4_000);
            std::thread::sleep(std::time::Duration::from_micros(moment));
            writer.process.freeze()?;
            let copy = image.copy_as_it_is(work.path().join("after"))?;
            let acknowledged = writer.acknowledged_while_held();
            writer.process.thaw()?;
            let found = read_copy(&copy, work.path())?;
            cuts.push(Cut { acknowledged, found });
        }
    }
    Ok(cuts)
}

fn read_copy(copy: &Image, work: &Path) -> io::Result<Result<u64, String>> {
    let mounted = copy.mount(work.join("seen"))?;
    Ok(read(&mounted.folder().join("store")))
}

#[test]
fn nothing_acknowledged_is_lost_in_a_power_cut() {
    if !need::met(&[Need::Loop]) {
        return;
    }
    let cuts = cut_power(cuts(), &[]).unwrap();
    let lost: Vec<_> = cuts.iter().filter(|cut| cut.lost()).collect();
    assert!(lost.is_empty(), "{} of {} cuts lost something: {lost:#?}", lost.len(), cuts.len());
    let total: u64 = cuts.iter().map(|cut| cut.acknowledged).sum();
    eprintln!("{} cuts, {total} acknowledged records, none lost", cuts.len());
}

/// Without the barrier the same cuts must be seen to lose something: the test above can fail.
#[test]
fn without_the_barrier_power_cuts_are_noticed() {
    if !need::met(&[Need::Loop]) {
        return;
    }
    let cuts = cut_power(CUTS_A_WRITER, &["--flush-only"]).unwrap();
    let lost = cuts.iter().filter(|cut| cut.lost()).count();
    eprintln!("without the barrier {lost} of {} cuts lost something", cuts.len());
    assert!(lost > 0, "no cut lost anything without the barrier: {cuts:#?}");
}
