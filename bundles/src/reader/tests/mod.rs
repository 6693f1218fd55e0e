//! Hostile archives: each is refused with its own reason, and nothing that was not verified is left in the sink.

use std::collections::BTreeMap;
use std::io::Cursor;

use proptest::prelude::*;

use super::*;
use crate::digest::Digest;
use crate::layout::Kind;
use crate::testing::{Vendor, sample};

mod archives;
mod layouts;

/// Keeps finished blobs; has some already.
#[derive(Debug, Default)]
struct Memory {
    have: Vec<Digest>,
    verified: bool,
    /// What it was told the bundle holds.
    listed: Option<Content>,
    kinds: Vec<Kind>,
    current: Option<Vec<u8>>,
    finished: BTreeMap<Digest, Vec<u8>>,
    aborted: usize,
}

impl Sink for Memory {
    type Error = std::convert::Infallible;

    fn verified(&mut self, _: &Verified, _: &Documents) -> Result<(), Self::Error> {
        self.verified = true;
        (self.listed, self.kinds) = (None, Vec::new());
        Ok(())
    }

    fn listed(&mut self, _: &Verified, content: &Content) -> Result<(), Self::Error> {
        assert!(self.listed.replace(content.clone()).is_none(), "it was told before");
        assert!(!self.kinds.contains(&Kind::Layer), "a layer came before");
        Ok(())
    }

    fn wants(&mut self, blob: &Blob) -> bool {
        !self.have.contains(&blob.digest)
    }

    fn begin(&mut self, blob: &Blob) -> Result<(), Self::Error> {
        assert!(self.verified && self.current.is_none());
        assert_eq!(self.listed.is_some(), blob.kind == Kind::Layer, "{blob:?}");
        self.kinds.push(blob.kind);
        self.current = Some(Vec::new());
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Self::Error> {
        self.current.as_mut().unwrap().extend_from_slice(bytes);
        Ok(())
    }

    fn finish(&mut self, blob: &Blob) -> Result<(), Self::Error> {
        self.finished.insert(blob.digest, self.current.take().unwrap());
        Ok(())
    }

    fn abort(&mut self, _: &Blob) {
        self.current = None;
        self.aborted += 1;
    }
}

type Outcome = Result<Imported, Error<std::convert::Infallible>>;

/// Reads, and checks that whatever the sink holds in the end is what its name says.
fn read_into(bytes: &[u8], vendor: &Vendor, sink: &mut Memory) -> Outcome {
    let outcome = read(Cursor::new(bytes), &vendor.trust(), &vendor.context(), sink);
    for (digest, content) in &sink.finished {
        assert_eq!(Digest::of(content), *digest);
    }
    assert!(sink.current.is_none(), "a blob was neither finished nor aborted");
    outcome
}

fn attempt(bytes: &[u8], vendor: &Vendor) -> Outcome {
    read_into(bytes, vendor, &mut Memory::default())
}

/// Offset of the header of the entry whose name ends so.
fn entry(bytes: &[u8], name: &str) -> usize {
    let mut at = 0;
    loop {
        let block: [u8; BLOCK] = bytes[at..at + BLOCK].try_into().unwrap();
        let found = tar::parse(&block).unwrap().unwrap();
        if found.name.ends_with(name) {
            return at;
        }
        at += BLOCK + found.size as usize + tar::padding(found.size);
    }
}

/// The whole entry at an offset, padding included.
fn span(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let block: [u8; BLOCK] = bytes[at..at + BLOCK].try_into().unwrap();
    let size = tar::parse(&block).unwrap().unwrap().size;
    at..at + BLOCK + size as usize + tar::padding(size)
}

#[test]
fn a_bundle_is_read_whole_and_says_what_is_in_it() {
    let vendor = Vendor::new("a");
    let bundle = vendor.bundle(3);
    let mut sink = Memory::default();
    let imported = read_into(&bundle.bytes(), &vendor, &mut sink).unwrap();
    let content = imported.admitted.content;
    assert_eq!(content, bundle.draft.content);
    assert_eq!(sink.listed.as_ref(), Some(&content), "known before the first layer");
    assert_eq!(imported.documents, bundle.documents());
    assert_eq!(
        content.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(),
        ["compose.yaml", "conf/app.conf"]
    );
    assert_eq!(content.images[0].reference, "example/hello:1");
    assert_eq!(content.images[0].layers.len(), 2);
    assert_eq!(sink.finished.len(), bundle.draft.blobs.len());
    assert_eq!(sink.aborted, 0);
}

#[test]
fn the_same_input_makes_the_same_bytes() {
    assert_eq!(Vendor::new("a").bundle(3).bytes(), Vendor::new("a").bundle(3).bytes());
    assert_ne!(Vendor::new("a").bundle(3).bytes(), Vendor::new("a").bundle(4).bytes());
}

#[test]
fn content_that_the_sink_has_is_compared_and_not_stored_again() {
    let vendor = Vendor::new("a");
    let bundle = vendor.bundle(3);
    let layer = bundle.draft.content.images[0].layers[0].digest;
    let mut sink = Memory { have: vec![layer], ..Memory::default() };
    let mut bytes = bundle.bytes();
    read_into(&bytes, &vendor, &mut sink).unwrap();
    assert!(!sink.finished.contains_key(&layer));
    assert_eq!(sink.finished.len(), bundle.draft.blobs.len() - 1);
    let at = entry(&bytes, &layer.hex()) + BLOCK;
    bytes[at] ^= 1;
    let error = read_into(&bytes, &vendor, &mut sink).unwrap_err();
    assert!(matches!(error, Error::Admission(AdmissionError::BlobDigest { .. })), "{error}");
}

/// 500 places of a real bundle: a byte removed, a bit flipped, a byte changed places with the next different one.
#[test]
fn removing_changing_or_reordering_any_byte_is_refused_with_a_reason() {
    let vendor = Vendor::new("a");
    let good = vendor.bundle(3).bytes();
    attempt(&good, &vendor).unwrap();
    let mut state = 0x5eed_u64;
    for round in 0..500 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (state >> 33) as usize % good.len();
        let mut removed = good.clone();
        removed.remove(at);
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (round % 8);
        let mut swapped = good.clone();
        if let Some(other) = (at + 1..good.len()).find(|other| good[*other] != good[at]) {
            swapped.swap(at, other);
        } else {
            swapped[at] = b'x';
        }
        for (what, bytes) in [("removed", removed), ("flipped", flipped), ("swapped", swapped)] {
            let mut sink = Memory::default();
            match read_into(&bytes, &vendor, &mut sink) {
                Ok(_) => panic!("byte {at} {what}: accepted"),
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    assert!([10, 11].contains(&error.code().exit), "byte {at} {what}: {error}");
                }
            }
        }
    }
}

