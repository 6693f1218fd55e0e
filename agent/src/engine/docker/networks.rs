//! Verbs about networks and volumes.

use bollard::models::{
    Ipam, IpamConfig, Network as DockerNetwork, NetworkConnectRequest, NetworkCreateRequest,
    NetworkDisconnectRequest, VolumeCreateRequest,
};
use bollard::query_parameters::{
    ListNetworksOptionsBuilder, ListVolumesOptionsBuilder, RemoveVolumeOptionsBuilder,
};
use kedge_compose::model::Attachment;

use super::super::error::{Kind, Result};
use super::super::spec::{LABEL_RANGE, NetworkSpec, VolumeSpec};
use super::super::types::{Filter, Network, Volume};
use super::containers::forgive;
use super::convert::{ordered, unordered};
use super::create::endpoint;
use super::errors::Context;
use super::filters;

pub(super) async fn list(client: &bollard::Docker, filter: &Filter) -> Result<Vec<Network>> {
    let options = ListNetworksOptionsBuilder::new().filters(&filters(filter)).build();
    let networks = client.list_networks(Some(options)).await.context(|| "list networks".to_owned())?;
    let wanted = |network: &Network| filter.names.is_empty() || filter.names.contains(&network.name);
    Ok(networks.into_iter().map(network).filter(wanted).collect())
}

fn network(network: DockerNetwork) -> Network {
    let pools = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    Network {
        id: network.id.unwrap_or_default(),
        name: network.name.unwrap_or_default(),
        driver: network.driver.unwrap_or_default(),
        internal: network.internal.unwrap_or(false),
        attachable: network.attachable.unwrap_or(false),
        ipv6: network.enable_ipv6.unwrap_or(false),
        options: ordered(network.options),
        pools: pools.into_iter().map(|pool| (pool.subnet, pool.gateway)).collect(),
        labels: ordered(network.labels),
    }
}

pub(super) async fn create(client: &bollard::Docker, spec: &NetworkSpec) -> Result<String> {
    let pools: Vec<IpamConfig> = spec
        .ipam
        .iter()
        .map(|pool| IpamConfig {
            subnet: pool.subnet.clone(),
            ip_range: pool.ip_range.clone(),
            gateway: pool.gateway.clone(),
            auxiliary_addresses: unordered(&pool.aux_addresses),
        })
        .collect();
    let by_engine = pools.is_empty() && is_plain_bridge(spec);
    let any_ipam = !pools.is_empty() || spec.ipam_driver.is_some() || !spec.ipam_options.is_empty();
    let mut labels = spec.labels.clone();
    if is_plain_bridge(spec) && pools.iter().any(|pool| pool.subnet.is_some()) {
        labels.insert(LABEL_RANGE.to_owned(), "given".to_owned());
    }
    let mut request = NetworkCreateRequest {
        name: spec.name.clone(),
        driver: Some(if spec.driver.is_empty() { "bridge".to_owned() } else { spec.driver.clone() }),
        internal: Some(spec.internal),
        attachable: Some(spec.attachable),
        enable_ipv4: spec.enable_ipv4,
        enable_ipv6: spec.enable_ipv6,
        options: unordered(&spec.driver_opts),
        labels: unordered(&labels),
        ipam: any_ipam.then(|| Ipam {
            driver: spec.ipam_driver.clone().or_else(|| Some("default".to_owned())),
            config: (!pools.is_empty()).then_some(pools),
            options: unordered(&spec.ipam_options),
        }),
        ..NetworkCreateRequest::default()
    };
    let what = || format!("create network {}", spec.name);
    let mut id = client.create_network(request.clone()).await.context(what)?.id;
    if by_engine && let Some(pools) = range_of(client, &id).await? {
        remove(client, &id).await?;
        let plain = request.clone();
        labels.insert(LABEL_RANGE.to_owned(), "of the engine".to_owned());
        request.labels = unordered(&labels);
        request.ipam = Some(Ipam { config: Some(pools), ..Ipam::default() });
        id = match client.create_network(request).await {
            Ok(created) => created.id,
            // Somebody took the range meanwhile: without a named one it is a network all the same.
            Err(_) => client.create_network(plain).await.context(what)?.id,
        };
    }
    // Docker lets two networks bear one name. Two agents, or one that asked twice, must not end up with two.
    let same = list(client, &Filter::names([spec.name.clone()])).await?;
    if same.len() > 1 && same.iter().map(|network| &network.id).min() != Some(&id) {
        remove(client, &id).await?;
        return Err(super::Error::new(Kind::NameTaken, what(), "network already exists"));
    }
    Ok(id)
}

