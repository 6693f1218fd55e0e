//! Thin bundles: what is left out, what comes in its place, and what it is built on. The host runs the release that they
//! build on, so all but the thing that is wrong is in order.

use kedge_bundle::assemble::{ImageInput, assemble, plain_layer};
use kedge_bundle::codes;
use kedge_bundle::delta::{Prefix, make};
use kedge_bundle::digest::Digest;
use kedge_bundle::roles::Role;
use kedge_bundle::sign;
use kedge_bundle::testing::{TestBundle, ThinBundle, Vendor, file, product};
use serde_json::json;

use super::Brought::File;
use super::Case;
use super::stage::{SEQ, running};
use super::tamper::NEXT;

/// Case 54, and what else attackers do with deltas.
pub(super) fn cases() -> Vec<Case> {
    let case = |number, name, code, make| Case { number, name, wanted: Some(code), brought: File(make) };
    vec![
        case("54", "delta on a base that is not here", codes::DELTA_BASE, |v| {
            changed(v, |thin| {
                let base = thin.delta.patches[0].base.as_mut().expect("a base");
                base.diff_id = Digest::of(b"what nobody has");
            })
        }),
        case("54", "delta made on another base than it names", codes::PATCH, |v| {
            changed(v, |thin| {
                let plain = plain(thin);
                let other = vec![7; plain.len()];
                thin.replace_patch(0, make::patch(&other, &plain, 3, &mut |_| {}).expect("a patch"));
            })
        }),
        case("54", "base of another size than it has", codes::DELTA_BASE, |v| {
            changed(v, |thin| {
                let base = thin.delta.patches[0].base.as_mut().expect("a base");
                base.size += 512;
            })
        }),
        case("+", "delta that leaves out a layer that nothing has", codes::DELTA_BASE, |v| {
            let base = bundle(v, SEQ, vec![b"no layer of any host".repeat(100)]);
            ThinBundle::new(bundle(v, NEXT, vec![b"no layer of any host".repeat(100)]), &base).bytes(v)
        }),
        case("+", "patch bomb", codes::PATCH, |v| {
            changed(v, |thin| {
                let base = base(thin, v);
                let bomb = make::patch(&base, &vec![0; 64 << 20], 3, &mut |_| {}).expect("a patch");
                thin.replace_patch(0, bomb);
            })
        }),
        case("+", "patch that gives less than it says", codes::PATCH, |v| {
            changed(v, |thin| {
                let base = base(thin, v);
                thin.replace_patch(0, make::patch(&base, &base[..1000], 3, &mut |_| {}).expect("a patch"));
            })
        }),
        case("+", "patch with a window of 128 MiB", codes::PATCH, |v| {
            changed(v, |thin| {
                let mut window = zstd::stream::write::Encoder::new(Vec::new(), 3).expect("an encoder");
                window.window_log(27).expect("a window");
                std::io::Write::write_all(&mut window, &plain(thin)).expect("memory is enough");
                thin.replace_patch(0, window.finish().expect("memory is enough"));
            })
        }),
        case("+", "patch cut off", codes::PATCH, |v| {
            changed(v, |thin| {
                let bytes = thin.patches[&thin.delta.patches[0].patch].clone();
                thin.replace_patch(0, bytes[..bytes.len() / 2].to_vec());
            })
        }),
        case("+", "patch with a second frame", codes::PATCH, |v| {
            changed(v, |thin| {
                let bytes = thin.patches[&thin.delta.patches[0].patch].clone();
                thin.replace_patch(0, [&bytes[..], &bytes[..]].concat());
            })
        }),
        case("+", "patch that gives another layer", codes::PATCH, |v| {
            changed(v, |thin| {
                let (base, mut other) = (base(thin, v), plain(thin));
                other[600] ^= 1;
                thin.replace_patch(0, make::patch(&base, &other, 3, &mut |_| {}).expect("a patch"));
            })
        }),
        case("+", "patch whose blob is another", codes::CONTENT, |v| {
            let thin = thin(v);
            let mut bytes = thin.bytes(v);
            let patch = thin.delta.patches[0].patch.hex();
            let at = super::tamper::entry(&bytes, &patch) + kedge_bundle::tar::BLOCK;
            bytes[at + 20] ^= 1;
            bytes
        }),
        case("+", "patch that is its own base", codes::DELTA, |v| {
            changed(v, |thin| {
                let patch = &mut thin.delta.patches[0];
                patch.base = Some(Prefix { diff_id: patch.diff_id, size: patch.unpacked });
            })
        }),
        case("+", "patch that claims more than memory", codes::DELTA, |v| {
            changed(v, |thin| thin.delta.patches[0].unpacked = 1 << 40)
        }),
        case("+", "patch by an unknown method", codes::DELTA, |v| {
            changed(v, |thin| thin.delta.patches[0].method = "sh".into())
        }),
        case("+", "patch for a layer that nothing lists", codes::DELTA, |v| {
            changed(v, |thin| thin.delta.patches[0].digest = Digest::of(b"x"))
        }),
        case("+", "layer left out twice", codes::DELTA, |v| {
            changed(v, |thin| thin.delta.left_out.push(thin.delta.left_out[0].clone()))
        }),
        case("+", "file of the project left out", codes::DELTA, |v| {
            changed(v, |thin| thin.delta.left_out[0].digest = thin.full.draft.content.files[0].digest)
        }),
        case("+", "delta document of another release", codes::DELTA_RELEASE, |v| {
            changed(v, |thin| thin.delta.release = Digest::of(b"another"))
        }),
        case("+", "delta document that nobody signed", codes::UNSIGNED, |v| {
            let thin = thin(v);
            thin.bytes_with(thin.envelope(&[]))
        }),
        case("+", "delta document signed by the hub's key", codes::UNSIGNED, |v| {
            let thin = thin(v);
            thin.bytes_with(thin.envelope(&[&v.fresh_key]))
        }),
        case("+", "release document as the delta document", codes::PAYLOAD_TYPE, |v| {
            let thin = thin(v);
            thin.bytes_with(thin.full.envelope.clone())
        }),
        case("+", "delta document as a release document", codes::PAYLOAD_TYPE, |v| {
            let thin = thin(v);
            let payload = serde_json::to_vec(&thin.delta).expect("JSON");
            let signed = sign::envelope(Role::Release, payload, &[&v.release_key]).expect("signed");
            thin.bytes_with(signed.encode())
        }),
        case("+", "layer that comes though it is left out", codes::BLOBS, |v| {
            let thin = thin(v);
            let full = ThinBundle {
                delta: kedge_bundle::delta::Delta { left_out: vec![], patches: vec![], ..thin.delta.clone() },
                full: next(v),
                patches: std::collections::BTreeMap::new(),
            };
            full.bytes_with(thin.envelope(&[&v.release_key]))
        }),
        case("+", "two delta documents", codes::BLOBS, |v| {
            let bytes = thin(v).bytes(v);
            let at = super::tamper::span(&bytes, super::tamper::entry(&bytes, "kedge/delta.json"));
            [&bytes[..at.end], &bytes[at.clone()], &bytes[at.end..]].concat()
        }),
    ]
}

