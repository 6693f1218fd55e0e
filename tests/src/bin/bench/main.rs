//! Figures, beside Docker Compose on the same engine in the same run: services in four layers, each waiting for the
//! health of the one before.
//!
//! Times depend on the machine; ratios depend on it less, and they are what there are aims for. Nothing here fails for
//! being slow. Both take turns, so that what else the machine does meets both; moments such as "healthy" and "started"
//! are the engine's own. `./test bench` sets everything up and runs it; docs/benchmarks.md says what each line means.

#![allow(clippy::expect_used, clippy::panic, reason = "a bench fails loudly or its figures mean nothing")]

mod deltas;
mod events;
mod figures;
mod growth;
mod import;
mod library;
mod machine;
mod measure;
mod peer;
mod resident;
mod stack;
mod support;
mod updates;

use std::process::ExitCode;

use figures::{Figures, Took};
use kedge_tests::rig::images;
use kedge_tests::rig::need::{self, Need};
use stack::Stack;

const USAGE: &str = "usage: bench [--rounds N] [--services N]   one size: 5 rounds, 20 services
       bench growth [--rounds N]              5, 20, 60 and 150 services: 1 round
       bench updates [--updates N]            what clients lose while a service is updated: 20 times
       bench import [--rounds N]              a bundle of 1 GiB, beside docker load: 3 rounds
       bench deltas                           bytes of updates as deltas, beside zstd -19
       bench support                          what a support session costs";

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bench {
    /// Everything about one size of stack.
    Figures { rounds: usize, stack: Stack },
    /// How the main figures grow with the number of services.
    Growth { rounds: usize },
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("updates") => return updates::main(std::env::args().skip(2)),
        Some("import") => return import::main(std::env::args().skip(2)),
        Some("deltas") => return deltas::main(std::env::args().skip(2)),
        Some("support") => return support::main(),
        _ => {}
    }
    let Some(bench) = Bench::parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    if !need::met(&[Need::Engine, Need::Compose]) {
        return ExitCode::FAILURE;
    }
    if let Err(error) = images::ensure_busybox() {
        eprintln!("bench: {error}");
        return ExitCode::FAILURE;
    }
    match bench {
        Bench::Figures { rounds, stack } => Figures::take(rounds, stack).print(rounds, stack),
        Bench::Growth { rounds } => growth::run(rounds),
    }
    ExitCode::SUCCESS
}

impl Bench {
    fn parse(words: impl Iterator<Item = String>) -> Option<Self> {
        let mut words = words.peekable();
        let growth = words.next_if(|word| word == "growth").is_some();
        let (mut rounds, mut services) = (if growth { 1 } else { 5 }, 20);
        while let Some(word) = words.next() {
            let number = words.next()?.parse::<usize>().ok().filter(|number| (1..=1000).contains(number))?;
            match word.as_str() {
                "--rounds" => rounds = number,
                "--services" if !growth => services = number,
                _ => return None,
            }
        }
        if growth {
            return Some(Self::Growth { rounds });
        }
        Some(Self::Figures { rounds, stack: Stack::of(services)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_bounded() {
        let figures = |rounds, services| Stack::of(services).map(|stack| Bench::Figures { rounds, stack });
        for (line, expected) in [
            ("", figures(5, 20)),
            ("--rounds 2 --services 61", figures(2, 61)),
            ("growth", Some(Bench::Growth { rounds: 1 })),
            ("growth --rounds 3", Some(Bench::Growth { rounds: 3 })),
            ("growth --services 20", None),
            ("--rounds 0", None),
            ("--rounds", None),
            ("--services 3", None),
            ("--services 100000", None),
            ("--speed 5", None),
        ] {
            let words = line.split_whitespace().map(str::to_owned);
            assert_eq!(Bench::parse(words), expected, "{line}");
        }
    }
}
