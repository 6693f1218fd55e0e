//! Verbs about images.

use bollard::models::{ImageConfig as DockerConfig, ImageInspect};
use bollard::query_parameters::{
    ImportImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder,
};
use futures_util::{StreamExt, TryStreamExt};

use super::super::TarStream;
use super::super::error::{Error, Kind, Result};
use super::super::types::{Image, ImageConfig, Loaded};
use super::containers::forgive;
use super::convert::{environment, healthcheck, ordered, size, text};
use super::errors::{Context, convert};

pub(super) async fn list(client: &bollard::Docker) -> Result<Vec<Image>> {
    let options = ListImagesOptionsBuilder::new().all(false).build();
    let images = client.list_images(Some(options)).await.context(|| "list images".to_owned())?;
    // Docker writes "no name" as a name.
    let named = |names: Vec<String>| names.into_iter().filter(|name| !name.starts_with("<none>")).collect();
    Ok(images
        .into_iter()
        .map(|image| Image {
            id: image.id,
            tags: named(image.repo_tags),
            digests: named(image.repo_digests),
            size: u64::try_from(image.size).unwrap_or_default(),
            ..Image::default()
        })
        .collect())
}

pub(super) async fn inspect(client: &bollard::Docker, reference: &str) -> Result<Image> {
    let what = || format!("inspect image {reference}");
    let answer: ImageInspect =
        client.inspect_image(reference).await.context(what).map_err(|error| match error.kind {
            Kind::NotFound => Error { kind: Kind::NoImage, ..error },
            _ => error,
        })?;
    Ok(Image {
        id: answer.id.unwrap_or_default(),
        tags: answer.repo_tags.unwrap_or_default(),
        digests: answer.repo_digests.unwrap_or_default(),
        size: size(answer.size).unwrap_or_default(),
        diff_ids: answer.root_fs.and_then(|root| root.layers).unwrap_or_default(),
        config: answer.config.map(config).unwrap_or_default(),
    })
}

fn config(config: DockerConfig) -> ImageConfig {
    ImageConfig {
        env: environment(config.env)
            .into_iter()
            .map(|(name, value)| (name, value.unwrap_or_default()))
            .collect(),
        command: config.cmd.unwrap_or_default(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        labels: ordered(config.labels),
        user: config.user.unwrap_or_default(),
        working_dir: config.working_dir.unwrap_or_default(),
        stop_signal: text(config.stop_signal),
        volumes: config.volumes.unwrap_or_default().into_iter().collect(),
        expose: config.exposed_ports.unwrap_or_default().into_iter().collect(),
        healthcheck: healthcheck(config.healthcheck),
    }
}

pub(super) async fn tag(
    client: &bollard::Docker,
    reference: &str,
    repository: &str,
    tag: &str,
) -> Result<()> {
    let options = TagImageOptionsBuilder::new().repo(repository).tag(tag).build();
    client
        .tag_image(reference, Some(options))
        .await
        .context(|| format!("tag image {reference} as {repository}:{tag}"))
}

pub(super) async fn remove(client: &bollard::Docker, reference: &str) -> Result<()> {
    let options = RemoveImageOptionsBuilder::new().build();
    let removed = client.remove_image(reference, Some(options), None).await;
    let result = removed.map(|_| ()).context(|| format!("remove image {reference}"));
    forgive(forgive(result, Kind::NoImage), Kind::NotFound)
}

pub(super) fn save(client: &bollard::Docker, reference: &str) -> TarStream {
    client.export_image(reference).map_err(std::io::Error::other).boxed()
}

pub(super) async fn load(client: &bollard::Docker, tar: TarStream) -> Result<Loaded> {
    let what = || "load images".to_owned();
    let options = ImportImageOptionsBuilder::new().quiet(true).build();
    let mut answers = Box::pin(client.import_image_stream(options, tar, None));
    let mut loaded = Loaded::default();
    loop {
        match answers.try_next().await {
            Ok(Some(info)) => {
                let lines = info.stream.unwrap_or_default();
                let names = lines.lines().filter_map(|line| {
                    line.strip_prefix("Loaded image: ").or_else(|| line.strip_prefix("Loaded image ID: "))
                });
                loaded.loaded.extend(names.map(|name| name.trim().to_owned()));
            }
            Ok(None) => return Ok(loaded),
            Err(error) => return Err(convert(what(), &error)),
        }
    }
}
