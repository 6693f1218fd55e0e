//! Who is let in: nobody without both consents, once, and on no wider terms.

use jiff::SignedDuration;
use kedge_bundle::parameters::Secret;
use kedge_bundle::support::Scope;
use kedge_bundle::support::approval::{self, Approval, Decision};
use kedge_bundle::support::unverified;

use super::engine;
use kedge_tests::rig::support::{ASK, World};

#[test]
fn test_01_a_bad_signature_a_wrong_host_a_stale_nonce_and_an_expired_request_are_refused_and_audited() {
    if !engine() {
        return;
    }
    let world = World::new(ASK);
    let code = |file: &[u8]| {
        let news = world.send(file);
        assert_eq!(news.state, "refused", "{news:?}");
        news.problem.unwrap().code
    };
    let (good, _) = world.document("logs");
    let by_another = world.signed(&good, "licence");
    assert_eq!(code(&by_another), "KE-2101");
    let mut wrong_host = good.clone();
    wrong_host.host_key = "ab".repeat(32);
    assert_eq!(code(&world.signed(&wrong_host, "support")), "KE-6405");
    let mut stale = good.clone();
    stale.agent_nonce = "cd".repeat(32);
    assert_eq!(code(&world.signed(&stale, "support")), "KE-6404");
    let mut expired = good.clone();
    expired.issued -= SignedDuration::from_hours(3);
    expired.not_after -= SignedDuration::from_hours(2);
    assert_eq!(code(&world.signed(&expired, "support")), "KE-6404");
    assert_eq!(world.refusals(), ["KE-2101", "KE-6405", "KE-6404", "KE-6404"]);
    // And the request itself is good.
    assert_eq!(world.send(&world.signed(&good, "support")).state, "requested");
}

#[test]
fn test_02_without_an_approval_nothing_starts() {
    if !engine() {
        return;
    }
    let world = World::new(ASK);
    let grant = world.request("logs,shell", &[]);
    let mut held = world.hold(&grant);
    held.wait_until_over();
    assert_eq!(world.session(&grant)["state"], "requested");
    assert!(world.containers(&grant).is_empty());
    world.engineer(&["logs", &world.service(), "--session", &grant]).failed_with(23, "KE-7504");
    world.host.kedge(&["support", "deny", &grant]).succeeded();
    let mut held = world.hold(&grant);
    held.wait_until_over();
    assert_eq!(world.session(&grant)["reason"], "the customer denied it");
}

#[test]
fn test_02_by_default_nobody_is_even_asked() {
    if !engine() {
        return;
    }
    let world = World::new("");
    world.ask("logs", &[]).failed_with(16, "KE-6402");
}

#[test]
fn test_03_an_approval_of_other_bytes_or_of_more_is_refused() {
    if !engine() {
        return;
    }
    let (pem, public) = approval::new_key(&[7; 32].into()).unwrap();
    let (other, _) = approval::new_key(&[8; 32].into()).unwrap();
    let rules = format!(
        "{}\napprovers = [{{ name = 'officer', key = '{public}' }}]",
        ASK.replace("'ask'", "'ask-signed'")
    );
    let world = World::new(&rules);
    let (one, two) = (world.request("logs", &[]), world.request("logs", &[]));
    let read = |grant: &str| unverified(&world.engineers(grant, "request.json")).unwrap();
    let path = world.host.path("approval.json");
    let give = |grant: &str, approval: &Approval, key: &str| {
        std::fs::write(&path, approval::sign(approval, key).unwrap()).unwrap();
        world.host.kedge(&["support", "approve", grant, "--approval", &path.display().to_string()])
    };
    let now = jiff::Timestamp::now();
    let yes = |grant: &str| {
        let read = read(grant);
        Approval::new(&read, Decision::Approve, "bea", read.request.terms.clone(), now)
    };
    give(&two, &yes(&one), &pem).failed_with(11, "KE-6407");
    let mut wider = yes(&two);
    wider.terms.scopes.insert(Scope::Shell);
    give(&two, &wider, &pem).failed_with(11, "KE-6407");
    let mut longer = yes(&two);
    longer.terms.max_session_seconds += 1;
    give(&two, &longer, &pem).failed_with(11, "KE-6407");
    give(&two, &yes(&two), &other).failed_with(11, "KE-6407");
    // A word on the host is none here.
    world.host.kedge(&["support", "approve", &two, "--yes"]).failed_with(16, "KE-6402");
    assert_eq!(world.session(&two)["state"], "requested");
    assert_eq!(world.refusals().len(), 5);

    // Made elsewhere, from a file, by the customer's own command, and narrower.
    let (saved, key, out) =
        (world.host.path("saved.json"), world.host.path("officer.pem"), world.host.path("yes.json"));
    std::fs::write(&key, pem.as_bytes()).unwrap();
    let text = |path: &std::path::Path| path.display().to_string();
    world.host.kedge(&["support", "show", &two, "--save", &text(&saved)]).succeeded();
    let elsewhere =
        ["support", "approve", "--request", &text(&saved), "--key", &text(&key), "--approver", "Bea"];
    world.host.kedge(&[&elsewhere[..], &["--ttl", "60", "--out", &text(&out), "--yes"]].concat()).succeeded();
    world.host.kedge(&["support", "approve", &two, "--approval", &text(&out)]).succeeded();
    let session = world.session(&two);
    assert_eq!(
        (&session["state"], &session["granted"]["max_session_seconds"]),
        (&"approved".into(), &60.into())
    );
    assert_eq!(session["approver"], "Bea with the key of officer");
}