/// The layer of the release that runs.
fn layer(vendor: &Vendor) -> Vec<u8> {
    let running = running(vendor, SEQ);
    running.blob(&running.draft.content.images[0].layers[0].digest).expect("a layer")
}

/// A release of these layers.
fn bundle(vendor: &Vendor, seq: u64, layers: Vec<Vec<u8>>) -> TestBundle {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config = json!({
        "architecture": kedge_bundle::build::host_platform().architecture, "os": "linux",
        "config": {"Cmd": ["/busybox", "sleep", "1000000"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let layers = layers.into_iter().map(plain_layer).collect();
    let image = ImageInput::new("hostile/delta:1", config.to_string().into_bytes(), layers);
    let files = vec![file("compose.yaml", b"services:\n  web:\n    image: hostile/delta:1\n")];
    vendor.bundle_with(assemble(&product(seq), files, vec![image]).expect("a layout"), |_| {})
}

/// The next release: a layer that is a little different, and the old one.
fn next(vendor: &Vendor) -> TestBundle {
    let old = layer(vendor);
    let mut new = old.clone();
    new[2000..2100].fill(7);
    bundle(vendor, NEXT, vec![new, old])
}

/// A good delta from the release that runs to the next: one layer is patched, one left out.
fn thin(vendor: &Vendor) -> ThinBundle {
    ThinBundle::new(next(vendor), &running(vendor, SEQ))
}

fn changed(vendor: &Vendor, change: impl FnOnce(&mut ThinBundle)) -> Vec<u8> {
    let mut thin = thin(vendor);
    change(&mut thin);
    thin.bytes(vendor)
}

fn plain(thin: &ThinBundle) -> Vec<u8> {
    thin.plain(&thin.delta.patches[0].diff_id).expect("a layer")
}

fn base(thin: &ThinBundle, vendor: &Vendor) -> Vec<u8> {
    let base = layer(vendor);
    assert_eq!(thin.delta.patches[0].base.map(|base| base.diff_id), Some(Digest::of(&base)));
    base
}
