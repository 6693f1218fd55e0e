//! The attributes of a compose file, group by group, on each engine: what is asked for takes effect, as the engine and the
//! inside of the containers say. All groups are one stack, so that each engine costs one deployment.
//!
//! [`table`] holds the groups, [`keys`] the service keys that are not honoured and why; together they are all keys that
//! the specification has.

mod keys;
mod probe;
mod storage_and_network;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use kedge_tests::rig::docker::Docker;
use kedge_tests::rig::host::Host;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::own_engine::{Make, OwnEngine};
use kedge_tests::rig::vendor::{Recipe, Vendor};
use kedge_tests::rig::{images, names};

use probe::Probe;
use table::Row;

/// What the customer must allow for all of it.
const GUARD: &str = "[allow]
host_namespaces = true
devices = true
capabilities = ['NET_ADMIN', 'SYS_TIME']
host_paths = ['/etc/hostname']
";

fn rows() -> impl Iterator<Item = &'static Row> {
    table::ROWS.iter().chain(storage_and_network::ROWS)
}

#[test]
fn every_attribute_takes_effect_on_the_engine_of_this_machine() {
    if need::met(&[Need::Engine]) {
        take_effect_on(Docker::of_this_machine());
    }
}

#[test]
fn every_attribute_takes_effect_on_a_newer_engine() {
    if need::met(&[Need::Engine, Need::NewerEngine]) {
        let engine = OwnEngine::start(Make::Newer);
        take_effect_on(engine.docker());
    }
}

#[test]
fn every_attribute_takes_effect_with_containerds_image_store() {
    if need::met(&[Need::Engine, Need::NewerEngine]) {
        let engine = OwnEngine::start(Make::NewerContainerd);
        take_effect_on(engine.docker());
    }
}

fn take_effect_on(docker: Docker) {
    images::ensure_busybox().unwrap();
    let minor = docker.run(&["version", "--format", "{{.Server.APIVersion}}"]).succeeded();
    let minor: u32 = minor.trim().split_once('.').and_then(|(_, minor)| minor.parse().ok()).unwrap();
    let folder = names::scratch("kedge-attributes-");
    fs::write(folder.path().join("guard.toml"), GUARD).unwrap();
    let config = format!("guard = '{}'", folder.path().join("guard.toml").display());
    let host = Host::start_on(docker, &config);
    let name = host.name("attributes");
    let vendor = Vendor::shared();
    // Ports beside each other, for the range.
    let port = host.docker().free_port();
    let device = block_device().unwrap_or_else(|| "/dev/null".to_owned());
    let values = [format!("PORT={port}"), format!("LAST={}", port + 1), format!("BLOCK={device}")];
    let possible = || rows().filter(|row| row.since <= minor);

    // What this engine is too old for is refused by name, and nothing is touched.
    for row in rows().filter(|row| row.since > minor) {
        let bundle = build(&vendor, &folder.path().join(row.group), &[row]);
        let said = import(&host, &vendor, &bundle, &name, &values, &["--dry-run"]).failed_with(22, "KE-3005");
        assert!(said.contains(row.keys[0]) && said.contains("needs Docker Engine"), "{}: {said}", row.group);
        assert!(host.docker().of_project("container", &name).is_empty());
    }

    let bundle = build(&vendor, &folder.path().join("project"), &possible().collect::<Vec<_>>());
    import(&host, &vendor, &bundle, &name, &values, &[]).succeeded();
    let probe = Probe::new(&host, &name, minor);
    let mut wrong = Vec::new();
    let mut summary = String::new();
    for row in possible() {
        let findings = probe.check(row);
        let _ = writeln!(summary, "{:12} {} keys: {}", row.group, row.keys.len(), row.keys.join(", "));
        wrong.extend(findings.into_iter().map(|finding| format!("{}: {finding}", row.group)));
    }
    eprintln!("API 1.{minor}\n{summary}");
    assert!(wrong.is_empty(), "{} attributes did not take effect:\n{}", wrong.len(), wrong.join("\n"));

    // The same again changes nothing: what is there is recognised as what is wanted.
    let before: BTreeSet<String> = host.docker().of_project("container", &name).into_iter().collect();
    import(&host, &vendor, &bundle, &name, &values, &[]).succeeded();
    let after: BTreeSet<String> = host.docker().of_project("container", &name).into_iter().collect();
    assert_eq!(before, after);
    probe.check_the_end();
}

