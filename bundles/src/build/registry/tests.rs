//! Pulling from a registry of our own, on an address of this machine.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use std::collections::BTreeMap;

use base64::Engine as _;
use oci_client::secrets::RegistryAuth;

use super::image::pull;
use super::*;
use crate::build::{Options, Quiet};
use crate::digest::Digest;
use crate::layout::media;
use crate::parameters::Secret;
use crate::testing::{Vendor, terms};

/// Path to (content type, body).
type Pages = BTreeMap<String, (&'static str, Vec<u8>)>;

/// Serves pages to whoever logs in as `kedge:secret`, and notes what was asked for; ends when the test does.
async fn serve(pages: Pages) -> (String, Arc<Mutex<Vec<String>>>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let task = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let request = String::from_utf8(request).unwrap();
            let path = request.split(' ').nth(1).unwrap().to_owned();
            let login = base64::engine::general_purpose::STANDARD.encode("kedge:secret");
            let known =
                request.contains(&format!("Basic {login}")) || request.contains(&format!("basic {login}"));
            let (status, kind, body) = match pages.get(&path) {
                _ if !known => {
                    ("401 Unauthorized\r\nwww-authenticate: Basic realm=\"test\"", "text/plain", vec![])
                }
                Some((kind, body)) => ("200 OK", *kind, body.clone()),
                None if path == "/v2/" => ("200 OK", "text/plain", vec![]),
                None => ("404 Not Found", "application/json", b"{\"errors\":[]}".to_vec()),
            };
            log.lock().unwrap().push(path);
            let head = format!(
                "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(&body).await.unwrap();
        }
    });
    (address, asked, task)
}

fn options(registry: &str, credentials: Credentials) -> Options {
    Options {
        dir: ".".into(),
        compose: Vec::new(),
        version: None,
        images: BTreeMap::new(),
        platform: crate::layout::Platform { architecture: "amd64".into(), os: "linux".into(), variant: None },
        credentials,
        insecure_registries: vec![registry.into()],
        engine_socket: "none".into(),
        terms: terms(1),
        roots: Vec::new(),
    }
}

/// The pages of a registry with one image for two platforms under `hello:1`, and the index's digest.
fn pages() -> (Pages, Digest, crate::layout::Image) {
    let bundle = Vendor::new("a").bundle(1);
    let image = bundle.draft.content.images[0].clone();
    let mut pages = Pages::new();
    for layer in &image.layers {
        let body = bundle.blob(&layer.digest).unwrap();
        pages.insert(format!("/v2/hello/blobs/{}", layer.digest), ("application/octet-stream", body));
    }
    let config = bundle.blob(&image.config).unwrap();
    pages.insert(format!("/v2/hello/blobs/{}", image.config), ("application/octet-stream", config));
    let manifest = bundle.blob(&image.manifest).unwrap();
    let index = serde_json::json!({
        "schemaVersion": 2, "mediaType": media::INDEX, "manifests": [
            {"mediaType": media::MANIFEST, "digest": Digest::of(b"arm"), "size": 3,
             "platform": {"os": "linux", "architecture": "arm64"}},
            {"mediaType": media::MANIFEST, "digest": image.manifest, "size": manifest.len(),
             "platform": {"os": "linux", "architecture": "amd64"}},
        ],
    })
    .to_string()
    .into_bytes();
    pages.insert(format!("/v2/hello/manifests/{}", image.manifest), (media::MANIFEST, manifest));
    let digest = Digest::of(&index);
    pages.insert(format!("/v2/hello/manifests/{digest}"), (media::INDEX, index.clone()));
    pages.insert("/v2/hello/manifests/1".into(), (media::INDEX, index));
    (pages, digest, image)
}

fn login() -> Credentials {
    Credentials::Basic("kedge".into(), Secret::new("secret".into()))
}

#[tokio::test]
async fn an_image_is_pulled_with_its_manifest_as_it_was_by_tag_and_by_digest() {
    let (pages, index, image) = pages();
    let (registry, asked, server) = serve(pages).await;
    for name in [format!("{registry}/hello:1"), format!("{registry}/hello@{index}")] {
        let staging = tempfile::tempdir().unwrap();
        let options = options(&registry, login());
        let input = pull(&name, &name, &options, staging.path(), &Quiet).await.unwrap();
        assert_eq!((Digest::of(&input.manifest), Digest::of(&input.config)), (image.manifest, image.config));
        let layers: Vec<_> = input.layers.iter().map(|layer| layer.digest).collect();
        assert_eq!(layers, image.layers.iter().map(|layer| layer.digest).collect::<Vec<_>>());
    }
    assert!(asked.lock().unwrap().iter().any(|path| path.ends_with(&index.to_string())));
    server.abort();
}

#[tokio::test]
async fn a_registry_that_lies_or_refuses_is_reported() {
    type Case = (&'static str, Credentials, fn(&mut Pages, &crate::layout::Image), &'static str);
    let cases: [Case; 5] = [
        ("no login", Credentials::Anonymous, |_, _| {}, ""),
        ("no such image", login(), |pages, _| drop(pages.remove("/v2/hello/manifests/1")), ""),
        (
            "another manifest",
            login(),
            |pages, image| {
                pages.get_mut(&format!("/v2/hello/manifests/{}", image.manifest)).unwrap().1.push(b' ')
            },
            "",
        ),
        (
            "a layer that is too long",
            login(),
            |pages, image| {
                pages.get_mut(&format!("/v2/hello/blobs/{}", image.layers[0].digest)).unwrap().1.push(0)
            },
            "longer",
        ),
        (
            "another layer",
            login(),
            |pages, image| {
                pages.get_mut(&format!("/v2/hello/blobs/{}", image.layers[0].digest)).unwrap().1[0] ^= 1
            },
            "",
        ),
    ];
    for (name, credentials, change, reason) in cases {
        let (mut pages, _, image) = pages();
        change(&mut pages, &image);
        let (registry, _, server) = serve(pages).await;
        let staging = tempfile::tempdir().unwrap();
        let reference = format!("{registry}/hello:1");
        let options = options(&registry, credentials);
        let error = pull(&reference, &reference, &options, staging.path(), &Quiet).await.expect_err(name);
        assert!(error.contains(reason) && error.contains(&registry), "{name}: {error}");
        assert!(!error.contains("secret"), "{name}: {error}");
        server.abort();
    }
}

