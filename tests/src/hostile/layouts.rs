//! Images, bombs, splits, resuming and full disks. The vendor's own key is no excuse: all but the splits are signed.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use kedge_bundle::assemble::{ImageInput, assemble, layer_type, plain_layer};
use kedge_bundle::codes;
use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Compression as Stored, media};
use kedge_bundle::tar::BLOCK;
use kedge_bundle::testing::{Vendor, file, product};
use serde_json::{Value, json};

use super::Brought::{Core, File, Steps};
use super::tamper::{NEXT, altered, entry, layout, release, span};
use super::{Case, core};

/// Cases 48 to 57.
pub(super) fn cases() -> Vec<Case> {
    let case = |number, name, code, make| Case { number, name, wanted: Some(code), brought: File(make) };
    vec![
        case("48", "gzip bomb", codes::UNPACK, |v| {
            compressed(v, Stored::Gzip, gzip(&vec![0; 16 << 20]), 1 << 20)
        }),
        case("48", "zstd bomb", codes::UNPACK, |v| compressed(v, Stored::Zstd, zstd(20), 1 << 20)),
        case("48", "zstd window of 128 MiB", codes::UNPACK, |v| {
            compressed(v, Stored::Zstd, zstd(27), 64 << 20)
        }),
        case("48", "layer that is not what it says", codes::UNPACK, |v| {
            compressed(v, Stored::Gzip, vec![7; 4096], 1 << 20)
        }),
        case("49", "blob whose name is not its digest", codes::CONTENT, |v| {
            altered(v, |bytes| {
                let first = first_blob(bytes);
                bytes[first + BLOCK] ^= 1;
            })
        }),
        case("50", "descriptor that lies about the size", codes::ARCHIVE, |v| {
            layout(v, nothing, nothing, |index| index["manifests"][0]["size"] = 12.into(), vec![])
        }),
        case("50", "descriptor of more than there is", codes::LAYOUT, |v| {
            layout(v, nothing, nothing, |index| index["manifests"][0]["size"] = u64::MAX.into(), vec![])
        }),
        case("51", "blob that nothing lists", codes::BLOBS, |v| {
            layout(v, nothing, nothing, nothing, vec![b"hidden".to_vec()])
        }),
        case("51", "blob missing", codes::BLOBS, |v| {
            altered(v, |bytes| {
                let first = first_blob(bytes);
                let whole = span(bytes, first);
                bytes.drain(whole);
            })
        }),
        case("51", "last blob missing", codes::BLOBS, |v| {
            altered(v, |bytes| {
                let mut at = first_blob(bytes);
                while bytes[span(bytes, at).end] != 0 {
                    at = span(bytes, at).end;
                }
                let whole = span(bytes, at);
                bytes.drain(whole);
            })
        }),
        case("52", "diff_ids that do not match the layers", codes::LAYOUT, |v| {
            layout(
                v,
                |config| config["rootfs"]["diff_ids"][0] = Digest::of(b"x").to_string().into(),
                nothing,
                nothing,
                vec![],
            )
        }),
        case("52", "fewer diff_ids than layers", codes::LAYOUT, |v| {
            layout(v, |config| config["rootfs"]["diff_ids"] = json!([]), nothing, nothing, vec![])
        }),
        case("52", "compressed layer of another content", codes::UNPACK, |v| {
            compressed(v, Stored::Gzip, gzip(b"another content"), 1 << 20)
        }),
        case("53", "manifest that is its own configuration", codes::LAYOUT, |v| {
            layout(
                v,
                nothing,
                |manifest| manifest["config"]["mediaType"] = media::MANIFEST.into(),
                nothing,
                vec![],
            )
        }),
        case("53", "index within the index", codes::LAYOUT, |v| {
            layout(
                v,
                nothing,
                nothing,
                |index| index["manifests"][0]["mediaType"] = media::INDEX.into(),
                vec![],
            )
        }),
        case("53", "layer to be fetched from a URL", codes::LAYOUT, |v| {
            layout(
                v,
                nothing,
                |manifest| manifest["layers"][0]["urls"] = json!(["https://example.com/x"]),
                nothing,
                vec![],
            )
        }),
        case("53", "foreign layer", codes::LAYOUT, |v| {
            let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
            layout(
                v,
                nothing,
                |manifest| manifest["layers"][0]["mediaType"] = foreign.into(),
                nothing,
                vec![],
            )
        }),
        case("55", "split part missing", codes::TRUNCATED, |v| parts(v, |p, _| [&p[0][..], &p[1]].concat())),
        case("55", "split part missing in the middle", codes::TRUNCATED, |v| {
            parts(v, |p, _| [&p[0][..], &p[2]].concat())
        }),
        case("55", "split parts reordered", codes::ARCHIVE, |v| {
            parts(v, |p, _| [&p[0][..], &p[2], &p[1]].concat())
        }),
        case("55", "split part of another bundle", codes::CONTENT, |v| {
            parts(v, |p, foreign| [&p[0][..], &foreign[1], &p[2]].concat())
        }),
        Case {
            number: "56",
            name: "resume state corrupted",
            wanted: Some(kedge::codes::LEFTOVER),
            brought: Core(core::corrupted_resume),
        },
        case("57", "more content than the disk can hold", kedge::codes::NO_SPACE, |v| {
            release(v, |release| release.content_bytes = 1 << 52)
        }),
        case("57", "more unpacked than the disk can hold", kedge::codes::NO_SPACE, |v| {
            release(v, |release| release.unpacked_bytes = 1 << 52)
        }),
        Case {
            number: "57",
            name: "killed in the middle",
            wanted: Some(codes::READ),
            brought: Steps(|stage| {
                let [first, second, _] = cut(&stage.vendor, 1);
                stage.unchanged_but_for_content(|| stage.kill_in_the_middle(&[first, second].concat()))
            }),
        },
    ]
}

