//! A vendor in memory, for tests: keys, a root 2-of-3 and small signed bundles in one call each.
//!
//! Everything is derived from a seed, so two runs see the same bytes. Nothing here may guard anything real.

#![expect(clippy::expect_used, reason = "test support: failing loudly is its purpose")]

mod thin;

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use jiff::Timestamp;

use crate::assemble::{Draft, FileInput, ImageInput, Terms, assemble, plain_layer};
use crate::digest::Digest;
use crate::envelope::Envelope;
use crate::product::{Gate, Product};
use crate::roles::{Audience, FORMAT, Fresh, Newest, PublicKey, Release, Role, RoleKeys, Roles, Root};
use crate::sign::{self, Signer};
use crate::verify::{Context, Documents, Trust};

pub use thin::ThinBundle;

/// A moment at which everything a [`Vendor`] makes is valid.
#[must_use]
pub fn now() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().expect("a time")
}

/// A vendor: keys of every role, and a chain of roots.
#[derive(Debug, Clone)]
pub struct Vendor {
    /// The moment that its dates lie around.
    pub now: Timestamp,
    /// Three; two must sign.
    pub root_keys: Vec<SigningKey>,
    /// One must sign.
    pub release_key: SigningKey,
    /// One must sign.
    pub fresh_key: SigningKey,
    /// One must sign.
    pub licence_key: SigningKey,
    /// One must sign.
    pub support_key: SigningKey,
    /// Root documents in order.
    pub roots: Vec<Root>,
    /// Their envelopes.
    pub envelopes: Vec<Vec<u8>>,
}

/// Deterministic key number `number` of `seed`.
#[must_use]
pub fn key(seed: &str, number: u32) -> SigningKey {
    SigningKey::from_bytes(Digest::of(format!("{seed}/{number}").as_bytes()).as_bytes())
}

fn keys(keys: &[&SigningKey], threshold: u32) -> RoleKeys {
    RoleKeys { keys: keys.iter().map(|key| PublicKey::new(&key.verifying_key(), None)).collect(), threshold }
}

impl Vendor {
    /// A vendor with a first root document, everything being valid at [`now`].
    #[must_use]
    pub fn new(seed: &str) -> Self {
        Self::at(seed, now())
    }

    /// The same, everything being valid at another moment.
    #[must_use]
    pub fn at(seed: &str, now: Timestamp) -> Self {
        let root_keys: Vec<_> = (0..3).map(|number| key(seed, number)).collect();
        let [release_key, fresh_key, licence_key, support_key] =
            [10, 11, 12, 13].map(|number| key(seed, number));
        let root = Root {
            format: FORMAT,
            version: 1,
            epoch: 1,
            vendor: "Example".into(),
            issued: now - jiff::SignedDuration::from_hours(3_636),
            expires: now + jiff::SignedDuration::from_hours(13_884),
            roles: Roles {
                root: keys(&root_keys.iter().collect::<Vec<_>>(), 2),
                release: keys(&[&release_key], 1),
                fresh: keys(&[&fresh_key], 1),
                licence: keys(&[&licence_key], 1),
                support: keys(&[&support_key], 1),
            },
        };
        let (roots, envelopes) = (Vec::new(), Vec::new());
        let mut vendor =
            Self { now, root_keys, release_key, fresh_key, licence_key, support_key, roots, envelopes };
        let signers = [&vendor.root_keys[0] as &dyn Signer, &vendor.root_keys[1]];
        let envelope = sign::root(&root, &signers).expect("signed");
        vendor.envelopes.push(envelope);
        vendor.roots.push(root);
        vendor
    }

    /// Adds a root document: the last one changed by `change`, its version one higher, signed by the first two old
    /// root keys and by `also`.
    pub fn rotate(&mut self, also: &[&SigningKey], change: impl FnOnce(&mut Root)) {
        let mut root = self.roots.last().expect("a root").clone();
        root.version += 1;
        change(&mut root);
        let mut signers: Vec<&dyn Signer> = vec![&self.root_keys[0], &self.root_keys[1]];
        signers.extend(also.iter().map(|key| *key as &dyn Signer));
        let envelope = sign::root(&root, &signers).expect("signed");
        self.envelopes.push(envelope);
        self.roots.push(root);
    }

    /// Fingerprint of the first root: what a host is given out of band.
    #[must_use]
    pub fn fingerprint(&self) -> Digest {
        Digest::of(&Envelope::parse(&self.envelopes[0]).expect("an envelope").payload)
    }

    /// A host that knows nothing but this vendor's first root.
    #[must_use]
    pub fn trust(&self) -> Trust {
        Trust::pinned(self.fingerprint())
    }

