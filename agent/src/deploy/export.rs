//! What plain `docker compose` needs to go on with a deployment: the vendor's files as they were signed, this host's values as
//! `.env`, and an override that names the images by what they are and the folders that containers fill by where they lie.
//!
//! ```text
//! DIR/compose.yaml, nginx.conf, …   the release's own files
//! DIR/kedge.override.yaml           images by ID, never pulled; folders with data, where they are
//! DIR/.env                          project name, which files, profiles, parameters; secrets where asked for; mode 0600
//! ```
//!
//! The project keeps its name, so its networks, volumes and containers are the ones that run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use kedge_bundle::parameters::Resolved;
use kedge_bundle::product::Product;
use kedge_compose::model::{Mount, MountKind};
use kedge_proto::local::v1::{ExportReply, ExportedFile};

use super::compile::{self, Compiled};
use super::preview;
use crate::audit;
use crate::engine::ContainerSpec;
use crate::problem::Problem;
use crate::world::World;

const OVERRIDE: &str = "kedge.override.yaml";

/// What an export is made of.
pub struct Parts {
    /// The release's product.
    pub product: Product,
    /// Deployment.
    pub deployment: String,
    /// Compose project.
    pub project: String,
    /// Profiles that are on.
    pub profiles: Vec<String>,
    /// Parameters and secrets.
    pub values: Resolved,
    /// The release's files: content, and whether executable.
    pub files: BTreeMap<String, (Vec<u8>, bool)>,
    /// What the override says of each service.
    pub services: BTreeMap<String, Service>,
}

/// What of a service is this host's.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Service {
    /// ID of its image.
    pub image: String,
    /// Mounts of folders that it fills. To plain compose a relative path in the vendor's file would be another, empty folder.
    pub data: Vec<Mount>,
}

/// Exports the active generation. Writes nothing but, where secrets leave, to the audit log.
///
/// # Errors
/// [`crate::codes::NO_DEPLOYMENT`] where none is active, and what keeps it from compiling.
pub async fn of_active(
    world: &Arc<World>,
    deployment: &str,
    secrets: bool,
    by: &str,
) -> Result<ExportReply, Problem> {
    let order = preview::order_of_active(world, deployment)?.0;
    let parts = compile::parts_aside(world, order).await?;
    world
        .audit(audit::Event::Exported { deployment: deployment.to_owned(), by: by.to_owned(), secrets })
        .await?;
    Ok(write(&parts, secrets))
}

/// What of the services of a compiled release is this host's; `data` is where folders lie that containers fill.
pub fn services(compiled: &Compiled, data: &Path) -> BTreeMap<String, Service> {
    let is_data = |mount: &&Mount| {
        let below = |source: &String| Path::new(source).starts_with(data);
        mount.kind == MountKind::Bind && mount.source.as_ref().is_some_and(below)
    };
    let of_host = |spec: &ContainerSpec| Service {
        image: spec.image.clone(),
        data: spec.mounts.iter().filter(is_data).cloned().collect(),
    };
    let containers = compiled.desired.containers.values();
    containers.map(|wanted| (wanted.service.clone(), of_host(&wanted.spec))).collect()
}

fn write(parts: &Parts, secrets: bool) -> ExportReply {
    let mut files: Vec<ExportedFile> = parts
        .files
        .iter()
        .map(|(path, (content, executable))| ExportedFile {
            path: path.clone(),
            content: content.clone(),
            mode: if *executable { 0o755 } else { 0o644 },
        })
        .collect();
    let file = |path: &str, content: String, mode| ExportedFile {
        path: path.to_owned(),
        content: content.into_bytes(),
        mode,
    };
    files.push(file(OVERRIDE, overriding(&parts.services), 0o644));
    files.push(file(".env", environment(parts, secrets), 0o600));
    let mut notes = vec![format!(
        "`docker compose up -d --no-recreate` in that folder takes over what runs; without --no-recreate it makes the containers of {} anew, on the same volumes",
        parts.project
    )];
    let data: BTreeSet<&str> =
        parts.services.values().flat_map(|s| &s.data).filter_map(|mount| mount.source.as_deref()).collect();
    if !data.is_empty() {
        let data: Vec<&str> = data.into_iter().collect();
        notes.push(format!(
            "data of the stack stays in {}: to move it, stop the stack, and name the new place in {OVERRIDE}",
            data.join(", ")
        ));
    }
    if !secrets && !parts.values.secrets.is_empty() {
        let names: Vec<&str> = parts.values.secrets.keys().map(String::as_str).collect();
        notes.push(format!("without --secrets the values of {} are missing in .env", names.join(", ")));
    }
    if parts.product.licence.is_some() {
        notes.push(
            "the product asks for a licence, which the agent delivers and plain compose does not".to_owned(),
        );
    }
    ExportReply { project: parts.project.clone(), files, notes }
}

fn overriding(services: &BTreeMap<String, Service>) -> String {
    let mut text = String::from(
        "# The images as this host has them. Remove image and pull_policy of a service to take it from a registry.\nservices:\n",
    );
    for (name, service) in services {
        let (name, image) = (serde_json::Value::from(name.as_str()), &service.image);
        text.push_str(&format!("  {name}:\n    image: \"{image}\"\n    pull_policy: never\n"));
        if !service.data.is_empty() {
            text.push_str("    volumes:\n");
        }
        for mount in &service.data {
            text.push_str(&format!("      - {}\n", volume(mount)));
        }
    }
    text
}