/// Whether nothing about it speaks against naming its range.
fn is_plain_bridge(spec: &NetworkSpec) -> bool {
    matches!(spec.driver.as_str(), "" | "bridge")
        && spec.ipam_driver.is_none()
        && spec.ipam_options.is_empty()
        && spec.enable_ipv6 != Some(true)
        && spec.enable_ipv4 != Some(false)
}

/// The range that the engine chose. Which ranges are free, and which the customer has set aside, only the engine knows; and it
/// lets a container keep its address only in a range that was asked for. So it is asked for what it chose.
async fn range_of(client: &bollard::Docker, id: &str) -> Result<Option<Vec<IpamConfig>>> {
    let made = client.inspect_network(id, None).await.context(|| format!("inspect network {id}"))?;
    let pools = made.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
    Ok((pools.len() == 1 && pools.iter().all(|pool| pool.subnet.is_some())).then_some(pools))
}

pub(super) async fn remove(client: &bollard::Docker, id: &str) -> Result<()> {
    forgive(client.remove_network(id).await.context(|| format!("remove network {id}")), Kind::NotFound)
}

pub(super) async fn connect(
    client: &bollard::Docker,
    network: &str,
    container: &str,
    attachment: &Attachment,
    links: &[String],
) -> Result<()> {
    let request = NetworkConnectRequest {
        container: container.to_owned(),
        endpoint_config: Some(endpoint(attachment, links)),
    };
    client
        .connect_network(network, request)
        .await
        .context(|| format!("connect container {container} to network {network}"))
}

pub(super) async fn disconnect(client: &bollard::Docker, network: &str, container: &str) -> Result<()> {
    let request = NetworkDisconnectRequest { container: container.to_owned(), force: Some(true) };
    let what = || format!("disconnect container {container} from network {network}");
    match client.disconnect_network(network, request).await.context(what) {
        Err(error) if error.cause.contains("is not connected to") => Ok(()),
        // On its way out, and out of the network with it.
        Err(error) if error.cause.contains("is marked for removal") => Ok(()),
        result => forgive(result, Kind::NotFound),
    }
}

pub(super) async fn list_volumes(client: &bollard::Docker, filter: &Filter) -> Result<Vec<Volume>> {
    let options = ListVolumesOptionsBuilder::new().filters(&filters(filter)).build();
    let answer = client.list_volumes(Some(options)).await.context(|| "list volumes".to_owned())?;
    let volumes = answer.volumes.unwrap_or_default().into_iter().map(|volume| Volume {
        name: volume.name,
        driver: volume.driver,
        options: volume.options.into_iter().collect(),
        labels: volume.labels.into_iter().collect(),
        mountpoint: volume.mountpoint,
    });
    Ok(volumes.filter(|volume| filter.names.is_empty() || filter.names.contains(&volume.name)).collect())
}

pub(super) async fn create_volume(client: &bollard::Docker, spec: &VolumeSpec) -> Result<()> {
    let request = VolumeCreateRequest {
        name: Some(spec.name.clone()),
        driver: Some(if spec.driver.is_empty() { "local".to_owned() } else { spec.driver.clone() }),
        driver_opts: unordered(&spec.driver_opts),
        labels: unordered(&spec.labels),
        ..VolumeCreateRequest::default()
    };
    client.create_volume(request).await.context(|| format!("create volume {}", spec.name)).map(|_| ())
}

pub(super) async fn remove_volume(client: &bollard::Docker, name: &str) -> Result<()> {
    let options = RemoveVolumeOptionsBuilder::new().force(false).build();
    forgive(
        client.remove_volume(name, Some(options)).await.context(|| format!("remove volume {name}")),
        Kind::NotFound,
    )
}
