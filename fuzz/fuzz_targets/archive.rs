//! The archive reader: never a panic, and nothing is taken but what was signed, byte for byte.
//!
//! The input is either an archive, or, beginning with `~`, changes to a good bundle: two bytes say where, one how many bytes
//! are taken away there, one how many of those that follow are put in their place.

#![no_main]

use std::sync::OnceLock;

use kedge_bundle::reader::{self, Discard};
use kedge_bundle::tar;
use kedge_bundle::testing::Vendor;
use libfuzzer_sys::fuzz_target;

fn good() -> &'static (Vendor, Vec<u8>) {
    static GOOD: OnceLock<(Vendor, Vec<u8>)> = OnceLock::new();
    GOOD.get_or_init(|| {
        let vendor = Vendor::new("a");
        let bytes = vendor.bundle(3).bytes();
        (vendor, bytes)
    })
}

fuzz_target!(|input: &[u8]| {
    let (vendor, good) = good();
    let archive = input.strip_prefix(b"~").map_or_else(|| input.to_vec(), |changes| changed(good, changes));
    let read = reader::read(archive.as_slice(), &vendor.trust(), &vendor.context(), &mut Discard);
    assert_eq!(read.is_ok(), archive == *good, "only the bundle itself is taken");
    if let Some(block) = input.first_chunk::<{ tar::BLOCK }>()
        && let Ok(Some(entry)) = tar::parse(block)
    {
        assert_eq!(tar::header(&entry.name, entry.size), *block, "a header has one spelling");
    }
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