/// A registry that gives one endless answer and good ones to all else; what it was rid of is counted.
async fn serve_endless(endless: &'static str, status: &'static str) -> (String, Arc<Mutex<u64>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (sent, own) = (Arc::new(Mutex::new(0)), address.clone());
    let counted = Arc::clone(&sent);
    tokio::spawn(async move {
        let (pages, ..) = pages();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let request = String::from_utf8(request).unwrap();
            let path = request.split(' ').nth(1).unwrap().to_owned();
            let head =
                |status: &str, rest: &str| format!("HTTP/1.1 {status}\r\nconnection: close\r\n{rest}\r\n");
            if path.starts_with(endless) {
                // Without a length it ends with the connection.
                let mut alive = stream.write_all(head(status, "").as_bytes()).await.is_ok();
                while alive && *counted.lock().unwrap() < 64 << 20 {
                    alive = stream.write_all(&[b' '; 64 << 10]).await.is_ok();
                    *counted.lock().unwrap() += 64 << 10;
                }
            } else if path == "/v2/" {
                let demand =
                    format!("www-authenticate: Bearer realm=\"http://{own}/token\",service=\"s\"\r\n");
                stream.write_all(head("401 Unauthorized", &demand).as_bytes()).await.unwrap();
            } else if path.starts_with("/token") {
                stream.write_all(head("200 OK", "").as_bytes()).await.unwrap();
                stream.write_all(b"{\"token\":\"t\",\"issued_at\":1.5}").await.unwrap();
            } else {
                assert!(request.contains("earer t"), "{request}");
                let (kind, body) = &pages[&path];
                stream
                    .write_all(head("200 OK", &format!("content-type: {kind}\r\n")).as_bytes())
                    .await
                    .unwrap();
                stream.write_all(body).await.unwrap();
            }
        }
    });
    (address, sent)
}

#[tokio::test]
async fn no_answer_is_read_further_than_it_may_be_long() {
    for (endless, status, reason) in [
        ("/v2/hello/manifests/1", "200 OK", "more than"),
        ("/v2/hello/manifests/sha256", "200 OK", "more than"),
        ("/v2/hello/blobs/", "200 OK", "longer"),
        ("/token", "200 OK", "more than"),
        ("/token", "418 No", "418"),
        ("/v2/hello/manifests/1", "418 No", "418"),
        ("/v2/hello/blobs/", "418 No", "418"),
    ] {
        let (registry, sent) = serve_endless(endless, status).await;
        let staging = tempfile::tempdir().unwrap();
        let reference = format!("{registry}/hello:1");
        let options = options(&registry, login());
        let why = pull(&reference, &reference, &options, staging.path(), &Quiet).await.unwrap_err();
        assert!(why.contains(reason) && why.contains(&registry), "{endless}, {status}: {why}");
        let place = Place::parse(&reference).unwrap();
        if !endless.contains("sha256") && !endless.contains("blobs") {
            let why = Remote::open(&place, &login()).await.err().unwrap().to_string();
            assert!(why.contains(reason) || why.contains("password"), "{endless}, {status}: {why}");
        }
        // What the sockets hold is on top of what is read.
        let sent = *sent.lock().unwrap();
        assert!(sent < 32 << 20, "{endless}, {status}: {sent} bytes were taken");
    }
    let (registry, _) = serve_endless("/nothing", "200 OK").await;
    let (staging, reference) = (tempfile::tempdir().unwrap(), format!("{registry}/hello:1"));
    pull(&reference, &reference, &options(&registry, login()), staging.path(), &Quiet).await.unwrap();
}

#[tokio::test]
async fn logins_are_read_from_dockers_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.json");
    let auth = base64::engine::general_purpose::STANDARD.encode("me:pass:word");
    let text = serde_json::json!({
        "auths": {
            "r.example": {"auth": auth}, "https://index.docker.io/v1/": {"auth": auth}, "bad.example": {"auth": "%"},
            "token.example": {"identitytoken": "x"}, "store.example": {},
        },
        "credHelpers": {"h.example": "no-such-helper", "evil.example": "../../bin/sh"},
        "credsStore": "no-such-store",
    });
    std::fs::write(&file, text.to_string()).unwrap();
    let credentials = Credentials::DockerConfig(file);
    for registry in ["r.example", "docker.io"] {
        let found = credentials.for_registry(registry).await.unwrap();
        assert!(
            matches!(found, RegistryAuth::Basic(user, password) if user == "me" && password == "pass:word")
        );
    }
    assert!(matches!(credentials.for_registry("other.example").await, Ok(RegistryAuth::Anonymous)));
    for (registry, reason) in [
        ("bad.example", "bad.example"),
        ("token.example", "identity token"),
        ("h.example", "docker-credential-no-such-helper"),
        ("store.example", "docker-credential-no-such-store"),
        ("evil.example", "no credential helper's name"),
    ] {
        let why = credentials.for_registry(registry).await.unwrap_err();
        assert!(why.contains(reason), "{registry}: {why}");
    }
}
