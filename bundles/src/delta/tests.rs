//! Every rule of a delta has a case here that fails when the rule is taken out.

use proptest::prelude::*;

use super::*;
use crate::admission::AdmissionError;
use crate::codes::Coded as _;
use crate::reader::{self, Discard, Imported};
use crate::sign::{self, Signer};
use crate::testing::{ThinBundle, Vendor, sample};

fn thin(vendor: &Vendor) -> ThinBundle {
    ThinBundle::new(vendor.bundle(4), &vendor.bundle(3))
}

type Outcome = Result<Imported, reader::Error<std::convert::Infallible>>;

fn read(vendor: &Vendor, bytes: &[u8]) -> Outcome {
    reader::read(bytes, &vendor.trust(), &vendor.context(), &mut Discard)
}

/// What comes of a delta that is changed before it is signed.
fn changed(change: impl FnOnce(&mut ThinBundle)) -> (String, &'static str) {
    let vendor = Vendor::new("a");
    let mut thin = thin(&vendor);
    change(&mut thin);
    let error = read(&vendor, &thin.bytes(&vendor)).unwrap_err();
    (error.to_string(), error.code().id)
}

#[test]
fn a_thin_bundle_is_the_same_release_with_less_in_it() {
    let vendor = Vendor::new("a");
    let thin = thin(&vendor);
    let (bytes, full) = (thin.bytes(&vendor), thin.full.bytes());
    assert!(bytes.len() < full.len());
    let (imported, whole) = (read(&vendor, &bytes).unwrap(), read(&vendor, &full).unwrap());
    assert_eq!(imported.admitted.content, whole.admitted.content);
    assert_eq!(imported.admitted.verified.digest, whole.admitted.verified.digest);
    assert_eq!(imported.documents.release, whole.documents.release);
    assert_eq!(imported.admitted.verified.delta, Some(thin.delta.clone()));
    assert_eq!(whole.admitted.verified.delta, None);
    assert_eq!((thin.delta.left_out.len(), thin.delta.patches.len()), (1, 1));
}

/// What only a full bundle can serve does not get half of one.
#[test]
fn a_thin_bundle_is_refused_where_deltas_are_not_taken() {
    struct Plain;
    impl reader::Sink for Plain {
        type Error = std::convert::Infallible;
        fn verified(
            &mut self,
            _: &crate::verify::Verified,
            _: &crate::verify::Documents,
        ) -> Result<(), Self::Error> {
            panic!("nothing is begun")
        }
        fn wants(&mut self, _: &crate::layout::Blob) -> bool {
            true
        }
        fn begin(&mut self, _: &crate::layout::Blob) -> Result<(), Self::Error> {
            Ok(())
        }
        fn write(&mut self, _: &[u8]) -> Result<(), Self::Error> {
            Ok(())
        }
        fn finish(&mut self, _: &crate::layout::Blob) -> Result<(), Self::Error> {
            Ok(())
        }
        fn abort(&mut self, _: &crate::layout::Blob) {}
    }
    let vendor = Vendor::new("a");
    let bytes = thin(&vendor).bytes(&vendor);
    let error = reader::read(bytes.as_slice(), &vendor.trust(), &vendor.context(), &mut Plain).unwrap_err();
    assert_eq!(error.code().id, "KE-2022");
    assert!(error.to_string().contains("1.0.3 (stable 3)"), "{error}");
}

#[test]
fn a_delta_is_signed_by_the_release_role_under_its_own_type() {
    let vendor = Vendor::new("a");
    let thin = thin(&vendor);
    let code = |envelope: Vec<u8>| read(&vendor, &thin.bytes_with(envelope)).unwrap_err().code().id;
    assert_eq!(code(thin.envelope(&[])), "KE-2101");
    for other in [&vendor.fresh_key, &vendor.licence_key, &vendor.support_key, &vendor.root_keys[0]] {
        assert_eq!(code(thin.envelope(&[other as &dyn Signer])), "KE-2101");
    }
    let payload = serde_json::to_vec(&thin.delta).unwrap();
    let as_release = sign::envelope(crate::roles::Role::Release, payload, &[&vendor.release_key]).unwrap();
    assert_eq!(code(as_release.encode()), "KE-2105");
    assert_eq!(code(thin.full.envelope.clone()), "KE-2105");
    assert_eq!(code(vec![b'x'; crate::json::MAX_SIZE + 1]), "KE-2001");
}

