//! From a release and parameters to what the engine should hold on this host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use kedge_bundle::codes::Coded;
use kedge_bundle::layout::Image;
use kedge_bundle::licence::Terms;
use kedge_bundle::licence::standing::MOUNT;
use kedge_bundle::parameters::{self, ParameterKind, Resolved, Secret};
use kedge_bundle::product::{Gate, Product};
use kedge_compose::model::{Mount, MountKind, Project};
use kedge_compose::{MemoryFiles, Options};

use super::adoption::{self, AdoptionRecord};
use super::export::{self, Parts};
use super::files::{self, BundleFile, PROJECT_ROOT, Placer};
use super::secrets::{Secrets, generate};
use crate::codes;
use crate::engine::types::EngineInfo;
use crate::guard;
use crate::images::{self, Content, Loaded};
use crate::licence;
use crate::plan::abilities;
use crate::plan::desired::{Desired, PlacedImage, Placement};
use crate::problem::Problem;
use crate::world::World;

/// A release, compiled for this host.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// What the engine should hold.
    pub desired: Desired,
    /// The images it needs.
    pub images: Vec<Image>,
    /// When it counts as good.
    pub gate: Gate,
    /// Host ports it publishes: address, port, protocol, service.
    pub ports: Vec<PublishedPort>,
    /// Image references as signed, by service.
    pub references: BTreeMap<String, String>,
    /// What is worth telling a person.
    pub warnings: Vec<String>,
}

/// A host port that a release asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedPort {
    /// Service.
    pub service: String,
    /// Address; empty means all.
    pub host_ip: String,
    /// Port.
    pub port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// What a compilation depends on besides the release.
struct Inputs<'a> {
    /// Content store.
    content: &'a Content,
    /// The customer's rules.
    rules: &'a guard::Rules,
    /// The engine.
    engine: &'a EngineInfo,
    /// Deployment.
    deployment: &'a str,
    /// Compose project and what was adopted.
    adoption: &'a AdoptionRecord,
    /// The deployment's own folder.
    folder: PathBuf,
    /// Generation.
    generation: u64,
    /// Parameters as given, without secrets.
    parameters: &'a BTreeMap<String, String>,
    /// What the licence switches on.
    features: &'a BTreeSet<String>,
    /// Write nothing: paths are those that would be.
    dry_run: bool,
}

/// What to compile, for [`compile_aside`].
pub struct Order {
    /// Deployment.
    pub deployment: String,
    /// Generation.
    pub generation: u64,
    /// Parameters as given, without secrets.
    pub parameters: BTreeMap<String, String>,
    /// Release.
    pub loaded: Loaded,
    /// The engine.
    pub engine: EngineInfo,
    /// What the licence switches on: a generation's own, or the licence's for one that is to be made.
    pub features: BTreeSet<String>,
    /// Write nothing.
    pub dry_run: bool,
    /// Compose project and what was adopted; `None`: as the store says.
    pub adoption: Option<AdoptionRecord>,
}

/// [`compile`] on a thread where blocking is allowed.
///
/// # Errors
/// As [`compile`].
pub async fn compile_aside(world: &Arc<World>, order: Order) -> Result<Compiled, Problem> {
    aside(world, order, compile).await
}

/// What an export of the order is made of. Writes nothing, whatever the order says.
///
/// # Errors
/// As [`compile`].
pub async fn parts_aside(world: &Arc<World>, order: Order) -> Result<Parts, Problem> {
    aside(world, Order { dry_run: true, ..order }, parts).await
}

async fn aside<T: Send + 'static>(
    world: &Arc<World>,
    order: Order,
    work: fn(&Inputs<'_>, &Loaded) -> Result<T, Problem>,
) -> Result<T, Problem> {
    let world = Arc::clone(world);
    let done = tokio::task::spawn_blocking(move || {
        let adoption = match order.adoption {
            Some(adoption) => adoption,
            None => adoption::load(&world.store, &order.deployment)?,
        };
        let product = &order.loaded.listing.product;
        if product.licence.is_some() && !order.dry_run {
            licence::deliver(&world, &order.deployment, &product.product)?;
        }
        let inputs = Inputs {
            content: &world.content,
            rules: &world.rules,
            engine: &order.engine,
            deployment: &order.deployment,
            adoption: &adoption,
            folder: world.deployment_folder(&order.deployment),
            generation: order.generation,
            parameters: &order.parameters,
            features: &order.features,
            dry_run: order.dry_run,
        };
        work(&inputs, &order.loaded)
    });
    done.await.map_err(|e| Problem::from_error(&codes::INTERNAL, &e).at("compiling the release"))?
}

/// Secret parameters among those given: taken out, so that no record comes to hold one.
pub fn split_secrets(
    product: &Product,
    given: BTreeMap<String, String>,
) -> (BTreeMap<String, String>, BTreeMap<String, Secret>) {
    let (mut plain, mut secret) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in given {
        if product.parameters.get(&name).is_some_and(|p| p.kind == ParameterKind::Secret) {
            secret.insert(name, Secret::new(value));
        } else {
            plain.insert(name, value);
        }
    }
    (plain, secret)
}

