//! A host of the tests' own: an outbox in memory, and a note of all that the tether told it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use kedge::host::{Courier, Enrolment, Offers, OutboxEntry};
use kedge::problem::Problem;
use kedge::tether::Anchor;
use kedge_proto::tether::v1::{Report, Subscription};
use kedge_proto::v1::TetherStatus;
use prost::Message;
use tokio::sync::watch;

#[derive(Clone, Default)]
pub(crate) struct Shore(pub(crate) Arc<Inner>);

#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) enrolment: watch::Sender<Option<Arc<Enrolment>>>,
    /// Roots and the fingerprint, as enrolment gave them.
    pub(crate) trusted: Mutex<Option<(Vec<Bytes>, String)>>,
    pub(crate) renewed: watch::Sender<u32>,
    pub(crate) outbox: Mutex<BTreeMap<u64, Bytes>>,
    pub(crate) highest: watch::Sender<u64>,
    pub(crate) acked: watch::Sender<u64>,
    pub(crate) offers: watch::Sender<Vec<Offers>>,
    pub(crate) courier: watch::Sender<Option<Arc<dyn Courier>>>,
    pub(crate) statuses: watch::Sender<Vec<TetherStatus>>,
    pub(crate) full: watch::Sender<u32>,
}

impl Shore {
    /// Puts so many more reports into the outbox, each made for its number.
    pub(crate) fn add(&self, count: u64, make: impl Fn(u64) -> Report) {
        let first = *self.0.highest.borrow() + 1;
        let last = first + count - 1;
        for number in first..=last {
            self.0.outbox.lock().unwrap().insert(number, make(number).encode_to_vec().into());
        }
        self.0.highest.send_replace(last);
    }

    pub(crate) async fn acked(&self, up_to: u64) {
        self.0.acked.subscribe().wait_for(|acked| *acked >= up_to).await.unwrap();
    }

    pub(crate) async fn courier(&self) -> Arc<dyn Courier> {
        let mut courier = self.0.courier.subscribe();
        courier.wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }

    /// Waits for a status that is like this.
    pub(crate) async fn status(&self, like: impl Fn(&TetherStatus) -> bool) -> TetherStatus {
        let mut statuses = self.0.statuses.subscribe();
        let all = statuses.wait_for(|all| all.iter().any(&like)).await.unwrap();
        all.iter().find(|status| like(status)).unwrap().clone()
    }
}

impl Anchor for Shore {
    fn enrolment(&self) -> watch::Receiver<Option<Arc<Enrolment>>> {
        self.0.enrolment.subscribe()
    }

    async fn enrolled(&self, enrolment: Enrolment, roots: Vec<Bytes>, root: &str) -> Result<(), Problem> {
        *self.0.trusted.lock().unwrap() = Some((roots, root.to_owned()));
        self.0.enrolment.send_replace(Some(Arc::new(enrolment)));
        Ok(())
    }

    async fn renewed(&self, enrolment: Enrolment) -> Result<(), Problem> {
        self.0.enrolment.send_replace(Some(Arc::new(enrolment)));
        self.0.renewed.send_modify(|count| *count += 1);
        Ok(())
    }

    fn subscriptions(&self) -> Vec<Subscription> {
        vec![Subscription { product: "shop".into(), stream: "stable".into(), seq: 7 }]
    }

    async fn offered(&self, offers: Offers) {
        self.0.offers.send_modify(|all| all.push(offers));
    }

    fn set_courier(&self, courier: Option<Arc<dyn Courier>>) {
        self.0.courier.send_replace(courier);
    }

    fn set_tether_status(&self, status: TetherStatus) {
        self.0.statuses.send_modify(|all| all.push(status));
    }

    async fn outbox_after(&self, after: u64, most: usize) -> Result<Vec<OutboxEntry>, Problem> {
        let outbox = self.0.outbox.lock().unwrap();
        let entries = outbox.range(after + 1..).take(most);
        Ok(entries.map(|(number, report)| OutboxEntry { number: *number, report: report.clone() }).collect())
    }

    fn outbox_changed(&self) -> watch::Receiver<u64> {
        self.0.highest.subscribe()
    }

    fn outbox_session(&self) -> (String, u64) {
        ("outbox-1".into(), *self.0.acked.borrow())
    }

    async fn outbox_acked(&self, up_to: u64) -> Result<(), Problem> {
        self.0.outbox.lock().unwrap().retain(|number, _| *number > up_to);
        self.0.acked.send_replace(up_to);
        Ok(())
    }

    async fn report_everything(&self) {
        self.0.full.send_modify(|count| *count += 1);
    }
}
