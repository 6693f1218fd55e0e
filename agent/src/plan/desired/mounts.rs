//! Mounts with their sources resolved: volumes to engine names, files of the project to paths on this host.

use kedge_compose::model::{FileMount, FileSource, Mount, MountKind, Project, Service};
use sha2::{Digest, Sha256};

use super::{Placement, Problem};

/// A file or folder of the project that a container mounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileUse<'a> {
    /// A bind mount's source, as the project has it.
    Bind {
        /// Path as the project has it, absolute.
        path: &'a str,
        /// Whether it may be missing, because the engine makes a folder there.
        may_be_missing: bool,
    },
    /// A config, with the owner and mode that the container should see.
    Config {
        /// Key of the project's configs.
        key: &'a str,
        /// How it is mounted.
        mount: &'a FileMount,
    },
    /// A secret, likewise.
    Secret {
        /// Key of the project's secrets.
        key: &'a str,
        /// How it is mounted.
        mount: &'a FileMount,
    },
}

/// Where a file lies on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFile {
    /// Absolute path.
    pub path: String,
    /// Digest of the content, where it is known: a change of it makes the container anew.
    pub digest: Option<String>,
    /// It was made for the deployment, and nothing else on the host has a say in it.
    pub is_ours: bool,
}

/// The service's mounts, and a digest over the contents of the files among them.
pub(super) fn resolve(
    project: &Project,
    service: &Service,
    placement: &Placement<'_>,
    problems: &mut Vec<Problem>,
) -> (Vec<Mount>, Option<String>) {
    let mut mounts = Vec::new();
    let mut contents = Vec::new();
    // Confined by SELinux, a container reads nothing that is labelled as the agent's. What else is on the host keeps its label.
    let label = |file: &HostFile| (placement.relabel && file.is_ours).then(|| "z".to_owned());
    let mut remember = |target: &str, file: &HostFile| {
        if let Some(digest) = &file.digest {
            contents.push(format!("{target}\0{digest}\n"));
        }
    };
    for mount in &service.volumes {
        let mut mount = mount.clone();
        let source = mount.source.clone();
        match (mount.kind, source) {
            (MountKind::Volume, Some(key)) => match project.volumes.get(&key) {
                Some(volume) => mount.source = Some(volume.name.clone()),
                None => {
                    let what = format!("there is no volume {key}");
                    problems.push(Problem::Unresolved { service: service.name.clone(), what });
                }
            },
            (MountKind::Bind, Some(path)) => {
                let used = FileUse::Bind { path: &path, may_be_missing: mount.bind_create_host_path };
                match (placement.file)(&used) {
                    Some(file) => {
                        remember(&mount.target, &file);
                        mount.bind_selinux = mount.bind_selinux.or_else(|| label(&file));
                        mount.source = Some(file.path);
                    }
                    None => problems.push(Problem::NoFile { service: service.name.clone(), what: path }),
                }
            }
            (MountKind::Image, Some(reference)) => match placement.images.get(&reference) {
                Some(image) => mount.source = Some(image.id.clone()),
                None => problems.push(Problem::NoImage { service: service.name.clone(), image: reference }),
            },
            (MountKind::Volume | MountKind::Tmpfs, None) => {}
            (MountKind::Npipe | MountKind::Cluster, _)
            | (_, Some(_))
            | (MountKind::Bind | MountKind::Image, None) => {
                let what = format!("the mount at {} is not possible on this host", mount.target);
                problems.push(Problem::Unresolved { service: service.name.clone(), what });
            }
        }
        mounts.push(mount);
    }
    let configs = service.configs.iter().map(|mount| (mount, "config", project.configs.get(&mount.source)));
    let secrets = service.secrets.iter().map(|mount| (mount, "secret", project.secrets.get(&mount.source)));
    for (mount, kind, object) in configs.chain(secrets) {
        let used = match kind {
            "config" => FileUse::Config { key: &mount.source, mount },
            _ => FileUse::Secret { key: &mount.source, mount },
        };
        let file = object
            .filter(|object| object.source != FileSource::External)
            .and_then(|_| (placement.file)(&used));
        let Some(file) = file else {
            problems.push(Problem::NoFile {
                service: service.name.clone(),
                what: format!("{kind} {}", mount.source),
            });
            continue;
        };
        remember(&mount.target, &file);
        mounts.push(Mount {
            kind: MountKind::Bind,
            bind_selinux: label(&file),
            source: Some(file.path),
            target: mount.target.clone(),
            read_only: true,
            ..Mount::default()
        });
    }
    contents.sort();
    let digest = (!contents.is_empty()).then(|| hex::encode(Sha256::digest(contents.concat().as_bytes())));
    (mounts, digest)
}