    /// A context in which everything is valid.
    #[must_use]
    pub fn context(&self) -> Context<'static> {
        Context { site: Some("north"), product: Some("hello"), stream: Some("stable"), ..Context::at(now()) }
    }

    /// A signed bundle of product `hello`, stream `stable`, with sequence number `seq`.
    #[must_use]
    pub fn bundle(&self, seq: u64) -> TestBundle {
        self.bundle_with(sample(seq), |_| {})
    }

    /// A signed bundle of any content, its release changed by `change` before it is signed.
    #[must_use]
    pub fn bundle_with(&self, draft: Draft, change: impl FnOnce(&mut Release)) -> TestBundle {
        let hours = jiff::SignedDuration::from_hours;
        let terms = Terms { issued: self.now - hours(756), expires: self.now + hours(8_004), ..terms(1) };
        let mut release = draft.release(terms, &self.envelopes);
        let number = draft.content.product.version.rsplit('.').next().and_then(|last| last.parse().ok());
        release.seq = number.unwrap_or(1);
        change(&mut release);
        let envelope = sign::release(&release, &[&self.release_key]).expect("signed");
        TestBundle { draft, release, envelope, roots: self.envelopes.clone() }
    }

    /// A signed statement that these bundles are the newest of their streams.
    #[must_use]
    pub fn fresh(&self, issued: Timestamp, newest: &[&TestBundle]) -> Vec<u8> {
        let streams = newest
            .iter()
            .map(|bundle| Newest {
                product: bundle.release.product.clone(),
                stream: bundle.release.stream.clone(),
                seq: bundle.release.seq,
                release: bundle.digest(),
            })
            .collect();
        let expires = issued + jiff::SignedDuration::from_hours(72);
        sign::fresh(&Fresh { format: FORMAT, issued, expires, streams }, &[&self.fresh_key]).expect("signed")
    }
}

/// Terms of a release that is valid at [`now`].
#[must_use]
pub fn terms(seq: u64) -> Terms {
    Terms {
        stream: "stable".into(),
        seq,
        min_seq: 0,
        audience: Audience::All,
        issued: "2026-05-01T00:00:00Z".parse().expect("a time"),
        expires: "2027-05-01T00:00:00Z".parse().expect("a time"),
        notes: None,
    }
}

/// Product `hello` 1.0.`seq`: a compose file, a configuration file and one image of two plain layers.
#[must_use]
pub fn sample(seq: u64) -> Draft {
    let compose = "services:\n  web:\n    image: example/hello:1\n";
    let files = vec![file("compose.yaml", compose.as_bytes()), file("conf/app.conf", b"colour = blue\n")];
    let images = vec![image("example/hello:1", &[tar_of("hello", seq), tar_of("shared", 0)])];
    assemble(&product(seq), files, images).expect("a valid layout")
}

/// The product document of [`sample`].
#[must_use]
pub fn product(seq: u64) -> Product {
    Product {
        format: 1,
        product: "hello".into(),
        version: format!("1.0.{seq}"),
        description: None,
        parameters: BTreeMap::new(),
        gate: Gate::default(),
        compose: vec!["compose.yaml".into()],
        env_files: Vec::new(),
        profiles: Vec::new(),
        licence: None,
        tools: None,
        diagnostics: BTreeMap::new(),
    }
}

/// A file of mode 0644.
#[must_use]
pub fn file(path: &str, bytes: &[u8]) -> FileInput {
    FileInput { path: path.into(), bytes: bytes.to_vec(), executable: false }
}

/// An image for linux/amd64 of plain layers.
#[must_use]
pub fn image(reference: &str, layers: &[Vec<u8>]) -> ImageInput {
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["/hello"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let layers = layers.iter().map(|layer| plain_layer(layer.clone())).collect();
    ImageInput::new(reference, config.to_string().into_bytes(), layers)
}

/// A small tar archive with one file.
#[must_use]
pub fn tar_of(name: &str, salt: u64) -> Vec<u8> {
    let text = format!("{name} {salt}\n").repeat(20);
    let mut out = crate::tar::header(name, text.len() as u64).to_vec();
    out.extend_from_slice(text.as_bytes());
    out.resize(out.len() + crate::tar::padding(text.len() as u64) + 1024, 0);
    out
}

/// A bundle that can still be looked into.
#[derive(Debug)]
pub struct TestBundle {
    /// Content.
    pub draft: Draft,
    /// Release payload.
    pub release: Release,
    /// Release envelope.
    pub envelope: Vec<u8>,
    /// Root envelopes.
    pub roots: Vec<Vec<u8>>,
}

impl TestBundle {
    /// The release's digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&Envelope::parse(&self.envelope).expect("an envelope").payload)
    }

    /// Its documents.
    #[must_use]
    pub fn documents(&self) -> Documents {
        Documents {
            roots: self.roots.clone(),
            release: self.envelope.clone(),
            ..self.draft.documents.clone()
        }
    }

    /// The archive.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.draft.write(&mut out, &self.roots, &self.envelope, &mut |_| {}).expect("memory is enough");
        out
    }

    /// The bytes of a blob.
    #[must_use]
    pub fn blob(&self, digest: &Digest) -> Option<Vec<u8>> {
        let (_, source) = self.draft.blobs.iter().find(|(blob, _)| blob.digest == *digest)?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut source.open().ok()?, &mut bytes).ok()?;
        Some(bytes)
    }

    /// Signs the release anew, after `change`, with `role`'s payload type.
    #[must_use]
    pub fn resigned(
        mut self,
        role: Role,
        signers: &[&dyn Signer],
        change: impl FnOnce(&mut Release),
    ) -> Self {
        change(&mut self.release);
        let payload = serde_json::to_vec(&self.release).expect("JSON");
        self.envelope = sign::envelope(role, payload, signers).expect("signed").encode();
        self
    }
}
