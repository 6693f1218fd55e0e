//! From Docker's answers about containers to [`Container`] and [`ContainerSpec`].

use std::collections::BTreeMap;
use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary, ContainerSummaryStateEnum,
    EndpointSettings, HealthStatusEnum, HostConfig, Mount as DockerMount, MountPoint as DockerMountPoint,
    MountType, PortMap, ThrottleDevice,
};
use kedge_compose::model::{
    Blkio, Device, DeviceRate, DeviceRequest, DeviceWeight, Logging, Mount, MountKind, Port, Resources,
    Ulimit,
};

use super::super::spec::{ContainerSpec, Environment};
use super::super::types::{Container, Detail, Endpoint, Health, MountPoint, PortInUse, State};
use super::convert::{environment, healthcheck, number, ordered, restart, size, text, time};

/// Longest output of a health check that is kept.
const HEALTH_OUTPUT: usize = 1000;

/// A container as listed. Health and exit code are in the words meant for people, on all versions of the API we speak.
pub(super) fn listed(summary: ContainerSummary) -> Container {
    let status = summary.status.unwrap_or_default();
    let names = summary.names.unwrap_or_default();
    // Links of others show up as names with two slashes.
    let own = names.iter().map(|name| name.trim_start_matches('/')).find(|name| !name.contains('/'));
    let ports = summary.ports.unwrap_or_default().into_iter().filter_map(|port| {
        Some(PortInUse {
            host_ip: port.ip.unwrap_or_default(),
            host_port: port.public_port?,
            target: port.private_port,
            protocol: port.typ.map(|typ| typ.to_string()).unwrap_or_default(),
        })
    });
    Container {
        id: summary.id.unwrap_or_default(),
        name: own.unwrap_or_default().to_owned(),
        image_id: summary.image_id.unwrap_or_default(),
        state: match summary.state {
            Some(ContainerSummaryStateEnum::RUNNING | ContainerSummaryStateEnum::STOPPING) => State::Running,
            Some(ContainerSummaryStateEnum::PAUSED) => State::Paused,
            Some(ContainerSummaryStateEnum::RESTARTING) => State::Restarting,
            Some(ContainerSummaryStateEnum::EXITED) => State::Exited,
            Some(ContainerSummaryStateEnum::REMOVING) => State::Removing,
            Some(ContainerSummaryStateEnum::DEAD) => State::Dead,
            Some(ContainerSummaryStateEnum::CREATED | ContainerSummaryStateEnum::EMPTY) | None => {
                State::Created
            }
        },
        health: health_in(&status),
        exit_code: exit_code_in(&status),
        labels: ordered(summary.labels),
        ports: ports.collect(),
        detail: None,
    }
}

fn health_in(status: &str) -> Health {
    if status.ends_with("(healthy)") {
        Health::Healthy
    } else if status.ends_with("(unhealthy)") {
        Health::Unhealthy
    } else if status.ends_with("(health: starting)") {
        Health::Starting
    } else {
        Health::None
    }
}

fn exit_code_in(status: &str) -> Option<i64> {
    status.strip_prefix("Exited (")?.split_once(')')?.0.parse().ok()
}

/// A container with everything.
pub(super) fn inspected(answer: ContainerInspectResponse) -> Container {
    let state = answer.state.unwrap_or_default();
    let config = answer.config.unwrap_or_default();
    let host = answer.host_config.unwrap_or_default();
    let settings = answer.network_settings.unwrap_or_default();
    let networks: BTreeMap<String, EndpointSettings> = ordered(settings.networks);
    let links = networks.values().find_map(|network| network.links.clone()).unwrap_or_default();
    let state_now = match state.status {
        Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::STOPPING) => State::Running,
        Some(ContainerStateStatusEnum::PAUSED) => State::Paused,
        Some(ContainerStateStatusEnum::RESTARTING) => State::Restarting,
        Some(ContainerStateStatusEnum::EXITED) => State::Exited,
        Some(ContainerStateStatusEnum::REMOVING) => State::Removing,
        Some(ContainerStateStatusEnum::DEAD) => State::Dead,
        Some(ContainerStateStatusEnum::CREATED | ContainerStateStatusEnum::EMPTY) | None => State::Created,
    };
    let health = state.health.unwrap_or_default();
    let health_output = health.log.unwrap_or_default().pop().and_then(|last| last.output);
    let health_output = text(health_output).map(|output| output.trim().chars().take(HEALTH_OUTPUT).collect());
    let health_now = match health.status {
        Some(HealthStatusEnum::STARTING) => Health::Starting,
        Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
        Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY) | None => Health::None,
    };
    let spec = ContainerSpec {
        image: answer.image.clone().unwrap_or_default(),
        command: config.cmd,
        entrypoint: config.entrypoint,
        env: Environment(environment(config.env).into_iter().filter(|(_, value)| value.is_some()).collect()),
        labels: ordered(config.labels.clone()),
        user: text(config.user),
        working_dir: text(config.working_dir),
        hostname: text(config.hostname),
        domainname: text(config.domainname),
        tty: config.tty.unwrap_or(false),
        stdin_open: config.open_stdin.unwrap_or(false),
        stop_signal: text(config.stop_signal),
        stop_grace: config
            .stop_timeout
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map(Duration::from_secs),
        healthcheck: healthcheck(config.healthcheck),
        expose: config.exposed_ports.unwrap_or_default().into_iter().collect(),
        links: if links.is_empty() { host.links.clone().unwrap_or_default() } else { links },
        ..host_side(host)
    };
    let in_use = ports_in_use(settings.ports.as_ref());
    let detail = Detail {
        spec,
        networks: networks.into_iter().map(|(name, settings)| (name, endpoint(settings))).collect(),
        mounts: answer.mounts.unwrap_or_default().into_iter().map(mount_point).collect(),
        created_at: time(answer.created.as_deref()),
        started_at: time(state.started_at.as_deref()),
        finished_at: time(state.finished_at.as_deref()),
        restarts: answer.restart_count.and_then(|count| u64::try_from(count).ok()).unwrap_or_default(),
        oom_killed: state.oom_killed.unwrap_or(false),
        error: text(state.error),
        health_output,
        failing_streak: health
            .failing_streak
            .and_then(|streak| u64::try_from(streak).ok())
            .unwrap_or_default(),
    };
    Container {
        id: answer.id.unwrap_or_default(),
        name: answer.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        image_id: answer.image.unwrap_or_default(),
        state: state_now,
        health: health_now,
        exit_code: matches!(state_now, State::Exited | State::Dead | State::Restarting)
            .then_some(state.exit_code)
            .flatten(),
        labels: ordered(config.labels),
        ports: in_use,
        detail: Some(detail),
    }
}

