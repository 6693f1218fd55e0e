//! Prints a project as `docker compose config --format json` does, to compare the two:
//! `cargo run -p kedge-compose --example config -- -f FILE [-f FILE]… [--profile P]… [--env-file F]… [--run]`.
//! With `--run` it prints the typed model instead, refusing what cannot be run.

use std::process::ExitCode;

use kedge_compose::{DirFiles, Options, config, load};

fn main() -> ExitCode {
    let mut options = Options { environment: std::env::vars().collect(), ..Options::default() };
    let mut run = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "-f" => options.files.push(value()),
            "-p" => options.project_name = Some(value()),
            "--profile" => options.profiles.push(value()),
            "--env-file" => options.env_files.push(value()),
            "--project-directory" => options.project_directory = value(),
            "--run" => run = true,
            other => {
                eprintln!("unknown argument {other}");
                return ExitCode::from(2);
            }
        }
    }
    let here = std::env::current_dir().unwrap_or_default().display().to_string();
    let options = options.seen_from(&here);
    let files = DirFiles::unconfined();
    let outcome = if run {
        load(&files, &options).map(|loaded| (serde_json::to_value(loaded.project), loaded.warnings))
    } else {
        config(&files, &options).map(|config| (Ok(config.canonical), config.warnings))
    };
    match outcome {
        Ok((value, warnings)) => {
            for warning in warnings {
                eprintln!("warning: {warning}");
            }
            println!("{:#}", value.unwrap_or_default());
            ExitCode::SUCCESS
        }
        Err(errors) => {
            eprintln!("{errors}");
            ExitCode::from(errors.code().exit)
        }
    }
}
