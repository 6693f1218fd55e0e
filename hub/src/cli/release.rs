//! `kedgectl release`: publishing bundles.

use super::client::Data;
use super::out::{self, Format, Table};
use super::progress;
use crate::codes;
use crate::error::{Failure, Result};
use bytes::{Bytes, BytesMut};
use clap::Subcommand;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use kedge_proto::hub::v1::publish_request::Body;
use kedge_proto::hub::v1::{ListReleasesRequest, PublishOptions, PublishRequest};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncReadExt;

/// Bytes of one piece of an upload.
const PIECE: usize = 512 * 1024;

/// Publishes releases and lists them.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Publish a signed bundle: the hub verifies it and offers it to the hosts it is for
    #[command(after_help = "Examples:
  kedgectl release publish shop-1.4.0.kedge
  kedgectl release publish shop-1.4.0.kedge --stream stable --data /srv/hub

  kedgectl release publish shop-1.4.0-from-1.3.9.kedge && kedgectl release publish shop-1.4.0.kedge

Publishing the same bundle again changes nothing. A thin bundle (`bundle delta`) is a courier's matter: hosts are told of
the full one, and fetch from a delta what helps them. Publish it first, so that no host fetches before it is there.")]
    Publish {
        /// The bundle
        file: PathBuf,
        /// Refuse the bundle unless it is for this stream
        #[arg(long, default_value = "")]
        stream: String,
        #[command(flatten)]
        data: Data,
        /// How the result is written
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
    /// List what is published
    #[command(after_help = "Example:\n  kedgectl release ls -o json")]
    Ls {
        #[command(flatten)]
        data: Data,
        /// How the result is written
        #[arg(short, long, default_value = "table")]
        output: Format,
    },
}

/// Runs the command.
pub(crate) async fn run(command: Command) -> Result<()> {
    match command {
        Command::Publish { file, stream, data, output } => publish(&file, stream, &data, output).await,
        Command::Ls { data, output } => {
            let reply = data.connect().await?.list_releases(ListReleasesRequest {}).await;
            let releases = reply.map_err(|status| Failure::from_status(&status))?.into_inner().releases;
            if output == Format::Json {
                return out::json(&releases);
            }
            let mut table =
                Table::new(["PRODUCT", "STREAM", "SEQ", "VERSION", "SIZE", "PUBLISHED", "DIGEST"]);
            let now = Timestamp::now();
            for release in releases {
                let published = format!("{} ago", out::distance(&release.published, now));
                let size = out::bytes(release.bytes);
                table.row([
                    release.product,
                    release.stream,
                    release.seq.to_string(),
                    release.version,
                    size,
                    published,
                    release.digest,
                ]);
            }
            out::text(&table.render(out::colour()))
        }
    }
}

async fn publish(path: &Path, stream: String, data: &Data, output: Format) -> Result<()> {
    let unreadable = |error: std::io::Error| {
        Failure::new(codes::INPUT, format!("{} cannot be read", path.display())).because(error)
    };
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let total = file.metadata().await.map_err(unreadable)?.len();
    let mut client = data.connect().await?;

    let bar = progress::bytes("Publishing", Some(total));
    let options = PublishRequest { body: Some(Body::Options(PublishOptions { stream, total_bytes: total })) };
    // gRPC has no way to carry an error of ours upstream: it is kept here, and the upload ends short, which the hub refuses.
    let failed = Arc::new(Mutex::new(None));
    let pieces = stream::unfold((file, failed.clone(), bar.clone()), |(mut file, failed, bar)| async move {
        match piece(&mut file).await {
            Ok(data) if data.is_empty() => None,
            Ok(data) => {
                bar.inc(data.len() as u64);
                Some((PublishRequest { body: Some(Body::Data(data)) }, (file, failed, bar)))
            }
            Err(error) => {
                *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                None
            }
        }
    });
    let reply = client.publish(stream::iter([options]).chain(pieces)).await;
    bar.finish_and_clear();
    if let Some(error) = failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(unreadable(error));
    }
    let reply = reply.map_err(|status| Failure::from_status(&status))?.into_inner();
    let release = reply.release.unwrap_or_default();
    match output {
        Format::Json => out::json(&serde_json::json!({
            "release": release, "already": reply.already, "hosts_told": reply.hosts_told, "delta": reply.delta,
        })),
        Format::Table => {
            let name =
                format!("{} {} ({} {})", release.product, release.version, release.stream, release.seq);
            let told = reply.hosts_told;
            out::text(&match reply.already {
                true if reply.delta => format!("This delta of {name} was published before.\n"),
                true => format!("{name} was published before.\n"),
                false if reply.delta => format!("A delta of {name} is published.\n"),
                false => format!(
                    "{name} is published; {told} connected {} told.\n",
                    if told == 1 { "host is" } else { "hosts are" }
                ),
            })
        }
    }
}

async fn piece(file: &mut tokio::fs::File) -> std::io::Result<Bytes> {
    let mut data = BytesMut::with_capacity(PIECE);
    file.read_buf(&mut data).await?;
    Ok(data.freeze())
}
