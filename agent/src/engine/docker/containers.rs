//! Verbs about containers.

use std::time::Duration;

use bollard::errors::Error as Cause;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerUpdateBody, ExecConfig};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, KillContainerOptionsBuilder,
    ListContainersOptionsBuilder, RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder,
    ResizeContainerTTYOptionsBuilder, StopContainerOptionsBuilder, UploadToContainerOptionsBuilder,
    WaitContainerOptionsBuilder,
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};

use super::super::TarStream;
use super::super::error::{Error, Kind, Result};
use super::super::exec::{Exec, Finished, Tail};
use super::super::spec::{ContainerSpec, Update};
use super::super::types::{Container, Filter};
use super::convert::{restart_policy, signed};
use super::errors::{Context, convert};
use super::{create, filters, inspect, needs, networks, speaks};

/// An error of this kind counts as done.
pub(super) fn forgive(result: Result<()>, kind: Kind) -> Result<()> {
    match result {
        Err(error) if error.kind == kind => Ok(()),
        result => result,
    }
}

pub(super) async fn list(client: &bollard::Docker, filter: &Filter) -> Result<Vec<Container>> {
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters(filter)).build();
    let summaries = client.list_containers(Some(options)).await.context(|| "list containers".to_owned())?;
    let wanted = |container: &Container| filter.names.is_empty() || filter.names.contains(&container.name);
    Ok(summaries.into_iter().map(inspect::listed).filter(wanted).collect())
}

pub(super) async fn inspect(client: &bollard::Docker, id: &str) -> Result<Container> {
    let answer = client.inspect_container(id, None).await.context(|| format!("inspect container {id}"))?;
    Ok(inspect::inspected(answer))
}

pub(super) async fn create(client: &bollard::Docker, name: &str, spec: &ContainerSpec) -> Result<String> {
    let what = || format!("create container {name}");
    let mut spec = spec.clone();
    if spec.mac_address.is_some() || spec.endpoints.values().any(|endpoint| endpoint.mac_address.is_some()) {
        needs(client, 44, &what(), "25")?;
    }
    for mode in [&mut spec.network_mode, &mut spec.pid, &mut spec.ipc].into_iter().flatten() {
        // By ID, so that a container of that name made later is told apart.
        if let Some(joined) = mode.strip_prefix("container:") {
            *mode = format!("container:{}", inspect(client, joined).await?.id);
        }
    }
    let mac_address = spec.mac_address.take();
    let ranked: Vec<(String, kedge_compose::model::Attachment)> =
        create::ranked(&spec).into_iter().map(|(name, endpoint)| (name.clone(), endpoint.clone())).collect();
    let mut ranked = ranked;
    if let (Some(mac_address), Some((_, first))) = (mac_address, ranked.first_mut()) {
        first.mac_address.get_or_insert(mac_address);
    }
    let all: Vec<_> = ranked.iter().map(|(name, endpoint)| (name, endpoint)).collect();
    // Older engines take one network at creation.
    let (at_once, later) = all.split_at(if speaks(client, 44) { all.len() } else { all.len().min(1) });
    let mut options = CreateContainerOptionsBuilder::new().name(name);
    if let Some(platform) = &spec.platform {
        options = options.platform(platform);
    }
    let created =
        client.create_container(Some(options.build()), create::body(&spec, at_once)).await.context(what)?;
    for (network, endpoint) in later {
        if let Err(error) = networks::connect(client, network, &created.id, endpoint, &spec.links).await {
            remove(client, &created.id).await?;
            return Err(error);
        }
    }
    Ok(created.id)
}

pub(super) async fn start(client: &bollard::Docker, id: &str) -> Result<()> {
    client.start_container(id, None).await.context(|| format!("start container {id}"))
}

pub(super) async fn stop(client: &bollard::Docker, id: &str, grace: Option<Duration>) -> Result<()> {
    let options = grace.map(|grace| {
        let seconds = i32::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i32::MAX);
        StopContainerOptionsBuilder::new().t(seconds).build()
    });
    client.stop_container(id, options).await.context(|| format!("stop container {id}"))
}

pub(super) async fn kill(client: &bollard::Docker, id: &str, signal: &str) -> Result<()> {
    let options = KillContainerOptionsBuilder::new().signal(signal).build();
    client.kill_container(id, Some(options)).await.context(|| format!("send {signal} to container {id}"))
}

pub(super) async fn unpause(client: &bollard::Docker, id: &str) -> Result<()> {
    let result = client.unpause_container(id).await.context(|| format!("unpause container {id}"));
    match result {
        Err(error) if error.cause.contains("is not paused") => Ok(()),
        result => result,
    }
}