#[test]
fn a_delta_of_another_release_is_refused() {
    let vendor = Vendor::new("a");
    let mut thin = thin(&vendor);
    thin.delta.release = vendor.bundle(5).digest();
    let error = read(&vendor, &thin.bytes(&vendor)).unwrap_err();
    assert_eq!(error.code().id, "KE-2140");
}

#[test]
fn deltas_that_contradict_themselves_are_refused_with_their_reason() {
    type Case = (&'static str, fn(&mut ThinBundle), &'static str);
    let cases: [Case; 19] = [
        ("newer format", |t| t.delta.format = 2, "format 2"),
        ("nothing", |t| (t.delta.left_out, t.delta.patches) = (vec![], vec![]), "nothing is left out"),
        ("layer twice", |t| t.delta.left_out.push(t.delta.left_out[0].clone()), "there twice"),
        ("patch twice", |t| t.delta.patches.push(t.delta.patches[0].clone()), "there twice"),
        (
            "out of order",
            |t| {
                let mut more = t.delta.left_out[0].clone();
                more.digest = crate::digest::Digest::from_bytes([0; 32]);
                t.delta.left_out.push(more);
            },
            "not in order",
        ),
        (
            "left out and patched",
            |t| {
                let Patch { digest, diff_id, unpacked, .. } = t.delta.patches[0].clone();
                t.delta.left_out = vec![LeftOut { digest, diff_id, unpacked }];
            },
            "left out as well",
        ),
        ("method", |t| t.delta.patches[0].method = "bsdiff".into(), "method is unknown"),
        ("gives nothing", |t| t.delta.patches[0].unpacked = 0, "gives nothing"),
        ("gives too much", |t| t.delta.patches[0].unpacked = MAX_LAYER + 1, "more than a patch may"),
        ("empty patch", |t| t.delta.patches[0].patch_size = 0, "empty"),
        (
            "patch larger than the layer",
            |t| t.delta.patches[0].patch_size = 1 << 30,
            "larger than what it gives",
        ),
        (
            "large base",
            |t| t.delta.patches[0].base = Some(Prefix { diff_id: Digest::of(b"x"), size: MAX_LAYER + 1 }),
            "larger than a base",
        ),
        (
            "empty base",
            |t| t.delta.patches[0].base = Some(Prefix { diff_id: Digest::of(b"x"), size: 0 }),
            "base is empty",
        ),
        (
            "itself as base",
            |t| {
                let patch = &mut t.delta.patches[0];
                patch.base = Some(Prefix { diff_id: patch.diff_id, size: 10 });
            },
            "its own base",
        ),
        (
            "another patch's result as base",
            |t| {
                let mut second = t.delta.patches[0].clone();
                second.digest = Digest::from_bytes([255; 32]);
                second.base = Some(Prefix { diff_id: second.diff_id, size: 10 });
                (second.diff_id, second.patch) = (Digest::of(b"y"), Digest::of(b"z"));
                t.delta.patches.push(second);
            },
            "what another patch gives",
        ),
        (
            "one blob for two layers",
            |t| {
                let mut second = t.delta.patches[0].clone();
                (second.digest, second.diff_id) = (Digest::from_bytes([255; 32]), Digest::of(b"y"));
                t.delta.patches.push(second);
            },
            "another one's as well",
        ),
        (
            "patch of a patch",
            |t| {
                let mut second = t.delta.patches[0].clone();
                let last = Digest::from_bytes([255; 32]);
                (second.digest, second.diff_id, second.patch) = (last, Digest::of(b"y"), Digest::of(b"z"));
                t.delta.patches[0].patch = last;
                t.delta.patches.push(second);
            },
            "is a patch of another",
        ),
        ("too many bases", |t| t.delta.bases = vec![t.delta.bases[0].clone(); MAX_BASES + 1], "more than 16"),
        ("text without end", |t| t.delta.bases[0].version = "v".repeat(65), "version"),
    ];
    for (name, change, reason) in cases {
        let (said, code) = changed(change);
        assert!(said.contains(reason), "{name}: {said}");
        assert!(code == "KE-2021" || name == "newer format", "{name}: {code}");
    }
}