/// Where a path leads once links are followed; what is not there yet stands below what is.
fn really(path: &str) -> Option<String> {
    let path = std::path::Path::new(path);
    let there = path.ancestors().find_map(|above| Some((above, std::fs::canonicalize(above).ok()?)));
    let (above, real) = there?;
    let rest = path.strip_prefix(above).ok()?;
    Some(if rest.as_os_str().is_empty() { real } else { real.join(rest) }.to_string_lossy().into_owned())
}

/// Compiles. Reads and writes files below the deployment's folder; blocks.
///
/// # Errors
/// Everything that is in the way, in one problem.
fn compile(inputs: &Inputs<'_>, release: &Loaded) -> Result<Compiled, Problem> {
    let product = &release.listing.product;
    let values = resolve(inputs, product)?;
    let bundle = bundle_files(inputs.content, release)?;
    let (mut project, mut warnings) = load(inputs, product, &bundle, &values)?;
    let violations = guard::evaluate(inputs.rules, &project, PROJECT_ROOT, &really);
    if !violations.is_empty() {
        return Err(Problem::new(&codes::GUARD, sentences(&violations)));
    }
    if let Some(terms) = &product.licence {
        mount_licence(inputs, terms, &mut project);
    }
    let mut placed = BTreeMap::new();
    for image in &release.listing.images {
        let found = images::config::placed(inputs.content, image, inputs.engine.store)?;
        placed.insert(image.reference.clone(), found);
    }
    let placer = Placer::new(inputs.folder.clone(), &bundle, &project, &values, inputs.dry_run)?;
    let desired = place(inputs, product, &project, &placed, &placer);
    let problems = placer.into_problems();
    if let Some(problem) = problems.into_iter().next() {
        return Err(problem);
    }
    let desired = desired.map_err(|all| Problem::new(&codes::PROJECT, sentences(&all)))?;
    let lacks = abilities::lacks(&desired, inputs.engine);
    if !lacks.refused.is_empty() {
        return Err(Problem::new(&codes::PREFLIGHT, lacks.refused.join("; ")));
    }
    warnings.extend(lacks.warned);
    // The tools are no service's, and have to be there when somebody is let in.
    let is_needed =
        |reference: &str| uses(&project, reference) || product.tools.as_deref() == Some(reference);
    let needed = release.listing.images.iter().filter(|image| is_needed(&image.reference));
    Ok(Compiled {
        desired,
        images: needed.cloned().collect(),
        gate: product.gate,
        ports: published(&project),
        references: project.services.iter().map(|(name, s)| (name.clone(), s.image.clone())).collect(),
        warnings,
    })
}

fn parts(inputs: &Inputs<'_>, release: &Loaded) -> Result<Parts, Problem> {
    let compiled = compile(inputs, release)?;
    let product = release.listing.product.clone();
    let files = bundle_files(inputs.content, release)?;
    Ok(Parts {
        project: inputs.adoption.project.clone(),
        deployment: inputs.deployment.to_owned(),
        profiles: profiles(&product, inputs.features),
        values: resolve(inputs, &product)?,
        files: files.into_iter().map(|(path, file)| (path, (file.bytes, file.executable))).collect(),
        services: export::services(&compiled, &files::data_folder(&inputs.folder)),
        product,
    })
}

/// Those that the vendor turned on, and those that the licence does.
fn profiles(product: &Product, features: &BTreeSet<String>) -> Vec<String> {
    let licensed = product.licence.iter().flat_map(|terms| terms.profiles(features));
    product.profiles.iter().cloned().chain(licensed).collect()
}

/// Parameters with defaults, and secrets: given before, or made now and kept.
fn resolve(inputs: &Inputs<'_>, product: &Product) -> Result<Resolved, Problem> {
    let folder = inputs.folder.join("secrets");
    let secrets = (!inputs.dry_run || folder.is_dir()).then(|| Secrets::open(folder)).transpose()?;
    let mut given = inputs.parameters.clone();
    let questions = product.parameters.iter().filter(|(_, p)| p.kind == ParameterKind::Secret);
    for (name, _) in questions {
        let Some(secrets) = &secrets else { break };
        let kept = match given.get(name) {
            Some(text) => secrets.referred(name, text)?,
            None => secrets.made(name)?,
        };
        if let Some(secret) = kept {
            given.insert(name.clone(), secret.reveal().to_owned());
        }
    }
    let mut resolved = parameters::resolve(&product.parameters, &given)
        .map_err(|e| Problem::from_error(&e.code(), &e).at(format!("product {}", product.product)))?;
    for (name, length) in std::mem::take(&mut resolved.generate) {
        let secret = generate(length);
        if let Some(secrets) = secrets.as_ref().filter(|_| !inputs.dry_run) {
            secrets.keep_made(&name, &secret)?;
        }
        resolved.secrets.insert(name, secret);
    }
    Ok(resolved)
}

