//! `kedge completions`: for the shell.

use clap::CommandFactory;
use clap_complete::Shell;

use super::failure::Failure;
use super::{Cli, Context};

/// Print completions for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge completions bash > /etc/bash_completion.d/kedge
  kedge completions zsh > ~/.zfunc/_kedge")]
pub(super) struct Args {
    /// The shell
    shell: Shell,
}

pub(super) fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "kedge", &mut script);
    context.out.text(&String::from_utf8_lossy(&script))
}