/// A mount in compose's long form, on one line: it takes the place of the one with the same target.
fn volume(mount: &Mount) -> serde_json::Value {
    // A dollar sign is the beginning of a variable there.
    let literal = |text: &str| text.replace('$', "$$");
    let mut volume = serde_json::json!({
        "type": "bind",
        "source": mount.source.as_deref().map(literal),
        "target": literal(&mount.target),
        "read_only": mount.read_only,
    });
    let bind = [("selinux", &mount.bind_selinux), ("propagation", &mount.bind_propagation)];
    for (key, value) in bind.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?))) {
        volume["bind"][key] = literal(value).into();
    }
    volume
}

fn environment(parts: &Parts, secrets: bool) -> String {
    let files = parts.product.compose.iter().map(String::as_str).chain([OVERRIDE]);
    let mut lines = vec![
        ("COMPOSE_PROJECT_NAME", parts.project.clone()),
        ("COMPOSE_FILE", files.collect::<Vec<_>>().join(":")),
        ("KEDGE_DEPLOYMENT", parts.deployment.clone()),
        ("KEDGE_VERSION", parts.product.version.clone()),
    ];
    if !parts.profiles.is_empty() {
        lines.push(("COMPOSE_PROFILES", parts.profiles.join(",")));
    }
    let plain = parts.values.values.iter().filter(|(name, _)| !parts.values.secrets.contains_key(*name));
    lines.extend(plain.map(|(name, value)| (name.as_str(), value.clone())));
    let mut text = String::from("# Read by `docker compose` in this folder.\n");
    for (name, value) in lines {
        text.push_str(&format!("{name}={}\n", quoted(&value)));
    }
    for (name, secret) in &parts.values.secrets {
        if secrets {
            text.push_str(&format!("{name}={}\n", quoted(secret.reveal())));
        } else {
            text.push_str(&format!("# {name} is a secret and was not exported\n"));
        }
    }
    text
}

/// As compose's reader of such files takes a value literally: in single quotes, which only a value without any can be; else in
/// double quotes, with what those would interpret escaped.
fn quoted(value: &str) -> String {
    if !value.contains(['\'', '\n', '\r']) {
        return format!("'{value}'");
    }
    let mut text = String::from("\"");
    for c in value.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '"' | '\\' | '$' => text.extend(['\\', c]),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use kedge_bundle::parameters::Secret;

    use super::*;

    fn parts() -> Parts {
        let mut values = Resolved::default();
        values.values.insert("PORT".into(), "8080".into());
        values.secrets.insert("PW".into(), Secret::new("it's $3 \"cr\\et\"".into()));
        let product: Product = serde_json::from_value(serde_json::json!({
            "format": 1, "product": "shop", "version": "1.0.0", "compose": ["compose.yaml"],
        }))
        .unwrap();
        Parts {
            product,
            deployment: "shop".into(),
            project: "shop".into(),
            profiles: vec!["full".into()],
            values,
            files: [("compose.yaml".to_owned(), (b"services: {}".to_vec(), false))].into(),
            services: [("web".to_owned(), Service { image: "sha256:abc".into(), data: Vec::new() })].into(),
        }
    }

    fn text(reply: &ExportReply, path: &str) -> String {
        let file = reply.files.iter().find(|file| file.path == path).unwrap();
        String::from_utf8(file.content.clone()).unwrap()
    }

    #[test]
    fn secrets_are_written_only_where_asked_for_and_the_file_is_its_owners() {
        let without = write(&parts(), false);
        assert!(!without.files.iter().any(|f| String::from_utf8_lossy(&f.content).contains("$3")));
        assert!(without.notes.iter().any(|note| note.contains("PW")), "{:?}", without.notes);
        let with = write(&parts(), true);
        assert!(
            text(&with, ".env").contains("PW=\"it's \\$3 \\\"cr\\\\et\\\"\"\n"),
            "{}",
            text(&with, ".env")
        );
        assert_eq!(with.files.iter().find(|f| f.path == ".env").unwrap().mode, 0o600);
    }

    #[test]
    fn the_project_its_files_profiles_values_and_images_are_named() {
        let reply = write(&parts(), false);
        let env = text(&reply, ".env");
        for line in [
            "COMPOSE_PROJECT_NAME='shop'",
            "COMPOSE_FILE='compose.yaml:kedge.override.yaml'",
            "COMPOSE_PROFILES='full'",
            "PORT='8080'",
        ] {
            assert!(env.lines().any(|l| l == line), "{line}: {env}");
        }
        assert!(
            text(&reply, OVERRIDE).contains("\"web\":\n    image: \"sha256:abc\"\n    pull_policy: never")
        );
        assert_eq!(text(&reply, "compose.yaml"), "services: {}");
    }

    #[test]
    fn folders_that_containers_fill_are_named_where_they_are_and_said_to_stay() {
        let mut parts = parts();
        let data = Mount {
            kind: MountKind::Bind,
            source: Some("/state/shop/binds/a$b".into()),
            target: "/data".into(),
            bind_selinux: Some("z".into()),
            ..Mount::default()
        };
        parts.services.get_mut("web").unwrap().data.push(data);
        let reply = write(&parts, false);
        let text = text(&reply, OVERRIDE);
        let (_, line) = text.split_once("    volumes:\n      - ").unwrap();
        let volume: serde_json::Value = serde_json::from_str(line).unwrap();
        let expected = serde_json::json!({
            "type": "bind", "source": "/state/shop/binds/a$$b", "target": "/data", "read_only": false,
            "bind": { "selinux": "z" },
        });
        assert_eq!(volume, expected);
        assert!(reply.notes.iter().any(|note| note.contains("/state/shop/binds/a$b")), "{:?}", reply.notes);
    }
}
