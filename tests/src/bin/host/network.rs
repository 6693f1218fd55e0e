//! What takes a network: installing from a web server, enrolling by a credential, the hub, a proxy, cuts and power cuts.

use std::path::Path;
use std::process::Command;

use kedge_tests::rig::images::{self, Suite};
use kedge_tests::rig::outcome::run;
use kedge_tests::rig::services::{HUB, PROXY, REGISTRY, Service, write};
use serde_json::Value;

use crate::site::{Site, last_lines, quote, say};
use crate::story::PRODUCT;

/// Not the default, to see that the file of values is read.
const PORT: &str = "18090";
/// In the file of values, to be found nowhere else.
const PASSWORD: &str = "corn-flower-blue";

/// Tells it; panics where it comes out otherwise.
pub(crate) fn tell() {
    let vendor = Site::new("vendor", Suite::Bookworm);
    for service in [Service::Hub, Service::Registry, Service::Web] {
        service.start(&vendor.machine);
    }
    let gate = Site::new("gate", Suite::Bookworm);
    Service::Proxy.start(&gate.machine);
    let site = Site::new("site", Suite::Bookworm);
    from_the_web(&vendor, &site);
    hub(&vendor, &site);
    behind_a_proxy(&vendor, &gate, &site);
    power_cuts(&vendor, &site);
    registry(&vendor, &site);
    say("the end: all of it came out as it should");
}