#[test]
fn blobs_that_are_not_what_their_name_says_are_refused_and_aborted() {
    let vendor = Vendor::new("a");
    let bundle = vendor.bundle(3);
    for index in 0..bundle.draft.blobs.len() {
        let digest = bundle.draft.blobs[index].0.digest;
        let mut bytes = bundle.bytes();
        let at = entry(&bytes, &digest.hex());
        bytes[at + BLOCK] ^= 1;
        let mut sink = Memory::default();
        let error = read_into(&bytes, &vendor, &mut sink).unwrap_err();
        assert!(matches!(error, Error::Admission(AdmissionError::BlobDigest { .. })), "{error}");
        assert_eq!((error.code().exit, sink.aborted, sink.finished.len()), (11, 1, index));
    }
}

#[test]
fn the_tether_admits_blob_by_blob_what_the_reader_admits_from_a_file() {
    let vendor = Vendor::new("a");
    let bundle = vendor.bundle(3);
    let from_file = attempt(&bundle.bytes(), &vendor).unwrap().admitted;
    let mut admission = Admission::open(&bundle.documents(), &vendor.trust(), &vendor.context()).unwrap();
    while let Some(blob) = admission.next_needed().cloned() {
        let bytes = bundle.blob(&blob.digest).unwrap();
        assert!(admission.accept_bytes(&Digest::of(b"x"), &bytes).is_err(), "out of order");
        let short = admission.accept_bytes(&blob.digest, &bytes[1..]).unwrap_err();
        assert!(matches!(short, AdmissionError::BlobSize { .. }), "too short: {short}");
        // Said at the byte too many, before anything is stored of it.
        let mut intake = admission.begin().unwrap().unwrap();
        intake.write(&bytes).unwrap();
        assert!(matches!(intake.write(b"x"), Err(AdmissionError::BlobSize { .. })), "too long");
        if blob.kind == Kind::Layer {
            admission.accept_present(&blob.digest).unwrap();
        } else {
            assert!(!blob.kind.is_metadata() || admission.accept_present(&blob.digest).is_err());
            admission.accept_bytes(&blob.digest, &bytes).unwrap();
        }
    }
    assert_eq!(admission.finish().unwrap(), from_file);
    let early = Admission::open(&bundle.documents(), &vendor.trust(), &vendor.context()).unwrap();
    assert!(early.finish().unwrap_err().to_string().contains("blobs are missing"));
}

#[test]
fn an_untrusted_bundle_leaves_nothing_in_the_sink() {
    let bytes = Vendor::new("b").bundle(3).bytes();
    let mut sink = Memory::default();
    read_into(&bytes, &Vendor::new("a"), &mut sink).unwrap_err();
    assert!(!sink.verified && sink.finished.is_empty());
}

#[test]
fn a_source_that_fails_is_reported_as_that() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("medium removed"))
        }
    }
    let vendor = Vendor::new("a");
    let good = vendor.bundle(3).bytes();
    let source = Cursor::new(&good[..2000]).chain(Broken);
    let error = read(source, &vendor.trust(), &vendor.context(), &mut Discard).unwrap_err();
    assert!(matches!(&error, Error::Read { offset: 2000, .. }), "{error}");
    assert!(error.code().retry);
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        prop_assert!(attempt(&bytes, &Vendor::new("a")).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn mutated_bundles_never_panic_and_never_pass(
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), 0_usize..2000, any::<Option<u8>>()), 1..4),
    ) {
        let vendor = Vendor::new("a");
        let good = vendor.bundle_with(sample(3), |_| {}).bytes();
        let mut bytes = good.clone();
        for (at, length, fill) in cuts {
            let at = at.index(bytes.len());
            let end = (at + length).min(bytes.len());
            match fill {
                Some(byte) => bytes[at..end].fill(byte),
                None => drop(bytes.drain(at..end)),
            }
            if bytes.is_empty() {
                break;
            }
        }
        prop_assert_eq!(attempt(&bytes, &vendor).is_ok(), bytes == good);
    }
}
