//! `host`: a customer's host from the kit to the purge, told as it happens. `./test host` runs it.
//!
//! It needs the programs of this build (`cargo build --workspace --bins`), root and an engine; see `rig::machine`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "all of it is test code: failing loudly is its purpose"
)]

mod engines;
mod lives;
mod network;
mod relaxations;
mod rest;
mod rpm;
mod site;
mod story;

use std::process::ExitCode;

use kedge_tests::rig::images::Suite;

const USAGE: &str = "\
usage: host story           install from a kit without a network, reboot, upgrade, faults, leave, purge
       host engines         Engine 26.1 on Debian 13, and Engine 20.10 that becomes 26.1 under a running agent
       host network         install from a web server, enrol by a credential, a hub behind a proxy, cuts and power cuts
       host rpm             the same packages as .rpm: install, upgrade, remove, purge; with KEDGE_PROGRAMS, as `oldest`
       host oldest          Debian 11, from the kit to the purge; with KEDGE_PROGRAMS, for it takes the shipped programs
       host relaxations     take each relaxation of the unit away, and see what breaks
       host rest [MINUTES]  memory and processor time of the agent at rest (10)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["story"] => story::tell(),
        ["engines"] => engines::tell(),
        ["network"] => network::tell(),
        ["oldest"] => lives::whole("oldest", Suite::Bullseye),
        ["rpm"] => rpm::tell(),
        ["relaxations"] => relaxations::take_each_away(),
        ["rest"] => rest::measure(10),
        ["rest", minutes] if minutes.parse::<u64>().is_ok() => rest::measure(minutes.parse().unwrap_or(10)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