pub(super) async fn remove(client: &bollard::Docker, id: &str) -> Result<()> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(false).build();
    let result =
        client.remove_container(id, Some(options)).await.context(|| format!("remove container {id}"));
    match forgive(result, Kind::NotFound) {
        // Somebody else is removing it; it will be gone.
        Err(error) if error.cause.contains("is already in progress") => Ok(()),
        result => result,
    }
}

pub(super) async fn rename(client: &bollard::Docker, id: &str, name: &str) -> Result<()> {
    let options = RenameContainerOptionsBuilder::new().name(name).build();
    let result =
        client.rename_container(id, options).await.context(|| format!("rename container {id} to {name}"));
    match result {
        Err(error)
            if error.kind == Kind::Refused || error.kind == Kind::NameTaken || error.kind == Kind::Engine =>
        {
            // Docker refuses to give a container the name it has.
            if inspect(client, id).await.is_ok_and(|container| container.name == name) {
                Ok(())
            } else {
                Err(error)
            }
        }
        result => result,
    }
}

pub(super) async fn update(client: &bollard::Docker, id: &str, update: &Update) -> Result<()> {
    let mut body = ContainerUpdateBody {
        restart_policy: update.restart.map(restart_policy),
        ..ContainerUpdateBody::default()
    };
    if let Some(limits) = &update.resources {
        body.nano_cpus = limits.nano_cpus;
        body.memory = signed(limits.memory);
        body.memory_reservation = signed(limits.memory_reservation);
        // At creation the engine allows as much swap as memory; an update has to say so, or a raised limit contradicts the old sum.
        body.memory_swap =
            limits.memory_swap.or_else(|| signed(limits.memory).map(|memory| memory.saturating_mul(2)));
        body.pids_limit = limits.pids;
        body.cpu_shares = limits.cpu_shares;
        body.cpu_quota = limits.cpu_quota;
        body.cpu_period = limits.cpu_period;
        body.cpuset_cpus.clone_from(&limits.cpuset);
    }
    client.update_container(id, body).await.context(|| format!("update container {id}"))
}

pub(super) async fn wait(client: &bollard::Docker, id: &str) -> Result<i64> {
    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
    let what = || format!("wait for container {id}");
    match client.wait_container(id, Some(options)).next().await {
        Some(Ok(answer)) => Ok(answer.status_code),
        Some(Err(Cause::DockerContainerWaitError { code, .. })) => Ok(code),
        Some(Err(error)) => Err(convert(what(), &error)),
        None => Err(Error::new(Kind::Unreachable, what(), "the engine closed the connection")),
    }
}

pub(super) async fn exec(client: &bollard::Docker, id: &str, command: &Exec) -> Result<Finished> {
    let what = || format!("run {} in container {id}", command.command.first().map_or("", String::as_str));
    let options = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(command.command.clone()),
        env: Some(command.variables()),
        user: command.user.clone(),
        working_dir: command.working_dir.clone(),
        privileged: Some(command.privileged),
        ..ExecConfig::default()
    };
    let exec = client.create_exec(id, options).await.context(what)?.id;
    let mut tail = Tail::default();
    if let StartExecResults::Attached { mut output, .. } =
        client.start_exec(&exec, None::<StartExecOptions>).await.context(what)?
    {
        while let Some(chunk) = output.next().await {
            tail.take(&chunk.context(what)?.into_bytes());
        }
    }
    let code = client.inspect_exec(&exec).await.context(what)?.exit_code.unwrap_or(-1);
    Ok(Finished { code, output: tail.into_lines() })
}

pub(super) async fn resize(client: &bollard::Docker, id: &str, rows: u16, columns: u16) -> Result<()> {
    let options = ResizeContainerTTYOptionsBuilder::new().h(rows.into()).w(columns.into()).build();
    client
        .resize_container_tty(id, options)
        .await
        .context(|| format!("resize the terminal of container {id}"))
}

pub(super) async fn put_archive(client: &bollard::Docker, id: &str, folder: &str, tar: Bytes) -> Result<()> {
    let options = UploadToContainerOptionsBuilder::new().path(folder).build();
    let what = || format!("copy files into container {id}");
    client.upload_to_container(id, Some(options), bollard::body_full(tar)).await.context(what)
}

pub(super) fn get_archive(client: &bollard::Docker, id: &str, path: &str) -> TarStream {
    let options = DownloadFromContainerOptionsBuilder::new().path(path).build();
    client.download_from_container(id, Some(options)).map_err(std::io::Error::other).boxed()
}