fn bundle_files(content: &Content, release: &Loaded) -> Result<BTreeMap<String, BundleFile>, Problem> {
    let executable: BTreeMap<_, _> =
        release.listing.files.iter().map(|f| (f.path.as_str(), f.executable)).collect();
    let files = images::release::files(content, release)?;
    Ok(files
        .into_iter()
        .map(|(path, bytes)| {
            let executable = executable.get(path.as_str()).copied().unwrap_or_default();
            (path, BundleFile { bytes, executable })
        })
        .collect())
}

/// Loads the compose project as the vendor wrote it, with this host's parameters as its environment.
fn load(
    inputs: &Inputs<'_>,
    product: &Product,
    bundle: &BTreeMap<String, BundleFile>,
    values: &Resolved,
) -> Result<(Project, Vec<String>), Problem> {
    let mut files = MemoryFiles::new(PROJECT_ROOT);
    for (path, file) in bundle {
        files.insert(path, file.bytes.clone());
    }
    let mut environment = values.values.clone();
    environment.insert("KEDGE_DEPLOYMENT".to_owned(), inputs.deployment.to_owned());
    environment.insert("KEDGE_VERSION".to_owned(), product.version.clone());
    let profiles = profiles(product, inputs.features);
    let options = Options {
        files: product.compose.clone(),
        project_directory: PROJECT_ROOT.to_owned(),
        project_name: Some(inputs.adoption.project.clone()),
        profiles,
        environment,
        env_files: product.env_files.clone(),
        confined: true,
    };
    no_secret_in_the_open(&files, &options, values)?;
    let loaded = kedge_compose::load(&files, &options)
        .map_err(|e| Problem::new(&codes::PROJECT, e.to_string().trim_end()))?;
    Ok((loaded.project, loaded.warnings.iter().map(ToString::to_string).collect()))
}

/// A secret that is filled into the text of a compose file would be read by everyone who may inspect a container.
fn no_secret_in_the_open(files: &MemoryFiles, options: &Options, values: &Resolved) -> Result<(), Problem> {
    let used = kedge_compose::variables(files, options, &[kedge_bundle::product::EXTENSION])
        .map_err(|e| Problem::new(&codes::PROJECT, e.to_string().trim_end()))?;
    match used.iter().find(|variable| values.secrets.contains_key(&variable.name)) {
        None => Ok(()),
        Some(variable) => Err(Problem::new(
            &codes::PROJECT,
            format!(
                "the parameter {} is a secret and is used as ${{{}}} in a compose file; deliver it with `secrets: {{…: {{environment: {}}}}}`",
                variable.name, variable.name, variable.name
            ),
        )),
    }
}

fn place(
    inputs: &Inputs<'_>,
    product: &Product,
    project: &Project,
    images: &BTreeMap<String, PlacedImage>,
    placer: &Placer<'_>,
) -> Result<Desired, Vec<crate::plan::desired::Problem>> {
    let working_dir = inputs.folder.to_string_lossy();
    let config_files: Vec<String> =
        product.compose.iter().map(|name| inputs.folder.join(name).to_string_lossy().into_owned()).collect();
    let placement = Placement {
        deployment: inputs.deployment,
        generation: inputs.generation,
        images,
        file: &|used| placer.place(used),
        relabel: inputs.engine.is_selinux(),
        working_dir: &working_dir,
        config_files: &config_files,
        labels: &BTreeMap::new(),
    };
    let mut desired = Desired::compile(project, &placement)?;
    desired.adopted = inputs.adoption.adopted.clone();
    Ok(desired)
}

/// Lets the services that ask for it read the licence. The folder is ours, so the customer's rules on host paths say nothing
/// about it.
fn mount_licence(inputs: &Inputs<'_>, terms: &Terms, project: &mut Project) {
    let source = licence::folder(&inputs.folder).to_string_lossy().into_owned();
    for (name, service) in &mut project.services {
        if terms.delivers_to(name) && !service.volumes.iter().any(|mount| mount.target == MOUNT) {
            service.volumes.push(Mount {
                kind: MountKind::Bind,
                source: Some(source.clone()),
                target: MOUNT.to_owned(),
                read_only: true,
                ..Mount::default()
            });
        }
    }
}

/// Containers of a project that are there to stay.
pub fn lasting(desired: &Desired) -> usize {
    let job = |service: &str| desired.services.get(service).is_some_and(|service| service.is_job);
    desired.containers.values().filter(|wanted| !job(&wanted.service)).count()
}

fn uses(project: &Project, reference: &str) -> bool {
    project.services.values().any(|service| service.images().any(|image| image == reference))
}

/// Ports with a fixed number; those of a range are the engine's to choose.
fn published(project: &Project) -> Vec<PublishedPort> {
    let services = project.services.values();
    services
        .flat_map(|service| {
            service.ports.iter().filter_map(|port| {
                Some(PublishedPort {
                    service: service.name.clone(),
                    host_ip: port.host_ip.clone(),
                    port: port.published.parse().ok()?,
                    protocol: port.protocol.clone(),
                })
            })
        })
        .collect()
}

fn sentences(all: &[impl std::fmt::Display]) -> String {
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
