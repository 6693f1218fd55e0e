//! `bench updates`: what clients that retry nothing lose while a stateless service behind an alias is updated again and again,
//! by the agent and by Docker Compose, on the same engine.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kedge_tests::rig::docker::Docker;
use kedge_tests::rig::host::Host;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::outcome::run;
use kedge_tests::rig::requests::{self, Clients, Told};
use kedge_tests::rig::vendor::{Recipe, Vendor};
use kedge_tests::rig::{names, programs};

use super::measure::median;
use super::{machine, peer};

const USAGE: &str = "usage: bench updates [--updates N]   (20)";

/// What one of the two did.
struct Done {
    told: [Told; 2],
    took: Vec<Duration>,
}

pub(crate) fn main(words: impl Iterator<Item = String>) -> ExitCode {
    let Some(updates) = arguments(words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if !need::met(&[Need::Engine, Need::Compose]) {
        return ExitCode::FAILURE;
    }
    let (folder, image) = (names::scratch("kedge-bench-"), requests::image());
    eprintln!("{updates} updates: the agent");
    let ours = of_kedge(&folder.path().join("kedge"), &image, updates);
    eprintln!("{updates} updates: Docker Compose");
    let theirs = of_compose(&folder.path().join("compose"), &image, updates);
    print(&ours, &theirs, updates);
    ExitCode::SUCCESS
}

fn arguments(mut words: impl Iterator<Item = String>) -> Option<u32> {
    let updates = match words.next().as_deref() {
        None => Some(20),
        Some("--updates") => words.next()?.parse().ok().filter(|updates| (1..=1000).contains(updates)),
        Some(_) => None,
    };
    updates.filter(|_| words.next().is_none())
}

fn of_kedge(folder: &Path, image: &str, updates: u32) -> Done {
    let vendor = Vendor::another(&folder.join("vendor"));
    for edition in 1..=updates + 1 {
        let project = folder.join(edition.to_string());
        fs::create_dir_all(&project).expect("a writable folder");
        let version = format!("{edition}.0.0");
        let head = format!("x-kedge: {{product: requests, version: {version}, gate: {{timeout: 60s}}}}\n");
        fs::write(project.join("compose.yaml"), head + &requests::compose_file(image, edition))
            .expect("a writable folder");
        let recipe = Recipe { product: "requests", version: &version, seq: edition.into(), flags: &[] };
        vendor.build_from(&project, &recipe, &folder.join(format!("{edition}.kedge"))).succeeded();
    }
    let mut host = Host::prepare(Docker::of_this_machine(), "");
    host.start_program(&programs::path("kedge"), &[("KEDGE_LOG", "info")]);
    // The clients go first when all is removed: their network goes with the other project.
    let (own, name) = (host.name("clients"), host.name("requests"));
    let root = vendor.root_sha256();
    let import = |edition: u32| {
        let bundle = folder.join(format!("{edition}.kedge")).display().to_string();
        let began = Instant::now();
        host.kedge(&["import", &bundle, "--deployment", &name, "--root-sha256", &root]).succeeded();
        began.elapsed()
    };
    import(1);
    let clients = Clients::start(host.docker(), image, &name, &own);
    let took = (2..=updates + 1).map(import).collect();
    Done { told: clients.stop(), took }
}

fn of_compose(folder: &Path, image: &str, updates: u32) -> Done {
    fs::create_dir_all(folder).expect("a writable folder");
    let docker = Docker::of_this_machine();
    let binary = need::compose().expect("it was asked for");
    let clients = Project { name: names::unique("clients-"), docker: &docker };
    let project = Project { name: names::unique("requests-"), docker: &docker };
    let up = |edition: u32| {
        let file = folder.join(format!("{edition}.yaml"));
        fs::write(&file, requests::compose_file(image, edition)).expect("a writable folder");
        let mut command = docker.command(&binary);
        command.args(["-p", &project.name, "-f"]).arg(file).args(["up", "--detach", "--wait"]);
        let began = Instant::now();
        run(&mut command).succeeded();
        began.elapsed()
    };
    up(1);
    let asking = Clients::start(&docker, image, &project.name, &clients.name);
    let took = (2..=updates + 1).map(up).collect();
    let told = asking.stop();
    drop(project);
    Done { told, took }
}

/// A compose project, removed when this goes out of scope.
struct Project<'a> {
    name: String,
    docker: &'a Docker,
}

impl Drop for Project<'_> {
    fn drop(&mut self) {
        self.docker.remove_project(&self.name);
    }
}

fn print(ours: &Done, theirs: &Done, updates: u32) {
    println!("{}\n\n{}; {updates} updates.\n", machine::describe(), peer::versions());
    println!("| clients | | Kedge | Docker Compose, `up -d --wait` |\n|---|---|---:|---:|");
    let kinds = ["that try every address", "that know only the first"];
    for (kind, (ours, theirs)) in kinds.iter().zip(ours.told.iter().zip(&theirs.told)) {
        for (what, of) in [
            ("requests sent", (|told| told.sent.to_string()) as fn(&Told) -> String),
            ("requests lost", |told| told.lost.to_string()),
            ("longest gap between two answers", |told| format!("{} ms", told.gap_ms)),
            ("slowest answer", |told| format!("{} ms", told.slowest_ms)),
        ] {
            println!("| {kind} | {what} | {} | {} |", of(ours), of(theirs));
        }
    }
    let time = |done: &Done| {
        median(&done.took).map_or_else(|| "-".to_owned(), |took| format!("{:.2} s", took.as_secs_f64()))
    };
    println!("| | time of an update, median | {} | {} |", time(ours), time(theirs));
    for (who, done) in [("Kedge", ours), ("Docker Compose", theirs)] {
        for told in &done.told {
            for (reason, times) in &told.reasons {
                println!("\n{who}, clients `{}`: {times} times {reason}", told.kind);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_updates_is_bounded() {
        let parse = |line: &str| arguments(line.split_whitespace().map(str::to_owned));
        for (line, expected) in [
            ("", Some(20)),
            ("--updates 3", Some(3)),
            ("--updates 0", None),
            ("--updates", None),
            ("--rounds 3", None),
            ("--updates 3 4", None),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
    }
}
