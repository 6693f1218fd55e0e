//! From a [`ContainerSpec`] to the body of Docker's create request.

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, EndpointIpamConfig, EndpointSettings, HostConfig,
    HostConfigCgroupnsModeEnum, HostConfigIsolationEnum, HostConfigLogConfig, Mount as DockerMount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountImageOptions, MountTmpfsOptions, MountType,
    MountVolumeOptions, NetworkingConfig, PortBinding, PortMap, ResourcesBlkioWeightDevice, ResourcesUlimits,
    ThrottleDevice,
};
use kedge_compose::model::{Attachment, DeviceRate, Mount, MountKind, Port};

use super::super::spec::ContainerSpec;
use super::convert::{health_config, restart_policy, signed, some, unordered};

/// Option of a network driver: the interface's name in the container.
const INTERFACE_NAME: &str = "com.docker.network.endpoint.ifname";

/// Networks of a spec, the one that gives the default route first: higher priority, then name.
pub(super) fn ranked(spec: &ContainerSpec) -> Vec<(&String, &Attachment)> {
    let mut endpoints: Vec<_> = spec.endpoints.iter().collect();
    endpoints.sort_by_key(|(name, attachment)| (-attachment.priority, (*name).clone()));
    endpoints
}

/// The whole request, with these networks attached at once.
pub(super) fn body(spec: &ContainerSpec, at_once: &[(&String, &Attachment)]) -> ContainerCreateBody {
    let endpoints = at_once
        .iter()
        .map(|(name, attachment)| ((*name).clone(), endpoint(attachment, &spec.links)))
        .collect::<HashMap<_, _>>();
    let exposed = spec.expose.iter().cloned().chain(spec.ports.iter().map(port_key));
    let mut exposed: Vec<String> = exposed.collect();
    exposed.sort();
    exposed.dedup();
    ContainerCreateBody {
        hostname: spec.hostname.clone(),
        domainname: spec.domainname.clone(),
        user: spec.user.clone(),
        exposed_ports: some(&exposed),
        tty: Some(spec.tty),
        open_stdin: Some(spec.stdin_open),
        stdin_once: Some(spec.stdin_once),
        env: some(
            &spec
                .env
                .0
                .iter()
                .map(|(name, value)| match value {
                    Some(value) => format!("{name}={value}"),
                    None => name.clone(),
                })
                .collect::<Vec<_>>(),
        ),
        cmd: spec.command.clone(),
        entrypoint: spec.entrypoint.clone(),
        healthcheck: spec.healthcheck.as_ref().map(health_config),
        image: Some(spec.image.clone()),
        working_dir: spec.working_dir.clone(),
        labels: unordered(&spec.labels),
        stop_signal: spec.stop_signal.clone(),
        // Docker counts in seconds; a fraction is rounded up, never to "kill at once".
        stop_timeout: spec
            .stop_grace
            .map(|grace| i64::try_from(grace.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)),
        host_config: Some(host_config(spec, at_once.first().map(|(name, _)| name.as_str()))),
        networking_config: (!endpoints.is_empty())
            .then_some(NetworkingConfig { endpoints_config: Some(endpoints) }),
        ..ContainerCreateBody::default()
    }
}

