//! The status of a host as a page for people: what is wrong stands out, everything fits 80 columns.

use jiff::Timestamp;
use kedge_proto::v1;
use kedge_proto::v1::{Health, Phase};

use super::grid::{Cell, Grid, wrap};
use super::out::Paint;
use super::say;

/// How to draw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    pub colour: bool,
    pub width: usize,
    pub now: Timestamp,
}

/// The whole page: the host, then every deployment.
pub(super) fn page(status: &v1::HostStatus, style: Style) -> String {
    let mut text = host(status, style);
    if status.deployments.is_empty() {
        text.push_str("\nNothing is deployed. `kedge import FILE` or `kedge deploy PRODUCT` changes that.\n");
    }
    for deployment in &status.deployments {
        text.push('\n');
        text.push_str(&self::deployment(deployment, style));
    }
    text
}

/// One line per deployment.
pub(super) fn list(deployments: &[v1::DeploymentStatus], style: Style) -> String {
    let mut grid = Grid::default();
    grid.heading(["NAME", "PRODUCT", "RELEASE", "PHASE", "HEALTH", "SINCE"]);
    for deployment in deployments {
        grid.row([
            Cell::new(say::clean(&deployment.name), Paint::Bold),
            say::clean(&product(deployment)).into_owned().into(),
            running(deployment).into(),
            phase_cell(deployment),
            health_cell(deployment.health),
            say::age(&deployment.since, style.now).into(),
        ]);
    }
    grid.render(0, style.width, style.colour)
}

fn host(status: &v1::HostStatus, style: Style) -> String {
    let mut grid = Grid::default();
    let label = |name: &str| Cell::new(name, Paint::Dim);
    let mut who = say::clean(&status.hostname).into_owned();
    if !status.site.is_empty() {
        who.push_str(&format!(", site {}", say::clean(&status.site)));
    }
    if !status.agent_version.is_empty() {
        who.push_str(&format!(", kedge {}", say::clean(&status.agent_version)));
    }
    if !status.os.is_empty() {
        who.push_str(&format!(", {} {}", say::clean(&status.os), say::clean(&status.arch)));
    }
    grid.row([label("host"), who.trim_start_matches(", ").into()]);
    let (engine, paint) = engine(status.engine.as_ref());
    grid.row([label("engine"), Cell::new(engine, paint)]);
    let (tether, paint) = tether(status.tether.as_ref(), style.now);
    grid.row([label("tether"), Cell::new(tether, paint)]);
    if status.disk_total_bytes > 0 {
        let low = status.disk_free_bytes < status.disk_total_bytes / 20;
        let (free, total) = (say::bytes(status.disk_free_bytes), say::bytes(status.disk_total_bytes));
        let paint = if low { Paint::Warn } else { Paint::Plain };
        grid.row([label("disk"), Cell::new(format!("{free} free of {total}"), paint)]);
    }
    if let Some(clock) = status.clock.filter(|clock| clock.suspect) {
        let behind = format!("SUSPECT: {} hours behind what is known", clock.behind_seconds / 3600);
        grid.row([label("clock"), Cell::new(behind, Paint::Bad)]);
    }
    for offer in status.tether.iter().flat_map(|t| &t.offers) {
        let (product, stream) = (say::clean(&offer.product), say::clean(&offer.stream));
        let version = say::clean(&offer.version);
        grid.row([
            label("offered"),
            format!("{product} {version}: `kedge deploy {product}@{stream}` takes it").into(),
        ]);
    }
    grid.render(0, style.width, style.colour)
}

fn engine(engine: Option<&v1::EngineStatus>) -> (String, Paint) {
    match engine {
        None => ("not known yet".to_owned(), Paint::Warn),
        Some(e) if e.reachable => {
            let store =
                if e.image_store.is_empty() { String::new() } else { format!(", {} store", e.image_store) };
            let text = format!("Docker {} (API {}){store}", e.version, e.api_version);
            (say::clean(&text).into_owned(), Paint::Plain)
        }
        Some(e) => (format!("DOWN: {}", say::clean(&e.problem)), Paint::Bad),
    }
}

fn tether(tether: Option<&v1::TetherStatus>, now: Timestamp) -> (String, Paint) {
    let Some(tether) = tether.filter(|t| t.enrolled) else {
        return ("none: this host is not enrolled with a hub".to_owned(), Paint::Dim);
    };
    let waiting = match tether.outbox {
        0 => String::new(),
        1 => ", 1 report waiting".to_owned(),
        n => format!(", {n} reports waiting"),
    };
    let hub = say::clean(&tether.hub);
    let since = if tether.since.is_empty() {
        String::new()
    } else {
        format!(" for {}", say::age(&tether.since, now))
    };
    if tether.connected {
        (format!("connected to {hub}{since}{waiting}"), Paint::Good)
    } else {
        let why = if tether.problem.is_empty() {
            String::new()
        } else {
            format!(": {}", say::clean(&tether.problem))
        };
        (format!("DOWN{since}, {hub}{waiting}{why}"), Paint::Warn)
    }
}

