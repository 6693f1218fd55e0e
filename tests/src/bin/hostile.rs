//! Brings every hostile bundle to a real agent, and prints what became of each.

use std::process::ExitCode;

use kedge_tests::hostile;

fn main() -> ExitCode {
    println!("{:<4} {:<58} {:<9} {:>4}", "CASE", "BUNDLE", "REASON", "EXIT");
    let verdicts = hostile::run(&mut |verdict| println!("{}", hostile::line(verdict)));
    println!("{}", hostile::further_summary(&verdicts));
    println!("{}", hostile::summary(&verdicts));
    if verdicts.iter().all(|verdict| verdict.wrong.is_empty()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
