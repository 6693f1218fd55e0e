//! Writes numbered records through the agent's store for as long as it lives, and says each number only once its
//! commit has returned; or reads back what is there. Power cuts and kills happen to this process, not to a test.
//!
//! ```text
//! store-writer write [--flush-only] FOLDER    one number a line, as it is acknowledged
//! store-writer read FOLDER                    the highest number, once every record up to it was found whole
//! ```

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use kedge::problem::Problem;
use kedge::store::{Durability, EventRecord, OutboxRecord, Store, Writes};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["write", folder] => write(Path::new(folder), Durability::Barrier),
        ["write", "--flush-only", folder] => write(Path::new(folder), Durability::FlushOnly),
        ["read", folder] => read(Path::new(folder)),
        _ => Err("usage: store-writer write [--flush-only] FOLDER | read FOLDER".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("store-writer: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Two records a commit, so that half a commit would show.
fn write(folder: &Path, durability: Durability) -> Result<(), String> {
    let store = Store::open_with(folder, durability).map_err(text)?;
    let mut out = std::io::stdout();
    for number in highest(&store)? + 1.. {
        let writes = Writes::new()
            .put(&EventRecord { number, event: content(number) })
            .and_then(|w| w.put(&OutboxRecord { session: String::new(), last: number, acked: 0 }))
            .map_err(text)?;
        store.commit_blocking(writes).map_err(text)?;
        writeln!(out, "{number}").and_then(|()| out.flush()).map_err(|e| e.to_string())?;
    }
    Ok(())
}

fn read(folder: &Path) -> Result<(), String> {
    let store = Store::open(folder).map_err(text)?;
    println!("{}", highest(&store)?);
    Ok(())
}

/// The highest number, after a look at every record.
fn highest(store: &Store) -> Result<u64, String> {
    let last = store.get::<OutboxRecord>("").map_err(text)?.map_or(0, |record| record.last);
    let events = store.scan::<EventRecord>("").map_err(text)?;
    for (expected, event) in (1..).zip(&events) {
        if event.number != expected || event.event != content(expected) {
            return Err(format!("record {expected} is missing or altered"));
        }
    }
    if events.len() as u64 != last {
        return Err(format!(
            "there are {} records, and the counter says {last}: half a commit",
            events.len()
        ));
    }
    Ok(last)
}

/// What a record with this number holds: up to 4 KiB that only this number has.
fn content(number: u64) -> String {
    let length = number.wrapping_mul(2_654_435_761) % 256;
    format!("{number:016x}").repeat(1 + usize::try_from(length).unwrap_or_default())
}

fn text(problem: Problem) -> String {
    problem.to_string()
}
