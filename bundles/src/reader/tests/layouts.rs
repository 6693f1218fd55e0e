//! Bundles that are properly signed and break the layout's rules: the vendor's key is no excuse.

use super::*;
use crate::assemble::{ImageInput, assemble, layer_type, plain_layer};
use crate::layout::{self, Compression, Descriptor, Index, Manifest, media};
use crate::roles::{Role, Sized};
use crate::testing::{TestBundle, file, image, product, tar_of};

/// Signs anew after changing documents, so that only the layout's own rules stand in the way.
fn relayout(vendor: &Vendor, change: impl FnOnce(&mut TestBundle)) -> Outcome {
    let mut bundle = vendor.bundle(3);
    change(&mut bundle);
    let sized = |bytes: &[u8]| Sized { digest: Digest::of(bytes), size: bytes.len() as u64 };
    let documents = bundle.draft.documents.clone();
    let bundle = bundle.resigned(Role::Release, &[&vendor.release_key], |release| {
        release.index = sized(&documents.index);
        release.manifest = sized(&documents.manifest);
        release.oci_layout = sized(&documents.oci_layout);
    });
    attempt(&bundle.bytes(), vendor)
}

fn index_of(bundle: &TestBundle) -> Index {
    serde_json::from_slice(&bundle.draft.documents.index).unwrap()
}

#[test]
fn indexes_that_break_the_layouts_rules_are_refused() {
    type Case = (&'static str, fn(&mut Index), &'static str);
    let cases: [Case; 16] = [
        ("53 index inside an index", |i| i.manifests[0].media_type = media::INDEX.into(), "media type"),
        ("53 manifest elsewhere", |i| i.manifests[0].urls = vec!["https://example.com/".into()], "URL"),
        ("of another schema", |i| i.schema_version = 1, "schema version 2"),
        ("product of another type", |i| i.manifests[1].media_type = media::LAYER.into(), "media type"),
        (
            "reference with a control character",
            |i| drop(i.manifests[0].annotations.insert(media::REF_NAME.into(), "a\n".into())),
            "unusable reference",
        ),
        (
            "more images than allowed",
            |i| {
                let one = i.manifests[0].clone();
                i.manifests.resize(layout::limits::IMAGES + 1, one);
            },
            "images: 1025",
        ),
        ("no product", |i| drop(i.manifests.pop()), "0 product manifests"),
        ("two products", |i| i.manifests.push(i.manifests[1].clone()), "2 product manifests"),
        ("reference twice", |i| i.manifests.insert(0, i.manifests[0].clone()), "there twice"),
        ("no reference", |i| i.manifests[0].annotations.clear(), "no reference"),
        ("50 size lies, too small", |i| i.manifests[0].size -= 1, "are listed"),
        ("50 size lies, too large", |i| i.manifests[0].size += 1, "are listed"),
        ("50 size overflows", |i| i.manifests[0].size = u64::MAX, "more than"),
        ("51 blob that is not there", |i| i.manifests[0].digest = Digest::of(b"x"), "not listed"),
        (
            "53 another platform",
            |i| {
                let (architecture, os) = ("arm64".into(), "linux".into());
                i.manifests[0].platform = Some(layout::Platform { architecture, os, variant: None });
            },
            "another platform",
        ),
        ("53 product as image", |i| i.manifests[1].artifact_type = None, "0 product"),
    ];
    let vendor = Vendor::new("a");
    for (name, change, reason) in cases {
        let error = relayout(&vendor, |bundle| {
            let mut index = index_of(bundle);
            change(&mut index);
            bundle.draft.documents.index = serde_json::to_vec(&index).unwrap();
        })
        .expect_err(name);
        assert!(error.to_string().contains(reason), "{name}: {error}");
    }
    let other = relayout(&vendor, |bundle| bundle.draft.documents.manifest = b"[]".to_vec()).unwrap_err();
    assert!(other.to_string().contains("manifest.json"), "{other}");
    let other = relayout(&vendor, |bundle| bundle.draft.documents.oci_layout = b"{}".to_vec()).unwrap_err();
    assert!(other.to_string().contains("oci-layout"), "{other}");
}