fn deployment(deployment: &v1::DeploymentStatus, style: Style) -> String {
    let mut text = headline(deployment, style);
    text.push_str(&services(&deployment.services, style));
    let mut notes = Grid::default();
    if let Some(pause) = &deployment.pause {
        notes.row([Cell::new("paused", Paint::Warn), paused_line(pause, style.now).into()]);
    }
    if let Some(operation) = &deployment.operation {
        notes.row([Cell::new("now", Paint::Warn), operation_line(deployment.phase, operation).into()]);
    }
    if let Some(problem) = &deployment.last_problem {
        problem_rows(&mut notes, "problem", problem);
    }
    if let Some(drift) = &deployment.last_drift {
        notes.row([Cell::new("drift", Paint::Dim), drift_line(drift, style.now).into()]);
    }
    for refused in &deployment.refused {
        let release = refused.release.as_ref().map(say::release).unwrap_or_default();
        let problem = refused.problem.clone().unwrap_or_default();
        let at = say::age(&refused.at, style.now);
        let same = deployment.last_problem.as_ref() == Some(&problem);
        let line = if same {
            format!("{release} {at} ago, for the problem above")
        } else {
            format!("{release} {at} ago: {} [{}]", say::clean(&problem.message), say::clean(&problem.code))
        };
        notes.row([Cell::new("refused", Paint::Warn), line.into()]);
    }
    text.push_str(&notes.render(2, style.width, style.colour));
    text
}

fn headline(deployment: &v1::DeploymentStatus, style: Style) -> String {
    let name = Paint::Bold.on(&say::clean(&deployment.name), style.colour);
    let health = health_cell(deployment.health);
    let mut facts = vec![say::clean(&product(deployment)).into_owned(), running(deployment)];
    if Phase::try_from(deployment.phase) != Ok(Phase::Active) {
        facts.push(say::phase(deployment.phase));
    }
    if deployment.paused {
        facts.push("PAUSED".to_owned());
    }
    let mut grid = Grid::default();
    let since = match deployment.since.as_str() {
        "" => String::new(),
        since => format!("active for {}", say::age(since, style.now)),
    };
    grid.row([name.as_str().into(), facts.join(", ").into(), health, since.into()]);
    grid.render(0, style.width, style.colour)
}

fn services(services: &[v1::ServiceStatus], style: Style) -> String {
    if services.is_empty() {
        return String::new();
    }
    let mut grid = Grid::default();
    grid.heading(["SERVICE", "STATE", "HEALTH", "UP", "RESTARTS", "PORTS"]);
    for service in services {
        let short = service.running < service.desired;
        let many = service.restarts > 0;
        grid.row([
            say::clean(&service.name).into_owned().into(),
            say::clean(&service.state).into_owned().into(),
            health_cell(service.health),
            Cell::new(
                format!("{}/{}", service.running, service.desired),
                if short { Paint::Bad } else { Paint::Plain },
            ),
            Cell::new(service.restarts.to_string(), if many { Paint::Warn } else { Paint::Plain }),
            say::clean(&service.ports.join(" ")).into_owned().into(),
        ]);
    }
    let mut text = grid.render(2, style.width, style.colour);
    for (service, crash) in services.iter().filter_map(|s| Some((s, s.crash_loop.as_ref()?))) {
        for part in wrap(&crash_line(service, crash), style.width.saturating_sub(4)) {
            text.push_str(&format!("    {}\n", Paint::Bad.on(part, style.colour)));
        }
    }
    // Why a service is not well goes below: inside the table it would push the columns off the screen.
    for service in services.iter().filter(|s| !s.message.is_empty() && !is_well(s.health)) {
        let line = format!("{}: {}", say::clean(&service.name), say::clean(&service.message));
        for part in wrap(&line, style.width.saturating_sub(4)) {
            text.push_str(&format!("    {}\n", Paint::Dim.on(part, style.colour)));
        }
    }
    text
}

fn drift_line(drift: &v1::Drift, now: Timestamp) -> String {
    let what = say::clean(&drift.what.join("; ")).into_owned();
    format!("{} ago, {}: {what}", say::age(&drift.at, now), say::clean(&drift.outcome))
}

fn crash_line(service: &v1::ServiceStatus, crash: &v1::CrashLoop) -> String {
    let name = say::clean(&service.name);
    let mut line = format!("{name} keeps ending: {} times, exit code {}", crash.count, crash.exit_code);
    if !crash.output.is_empty() {
        line.push_str(&format!("; it said last: {}", say::clean(&crash.output.join(" | "))));
    }
    line
}

