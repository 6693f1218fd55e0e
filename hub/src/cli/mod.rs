//! The command line: one file per command. Arguments in, a [`Failure`] or nothing out; only `main` ends the process.

pub(crate) mod bundle;
pub(crate) mod client;
pub(crate) mod compose;
pub(crate) mod fleet;
pub(crate) mod hub;
pub(crate) mod input;
pub(crate) mod keyfile;
pub(crate) mod keys;
pub(crate) mod kit;
pub(crate) mod licence;
pub(crate) mod out;
pub(crate) mod output;
pub(crate) mod pin;
pub(crate) mod progress;
pub(crate) mod release;
pub(crate) mod root;
pub(crate) mod signers;
pub(crate) mod support;
pub(crate) mod version;

use crate::error::{Failure, Result};
use clap::{CommandFactory, Parser, Subcommand};
use std::time::Duration;

/// Builds, signs and publishes bundles, runs the hub, and shows the fleet.
#[derive(Debug, Parser)]
#[command(
    name = "kedgectl",
    version,
    after_help = "Exit codes: 0 done, 1 unexpected, 2 wrong arguments, 10 not a bundle or compose file, 11 not trusted,\n12 expired, 13 older, 14 for another site, product or stream, 21 disk too small, 22 port taken,\n23 no hub answers, 24 hub already running, 25 store damaged, 40 refused by the hub or a registry."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    /// Make and show the vendor's keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// Build, sign, verify, inspect, push and pull bundles
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// Make kits for hosts without a network
    #[command(subcommand)]
    Kit(kit::Command),
    /// Issue licences and show them
    #[command(subcommand)]
    Licence(licence::Command),
    /// Look at compose files as Kedge understands them
    #[command(subcommand)]
    Compose(compose::Command),
    /// Run the hub and manage its enrolment tokens
    #[command(subcommand)]
    Hub(hub::Command),
    /// Publish signed bundles
    #[command(subcommand)]
    Release(release::Command),
    /// See the hosts and their deployments
    #[command(subcommand)]
    Fleet(fleet::Command),
    /// Ask a customer to be let in, and work there once they have agreed
    #[command(subcommand)]
    Support(support::Command),
    /// Print the version
    Version(version::Command),
    /// Print a completion script for a shell
    #[command(after_help = "Example:\n  kedgectl completions bash > /etc/bash_completion.d/kedgectl")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

impl Cli {
    /// Runs the command.
    pub async fn run(self) -> Result<()> {
        match self.command {
            Command::Keys(command) => keys::run(command),
            Command::Bundle(command) => bundle::run(command).await,
            Command::Kit(command) => kit::run(command),
            Command::Licence(command) => licence::run(command),
            Command::Compose(command) => compose::run(command),
            Command::Hub(command) => hub::run(command).await,
            Command::Release(command) => release::run(command).await,
            Command::Fleet(command) => fleet::run(command).await,
            Command::Support(command) => support::run(command).await,
            Command::Version(command) => version::run(&command),
            Command::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "kedgectl", &mut script);
                out::text(&String::from_utf8_lossy(&script))
            }
        }
    }
}

/// Says what failed; gives the exit code.
pub fn report(failure: &Failure) -> u8 {
    out::failure(failure);
    failure.code.exit
}

/// Reads a duration: a whole number and one of `s`, `m`, `h`, `d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration; write for example 90s, 30m, 1h or 365d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number = text.strip_suffix(unit).unwrap_or_default();
    let number: u64 =
        number.parse().ok().filter(|_| number.bytes().all(|b| b.is_ascii_digit())).ok_or_else(wrong)?;
    number.checked_mul(seconds).filter(|seconds| *seconds > 0).map(Duration::from_secs).ok_or_else(wrong)
}

/// The moment this long after `start`.
pub(crate) fn after(start: jiff::Timestamp, duration: Duration) -> Result<jiff::Timestamp> {
    let end =
        jiff::SignedDuration::try_from(duration).ok().and_then(|duration| start.checked_add(duration).ok());
    end.ok_or_else(|| Failure::new(crate::codes::ARGUMENT, "this is too far in the future"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_every_command_has_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let leaf = !command.has_subcommands();
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(!leaf || help.contains("Example"), "{path} has no example");
            for sub in command.get_subcommands() {
                check(sub, &format!("{path} {}", sub.get_name()));
            }
        }
        let command = Cli::command();
        command.clone().debug_assert();
        check(&command, "kedgectl");
    }

    #[test]
    fn durations_are_whole_numbers_with_a_unit() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("1h", 3600), ("365d", 31_536_000)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for bad in [
            "",
            "1",
            "h",
            "-1h",
            "+1h",
            "1.5h",
            "1w",
            "0s",
            "99999999999999999999d",
            "999999999999999999d",
            "1µ",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