#[test]
fn images_that_break_the_layouts_rules_cannot_be_assembled_or_read() {
    let layer = tar_of("x", 1);
    let good = image("a:1", std::slice::from_ref(&layer));
    let manifest = |change: fn(&mut Manifest)| {
        let mut manifest: Manifest = serde_json::from_slice(&good.manifest).unwrap();
        change(&mut manifest);
        ImageInput { manifest: serde_json::to_vec(&manifest).unwrap(), ..good.clone() }
    };
    let config =
        |json: &str| ImageInput::new("a:1", json.as_bytes().to_vec(), vec![plain_layer(layer.clone())]);
    let rootfs = |ids: &str| {
        config(&format!(
            r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":{ids}}}}}"#
        ))
    };
    let wrong = Digest::of(b"x");
    for (name, image, reason) in [
        ("53 foreign layer", manifest(|m| m.layers[0].urls = vec!["https://x/".into()]), "URL"),
        (
            "53 foreign media type",
            manifest(|m| {
                m.layers[0].media_type = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip".into()
            }),
            "media type",
        ),
        (
            "layer of unknown compression",
            manifest(|m| m.layers[0].media_type = "text/plain".into()),
            "media type",
        ),
        ("of another schema", manifest(|m| m.schema_version = 1), "schema version 2"),
        (
            "that says another type than the index",
            manifest(|m| m.media_type = Some(media::DOCKER_MANIFEST.into())),
            "media type",
        ),
        (
            "more layers than allowed",
            manifest(|m| m.layers.resize(layout::limits::LAYERS + 1, m.layers[0].clone())),
            "layers: 513",
        ),
        ("53 cycle", manifest(|m| m.config.media_type = media::MANIFEST.into()), "media type"),
        (
            "layer listed as configuration",
            manifest(|m| {
                let (digest, size) = (m.config.digest, m.config.size);
                m.layers[0] = Descriptor { digest, size, ..m.layers[0].clone() };
            }),
            "diff_id",
        ),
        (
            "50 sizes that differ",
            manifest(|m| {
                let mut second = m.layers[0].clone();
                second.size += 1;
                m.layers.push(second);
            }),
            "diff_ids for 2 layers",
        ),
        (
            "50 one layer in two sizes",
            {
                let id = Digest::of(&layer);
                let mut twice = rootfs(&format!("[\"{id}\",\"{id}\"]"));
                let mut manifest: Manifest = serde_json::from_slice(&twice.manifest).unwrap();
                let size = manifest.layers[0].size + 1;
                manifest.layers.push(Descriptor { size, ..manifest.layers[0].clone() });
                twice.manifest = serde_json::to_vec(&manifest).unwrap();
                twice
            },
            "and as",
        ),
        ("52 too few diff_ids", rootfs("[]"), "0 diff_ids for 1 layers"),
        ("52 wrong diff_id", rootfs(&format!("[\"{wrong}\"]")), "has diff_id"),
        ("22 unknown algorithm", rootfs("[\"md5:00\"]"), "unknown hash algorithm"),
        (
            "rootfs of another kind",
            config(r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"files","diff_ids":[]}}"#),
            "rootfs type",
        ),
        ("no rootfs", config(r#"{"architecture":"amd64","os":"linux"}"#), "rootfs"),
        ("28 key twice", config(r#"{"architecture":"amd64","os":"linux","os":"linux"}"#), "twice"),
    ] {
        let error = assemble(&product(1), vec![file("compose.yaml", b"")], vec![image]).expect_err(name);
        assert!(error.to_string().contains(reason), "{name}: {error}");
    }
}

#[test]
fn blobs_must_add_up_to_exactly_what_was_signed() {
    type Change = fn(&mut crate::roles::Release);
    let changes: [(&str, Change, &str); 3] = [
        ("more signed", |release| release.content_bytes += 1, "add up to"),
        ("less signed", |release| release.content_bytes -= 1, "add up to"),
        ("less unpacked signed", |release| release.unpacked_bytes -= 1, "unpacks to more"),
    ];
    let vendor = Vendor::new("a");
    for (name, change, reason) in changes {
        let bundle = vendor.bundle(3).resigned(Role::Release, &[&vendor.release_key], change);
        let error = attempt(&bundle.bytes(), &vendor).expect_err(name);
        assert!(error.to_string().contains(reason), "{name}: {error}");
    }
}

#[test]
fn product_files_that_break_a_rule_are_refused() {
    for (name, path, reason) in [
        ("31 parent folder", "../x", "`..`"),
        ("31 absolute", "/etc/passwd", "relative"),
        ("42 collides", "Compose.yaml", "case"),
        ("41 twice", "compose.yaml", "twice"),
    ] {
        let files = vec![file("compose.yaml", b""), file(path, b"x")];
        let error = assemble(&product(1), files, vec![]).expect_err(name);
        assert!(error.to_string().contains(reason), "{name}: {error}");
    }
    let error = assemble(&product(1), vec![file("other.yaml", b"")], vec![]).unwrap_err();
    assert!(error.to_string().contains("compose.yaml"), "{error}");
}

/// Walks index and product manifest as they are given; what follows is not reached.
fn product_manifest(change: impl FnOnce(&mut Manifest)) -> String {
    let bundle = Vendor::new("a").bundle(3);
    let mut index = index_of(&bundle);
    let listed = index.manifests.last().unwrap().digest;
    let mut manifest: Manifest = serde_json::from_slice(&bundle.blob(&listed).unwrap()).unwrap();
    change(&mut manifest);
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let last = index.manifests.last_mut().unwrap();
    (last.digest, last.size) = (Digest::of(&bytes), bytes.len() as u64);
    let mut expected = layout::Expected::new(&serde_json::to_vec(&index).unwrap(), 1 << 50).unwrap();
    expected.take(&bytes).unwrap_err().to_string()
}

#[test]
fn product_manifests_that_break_the_layouts_rules_are_refused() {
    type Case = (&'static str, fn(&mut Manifest), &'static str);
    let cases: [Case; 5] = [
        ("of an image", |m| m.artifact_type = None, "media type \"\""),
        ("with another configuration", |m| m.config.media_type = media::CONFIG.into(), "media type"),
        ("with a layer among its files", |m| m.layers[0].media_type = media::LAYER.into(), "media type"),
        ("with a file that is too large", |m| m.layers[0].size = layout::limits::FILE + 1, "bytes of a file"),
        (
            "with more files than allowed",
            |m| m.layers.resize(layout::limits::FILES + 1, m.layers[0].clone()),
            "files: 4097",
        ),
    ];
    for (name, change, reason) in cases {
        let said = product_manifest(change);
        assert!(said.contains(reason), "{name}: {said}");
    }
}

#[test]
fn the_product_document_and_the_release_must_agree() {
    let vendor = Vendor::new("a");
    let bundle = vendor.bundle(3).resigned(Role::Release, &[&vendor.release_key], |r| r.version = "9".into());
    let error = attempt(&bundle.bytes(), &vendor).unwrap_err();
    assert!(error.to_string().contains("1.0.3"), "{error}");
}

/// A bundle whose only layer is stored with gzip.
fn gzipped(vendor: &Vendor, plain: &[u8], stored: &[u8], unpacked: u64) -> TestBundle {
    let mut layer = plain_layer(stored.to_vec());
    layer.media_type = layer_type(Compression::Gzip);
    layer.unpacked = unpacked;
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [Digest::of(plain)]},
    });
    let image = ImageInput::new("a:1", config.to_string().into_bytes(), vec![layer]);
    vendor.bundle_with(assemble(&product(3), vec![file("compose.yaml", b"")], vec![image]).unwrap(), |_| {})
}

