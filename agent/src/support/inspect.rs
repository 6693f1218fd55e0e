//! Containers as the engine describes them, without the values of their environment, and blacked out.

use kedge_bundle::support::Target;
use serde_json::{Value, json};

use super::channel::{Channel, gone};
use super::container;
use crate::engine::Container;
use crate::problem::Problem;
use crate::redact::Redactor;
use crate::world::World;

/// Sends each container of the target as one line of JSON.
pub(super) async fn show(channel: &Channel, target: &Target, redactor: &Redactor) -> Result<i64, Problem> {
    let world = &channel.support.inner.world;
    for line in lines(world, target, redactor).await? {
        channel.mouth.say(false, line.into_bytes()).await.map_err(gone)?;
    }
    Ok(0)
}

/// One line of JSON a container.
pub(super) async fn lines(
    world: &World,
    target: &Target,
    redactor: &Redactor,
) -> Result<Vec<String>, Problem> {
    let mut lines = Vec::new();
    for container in container::targets(world, target).await? {
        let inspected = world.engine.inspect_container(&container.id).await;
        let inspected = inspected.map_err(|e| Problem::from_error(e.code(), &e))?;
        lines.push(format!("{}\n", clear(described(&inspected), redactor)));
    }
    Ok(lines)
}

fn described(container: &Container) -> Value {
    // Both serialise without fail; what does not shows nothing.
    let mut shown = serde_json::to_value(container).unwrap_or_default();
    if let Some(detail) = &container.detail {
        let mut spec = serde_json::to_value(&detail.spec).unwrap_or_default();
        let names: Vec<&String> = detail.spec.env.0.keys().collect();
        spec["env"] = json!(names);
        if let Some(spec) = spec.as_object_mut() {
            let empty = |value: &Value| match value {
                Value::Null | Value::Bool(false) => true,
                Value::Array(items) => items.is_empty(),
                Value::Object(map) => map.is_empty(),
                _ => false,
            };
            spec.retain(|_, value| !empty(value));
        }
        shown["spec"] = spec;
    }
    shown
}

/// Every text in it blacked out by itself: what stays is JSON. A value under a telling name goes whole.
pub(super) fn clear(value: Value, redactor: &Redactor) -> Value {
    match value {
        Value::String(text) if is_id(&text) => Value::String(redactor.only_known(&text)),
        Value::String(text) => Value::String(redactor.text(&text)),
        Value::Array(items) => Value::Array(items.into_iter().map(|item| clear(item, redactor)).collect()),
        Value::Object(map) => map
            .into_iter()
            .map(|(name, value)| {
                let value = match value {
                    Value::String(text) if !is_id(&text) && !redactor.may_show(&name, &text) => {
                        Value::String(if crate::redact::is_telling(&name) {
                            crate::redact::BLACK.into()
                        } else {
                            redactor.text(&text)
                        })
                    }
                    other => clear(other, redactor),
                };
                (redactor.text(&name), value)
            })
            .collect(),
        other => other,
    }
}

/// IDs and digests look random and are none's secret.
fn is_id(text: &str) -> bool {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use kedge_bundle::parameters::Secret;

    use crate::engine::types::Detail;

    use super::*;

    #[test]
    fn no_value_of_the_environment_and_no_secret_is_shown() {
        let mut detail = Detail::default();
        detail.spec.env.0.insert("GREETING".into(), Some("value-of-env".into()));
        detail.spec.command =
            Some(vec!["run".into(), "--key=hunter2".into(), "--dsn=postgres://a:b@c/d".into()]);
        detail.health_output = Some("login with hunter2 failed".into());
        let labels = [("note".to_owned(), "hunter2".to_owned()), ("token".to_owned(), "abc".to_owned())];
        let container = Container {
            id: "a1".repeat(32),
            labels: labels.into(),
            detail: Some(detail),
            ..Container::default()
        };
        let redactor = Redactor::knowing([Secret::new("hunter2".into())]);
        let shown = clear(described(&container), &redactor).to_string();
        for secret in ["value-of-env", "hunter2", "a:b@", "\"abc\""] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
        for fact in ["GREETING", &"a1".repeat(32), "login with"] {
            assert!(shown.contains(fact), "{fact}: {shown}");
        }
    }
}