fn host_config(spec: &ContainerSpec, network: Option<&str>) -> HostConfig {
    let resources = &spec.resources;
    let blkio = resources.blkio.as_ref().map(Blkio::of).unwrap_or_default();
    let (binds, mounts): (Vec<&Mount>, Vec<&Mount>) = spec.mounts.iter().partition(|mount| is_bind(mount));
    HostConfig {
        network_mode: spec.network_mode.clone().or_else(|| network.map(str::to_owned)),
        binds: some(&binds.into_iter().map(bind).collect::<Vec<_>>()),
        mounts: some(&mounts.into_iter().map(mount).collect::<Vec<_>>()),
        tmpfs: unordered(&spec.tmpfs),
        volumes_from: some(&spec.volumes_from),
        port_bindings: ports(&spec.ports),
        restart_policy: Some(restart_policy(spec.restart)),
        log_config: spec.logging.as_ref().map(|logging| HostConfigLogConfig {
            typ: (!logging.driver.is_empty()).then(|| logging.driver.clone()),
            config: unordered(&logging.options),
        }),
        nano_cpus: resources.nano_cpus,
        memory: signed(resources.memory),
        memory_reservation: signed(resources.memory_reservation),
        memory_swap: resources.memory_swap,
        memory_swappiness: resources.memory_swappiness,
        pids_limit: resources.pids,
        cpu_shares: resources.cpu_shares,
        cpu_quota: resources.cpu_quota,
        cpu_period: resources.cpu_period,
        cpu_realtime_runtime: resources.cpu_rt_runtime,
        cpu_realtime_period: resources.cpu_rt_period,
        cpu_count: resources.cpu_count,
        cpu_percent: resources.cpu_percent,
        cpuset_cpus: resources.cpuset.clone(),
        blkio_weight: blkio.weight,
        blkio_weight_device: blkio.weight_device,
        blkio_device_read_bps: blkio.read_bps,
        blkio_device_write_bps: blkio.write_bps,
        blkio_device_read_iops: blkio.read_iops,
        blkio_device_write_iops: blkio.write_iops,
        oom_kill_disable: resources.oom_kill_disable,
        oom_score_adj: resources.oom_score_adj,
        init: spec.init,
        privileged: Some(spec.privileged),
        readonly_rootfs: Some(spec.read_only),
        cap_add: some(&spec.cap_add),
        cap_drop: some(&spec.cap_drop),
        security_opt: some(&spec.security_opt),
        group_add: some(&spec.group_add),
        ulimits: some(
            &spec
                .ulimits
                .iter()
                .map(|(name, limit)| ResourcesUlimits {
                    name: Some(name.clone()),
                    soft: Some(limit.soft),
                    hard: Some(limit.hard),
                })
                .collect::<Vec<_>>(),
        ),
        sysctls: unordered(&spec.sysctls),
        extra_hosts: some(&spec.extra_hosts),
        dns: some(&spec.dns),
        dns_search: some(&spec.dns_search),
        dns_options: some(&spec.dns_opt),
        devices: some(
            &spec
                .devices
                .iter()
                .map(|device| DeviceMapping {
                    path_on_host: Some(device.source.clone()),
                    path_in_container: Some(device.target.clone()),
                    cgroup_permissions: Some(device.permissions.clone()),
                })
                .collect::<Vec<_>>(),
        ),
        device_cgroup_rules: some(&spec.device_cgroup_rules),
        device_requests: some(
            &spec
                .device_requests
                .iter()
                .map(|request| DeviceRequest {
                    driver: Some(request.driver.clone()),
                    // Docker wants a number or names, and takes no number for all.
                    count: request.count.or(request.device_ids.is_empty().then_some(-1)),
                    device_ids: some(&request.device_ids),
                    capabilities: Some(vec![request.capabilities.clone()]),
                    options: unordered(&request.options),
                })
                .collect::<Vec<_>>(),
        ),
        shm_size: signed(spec.shm_size),
        pid_mode: spec.pid.clone(),
        ipc_mode: spec.ipc.clone(),
        uts_mode: spec.uts.clone(),
        userns_mode: spec.userns.clone(),
        cgroupns_mode: spec
            .cgroupns
            .as_deref()
            .and_then(|mode| mode.parse::<HostConfigCgroupnsModeEnum>().ok()),
        cgroup_parent: spec.cgroup_parent.clone(),
        runtime: spec.runtime.clone(),
        isolation: spec.isolation.as_deref().and_then(|mode| mode.parse::<HostConfigIsolationEnum>().ok()),
        storage_opt: unordered(&spec.storage_opt),
        annotations: unordered(&spec.annotations),
        links: if spec.endpoints.is_empty() { some(&spec.links) } else { None },
        ..HostConfig::default()
    }
}

/// `blkio_config` for Docker.
#[derive(Default)]
struct Blkio {
    weight: Option<u16>,
    weight_device: Option<Vec<ResourcesBlkioWeightDevice>>,
    read_bps: Option<Vec<ThrottleDevice>>,
    write_bps: Option<Vec<ThrottleDevice>>,
    read_iops: Option<Vec<ThrottleDevice>>,
    write_iops: Option<Vec<ThrottleDevice>>,
}

impl Blkio {
    fn of(model: &kedge_compose::model::Blkio) -> Self {
        let rates = |rates: &[DeviceRate]| {
            let rates =
                rates.iter().map(|one| ThrottleDevice { path: Some(one.path.clone()), rate: Some(one.rate) });
            some(&rates.collect::<Vec<_>>())
        };
        let weights = model.weight_device.iter().map(|one| ResourcesBlkioWeightDevice {
            path: Some(one.path.clone()),
            weight: Some(usize::from(one.weight)),
        });
        Self {
            weight: (model.weight > 0).then_some(model.weight),
            weight_device: some(&weights.collect::<Vec<_>>()),
            read_bps: rates(&model.read_bps),
            write_bps: rates(&model.write_bps),
            read_iops: rates(&model.read_iops),
            write_iops: rates(&model.write_iops),
        }
    }
}

