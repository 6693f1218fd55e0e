//! What containers take from an image, read from its signed configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kedge_bundle::layout::{Image, limits};
use kedge_compose::model::Healthcheck;
use serde::Deserialize;

use super::Content;
use crate::codes;
use crate::engine::types::{ImageConfig, ImageStore};
use crate::plan::desired::PlacedImage;
use crate::problem::Problem;

/// The part of an OCI image configuration that matters at run time.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Config {
    user: String,
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: String,
    labels: Option<BTreeMap<String, String>>,
    stop_signal: Option<String>,
    volumes: Option<BTreeMap<String, serde_json::Value>>,
    exposed_ports: Option<BTreeMap<String, serde_json::Value>>,
    healthcheck: Option<Check>,
}

/// Times are nanoseconds; 0 is the engine's default.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Check {
    test: Option<Vec<String>>,
    interval: u64,
    timeout: u64,
    start_period: u64,
    start_interval: u64,
    retries: u64,
}

impl Check {
    fn into_model(self) -> Healthcheck {
        let time = |nanos: u64| (nanos > 0).then(|| Duration::from_nanos(nanos));
        Healthcheck {
            test: self.test.unwrap_or_default(),
            interval: time(self.interval),
            timeout: time(self.timeout),
            start_period: time(self.start_period),
            start_interval: time(self.start_interval),
            retries: (self.retries > 0).then_some(self.retries),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
struct Document {
    #[serde(default)]
    config: Option<Config>,
}

/// The image as the engine will have it: its ID in the store at hand, and what containers take from it.
///
/// # Errors
/// When its configuration is not here or cannot be read.
pub fn placed(content: &Content, image: &Image, store: ImageStore) -> Result<PlacedImage, Problem> {
    let bytes = content.read_blob(&image.config, limits::METADATA)?;
    let document: Document = serde_json::from_slice(&bytes).map_err(|e| {
        Problem::from_error(&codes::PROJECT, &e).at(format!("configuration of image {}", image.reference))
    })?;
    let id = match store {
        ImageStore::Classic => image.config,
        ImageStore::Containerd => image.manifest,
    };
    Ok(PlacedImage { id: id.to_string(), config: document.config.unwrap_or_default().into_engine() })
}

impl Config {
    fn into_engine(self) -> ImageConfig {
        let split = |line: String| match line.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (line, String::new()),
        };
        let keys = |map: Option<BTreeMap<String, serde_json::Value>>| {
            map.unwrap_or_default().into_keys().collect::<BTreeSet<_>>()
        };
        ImageConfig {
            env: self.env.unwrap_or_default().into_iter().map(split).collect(),
            command: self.cmd.unwrap_or_default(),
            entrypoint: self.entrypoint.unwrap_or_default(),
            labels: self.labels.unwrap_or_default(),
            user: self.user,
            working_dir: self.working_dir,
            stop_signal: self.stop_signal.filter(|signal| !signal.is_empty()),
            volumes: keys(self.volumes),
            expose: keys(self.exposed_ports),
            healthcheck: self.healthcheck.map(Check::into_model),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_image_says_is_read_and_what_it_does_not_say_is_empty() {
        let text = r#"{"config":{"Env":["A=1","B=x=y","C"],"Cmd":["run"],"Volumes":{"/data":{}},
            "Healthcheck":{"Test":["CMD","check"]},"WorkingDir":"/srv"},"rootfs":{"type":"layers"}}"#;
        let config = serde_json::from_str::<Document>(text).unwrap().config.unwrap().into_engine();
        assert_eq!(config.env["B"], "x=y");
        assert_eq!(config.env["C"], "");
        assert_eq!(config.command, ["run"]);
        assert!(config.entrypoint.is_empty() && config.volumes.contains("/data"));
        assert_eq!(config.healthcheck.unwrap().test, ["CMD", "check"]);
        let empty = serde_json::from_str::<Document>("{}").unwrap().config.unwrap_or_default().into_engine();
        assert_eq!(empty, ImageConfig::default());
    }
}
