//! How tables look, by sample.

use super::*;

fn style() -> Style {
    Style { colour: false, width: 80, now: "2026-03-01T12:00:00Z".parse().unwrap() }
}

fn shop() -> v1::DeploymentStatus {
    v1::DeploymentStatus {
        name: "shop".into(),
        product: "acme-shop".into(),
        stream: "stable".into(),
        active: Some(v1::Release { version: "1.2.0".into(), seq: 7, digest: String::new() }),
        phase: Phase::Active.into(),
        health: Health::Degraded.into(),
        since: "2026-02-26T12:00:00Z".into(),
        services: vec![
            v1::ServiceStatus {
                name: "front".into(),
                desired: 1,
                running: 1,
                health: Health::Healthy.into(),
                state: "running".into(),
                ports: vec!["127.0.0.1:18080->80/tcp".into(), "127.0.0.1:18443->443/tcp".into()],
                ..v1::ServiceStatus::default()
            },
            v1::ServiceStatus {
                name: "api".into(),
                desired: 2,
                running: 1,
                health: Health::Unhealthy.into(),
                state: "restarting".into(),
                restarts: 12,
                message: "connection to db:5432 refused\x1b[2J".into(),
                ..v1::ServiceStatus::default()
            },
        ],
        last_problem: Some(v1::Problem {
            code: "KE-3006".into(),
            message: "1.3.0: service api did not become healthy within 60 s".into(),
            remedy: "See `kedge logs DEPLOYMENT`, and ask the vendor for a corrected release".into(),
            exit_code: 30,
        }),
        refused: vec![v1::Refused {
            release: Some(v1::Release { version: "1.3.0".into(), seq: 8, digest: String::new() }),
            problem: Some(v1::Problem {
                code: "KE-3006".into(),
                message: "did not become healthy".into(),
                ..v1::Problem::default()
            }),
            at: "2026-03-01T10:00:00Z".into(),
        }],
        ..v1::DeploymentStatus::default()
    }
}

fn web01() -> v1::HostStatus {
    v1::HostStatus {
        hostname: "web-01".into(),
        site: "acme-fra".into(),
        agent_version: "0.1.0".into(),
        os: "Debian GNU/Linux 12".into(),
        arch: "x86_64".into(),
        engine: Some(v1::EngineStatus {
            reachable: true,
            version: "20.10.24".into(),
            api_version: "1.41".into(),
            image_store: "classic".into(),
            problem: String::new(),
        }),
        tether: Some(v1::TetherStatus {
            enrolled: true,
            connected: false,
            hub: "https://hub.example.com:8443".into(),
            since: "2026-03-01T11:00:00Z".into(),
            problem: "no route to host".into(),
            outbox: 3,
            offers: vec![],
        }),
        disk_free_bytes: 13_207_024_435,
        disk_total_bytes: 42_949_672_960,
        deployments: vec![shop()],
        ..v1::HostStatus::default()
    }
}

#[test]
fn the_page_reads_like_this() {
    let expected = "\
host    web-01, site acme-fra, kedge 0.1.0, Debian GNU/Linux 12 x86_64
engine  Docker 20.10.24 (API 1.41), classic store
tether  DOWN for 60 min, https://hub.example.com:8443, 3 reports waiting: no
        route to host
disk    12.3 GiB free of 40.0 GiB

shop  acme-shop@stable, 1.2.0 (#7)  degraded  active for 3 d
  SERVICE  STATE       HEALTH     UP   RESTARTS  PORTS
  front    running     healthy    1/1  0         127.0.0.1:18080->80/tcp
                                                 127.0.0.1:18443->443/tcp
  api      restarting  unhealthy  1/2  12
    api: connection to db:5432 refused [2J
  problem  1.3.0: service api did not become healthy within 60 s [KE-3006]
  help     See `kedge logs DEPLOYMENT`, and ask the vendor for a corrected
           release
  refused  1.3.0 (#8) 2 h ago: did not become healthy [KE-3006]
";
    assert_eq!(page(&web01(), style()), expected);
}

#[test]
fn every_line_fits_eighty_columns_and_colour_changes_no_text() {
    let plain = page(&web01(), style());
    assert!(plain.lines().all(|line| line.chars().count() <= 80), "{plain}");
    let coloured = page(&web01(), Style { colour: true, ..style() });
    assert_ne!(coloured, plain);
    assert!(!plain.contains('\x1b'));
}

#[test]
fn an_operation_shows_what_it_does_and_how_far_it_is() {
    let operation = v1::Operation {
        target: Some(v1::Release { version: "1.3.0".into(), seq: 8, digest: String::new() }),
        step: "layer 3 of 5".into(),
        done_bytes: 1024 * 1024,
        total_bytes: 4 * 1024 * 1024,
        attempt: 2,
        ..v1::Operation::default()
    };
    let line = operation_line(Phase::Fetching.into(), &operation);
    assert_eq!(line, "1.3.0 (#8): fetching, 1.0 MiB of 4.0 MiB, layer 3 of 5 (attempt 2)");
}

#[test]
fn an_empty_host_says_what_to_do() {
    let text = page(&v1::HostStatus::default(), style());
    assert!(text.contains("not enrolled") && text.contains("kedge import"), "{text}");
}

#[test]
fn the_list_has_a_line_per_deployment() {
    let text = list(&[shop()], style());
    assert_eq!(
        text,
        "NAME  PRODUCT           RELEASE     PHASE   HEALTH    SINCE\n\
         shop  acme-shop@stable  1.2.0 (#7)  active  degraded  3 d\n"
    );
}

#[test]
fn a_reader_that_cannot_redraw_gets_changes_only() {
    let before = web01();
    assert_eq!(changes(Some(&before), &before, style().now), Vec::<String>::new());
    let mut now = before.clone();
    now.deployments[0].services[1].health = Health::Healthy.into();
    now.tether.as_mut().unwrap().outbox = 9;
    assert_eq!(changes(Some(&before), &now, style().now), ["shop/api: restarting, healthy"]);
    now.deployments.clear();
    assert_eq!(changes(Some(&before), &now, style().now), ["shop: removed"]);
    assert!(changes(None, &before, style().now).len() >= 5);
}

#[test]
fn a_release_refused_for_the_last_problem_does_not_say_it_twice() {
    let mut shop = shop();
    shop.refused[0].problem = shop.last_problem.clone();
    let text = deployment(&shop, style());
    assert!(text.ends_with("  refused  1.3.0 (#8) 2 h ago, for the problem above\n"), "{text}");
    assert_eq!(text.matches("KE-3006").count(), 1, "{text}");
}
