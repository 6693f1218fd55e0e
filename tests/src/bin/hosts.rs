//! `hosts`: customers' hosts on this machine, each with systemd and a Docker engine of its own. See `rig::machine`.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Instant;

use kedge_tests::rig::images::Suite;
use kedge_tests::rig::machine::Machine;
use kedge_tests::rig::services::Service;

const USAGE: &str = "\
usage: hosts up [--suite SUITE] NAME...
                                     start hosts of bookworm (Engine 20.10), trixie (26.1) or bullseye, and make their
                                     image the first time (two minutes, root on Debian)
       hosts serve NAME SERVICE...   start services on one: hub, registry, proxy, web (for what is in its /srv)
       hosts ls                      those there are, with addresses
       hosts exec NAME COMMAND...    run a command on one, as root
       hosts cut NAME NAME           no packet between two any more
       hosts heal NAME NAME          undo that
       hosts reboot NAME             shut down in order, and boot
       hosts power-cut NAME          end every process at once, and boot
       hosts down [NAME...]          remove hosts and their disks; all where none is named";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["up", "--suite", suite, names @ ..] if !names.is_empty() && Suite::named(suite).is_some() => {
            up(names, Suite::named(suite).unwrap_or(Suite::Bookworm));
        }
        ["up", names @ ..] if !names.is_empty() && names[0] != "--suite" => up(names, Suite::Bookworm),
        ["serve", name, services @ ..]
            if !services.is_empty() && services.iter().all(|s| Service::named(s).is_some()) =>
        {
            let machine = Machine::named(name);
            for service in services.iter().filter_map(|service| Service::named(service)) {
                service.start(&machine);
                println!("{service:?} at {}:{}", machine.address(), service.port());
            }
        }
        ["ls"] => {
            for machine in Machine::all() {
                println!("{}\t{}", machine.name(), machine.address());
            }
        }
        ["exec", name, _, ..] => {
            let mut command =
                Machine::named(name).interactive(&arguments[2..], std::io::stdin().is_terminal());
            let status = command.status().ok().and_then(|status| status.code());
            return ExitCode::from(status.and_then(|code| u8::try_from(code).ok()).unwrap_or(1));
        }
        ["cut", one, other] => Machine::named(one).cut(&Machine::named(other)),
        ["heal", one, other] => Machine::named(one).heal(&Machine::named(other)),
        ["reboot", name] => booted(name, Machine::named(name).reboot()),
        ["power-cut", name] => booted(name, Machine::named(name).power_cut()),
        ["down"] => Machine::all().iter().for_each(Machine::down),
        ["down", names @ ..] => names.iter().for_each(|name| Machine::named(name).down()),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}

fn up(names: &[&str], suite: Suite) {
    for name in names {
        let began = Instant::now();
        let machine = Machine::up(name, suite);
        println!("{name} is up at {}, {:.1} s", machine.address(), began.elapsed().as_secs_f64());
    }
}

fn booted(name: &str, on: Instant) {
    println!("{name} has booted, {:.1} s", on.elapsed().as_secs_f64());
}
