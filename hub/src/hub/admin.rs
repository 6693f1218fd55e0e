//! Administration over `hub.sock` in the data folder: whoever may enter that folder may do everything here.

use super::fleet::End;
use super::releases::{Published, Releases};
use super::store::HostRecord;
use super::{Shared, tokens};
use crate::codes;
use crate::error::{Failure, Result};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use kedge_proto::hub::v1::hub_server::Hub;
use kedge_proto::hub::v1::publish_request::Body;
use kedge_proto::hub::v1::{
    CreateTokenReply, CreateTokenRequest, FleetReply, FleetRequest, Host, ListReleasesReply,
    ListReleasesRequest, ListTokensReply, ListTokensRequest, PublishOptions, PublishReply, PublishRequest,
    PublishedRelease, RevokeHostReply, RevokeHostRequest, RevokeTokenReply, RevokeTokenRequest,
    SupportOfferRequest, SupportRequestRequest, SupportWatchRequest, Token,
};
use kedge_proto::support::v1::{News, Offer, Piece, piece};
use std::collections::BTreeSet;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::info;

/// Largest message of the command line, in bytes: a piece of an upload is at most 1 MiB.
pub(super) const MAX_MESSAGE: usize = (1 << 20) + 1024;
/// Hosts in one message of a watch.
const HOSTS_A_MESSAGE: usize = 200;

/// The service.
pub(super) struct Service {
    pub(super) shared: Arc<Shared>,
    /// Ends the watches.
    pub(super) stop: CancellationToken,
}

type Newses = Pin<Box<dyn Stream<Item = Result<News, Status>> + Send>>;
type Pieces = Pin<Box<dyn Stream<Item = Result<Piece, Status>> + Send>>;
type Fleets = Pin<Box<dyn Stream<Item = Result<FleetReply, Status>> + Send>>;

#[tonic::async_trait]
impl Hub for Service {
    type WatchFleetStream = Fleets;
    type SupportWatchStream = Newses;
    type SupportConnectStream = Pieces;

    async fn support_offer(&self, request: Request<SupportOfferRequest>) -> Result<Response<Offer>, Status> {
        let host = request.into_inner().host;
        Ok(Response::new(self.shared.support.offer(&self.shared.fleet, &host).await?))
    }

    async fn support_request(
        &self,
        request: Request<SupportRequestRequest>,
    ) -> Result<Response<News>, Status> {
        let SupportRequestRequest { host, file } = request.into_inner();
        Ok(Response::new(self.shared.support.request(&self.shared.fleet, &host, file).await?))
    }

