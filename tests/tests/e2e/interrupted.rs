//! Imports that are killed at random moments: the agent or the command line, from a file and over the tether. What comes out
//! in the end is what comes out undisturbed, and nothing lies about.
//!
//! `KEDGE_KILLS` sets the number of kills, 4 where it is not set.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use kedge::store::{DeploymentRecord, GenerationRecord, Store, generation_key};
use kedge_bundle::digest::Digest;
use kedge_tests::rig::host::{self, Host};
use kedge_tests::rig::hub::Hub;
use kedge_tests::rig::lines::PATIENCE;
use kedge_tests::rig::need::{self, Need};
use kedge_tests::rig::process::Guarded;
use rand::RngExt;
use serde_json::Value;

use crate::deltas::{LAYERS, Shop};

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Agent,
    CommandLine,
}

/// One host that takes one release of a product after the other, each after some kills.
struct Chain {
    shop: Shop,
    /// Releases come from there, or from files.
    hub: Option<Hub>,
    host: Host,
    name: String,
    /// The release that is being taken, and its bundle.
    seq: u64,
    bundles: Vec<PathBuf>,
    /// How long that takes undisturbed.
    undisturbed: Duration,
    /// Kills that met an import under way: of the agent, and of the command line.
    kills: [usize; 2],
    completed: Vec<u64>,
}

#[test]
fn imports_killed_at_random_moments_end_as_if_nothing_had_happened() {
    if !need::met(&[Need::Engine]) {
        return;
    }
    let wanted =
        std::env::var("KEDGE_KILLS").ok().map_or(4, |n| n.parse::<usize>().expect("KEDGE_KILLS is a number"));
    let mut chains = [Chain::begin(false), Chain::begin(true)];
    for number in 0..wanted {
        let victim = if number / 2 % 2 == 0 { Victim::Agent } else { Victim::CommandLine };
        chains[number % 2].until_killed(victim);
    }
    for chain in &mut chains {
        chain.complete();
        chain.compare_with_undisturbed();
    }
    let [file, tether] = chains.map(|chain| (chain.kills, chain.completed.len()));
    let sum = |kills: [usize; 2]| kills.iter().sum::<usize>();
    assert_eq!(sum(file.0) + sum(tether.0), wanted);
    eprintln!(
        "{wanted} imports under way were killed: {} from a file, {} over the tether; {} times the agent, {} times the command \
         line. {} releases were completed after that, each as it is undisturbed; every store verified; nothing was left over.",
        sum(file.0),
        sum(tether.0),
        file.0[0] + tether.0[0],
        file.0[1] + tether.0[1],
        file.1 + tether.1,
    );
}

impl Chain {
    /// A host that runs the first release, which nothing disturbed.
    fn begin(by_tether: bool) -> Self {
        let (shop, host) = (Shop::open(), Host::start());
        let name = host.name("killed");
        let hub = by_tether.then(|| Hub::start(&shop.vendor));
        if let Some(hub) = &hub {
            hub.enrol(&host, "north");
        }
        let mut chain = Self {
            shop,
            hub,
            host,
            name,
            seq: 0,
            bundles: Vec::new(),
            undisturbed: Duration::ZERO,
            kills: [0; 2],
            completed: Vec::new(),
        };
        chain.next_release();
        let began = Instant::now();
        let outcome = chain.import().wait();
        assert!(outcome.is_some_and(|status| status.success()), "{}", chain.host.log().tail());
        chain.undisturbed = began.elapsed();
        chain.complete();
        chain.next_release();
        chain
    }

    /// The next release is there to be taken: it differs in a layer in the middle.
    fn next_release(&mut self) {
        self.seq += 1;
        let mut changes = [0; LAYERS];
        changes[5] = u8::try_from(self.seq).expect("few releases");
        let (bundle, _) = self.shop.build(self.seq, changes, None);
        if let Some(hub) = &self.hub {
            hub.publish(&bundle);
        }
        self.bundles.push(bundle);
    }

