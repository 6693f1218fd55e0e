//! Stacks that other people have written come up through Kedge, each as it stands in the corpus, with its ports, health
//! checks, volumes, secrets and dependencies. Only the programs are stand-ins: a server listens on the ports that the stack
//! says, and a health check's client looks whether it does.
//!
//! The corpus is no part of this repository: where it is absent the test says so and does nothing. What the vendor would have
//! to add is in one more file: a name for what the stack builds from source, and secrets as parameters.

mod stand_in;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use kedge_tests::rig::host::{self, Host};
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::own_engine::{Make, OwnEngine};
use kedge_tests::rig::vendor::{Recipe, Vendor};
use kedge_tests::rig::{images, names};
use serde_json::Value;

use stand_in::StandIns;

/// Databases, caches, proxies, health checks, volumes, secrets, conditions, fixed names.
const STACKS: [&str; 14] = [
    "aspnet-mssql",
    "elasticsearch-logstash-kibana",
    "flask-redis",
    "gitea-postgres",
    "nextcloud-redis-mariadb",
    "nginx-flask-mysql",
    "nginx-golang-postgres",
    "nginx-nodejs-redis",
    "nginx-wsgi-flask",
    "prometheus-grafana",
    "react-express-mongodb",
    "react-java-mysql",
    "react-rust-postgres",
    "wordpress-mysql",
];

#[test]
fn stacks_of_other_people_come_up_and_are_healthy() {
    if !need::met(&[Need::Engine, Need::OwnEngine]) {
        return;
    }
    let Some(corpus) = corpus() else {
        eprintln!("skipped: there is no corpus; KEDGE_CORPUS names its folder");
        return;
    };
    images::ensure_busybox().unwrap();
    // In a network of its own every port is free, so that none has to be changed.
    let engine = OwnEngine::start(Make::Machine);
    let host = Host::start_on(engine.docker(), "");
    let vendor = Vendor::shared();
    let folder = names::scratch("kedge-corpus-");
    let mut stand_ins = StandIns::new(folder.path());
    let mut report = String::new();
    for name in STACKS {
        let began = Instant::now();
        let stack = Stack::lay_out(&corpus, name, folder.path(), &mut stand_ins);
        let bundle = folder.path().join(format!("{name}.kedge"));
        let recipe = Recipe { product: name, version: "1.0.0", seq: 1, flags: &[] };
        vendor.build_from(&stack.folder, &recipe, &bundle).succeeded();
        let said = stack.come_up(&host, &vendor, &bundle);
        let _ = writeln!(report, "{name:32} {said}, {:.1} s", began.elapsed().as_secs_f64());
        host.kedge(&["remove", name, "--yes", "--volumes"]).succeeded();
    }
    eprintln!("{report}");
}

fn corpus() -> Option<PathBuf> {
    let here = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let root = std::env::var_os("KEDGE_CORPUS").map_or_else(here, PathBuf::from);
    let folder = root.join("compose/docker+awesome-compose");
    folder.is_dir().then_some(folder)
}

/// One stack, ready to be bundled.
struct Stack {
    name: &'static str,
    folder: PathBuf,
    /// Services as Docker Compose understands them.
    services: BTreeMap<String, Value>,
}