    async fn support_watch(&self, request: Request<SupportWatchRequest>) -> Result<Response<Newses>, Status> {
        let SupportWatchRequest { host, grant_id } = request.into_inner();
        let (now, later) = self.shared.support.watch(&host, &grant_id);
        let later = stream::unfold(later, |mut later| async move {
            loop {
                match later.recv().await {
                    Ok(news) => return Some((news, later)),
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        });
        let ours = move |news: &News| {
            let ours = news.host == host && news.grant_id == grant_id;
            std::future::ready(ours)
        };
        let all = stream::iter(now).chain(later.filter(ours)).map(Ok);
        Ok(Response::new(Box::pin(all.take_until(self.stop.clone().cancelled_owned()))))
    }

    async fn support_connect(&self, request: Request<Streaming<Piece>>) -> Result<Response<Pieces>, Status> {
        let mut pieces = request.into_inner();
        let Some(Piece { body: Some(piece::Body::Meeting(meeting)) }) = pieces.message().await? else {
            return Err(Failure::new(codes::PROTOCOL, "the first piece does not say whom to meet").into());
        };
        let end = self.shared.support.meet(&self.shared.fleet, &meeting.host, &meeting.grant_id).await?;
        let relayed = super::tether::relay(pieces, end);
        Ok(Response::new(Box::pin(relayed.take_until(self.stop.clone().cancelled_owned()))))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenReply>, Status> {
        let CreateTokenRequest { site, ttl_seconds, uses, note } = request.into_inner();
        let reply = self.blocking(move |shared| {
            let (now, ca) = (shared.now(), shared.authority.certificate());
            let (record, token) = tokens::create(&site, &note, uses.max(1), ttl_seconds, now, ca)?;
            shared.store.add_token(&record, now)?;
            info!(
                token = record.id,
                site,
                uses = record.uses_left,
                "Token {} for site {site} was made.",
                record.id
            );
            Ok(CreateTokenReply { token, id: record.id, expires: record.expires.to_string() })
        });
        Ok(Response::new(reply.await?))
    }

    async fn list_tokens(&self, _: Request<ListTokensRequest>) -> Result<Response<ListTokensReply>, Status> {
        let tokens = self.blocking(|shared| shared.store.tokens()).await?;
        let shown = |token: tokens::TokenRecord| Token {
            id: token.id,
            site: token.site,
            expires: token.expires.to_string(),
            uses_left: token.uses_left,
            note: token.note,
        };
        Ok(Response::new(ListTokensReply { tokens: tokens.into_iter().map(shown).collect() }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenReply>, Status> {
        let RevokeTokenRequest { id } = request.into_inner();
        let existed = self.blocking(move |shared| shared.store.remove_token(&id)).await?;
        Ok(Response::new(RevokeTokenReply { existed }))
    }

    async fn revoke_host(
        &self,
        request: Request<RevokeHostRequest>,
    ) -> Result<Response<RevokeHostReply>, Status> {
        let RevokeHostRequest { host } = request.into_inner();
        let existed = self.blocking(move |shared| {
            let existed = shared.store.revoke_host(&host)?;
            if existed {
                // After the store: a stream that opens meanwhile reads it there.
                shared.fleet.end(&host, End::Revoked);
                shared.fleet.changed(&host);
                info!(host, "Host {host} was revoked.");
            }
            Ok(existed)
        });
        Ok(Response::new(RevokeHostReply { existed: existed.await? }))
    }

    async fn publish(
        &self,
        request: Request<Streaming<PublishRequest>>,
    ) -> Result<Response<PublishReply>, Status> {
        let mut pieces = request.into_inner();
        let Some(PublishRequest { body: Some(Body::Options(options)) }) = pieces.message().await? else {
            return Err(Failure::new(codes::UPLOAD, "the upload does not begin with its options").into());
        };
        let upload = self.shared.publisher.incoming()?;
        receive(&mut pieces, &upload, options.total_bytes).await?;
        let PublishOptions { stream, .. } = options;
        let outcome = self.blocking(move |shared| {
            let stream = Some(stream.as_str()).filter(|stream| !stream.is_empty());
            shared.publisher.publish(&shared.releases, &upload, stream, shared.now())
        });
        let outcome = outcome.await?;
        let hosts_told = if outcome.already || outcome.delta {
            0
        } else {
            u32::try_from(self.shared.fleet.connected()).unwrap_or(u32::MAX)
        };
        Ok(Response::new(PublishReply {
            release: Some(shown(&self.shared.releases, &outcome.release)),
            already: outcome.already,
            hosts_told,
            delta: outcome.delta,
        }))
    }

    async fn list_releases(
        &self,
        _: Request<ListReleasesRequest>,
    ) -> Result<Response<ListReleasesReply>, Status> {
        let mut releases = self.shared.releases.all();
        releases.sort_by(|a, b| (&a.product, &a.stream, a.seq).cmp(&(&b.product, &b.stream, b.seq)));
        Ok(Response::new(ListReleasesReply {
            releases: releases.iter().map(|release| shown(&self.shared.releases, release)).collect(),
        }))
    }

    async fn fleet(&self, request: Request<FleetRequest>) -> Result<Response<FleetReply>, Status> {
        let FleetRequest { host } = request.into_inner();
        Ok(Response::new(self.blocking(move |shared| fleet(shared, &host)).await?))
    }

    async fn watch_fleet(&self, request: Request<FleetRequest>) -> Result<Response<Fleets>, Status> {
        let FleetRequest { host: wanted } = request.into_inner();
        // Subscribed before the fleet is read: a change in between is told twice, not never.
        let changes = self.shared.fleet.watch();
        let shared = self.shared.clone();
        let now = all(&shared, &wanted).await?;
        let later = stream::unfold((shared, changes, wanted), |(shared, mut changes, wanted)| async move {
            loop {
                let mut changed = Changed::default();
                changed.add(changes.recv().await)?;
                // Whatever else has changed meanwhile goes into the same answer.
                while !changes.is_empty() {
                    changed.add(changes.recv().await)?;
                }
                let replies = match changed {
                    Changed { all: true, .. } => all(&shared, &wanted).await,
                    Changed { hosts, .. } => {
                        let hosts: Vec<String> =
                            hosts.into_iter().filter(|host| wanted.is_empty() || wanted == *host).collect();
                        if hosts.is_empty() {
                            continue;
                        }
                        some(&shared, hosts, !wanted.is_empty()).await
                    }
                };
                return Some((stream::iter(each(replies)), (shared, changes, wanted)));
            }
        });
        let watch = stream::iter(each(Ok(now))).chain(later.flatten());
        Ok(Response::new(Box::pin(watch.take_until(self.stop.clone().cancelled_owned()))))
    }
}

impl Service {
    /// Runs what touches the disk on a thread that may wait for it.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        blocking(&self.shared, work).await
    }
}

async fn blocking<T: Send + 'static>(
    shared: &Arc<Shared>,
    work: impl FnOnce(&Shared) -> Result<T> + Send + 'static,
) -> Result<T> {
    let shared = shared.clone();
    let done = tokio::task::spawn_blocking(move || work(&shared)).await;
    done.map_err(|error| Failure::new(codes::UNEXPECTED, "the request was interrupted").because(error))?
}

/// Writes the pieces of an upload to `path`; exactly `total` bytes must come.
async fn receive(pieces: &mut Streaming<PublishRequest>, path: &Path, total: u64) -> Result<(), Status> {
    let unwritable = |error: std::io::Error| {
        Failure::new(codes::STORE, format!("the upload cannot be written to {}", path.display()))
            .because(error)
    };
    let free =
        rustix::fs::statvfs(path.parent().unwrap_or(path)).map(|fs| fs.f_bavail.saturating_mul(fs.f_frsize));
    if let Ok(free) = free
        && free < total
    {
        let message = format!("the upload has {total} bytes and the hub's disk has {free} free");
        return Err(Failure::new(codes::NO_SPACE, message).into());
    }
    let mut file = tokio::fs::File::create(path).await.map_err(unwritable)?;
    let mut received = 0u64;
    while let Some(piece) = pieces.message().await? {
        let Some(Body::Data(data)) = piece.body else {
            return Err(Failure::new(codes::UPLOAD, "options came in the middle of the upload").into());
        };
        let data: Bytes = data;
        received += data.len() as u64;
        if received > total {
            return Err(Failure::new(
                codes::TOO_LARGE,
                format!("more than the announced {total} bytes came"),
            )
            .into());
        }
        file.write_all(&data).await.map_err(unwritable)?;
    }
    if received < total {
        return Err(
            Failure::new(codes::UPLOAD, format!("{received} of the announced {total} bytes came")).into()
        );
    }
    Ok(file.flush().await.map_err(unwritable)?)
}

/// One host with its events, or all without.
fn fleet(shared: &Shared, wanted: &str) -> Result<FleetReply> {
    let hosts = match wanted {
        "" => shared
            .store
            .hosts()?
            .into_iter()
            .map(|record| host(shared, record, false))
            .collect::<Result<_>>()?,
        id => vec![one(shared, id, true)?],
    };
    Ok(FleetReply { hosts })
}

fn one(shared: &Shared, id: &str, with_events: bool) -> Result<Host> {
    let record = shared.store.host(id)?.ok_or_else(|| {
        let shown: String = id.chars().take(80).collect();
        Failure::new(codes::HOST_UNKNOWN, format!("there is no host {}", shown.escape_debug()))
    })?;
    host(shared, record, with_events)
}

fn host(shared: &Shared, record: HostRecord, with_events: bool) -> Result<Host> {
    let presence = shared.fleet.presence(&record.id);
    let last_seen = presence.map_or(record.last_seen, |(_, seen)| seen.max(record.last_seen));
    let events = if with_events { shared.store.events(&record.id)? } else { Vec::new() };
    let mut status = shared.store.status(&record)?;
    if !with_events {
        // Of interest for one host; of a whole fleet too much.
        status.audit_heads.clear();
    }
    Ok(Host {
        status: Some(status),
        connected: presence.is_some(),
        last_seen: last_seen.to_string(),
        enrolled: record.enrolled.to_string(),
        events,
        revoked: record.revoked,
        connected_since: presence.map(|(since, _)| since.to_string()).unwrap_or_default(),
    })
}

/// What a watcher has not been told yet.
#[derive(Default)]
struct Changed {
    hosts: BTreeSet<String>,
    /// More than the channel holds.
    all: bool,
}

impl Changed {
    /// Takes in what a watcher heard; none when there is nothing more to hear.
    fn add(&mut self, heard: Result<String, RecvError>) -> Option<()> {
        match heard {
            Ok(host) => drop(self.hosts.insert(host)),
            Err(RecvError::Lagged(_)) => self.all = true,
            Err(RecvError::Closed) => return None,
        }
        Some(())
    }
}

/// The hosts wanted.
async fn all(shared: &Arc<Shared>, wanted: &str) -> Result<Vec<FleetReply>> {
    let wanted = wanted.to_owned();
    let FleetReply { hosts } = blocking(shared, move |shared| fleet(shared, &wanted)).await?;
    Ok(in_messages(hosts))
}

/// These hosts; events where one host is watched.
async fn some(shared: &Arc<Shared>, ids: Vec<String>, with_events: bool) -> Result<Vec<FleetReply>> {
    let read =
        move |shared: &Shared| ids.iter().map(|id| one(shared, id, with_events)).collect::<Result<_>>();
    Ok(in_messages(blocking(shared, read).await?))
}

/// In messages of bounded size; at least one.
fn in_messages(hosts: Vec<Host>) -> Vec<FleetReply> {
    if hosts.is_empty() {
        return vec![FleetReply { hosts }];
    }
    hosts.chunks(HOSTS_A_MESSAGE).map(|hosts| FleetReply { hosts: hosts.to_vec() }).collect()
}

fn each(replies: Result<Vec<FleetReply>>) -> Vec<Result<FleetReply, Status>> {
    match replies {
        Ok(replies) => replies.into_iter().map(Ok).collect(),
        Err(failure) => vec![Err(failure.into())],
    }
}

fn shown(releases: &Releases, release: &Published) -> PublishedRelease {
    PublishedRelease {
        product: release.product.clone(),
        stream: release.stream.clone(),
        version: release.version.clone(),
        seq: release.seq,
        digest: release.digest.to_string(),
        bytes: release.bytes,
        published: release.published.to_string(),
        expires: release.expires.to_string(),
        deltas: u32::try_from(releases.deltas(&release.digest).len()).unwrap_or(u32::MAX),
    }
}
