//! `kedge inventory`: what runs here and what is kept here, by digest.

use jiff::Timestamp;
use kedge_proto::local::v1 as local;

use super::Context;
use super::failure::Failure;
use super::grid::{Cell, Grid};
use super::out::Paint;
use super::say;

/// Show what runs on this host and what is kept here, by digest
///
/// Every container is held against the image that was signed for its service: a container of another image is marked. Works
/// without any deployment. Digests are whole with `-o json`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge inventory
  kedge inventory shop -o json
  kedge inventory -o json | jq -e '[.deployments[].containers[].agrees] | all'")]
pub(super) struct Args {
    /// Only this deployment
    deployment: Option<String>,
}

/// Digits of a digest that people are shown.
const DIGITS: usize = 12;

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let request = local::InventoryRequest { deployment: args.deployment.unwrap_or_default() };
    let inventory = context.connect().await?.inventory(request).await?.into_inner();
    let out = &context.out;
    if out.json {
        return out.json(&inventory);
    }
    out.text(&page(&inventory, out.width(), out.colour(), Timestamp::now()))
}

fn page(inventory: &local::Inventory, width: usize, colour: bool, now: Timestamp) -> String {
    let mut text = String::new();
    for deployment in &inventory.deployments {
        let release = deployment.release.as_ref().map_or_else(
            || "no release".to_owned(),
            |release| {
                format!("{} {}, {}", say::clean(&deployment.product), say::release(release), release.digest)
            },
        );
        let since = say::age(&deployment.since, now);
        text.push_str(&format!("{}: {}, for {since}\n", say::clean(&deployment.name), say::clean(&release)));
        if !deployment.problem.is_empty() {
            text.push_str(&format!("  {}\n", Paint::Bad.on(&say::clean(&deployment.problem), colour)));
        }
        let mut grid = Grid::default();
        grid.heading(["SERVICE", "STATE", "SINCE", "IMAGE ID", "AS SIGNED", "IMAGE"]);
        for one in &deployment.containers {
            grid.row([
                format!("{}-{}", say::clean(&one.service), one.number).into(),
                say::clean(&one.state).into_owned().into(),
                say::age(&one.started_at, now).into(),
                short(&one.image_id).into(),
                if one.agrees { Cell::new("yes", Paint::Good) } else { Cell::new("NO", Paint::Bad) },
                if one.agrees {
                    say::clean(&one.image).into_owned()
                } else {
                    say::clean(&one.why).into_owned()
                }
                .into(),
            ]);
        }
        if !deployment.containers.is_empty() {
            text.push_str(&grid.render(2, width, colour));
        }
        text.push('\n');
    }
    if inventory.deployments.is_empty() {
        text.push_str("Nothing is deployed.\n\n");
    }
    if inventory.stored.is_empty() {
        text.push_str("No release is kept here.\n");
        return text;
    }
    let mut grid = Grid::default();
    grid.heading(["KEPT HERE", "RELEASE", "DIGEST", "FOR"]);
    for stored in &inventory.stored {
        let release = stored.release.clone().unwrap_or_default();
        let mut uses: Vec<String> = stored.active.iter().map(|name| format!("{name} runs it")).collect();
        uses.extend(stored.previous.iter().map(|name| format!("{name} can go back to it")));
        if !stored.problem.is_empty() {
            uses.push(stored.problem.clone());
        }
        grid.row([
            say::clean(&stored.product).into_owned().into(),
            say::release(&release).into(),
            short(&release.digest).into(),
            say::clean(&uses.join(", ")).into_owned().into(),
        ]);
    }
    text.push_str(&grid.render(0, width, colour));
    text
}

fn short(digest: &str) -> String {
    let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
    say::clean(digits).chars().take(DIGITS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_of_another_image_stands_out_and_an_empty_host_has_a_page() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        assert!(page(&local::Inventory::default(), 80, false, now).contains("Nothing is deployed"));
        let other = local::InventoryContainer {
            service: "web".into(),
            number: 1,
            image_id: format!("sha256:{}", "b".repeat(64)),
            why: "signed is sha256:aa".into(),
            ..local::InventoryContainer::default()
        };
        let shop = local::InventoryDeployment {
            name: "shop".into(),
            containers: vec![other],
            ..local::InventoryDeployment::default()
        };
        let text = page(
            &local::Inventory { deployments: vec![shop], ..local::Inventory::default() },
            100,
            false,
            now,
        );
        assert!(
            text.contains("NO") && text.contains("signed is sha256:aa") && text.contains("bbbbbbbbbbbb"),
            "{text}"
        );
    }
}
