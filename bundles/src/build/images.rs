//! Where an image comes from.

use std::path::{Path, PathBuf};

use super::{Options, Progress, archive, engine, pack, registry};
use crate::assemble::ImageInput;

/// A source of one image, written `KIND:WHERE` in `x-kedge.images`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// `engine` or `engine:REFERENCE`: what the local engine has. The usual source.
    Engine(String),
    /// `registry` or `registry:REFERENCE`: pulled from an OCI registry.
    Registry(String),
    /// `oci-archive:FILE[:REFERENCE]`: a tar of an OCI layout.
    OciArchive(PathBuf, Option<String>),
    /// `docker-archive:FILE[:REFERENCE]`: what `docker save` wrote.
    DockerArchive(PathBuf, Option<String>),
    /// `dir:FOLDER`: the folder as the image's only layer.
    Dir(PathBuf),
    /// `binary:FILE`: one static binary as `/NAME`, which is the entry point.
    Binary(PathBuf),
}

impl ImageSource {
    /// Reads a source; paths are relative to `base`.
    ///
    /// # Errors
    /// What is wrong with it, and what could be there.
    pub fn parse(text: &str, reference: &str, base: &Path) -> Result<Self, String> {
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        let named = || if rest.is_empty() { reference.to_owned() } else { rest.to_owned() };
        let path = |text: &str| base.join(text);
        let archive = || match rest.split_once(':') {
            Some((file, inner)) => (path(file), Some(inner.to_owned())),
            None => (path(rest), None),
        };
        let needs_path = matches!(kind, "oci-archive" | "docker-archive" | "dir" | "binary");
        if needs_path && rest.is_empty() {
            return Err(format!("the source {text:?} names no path"));
        }
        match kind {
            "engine" => Ok(Self::Engine(named())),
            "registry" => Ok(Self::Registry(named())),
            "oci-archive" => Ok(archive()).map(|(file, inner)| Self::OciArchive(file, inner)),
            "docker-archive" => Ok(archive()).map(|(file, inner)| Self::DockerArchive(file, inner)),
            "dir" => Ok(Self::Dir(path(rest))),
            "binary" => Ok(Self::Binary(path(rest))),
            _ => Err(format!(
                "unknown source {text:?}; use engine, registry, oci-archive:FILE, docker-archive:FILE, dir:FOLDER or binary:FILE"
            )),
        }
    }
}

/// Gets an image; what has to be stored goes to `staging`. Errors are sentences that follow the image's name.
pub(super) async fn fetch(
    reference: &str,
    source: &ImageSource,
    options: &Options,
    staging: &Path,
    progress: &dyn Progress,
) -> Result<ImageInput, String> {
    match source {
        ImageSource::Engine(name) => engine::export(reference, name, options, staging, progress).await,
        ImageSource::Registry(name) => {
            registry::image::pull(reference, name, options, staging, progress).await
        }
        ImageSource::OciArchive(file, inner) => {
            archive::oci(reference, file, inner.as_deref(), &options.platform, progress)
        }
        ImageSource::DockerArchive(file, inner) => {
            archive::docker(reference, file, inner.as_deref(), progress)
        }
        ImageSource::Dir(folder) => pack::dir(reference, folder, &options.platform, staging),
        ImageSource::Binary(file) => pack::binary(reference, file, &options.platform, staging),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_read_and_mistakes_say_what_could_be_there() {
        let parse = |text: &str| ImageSource::parse(text, "a:1", Path::new("/p"));
        assert_eq!(parse("engine"), Ok(ImageSource::Engine("a:1".into())));
        assert_eq!(parse("engine:r.example:5000/b:2"), Ok(ImageSource::Engine("r.example:5000/b:2".into())));
        assert_eq!(parse("dir:x"), Ok(ImageSource::Dir("/p/x".into())));
        assert_eq!(parse("binary:/x/y"), Ok(ImageSource::Binary("/x/y".into())));
        assert_eq!(
            parse("oci-archive:x.tar:b:2"),
            Ok(ImageSource::OciArchive("/p/x.tar".into(), Some("b:2".into())))
        );
        assert!(parse("dir:").unwrap_err().contains("no path"));
        assert!(parse("tarball:x").unwrap_err().contains("docker-archive"));
    }
}
