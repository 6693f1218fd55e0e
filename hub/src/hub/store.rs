//! What the hub remembers, in one redb file.
//!
//! Every write is one transaction and durable when the call returns, so nothing is acknowledged to a host
//! that a power cut could take back. Reports come in batches, many hosts to a transaction (see
//! [`recorder`](super::recorder)). Records of ours are JSON, so that fields can be added; what came over
//! the wire stays protobuf, which already has that rule. Calls block; they are short, and those that
//! write are made from blocking threads.

use super::ca::HostRequest;
use super::reports::{self, Followed};
use super::tokens::{self, TokenRecord};
use crate::codes;
use crate::error::{Failure, Result};
use jiff::Timestamp;
use kedge_proto::tether::v1::Report;
use kedge_proto::v1::{Event, HostStatus};
use prost::Message;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;
use std::path::Path;

/// Events kept of each host.
pub const EVENTS_KEPT: u64 = 200;
/// Page cache, in bytes. The hub's working set is the hosts that report, not all that it ever saw.
const CACHE_BYTES: usize = 32 << 20;

const TOKENS: TableDefinition<&str, &[u8]> = TableDefinition::new("tokens.v1");
/// `<token>/<request>` to the enrolment that answered it.
const ANSWERED: TableDefinition<&str, &[u8]> = TableDefinition::new("answered.v1");
const HOSTS: TableDefinition<&str, &[u8]> = TableDefinition::new("hosts.v1");
const STATUSES: TableDefinition<&str, &[u8]> = TableDefinition::new("statuses.v1");
const EVENTS: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("events.v1");
const RELEASES: TableDefinition<&str, &[u8]> = TableDefinition::new("releases.v1");
/// By the digest of the delta document.
const DELTAS: TableDefinition<&str, &[u8]> = TableDefinition::new("deltas.v1");
/// The vendor's chain of root envelopes, by version.
const ROOTS: TableDefinition<u64, &[u8]> = TableDefinition::new("roots.v1");

/// An enrolled host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRecord {
    /// `h-…`, as in its certificate.
    pub id: String,
    /// The customer's site, from the token.
    pub site: String,
    /// As it named itself when it enrolled.
    pub hostname: String,
    /// When.
    pub enrolled: Timestamp,
    /// Last sign of life that was written; the fleet knows better for those connected.
    pub last_seen: Timestamp,
    /// May not connect any more.
    #[serde(default)]
    pub revoked: bool,
    /// Outbox and number of the last report; absent before the first.
    #[serde(default)]
    pub session: Option<String>,
    /// See `session`.
    #[serde(default)]
    pub last_report: u64,
    /// Number of the next event.
    #[serde(default)]
    pub next_event: u64,
}

impl HostRecord {
    /// How far its reports were followed.
    pub fn followed(&self) -> Option<Followed> {
        self.session.clone().map(|session| Followed { session, last: self.last_report })
    }
}

#[derive(Serialize, Deserialize)]
struct Answered {
    host: String,
    key_sha256: String,
}

/// One report as it arrived.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// The host, from its certificate.
    pub host: String,
    /// Its outbox.
    pub session: String,
    /// Clipped.
    pub report: Report,
    /// By the hub's clock.
    pub at: Timestamp,
}

/// An enrolment as asked for.
pub struct Enrolment<'a> {
    /// The token.
    pub token: &'a tokens::Presented,
    /// The verified certificate request.
    pub request: &'a HostRequest,
    /// Makes asking twice enrol once.
    pub request_id: &'a str,
    /// The host's name for itself.
    pub hostname: &'a str,
}

/// The open store.
pub struct Store {
    db: Database,
}

impl Store {
    /// Opens or makes the file.
    pub fn open(path: &Path) -> Result<Self> {
        let open = || -> Result<Database> {
            let db = Database::builder().set_cache_size(CACHE_BYTES).create(path)?;
            let write = db.begin_write()?;
            write.open_table(TOKENS)?;
            write.open_table(ANSWERED)?;
            write.open_table(HOSTS)?;
            write.open_table(STATUSES)?;
            write.open_table(EVENTS)?;
            write.open_table(RELEASES)?;
            write.open_table(DELTAS)?;
            write.open_table(ROOTS)?;
            write.commit()?;
            Ok(db)
        };
        let db = open().map_err(|error| {
            Failure::new(codes::STORE, format!("{} cannot be opened", path.display())).because(error)
        })?;
        Ok(Store { db })
    }

    /// Adds a token, and forgets those that expired a week ago with the enrolments they answered.
    pub fn add_token(&self, token: &TokenRecord, now: Timestamp) -> Result<()> {
        let write = self.db.begin_write()?;
        {
            let mut table = write.open_table(TOKENS)?;
            let week_ago = now - jiff::SignedDuration::from_hours(7 * 24);
            let tokens: Vec<TokenRecord> = values(&table)?;
            for old in tokens.iter().filter(|token| token.expires < week_ago) {
                table.remove(old.id.as_str())?;
                forget_answers(&write, &old.id)?;
            }
            put(&mut table, &token.id, token)?;
        }
        Ok(write.commit()?)
    }

