//! What connected hosts report and are told.

use crate::common::{Stream, TestHub, bundle, code, hello};
use kedge_proto::tether::v1::agent_frame::Body as FromAgent;
use kedge_proto::tether::v1::{FetchBlobRequest, FetchDocumentsRequest, Hello, Report};
use kedgectl::codes;

#[tokio::test]
async fn reports_are_acknowledged_and_survive_a_restart_of_the_hub() {
    let hub = TestHub::start().await;
    let host = hub.enrol("acme").await;
    let (mut stream, _) = Stream::open(&mut hub.tether(&host).await, hello("s")).await;
    stream.report(1, true, &["shop"]).await;
    stream.report(2, false, &["till"]).await;
    stream.acked(2).await;
    let hub = hub.restart().await;
    let seen = hub.host(&host.id).await;
    let names: Vec<_> =
        seen.status.unwrap().deployments.into_iter().map(|d| (d.name, d.generation)).collect();
    assert_eq!(names, [("shop".to_owned(), 1), ("till".to_owned(), 2)]);
    assert!(!seen.connected);
    let (_stream, welcome) =
        Stream::open(&mut hub.tether(&host).await, Hello { last_acked: 2, ..hello("s") }).await;
    assert_eq!((welcome.last_seen, welcome.want_full), (2, false));
}

#[tokio::test]
async fn a_report_that_comes_again_counts_once_and_is_acknowledged_again() {
    let hub = TestHub::start().await;
    let host = hub.enrol("acme").await;
    let mut tether = hub.tether(&host).await;
    let (mut first, _) = Stream::open(&mut tether, hello("s")).await;
    first.report(1, true, &["shop"]).await;
    first.report(2, false, &[]).await;
    first.acked(2).await;
    drop(first);
    // The acknowledgement was lost on its way: everything comes again, many times over.
    let (mut second, welcome) = Stream::open(&mut tether, hello("s")).await;
    assert_eq!(welcome.last_seen, 2);
    for _ in 0..40 {
        second.report(1, true, &["changed"]).await;
    }
    second.report(2, false, &[]).await;
    second.report(3, false, &[]).await;
    second.acked(3).await;
    let seen = hub.host(&host.id).await;
    let events: Vec<_> = seen.events.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(events, ["event 1", "event 2", "event 3"]);
    assert_eq!(seen.status.unwrap().deployments[0].name, "shop");
}

#[tokio::test]
async fn the_newest_two_hundred_events_of_a_host_are_kept() {
    let hub = TestHub::start().await;
    let host = hub.enrol("acme").await;
    let (mut stream, _) = Stream::open(&mut hub.tether(&host).await, hello("s")).await;
    for number in 1..=250 {
        stream.report(number, false, &[]).await;
    }
    stream.acked(250).await;
    let events = hub.host(&host.id).await.events;
    assert_eq!((events.len(), events[0].message.as_str()), (200, "event 51"));
}

#[tokio::test]
async fn a_second_connection_replaces_the_first() {
    let hub = TestHub::start().await;
    let host = hub.enrol("acme").await;
    let (mut first, _) = Stream::open(&mut hub.tether(&host).await, hello("s")).await;
    let (mut second, _) = Stream::open(&mut hub.tether(&host).await, hello("s")).await;
    assert!(first.goodbye().await.contains("second time"));
    second.report(1, true, &["shop"]).await;
    second.acked(1).await;
    assert!(hub.host(&host.id).await.connected);
}

#[tokio::test]
async fn a_host_that_goes_is_seen_to_go() {
    let hub = TestHub::start().await;
    let host = hub.enrol("acme").await;
    let (stream, _) = Stream::open(&mut hub.tether(&host).await, hello("s")).await;
    hub.host_that(&host.id, |host| host.connected).await;
    drop(stream);
    let gone = hub.host_that(&host.id, |host| !host.connected).await;
    assert!(gone.connected_since.is_empty());
}

#[tokio::test]
async fn what_is_not_the_protocol_ends_the_stream_with_a_reason() {
    let hub = TestHub::start().await;
    let host = hub.enrol("acme").await;
    let mut tether = hub.tether(&host).await;
    let report = |number| FromAgent::Report(Report { number, ..Default::default() });
    let cases = [
        ("a report before the hello", vec![report(1)]),
        ("a hello without protocol", vec![FromAgent::Hello(Hello { protocol: 0, ..hello("s") })]),
        ("a hello without session", vec![FromAgent::Hello(hello(""))]),
        ("a second hello", vec![FromAgent::Hello(hello("s")), FromAgent::Hello(hello("s"))]),
        ("a report without number", vec![FromAgent::Hello(hello("s")), report(0)]),
    ];
    for (name, frames) in cases {
        let mut stream = Stream::silent(&mut tether).await;
        for frame in frames {
            stream.send(frame).await;
        }
        assert_eq!(code(&stream.error().await), codes::PROTOCOL.id, "{name}");
    }
}

