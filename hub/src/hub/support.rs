//! Support sessions, as far as a courier has to do with them: what is asked of a host, what it answers, and where the two ends
//! of a session meet. What they say to each other is sealed; here it is bytes.
//!
//! Nothing of it is on disk. A host that comes back tells where its grants stand.

use super::fleet::Fleet;
use crate::codes;
use crate::error::{Failure, Result};
use bytes::Bytes;
use kedge_proto::support::v1::{News, Offer};
use kedge_proto::tether::v1::hub_frame::Body;
use kedge_proto::tether::v1::{SupportAsk, SupportOpen, SupportRequest};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, oneshot};

/// How long a host may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Pieces under way in each direction of a session.
const AHEAD: usize = 8;
/// News remembered, of all hosts.
const REMEMBERED: usize = 4096;
/// News remembered of one host: one that says much makes only its own forgotten.
const OF_ONE: usize = 64;
/// Where a grant can stand.
const STATES: [&str; 6] = ["requested", "approved", "open", "closing", "closed", "refused"];
/// Bytes of a text that are remembered.
const TEXT: usize = 1000;
/// Bytes of a problem's code.
const CODE: usize = 16;
/// News that a watcher may lag behind.
const NEWS: usize = 256;
/// Questions and meetings under way.
const MOST: usize = 1024;

/// One end of a session: what comes from the other, and the way to it.
pub struct End {
    /// To the other end.
    pub to: mpsc::Sender<Bytes>,
    /// From the other end.
    pub from: mpsc::Receiver<Bytes>,
}

/// Handle; cheap to clone.
#[derive(Clone)]
pub struct Support {
    state: Arc<Mutex<State>>,
    news: broadcast::Sender<News>,
}

#[derive(Default)]
struct State {
    /// Who waits for an offer: the host that was asked, and the asker.
    asks: HashMap<String, (String, oneshot::Sender<Offer>)>,
    /// Who waits for the other end: host and grant, and where it is to be handed over.
    meetings: HashMap<String, (String, String, oneshot::Sender<End>)>,
    /// The latest of each grant, oldest first.
    known: VecDeque<News>,
}

impl Default for Support {
    fn default() -> Self {
        Self { state: Arc::default(), news: broadcast::channel(NEWS).0 }
    }
}

impl Support {
    /// What a connected host gives out for one request.
    pub async fn offer(&self, fleet: &Fleet, host: &str) -> Result<Offer> {
        let (sender, offer) = oneshot::channel();
        let ask = name();
        {
            let mut state = self.lock();
            if state.asks.len() >= MOST {
                state.asks.retain(|_, (_, waiting)| !waiting.is_closed());
            }
            state.asks.insert(ask.clone(), (host.to_owned(), sender));
        }
        let told = fleet.tell(host, Body::SupportAsk(SupportAsk { ask: ask.clone() }));
        let answer = if told { tokio::time::timeout(PATIENCE, offer).await.ok() } else { None };
        self.lock().asks.remove(&ask);
        answer.and_then(std::result::Result::ok).ok_or_else(|| silent(host))
    }

    /// A host's answer to [`Support::offer`]. Only the host that was asked may give it.
    pub fn offered(&self, host: &str, ask: &str, offer: Offer) {
        let mut state = self.lock();
        if state.asks.get(ask).is_some_and(|(asked, _)| asked == host)
            && let Some((_, waiting)) = state.asks.remove(ask)
        {
            let _ = waiting.send(offer);
        }
    }

