//! Bringing a release here on request: from a file, or one that the hub offers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kedge_bundle::codes::Coded;
use kedge_bundle::layout::Content as Listing;
use kedge_bundle::verify::{Context, Refusal, Trust, Verified};
use tokio::sync::mpsc;

use super::offers::reference;
use super::{ByteStream, DEFAULT_STREAM, DeployOptions, Host, ImportOptions, Progress, request_or_fresh};
use crate::codes;
use crate::deploy::adoption::AdoptionRecord;
use crate::deploy::{self, Command, Install, preview};
use crate::images::intake::{self, Layers, OnBytes, Refused, Taken};
use crate::images::{Loaded, StreamReader, load, release};
use crate::problem::Problem;
use crate::store::{DeploymentRecord, Origin, Writes};
use kedge_proto::local::v1::Diff;
use kedge_proto::v1;

/// How long `deploy` waits for the hub to offer what was asked for.
const OFFER: Duration = Duration::from_secs(15);

/// What was found out while it was decided whether a release is taken.
#[derive(Default)]
struct Decision {
    /// The release, once its signatures are not what is in question any more.
    release: Option<String>,
    /// What is taken over with it.
    adoption: Option<AdoptionRecord>,
    /// The bundle is in order, and only what was asked for cannot be done.
    is_untold: bool,
}

impl Host {
    pub(super) async fn run_import(
        self,
        options: ImportOptions,
        bytes: ByteStream,
        progress: mpsc::Sender<Progress>,
    ) {
        if let Err(problem) = self.import_file(options, bytes, &progress).await {
            let _ = progress.send(Progress::Failed(problem)).await;
        }
    }

