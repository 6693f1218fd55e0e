//! `bench import`: a signed bundle of a gibibyte into an engine that has none of its images, beside `docker load` of the same
//! images; the same bundle once more; the agent's memory meanwhile; and what an update of one layer of ten sends.

mod set;

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kedge_tests::rig::counter::Counter;
use kedge_tests::rig::docker::Docker;
use kedge_tests::rig::host::{self, Host};
use kedge_tests::rig::hub::Hub;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::process::{forget_peak_memory, peak_memory, resident_memory};
use kedge_tests::rig::witness::Witness;
use kedge_tests::rig::{names, programs};

use super::measure::{HEADING, Row, plain};
use super::resident::AS_THE_UNIT_DOES;
use super::{machine, peer};
use set::{CHANGED, IMAGES, LAYERS, Set};

/// What the rounds gave.
#[derive(Default)]
struct Figures {
    load: Vec<Duration>,
    first: Vec<Duration>,
    again: Vec<Duration>,
    /// Resident before the first import, bytes.
    idle: u64,
    /// The most above that, of all rounds: while importing first, and once more.
    most: [u64; 2],
}

/// What an update of one layer sends, bytes.
struct Update {
    /// Requests with images to the engine, and bytes of them: for the first edition, and for the second.
    engine: [(usize, u64); 2],
    /// The first edition over the tether, whose images are here, and then the second.
    tether: [u64; 2],
}

pub(crate) fn main(words: impl Iterator<Item = String>) -> ExitCode {
    let Some(rounds) = arguments(words) else {
        eprintln!("usage: bench import [--rounds N]");
        return ExitCode::from(2);
    };
    if !need::met(&[Need::Engine]) {
        return ExitCode::FAILURE;
    }
    let folder = names::scratch("kedge-bench-");
    let set = Set::make(folder.path());
    let mut figures = Figures::default();
    for round in 1..=rounds {
        // Each is first in every other round.
        for is_ours in [round % 2 == 0, round % 2 == 1] {
            set.forget();
            assert_eq!(set.loaded(), 0, "the engine has images that it should not have");
            eprintln!("round {round} of {rounds}: {}", if is_ours { "kedge import" } else { "docker load" });
            if is_ours {
                figures.import(&set);
            } else {
                figures.load.push(load(&set));
            }
        }
    }
    eprintln!("an update of one layer of ten");
    let update = Update::measure(&set);
    figures.print(rounds, &set, &update);
    ExitCode::SUCCESS
}

/// The number of rounds, 3 unless told; `None` for what is no argument of ours.
fn arguments(mut words: impl Iterator<Item = String>) -> Option<usize> {
    let rounds = match words.next().as_deref() {
        None => 3,
        Some("--rounds") => words.next()?.parse().ok().filter(|rounds| (1..=100).contains(rounds))?,
        Some(_) => return None,
    };
    words.next().is_none().then_some(rounds)
}

/// `docker load` of the `docker save` file.
fn load(set: &Set) -> Duration {
    let saved = set.saved().display().to_string();
    let began = Instant::now();
    Docker::of_this_machine().run(&["load", "--quiet", "--input", &saved]).succeeded();
    let took = began.elapsed();
    assert_eq!(set.loaded(), IMAGES.len());
    took
}

impl Figures {
    /// The bundle on a fresh host, and once more.
    fn import(&mut self, set: &Set) {
        let (host, name) = fresh(Docker::of_this_machine());
        let pid = host.agent_pid();
        let idle = resident_memory(pid);
        self.idle = self.idle.max(idle);
        for again in [false, true] {
            forget_peak_memory(pid);
            let began = Instant::now();
            import(set, &host, &name, 1, &["--detach"]);
            let took = began.elapsed();
            // The agent has the bundle, which it says when the engine has its images.
            assert_eq!(set.loaded(), IMAGES.len());
            runs(&host, &name, 1);
            let most = &mut self.most[usize::from(again)];
            *most = peak_memory(pid).saturating_sub(idle).max(*most);
            if again { self.again.push(took) } else { self.first.push(took) }
        }
        host.kedge(&["remove", &name, "--yes"]).succeeded();
    }

