//! Root documents and drafts as people and programs read them.

use super::super::out::{self, Format, Table};
use crate::error::Result;
use kedge_bundle::ceremony::{Draft, Holder, Standing};
use kedge_bundle::roles::{Role, Root};
use std::path::Path;

/// Writes the result.
pub(crate) fn tell(draft: &Draft, path: Option<&Path>, output: Format) -> Result<()> {
    match output {
        Format::Json => out::json(&json(draft)),
        Format::Table => out::text(&describe(draft, path, out::colour())),
    }
}

/// For programs.
pub(crate) fn json(draft: &Draft) -> serde_json::Value {
    let standing = draft.standing();
    serde_json::json!({
        "root": draft.root(),
        "sha256": draft.fingerprint().hex(),
        "changes": draft.changes(),
        "complete": standing.complete(),
        "signatures": standing,
    })
}

/// For people.
pub(crate) fn describe(draft: &Draft, path: Option<&Path>, colour: bool) -> String {
    let (root, standing) = (draft.root(), draft.standing());
    let mut text = format!(
        "Root         {}version {}, epoch {}\nVendor       {}\nIssued       {}\nExpires      {}\nSHA-256      {}\n",
        path.map_or_else(String::new, |path| format!("{}, ", path.display())),
        root.version,
        root.epoch,
        out::clean(&root.vendor),
        root.issued,
        root.expires,
        draft.fingerprint().hex(),
    );
    for (number, change) in draft.changes().iter().enumerate() {
        let label = if number == 0 { "Changes" } else { "" };
        text.push_str(&format!("{label:<13}{}\n", out::clean(change)));
    }
    let mut table = Table::new(["ROOT KEY", "NAME", "COUNTS FOR", "SIGNED"]);
    for holder in &standing.holders {
        let counts = match (holder.before, holder.own) {
            (true, true) if root.version > 1 => format!("{} and {}", root.version - 1, root.version),
            (true, false) => format!("{}, removed", root.version - 1),
            _ => root.version.to_string(),
        };
        let name = out::or_dash(holder.name.as_deref().unwrap_or_default());
        table.row([holder.id.clone(), name, counts, if holder.signed { "yes" } else { "-" }.to_owned()]);
    }
    let missing = missing(&standing, root.version);
    format!("{text}\n{}\n{}\n{missing}\n", roles(root).render(colour), table.render(colour))
}

/// One sentence about what is still to be done.
pub(crate) fn missing(standing: &Standing, version: u64) -> String {
    let mut wanted = Vec::new();
    let before = standing.before.map(|count| (version.saturating_sub(1), count));
    for (version, count) in before.into_iter().chain([(version, standing.own)]) {
        if !count.met() {
            wanted.push(format!("{} of {} for version {version}", count.need - count.have, count.need));
        }
    }
    let worthless = match standing.worthless {
        0 => String::new(),
        count => format!(" {count} signatures count for nothing."),
    };
    if wanted.is_empty() {
        return format!("Complete: put it into the chain with `kedgectl keys root publish`.{worthless}");
    }
    format!("Still missing: {}.{worthless}", wanted.join(", "))
}

/// A holder's name.
pub(crate) fn called(holder: &Holder) -> String {
    match &holder.name {
        Some(name) => format!("{} (key {}…)", out::clean(name), &holder.id[..12.min(holder.id.len())]),
        None => format!("key {}", holder.id),
    }
}

/// Who holds what.
pub(crate) fn roles(root: &Root) -> Table {
    let mut table = Table::new(["ROLE", "MUST SIGN", "KEY", "NAME"]);
    for role in Role::ALL {
        let keys = root.role(role);
        for key in &keys.keys {
            let must = format!("{} of {}", keys.threshold, keys.keys.len());
            let name = out::or_dash(key.name.as_deref().unwrap_or_default());
            table.row([role.name().to_owned(), must, key.id(), name]);
        }
    }
    table
}
