//! How the main figures grow with the number of services, for both.

use std::time::Duration;

use kedge_tests::rig::names;

use super::measure::median;
use super::stack::Stack;
use super::{library, machine, peer, resident};

/// Services of each stack, from small to large.
const SIZES: [usize; 4] = [5, 20, 60, 150];

/// What is followed over the sizes.
const WHAT: [&str; 4] = [
    "cold start, until all is healthy",
    "update of one service, until it is healthy",
    "a pass with nothing to do",
    "a killed container, from its end to its start",
];

/// One size: for each of [`WHAT`], ours and what stands beside it.
type Line = [(Vec<Duration>, Vec<Duration>); WHAT.len()];

/// Measures every size and prints a table.
pub(crate) fn run(rounds: usize) {
    let stacks: Vec<Stack> = SIZES.into_iter().filter_map(Stack::of).collect();
    let lines: Vec<Line> = stacks.iter().map(|stack| line(rounds, *stack)).collect();
    println!("{}\n", machine::describe());
    println!("{}; rounds: {rounds}. Kedge / beside it, and the ratio.\n", peer::versions());
    let heads: String = stacks.iter().map(|stack| format!(" {} services |", stack.services())).collect();
    println!("| what |{heads} per service, from {} to {} |", SIZES[0], SIZES[SIZES.len() - 1]);
    println!("|---|{}---:|", "---:|".repeat(stacks.len()));
    for (index, what) in WHAT.iter().enumerate() {
        let pairs: Vec<(Duration, Duration)> = lines
            .iter()
            .filter_map(|line| line.get(index))
            .map(|(ours, theirs)| (median(ours).unwrap_or_default(), median(theirs).unwrap_or_default()))
            .collect();
        println!("{}", row(what, &pairs));
    }
}

fn line(rounds: usize, stack: Stack) -> Line {
    let folder = names::scratch("kedge-bench-");
    let product = resident::Product::prepare(&folder.path().join("kedge"), stack);
    let compose = peer::Compose::prepare(&folder.path().join("compose"), stack);
    let mut line = Line::default();
    for round in 1..=rounds {
        let [cold, update, nothing, killed] = &mut line;
        eprintln!("{} services, round {round} of {rounds}: Docker Compose", stack.services());
        cold.1.push(compose.cold_start().healthy);
        nothing.1.push(compose.nothing_to_do());
        update.1.push(compose.update().healthy);
        compose.down();
        eprintln!("{} services, round {round} of {rounds}: the agent", stack.services());
        let running = product.install();
        cold.0.push(running.cold_start.healthy);
        killed.0.push(running.replacement().killed);
        update.0.push(running.update().healthy);
        drop(running);
        eprintln!("{} services, round {round} of {rounds}: the library", stack.services());
        let library = library::measure(stack);
        nothing.0.extend(library.warm);
        killed.1.extend(library.engine);
    }
    for (what, (ours, theirs)) in WHAT.iter().zip(&line) {
        let (ours, theirs) = (median(ours).unwrap_or_default(), median(theirs).unwrap_or_default());
        eprintln!("{} services: {what}: {}", stack.services(), cell(ours, theirs));
    }
    line
}

/// The last column says by which factor the time for one service grows from the smallest stack to the largest: 1 is linear,
/// less is better than that.
fn row(what: &str, pairs: &[(Duration, Duration)]) -> String {
    let cells: String = pairs.iter().map(|(ours, theirs)| format!(" {} |", cell(*ours, *theirs))).collect();
    let factor = |pick: fn(&(Duration, Duration)) -> Duration| {
        let each = |index: usize| Some(pick(pairs.get(index)?).as_secs_f64() / *SIZES.get(index)? as f64);
        match (each(0), each(SIZES.len() - 1)) {
            (Some(first), Some(last)) if first > 0.0 => format!("{:.2}x", last / first),
            _ => "-".to_owned(),
        }
    };
    format!("| {what} |{cells} {} / {} |", factor(|pair| pair.0), factor(|pair| pair.1))
}

fn cell(ours: Duration, theirs: Duration) -> String {
    let ratio = ours.as_secs_f64() / theirs.as_secs_f64();
    let ratio = if ratio < 0.01 { format!("{ratio:.5}x") } else { format!("{ratio:.2}x") };
    format!("{} / {}: {ratio}", short(ours), short(theirs))
}

fn short(time: Duration) -> String {
    match time {
        time if time < Duration::from_millis(1) => format!("{} µs", time.as_micros()),
        time if time < Duration::from_secs(1) => format!("{} ms", time.as_millis()),
        time => format!("{:.1} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_tells_times_ratios_and_growth() {
        let ms = Duration::from_millis;
        let pairs = [(ms(5), ms(50)), (ms(20), ms(200)), (ms(60), ms(600)), (ms(300), ms(1500))];
        assert_eq!(
            row("w", &pairs),
            "| w | 5 ms / 50 ms: 0.10x | 20 ms / 200 ms: 0.10x | 60 ms / 600 ms: 0.10x | \
             300 ms / 1.5 s: 0.20x | 2.00x / 1.00x |"
        );
    }
}