    /// All tokens, by ID.
    pub fn tokens(&self) -> Result<Vec<TokenRecord>> {
        values(&self.db.begin_read()?.open_table(TOKENS)?)
    }

    /// Forgets a token; says whether it was there.
    pub fn remove_token(&self, id: &str) -> Result<bool> {
        let write = self.db.begin_write()?;
        let existed = write.open_table(TOKENS)?.remove(id)?.is_some();
        forget_answers(&write, id)?;
        write.commit()?;
        Ok(existed)
    }

    /// Spends one use of the token and makes the host `new_id`; or, asked again with the same request and
    /// key, returns the host made before, even if the token has since run out.
    pub fn enrol(&self, asked: &Enrolment<'_>, new_id: String, now: Timestamp) -> Result<HostRecord> {
        let write = self.db.begin_write()?;
        let host = {
            let mut tokens_table = write.open_table(TOKENS)?;
            let mut answered_table = write.open_table(ANSWERED)?;
            let mut hosts = write.open_table(HOSTS)?;
            let token: Option<TokenRecord> = get(&tokens_table, &asked.token.id)?;
            tokens::check_secret(token.as_ref(), asked.token)?;
            let mut token = token.ok_or_else(|| damaged("a token"))?;
            let answer_key = format!("{}/{}", token.id, asked.request_id);
            if let Some(answered) = get::<Answered>(&answered_table, &answer_key)? {
                if answered.key_sha256 != asked.request.key_sha256 {
                    return Err(Failure::new(
                        codes::REQUEST_CONFLICT,
                        "this request enrolled a host with another key",
                    ));
                }
                let host: HostRecord =
                    get(&hosts, &answered.host)?.ok_or_else(|| damaged("an enrolled host"))?;
                return if host.revoked { Err(revoked(&host.id)) } else { Ok(host) };
            }
            tokens::check_usable(&token, now)?;
            token.uses_left -= 1;
            put(&mut tokens_table, &token.id, &token)?;
            let host = HostRecord {
                id: new_id,
                site: token.site,
                hostname: asked.hostname.to_owned(),
                enrolled: now,
                last_seen: now,
                revoked: false,
                session: None,
                last_report: 0,
                next_event: 0,
            };
            let answered = Answered { host: host.id.clone(), key_sha256: asked.request.key_sha256.clone() };
            put(&mut answered_table, &answer_key, &answered)?;
            put(&mut hosts, &host.id, &host)?;
            host
        };
        write.commit()?;
        Ok(host)
    }

    /// An enrolled host that may connect.
    pub fn active_host(&self, id: &str) -> Result<HostRecord> {
        match self.host(id)? {
            Some(host) if !host.revoked => Ok(host),
            _ => Err(revoked(id)),
        }
    }

    /// A host, revoked or not.
    pub fn host(&self, id: &str) -> Result<Option<HostRecord>> {
        get(&self.db.begin_read()?.open_table(HOSTS)?, id)
    }

    /// All hosts, by ID.
    pub fn hosts(&self) -> Result<Vec<HostRecord>> {
        values(&self.db.begin_read()?.open_table(HOSTS)?)
    }

    /// Bars a host for good; says whether it was there.
    pub fn revoke_host(&self, id: &str) -> Result<bool> {
        let write = self.db.begin_write()?;
        let existed = {
            let mut hosts = write.open_table(HOSTS)?;
            let host: Option<HostRecord> = get(&hosts, id)?;
            if let Some(mut host) = host {
                host.revoked = true;
                put(&mut hosts, id, &host)?;
                true
            } else {
                false
            }
        };
        write.commit()?;
        Ok(existed)
    }

    /// The status last reported; of a host that never reported, who it is.
    pub fn status(&self, host: &HostRecord) -> Result<HostStatus> {
        let read = self.db.begin_read()?;
        let table = read.open_table(STATUSES)?;
        let bytes = table.get(host.id.as_str())?;
        held_status(host, bytes.as_ref().map(|bytes| bytes.value()))
    }

    /// The host's events, newest last.
    pub fn events(&self, host: &str) -> Result<Vec<Event>> {
        let table = self.db.begin_read()?.open_table(EVENTS)?;
        let range = table.range((host, 0)..=(host, u64::MAX))?;
        range.map(|entry| Event::decode(entry?.1.value()).map_err(|_| damaged("an event"))).collect()
    }