/// An attachment for Docker.
pub(super) fn endpoint(attachment: &Attachment, links: &[String]) -> EndpointSettings {
    let fixed = attachment.ipv4_address.is_some()
        || attachment.ipv6_address.is_some()
        || !attachment.link_local_ips.is_empty();
    let mut driver_opts = attachment.driver_opts.clone();
    if let Some(name) = &attachment.interface_name {
        driver_opts.insert(INTERFACE_NAME.to_owned(), name.clone());
    }
    EndpointSettings {
        aliases: some(&attachment.aliases.iter().cloned().collect::<Vec<_>>()),
        links: some(links),
        ipam_config: fixed.then(|| EndpointIpamConfig {
            ipv4_address: attachment.ipv4_address.clone(),
            ipv6_address: attachment.ipv6_address.clone(),
            link_local_ips: some(&attachment.link_local_ips),
        }),
        mac_address: attachment.mac_address.clone(),
        driver_opts: unordered(&driver_opts),
        gw_priority: (attachment.gw_priority != 0).then_some(attachment.gw_priority),
        ..EndpointSettings::default()
    }
}

fn port_key(port: &Port) -> String {
    let protocol = if port.protocol.is_empty() { "tcp" } else { &port.protocol };
    format!("{}/{protocol}", port.target)
}

fn ports(ports: &[Port]) -> Option<PortMap> {
    let mut map = PortMap::new();
    for port in ports {
        let binding =
            PortBinding { host_ip: Some(port.host_ip.clone()), host_port: Some(port.published.clone()) };
        map.entry(port_key(port)).or_default().get_or_insert_default().push(binding);
    }
    (!map.is_empty()).then_some(map)
}

/// What only the older `Binds` can say: make the folder if it is missing, and relabel for SELinux.
fn is_bind(mount: &Mount) -> bool {
    mount.kind == MountKind::Bind
        && (mount.bind_create_host_path || mount.bind_selinux.is_some())
        && mount.bind_recursive.is_none()
}

fn bind(mount: &Mount) -> String {
    let mut options = vec![if mount.read_only { "ro" } else { "rw" }];
    options.extend(mount.bind_selinux.as_deref());
    options.extend(mount.bind_propagation.as_deref());
    format!("{}:{}:{}", mount.source.as_deref().unwrap_or_default(), mount.target, options.join(","))
}

fn mount(mount: &Mount) -> DockerMount {
    let mut docker = DockerMount {
        target: Some(mount.target.clone()),
        source: mount.source.clone(),
        read_only: Some(mount.read_only),
        consistency: mount.consistency.clone(),
        ..DockerMount::default()
    };
    match mount.kind {
        MountKind::Volume => {
            docker.typ = Some(MountType::VOLUME);
            docker.volume_options = Some(MountVolumeOptions {
                no_copy: mount.volume_nocopy.then_some(true),
                labels: unordered(&mount.volume_labels),
                subpath: mount.subpath.clone(),
                ..MountVolumeOptions::default()
            });
        }
        MountKind::Bind => {
            docker.typ = Some(MountType::BIND);
            let recursive = mount.bind_recursive.as_deref();
            docker.bind_options = Some(MountBindOptions {
                propagation: mount
                    .bind_propagation
                    .as_deref()
                    .and_then(|mode| mode.parse::<MountBindOptionsPropagationEnum>().ok()),
                non_recursive: (recursive == Some("disabled")).then_some(true),
                read_only_non_recursive: (recursive == Some("writable")).then_some(true),
                read_only_force_recursive: (recursive == Some("readonly")).then_some(true),
                create_mountpoint: mount.bind_create_host_path.then_some(true),
            });
        }
        MountKind::Tmpfs => {
            docker.typ = Some(MountType::TMPFS);
            docker.source = None;
            docker.tmpfs_options = Some(MountTmpfsOptions {
                size_bytes: signed(mount.tmpfs_size),
                mode: mount.tmpfs_mode.map(i64::from),
                ..MountTmpfsOptions::default()
            });
        }
        MountKind::Image => {
            docker.typ = Some(MountType::IMAGE);
            docker.image_options = Some(MountImageOptions { subpath: mount.subpath.clone() });
        }
        MountKind::Npipe => docker.typ = Some(MountType::NPIPE),
        MountKind::Cluster => docker.typ = Some(MountType::CLUSTER),
    }
    docker
}
