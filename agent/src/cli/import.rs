//! `kedge import`: a bundle from a file or a pipe; no network.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use futures_util::{Stream, StreamExt};
use kedge_bundle::codes::Coded;
use kedge_bundle::parts::{self, folder};
use kedge_proto::local::v1 as local;
use kedge_proto::local::v1::import_request::Body;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::failure::Failure;
use super::follow::{self, Upload};
use super::{Context, request_id, values};
use crate::codes;
use crate::problem::Problem;

/// Verify a bundle from a file and deploy it
///
/// Works with no network at all. Nothing is changed unless the whole bundle verifies.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge import shop-1.2.kedge --root-sha256 3f9c…      the first bundle of a vendor
  kedge import shop-1.3.kedge                          an update: parameters keep their values
  kedge import shop-1.3.kedge --dry-run                what would be done
  kedge import shop.kedge --deployment shop-test --set PORT=8081
  kedge import /media/stick                            the parts of a split bundle, in any order
  ssh depot cat shop.kedge | kedge import -")]
pub(super) struct Args {
    /// The bundle; `-` is standard input, a folder holds the parts of a bundle that was split
    file: PathBuf,
    /// Name of the deployment [default: the product's name]
    #[arg(long, value_name = "NAME")]
    deployment: Option<String>,
    #[command(flatten)]
    values: values::Values,
    /// SHA-256 of the vendor's root document, when this host trusts none yet
    #[arg(long, value_name = "HEX")]
    root_sha256: Option<String>,
    /// Verify and say what would be done; change nothing
    #[arg(long)]
    dry_run: bool,
    /// Verify and store, deploy nothing yet
    #[arg(long, conflicts_with = "dry_run")]
    stage_only: bool,
    /// Come back once the agent has the bundle, without waiting for the deployment
    #[arg(long)]
    detach: bool,
}

/// Bytes in one message.
const CHUNK: usize = 256 * 1024;

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    if args.values.takes_stdin() && args.file == Path::new("-") {
        return Err(Failure::usage("standard input can be the bundle or the values, not both"));
    }
    let parameters = args.values.read()?;
    let options = local::ImportOptions {
        deployment: args.deployment.unwrap_or_default(),
        parameters: parameters.into_iter().collect(),
        root_sha256: args.root_sha256.unwrap_or_default(),
        dry_run: args.dry_run,
        stage_only: args.stage_only,
        ..local::ImportOptions::default()
    };
    let following = follow::Options { detach: args.detach, ..follow::Options::default() };
    let done = send(context, &args.file, options, following).await?;
    follow::conclude(&context.out, done.as_ref())
}

/// Sends a bundle with these options and follows what the daemon does with it.
pub(super) async fn send(
    context: &Context,
    file: &Path,
    options: local::ImportOptions,
    following: follow::Options,
) -> Result<Option<local::Done>, Failure> {
    let (reader, total) = open(file)?;
    let options = local::ImportOptions { request_id: request_id(), ..options };
    let mut client = context.connect().await?;
    let upload = Upload { total, ..Upload::default() };
    let (trouble, mut troubled) = mpsc::channel(1);
    let frames = frames(options, reader, upload.clone(), trouble);
    let following = follow::Options { upload: Some(upload), ..following };
    tokio::select! {
        biased;
        // The call is given up then: the daemon keeps what came and goes on from there the next time.
        Some(Trouble { error, .. }) = troubled.recv() => {
            let fault = error.get_ref().and_then(|inner| inner.downcast_ref::<parts::Fault>());
            let code = fault.map_or(codes::UNREADABLE, Coded::code);
            Err(Problem::new(&code, format!("{}: {error}", file.display())).into())
        }
        outcome = follow::follow(&context.out, client.import(frames), following) => outcome,
    }
}

/// The bundle cannot be read on.
struct Trouble {
    error: std::io::Error,
    /// While this lives the frames do not end: the daemon must not take what it has for all there is, and refuse it.
    _frames: mpsc::Sender<local::ImportRequest>,
}

/// The bundle's bytes and their number, 0 where a pipe does not tell. A folder holds the parts of one.
fn open(path: &Path) -> Result<(Box<dyn Read + Send>, u64), Failure> {
    if path == Path::new("-") {
        return Ok((Box::new(std::io::stdin()), 0));
    }
    let failed = |why: String| Problem::new(&codes::UNREADABLE, format!("{}: {why}", path.display()));
    let file = std::fs::File::open(path).map_err(|e| failed(e.to_string()))?;
    let meta = file.metadata().map_err(|e| failed(e.to_string()))?;
    if meta.is_dir() {
        let (joined, total) = folder::open(path).map_err(|e| Problem::from_error(&e.code(), &e))?;
        return Ok((Box::new(joined), total));
    }
    let total = if meta.is_file() { meta.len() } else { 0 };
    if meta.is_file() && total == 0 {
        return Err(failed("it is empty".to_owned()).into());
    }
    Ok((Box::new(file), total))
}

/// Options first, then the bytes. A read that fails is put into `trouble`.
fn frames(
    options: local::ImportOptions,
    mut reader: Box<dyn Read + Send>,
    upload: Upload,
    trouble: mpsc::Sender<Trouble>,
) -> impl Stream<Item = local::ImportRequest> + Send + 'static {
    let (sender, receiver) = mpsc::channel(2);
    // A thread of its own, so that reading the next chunk overlaps with sending this one, and one that nobody waits for:
    // a pipe may never end. It ends with the call: nobody receives any more.
    std::thread::spawn(move || {
        loop {
            let mut data = vec![0; CHUNK];
            let length = match read_full(&mut reader, &mut data) {
                Ok(0) => return,
                Ok(length) => length,
                Err(error) => {
                    let _ = trouble.try_send(Trouble { error, _frames: sender });
                    return;
                }
            };
            data.truncate(length);
            let request = local::ImportRequest { body: Some(Body::Data(data.into())) };
            if sender.blocking_send(request).is_err() {
                return;
            }
            upload.sent.fetch_add(length as u64, Ordering::Relaxed);
        }
    });
    let first = local::ImportRequest { body: Some(Body::Options(options)) };
    futures_util::stream::once(std::future::ready(first)).chain(ReceiverStream::new(receiver))
}

/// Fills the buffer as far as the bytes go; a pipe gives them in small pieces.
fn read_full(reader: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