    /// Applies reports and signs of life, all in one transaction.
    pub fn record(&self, reports: Vec<Arrived>, seen: &BTreeMap<String, Timestamp>) -> Result<()> {
        let write = self.db.begin_write()?;
        {
            let mut hosts = write.open_table(HOSTS)?;
            let mut statuses = write.open_table(STATUSES)?;
            let mut events = write.open_table(EVENTS)?;
            let mut changed: BTreeMap<String, (HostRecord, HostStatus)> = BTreeMap::new();
            for arrived in reports {
                if !changed.contains_key(&arrived.host) {
                    let Some(host) = get::<HostRecord>(&hosts, &arrived.host)? else { continue };
                    let bytes = statuses.get(arrived.host.as_str())?;
                    let status = held_status(&host, bytes.as_ref().map(|bytes| bytes.value()))?;
                    changed.insert(arrived.host.clone(), (host, status));
                }
                let Some((host, status)) = changed.get_mut(&arrived.host) else { continue };
                apply(host, status, arrived, &mut events)?;
            }
            for (id, (host, status)) in &changed {
                put(&mut hosts, id, host)?;
                statuses.insert(id.as_str(), status.encode_to_vec().as_slice())?;
            }
            for (id, at) in seen {
                let host: Option<HostRecord> = get(&hosts, id)?;
                if let Some(mut host) = host {
                    host.last_seen = host.last_seen.max(*at);
                    put(&mut hosts, id, &host)?;
                }
            }
        }
        Ok(write.commit()?)
    }

    /// Adds or replaces a release, and the chain of roots that came with it.
    pub fn add_release<R: Serialize>(&self, digest: &str, release: &R, roots: &[Vec<u8>]) -> Result<()> {
        let write = self.db.begin_write()?;
        put(&mut write.open_table(RELEASES)?, digest, release)?;
        put_roots(&write, roots)?;
        Ok(write.commit()?)
    }

    /// Adds a delta of a release.
    pub fn add_delta<R: Serialize>(&self, digest: &str, delta: &R) -> Result<()> {
        let write = self.db.begin_write()?;
        put(&mut write.open_table(DELTAS)?, digest, delta)?;
        Ok(write.commit()?)
    }

    /// All deltas, by digest.
    pub fn deltas<R: DeserializeOwned>(&self) -> Result<Vec<R>> {
        values(&self.db.begin_read()?.open_table(DELTAS)?)
    }

    /// All releases, by digest.
    pub fn releases<R: DeserializeOwned>(&self) -> Result<Vec<R>> {
        values(&self.db.begin_read()?.open_table(RELEASES)?)
    }

    /// The chain of root envelopes, oldest first.
    pub fn roots(&self) -> Result<Vec<Vec<u8>>> {
        let table = self.db.begin_read()?.open_table(ROOTS)?;
        table.iter()?.map(|entry| Ok(entry?.1.value().to_vec())).collect()
    }

    /// Replaces the chain of roots.
    pub fn set_roots(&self, roots: &[Vec<u8>]) -> Result<()> {
        let write = self.db.begin_write()?;
        put_roots(&write, roots)?;
        Ok(write.commit()?)
    }
}

fn apply(
    host: &mut HostRecord,
    status: &mut HostStatus,
    arrived: Arrived,
    events: &mut Table<'_, (&'static str, u64), &'static [u8]>,
) -> Result<()> {
    host.last_seen = host.last_seen.max(arrived.at);
    let mut followed = host.followed().unwrap_or_default();
    let new = reports::accept(&mut followed, &arrived.session, arrived.report.number);
    (host.session, host.last_report) = (Some(followed.session), followed.last);
    if !new {
        return Ok(());
    }
    let mut report = arrived.report;
    for event in std::mem::take(&mut report.events) {
        events.insert((host.id.as_str(), host.next_event), event.encode_to_vec().as_slice())?;
        if let Some(oldest) = host.next_event.checked_sub(EVENTS_KEPT) {
            events.remove((host.id.as_str(), oldest))?;
        }
        host.next_event += 1;
    }
    reports::apply(status, report);
    Ok(())
}

fn held_status(host: &HostRecord, bytes: Option<&[u8]>) -> Result<HostStatus> {
    let mut status = match bytes {
        Some(bytes) => HostStatus::decode(bytes).map_err(|_| damaged("a host's status"))?,
        None => HostStatus { hostname: host.hostname.clone(), ..HostStatus::default() },
    };
    status.host_id.clone_from(&host.id);
    status.site.clone_from(&host.site);
    Ok(status)
}

fn put_roots(write: &WriteTransaction, roots: &[Vec<u8>]) -> Result<()> {
    if roots.is_empty() {
        return Ok(());
    }
    let mut table = write.open_table(ROOTS)?;
    table.retain(|_, _| false)?;
    for (index, root) in (0..).zip(roots) {
        table.insert(index, root.as_slice())?;
    }
    Ok(())
}