#[test]
fn deltas_that_contradict_the_release_are_refused_with_their_reason() {
    type Case = (&'static str, fn(&mut ThinBundle), &'static str, &'static str);
    let cases: [Case; 9] = [
        (
            "left-out layer that nothing lists",
            |t| {
                t.delta.left_out[0].digest = Digest::from_bytes([255; 32]);
            },
            "has no layer",
            "KE-2021",
        ),
        (
            "patch for a layer that nothing lists",
            |t| t.delta.patches[0].digest = Digest::of(b"x"),
            "has no layer",
            "KE-2021",
        ),
        (
            "file left out",
            |t| {
                let file = &t.full.draft.content.files[0];
                t.delta.left_out[0].digest = file.digest;
            },
            "has no layer",
            "KE-2021",
        ),
        (
            "other diff_id of a left-out layer",
            |t| t.delta.left_out[0].diff_id = Digest::of(b"x"),
            "its diff_id is",
            "KE-2021",
        ),
        (
            "other diff_id of a patch",
            |t| t.delta.patches[0].diff_id = Digest::of(b"x"),
            "its diff_id is",
            "KE-2021",
        ),
        ("size of a plain layer", |t| t.delta.left_out[0].unpacked -= 1, "bytes, not", "KE-2021"),
        ("more unpacked than signed", |t| t.delta.left_out[0].unpacked = 1 << 40, "more than the", "KE-2021"),
        (
            "patch that is a file of the release",
            |t| {
                let file = &t.full.draft.content.files[0];
                (t.delta.patches[0].patch, t.delta.patches[0].patch_size) = (file.digest, file.size);
            },
            "is a blob of the release",
            "KE-2021",
        ),
        (
            "patch of other bytes",
            |t| {
                let size = t.delta.patches[0].patch_size;
                t.delta.patches[0].patch = Digest::of(b"x");
                t.patches.insert(Digest::of(b"x"), vec![0; size as usize]);
            },
            "not listed by any signed document",
            "KE-2007",
        ),
    ];
    for (name, change, reason, wanted) in cases {
        let (said, code) = changed(change);
        assert!(said.contains(reason), "{name}: {said}");
        assert_eq!(code, wanted, "{name}: {said}");
    }
}

#[test]
fn a_layer_that_is_left_out_must_not_come() {
    let vendor = Vendor::new("a");
    let thin = thin(&vendor);
    let delta = thin.envelope(&[&vendor.release_key]);
    // The full archive with the delta document put in: every layer comes.
    let mut bytes = Vec::new();
    let documents = crate::verify::Documents { delta: Some(delta), ..thin.full.documents() };
    crate::assemble::write_documents(&mut bytes, &documents).unwrap();
    crate::assemble::write_blobs(&mut bytes, &thin.full.draft.blobs, &mut |_| {}).unwrap();
    let error = read(&vendor, &bytes).unwrap_err();
    assert_eq!(error.code().id, "KE-2007");
    assert!(error.to_string().contains("though the delta document leaves it out"), "{error}");
}

#[test]
fn only_a_layer_can_be_left_out_over_the_tether_too() {
    let vendor = Vendor::new("a");
    let thin = thin(&vendor);
    let documents = crate::verify::Documents {
        delta: Some(thin.envelope(&[&vendor.release_key])),
        ..thin.full.documents()
    };
    let admission =
        crate::admission::Admission::open(&documents, &vendor.trust(), &vendor.context()).unwrap();
    assert!(matches!(admission.finish(), Err(AdmissionError::Layout(crate::layout::Fault::Missing(_)))));
}

/// Bytes that compress badly and are alike where the seeds are.
fn noise(seed: u32, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 24) as u8
    };
    (0..size).map(|_| next()).collect()
}

