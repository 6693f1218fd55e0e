//! The socket and the command line, against a daemon that remembers what it was asked.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests are outside of them

mod fake;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::sync::Arc;

use fake::{Daemon, UNSIGNED_SIZE, command, output_of, stderr, stdout};
use kedge::local::client;
use kedge_proto::local::v1 as local;
use kedge_proto::v1;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn status_is_a_page_json_and_one_deployment() {
    let daemon = Daemon::start();
    let page = daemon.kedge(&["status"]).await;
    assert!(stdout(&page).contains("shop") && !stdout(&page).contains('\x1b'), "{page:?}");
    let json: Value = serde_json::from_slice(&daemon.kedge(&["status", "-o", "json"]).await.stdout).unwrap();
    assert_eq!(json["deployments"][0]["health"], "healthy");
    let list: Value = serde_json::from_slice(&daemon.kedge(&["ls", "-o", "json"]).await.stdout).unwrap();
    assert_eq!(list[0]["name"], "shop");
    let missing = daemon.kedge(&["status", "shpo"]).await;
    assert_eq!(missing.status.code(), Some(2));
    assert!(
        stderr(&missing).contains("error: there is no deployment `shpo` [KE-3009]\nhelp: "),
        "{missing:?}"
    );
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_sends_every_byte_and_says_every_step() {
    let daemon = Daemon::start();
    let bundle = daemon.file("bundle", &vec![7; 700_000]);
    let bundle = bundle.to_str().unwrap();
    let output = daemon.kedge(&["import", bundle, "--set", "A=1", "--deployment", "x"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(stdout(&output), "shop 1.0 runs\n  kept: volume shop_data\n");
    assert_eq!(stderr(&output), "fetching: reading the bundle\napplying: starting web\n");
    assert_eq!(daemon.fake.asked()[0], r#"import 700000 bytes as Some("x") {"A": "1"}"#);

    let json = daemon.kedge(&["import", bundle, "-o", "json"]).await;
    let lines: Vec<Value> = stdout(&json).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["step"]["phase"], "fetching");
    assert_eq!(lines[2]["done"]["message"], "shop 1.0 runs");
    assert_eq!(stderr(&json), "");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_may_come_through_a_pipe() {
    let daemon = Daemon::start();
    let mut command = daemon.command(&["-q", "import", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(&[1; 1000]).unwrap();
        child.wait_with_output().unwrap()
    });
    let output = output.await.unwrap();
    assert_eq!((stdout(&output), stderr(&output)), (String::new(), String::new()));
    assert_eq!(daemon.fake.asked()[0], "import 1000 bytes as None {}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_cannot_be_read_on_is_not_taken_for_one_that_ends_there() {
    let daemon = Daemon::start();
    let bundle = daemon.file("bundle", &vec![7; 2_000_000]);
    let folder = daemon.folder.path().join("parts");
    std::fs::create_dir(&folder).unwrap();
    let parts = kedge_bundle::parts::folder::split(&bundle, &folder, 1_000_000, &mut |_| {}).unwrap();
    let mut damaged = std::fs::read(&parts[1]).unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&parts[1], damaged).unwrap();
    let mut asked = daemon.fake.asked.subscribe();
    let output = daemon.kedge(&["import", folder.to_str().unwrap()]).await;
    assert!(output.status.code() == Some(10) && stderr(&output).contains("[KE-20"), "{output:?}");
    let heard = asked.wait_for(|asked| asked.iter().any(|one| one.starts_with("import "))).await.unwrap();
    assert_eq!(*heard, ["import broke: KE-6006"]);
    drop(heard);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_bundle_gives_the_exit_code_of_its_cause() {
    let daemon = Daemon::start();
    let bundle = daemon.file("bundle", &[7; UNSIGNED_SIZE]);
    let output = daemon.kedge(&["import", bundle.to_str().unwrap(), "-o", "json"]).await;
    assert_eq!(output.status.code(), Some(11));
    let last: Value = serde_json::from_str(stdout(&output).lines().last().unwrap()).unwrap();
    assert_eq!(last["failed"]["code"], "KE-2101");
    assert!(stderr(&output).starts_with("error: release: 0 of 1 signatures [KE-2101]\nhelp: "), "{output:?}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_cannot_be_imported_are_refused_before_anything_is_asked() {
    let daemon = Daemon::start();
    let empty = daemon.file("empty", b"");
    let folder = daemon.folder.path().to_str().unwrap();
    for (path, code) in
        [("/nonexistent", "[KE-6006]"), (folder, "[KE-2013]"), (empty.to_str().unwrap(), "[KE-6006]")]
    {
        let output = daemon.kedge(&["import", path]).await;
        assert_eq!(output.status.code(), Some(10), "{output:?}");
        assert!(stderr(&output).contains(code), "{output:?}");
    }
    assert_eq!(daemon.fake.asked(), [""; 0]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_leaves_an_accepted_operation_going() {
    let daemon = Daemon::start();
    daemon.fake.hold.send_replace(true);
    let bundle = daemon.file("bundle", &[7; 500]);
    let mut command = daemon.command(&["import", bundle.to_str().unwrap()]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (status, said) = tokio::task::spawn_blocking(move || {
        let pid = rustix::process::Pid::from_child(&child);
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("starting web") {
            assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
        }
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        stderr.read_to_string(&mut said).unwrap();
        (child.wait().unwrap(), said)
    })
    .await
    .unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(said.contains("goes on in the agent"), "{said}");
    daemon.fake.hold.send_replace(false);
    let mut asked = daemon.fake.asked.subscribe();
    asked.wait_for(|asked| asked.contains(&"ended".to_owned())).await.unwrap();
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn detach_comes_back_once_the_daemon_has_the_bundle() {
    let daemon = Daemon::start();
    daemon.fake.hold.send_replace(true);
    let bundle = daemon.file("bundle", &[7; 500]);
    let output = daemon.kedge(&["import", bundle.to_str().unwrap(), "--detach"]).await;
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).contains("goes on in the agent"), "{output:?}");
    assert!(daemon.fake.asked()[0].starts_with("import 500 bytes"));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_asked_for_by_product_and_stream() {
    let daemon = Daemon::start();
    let output = daemon.kedge(&["deploy", "shop@beta", "--as", "shop2"]).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(daemon.fake.asked()[0], r#"deploy shop Some("beta") Some("shop2")"#);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_keeps_volumes_unless_told_and_confirmed() {
    let daemon = Daemon::start();
    assert_eq!(daemon.kedge(&["remove", "shop"]).await.status.code(), Some(0));
    let unconfirmed = daemon.kedge(&["remove", "shop", "--volumes"]).await;
    assert_eq!(unconfirmed.status.code(), Some(2));
    assert!(stderr(&unconfirmed).contains("--yes"), "{unconfirmed:?}");
    assert_eq!(daemon.kedge(&["remove", "shop", "--volumes", "--yes"]).await.status.code(), Some(0));
    let asked: Vec<String> = daemon.fake.asked().into_iter().filter(|a| a.starts_with("remove")).collect();
    assert_eq!(asked, ["remove shop volumes=false", "remove shop volumes=true"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_prefixed_lines_or_objects() {
    let daemon = Daemon::start();
    let output = daemon.kedge(&["logs", "shop", "web", "--tail", "5"]).await;
    assert_eq!(stdout(&output), "web-1        | one\nweb-1        | two\n");
    let output = daemon.kedge(&["logs", "shop", "-o", "json"]).await;
    let line: Value = serde_json::from_str(stdout(&output).lines().next().unwrap()).unwrap();
    assert_eq!((&line["line"], &line["at"]), (&"one".into(), &"2026-01-01T00:00:00Z".into()));
    assert_eq!(daemon.kedge(&["logs", "nope"]).await.status.code(), Some(2));
    assert_eq!(daemon.fake.asked(), [r#"logs ["web"] Some(5)"#, "logs [] None"]);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_comes_from_a_file_and_its_line_end_is_not_part_of_it() {
    let daemon = Daemon::start();
    let token = daemon.file("token", b"kt1.abc\n");
    let hub = "https://hub.example.com";
    let args = ["enroll", "--hub", hub, "--token-file", token.to_str().unwrap(), "--root-sha256", "ff"];
    let output = daemon.kedge(&args).await;
    assert_eq!(stdout(&output), format!("enrolled with {hub} as h-1, site here\n"));
    assert_eq!(daemon.fake.asked(), [format!("enroll {hub} kt1.abc ff")]);
    assert_eq!(daemon.kedge(&["enroll", "--hub", hub, "--root-sha256", "ff"]).await.status.code(), Some(2));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watching_on_a_pipe_prints_changes_and_ends_with_the_daemon() {
    let daemon = Daemon::start();
    let mut command = daemon.command(&["status", "--watch"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let fake = daemon.fake.clone();
    let (first, next, mut lines) = tokio::task::spawn_blocking(move || {
        let first = lines.find(|line| line.as_ref().unwrap().contains("shop")).unwrap().unwrap();
        fake.status.send_modify(|status| {
            Arc::make_mut(status).deployments[0].health = v1::Health::Unhealthy.into();
        });
        let next = lines.next().unwrap().unwrap();
        (first, next, lines)
    })
    .await
    .unwrap();
    assert!(first.ends_with("shop: nothing yet, active, healthy"), "{first}");
    assert!(next.ends_with("shop: nothing yet, active, unhealthy"), "{next}");
    daemon.stop().await;
    assert!(lines.next().is_none());
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_daemon_every_command_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("b");
    std::fs::write(&bundle, "x").unwrap();
    let bundle = bundle.to_str().unwrap();
    for args in [&["status"][..], &["ls"], &["import", bundle], &["remove", "x"], &["logs", "x"]] {
        let output = output_of(command(folder.path(), args)).await;
        assert_eq!(output.status.code(), Some(23), "{args:?}");
        assert!(stderr(&output).contains("[KE-6001]"), "{output:?}");
    }
    let output = output_of(command(folder.path(), &["version", "-o", "json"])).await;
    let version: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(version["agent"].is_null() && version["version"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_too_large_ends_the_import() {
    let daemon = Daemon::start();
    let mut client = client::connect(&daemon.config.socket()).await.unwrap();
    let frame = |body| local::ImportRequest { body: Some(body) };
    let options = frame(local::import_request::Body::Options(local::ImportOptions::default()));
    let data = frame(local::import_request::Body::Data(vec![0; kedge::local::MAX_MESSAGE + 1].into()));
    let mut steps = client.import(futures_util::stream::iter([options, data])).await.unwrap().into_inner();
    while let Ok(Some(_)) = steps.message().await {}
    let mut asked = daemon.fake.asked.subscribe();
    let asked = asked.wait_for(|asked| !asked.is_empty()).await.unwrap().clone();
    assert_eq!(asked, ["import broke: KE-6006"]);
    drop((client, steps));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_without_options_is_refused() {
    let daemon = Daemon::start();
    let mut client = client::connect(&daemon.config.socket()).await.unwrap();
    let data = local::ImportRequest { body: Some(local::import_request::Body::Data(vec![0; 3].into())) };
    let status = client.import(futures_util::stream::iter([data])).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert_eq!(daemon.fake.asked(), [""; 0]);
    drop(client);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inventory_is_told_for_people_and_for_programs() {
    let daemon = Daemon::start();
    let page = stdout(&daemon.kedge(&["inventory"]).await);
    assert!(page.contains("web-2") && page.contains("NO") && page.contains("signed is sha256:aa"), "{page}");
    let told: Value =
        serde_json::from_slice(&daemon.kedge(&["inventory", "shop", "-o", "json"]).await.stdout).unwrap();
    assert_eq!(told["deployments"][0]["containers"][0]["agrees"], true);
    assert_eq!(told["deployments"][0]["containers"][1]["why"], "signed is sha256:aa");
    assert_eq!(daemon.fake.asked(), ["inventory None", "inventory Some(\"shop\")"]);
    daemon.stop().await;
}