    async fn import_file(
        &self,
        options: ImportOptions,
        bytes: ByteStream,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<(), Problem> {
        if options.stage_only && options.adopt.is_some() {
            let why = "what is only stored cannot adopt a compose project: say one or the other";
            return Err(Problem::new(&codes::STAGED_ADOPTION, why));
        }
        if let Some(name) = &options.deployment {
            deploy::check_name(name)?;
        }
        check_parameter_names(options.parameters.keys())?;
        let world = &self.inner.world;
        let intake_turn = world.intake.lock().await;
        let (taken, trust, adoption) = self.read(&options, bytes, progress).await?;
        let verified = &taken.admitted.verified;
        let target = release::reference(&verified.release, &verified.digest);
        let name = options.deployment.clone().unwrap_or_else(|| target.product.clone());
        if options.dry_run {
            let Taken { admitted, added, .. } = taken;
            let (verified, listing) = (&admitted.verified, &admitted.content);
            let plan = self.plan_of(&name, verified, listing, options.parameters, adoption).await;
            added.forget(&world.content, &*world.engine).await;
            let message = format!("{} is valid; nothing was changed", deploy::sentence(&target));
            let done = Progress::Would { message, diff: Box::new(plan?) };
            let _ = progress.send(done).await;
            return Ok(());
        }
        deploy::take_in(world, &trust, taken, "file").await?;
        if options.stage_only {
            let message = format!("{} is verified and stored", deploy::sentence(&target));
            let done = Progress::Done { message, deployment: None, plan: Vec::new(), kept: Vec::new() };
            let _ = progress.send(done).await;
            return Ok(());
        }
        if let Some(adoption) = adoption {
            self.write_adoption(&adoption, &target).await?;
        }
        // Not before the adoption is on disk: the next import asks whether what it would adopt is another's.
        drop(intake_turn);
        let install = Install {
            id: request_or_fresh(&options.request_id),
            release: target,
            given: options.parameters,
            origin: Origin::Local,
            watcher: Some(progress.clone()),
        };
        self.install(&name, install).await
    }

    /// Reads the bundle to its end: verified, wanted, and its layers where they belong. What is refused leaves nothing behind
    /// but a line in the audit log.
    async fn read(
        &self,
        options: &ImportOptions,
        bytes: ByteStream,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<(Taken, Trust, Option<AdoptionRecord>), Problem> {
        let world = &self.inner.world;
        let trust = self.pinned(world.trust.lock().await.as_ref(), options.root_sha256.as_deref())?;
        let site = world.site()?;
        let now = world.time.now();
        let room = deploy::room(world);
        let on_bytes = report_bytes(progress.clone(), "verifying the bundle");
        let (host, options, verifying) = (self.clone(), options.clone(), trust.clone());
        let runtime = tokio::runtime::Handle::current();
        let read = tokio::task::spawn_blocking(move || {
            let context = Context { site: site.as_deref(), ..Context::at(now) };
            let source = StreamReader::new(bytes, &runtime);
            let mut decision = Decision::default();
            let mut decide = |verified: &Verified, listing: &Listing| {
                runtime.block_on(host.decide(&options, verified, listing, &mut decision))
            };
            let bases = deploy::bases(&host.inner.world);
            let taken =
                intake::from_file(source, &bases, &verifying, &context, &room, &mut decide, &on_bytes);
            (taken, decision)
        });
        let failed = |e| Problem::from_error(&codes::INTERNAL, &e).at("reading the bundle");
        let (taken, decision) = read.await.map_err(failed)?;
        match taken {
            Ok(taken) => Ok((taken, trust, decision.adoption)),
            Err(refused) => {
                let Refused { problem, added } = *refused;
                added.forget(&world.content, &*world.engine).await;
                if !decision.is_untold {
                    deploy::audit_refusal(world, "file", decision.release, &problem).await?;
                }
                Err(problem)
            }
        }
    }

    /// Whether a release that is verified but for its layers is taken, and where those go. From here on the engine is
    /// changed, so every reason to refuse it that is not in the layers has its place in here.
    async fn decide(
        &self,
        options: &ImportOptions,
        verified: &Verified,
        listing: &Listing,
        decision: &mut Decision,
    ) -> Result<Layers, Problem> {
        let world = &self.inner.world;
        let target = release::reference(&verified.release, &verified.digest);
        let name = options.deployment.clone().unwrap_or_else(|| target.product.clone());
        deploy::check_name(&name)?;
        decision.release = Some(deploy::sentence(&target));
        self.same_product(&name, &target.product)?;
        self.same_stream(&name, &target.stream)?;
        decision.release = None;
        if let Some(adopt) = &options.adopt {
            decision.is_untold = true;
            let (given, dry_run) = (&options.parameters, options.dry_run);
            let adoption = self.adoptable(&name, adopt, (verified, listing), given, dry_run).await?;
            decision.adoption = Some(adoption);
            decision.is_untold = false;
        }
        if options.dry_run {
            return Ok(Layers::Verify);
        }
        let known = world.engine_kind.borrow().clone();
        // Layers of a thin bundle are made when all of it has come.
        let is_streamed = !options.stage_only && verified.delta.is_none();
        let Some(info) = known.filter(|_| is_streamed) else { return Ok(Layers::Store) };
        let blobs: Arc<dyn load::Blobs> = Arc::new(world.content.clone());
        match load::stream(&world.engine, &info, &listing.images, &blobs).await {
            Ok(streamed) => Ok(Layers::Engine(streamed)),
            Err(error) if error.is_engine_away() => Ok(Layers::Store),
            Err(error) => Err(Problem::from_error(error.code(), &error)),
        }
    }

    /// What installing it would do. Nothing is written but blobs, which the caller removes.
    pub(super) async fn plan_of(
        &self,
        name: &str,
        verified: &Verified,
        listing: &Listing,
        given: BTreeMap<String, String>,
        adoption: Option<AdoptionRecord>,
    ) -> Result<Diff, Problem> {
        let loaded = Loaded {
            digest: verified.digest,
            release: verified.release.clone(),
            epoch: verified.root.epoch,
            listing: listing.clone(),
            small_blobs: std::collections::BTreeSet::new(),
        };
        let request = preview::Request { deployment: name.to_owned(), loaded, given, adoption };
        preview::of_release(&self.inner.world, request).await
    }

    pub(super) async fn run_deploy(self, options: DeployOptions, progress: mpsc::Sender<Progress>) {
        if let Err(problem) = self.deploy_offered(options, &progress).await {
            let _ = progress.send(Progress::Failed(problem)).await;
        }
    }

    async fn deploy_offered(
        &self,
        options: DeployOptions,
        progress: &mpsc::Sender<Progress>,
    ) -> Result<(), Problem> {
        let stream = options.stream.clone().unwrap_or_else(|| DEFAULT_STREAM.to_owned());
        let name = options.deployment.clone().unwrap_or_else(|| options.product.clone());
        deploy::check_name(&name)?;
        check_parameter_names(options.parameters.keys())?;
        self.same_product(&name, &options.product)?;
        if self.inner.enrolment.borrow().is_none() {
            return Err(Problem::new(&codes::NOT_ENROLLED, "this host takes releases from files only"));
        }
        let target = self.await_offer(&options.product, &stream).await?;
        if options.dry_run {
            let message =
                format!("{} would be installed as {name}; nothing was changed", deploy::sentence(&target));
            let digest = release::parse_digest(&target.digest)?;
            // What has not been fetched cannot be compared.
            let done = if self.inner.world.content.has_release(&digest) {
                let loaded = release::load(&self.inner.world.content, &digest)?;
                let given = options.parameters;
                let request = preview::Request { deployment: name, loaded, given, adoption: None };
                let diff = Box::new(preview::of_release(&self.inner.world, request).await?);
                Progress::Would { message, diff }
            } else {
                Progress::Done { message, deployment: None, plan: Vec::new(), kept: Vec::new() }
            };
            let _ = progress.send(done).await;
            return Ok(());
        }
        let install = Install {
            id: request_or_fresh(&options.request_id),
            release: target,
            given: options.parameters,
            origin: Origin::Local,
            watcher: Some(progress.clone()),
        };
        self.install(&name, install).await
    }

    async fn await_offer(&self, product: &str, stream: &str) -> Result<crate::store::ReleaseRef, Problem> {
        let mut changed = self.inner.offers_changed.subscribe();
        let find = || {
            let offered = self.inner.offered.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            offered.iter().find(|o| o.product == product && o.stream == stream).cloned()
        };
        let found = tokio::time::timeout(OFFER, async {
            loop {
                changed.mark_unchanged();
                if let Some(offer) = find() {
                    return Some(offer);
                }
                if changed.changed().await.is_err() {
                    return None;
                }
            }
        });
        let offer = found.await.ok().flatten().ok_or_else(|| {
            Problem::new(&codes::NOT_OFFERED, format!("nothing is offered of {product} on stream {stream}"))
        })?;
        reference(&offer)
    }

    /// Hands an installation to the deployment's task, which is made if there is none.
    pub(super) async fn install(&self, name: &str, install: Install) -> Result<(), Problem> {
        let mut command = Command::Install(install);
        // A task that is just ending gives the request back; then a new one is made.
        for _ in 0..3 {
            let handle = match self.handle(name) {
                Ok(handle) => handle,
                Err(_) => self.make(name, &command).await?,
            };
            match handle.send(command).await {
                Ok(()) => return Ok(()),
                Err(back) => command = back,
            }
            self.deployments().remove(name);
        }
        Err(Problem::new(&codes::BUSY, format!("deployment {name} is just ending; try again")))
    }

    async fn make(&self, name: &str, command: &Command) -> Result<deploy::Handle, Problem> {
        let Command::Install(install) = command else {
            return Err(Problem::new(&codes::NO_DEPLOYMENT, format!("there is no deployment {name}")));
        };
        let record = DeploymentRecord {
            name: name.to_owned(),
            product: install.release.product.clone(),
            stream: install.release.stream.clone(),
            ..DeploymentRecord::default()
        };
        self.inner.world.store.commit(Writes::new().put(&record)?).await?;
        Ok(self.start(record))
    }

    /// Whoever holds a stick must not be able to move a deployment to another line of releases unnoticed.
    fn same_stream(&self, name: &str, stream: &str) -> Result<(), Problem> {
        match self.inner.world.store.get::<DeploymentRecord>(name)? {
            Some(record) if record.active.is_some() && record.stream != stream => {
                let refusal = Refusal::WrongStream { wanted: record.stream, found: stream.to_owned() };
                Err(Problem::from_error(&refusal.code(), &refusal).at(format!("deployment {name}")))
            }
            _ => Ok(()),
        }
    }

    fn same_product(&self, name: &str, product: &str) -> Result<(), Problem> {
        match self.inner.world.store.get::<DeploymentRecord>(name)? {
            Some(record) if record.product != product => Err(Problem::new(
                &codes::OTHER_PRODUCT,
                format!("deployment {name} runs {}, not {product}", record.product),
            )),
            _ => Ok(()),
        }
    }
}

/// Names become file names before the product is known that declares them.
fn check_parameter_names<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<(), Problem> {
    let good = |name: &String| {
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        first && name.len() <= 128 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    match names.find(|name| !good(name)) {
        Some(name) => {
            Err(Problem::new(&codes::PARAMETERS, format!("{name:.80?} cannot be a parameter's name")))
        }
        None => Ok(()),
    }
}

/// Progress about a hundred times in all, dropped where nobody reads fast enough.
fn report_bytes(progress: mpsc::Sender<Progress>, message: &str) -> OnBytes {
    let (message, told) = (message.to_owned(), std::sync::atomic::AtomicU64::new(0));
    Arc::new(move |done_bytes, total_bytes| {
        let before = told.load(std::sync::atomic::Ordering::Relaxed);
        if done_bytes >= total_bytes || done_bytes.saturating_sub(before) > total_bytes / 100 {
            told.store(done_bytes, std::sync::atomic::Ordering::Relaxed);
            let step = Progress::Step {
                phase: v1::Phase::Fetching,
                message: message.clone(),
                done_bytes,
                total_bytes,
            };
            let _ = progress.try_send(step);
        }
    })
}