    /// Carries a signed request to its host and gives the host's first word about it.
    pub async fn request(&self, fleet: &Fleet, host: &str, file: Vec<u8>) -> Result<News> {
        let grant = kedge_bundle::support::claimed_grant(&file)
            .ok_or_else(|| Failure::new(codes::ARGUMENT, "this is no support request"))?;
        let mut news = self.news.subscribe();
        if !fleet.tell(host, Body::SupportRequest(SupportRequest { file })) {
            return Err(silent(host));
        }
        let answer = async {
            loop {
                match news.recv().await {
                    Ok(news) if news.host == host && news.grant_id == grant => return Some(news),
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        };
        tokio::time::timeout(PATIENCE, answer).await.ok().flatten().ok_or_else(|| silent(host))
    }

    /// News from a host. What it says about the host is ours; what is no news of a grant is dropped.
    pub fn heard(&self, host: &str, mut news: News) {
        let is_grant = news.grant_id.len() == 32
            && news.grant_id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !is_grant || !STATES.contains(&news.state.as_str()) {
            return;
        }
        news.host = host.to_owned();
        cut(&mut news.message, TEXT);
        if let Some(problem) = &mut news.problem {
            cut(&mut problem.code, CODE);
            cut(&mut problem.message, TEXT);
            cut(&mut problem.remedy, TEXT);
        }
        {
            let mut state = self.lock();
            state.known.retain(|known| known.host != news.host || known.grant_id != news.grant_id);
            let its = |known: &News| known.host == news.host;
            let oldest = if state.known.iter().filter(|known| its(known)).count() >= OF_ONE {
                state.known.iter().position(its)
            } else {
                (state.known.len() >= REMEMBERED).then_some(0)
            };
            oldest.and_then(|oldest| state.known.remove(oldest));
            state.known.push_back(news.clone());
        }
        let _ = self.news.send(news);
    }

    /// What is known of a grant now, and what comes. Subscribed before it is looked up: told twice rather than never.
    pub fn watch(&self, host: &str, grant: &str) -> (Option<News>, broadcast::Receiver<News>) {
        let later = self.news.subscribe();
        let state = self.lock();
        let now = state.known.iter().find(|news| news.host == host && news.grant_id == grant).cloned();
        (now, later)
    }

    /// The engineer's end: waits for the host to come.
    pub async fn meet(&self, fleet: &Fleet, host: &str, grant: &str) -> Result<End> {
        let meeting = name();
        let (sender, end) = oneshot::channel();
        {
            let mut state = self.lock();
            if state.meetings.len() >= MOST {
                state.meetings.retain(|_, (_, _, waiting)| !waiting.is_closed());
            }
            state.meetings.insert(meeting.clone(), (host.to_owned(), grant.to_owned(), sender));
        }
        let open = SupportOpen { grant_id: grant.to_owned(), meeting: meeting.clone() };
        let told = fleet.tell(host, Body::SupportOpen(open));
        let met = if told { tokio::time::timeout(PATIENCE, end).await.ok() } else { None };
        self.lock().meetings.remove(&meeting);
        met.and_then(std::result::Result::ok).ok_or_else(|| silent(host))
    }

    /// The host's end: only the host that was told of the meeting may come.
    pub fn come(&self, host: &str, grant: &str, meeting: &str) -> Option<End> {
        let waiting = {
            let mut state = self.lock();
            let is_theirs =
                |(of, about, _): &(String, String, oneshot::Sender<End>)| of == host && about == grant;
            if !state.meetings.get(meeting).is_some_and(is_theirs) {
                return None;
            }
            state.meetings.remove(meeting)?.2
        };
        let (to_host, from_engineer) = mpsc::channel(AHEAD);
        let (to_engineer, from_host) = mpsc::channel(AHEAD);
        waiting.send(End { to: to_host, from: from_host }).ok()?;
        Some(End { to: to_engineer, from: from_engineer })
    }

    /// The maps stay whole whatever happens while they are held.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn cut(text: &mut String, most: usize) {
    text.truncate(text.floor_char_boundary(most));
}

fn name() -> String {
    format!("{:032x}", rand::random::<u128>())
}

fn silent(host: &str) -> Failure {
    Failure::new(
        codes::HOST_SILENT,
        format!("host {} is not connected, or does not answer", host.escape_debug()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;

    #[tokio::test]
    async fn two_ends_meet_and_nobody_else_comes() {
        let (support, fleet) = (Support::default(), Fleet::default());
        let mut seat = fleet.sit("h", 0, Timestamp::UNIX_EPOCH);
        let engineer = tokio::spawn({
            let (support, fleet) = (support.clone(), fleet.clone());
            async move { support.meet(&fleet, "h", "g").await }
        });
        let Some(Body::SupportOpen(open)) = seat.support.recv().await else { panic!("not told") };
        assert!(support.come("other", "g", &open.meeting).is_none());
        assert!(support.come("h", "other", &open.meeting).is_none());
        let host = support.come("h", "g", &open.meeting).unwrap();
        assert!(support.come("h", "g", &open.meeting).is_none(), "once");
        let mut engineer = engineer.await.unwrap().unwrap();
        host.to.send(Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(engineer.from.recv().await.unwrap(), "x");
        drop(host);
        assert!(engineer.from.recv().await.is_none());
    }

    #[tokio::test]
    async fn only_the_host_that_was_asked_answers() {
        let (support, fleet) = (Support::default(), Fleet::default());
        let mut seat = fleet.sit("h", 0, Timestamp::UNIX_EPOCH);
        let asking = tokio::spawn({
            let (support, fleet) = (support.clone(), fleet.clone());
            async move { support.offer(&fleet, "h").await }
        });
        let Some(Body::SupportAsk(ask)) = seat.support.recv().await else { panic!("not asked") };
        support.offered("other", &ask.ask, Offer { nonce: "evil".into(), ..Offer::default() });
        support.offered("h", &ask.ask, Offer { nonce: "good".into(), ..Offer::default() });
        assert_eq!(asking.await.unwrap().unwrap().nonce, "good");
        assert_eq!(support.offer(&fleet, "nobody").await.unwrap_err().code, codes::HOST_SILENT);
    }

    /// News of a grant that is named by a number.
    fn news(number: usize) -> News {
        News { grant_id: format!("{number:032x}"), state: "open".into(), ..News::default() }
    }

    #[tokio::test]
    async fn a_host_cannot_speak_for_another() {
        let support = Support::default();
        support.heard("a", News { host: "b".into(), ..news(1) });
        assert!(support.watch("b", &news(1).grant_id).0.is_none());
        assert_eq!(support.watch("a", &news(1).grant_id).0.unwrap().host, "a");
    }

    #[tokio::test]
    async fn what_is_no_news_of_a_grant_is_dropped_and_what_is_long_is_cut() {
        let (support, long) = (Support::default(), "é".repeat(1 << 20));
        let (_, mut later) = support.watch("a", "");
        for id in ["", "g", &long, &"A".repeat(32), &"0".repeat(31), &"0".repeat(33)] {
            support.heard("a", News { grant_id: id.into(), ..news(1) });
        }
        for state in ["", "Open", "dancing", &long] {
            support.heard("a", News { state: state.into(), ..news(1) });
        }
        assert!(support.lock().known.is_empty() && later.try_recv().is_err());
        let problem = kedge_proto::v1::Problem {
            code: long.clone(),
            message: long.clone(),
            remedy: long.clone(),
            exit_code: 1,
        };
        support.heard("a", News { message: long, problem: Some(problem), ..news(1) });
        let kept = later.try_recv().unwrap();
        assert!(prost::Message::encoded_len(&kept) < 4000);
        assert_eq!(support.watch("a", &news(1).grant_id).0, Some(kept));
    }

    #[tokio::test]
    async fn a_host_that_says_much_makes_only_its_own_forgotten() {
        let support = Support::default();
        support.heard("quiet", news(1));
        for number in 0..10_000 {
            support.heard("loud", news(number));
        }
        assert!(support.watch("quiet", &news(1).grant_id).0.is_some());
        assert!(support.watch("loud", &news(9_999).grant_id).0.is_some());
        assert_eq!(support.lock().known.len(), 1 + OF_ONE);
    }
}