#[tokio::test]
async fn a_frame_beyond_the_limit_ends_the_stream_and_nothing_else() {
    let hub = TestHub::start().await;
    let host = hub.enrol("acme").await;
    let (stream, _) = Stream::open(&mut hub.tether(&host).await, hello("s")).await;
    let huge = kedge_proto::v1::Event { message: "x".repeat(2 << 20), ..Default::default() };
    stream.send(FromAgent::Report(Report { number: 1, events: vec![huge], ..Default::default() })).await;
    hub.host_that(&host.id, |host| !host.connected).await;
    let (mut stream, welcome) = Stream::open(&mut hub.tether(&host).await, hello("s")).await;
    assert_eq!(welcome.last_seen, 0);
    stream.report(1, true, &[]).await;
    stream.acked(1).await;
}

#[tokio::test]
async fn a_release_is_offered_to_connected_hosts_of_its_audience_with_a_signed_statement() {
    let hub = TestHub::start().await;
    let (acme, other) = (hub.enrol("acme").await, hub.enrol("other").await);
    let (mut at_acme, _) = Stream::open(&mut hub.tether(&acme).await, hello("s")).await;
    let (mut at_other, _) = Stream::open(&mut hub.tether(&other).await, hello("s")).await;
    assert!(at_acme.offers().await.releases.is_empty());
    assert!(at_other.offers().await.releases.is_empty());
    let release = bundle(&hub.vendor, 1, &["acme"]);
    let reply = hub.publish(&release.bytes(), "stable").await.unwrap();
    assert_eq!((reply.already, reply.hosts_told), (false, 2));

    let offers = at_acme.offers().await;
    assert_eq!(offers.releases.len(), 1);
    assert_eq!(offers.releases[0].release_digest, release.digest().to_string());
    assert!(at_other.offers().await.releases.is_empty());

    let trust = hub.vendor.trust();
    let roots = kedge_bundle::verify::roots(&trust, &hub.vendor.envelopes).unwrap();
    let context = kedge_bundle::verify::Context::at(jiff::Timestamp::now());
    let fresh = kedge_bundle::verify::fresh(&trust, &context, &roots, &offers.fresh).unwrap().fresh;
    assert_eq!(fresh.newest("hello", "stable").unwrap().release, release.digest());
}

#[tokio::test]
async fn documents_and_blobs_come_as_they_are_in_the_bundle_from_any_offset() {
    let hub = TestHub::start().await;
    let release = bundle(&hub.vendor, 1, &[]);
    hub.publish(&release.bytes(), "").await.unwrap();
    let host = hub.enrol("acme").await;
    let mut tether = hub.tether(&host).await;
    let release_digest = release.digest().to_string();
    let request = FetchDocumentsRequest { release_digest: release_digest.clone() };
    let got = tether.fetch_documents(request).await.unwrap().into_inner();
    let wanted = release.documents();
    assert_eq!(
        (got.roots, got.release, got.oci_layout, got.index, got.manifest_json),
        (wanted.roots, wanted.release, wanted.oci_layout, wanted.index, wanted.manifest)
    );
    for (blob, _) in &release.draft.blobs {
        let whole = release.blob(&blob.digest).unwrap();
        for offset in [0, 1, whole.len() / 2, whole.len()] {
            let request = FetchBlobRequest {
                release_digest: release_digest.clone(),
                digest: blob.digest.to_string(),
                offset: offset as u64,
            };
            let mut chunks = tether.fetch_blob(request).await.unwrap().into_inner();
            let mut rest = Vec::new();
            while let Some(chunk) = chunks.message().await.unwrap() {
                rest.extend_from_slice(&chunk.data);
            }
            assert!(rest == whole[offset..], "{} from {offset}", blob.digest);
        }
    }
}

#[tokio::test]
async fn what_is_not_there_or_not_for_this_site_is_not_served() {
    let hub = TestHub::start().await;
    let release = bundle(&hub.vendor, 1, &["acme"]);
    hub.publish(&release.bytes(), "").await.unwrap();
    let (acme, other) = (hub.enrol("acme").await, hub.enrol("other").await);
    let blob = &release.draft.blobs[0].0;
    let good = FetchBlobRequest {
        release_digest: release.digest().to_string(),
        digest: blob.digest.to_string(),
        offset: 0,
    };
    let cases = [
        ("another site", &other, good.clone(), codes::RELEASE_UNKNOWN),
        (
            "no digest",
            &acme,
            FetchBlobRequest { release_digest: "../x".into(), ..good.clone() },
            codes::RELEASE_UNKNOWN,
        ),
        (
            "no blob",
            &acme,
            FetchBlobRequest { digest: crate::common::sha256(b"?"), ..good.clone() },
            codes::BLOB_UNKNOWN,
        ),
        (
            "behind the end",
            &acme,
            FetchBlobRequest { offset: blob.size + 1, ..good.clone() },
            codes::BLOB_UNKNOWN,
        ),
        ("far behind", &acme, FetchBlobRequest { offset: u64::MAX, ..good.clone() }, codes::BLOB_UNKNOWN),
    ];
    for (name, host, request, expected) in cases {
        let refusal = hub.tether(host).await.fetch_blob(request).await.unwrap_err();
        assert_eq!(code(&refusal), expected.id, "{name}");
    }
    let request = FetchDocumentsRequest { release_digest: release.digest().to_string() };
    let refusal = hub.tether(&other).await.fetch_documents(request).await.unwrap_err();
    assert_eq!(code(&refusal), codes::RELEASE_UNKNOWN.id);
}
