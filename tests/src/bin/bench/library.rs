//! Kedge's engine room by itself: compile, observe, plan, apply and gate, called as the agent calls them, in this
//! process and without bundle, store or state machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kedge::apply::{self, Gate, wait_converged};
use kedge::engine::docker;
use kedge::engine::observe::{Watcher, observe};
use kedge::engine::{Engine, EventHub};
use kedge::plan::desired::{PlacedImage, Placement};
use kedge::plan::{Desired, Memory, Plan, Policy, plan};
use kedge_compose::MemoryFiles;
use kedge_tests::rig::docker::Docker;
use kedge_tests::rig::{images, names};
use tokio_util::sync::CancellationToken;

use super::stack::{Stack, WATCHED};

/// Passes timed with nothing to do: from the cache that events keep fresh, and by looking at everything.
const PASSES: (usize, usize) = (101, 11);

/// All that one round measures.
#[derive(Default)]
pub(crate) struct Times {
    /// From the compose file to everything healthy.
    pub(crate) cold_start: Duration,
    /// A pass with nothing to do, as the resident agent makes it.
    pub(crate) warm: Vec<Duration>,
    /// A pass with nothing to do, with no cache.
    pub(crate) cold: Vec<Duration>,
    /// From the edited compose file to everything healthy.
    pub(crate) update: Duration,
    /// The engine alone: create and start a container like the watched one.
    pub(crate) engine: Vec<Duration>,
}

struct Project {
    engine: Arc<dyn Engine>,
    hub: EventHub,
    name: String,
    images: BTreeMap<String, PlacedImage>,
}

/// Brings the stack up, measures, and takes it away.
pub(crate) fn measure(stack: Stack) -> Times {
    // As many workers as the agent has.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let docker = Docker::of_this_machine();
    let project = Removed { name: names::unique("bench"), docker: &docker };
    runtime.block_on(async {
        let engine: Arc<dyn Engine> = Arc::new(docker::Docker::at(docker.socket().display().to_string()));
        let hub = EventHub::spawn(Arc::clone(&engine));
        hub.up().wait_for(|up| *up).await.expect("an engine");
        let image = engine.inspect_image(images::BUSYBOX).await.expect("the image");
        let placed = PlacedImage { id: image.id, config: image.config };
        let images = BTreeMap::from([(images::BUSYBOX.to_owned(), placed)]);
        let project = Project { engine, hub, name: project.name.clone(), images };
        tokio::time::timeout(Duration::from_secs(600), project.run(stack)).await.expect("an end")
    })
}

impl Project {
    async fn run(&self, stack: Stack) -> Times {
        let mut times = Times::default();
        let (one, two) = (stack.compose_file(1), stack.compose_file(2));
        let began = Instant::now();
        let desired = self.compile(&one);
        self.converge(&desired).await;
        times.cold_start = began.elapsed();
        self.passes(&desired, &mut times).await;
        for _ in 0..3 {
            times.engine.push(self.engine_alone(&desired).await);
        }
        let began = Instant::now();
        self.converge(&self.compile(&two)).await;
        times.update = began.elapsed();
        times
    }

    async fn passes(&self, desired: &Desired, times: &mut Times) {
        let mut watcher = Watcher::new(Arc::clone(&self.engine), &self.hub, desired.scope());
        self.see(&mut watcher, desired).await;
        for _ in 0..PASSES.0 {
            let began = Instant::now();
            self.see(&mut watcher, desired).await;
            times.warm.push(began.elapsed());
        }
        for _ in 0..PASSES.1 {
            watcher.invalidate();
            let began = Instant::now();
            self.see(&mut watcher, desired).await;
            times.cold.push(began.elapsed());
        }
    }

    async fn see(&self, watcher: &mut Watcher, desired: &Desired) {
        let observed = watcher.observe().await.expect("an engine");
        let plan = plan(desired, observed, &Memory::default(), Policy::default());
        assert!(plan.is_empty(), "there is nothing to do: {:?}", plan.describe());
    }

    fn compile(&self, text: &str) -> Desired {
        let mut files = MemoryFiles::new("/project");
        files.insert("compose.yaml", text.as_bytes().to_vec());
        let options = kedge_compose::Options {
            files: vec!["compose.yaml".to_owned()],
            project_directory: "/project".to_owned(),
            project_name: Some(self.name.clone()),
            ..kedge_compose::Options::default()
        };
        let project = kedge_compose::load(&files, &options).expect("a compose file").project;
        let placement = Placement {
            deployment: &self.name,
            generation: 1,
            images: &self.images,
            file: &|_| None,
            relabel: false,
            working_dir: "/project",
            config_files: &[],
            labels: &BTreeMap::new(),
        };
        Desired::compile(&project, &placement).expect("a project that can be placed")
    }

    async fn converge(&self, desired: &Desired) {
        let memory = Memory::default();
        let observed = observe(self.engine.as_ref(), &desired.scope()).await.expect("an engine");
        self.apply(&plan(desired, &observed, &memory, Policy::default())).await;
        let gate = Gate { settle: Duration::ZERO, ..Gate::default() };
        wait_converged(&self.engine, &self.hub, desired, &memory, gate).await.expect("healthy services");
    }

    async fn apply(&self, plan: &Plan) {
        let (options, cancel) = (apply::Options::default(), CancellationToken::new());
        let outcome = apply::apply(&self.engine, &self.hub, plan, options, &cancel, &mut |_| {}).await;
        assert!(outcome.is_done(), "{:?}", outcome.failures().map(ToString::to_string).collect::<Vec<_>>());
    }

    /// Two requests, and nothing around them.
    async fn engine_alone(&self, desired: &Desired) -> Duration {
        let wanted =
            desired.containers.values().find(|wanted| wanted.service == WATCHED).expect("it is there");
        let mut spec = wanted.spec.clone();
        // A name of its own among its neighbours, and labels by which only the cleaning up finds it.
        spec.endpoints.values_mut().for_each(|endpoint| endpoint.aliases.clear());
        spec.labels.retain(|label, _| label == "com.docker.compose.project");
        let name = format!("{}-alone", self.name);
        let began = Instant::now();
        let id = self.engine.create_container(&name, &spec).await.expect("created");
        self.engine.start_container(&id).await.expect("started");
        let took = began.elapsed();
        self.engine.remove_container(&id).await.expect("removed");
        took
    }
}

/// A project that is gone when this goes out of scope.
struct Removed<'a> {
    name: String,
    docker: &'a Docker,
}

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        self.docker.remove_project(&self.name);
    }
}
