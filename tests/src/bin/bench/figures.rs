//! One size of stack, everything about it: cold start, nothing to do, update, replacement, memory.

use std::time::Duration;

use kedge_tests::rig::{names, programs};

use super::measure::{HEADING, Row, plain};
use super::stack::{LAYERS, Stack};
use super::{library, machine, peer, resident};

/// From a command's start until all is healthy, and until the command returns.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Took {
    pub(crate) healthy: Duration,
    pub(crate) returned: Duration,
}

/// The same of several rounds.
#[derive(Default)]
pub(crate) struct Tooks {
    healthy: Vec<Duration>,
    returned: Vec<Duration>,
}

impl Tooks {
    fn push(&mut self, took: Took) {
        self.healthy.push(took.healthy);
        self.returned.push(took.returned);
    }
}

/// What all rounds gave.
#[derive(Default)]
pub(crate) struct Figures {
    compose_cold: Tooks,
    compose_nothing: Vec<Duration>,
    compose_update: Tooks,
    compose_peak: u64,
    cold: Tooks,
    again: Vec<Duration>,
    update: Tooks,
    killed: Vec<Duration>,
    removed: Vec<Duration>,
    library_cold: Vec<Duration>,
    library_update: Vec<Duration>,
    warm_pass: Vec<Duration>,
    cold_pass: Vec<Duration>,
    engine: Vec<Duration>,
    idle: Option<resident::Idle>,
}

impl Figures {
    /// Takes them.
    pub(crate) fn take(rounds: usize, stack: Stack) -> Self {
        let folder = names::scratch("kedge-bench-");
        let product = resident::Product::prepare(&folder.path().join("kedge"), stack);
        let compose = peer::Compose::prepare(&folder.path().join("compose"), stack);
        let mut all = Self::default();
        for round in 1..=rounds {
            eprintln!("round {round} of {rounds}: Docker Compose");
            all.compose_cold.push(compose.cold_start());
            all.compose_nothing.extend((0..3).map(|_| compose.nothing_to_do()));
            if round == rounds {
                all.compose_peak = compose.peak();
            }
            all.compose_update.push(compose.update());
            compose.down();
            eprintln!("round {round} of {rounds}: the agent");
            let running = product.install();
            all.cold.push(running.cold_start);
            all.again.extend((0..3).map(|_| running.nothing_to_do()));
            if round == rounds {
                all.idle = Some(running.idle());
            }
            let replaced = running.replacement();
            all.killed.push(replaced.killed);
            all.removed.push(replaced.removed);
            all.update.push(running.update());
            drop(running);
            eprintln!("round {round} of {rounds}: the library");
            let library = library::measure(stack);
            all.library_cold.push(library.cold_start);
            all.library_update.push(library.update);
            all.warm_pass.extend(library.warm);
            all.cold_pass.extend(library.cold);
            all.engine.extend(library.engine);
        }
        all
    }

    /// Prints the table.
    pub(crate) fn print(&self, rounds: usize, stack: Stack) {
        println!("{}\n", machine::describe());
        println!(
            "{}; {} services in {LAYERS} layers; {rounds} rounds.\n",
            peer::versions(),
            stack.services()
        );
        println!("Median (least to most).\n\n{HEADING}");
        let up = "`up -d --wait`";
        for (what, ours, theirs, aim) in [
            ("cold start, until all is healthy", &self.cold.healthy, &self.compose_cold.healthy, Some(0.75)),
            ("cold start, until the command returns", &self.cold.returned, &self.compose_cold.returned, None),
            ("cold start, engine room alone", &self.library_cold, &self.compose_cold.returned, None),
            (
                "update of one service, until it is healthy",
                &self.update.healthy,
                &self.compose_update.healthy,
                Some(0.5),
            ),
            (
                "update of one service, until the command returns",
                &self.update.returned,
                &self.compose_update.returned,
                None,
            ),
            (
                "update of one service, engine room alone",
                &self.library_update,
                &self.compose_update.returned,
                None,
            ),
        ] {
            println!("{}", Row { what, ours, beside: (up, theirs), aim });
        }
        let idle = &self.compose_nothing;
        for (what, ours, aim) in [
            ("a pass with nothing to do, resident", &self.warm_pass, Some(0.02)),
            ("a pass with nothing to do, asking the engine everything", &self.cold_pass, None),
            ("the active bundle imported once more", &self.again, None),
        ] {
            println!("{}", Row { what, ours, beside: ("`up -d`", idle), aim });
        }
        let alone = ("engine's create and start", self.engine.as_slice());
        for (what, ours) in [
            ("a killed container, from its end to its start", &self.killed),
            ("a removed container, from its end to the start of its successor", &self.removed),
        ] {
            println!("{}", Row { what, ours, beside: alone, aim: Some(1.2) });
        }
        self.print_sizes();
    }

    fn print_sizes(&self) {
        let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        let size = |name: &str| std::fs::metadata(programs::path(name)).map_or(0, |file| file.len());
        if let Some(idle) = &self.idle {
            let beside = format!("`up -d` while it works: {}", megabytes(self.compose_peak));
            println!("{}", plain("memory, idle, resident", &megabytes(idle.resident), &beside, "12 MB"));
            println!("{}", plain("memory, idle, proportional", &megabytes(idle.proportional), "", ""));
            let share = format!("{:.2} %", idle.processor * 100.0);
            println!("{}", plain("processor, idle, of one core", &share, "", "0.1 %"));
        }
        println!(
            "{}",
            plain("`kedge`, the agent and its command line", &megabytes(size("kedge")), "", "9 MB")
        );
        println!("{}", plain("`kedgectl`", &megabytes(size("kedgectl")), "", ""));
    }
}