#[test]
fn test_04_a_replay_after_a_crash_and_a_restart_is_refused() {
    if !engine() {
        return;
    }
    let mut world = World::new(ASK);
    let (grant, mut held) = world.open("logs,shell", &[]);
    let (_shell, said) = world.shell(&grant, "echo here-$((6*7))\n");
    said.wait_for(0, |line| line.contains("here-42")).unwrap();
    assert_eq!(world.containers(&grant).len(), 1);
    let request = world.engineers(&grant, "request.json");
    world.host.kill_agent();
    world.host.start_agent();
    world.wait_for(&grant, "closed");
    held.wait_until_over();
    assert!(world.containers(&grant).is_empty());
    assert_eq!(world.session(&grant)["reason"], "the agent was restarted");
    world.hub.wait_for(&world.name, "should be connected again", |_| true);
    world.host.wait_until("should be connected", |status| status["tether"]["connected"] == true);
    // The session once more, and the request once more.
    let mut again = world.hold(&grant);
    again.wait_until_over();
    let news = world.send(&request);
    assert_eq!((news.state.as_str(), news.problem.unwrap().code.as_str()), ("refused", "KE-6406"));
    assert_eq!(world.session(&grant)["state"], "closed");
    assert!(world.containers(&grant).is_empty());
}

#[test]
fn test_14_a_bundle_that_sets_the_consent_mode_is_rejected() {
    if !engine() {
        return;
    }
    use kedge_tests::rig::names;
    use kedge_tests::rig::outcome::run;
    use kedge_tests::rig::vendor::{Recipe, Vendor};
    let (vendor, folder) = (Vendor::shared(), names::scratch("kedge-consent-"));
    let project = folder.path().join("project");
    run(std::process::Command::new("cp").arg("-a").arg(vendor.project("hello", "1.0.0")).arg(&project))
        .succeeded();
    let compose = project.join("compose.yaml");
    let text = std::fs::read_to_string(&compose).unwrap();
    let recipe = Recipe { product: "hello", version: "1.0.0", seq: 9, flags: &[] };
    for line in ["support: {mode: window}", "guard: {support: {mode: window}}"] {
        std::fs::write(&compose, text.replacen("x-kedge:\n", &format!("x-kedge:\n  {line}\n"), 1)).unwrap();
        let built = vendor.build_from(&project, &recipe, &folder.path().join("a.kedge"));
        assert!(built.code != Some(0) && built.stderr.contains("KE-2"), "{built:#?}");
    }
}

/// A secret that the host knows and that no test's command line shows.
pub(super) fn give_secret(world: &World, value: &str) {
    let folder = world.host.state_dir().join("deployments").join(&world.name).join("secrets");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("PASSWORD.made"), Secret::new(value.to_owned()).reveal()).unwrap();
}
