//! OCI indexes, manifests and configurations: never a panic, an end, and never more blobs than were listed for.
//!
//! The input is text: the index, then, after a line `#` each, the blobs in the order in which they are asked for.

#![no_main]

use kedge_bundle::digest::Digest;
use kedge_bundle::layout::{Expected, docker_manifest, limits};
use libfuzzer_sys::fuzz_target;

const SIGNED: u64 = 1 << 40;

fuzz_target!(|input: &str| {
    let mut parts = input.split("\n#\n");
    let index = parts.next().unwrap_or_default();
    // Digests cannot be guessed: what stands in for one is filled in, the parts being named by their number.
    let parts: Vec<String> = parts.map(ToOwned::to_owned).collect();
    let named = |text: &str| {
        let named = parts.iter().enumerate().fold(text.to_owned(), |text, (number, part)| {
            text.replace(&format!("@{number}"), &Digest::of(part.as_bytes()).to_string())
        });
        named.replace("@x", &Digest::of(b"x").to_string())
    };
    let Ok(mut expected) = Expected::new(named(index).as_bytes(), SIGNED) else { return };
    let mut taken = 0;
    while let Some(blob) = expected.next() {
        assert!(expected.listed(&blob.digest).is_some());
        let number = parts.iter().position(|part| Digest::of(part.as_bytes()) == blob.digest);
        let bytes = number.map_or_else(String::new, |number| named(&parts[number]));
        if expected.take(bytes.as_bytes()).is_err() {
            return;
        }
        assert!(expected.listed_bytes() <= SIGNED);
        taken += 1;
        assert!(taken <= limits::IMAGES * (limits::LAYERS + 2) + limits::FILES + 2);
    }
    if let Err(fault) = expected.finish(&docker_manifest(&[])) {
        assert!(fault.to_string().len() < 8192);
    }
});