/// A bundle of these groups: a compose file each.
fn build(vendor: &Vendor, folder: &Path, rows: &[&Row]) -> std::path::PathBuf {
    fs::create_dir_all(folder).unwrap();
    let mut compose = table::BASE.to_owned();
    compose.push_str("  compose: [compose.yaml");
    for row in rows {
        let file = format!("{}.yaml", row.group);
        fs::write(folder.join(&file), row.compose).unwrap();
        compose.push_str(&format!(", {file}"));
        for (path, text) in row.files {
            fs::write(folder.join(path), text).unwrap();
        }
    }
    compose.push_str("]\n");
    fs::write(folder.join("compose.yaml"), compose).unwrap();
    fs::write(folder.join("base.yaml"), table::EXTENDED).unwrap();
    let bundle = folder.with_extension("kedge");
    let recipe = Recipe { product: "attributes", version: "1.0.0", seq: 1, flags: &[] };
    vendor.build_from(folder, &recipe, &bundle).succeeded();
    bundle
}

fn import(
    host: &Host,
    vendor: &Vendor,
    bundle: &Path,
    name: &str,
    values: &[String],
    flags: &[&str],
) -> kedge_tests::rig::outcome::Outcome {
    let mut arguments: Vec<String> = [
        "import",
        &bundle.display().to_string(),
        "--deployment",
        name,
        "--root-sha256",
        &vendor.root_sha256(),
    ]
    .map(str::to_owned)
    .to_vec();
    for value in values {
        arguments.extend(["--set".to_owned(), value.clone()]);
    }
    arguments.extend(flags.iter().map(|flag| (*flag).to_owned()));
    host.kedge(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A disk of this machine, whose traffic can be limited.
fn block_device() -> Option<String> {
    let disks = fs::read_dir("/sys/block").ok()?.flatten();
    let names = disks.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let real = |name: &String| !["loop", "ram", "zram", "dm-"].iter().any(|other| name.starts_with(other));
    names.filter(real).map(|name| format!("/dev/{name}")).find(|path| Path::new(path).exists())
}

#[test]
fn every_key_of_a_service_is_shown_to_take_effect_or_is_refused_or_warned_of_with_a_reason() {
    let shown: BTreeSet<&str> = rows().flat_map(|row| row.keys).copied().collect();
    let not_honoured: BTreeMap<&str, &keys::NotHonoured> =
        keys::NOT_HONOURED.iter().map(|one| (one.key, one)).collect();
    let all: BTreeSet<&str> = kedge_compose::service_keys().collect();
    let of_service = |key: &&&str| !key.contains(['.', ':']);
    let missing: Vec<_> =
        all.iter().filter(|key| !shown.contains(*key) && !not_honoured.contains_key(*key)).collect();
    assert!(missing.is_empty(), "nothing shows what becomes of {missing:?}");
    let both: Vec<_> = shown.iter().filter(|key| not_honoured.contains_key(*key)).collect();
    assert!(both.is_empty(), "{both:?} are said to be honoured and not");
    let unknown: Vec<_> = shown.iter().filter(of_service).filter(|key| !all.contains(*key)).collect();
    assert!(unknown.is_empty(), "{unknown:?} are no keys of a service");
    eprintln!(
        "{} keys: {} take effect, {} do not",
        all.len(),
        all.len() - not_honoured.len(),
        not_honoured.len()
    );
    for one in keys::NOT_HONOURED {
        eprintln!("{:20} {:8} {}", one.key, one.how.word(), one.why);
    }
}

#[test]
fn what_is_not_honoured_is_named() {
    for one in keys::NOT_HONOURED {
        let mut files = kedge_compose::MemoryFiles::new("/project");
        let text = format!("services:\n  a:\n    {}\n", one.compose.replace('\n', "\n    "));
        files.insert("compose.yaml", text.clone().into_bytes());
        let options = kedge_compose::Options {
            files: vec!["compose.yaml".into()],
            project_directory: "/project".into(),
            project_name: Some("p".into()),
            confined: true,
            ..kedge_compose::Options::default()
        };
        let said = match (one.how, kedge_compose::load(&files, &options)) {
            (keys::How::Refused, Err(errors)) => errors.to_string(),
            (keys::How::Warned, Ok(loaded)) => {
                loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            }
            // The engine's matter, and shown where engines are known.
            (keys::How::Host, Ok(_)) => continue,
            (how, Ok(_)) => panic!("{text}\nshould be {}, and is loaded", how.word()),
            (how, Err(errors)) => panic!("{text}\nshould be {}: {errors}", how.word()),
        };
        assert!(said.contains(one.key), "{}: {said}", one.key);
    }
}
