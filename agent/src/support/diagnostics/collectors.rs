//! What products have gathered themselves, see [`kedge_bundle::collectors`]: commands and questions over HTTP in containers of
//! our own beside the service, as in sessions, and files from the service's container.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use kedge_bundle::collectors::{Collector, Source};
use kedge_bundle::support::Target;

use super::super::{Support, container};
use super::{Owner, Wish, file};
use crate::codes;
use crate::engine::Attached;
use crate::problem::Problem;
use crate::store::DeploymentRecord;

/// The folder of the pieces.
pub(super) const FOLDER: &str = "collectors/";
/// How many run at one time.
const AT_ONCE: usize = 4;

/// One of one deployment.
struct Job {
    name: String,
    target: Target,
    collector: Collector,
}

/// What each wanted collector of these targets gives.
pub(super) async fn all(
    support: &Support,
    owner: &Owner,
    targets: &BTreeSet<Target>,
    wish: &Wish,
) -> Vec<(String, Result<String, Problem>)> {
    let jobs = match jobs(support, targets, wish) {
        Ok(jobs) => jobs,
        Err(problem) => return vec![(format!("{FOLDER}problem.txt"), Err(problem))],
    };
    let done = jobs.into_iter().map(|job| {
        let (support, owner) = (support.clone(), owner.clone());
        async move {
            let name = job.name.clone();
            // A task of its own: whatever becomes of whoever asked, its container is removed. Both the agent's end and the
            // owner's wait for it.
            let (all, its) = (support.inner.tasks.clone(), owner.tasks.clone());
            let task = all.spawn(its.track_future(async move { run(&support, &owner, &job).await }));
            let said = match task.await {
                Ok(said) => said,
                Err(error) => Err(Problem::from_error(&codes::INTERNAL, &error)),
            };
            (name, said)
        }
    });
    stream::iter(done).buffered(AT_ONCE).collect().await
}

fn jobs(support: &Support, targets: &BTreeSet<Target>, wish: &Wish) -> Result<Vec<Job>, Problem> {
    let world = &support.inner.world;
    let mut jobs = Vec::new();
    for record in world.store.scan::<DeploymentRecord>("")? {
        if !targets.iter().any(|target| target.deployment == record.name) {
            continue;
        }
        // One that has not been installed yet declares nothing.
        let Some(loaded) = container::active(world, &record.name)? else { continue };
        for (name, collector) in loaded.listing.product.diagnostics {
            let service = Some(collector.service.clone());
            let target = Target { deployment: record.name.clone(), service };
            let name = format!("{FOLDER}{:.40}/{name}.txt", record.name);
            if wish.wants(&name) && targets.iter().any(|wide| wide.covers(&target)) {
                jobs.push(Job { name, target, collector });
            }
        }
    }
    Ok(jobs)
}

async fn run(support: &Support, owner: &Owner, job: &Job) -> Result<String, Problem> {
    let Job { target, collector, .. } = job;
    let limit = Duration::from_secs(collector.timeout_seconds);
    let most = usize::try_from(collector.max_bytes).unwrap_or(usize::MAX);
    match &collector.source {
        Source::Command(words) => beside(support, owner, target, words, limit, most).await,
        Source::Http { port, path } => {
            // Without `-T`: its time is ours to count, and some builds of busybox cannot.
            let url = format!("http://127.0.0.1:{port}{path}");
            let words = ["wget", "-q", "-O", "-", &url].map(str::to_owned);
            beside(support, owner, target, &words, limit, most).await
        }
        Source::File(path) => {
            let read = file::read(&support.inner.world, target, path, most);
            let late =
                || Problem::new(&codes::SUPPORT_STATE, format!("not read within {} s", limit.as_secs()));
            // Cancel safe: what was read is dropped.
            tokio::select! {
                read = tokio::time::timeout(limit, read) => read.map_err(|_| late())?,
                () = owner.cancel.cancelled() => Err(ended()),
            }
        }
    }
}

