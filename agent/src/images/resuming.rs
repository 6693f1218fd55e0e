//! Whatever a killed agent or a lost line has left of a fetch, what is taken in the end is what was signed, and nothing of what
//! was left lies about.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;
use futures_util::stream;
use kedge_bundle::layout::Kind;
use kedge_bundle::testing::{TestBundle, Vendor};
use kedge_proto::tether::v1::Documents;
use proptest::prelude::*;

use super::Content;
use super::delta::Bases;
use super::intake::{OnBytes, Room, from_courier};
use crate::codes;
use crate::host::{ByteStream, Courier};
use crate::problem::Problem;

static VENDOR: LazyLock<Vendor> = LazyLock::new(|| Vendor::new("resuming"));
static BUNDLE: LazyLock<TestBundle> = LazyLock::new(|| VENDOR.bundle(1));

/// What lies where a blob belongs.
#[derive(Debug, Clone)]
enum Left {
    Nothing,
    /// So much of it in the making, in 256ths; a byte changed; bytes behind it.
    Partial(u8, Option<(u16, u8)>, u8),
    /// All of it under its name; a byte changed, or cut off.
    Stored(Option<(u16, u8)>, bool),
}

/// What becomes of one request for a blob.
#[derive(Debug, Clone, Copy)]
enum Line {
    Good,
    /// Lost after so many bytes.
    Cut(u16),
    /// This byte is another one.
    Lies(u16),
}

fn left() -> impl Strategy<Value = Left> {
    let flip = || proptest::option::weighted(0.3, (any::<u16>(), 1_u8..));
    prop_oneof![
        Just(Left::Nothing),
        (any::<u8>(), flip(), prop_oneof![3 => Just(0), 1 => any::<u8>()])
            .prop_map(|(share, flip, more)| Left::Partial(share, flip, more)),
        (flip(), any::<bool>()).prop_map(|(flip, cut)| Left::Stored(flip, cut)),
    ]
}

fn line() -> impl Strategy<Value = Line> {
    prop_oneof![
        Just(Line::Good),
        any::<u16>().prop_map(|at| Line::Cut(at % 4096)),
        any::<u16>().prop_map(Line::Lies),
    ]
}

/// The documents of a bundle as a hub sends them.
pub(crate) fn as_sent(bundle: &TestBundle) -> Documents {
    let documents = bundle.documents();
    Documents {
        oci_layout: documents.oci_layout,
        index: documents.index,
        manifest_json: documents.manifest,
        deltas: Vec::new(),
        roots: documents.roots,
        release: documents.release,
    }
}

/// A hub whose line is what it is; good once it has been everything.
struct Hub {
    lines: Mutex<VecDeque<Line>>,
    piece: usize,
    lied: Mutex<bool>,
}

#[tonic::async_trait]
impl Courier for Hub {
    async fn documents(&self, _: &str) -> Result<Documents, Problem> {
        Ok(as_sent(&BUNDLE))
    }

    async fn blob(&self, _: &str, digest: &str, offset: u64) -> Result<ByteStream, Problem> {
        let bytes = BUNDLE.blob(&digest.parse().unwrap()).unwrap();
        let mut rest = bytes[usize::try_from(offset).unwrap()..].to_vec();
        let mut lost = None;
        match self.lines.lock().unwrap().pop_front().unwrap_or(Line::Good) {
            Line::Cut(at) => {
                rest.truncate(at.into());
                lost = Some(Err(Problem::new(&codes::TETHER_LOST, "lost")));
            }
            Line::Lies(at) if !rest.is_empty() => {
                let at = usize::from(at) % rest.len();
                rest[at] ^= 0x80;
                *self.lied.lock().unwrap() = true;
            }
            Line::Lies(_) | Line::Good => {}
        }
        let pieces: Vec<_> = rest.chunks(self.piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Ok(Box::pin(stream::iter(pieces.into_iter().chain(lost))))
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

fn flipped(mut bytes: Vec<u8>, flip: Option<(u16, u8)>) -> Vec<u8> {
    if let (Some((at, mask)), false) = (flip, bytes.is_empty()) {
        let at = usize::from(at) % bytes.len();
        bytes[at] ^= mask;
    }
    bytes
}

/// Puts there what was left. A layer under its name is compared when it is given to the engine, so here only with its size.
fn leave(root: &Path, left: &[Left]) {
    for ((blob, _), left) in BUNDLE.draft.blobs.iter().zip(left.iter().cycle()) {
        let truth = BUNDLE.blob(&blob.digest).unwrap();
        match left {
            Left::Nothing => {}
            Left::Partial(share, flip, more) => {
                let mut bytes = flipped(truth[..truth.len() * usize::from(*share) / 256].to_vec(), *flip);
                bytes.extend(std::iter::repeat_n(7, (*more).into()));
                std::fs::write(root.join("partial").join(blob.digest.hex()), bytes).unwrap();
            }
            Left::Stored(flip, cut) => {
                let mut bytes = flipped(truth, flip.filter(|_| blob.kind != Kind::Layer));
                bytes.truncate(bytes.len() - usize::from(*cut && !bytes.is_empty()));
                std::fs::write(root.join("blobs").join(blob.digest.hex()), bytes).unwrap();
            }
        }
    }
}

/// fsync costs nothing in memory, and there are many cases.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_was_left_the_end_is_what_was_signed(
        left in proptest::collection::vec(left(), 1..10),
        lines in proptest::collection::vec(line(), 0..6),
        piece in 1..2000_usize,
    ) {
        let folder = folder();
        let content = Content::open(folder.path().to_owned()).unwrap();
        leave(folder.path(), &left);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let most = BUNDLE.draft.blobs.len() + lines.len() + 1;
        let hub = Hub { lines: Mutex::new(lines.into()), piece, lied: Mutex::default() };
        let bases = Bases { engine: None, content: content.clone() };
        let on_bytes: OnBytes = Arc::new(|_, _| {});
        let (trust, context, digest) = (VENDOR.trust(), VENDOR.context(), BUNDLE.digest());
        let mut tries = 0;
        loop {
            tries += 1;
            prop_assert!(tries <= most, "it does not come to an end");
            *hub.lied.lock().unwrap() = false;
            let taken = runtime.block_on(from_courier(&hub, &digest, &bases, &trust, &context, &Enough, &on_bytes));
            match taken {
                Ok(taken) => {
                    prop_assert_eq!(taken.admitted.verified.digest, digest);
                    break;
                }
                // The release is refused for nothing but a lie.
                Err(problem) if problem.code.retry => {}
                Err(problem) => prop_assert!(*hub.lied.lock().unwrap(), "{}", problem),
            }
        }
        for (blob, _) in &BUNDLE.draft.blobs {
            prop_assert_eq!(content.read_blob(&blob.digest, blob.size).ok(), BUNDLE.blob(&blob.digest));
        }
        prop_assert_eq!(std::fs::read_dir(folder.path().join("partial")).unwrap().count(), 0);
    }
}