#[test]
fn compressed_layers_are_checked_against_what_they_unpack_to() {
    let gzip = |bytes: &[u8]| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        io::Write::write_all(&mut out, bytes).unwrap();
        out.finish().unwrap()
    };
    let vendor = Vendor::new("a");
    let plain = vec![0; 4 << 20];
    let stored = gzip(&plain);
    let all = plain.len() as u64;
    let imported = attempt(&gzipped(&vendor, &plain, &stored, all).bytes(), &vendor).unwrap();
    let layer = &imported.admitted.content.images[0].layers[0];
    assert_eq!((layer.compression, layer.diff_id), (Compression::Gzip, Digest::of(&plain)));
    for (name, bundle, reason) in [
        ("48 bomb", gzipped(&vendor, &plain, &stored, all - 1), "more than"),
        ("52 other content", gzipped(&vendor, b"other", &stored, all), "unpacks to"),
        ("48 not gzip", gzipped(&vendor, &plain, &plain, all), "cannot be unpacked"),
    ] {
        let mut sink = Memory::default();
        let error = read_into(&bundle.bytes(), &vendor, &mut sink).expect_err(name);
        assert!(error.to_string().contains(reason), "{name}: {error}");
        assert_eq!((error.code().id, sink.aborted), ("KE-2010", 1), "{name}");
    }
}

#[test]
fn docker_reads_tags_and_no_digests() {
    let images = assemble(
        &product(1),
        vec![file("compose.yaml", b"")],
        vec![image("a", &[tar_of("a", 1)]), image("r:5000/b", &[tar_of("b", 1)]), image("c@sha256:00", &[])],
    )
    .unwrap()
    .content
    .images;
    let text = String::from_utf8(layout::docker_manifest(&images)).unwrap();
    assert!(
        text.contains(r#""RepoTags":["a:latest"]"#) && text.contains(r#""RepoTags":["r:5000/b:latest"]"#)
    );
    assert!(text.contains(r#""RepoTags":null"#) && !text.contains("c@"));
}