fn forget_answers(write: &WriteTransaction, token: &str) -> Result<()> {
    // `0` follows `/`: the range is every key that begins with `<token>/`.
    let (from, to) = (format!("{token}/"), format!("{token}0"));
    Ok(write.open_table(ANSWERED)?.retain_in(from.as_str()..to.as_str(), |_, _| false)?)
}

fn get<T: DeserializeOwned>(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<T>> {
    match table.get(key)? {
        Some(bytes) => Ok(Some(decode(bytes.value())?)),
        None => Ok(None),
    }
}

fn values<T: DeserializeOwned>(table: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<Vec<T>> {
    table.iter()?.map(|entry| decode(entry?.1.value())).collect()
}

fn put<T: Serialize>(table: &mut Table<'_, &'static str, &'static [u8]>, key: &str, value: &T) -> Result<()> {
    let bytes = serde_json::to_vec(value).map_err(|error| damaged("a record").because(error))?;
    table.insert(key, bytes.as_slice())?;
    Ok(())
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| damaged("a record").because(error))
}

fn damaged(what: &str) -> Failure {
    Failure::new(codes::STORE, format!("{what} in the hub's store is damaged"))
}

fn revoked(id: &str) -> Failure {
    Failure::new(codes::REVOKED, format!("host {id} may not connect to this hub"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{ca, tokens};
    use jiff::SignedDuration;

    fn open() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("hub.redb")).unwrap();
        (folder, store)
    }

    fn request() -> HostRequest {
        let key = rcgen::KeyPair::generate().unwrap();
        let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        ca::read_request(csr.der()).unwrap()
    }

    #[test]
    fn a_token_is_forgotten_a_week_after_its_end_and_its_hosts_stay() {
        let (_folder, store) = open();
        let start: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        let (old, text) = tokens::create("acme", "", 2, 60, start, b"").unwrap();
        store.add_token(&old, start).unwrap();
        let (token, request) = (tokens::parse(&text).unwrap(), request());
        let asked = Enrolment { token: &token, request: &request, request_id: "r", hostname: "db1" };
        store.enrol(&asked, "h-1".into(), start).unwrap();

        let later = start + SignedDuration::from_hours(24);
        let again = store.enrol(&asked, "h-2".into(), later).unwrap();
        assert_eq!(again.id, "h-1", "an answer can be asked for again after the token's end");

        let much_later = start + SignedDuration::from_hours(24 * 8);
        let (new, _) = tokens::create("acme", "", 1, 60, much_later, b"").unwrap();
        store.add_token(&new, much_later).unwrap();
        assert_eq!(store.tokens().unwrap(), [new]);
        assert_eq!(store.enrol(&asked, "h-2".into(), much_later).unwrap_err().code, codes::TOKEN_UNKNOWN);
        assert_eq!(store.hosts().unwrap().len(), 1);
    }

    #[test]
    fn a_refused_enrolment_spends_nothing() {
        let (_folder, store) = open();
        let start: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        let (record, text) = tokens::create("acme", "", 1, 60, start, b"").unwrap();
        store.add_token(&record, start).unwrap();
        let (token, request) = (tokens::parse(&text).unwrap(), request());
        let asked = Enrolment { token: &token, request: &request, request_id: "r", hostname: "db1" };
        let late = start + SignedDuration::from_secs(60);
        assert_eq!(store.enrol(&asked, "h-1".into(), late).unwrap_err().code, codes::TOKEN_EXPIRED);
        assert_eq!(store.tokens().unwrap()[0].uses_left, 1);
        assert!(store.hosts().unwrap().is_empty());
    }

    #[test]
    fn reports_of_hosts_that_are_not_known_are_dropped_and_the_rest_of_the_batch_is_kept() {
        let (_folder, store) = open();
        let start: Timestamp = "2026-11-21T00:00:00Z".parse().unwrap();
        let (record, text) = tokens::create("acme", "", 1, 60, start, b"").unwrap();
        store.add_token(&record, start).unwrap();
        let (token, request) = (tokens::parse(&text).unwrap(), request());
        let asked = Enrolment { token: &token, request: &request, request_id: "r", hostname: "db1" };
        store.enrol(&asked, "h-1".into(), start).unwrap();
        let arrived = |host: &str| Arrived {
            host: host.into(),
            session: "s".into(),
            report: Report { number: 1, ..Report::default() },
            at: start + SignedDuration::from_secs(5),
        };
        store.record(vec![arrived("h-unknown"), arrived("h-1")], &BTreeMap::new()).unwrap();
        let host = store.host("h-1").unwrap().unwrap();
        assert_eq!(host.followed(), Some(Followed { session: "s".into(), last: 1 }));
        assert_eq!(host.last_seen, start + SignedDuration::from_secs(5));
        assert_eq!(store.host("h-unknown").unwrap(), None);
    }
}