const fn nothing(_: &mut Value) {}

fn first_blob(bytes: &[u8]) -> usize {
    span(bytes, entry(bytes, "release.json")).end
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::best());
    out.write_all(bytes).expect("memory is enough");
    out.finish().expect("memory is enough")
}

/// 32 MiB of zeros in a window of this size.
fn zstd(window_log: u32) -> Vec<u8> {
    let mut out = zstd::stream::write::Encoder::new(Vec::new(), 3).expect("an encoder");
    out.window_log(window_log).expect("a window");
    out.write_all(&vec![0; 32 << 20]).expect("memory is enough");
    out.finish().expect("memory is enough")
}

/// A bundle with a layer stored like this, said to unpack to some zeros and signed for so many bytes.
fn compressed(vendor: &Vendor, how: Stored, stored: Vec<u8>, unpacked: u64) -> Vec<u8> {
    let mut layer = plain_layer(stored);
    layer.media_type = layer_type(how);
    layer.unpacked = unpacked;
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&[0; 512])]},
    });
    let image = ImageInput::new("a:1", config.to_string().into_bytes(), vec![layer]);
    let draft = assemble(&product(NEXT), vec![file("compose.yaml", b"services: {}\n")], vec![image]);
    vendor.bundle_with(draft.expect("a layout"), |_| {}).bytes()
}

/// Parts of a bundle and of another, put together again.
fn parts(vendor: &Vendor, join: impl FnOnce([Vec<u8>; 3], [Vec<u8>; 3]) -> Vec<u8>) -> Vec<u8> {
    join(cut(vendor, 1), cut(vendor, 2))
}

/// Three parts of a bundle, as `split` makes them; all cuts are within one layer.
fn cut(vendor: &Vendor, seed: u8) -> [Vec<u8>; 3] {
    let layer: Vec<u8> = (0..300_000_u32).flat_map(|n| (n ^ u32::from(seed)).to_le_bytes()).collect();
    let image = kedge_bundle::testing::image("a:1", &[layer]);
    let draft = assemble(&product(NEXT), vec![file("compose.yaml", b"services: {}\n")], vec![image]);
    let bytes = vendor.bundle_with(draft.expect("a layout"), |_| {}).bytes();
    let third = 400_000;
    [bytes[..third].to_vec(), bytes[third..2 * third].to_vec(), bytes[2 * third..].to_vec()]
}