    fn print(&self, rounds: usize, set: &Set, update: &Update) {
        let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        let file = |path| megabytes(fs::metadata(path).map_or(0, |file| file.len()));
        println!("{}\n\n{}; {rounds} rounds.", machine::describe(), peer::versions());
        println!(
            "A bundle of {} with {} images of {} different layers; the `docker save` file of the same has {}.\n",
            file(set.bundle(1)),
            IMAGES.len(),
            LAYERS.len(),
            file(set.saved())
        );
        println!("Median (least to most).\n\n{HEADING}");
        let beside = ("`docker load`", self.load.as_slice());
        for (what, ours, aim) in [
            ("import into an engine without the images, verified", &self.first, 1.0),
            ("the same bundle imported once more", &self.again, 0.1),
        ] {
            println!("{}", Row { what, ours, beside, aim: Some(aim) });
        }
        let idle = format!("idle: {}", megabytes(self.idle));
        for (what, most) in [
            ("memory of the agent, most above idle, first import", self.most[0]),
            ("memory of the agent, most above idle, once more", self.most[1]),
        ] {
            println!("{}", plain(what, &megabytes(most), &idle, "67.1 MB (64 MiB)"));
        }
        let layer = format!("the layer: {}", megabytes(set::size(CHANGED)));
        let [(_, all), (requests, bytes)] = update.engine;
        for (what, ours, beside) in [
            (
                "one layer of ten changed: sent to the engine",
                format!("{} in {requests} request", megabytes(bytes)),
                format!("{layer}; all images: {}", megabytes(all)),
            ),
            ("one layer of ten changed: over the tether", megabytes(update.tether[1]), layer.clone()),
            ("one layer of ten changed: thin bundle, the file", file(set.thin()), layer),
        ] {
            println!("{}", plain(what, &ours, &beside, ""));
        }
        println!("\nThe first edition over the tether, whose images were here: {} bytes.", update.tether[0]);
    }
}

impl Update {
    fn measure(set: &Set) -> Self {
        set.forget();
        Self { engine: Self::to_engine(set), tether: Self::over_tether(set) }
    }

    /// Both editions from their full bundles, with a witness before the engine.
    fn to_engine(set: &Set) -> [(usize, u64); 2] {
        let folder = names::scratch("kedge-witness-");
        let engine = Docker::of_this_machine().socket().to_owned();
        let witness = Witness::between(folder.path().join("engine.sock"), engine);
        let (host, name) = fresh(Docker::at(witness.socket().to_owned(), String::new()));
        let sent = |edition| {
            let (requests, bytes) = witness.loads();
            import(set, &host, &name, edition, &[]);
            let (requests_after, bytes_after) = witness.loads();
            (requests_after - requests, bytes_after - bytes)
        };
        let sent = [1, 2].map(sent);
        host.kedge(&["remove", &name, "--yes"]).succeeded();
        sent
    }

    /// Both editions from a hub. The engine has the images of the first.
    fn over_tether(set: &Set) -> [u64; 2] {
        set.forget();
        load(set);
        let (host, name) = fresh(Docker::of_this_machine());
        let hub = Hub::start(&set.vendor);
        let line = Counter::before(hub.url().trim_start_matches("https://"));
        hub.enrol_by(&host, "north", &line.url());
        hub.publish(&set.bundle(1));
        host.kedge(&["deploy", &set.product, "--as", &name]).succeeded();
        let first = line.moved();
        hub.publish(&set.bundle(2));
        runs(&host, &name, 2);
        let second = line.moved() - first;
        host.kedge(&["remove", &name, "--yes"]).succeeded();
        [first, second]
    }
}

/// A host that has seen nothing, with the environment that the systemd unit sets, and a name for a deployment on it.
fn fresh(docker: Docker) -> (Host, String) {
    let mut host = Host::prepare(docker, "");
    host.start_program(&programs::path("kedge"), AS_THE_UNIT_DOES);
    let name = host.name("bench");
    (host, name)
}

fn import(set: &Set, host: &Host, name: &str, edition: usize, flags: &[&str]) {
    let bundle = set.bundle(edition).display().to_string();
    let arguments = ["import", &bundle, "--deployment", name, "--root-sha256", &set.root];
    host.kedge(&[&arguments, flags].concat()).succeeded();
}

fn runs(host: &Host, name: &str, edition: usize) {
    let version = format!("{edition}.0.0");
    host.wait_for(name, &format!("should run {version}"), |d| host::runs(d, &version));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_rounds_is_bounded() {
        let parse = |line: &str| arguments(line.split_whitespace().map(str::to_owned));
        for (line, expected) in [
            ("", Some(3)),
            ("--rounds 5", Some(5)),
            ("--rounds 0", None),
            ("--rounds", None),
            ("--images 3", None),
            ("--rounds 3 4", None),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
    }
}
