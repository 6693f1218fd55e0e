//! `rig images` makes the images that the end-to-end tests run and the products that they install, ahead of the tests: none
//! of them shall spend its time on compiling.

use kedge_tests::rig::images::{self, Origin};
use kedge_tests::rig::vendor::Vendor;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    match std::env::args().skip(1).collect::<Vec<_>>().as_slice() {
        [command] if command == "images" => make_images(),
        _ => {
            eprintln!("usage: rig images");
            ExitCode::from(2)
        }
    }
}

fn make_images() -> ExitCode {
    for (names, ensure) in [
        ([images::BUSYBOX].as_slice(), images::ensure_busybox as fn() -> _),
        ([images::POSTGRES, images::REDIS, images::NGINX].as_slice(), images::ensure_three_tier),
    ] {
        let began = Instant::now();
        match ensure() {
            Ok(origin) => {
                let origin = match origin {
                    Origin::Engine => "in the engine",
                    Origin::Cache => "loaded from the cache",
                    Origin::Made => "made",
                };
                println!("{}: {origin}, {:.1} s", names.join(", "), began.elapsed().as_secs_f64());
            }
            Err(error) => {
                eprintln!("rig: {}: {error}", names.join(", "));
                return ExitCode::FAILURE;
            }
        }
    }
    let began = Instant::now();
    Vendor::shared();
    println!("the example products: laid out, {:.1} s", began.elapsed().as_secs_f64());
    ExitCode::SUCCESS
}
