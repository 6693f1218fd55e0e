//! What only a hub that lies could bring, given to the core that the agent gives it to: statements, and bytes that go on
//! where an earlier fetch ended.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use jiff::{SignedDuration, Timestamp};
use kedge::host::{ByteStream, Courier};
use kedge::images::Content;
use kedge::images::delta::Bases;
use kedge::images::intake::{self, Room};
use kedge::problem::Problem;
use kedge_bundle::codes::{Code, Coded};
use kedge_bundle::testing::{TestBundle, Vendor};
use kedge_bundle::verify::{self, Context, Trust, VerifiedFresh};
use kedge_proto::tether::v1::Documents;

fn believe(vendor: &Vendor, trust: &Trust, statement: &[u8], now: Timestamp) -> Result<VerifiedFresh, Code> {
    let roots = verify::roots(trust, &vendor.envelopes).map_err(|refusal| refusal.code())?;
    verify::fresh(trust, &Context::at(now), &roots, statement).map_err(|refusal| refusal.code())
}

/// A host that has heard of release 8 as the newest.
fn heard(vendor: &Vendor) -> Result<Trust, Code> {
    let mut trust = vendor.trust();
    let statement = vendor.fresh(vendor.now, &[&vendor.bundle(8)]);
    trust.advance(&believe(vendor, &trust, &statement, vendor.now)?.advance);
    Ok(trust)
}

/// One made before the last.
pub(super) fn older_statement(vendor: &Vendor) -> Result<(), Code> {
    let before = vendor.now - SignedDuration::from_hours(1);
    let statement = vendor.fresh(before, &[&vendor.bundle(8)]);
    believe(vendor, &heard(vendor)?, &statement, vendor.now).map(drop)
}

/// One made after the last, about a release from before.
pub(super) fn older_release_listed(vendor: &Vendor) -> Result<(), Code> {
    let statement = vendor.fresh(vendor.now, &[&vendor.bundle(7)]);
    believe(vendor, &heard(vendor)?, &statement, vendor.now).map(drop)
}

/// One that is no longer true.
pub(super) fn expired_statement(vendor: &Vendor) -> Result<(), Code> {
    let statement = vendor.fresh(vendor.now, &[&vendor.bundle(8)]);
    believe(vendor, &heard(vendor)?, &statement, vendor.now + SignedDuration::from_hours(72)).map(drop)
}

/// A hub that serves a bundle as it is.
struct Hub(TestBundle);

#[tonic::async_trait]
impl Courier for Hub {
    async fn documents(&self, _: &str) -> Result<Documents, Problem> {
        let documents = self.0.documents();
        Ok(Documents {
            oci_layout: documents.oci_layout,
            index: documents.index,
            manifest_json: documents.manifest,
            deltas: Vec::new(),
            roots: documents.roots,
            release: documents.release,
        })
    }

    async fn blob(&self, _: &str, digest: &str, offset: u64) -> Result<ByteStream, Problem> {
        let digest = digest.parse().expect("a digest");
        let bytes = self.0.blob(&digest).expect("a blob of the bundle");
        let rest = bytes.get(usize::try_from(offset).expect("small")..).unwrap_or_default().to_vec();
        Ok(Box::pin(stream::iter([Ok(Bytes::from(rest))])))
    }
}

struct Enough;

impl Room for Enough {
    fn could_hold(&self, _: u64, _: u64) -> Result<(), Problem> {
        Ok(())
    }

    fn check(&self, _: u64, _: u64) -> Result<(), Problem> {
        Ok(())
    }
}

/// What an earlier fetch left of a layer was changed meanwhile.
pub(super) fn corrupted_resume(vendor: &Vendor) -> Result<(), Code> {
    let folder = tempfile::tempdir().expect("a folder");
    let content = Content::open(folder.path().to_owned()).expect("a store");
    let hub = Hub(vendor.bundle(8));
    let layer = &hub.0.draft.content.images[0].layers[0];
    let partial = folder.path().join("partial").join(layer.digest.hex());
    std::fs::write(&partial, b"something else").expect("a writable folder");
    let digest = hub.0.digest();
    let (trust, context) = (vendor.trust(), Context { now: vendor.now, ..vendor.context() });
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let bases = Bases { engine: None, content: content.clone() };
    let fetch = || {
        let on_bytes: intake::OnBytes = Arc::new(|_, _| {});
        runtime.block_on(intake::from_courier(&hub, &digest, &bases, &trust, &context, &Enough, &on_bytes))
    };
    let refused = fetch().map(drop).map_err(|problem| problem.code);
    assert!(!content.holds(&layer.digest, layer.size), "what is not verified has no place among the blobs");
    assert!(!partial.exists(), "bytes that are wrong are not kept");
    fetch().expect("the next fetch begins anew");
    refused
}