    /// Begins to take it: `kedge import`, or `kedge deploy`.
    fn import(&self) -> Import {
        let mut command = self.host.kedge_command();
        if self.hub.is_some() {
            if self.seq == 1 {
                self.host.wait_for_offer(&self.shop.product);
            }
            command.args(["deploy", &self.shop.product, "--as", &self.name]);
        } else {
            let bundle = self.bundles.last().expect("a release");
            command.arg("import").arg(bundle).args(["--deployment", &self.name]);
            command.args(["--root-sha256", &self.shop.vendor.root_sha256()]);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Import(Guarded::spawn(&mut command).expect("kedge starts"))
    }

    /// Kills until one has met an import that was under way. Now and then it is let come to its end after that.
    fn until_killed(&mut self, victim: Victim) {
        for _ in 0..20 {
            let was_under_way = self.kill(victim);
            if was_under_way {
                self.kills[usize::from(victim == Victim::CommandLine)] += 1;
            }
            if !was_under_way || rand::rng().random_range(0..3) == 0 {
                self.complete();
                self.next_release();
            }
            if was_under_way {
                return;
            }
        }
        panic!("no import was under way when the {victim:?} was killed, twenty times");
    }

    /// Whether what was killed had not ended.
    fn kill(&mut self, victim: Victim) -> bool {
        let mut import = self.import();
        std::thread::sleep(self.undisturbed.mul_f64(rand::rng().random_range(0.0..1.0)));
        match victim {
            Victim::CommandLine => import.kill(),
            Victim::Agent => {
                self.host.kill_agent();
                drop(import);
                let is_under_way = self.active_in_store() != Some(self.seq);
                self.host.start_agent();
                is_under_way
            }
        }
    }

    /// Opens the store that a killed agent has left, which reads every record, and says which release it has as active.
    fn active_in_store(&self) -> Option<u64> {
        let log = File::open(self.host.state_dir().join("audit/log.jsonl")).unwrap();
        kedge::audit::verify(log).unwrap_or_else(|why| panic!("the audit log after a kill: {why}"));
        let store = Store::open(&self.host.state_dir().join("store"));
        let store = store.unwrap_or_else(|why| panic!("the store after a kill: {why}"));
        let active = store.get::<DeploymentRecord>(&self.name).unwrap()?.active?;
        Some(store.get::<GenerationRecord>(&generation_key(&self.name, active)).unwrap()?.release.seq)
    }

    /// Lets the release come to its end, and looks whether all is as it should be.
    fn complete(&mut self) {
        if self.hub.is_none() {
            let bundle = self.bundles.last().expect("a release").display().to_string();
            let done = self.host.kedge(&["import", &bundle, "--deployment", &self.name]);
            // Where the agent was killed late, it has gone on by itself.
            assert!(done.code == Some(0) || done.stderr.contains("KE-3010"), "{done:#?}");
        }
        let version = format!("{}.0.0", self.seq);
        self.host.wait_for(&self.name, &format!("should run {version}"), |d| host::runs(d, &version));
        self.look();
        self.completed.push(self.seq);
    }

    /// Nothing in the making, nothing damaged, nothing that nobody needs; and what runs is what was signed.
    fn look(&self) {
        let content = self.host.state_dir().join("content");
        let rest = || {
            let garbage = json(&self.host, &["gc", "--dry-run", "-o", "json"]);
            let count = |name: &str| garbage[name].as_array().map_or(0, Vec::len);
            let mut rest = names(&content.join("partial"));
            rest.extend(names_below(&self.host.state_dir()).into_iter().filter(|name| is_temporary(name)));
            if count("releases") > 0 || garbage["blobs"].as_u64().unwrap_or(0) > 0 {
                rest.insert(garbage.to_string());
            }
            rest
        };
        // What an operation leaves is tidied up just after its end was told.
        let deadline = Instant::now() + PATIENCE;
        while !rest().is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(rest(), BTreeSet::new());
        for name in names(&content.join("blobs")) {
            assert_eq!(Digest::of(&fs::read(content.join("blobs").join(&name)).unwrap()).hex(), name);
        }
        let inventory = json(&self.host, &["inventory", &self.name, "-o", "json"]);
        let containers = inventory["deployments"][0]["containers"].as_array().unwrap();
        let running = containers.iter().filter(|one| one["state"] == "running");
        assert!(running.map(|one| one["agrees"] == true).eq([true]), "{inventory}");
    }

    /// A host that nothing ever disturbed has the same, once it has taken the last two releases.
    fn compare_with_undisturbed(&mut self) {
        let other = Host::start();
        let name = other.name("undisturbed");
        let [.., before, last] = self.completed[..] else { panic!("two releases at least were completed") };
        for seq in [before, last] {
            let bundle = self.bundles[usize::try_from(seq).unwrap() - 1].display().to_string();
            let root = self.shop.vendor.root_sha256();
            other.kedge(&["import", &bundle, "--deployment", &name, "--root-sha256", &root]).succeeded();
        }
        let content = |host: &Host| {
            ["blobs", "partial", "releases"].map(|part| names(&host.state_dir().join("content").join(part)))
        };
        let deadline = Instant::now() + PATIENCE;
        while content(&self.host) != content(&other) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(content(&self.host), content(&other));
        self.host.stop_agent();
        assert_eq!(self.active_in_store(), Some(last));
    }
}

/// A command line that waits for the end of what it asked for.
struct Import(Guarded);

impl Import {
    fn wait(&mut self) -> Option<std::process::ExitStatus> {
        self.0.child().wait().ok()
    }

    /// Kills it; whether it had not ended.
    fn kill(&mut self) -> bool {
        let had_ended = self.0.child().try_wait().expect("a child").is_some();
        !had_ended && self.0.kill().is_ok()
    }
}

fn json(host: &Host, arguments: &[&str]) -> Value {
    serde_json::from_str(&host.kedge(arguments).succeeded()).expect("JSON")
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn names_below(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries
        .flat_map(|path| if path.is_dir() { names_below(&path) } else { [path.display().to_string()].into() })
        .collect()
}

fn is_temporary(name: &str) -> bool {
    [".tmp", ".part", ".partial", ".new", "~"].iter().any(|end| name.ends_with(end))
}