fn paused_line(pause: &v1::Pause, now: Timestamp) -> String {
    let mut line = format!("by {} {} ago", say::clean(&pause.by), say::age(&pause.at, now));
    if !pause.reason.is_empty() {
        line.push_str(&format!(": {}", say::clean(&pause.reason)));
    }
    line
}

fn operation_line(phase: i32, operation: &v1::Operation) -> String {
    let target = operation.target.as_ref().map(say::release).unwrap_or_default();
    let mut line = format!("{}: {}", target, say::phase(phase)).trim_start_matches(": ").to_owned();
    if operation.total_bytes > 0 {
        let (done, total) = (say::bytes(operation.done_bytes), say::bytes(operation.total_bytes));
        line.push_str(&format!(", {done} of {total}"));
    }
    if !operation.step.is_empty() {
        line.push_str(&format!(", {}", say::clean(&operation.step)));
    }
    if operation.attempt > 1 {
        line.push_str(&format!(" (attempt {})", operation.attempt));
    }
    line
}

fn problem_rows(grid: &mut Grid, label: &str, problem: &v1::Problem) {
    let line = format!("{} [{}]", say::clean(&problem.message), say::clean(&problem.code));
    grid.row([Cell::new(label, Paint::Bad), line.into()]);
    if !problem.remedy.is_empty() {
        grid.row([Cell::new("help", Paint::Dim), say::clean(&problem.remedy).into_owned().into()]);
    }
}

fn product(deployment: &v1::DeploymentStatus) -> String {
    if deployment.stream.is_empty() {
        deployment.product.clone()
    } else {
        format!("{}@{}", deployment.product, deployment.stream)
    }
}

fn running(deployment: &v1::DeploymentStatus) -> String {
    deployment.active.as_ref().map_or_else(|| "nothing yet".to_owned(), say::release)
}

fn phase_cell(deployment: &v1::DeploymentStatus) -> Cell {
    let paint = match Phase::try_from(deployment.phase) {
        Ok(Phase::Active) => Paint::Plain,
        Ok(Phase::Failed | Phase::RollingBack) => Paint::Bad,
        _ => Paint::Warn,
    };
    Cell::new(say::phase(deployment.phase), paint)
}

fn health_cell(health: i32) -> Cell {
    let paint = match Health::try_from(health) {
        Ok(Health::Healthy) => Paint::Good,
        Ok(Health::Unhealthy) => Paint::Bad,
        Ok(Health::Stopped | Health::Unspecified) => Paint::Dim,
        Ok(Health::Starting | Health::Degraded | Health::Unknown) | Err(_) => Paint::Warn,
    };
    Cell::new(health_name(health), paint)
}

/// Health in a word; `-` where nobody said.
pub(super) fn health_name(health: i32) -> String {
    if health == 0 { "-".to_owned() } else { kedge_proto::name::of_health(health) }
}

fn is_well(health: i32) -> bool {
    Health::try_from(health) == Ok(Health::Healthy)
}

/// Every line of `now` that was not said in `before`: for a reader that cannot redraw.
pub(super) fn changes(before: Option<&v1::HostStatus>, now: &v1::HostStatus, at: Timestamp) -> Vec<String> {
    let known = before.map(|status| facts(status, at)).unwrap_or_default();
    let mut lines: Vec<String> = facts(now, at).into_iter().filter(|fact| !known.contains(fact)).collect();
    for gone in before.iter().flat_map(|b| &b.deployments) {
        if !now.deployments.iter().any(|d| d.name == gone.name) {
            lines.push(format!("{}: removed", say::clean(&gone.name)));
        }
    }
    lines
}

fn facts(status: &v1::HostStatus, at: Timestamp) -> Vec<String> {
    let mut facts = vec![format!("engine: {}", engine(status.engine.as_ref()).0)];
    // Ages and counts would make a line of every moment.
    let still = status.tether.clone().map(|t| v1::TetherStatus { since: String::new(), outbox: 0, ..t });
    facts.push(format!("tether: {}", tether(still.as_ref(), at).0));
    for deployment in &status.deployments {
        let name = say::clean(&deployment.name);
        let health = health_name(deployment.health);
        facts.push(format!("{name}: {}, {}, {health}", running(deployment), say::phase(deployment.phase)));
        if let Some(pause) = &deployment.pause {
            facts.push(format!("{name}: paused by {}: {}", say::clean(&pause.by), say::clean(&pause.reason)));
        }
        if let Some(problem) = &deployment.last_problem {
            facts.push(format!("{name}: {} [{}]", say::clean(&problem.message), say::clean(&problem.code)));
        }
        if let Some(drift) = &deployment.last_drift {
            facts.push(format!("{name}: drift {}: {}", drift.outcome, say::clean(&drift.what.join("; "))));
        }
        for service in &deployment.services {
            let (service_name, state) = (say::clean(&service.name), say::clean(&service.state));
            facts.push(format!("{name}/{service_name}: {state}, {}", health_name(service.health)));
        }
    }
    facts
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