/// What Docker keeps in `HostConfig`.
fn host_side(host: HostConfig) -> ContainerSpec {
    let ulimit = |limit: bollard::models::ResourcesUlimits| {
        (
            limit.name.unwrap_or_default(),
            Ulimit { soft: limit.soft.unwrap_or_default(), hard: limit.hard.unwrap_or_default() },
        )
    };
    let rates = |list: Option<Vec<ThrottleDevice>>| {
        let one = |device: ThrottleDevice| DeviceRate {
            path: device.path.unwrap_or_default(),
            rate: device.rate.unwrap_or_default(),
        };
        list.unwrap_or_default().into_iter().map(one).collect()
    };
    let blkio = Blkio {
        weight: host.blkio_weight.unwrap_or_default(),
        weight_device: host
            .blkio_weight_device
            .unwrap_or_default()
            .into_iter()
            .map(|device| DeviceWeight {
                path: device.path.unwrap_or_default(),
                weight: device.weight.and_then(|weight| u16::try_from(weight).ok()).unwrap_or_default(),
            })
            .collect(),
        read_bps: rates(host.blkio_device_read_bps),
        write_bps: rates(host.blkio_device_write_bps),
        read_iops: rates(host.blkio_device_read_iops),
        write_iops: rates(host.blkio_device_write_iops),
    };
    let blkio = (blkio != Blkio::default()).then_some(blkio);
    ContainerSpec {
        init: host.init,
        annotations: ordered(host.annotations),
        group_add: host.group_add.unwrap_or_default(),
        read_only: host.readonly_rootfs.unwrap_or(false),
        privileged: host.privileged.unwrap_or(false),
        cap_add: host.cap_add.unwrap_or_default(),
        cap_drop: host.cap_drop.unwrap_or_default(),
        security_opt: host.security_opt.unwrap_or_default(),
        ulimits: host.ulimits.unwrap_or_default().into_iter().map(ulimit).collect(),
        sysctls: ordered(host.sysctls),
        extra_hosts: host.extra_hosts.unwrap_or_default(),
        dns: host.dns.unwrap_or_default(),
        dns_search: host.dns_search.unwrap_or_default(),
        dns_opt: host.dns_options.unwrap_or_default(),
        logging: host
            .log_config
            .map(|log| Logging { driver: log.typ.unwrap_or_default(), options: ordered(log.config) }),
        restart: restart(host.restart_policy),
        resources: Resources {
            nano_cpus: number(host.nano_cpus),
            memory: size(host.memory),
            memory_reservation: size(host.memory_reservation),
            memory_swap: number(host.memory_swap),
            memory_swappiness: host.memory_swappiness,
            pids: number(host.pids_limit),
            cpu_shares: number(host.cpu_shares),
            cpu_quota: number(host.cpu_quota),
            cpu_period: number(host.cpu_period),
            cpu_rt_runtime: number(host.cpu_realtime_runtime),
            cpu_rt_period: number(host.cpu_realtime_period),
            cpu_count: number(host.cpu_count),
            cpu_percent: number(host.cpu_percent),
            cpuset: text(host.cpuset_cpus),
            oom_kill_disable: host.oom_kill_disable,
            oom_score_adj: number(host.oom_score_adj),
            blkio,
        },
        ports: published(host.port_bindings.as_ref()),
        mounts: host.mounts.unwrap_or_default().into_iter().map(asked_mount).collect(),
        tmpfs: ordered(host.tmpfs),
        volumes_from: host.volumes_from.unwrap_or_default(),
        network_mode: text(host.network_mode),
        devices: host
            .devices
            .unwrap_or_default()
            .into_iter()
            .map(|device| Device {
                source: device.path_on_host.unwrap_or_default(),
                target: device.path_in_container.unwrap_or_default(),
                permissions: device.cgroup_permissions.unwrap_or_default(),
            })
            .collect(),
        device_cgroup_rules: host.device_cgroup_rules.unwrap_or_default(),
        device_requests: host
            .device_requests
            .unwrap_or_default()
            .into_iter()
            .map(|request| DeviceRequest {
                driver: request.driver.unwrap_or_default(),
                count: number(request.count),
                device_ids: request.device_ids.unwrap_or_default(),
                capabilities: request.capabilities.unwrap_or_default().into_iter().flatten().collect(),
                options: ordered(request.options),
            })
            .collect(),
        shm_size: size(host.shm_size),
        pid: text(host.pid_mode),
        ipc: text(host.ipc_mode),
        uts: text(host.uts_mode),
        userns: text(host.userns_mode),
        cgroupns: host.cgroupns_mode.map(|mode| mode.to_string()),
        cgroup_parent: text(host.cgroup_parent),
        runtime: text(host.runtime),
        isolation: host.isolation.map(|mode| mode.to_string()),
        storage_opt: ordered(host.storage_opt),
        ..ContainerSpec::default()
    }
}