fn patch_of(base: &[u8], plain: &[u8]) -> (Patch, Vec<u8>) {
    let bytes = make::patch(base, plain, 3, &mut |_| {}).unwrap();
    let patch = Patch {
        digest: Digest::of(b"stored"),
        diff_id: Digest::of(plain),
        unpacked: plain.len() as u64,
        base: (!base.is_empty()).then(|| Prefix { diff_id: Digest::of(base), size: base.len() as u64 }),
        patch: Digest::of(&bytes),
        patch_size: bytes.len() as u64,
        method: METHOD.into(),
    };
    (patch, bytes)
}

fn based(patch: &Patch, base: &[u8]) -> Result<Base, ApplyError> {
    patch.base.map_or_else(|| Ok(Base::none()), |prefix| Base::read(base, prefix))
}

#[test]
fn a_patch_on_its_base_gives_the_layer_and_is_small() {
    let base = noise(1, 3 << 20);
    let mut plain = base.clone();
    plain.splice(1000..1010, noise(2, 500));
    plain.truncate(2 << 20);
    for (base, most) in [(base.as_slice(), 2_000), (&[], 3 << 20)] {
        let (patch, bytes) = patch_of(base, &plain);
        assert!(bytes.len() < most, "{}", bytes.len());
        let mut out = Vec::new();
        apply(&based(&patch, base).unwrap(), &patch, bytes.as_slice(), &mut out).unwrap();
        assert_eq!(out, plain);
    }
}

#[test]
fn a_wrong_base_is_recognised_before_anything_is_made_of_it() {
    let (base, plain) = (noise(1, 10_000), noise(3, 10_000));
    let (patch, bytes) = patch_of(&base, &plain);
    let prefix = patch.base.unwrap();
    for wrong in [noise(2, 10_000), base[..9_999].to_vec(), noise(1, 10_001), Vec::new()] {
        let error = Base::read(wrong.as_slice(), prefix).unwrap_err();
        assert_eq!(error.code().id, "KE-2022", "{error}");
    }
    // One without end is read no further than is needed to see that.
    assert!(Base::read(std::io::repeat(7), prefix).is_err());
    assert!(Base::read(std::io::repeat(7), Prefix { size: MAX_LAYER + 1, ..prefix }).is_err());
    let mut out = Vec::new();
    let error = apply(&Base::none(), &patch, bytes.as_slice(), &mut out).unwrap_err();
    assert!(matches!(error, ApplyError::WrongBase { .. }) && out.is_empty(), "{error}");
}

#[test]
fn patches_that_are_bombs_damaged_or_lie_are_refused_with_their_reason() {
    let base = noise(1, 100_000);
    let mut plain = base.clone();
    plain.extend(noise(2, 20_000));
    let (good, bytes) = patch_of(&base, &plain);
    let base = based(&good, &base).unwrap();
    let attempt = |patch: &Patch, bytes: &[u8]| {
        let mut out = Vec::new();
        let result = apply(&base, patch, bytes, &mut out);
        assert!(out.len() as u64 <= patch.unpacked, "no more is written than was said");
        result.map_err(|error| error.to_string())
    };
    attempt(&good, &bytes).unwrap();
    let with = |bytes: &[u8]| Patch { patch_size: bytes.len() as u64, ..good.clone() };

    let bomb = Patch { unpacked: good.unpacked - 1, ..good.clone() };
    assert!(attempt(&bomb, &bytes).unwrap_err().contains("more than"), "bomb");
    let short = Patch { unpacked: good.unpacked + 1, ..good.clone() };
    assert!(attempt(&short, &bytes).unwrap_err().contains("fewer than"), "short");
    let other = Patch { diff_id: Digest::of(b"x"), ..good.clone() };
    assert!(attempt(&other, &bytes).unwrap_err().contains("gives sha256:"), "other content");
    let above = Patch { unpacked: MAX_LAYER + 1, ..good.clone() };
    assert!(attempt(&above, &bytes).unwrap_err().contains("more than a patch may"), "above the cap");

    let cut = &bytes[..bytes.len() / 2];
    assert!(attempt(&with(cut), cut).is_err(), "cut off");
    let twice = [&bytes[..], &bytes[..]].concat();
    assert!(attempt(&with(&twice), &twice).unwrap_err().contains("follows its frame"), "two frames");
    let mut trailing = bytes.clone();
    trailing.push(0);
    assert!(attempt(&with(&trailing), &trailing).unwrap_err().contains("follows its frame"), "trailing");
    assert!(attempt(&with(b"not zstd at all"), b"not zstd at all").is_err(), "not zstd");

    let mut window = zstd::stream::write::Encoder::with_ref_prefix(Vec::new(), 3, base.bytes()).unwrap();
    window.window_log(27).unwrap();
    std::io::Write::write_all(&mut window, &plain).unwrap();
    let window = window.finish().unwrap();
    assert!(attempt(&with(&window), &window).unwrap_err().contains("memory"), "oversized window");
}

