//! Looks at a deployment from outside, as the engine tells, and from inside.

use std::cell::RefCell;
use std::collections::BTreeMap;

use kedge_tests::rig::host::Host;
use serde_json::Value;

use super::table::Row;

/// A deployment under examination.
pub(super) struct Probe<'a> {
    host: &'a Host,
    name: String,
    /// Minor version of the engine's API.
    pub(super) api: u32,
    inspected: RefCell<BTreeMap<String, Value>>,
}

impl<'a> Probe<'a> {
    pub(super) fn new(host: &'a Host, name: &str, api: u32) -> Self {
        Self { host, name: name.to_owned(), api, inspected: RefCell::default() }
    }

    /// What of a row did not take effect.
    pub(super) fn check(&self, row: &Row) -> Vec<String> {
        let mut findings = Vec::new();
        for (service, pointer, wanted) in row.inspect {
            let found = self.inspect(service).pointer(pointer).cloned().unwrap_or_default();
            let wanted: Value = serde_json::from_str(wanted).unwrap_or_else(|e| panic!("{wanted}: {e}"));
            if found != wanted {
                findings.push(format!("{service}{pointer} should be {wanted}, and is {found}"));
            }
        }
        for (service, line, wanted) in row.inside {
            let found = self.inside(service, line);
            if found.trim() != *wanted {
                findings.push(format!("in {service}, `{line}` should say {wanted:?}, and says {found:?}"));
            }
        }
        if let Some(look) = row.look {
            findings.extend(look(self));
        }
        findings
    }

    /// `docker inspect` of a service's only container.
    pub(super) fn inspect(&self, service: &str) -> Value {
        let mut inspected = self.inspected.borrow_mut();
        let container = inspected.entry(service.to_owned()).or_insert_with(|| {
            let id = self.host.docker().container(&self.name, service);
            self.json(&["container", "inspect", &id])
        });
        container.clone()
    }

    /// A volume or network of the project, by the compose file's key.
    pub(super) fn object(&self, kind: &str, key: &str) -> Value {
        self.json(&[kind, "inspect", &format!("{}_{key}", self.name)])
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.host.docker().run(arguments).succeeded();
        let mut all: Vec<Value> = serde_json::from_str(&text).expect("JSON");
        all.pop().unwrap_or_default()
    }

    /// What a shell line says in a service's container, and how it ended if not well.
    pub(super) fn inside(&self, service: &str, line: &str) -> String {
        let id = self.inspect(service)["Id"].as_str().unwrap_or_default().to_owned();
        let outcome = self.host.docker().run(&["exec", &id, "sh", "-c", line]);
        match outcome.code {
            Some(0) => outcome.stdout,
            _ => format!("{}{}", outcome.stdout, outcome.stderr),
        }
    }

    /// How many containers a service has.
    pub(super) fn count(&self, service: &str) -> usize {
        let filter = |label: &str, value: &str| format!("label=com.docker.compose.{label}={value}");
        let (project, service) = (filter("project", &self.name), filter("service", service));
        let list = ["container", "ls", "--quiet", "--filter", &project, "--filter", &service];
        self.host.docker().run(&list).succeeded().lines().count()
    }

    /// The name of the deployment, which is the project's.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A GET of a port that is published on this host.
    pub(super) fn get(&self, address: &str) -> String {
        self.host.docker().curl(&[&format!("http://{address}/")]).stdout
    }

    /// Removes the deployment, and looks whether what was to run before the end has run.
    pub(super) fn check_the_end(&self) {
        let image = self.inspect("hooks")["Image"].as_str().unwrap_or_default().to_owned();
        let stored = self.inspect("stored");
        self.host.kedge(&["remove", &self.name, "--yes"]).succeeded();
        let volume = format!("{}_hooked:/hooked", self.name);
        let said =
            self.host.docker().run(&["run", "--rm", "--volume", &volume, &image, "cat", "/hooked/said"]);
        let said = said.succeeded();
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines, ["pre_start web", "pre_start tool", "post_start 1000", "pre_stop 0"]);
        assert!(self.host.docker().of_project("container", &self.name).is_empty());
        // Volumes are kept, and one without a name carries no label by which the end of the test would find it.
        let mounts = stored["Mounts"].as_array().into_iter().flatten();
        for mount in mounts.filter(|mount| mount["Destination"] == "/anonymous") {
            let volume = mount["Name"].as_str().unwrap_or_default();
            self.host.docker().run(&["volume", "rm", volume]).succeeded();
        }
    }
}
