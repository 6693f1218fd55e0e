//! Support on the tether: what the hub asks is answered beside everything else, and each session has a stream of its own.

use bytes::Bytes;
use futures_util::StreamExt as _;
use kedge_proto::support::v1::{Meeting, News, Piece, piece};
use kedge_proto::tether::v1::tether_client::TetherClient;
use kedge_proto::tether::v1::{
    SupportAsk, SupportOffer, SupportOpen, SupportRequest, agent_frame, hub_frame,
};
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use crate::support::{Line, Support};

/// Largest piece that is read, bytes: a sealed message and its frame.
const MAX_PIECE: usize = 66 * 1024;
/// Pieces under way to the hub.
const AHEAD: usize = 4;
/// Answers and lines of one connection that may wait or run.
const MOST: usize = 16;

/// What one connection does about support.
pub(super) struct Desk {
    support: Option<Support>,
    news: Option<broadcast::Receiver<News>>,
    answers: (mpsc::Sender<agent_frame::Body>, mpsc::Receiver<agent_frame::Body>),
    tasks: tokio::task::JoinSet<()>,
}

impl Desk {
    pub(super) fn new(support: Option<Support>) -> Self {
        let news = support.as_ref().map(Support::news);
        Self { support, news, answers: mpsc::channel(MOST), tasks: tokio::task::JoinSet::new() }
    }

    /// What a hub that has just been reached should know.
    pub(super) async fn standing(&self) -> Vec<agent_frame::Body> {
        match &self.support {
            Some(support) => {
                support.standing().await.into_iter().map(agent_frame::Body::SupportNews).collect()
            }
            None => Vec::new(),
        }
    }

    /// The next thing to tell the hub. Cancel safe.
    pub(super) async fn next(&mut self) -> agent_frame::Body {
        let Self { news, answers, .. } = self;
        let said = async {
            let Some(receiver) = news else { return std::future::pending().await };
            loop {
                match receiver.recv().await {
                    Ok(news) => return news,
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
                }
            }
        };
        // Cancel safe: both keep what they have not given.
        tokio::select! {
            news = said => agent_frame::Body::SupportNews(news),
            Some(answer) = answers.1.recv() => answer,
        }
    }

    /// Takes what is about support; gives back the rest.
    pub(super) fn hear(&mut self, body: hub_frame::Body, channel: &Channel) -> Option<hub_frame::Body> {
        while self.tasks.try_join_next().is_some() {}
        let is_ours = matches!(
            body,
            hub_frame::Body::SupportAsk(_)
                | hub_frame::Body::SupportRequest(_)
                | hub_frame::Body::SupportOpen(_)
        );
        if !is_ours {
            return Some(body);
        }
        // A hub that asks faster than it is answered is not answered.
        let support = self.support.clone().filter(|_| self.tasks.len() < MOST)?;
        let answers = self.answers.0.clone();
        match body {
            hub_frame::Body::SupportAsk(SupportAsk { ask }) => {
                self.tasks.spawn(async move {
                    let offer = SupportOffer { ask, offer: Some(support.offer().await) };
                    let _ = answers.send(agent_frame::Body::SupportOffer(offer)).await;
                });
            }
            hub_frame::Body::SupportRequest(SupportRequest { file }) => {
                self.tasks.spawn(async move { support.request(&file).await });
            }
            hub_frame::Body::SupportOpen(open) => {
                let channel = channel.clone();
                self.tasks.spawn(async move { hold(&support, open, channel).await });
            }
            other => return Some(other),
        }
        None
    }
}

/// Goes to the meeting and stays to its end.
async fn hold(support: &Support, open: SupportOpen, channel: Channel) {
    let SupportOpen { grant_id, meeting } = open;
    let (out, sealed) = mpsc::channel::<Bytes>(AHEAD);
    let meeting = Meeting { grant_id: grant_id.clone(), meeting, ..Meeting::default() };
    let first = Piece { body: Some(piece::Body::Meeting(meeting)) };
    let pieces = ReceiverStream::new(sealed).map(|sealed| Piece { body: Some(piece::Body::Sealed(sealed)) });
    let pieces = futures_util::stream::iter([first]).chain(pieces);
    let mut client = TetherClient::new(channel).max_decoding_message_size(MAX_PIECE);
    let inbound = match client.support(pieces).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => {
            tracing::warn!(grant = grant_id, "no line for the support session: {}", status.message());
            return;
        }
    };
    let inbound = inbound
        .take_while(|piece| std::future::ready(piece.is_ok()))
        .filter_map(|piece| async move {
            match piece.ok()?.body {
                Some(piece::Body::Sealed(bytes)) => Some(bytes),
                _ => None,
            }
        })
        .boxed();
    support.hold(&grant_id, Line { out, inbound }).await;
}
