//! `bench deltas`: what updates of well-known Python packages cost as deltas, beside their missing layers at `zstd -19`.
//!
//! Wheels are fetched by `pip` when the bench runs and unpacked into an image of one layer each. Bundles are built and
//! patched by the same commands that a vendor uses: `bundle build`, then `bundle build --base`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use kedge_bundle::digest::Digest;
use kedge_tests::hostile::tamper;
use kedge_tests::rig::names;
use kedge_tests::rig::outcome::run;
use kedge_tests::rig::vendor::{Recipe, Vendor};
use serde_json::{Value, json};

/// Package, old and new version, and whether every time stamp changes too.
const UPDATES: [(&str, &str, &str, bool); 5] = [
    ("numpy", "2.2.5", "2.2.6", false),
    ("pyarrow", "18.0.0", "18.1.0", false),
    ("cryptography", "44.0.0", "44.0.1", false),
    ("django", "5.1.4", "5.1.5", false),
    ("django", "5.1.4", "5.1.5", true),
];

/// One line of the table.
struct Line {
    name: String,
    plain: u64,
    missing: u64,
    delta: u64,
    took: Duration,
}

pub(crate) fn main(words: impl Iterator<Item = String>) -> ExitCode {
    if words.count() > 0 {
        eprintln!("usage: bench deltas");
        return ExitCode::from(2);
    }
    let folder = names::scratch("kedge-bench-");
    let vendor = Vendor::another(&folder.path().join("vendor"));
    let mut lines = Vec::new();
    for (package, old, new, touched) in UPDATES {
        let what = if touched { ", all times changed" } else { "" };
        let name = format!("{package} {old} to {new}{what}");
        eprintln!("{name}");
        let place = folder.path().join(lines.len().to_string());
        match measure(&vendor, &place, name, (package, old, new, touched)) {
            Ok(line) => lines.push(line),
            Err(why) => {
                eprintln!("bench: {why}");
                return ExitCode::FAILURE;
            }
        }
    }
    print(&lines);
    ExitCode::SUCCESS
}

fn measure(
    vendor: &Vendor,
    place: &Path,
    name: String,
    (package, old, new, touched): (&str, &str, &str, bool),
) -> Result<Line, String> {
    let project = |version: &str, time: u32| -> Result<PathBuf, String> {
        let project = place.join(version);
        image(&project, &unpacked(&place.join("wheels").join(version), package, version)?, time)?;
        let compose = format!(
            "x-kedge: {{product: bench, version: {version}, images: {{'bench/wheel:1': 'docker-archive:image.tar'}}}}\n\
             services: {{wheel: {{image: 'bench/wheel:1'}}}}\n"
        );
        fs::write(project.join("compose.yaml"), compose).map_err(|e| e.to_string())?;
        Ok(project)
    };
    let (old_project, new_project) = (project(old, 0)?, project(new, u32::from(touched) * 1_700_000_000)?);
    let [base, full, thin] = ["base", "full", "thin"].map(|name| place.join(name).display().to_string());
    let recipe = |version, seq| Recipe { product: "bench", version, seq, flags: &[] };
    vendor.build_from(&old_project, &recipe(old, 1), Path::new(&base)).succeeded();
    let flags = ["--base", &base, "--full", &full, "--format", "json"];
    let started = Instant::now();
    let built =
        vendor.build_from(&new_project, &Recipe { flags: &flags, ..recipe(new, 2) }, Path::new(&thin));
    let took = started.elapsed();
    let built: Value = serde_json::from_str(&built.succeeded()).map_err(|e| e.to_string())?;

    let layer = built["content"]["images"][0]["layers"][0]["digest"].as_str().unwrap_or_default();
    let layer: Digest = layer.parse().map_err(|e| format!("{layer}: {e}"))?;
    let bytes = fs::read(&full).map_err(|e| format!("{full}: {e}"))?;
    let entry = tamper::span(&bytes, tamper::entry(&bytes, &layer.hex()));
    let plain = built["content"]["images"][0]["layers"][0]["size"].as_u64().unwrap_or_default();
    let begin = entry.start + kedge_bundle::tar::BLOCK;
    let content = &bytes[begin..begin + usize::try_from(plain).map_err(|e| e.to_string())?];
    let missing = zstd::encode_all(content, 19).map_err(|e| e.to_string())?.len() as u64;
    let patches = built["delta"]["patches"].as_array().map(Vec::as_slice).unwrap_or_default();
    // A layer that nothing could be made of travels whole.
    let delta = patches.first().map_or(plain, |patch| patch["patch_size"].as_u64().unwrap_or(plain));
    Ok(Line { name, plain, missing, delta, took })
}

/// The folder with what the wheel holds.
fn unpacked(folder: &Path, package: &str, version: &str) -> Result<PathBuf, String> {
    let (wheels, content) = (folder.join("wheel"), folder.join("content"));
    fs::create_dir_all(&wheels).map_err(|e| e.to_string())?;
    let wanted = format!("{package}=={version}");
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--dest"]);
    let fetched = run(pip.arg(&wheels).arg(&wanted));
    let wheel = fs::read_dir(&wheels).map_err(|e| e.to_string())?.flatten().next();
    let wheel = wheel.ok_or_else(|| format!("pip could not fetch {wanted}: {}", fetched.stderr.trim()))?;
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(wheel.path()).arg(&content)).succeeded();
    Ok(content)
}

/// What `docker save` would write of an image with this folder as its only layer.
fn image(project: &Path, content: &Path, time: u32) -> Result<(), String> {
    let failed = |error: std::io::Error| error.to_string();
    let made = project.join("image");
    fs::create_dir_all(&made).map_err(failed)?;
    let time = format!("--mtime=@{time}");
    let tar = ["--sort=name", "--owner=0", "--group=0", "--numeric-owner", &time, "-cf"];
    let layer = made.join("layer.tar");
    run(Command::new("tar").args(tar).arg(&layer).arg("-C").arg(content).arg(".")).succeeded();
    let diff_id = Digest::of(&fs::read(&layer).map_err(failed)?);
    let architecture = kedge_bundle::build::host_platform().architecture;
    let config = json!({
        "architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": ["bench/wheel:1"], "Layers": ["layer.tar"]}]);
    fs::write(made.join("config.json"), config.to_string()).map_err(failed)?;
    fs::write(made.join("manifest.json"), manifest.to_string()).map_err(failed)?;
    let archive = project.join("image.tar");
    let files = ["manifest.json", "config.json", "layer.tar"];
    run(Command::new("tar").arg("-cf").arg(&archive).arg("-C").arg(&made).args(files)).succeeded();
    fs::remove_dir_all(&made).map_err(failed)
}

fn print(lines: &[Line]) {
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    println!("| update | layer, plain | missing layer, zstd -19 | delta | ratio | built in |");
    println!("|---|---:|---:|---:|---:|---:|");
    let row = |name: &str, plain: u64, missing: u64, delta: u64, took: Duration| {
        let ratio = share(delta, missing);
        println!("| {name} | {plain} | {missing} | {delta} | {ratio:.3}x | {:.0} s |", took.as_secs_f64());
    };
    for Line { name, plain, missing, delta, took } in lines {
        row(name, *plain, *missing, *delta, *took);
    }
    let sum = |field: fn(&Line) -> u64| lines.iter().map(field).sum();
    let took = lines.iter().map(|line| line.took).sum();
    row("in all (aim 0.5x)", sum(|l| l.plain), sum(|l| l.missing), sum(|l| l.delta), took);
}