fn published(map: Option<&PortMap>) -> Vec<Port> {
    let mut ports = Vec::new();
    for (key, bindings) in map.into_iter().flatten() {
        let (target, protocol) = key.split_once('/').unwrap_or((key, "tcp"));
        for binding in bindings.iter().flatten() {
            ports.push(Port {
                target: target.parse().unwrap_or_default(),
                protocol: protocol.to_owned(),
                host_ip: binding.host_ip.clone().unwrap_or_default(),
                published: binding.host_port.clone().unwrap_or_default(),
                ..Port::default()
            });
        }
    }
    ports.sort();
    ports
}

fn ports_in_use(map: Option<&PortMap>) -> Vec<PortInUse> {
    let in_use = |port: Port| {
        Some(PortInUse {
            host_ip: port.host_ip,
            host_port: port.published.parse().ok()?,
            target: port.target,
            protocol: port.protocol,
        })
    };
    published(map).into_iter().filter_map(in_use).collect()
}

fn endpoint(settings: EndpointSettings) -> Endpoint {
    let ipam = settings.ipam_config.unwrap_or_default();
    Endpoint {
        network_id: settings.network_id.unwrap_or_default(),
        aliases: settings.aliases.unwrap_or_default().into_iter().collect(),
        ip: text(settings.ip_address),
        ipv4_address: text(ipam.ipv4_address),
        ipv6_address: text(ipam.ipv6_address),
    }
}

fn mount_point(mount: DockerMountPoint) -> MountPoint {
    MountPoint {
        kind: mount.typ.map(|typ| typ.to_string()).unwrap_or_default(),
        name: text(mount.name),
        source: mount.source.unwrap_or_default(),
        target: mount.destination.unwrap_or_default(),
        writable: mount.rw.unwrap_or(true),
    }
}

/// A mount as it was asked for through the Mount API; binds are only in the list of mounts as they are.
fn asked_mount(mount: DockerMount) -> Mount {
    let volume = mount.volume_options.unwrap_or_default();
    let tmpfs = mount.tmpfs_options.unwrap_or_default();
    Mount {
        kind: match mount.typ {
            Some(MountType::BIND) => MountKind::Bind,
            Some(MountType::TMPFS) => MountKind::Tmpfs,
            Some(MountType::NPIPE) => MountKind::Npipe,
            Some(MountType::CLUSTER) => MountKind::Cluster,
            Some(MountType::IMAGE) => MountKind::Image,
            Some(MountType::VOLUME) | None => MountKind::Volume,
        },
        source: mount.source,
        target: mount.target.unwrap_or_default(),
        read_only: mount.read_only.unwrap_or(false),
        volume_nocopy: volume.no_copy.unwrap_or(false),
        subpath: volume.subpath.or(mount.image_options.and_then(|options| options.subpath)),
        tmpfs_size: size(tmpfs.size_bytes),
        tmpfs_mode: tmpfs.mode.and_then(|mode| u32::try_from(mode).ok()),
        ..Mount::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_tells_health_and_exit_code() {
        assert_eq!(health_in("Up 3 minutes (healthy)"), Health::Healthy);
        assert_eq!(health_in("Up 3 minutes (unhealthy)"), Health::Unhealthy);
        assert_eq!(health_in("Up 1 second (health: starting)"), Health::Starting);
        assert_eq!(health_in("Up 3 minutes"), Health::None);
        assert_eq!(exit_code_in("Exited (137) 2 hours ago"), Some(137));
        assert_eq!(exit_code_in("Up 2 hours"), None);
    }
}
