//! Images reach the engine with only the missing layers sent, and are what was signed.

use kedge::engine::Kind;
use kedge::engine::types::ImageStore;

use crate::rig::{Rig, soon};

#[tokio::test]
async fn only_missing_layers_are_sent_and_the_id_is_the_signed_one() {
    let Some(mut rig) = Rig::new("load").await else { return };
    let (one, two) = (rig.image("1"), rig.image("2"));
    let (placed, first) = soon(rig.load(std::slice::from_ref(&one))).await;
    let placed = placed.unwrap();
    let signed = if rig.info.store == ImageStore::Classic { one.config } else { one.manifest };
    assert_eq!(placed[&one.reference].id, signed.to_string());
    assert_eq!(placed[&one.reference].config.env["FROM_IMAGE"], "1");

    let (again, nothing) = soon(rig.load(std::slice::from_ref(&one))).await;
    assert_eq!((again.unwrap(), nothing), (placed, 0), "what is there is not sent again");

    let (both, second) = soon(rig.load(&[one.clone(), two.clone()])).await;
    assert_eq!(both.unwrap().len(), 2);
    assert!(second < 100_000, "the base of {} bytes was left out, {second} were sent", one.layers[0].size);
    let _ = first;
    let diff_ids = rig.engine.inspect_image(&two.config.to_string()).await.unwrap().diff_ids;
    assert_eq!(diff_ids.len(), 2);
}

#[tokio::test]
async fn a_configuration_that_was_altered_is_refused() {
    let Some(mut rig) = Rig::new("forged").await else { return };
    let mut image = rig.image("1");
    let honest = rig.store.0[&image.config].clone();
    // The blob under the signed name holds something else, as a damaged or altered store would.
    let forged = String::from_utf8(honest).unwrap().replace("FROM_IMAGE=1", "FROM_IMAGE=2");
    image.config_size = forged.len() as u64;
    rig.store.0.insert(image.config, forged.into_bytes());
    let (placed, _) = soon(rig.load(std::slice::from_ref(&image))).await;
    assert_eq!(placed.unwrap_err().kind, Kind::Blob, "the engine has not even seen it");
}

#[tokio::test]
async fn a_layer_that_was_altered_is_refused() {
    let Some(mut rig) = Rig::new("altered").await else { return };
    let image = rig.image("1");
    let layer = image.layers[1].digest;
    if let Some(bytes) = rig.store.0.get_mut(&layer) {
        bytes[512] ^= 1;
    }
    let (placed, _) = soon(rig.load(std::slice::from_ref(&image))).await;
    assert!(placed.is_err());
}