/// What a command says in a container beside the service; its container is removed before this returns.
async fn beside(
    support: &Support,
    owner: &Owner,
    target: &Target,
    words: &[String],
    limit: Duration,
    most: usize,
) -> Result<String, Problem> {
    if owner.cancel.is_cancelled() {
        return Err(ended());
    }
    let ends = container::Ends::Output;
    let (id, Attached { mut output, .. }) =
        container::launch(support, (&owner.label, 0), target, words, ends, &owner.cancel).await?;
    let mut tail = Tail { bytes: Vec::new(), most, cut: false };
    let heard = async {
        while let Some(piece) = output.next().await {
            match piece {
                Ok(piece) => tail.take(&piece.bytes),
                Err(error) => return format!("[the engine says no more: {error}]\n"),
            }
        }
        match support.inner.world.engine.wait_container(&id).await {
            Ok(0) => String::new(),
            Ok(code) => format!("[it ended with code {code}]\n"),
            Err(error) => format!("[{error}]\n"),
        }
    };
    // Cancel safe: what has not been heard by then is not.
    let end = tokio::select! {
        end = tokio::time::timeout(limit, heard) => Some(end),
        () = owner.cancel.cancelled() => None,
    };
    container::remove(support, &owner.label, &id).await;
    let end = end.ok_or_else(ended)?;
    let mut text = tail.text();
    let end = end.unwrap_or_else(|_| format!("[it was ended after {} s]\n", limit.as_secs()));
    if !end.is_empty() && !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text + &end)
}

fn ended() -> Problem {
    Problem::new(&codes::SUPPORT_STATE, "whoever it was gathered for has ended")
}

/// The end of what was said.
pub(super) struct Tail {
    pub(super) bytes: Vec<u8>,
    pub(super) most: usize,
    pub(super) cut: bool,
}

impl Tail {
    pub(super) fn take(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        // Not for every piece: what goes is moved over.
        if self.bytes.len() > 2 * self.most {
            self.trim();
        }
    }

    fn trim(&mut self) {
        if let Some(surplus) = self.bytes.len().checked_sub(self.most).filter(|surplus| *surplus > 0) {
            self.bytes.drain(..surplus);
            self.cut = true;
        }
    }

    pub(super) fn text(mut self) -> String {
        self.trim();
        // A line of which the beginning is lost may hold the end of a secret.
        let from = if self.cut {
            self.bytes.iter().position(|b| *b == b'\n').map_or(self.bytes.len(), |at| at + 1)
        } else {
            0
        };
        let text = String::from_utf8_lossy(&self.bytes[from..]);
        if self.cut { format!("[the beginning is left out]\n{text}") } else { text.into_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{ASK, Rig, until};
    use super::*;

    #[test]
    fn of_too_much_whole_lines_at_the_end_are_kept() {
        let said = |most, pieces: &[&str]| {
            let mut tail = Tail { bytes: Vec::new(), most, cut: false };
            for piece in pieces {
                tail.take(piece.as_bytes());
                assert!(tail.bytes.len() <= 2 * most + piece.len());
            }
            tail.text()
        };
        assert_eq!(said(10, &["abc\n", "def\n"]), "abc\ndef\n");
        assert_eq!(said(10, &["first\n", "second\n", "3\n"]), "[the beginning is left out]\nsecond\n3\n");
        assert_eq!(said(8, &["first\n", "second\n", "3\n"]), "[the beginning is left out]\n3\n");
        assert_eq!(said(6, &["no line's end in it"]), "[the beginning is left out]\n");
    }

    #[tokio::test]
    async fn what_runs_for_a_session_is_labelled_with_it_and_ends_with_it() {
        let rig = Rig::new();
        let support = rig.start(ASK).await;
        let owner = Owner { label: "cafe".repeat(8), ..Owner::customer(&support) };
        let (target, words) = ("shop/web".parse().unwrap(), ["sleep".to_owned()]);
        let said = beside(&support, &owner, &target, &words, Duration::from_secs(60), 1000);
        let ended = async {
            until(|| rig.containers(&owner.label) == 1).await;
            owner.cancel.cancel();
        };
        let (said, ()) = tokio::join!(said, ended);
        assert!(said.unwrap_err().message.contains("has ended"));
        assert_eq!(rig.containers(&owner.label), 0);
        // Nor does anything begin for it.
        let none = beside(&support, &owner, &target, &words, Duration::from_secs(60), 1000).await;
        assert!(none.is_err());
        assert_eq!(
            rig.engine.calls().iter().filter(|call| call.starts_with("create kedge-support")).count(),
            1
        );
    }

    #[tokio::test]
    async fn the_agent_ends_what_runs_for_the_customer_before_it_waits_for_it() {
        let rig = Rig::new();
        let support = rig.start(ASK).await;
        let owner = Owner::customer(&support);
        let label = owner.label.clone();
        let task = support.inner.tasks.clone().spawn({
            let support = support.clone();
            async move {
                let (target, words) = ("shop/web".parse().unwrap(), ["sleep".to_owned()]);
                beside(&support, &owner, &target, &words, Duration::from_secs(60), 1000).await
            }
        });
        until(|| rig.containers(&label) == 1).await;
        tokio::time::timeout(Duration::from_secs(20), support.stop()).await.unwrap();
        assert!(task.await.unwrap().is_err());
        assert_eq!(rig.containers(&label), 0);
    }
}