#[test]
fn the_layer_with_most_in_common_is_recognised_by_its_names() {
    let tar = |names: &[(&str, usize)]| {
        let mut out = Vec::new();
        for (name, size) in names {
            out.extend_from_slice(&crate::tar::header(name, *size as u64));
            out.resize(out.len() + size.next_multiple_of(512), 7);
        }
        out.resize(out.len() + 1024, 0);
        make::Sketch::of(&out)
    };
    let new = tar(&[("numpy-2.2.6/a.so", 5000), ("numpy-2.2.6/b.py", 100)]);
    assert_eq!(new.shared(&tar(&[("numpy-2.2.5/a.so", 4000), ("other", 9000)])), 4000);
    assert_eq!(new.shared(&tar(&[("django/a.py", 9000)])), 0);
    assert_eq!(new.shared(&make::Sketch::of(b"no tar")), 0);
    let _ = make::Sketch::of(&noise(1, 5000));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_single_changed_byte_of_a_thin_bundle_is_refused(at in 0.0..1.0_f64, flip in 1..=255_u8) {
        let vendor = Vendor::new("a");
        let mut bytes = thin(&vendor).bytes(&vendor);
        let at = (at * bytes.len() as f64) as usize;
        bytes[at] ^= flip;
        // Unsigned bytes of an envelope (a signature that counts for nothing) could be changed; there are none here.
        prop_assert!(read(&vendor, &bytes).is_err());
    }

    #[test]
    fn whatever_a_patch_is_applying_it_ends(bytes in prop::collection::vec(any::<u8>(), 0..400), changes in prop::collection::vec((any::<usize>(), any::<u8>()), 0..6)) {
        let (base, plain) = (noise(1, 5_000), noise(4, 6_000));
        let (mut patch, mut good) = patch_of(&base, &plain);
        for (at, value) in &changes {
            let at = at % good.len();
            good[at] = *value;
        }
        let base = based(&patch, &base).unwrap();
        for source in [good, bytes] {
            patch.patch_size = source.len() as u64;
            let mut out = Vec::new();
            let done = apply(&base, &patch, source.as_slice(), &mut out);
            prop_assert!(out.len() as u64 <= patch.unpacked);
            prop_assert!(done.is_err() || out == plain);
        }
    }
}

#[test]
fn releases_without_anything_in_common_make_a_delta_that_only_packs() {
    let vendor = Vendor::new("a");
    let full = vendor.bundle_with(sample(9), |_| {});
    let mut base = vendor.bundle(3);
    base.draft.content.images.clear();
    let thin = ThinBundle::new(full, &base);
    assert!(thin.delta.patches.iter().all(|patch| patch.base.is_none()) && thin.delta.needs().is_empty());
    read(&vendor, &thin.bytes(&vendor)).unwrap();
}