fn from_the_web(vendor: &Site, site: &Site) {
    let folder = site.folder.path();
    let openssl =
        |arguments: &[&str]| run(Command::new("openssl").args(arguments).current_dir(folder)).succeeded();
    for name in ["kit", "other"] {
        openssl(&["genpkey", "-algorithm", "ed25519", "-out", &format!("{name}.pem")]);
        openssl(&["pkey", "-in", &format!("{name}.pem"), "-pubout", "-out", &format!("{name}.pub")]);
        site.bring(&folder.join(format!("{name}.pub")));
    }
    let (kit, _) = site.kit(PRODUCT, "1.0.0", &site.packages("1"), Some(&folder.join("kit.pem")));
    let kit = vendor.bring(&kit);
    vendor.machine.sh(&format!("sh {kit} --unpack /srv/kit && cp -r /srv/kit /srv/bad && for f in /srv/bad/*.deb; do printf x >>$f; done"));
    let script = site.bring(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/install.sh"));
    let from = format!("sh {script} --from http://{}", vendor.machine.name());
    let sums = vendor.machine.sh("sha256sum </srv/kit/SHA256SUMS | cut -d' ' -f1");
    let sums = sums.trim();

    say("from a web server: refused without a sum or a key, with wrong ones, and where a file is another");
    for (flags, why) in [
        ("/kit".to_owned(), "what comes from the network is verified first"),
        (format!("/kit --sha256 {}", "0".repeat(64)), "which is not what you gave"),
        ("/kit --key /root/other.pub".to_owned(), "is not signed by the key"),
        ("/bad --key /root/kit.pub".to_owned(), "is not what SHA256SUMS says"),
    ] {
        let said = site.machine.exec(&["sh", "-c", &format!("{from}{flags}")]);
        assert!(said.code == Some(1) && said.stderr.contains(why), "{why}: {said:#?}");
        quote(said.stderr.trim());
    }
    assert_ne!(site.machine.exec(&["test", "-e", "/usr/bin/kedge"]).code, Some(0));

    // Before the first start, as for a host that nobody logs in to.
    let token = hub_of(vendor, "token create --site plant-7").trim().to_owned();
    let credential = format!(
        "hub = \"https://{}:{HUB}\"\ntoken = \"{token}\"\nroot_sha256 = \"{}\"\n",
        vendor.machine.name(),
        site.vendor.root_sha256()
    );
    write(&site.machine, "/etc/credstore/kedge.enrolment", &credential);
    write(&site.machine, "/root/values", &format!("PORT={PORT}\nDB_PASSWORD={PASSWORD}\n"));
    site.machine.sh("chmod 600 /etc/credstore/kedge.enrolment /root/values");

    say("with the vendor's key and a file of values");
    let command = format!(
        "{from}/kit --key /root/kit.pub --root-sha256 {} --values /root/values 2>&1",
        site.vendor.root_sha256()
    );
    quote(&site.machine.sh(&command));
    site.wait_until_it_runs(PRODUCT, "1.0.0");
    assert_eq!(front(site), "three-tier 1.0.0");
    say("the same again, and once more from a folder by its sum");
    let before = site.containers();
    let again = site.machine.sh(&command);
    quote(&last_lines(&again, 2));
    assert!(again.contains("nothing: all was so already"), "{again}");
    vendor.machine.sh("cd /srv && tar -cf kit.tar kit");
    let folder = format!("cd /root && curl -fsS http://{}/kit.tar | tar -x", vendor.machine.name());
    site.machine.sh(&folder);
    let by_sum = site.machine.sh(&format!(
        "sh /root/kit/install.sh --sha256 {sums} --root-sha256 {} --values /root/values 2>&1",
        site.vendor.root_sha256()
    ));
    quote(&last_lines(&by_sum, 2));
    assert!(by_sum.contains("nothing: all was so already"), "{by_sum}");
    assert_eq!(site.containers(), before);
    for place in [
        "journalctl --no-pager",
        "cat /var/lib/kedge/audit/log.jsonl",
        "cat /proc/[0-9]*/cmdline | tr '\\0' ' '",
    ] {
        assert!(!site.machine.sh(place).contains(PASSWORD), "{place} should not tell the password");
    }
}

fn hub(vendor: &Site, site: &Site) {
    connected(site, true);
    quote(&kedgectl(vendor, "fleet ls"));
    assert!(kedgectl(vendor, "fleet ls").contains("plant-7"));
    site.machine.sh("rm /etc/credstore/kedge.enrolment && systemctl restart kedge");
    connected(site, true);
    say("enrolled by the credential, and connected without it after a restart");

    site.machine.cut(&vendor.machine);
    let bundle = vendor.bring(&site.vendor.bundle(PRODUCT, "2.0.0"));
    kedgectl(vendor, &format!("release publish {bundle}"));
    connected(site, false);
    assert_eq!(front(site), "three-tier 1.0.0");
    quote(&site.machine.sh("kedge status | head -n 5; systemctl show -P StatusText kedge"));
    site.machine.heal(&vendor.machine);
    // It follows the stream that its release is from, and nobody has to ask.
    let took = site.wait_until_it_runs(PRODUCT, "2.0.0");
    assert_eq!(front(site), "three-tier 2.0.0");
    say(&format!(
        "cut off, it went on; {:.1} s after the cut was healed it ran the release that was published meanwhile",
        took.as_secs_f64()
    ));
}

fn behind_a_proxy(vendor: &Site, gate: &Site, site: &Site) {
    site.machine.cut(&vendor.machine);
    site.machine.sh(&format!(
        "sed -i 's,^# proxy = .*,proxy = \"http://{}:{PROXY}\",' /etc/kedge/agent.toml && systemctl restart kedge",
        gate.machine.name()
    ));
    connected(site, true);
    quote(&site.machine.exec(&["sh", "-c", "kedge doctor --only hub,proxy,dns 2>&1"]).stdout);
    quote(&gate.machine.sh("journalctl -u proxy -o cat --no-pager | grep -i connect | tail -n 2"));
    say("the way to the hub is cut, and leads through a proxy");
    gate.machine.cut(&site.machine);
    connected(site, false);
    gate.machine.heal(&site.machine);
    connected(site, true);
    site.machine.heal(&vendor.machine);
}

fn power_cuts(vendor: &Site, site: &Site) {
    let on = site.machine.power_cut();
    site.wait_until_it_runs(PRODUCT, "2.0.0");
    let took = on.elapsed();
    connected(site, true);
    assert_eq!(front(site), "three-tier 2.0.0");
    say(&format!(
        "a power cut: healthy {:.1} s after it was switched on again, and connected",
        took.as_secs_f64()
    ));
    vendor.machine.power_cut();
    connected(site, true);
    say("a power cut of the hub's host: connected again");
}

fn registry(vendor: &Site, site: &Site) {
    images::ensure_busybox().expect("busybox");
    let tar = site.folder.path().join("busybox.tar");
    run(Command::new("docker").args(["save", "-o"]).arg(&tar).arg(images::BUSYBOX)).succeeded();
    let tar = vendor.bring(&tar);
    vendor.machine.sh(&format!(
        "docker load -q -i {tar} && docker tag {0} localhost:{REGISTRY}/busybox:1 && docker push -q localhost:{REGISTRY}/busybox:1",
        images::BUSYBOX
    ));
    let name = format!("{}:{REGISTRY}", vendor.machine.name());
    let agent = site.unit("MainPID");
    site.machine.sh(&format!("printf '{{\"insecure-registries\": [\"{name}\"]}}' >/etc/docker/daemon.json && systemctl kill --signal=HUP docker.service"));
    quote(&site.machine.sh(&format!("docker pull {name}/busybox:1")));
    assert_eq!(site.unit("MainPID"), agent);
    say("an image came from the registry");
}

fn connected(site: &Site, wanted: bool) {
    let what = if wanted { "it should be connected" } else { "it should notice that the hub is gone" };
    site.wait_until(what, |status: &Value| {
        status["tether"]["connected"].as_bool().unwrap_or_default() == wanted
    });
}

fn front(site: &Site) -> String {
    site.machine.sh(&format!("curl -fsS http://127.0.0.1:{PORT}/")).trim().to_owned()
}

fn kedgectl(vendor: &Site, arguments: &str) -> String {
    vendor.machine.sh(&format!("NO_COLOR=1 kedgectl {arguments}"))
}

fn hub_of(vendor: &Site, arguments: &str) -> String {
    kedgectl(vendor, &format!("hub {arguments}"))
}
