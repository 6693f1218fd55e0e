//! Delta documents and patches: never a panic, never more bytes than were said, and never another layer.
//!
//! The input is, by its first byte: `~` and changes to a good patch, as the target `archive` takes them; `{` and the rest
//! of a delta document; anything else, a patch.

#![no_main]

use std::sync::OnceLock;

use kedge_bundle::delta::{Base, Delta, METHOD, Patch, Prefix, apply, make};
use kedge_bundle::digest::Digest;
use libfuzzer_sys::fuzz_target;

struct Good {
    base: Base,
    plain: Vec<u8>,
    patch: Patch,
    bytes: Vec<u8>,
}

fn good() -> &'static Good {
    static GOOD: OnceLock<Good> = OnceLock::new();
    GOOD.get_or_init(|| {
        let noise = |seed: u8| (0..150_u8).flat_map(move |n| *Digest::of(&[seed, n]).as_bytes());
        let base: Vec<u8> = noise(1).collect();
        let plain: Vec<u8> = noise(2).take(700).chain(noise(1).skip(300)).chain([0; 900]).collect();
        let bytes = make::patch(&base, &plain, 9, &mut |_| {}).expect("memory is enough");
        let prefix = Prefix { diff_id: Digest::of(&base), size: base.len() as u64 };
        let patch = Patch {
            digest: Digest::of(b"stored"),
            diff_id: Digest::of(&plain),
            unpacked: plain.len() as u64,
            base: Some(prefix),
            patch: Digest::of(&bytes),
            patch_size: bytes.len() as u64,
            method: METHOD.into(),
        };
        Good { base: Base::read(base.as_slice(), prefix).expect("the base"), plain, patch, bytes }
    })
}

fuzz_target!(|input: &[u8]| {
    let good = good();
    if input.first() == Some(&b'{') {
        if let Ok(delta) = kedge_bundle::json::strict::<Delta>(input)
            && delta.check().is_ok()
        {
            assert!(!delta.left_out.is_empty() || !delta.patches.is_empty());
            for patch in &delta.patches {
                assert!(delta.patch(&patch.patch).is_some());
                // However large it says that it is: what is not there takes no memory.
                let none = Base::none();
                assert!(apply(&none, patch, &b""[..], &mut std::io::sink()).is_err());
            }
            assert!(delta.needs().len() <= delta.left_out.len() + delta.patches.len());
        }
        return;
    }
    let bytes = input.strip_prefix(b"~").map_or_else(|| input.to_vec(), |changes| changed(&good.bytes, changes));
    let patch = Patch { patch_size: bytes.len() as u64, ..good.patch.clone() };
    let mut out = Vec::new();
    let done = apply(&good.base, &patch, bytes.as_slice(), &mut out);
    assert!(out.len() as u64 <= patch.unpacked, "more than was said");
    assert!(done.is_err() || out == good.plain, "another layer");
});

fn changed(good: &[u8], mut changes: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    while let [high, low, taken, put, rest @ ..] = changes {
        let at = (usize::from(*high) << 8 | usize::from(*low)).min(bytes.len());
        let end = (at + usize::from(*taken)).min(bytes.len());
        let (put, rest) = rest.split_at(usize::from(*put).min(rest.len()));
        bytes.splice(at..end, put.iter().copied());
        changes = rest;
    }
    bytes
}