impl Stack {
    /// Copies the stack's file, makes what it mounts, and writes the file that the vendor adds.
    fn lay_out(corpus: &Path, name: &'static str, to: &Path, stand_ins: &mut StandIns) -> Self {
        let expected = fs::read_to_string(corpus.join(name).join("compose.expected.json")).unwrap();
        // The place where the project lies is written as the corpus' own.
        let inside = format!("{{{{CORPUS}}}}/docker+awesome-compose/{name}/");
        let project: Value = serde_json::from_str(&expected).unwrap();
        let services: BTreeMap<String, Value> =
            serde_json::from_value(project["services"].clone()).unwrap_or_default();
        let folder = to.join(name);
        fs::create_dir(&folder).unwrap();
        fs::copy(corpus.join(name).join("compose.yaml"), folder.join("compose.yaml")).unwrap();

        let mut more = format!("x-kedge:\n  product: {name}\n  version: 1.0.0\n");
        more.push_str("  gate: {timeout: 120s, soak: 0s}\n");
        let mut images = BTreeMap::new();
        let mut own = String::new();
        for (service, spec) in &services {
            let made = stand_ins.of(spec);
            let reference =
                spec["image"].as_str().map_or_else(|| format!("{name}/{service}:1"), str::to_owned);
            if spec["image"].is_null() {
                let _ = writeln!(own, "  {service}: {{image: \"{reference}\"}}");
            }
            images.insert(reference, made);
            for source in sources(spec, &inside) {
                put(&folder.join(source));
            }
        }
        let secrets: BTreeSet<String> =
            project["secrets"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect();
        if !secrets.is_empty() {
            more.push_str("  parameters: {SECRET: {type: secret, generate: 16}}\n");
        }
        more.push_str("  images:\n");
        for (reference, made) in images {
            let _ = writeln!(more, "    \"{reference}\": \"engine:{made}\"");
        }
        if !own.is_empty() {
            let _ = write!(more, "services:\n{own}");
        }
        if !secrets.is_empty() {
            more.push_str("secrets:\n");
            secrets.iter().for_each(|secret| {
                let _ = writeln!(more, "  {secret}: !override {{environment: SECRET}}");
            });
        }
        fs::write(folder.join("compose.override.yaml"), more).unwrap();
        Self { name, folder, services }
    }

    /// Installs it and looks at every service; says in what state it is.
    fn come_up(&self, host: &Host, vendor: &Vendor, bundle: &Path) -> String {
        let root = vendor.root_sha256();
        let bundle = bundle.display().to_string();
        let name = self.name;
        host.kedge(&["import", &bundle, "--deployment", name, "--root-sha256", &root]).succeeded();
        let status = host.deployment(name);
        assert!(host::runs(&status, "1.0.0"), "{name}: {status}");
        let (mut checked, mut answering, mut mounted) = (0, 0, 0);
        for (service, spec) in &self.services {
            let id = host.docker().container(name, service);
            let text = host.docker().run(&["container", "inspect", &id]).succeeded();
            let seen: Value = serde_json::from_str(&text).unwrap();
            let seen = &seen[0];
            assert_eq!(seen["State"]["Status"], "running", "{name} {service}");
            if !spec["healthcheck"].is_null() {
                assert_eq!(seen["State"]["Health"]["Status"], "healthy", "{name} {service}");
                checked += 1;
            }
            let targets: BTreeSet<&str> = seen["Mounts"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|m| m["Destination"].as_str())
                .collect();
            for mount in spec["volumes"].as_array().into_iter().flatten() {
                let target = mount["target"].as_str().unwrap_or_default();
                assert!(targets.contains(target), "{name} {service}: nothing is mounted at {target}");
                mounted += 1;
            }
            for secret in spec["secrets"].as_array().into_iter().flatten() {
                let path = format!("/run/secrets/{}", secret["source"].as_str().unwrap_or_default());
                assert!(targets.contains(path.as_str()), "{name} {service}: {path}");
            }
            for port in
                spec["ports"].as_array().into_iter().flatten().filter(|port| port["protocol"] == "tcp")
            {
                let published = port["published"].as_str().unwrap_or_default();
                host.docker().curl(&[&format!("http://127.0.0.1:{published}/")]).succeeded();
                answering += 1;
            }
        }
        format!(
            "healthy: {} services, {checked} health checks, {answering} ports, {mounted} mounts",
            self.services.len()
        )
    }
}

/// Paths of the project that a service mounts.
fn sources(service: &Value, inside: &str) -> Vec<String> {
    let mounts = service["volumes"].as_array().into_iter().flatten();
    mounts
        .filter(|mount| mount["type"] == "bind")
        .filter_map(|mount| Some(mount["source"].as_str()?.strip_prefix(inside)?.to_owned()))
        .collect()
}

/// A file where the name looks like one, else a folder with a file in it. The corpus has only the stacks' own files.
fn put(path: &Path) {
    let is_file = path.extension().is_some();
    let file = if is_file { path.to_owned() } else { path.join("file") };
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, "of a stand-in\n").unwrap();
}
