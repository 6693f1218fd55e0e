//! Follows an operation in the daemon to its end: bars on a terminal, a line a step elsewhere, JSON on request.
//!
//! The operation is the daemon's. Ctrl-C, or this process's end, stops the following and not the operation,
//! unless the daemon is still waiting for bytes that only this process can send.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kedge_proto::local::v1 as local;
use kedge_proto::local::v1::progress::Body;
use kedge_proto::v1::Phase;
use tonic::{Response, Status, Streaming};

use super::diff;
use super::failure::Failure;
use super::grid;
use super::out::Out;
use super::say;
use crate::codes;
use crate::problem::Problem;

/// How often the upload's bar moves.
const TICK: Duration = Duration::from_millis(100);

/// Bytes on their way from this process to the daemon.
#[derive(Debug, Clone, Default)]
pub(super) struct Upload {
    /// Sent so far.
    pub sent: Arc<AtomicU64>,
    /// In all; 0 where it is not known.
    pub total: u64,
}

/// What is followed.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// Set where this process feeds the operation.
    pub upload: Option<Upload>,
    /// Stop following once the daemon goes on by itself.
    pub detach: bool,
    /// The caller shows the result; as JSON the steps before it are not results.
    pub result_only: bool,
}

/// Follows until the end. `None` when it goes on without us.
pub(super) async fn follow(
    out: &Out,
    call: impl Future<Output = Result<Response<Streaming<local::Progress>>, Status>>,
    options: Options,
) -> Result<Option<local::Done>, Failure> {
    let steps = futures_util::stream::once(call).map_ok(Response::into_inner).try_flatten();
    tokio::pin!(steps);
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut tick = tokio::time::interval(TICK);
    let mut show = Show::new(out);
    // Whether the daemon has all it needs to go on by itself.
    let mut accepted = options.upload.is_none();
    loop {
        // Cancel safe: a stream keeps what it has not given yet, the interrupt is polled by reference, and a
        // tick that is lost is drawn by the next.
        tokio::select! {
            step = steps.next() => match step {
                Some(Ok(progress)) => {
                    if out.json && !options.result_only {
                        out.json(&progress)?;
                    }
                    match progress.body {
                        Some(Body::Step(step)) => {
                            accepted |= goes_on_by_itself(step.phase);
                            show.step(&step);
                            if options.detach && accepted {
                                return Ok(None);
                            }
                        }
                        Some(Body::Done(done)) => return Ok(Some(done)),
                        Some(Body::Failed(problem)) => return Err(Failure::Problem(problem)),
                        // A newer daemon's message: the next one will be understood again.
                        None => {}
                    }
                }
                Some(Err(status)) => return Err(status.into()),
                None => {
                    let problem = Problem::new(&codes::DAEMON_UNREACHABLE, "the agent ended before the operation did; it goes on when the agent starts again");
                    return Err(problem.into());
                }
            },
            _ = &mut interrupt => {
                drop(show);
                out.note(if accepted {
                    "interrupted: the operation goes on in the agent; `kedge status --watch` shows it"
                } else {
                    "interrupted before the agent had the whole bundle: nothing was changed"
                });
                return Err(Failure::Interrupted);
            }
            _ = tick.tick(), if !accepted && out.bars => {
                if let Some(upload) = &options.upload {
                    show.upload(upload);
                }
            }
        }
    }
}

/// Says how it ended.
pub(super) fn conclude(out: &Out, done: Option<&local::Done>) -> Result<(), Failure> {
    if out.json {
        return Ok(());
    }
    let Some(done) = done else {
        out.note("the operation goes on in the agent; `kedge status --watch` shows it");
        return Ok(());
    };
    let mut text = String::new();
    match &done.diff {
        Some(diff) => text.push_str(&diff::page(diff, out.colour())),
        None => {
            for step in &done.plan {
                text.push_str(&format!("  {}\n", say::clean(step)));
            }
        }
    }
    if !out.quiet {
        text.push_str(&format!("{}\n", say::clean_lines(&done.message)));
        for kept in &done.kept {
            text.push_str(&format!("  kept: {}\n", say::clean(kept)));
        }
    }
    out.text(&text)
}

/// From `Verified` on the daemon holds the bundle.
fn goes_on_by_itself(phase: i32) -> bool {
    !matches!(Phase::try_from(phase), Ok(Phase::Unspecified | Phase::Offered | Phase::Fetching) | Err(_))
}

/// The one line on a terminal that changes, or one line a step.
struct Show<'a> {
    out: &'a Out,
    bar: Option<ProgressBar>,
    last: String,
    stepped: bool,
}

impl<'a> Show<'a> {
    fn new(out: &'a Out) -> Self {
        let bar = out.bars.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            draw(&bar, "", 0, 0);
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { out, bar, last: String::new(), stepped: false }
    }

    fn step(&mut self, step: &local::Step) {
        let line = sentence(step);
        match &self.bar {
            Some(bar) => {
                self.stepped = step.total_bytes > 0;
                draw(bar, &line, step.done_bytes, step.total_bytes);
            }
            None if !self.out.json && self.last != line => self.out.note(&line),
            None => {}
        }
        self.last = line;
    }

    /// Until the daemon itself counts bytes, ours are the ones to show.
    fn upload(&self, upload: &Upload) {
        if let Some(bar) = self.bar.as_ref().filter(|_| !self.stepped) {
            let sent = upload.sent.load(Ordering::Relaxed);
            let line = if self.last.is_empty() { "sending the bundle" } else { &self.last };
            if upload.total > 0 {
                draw(bar, line, sent, upload.total);
            } else {
                draw(bar, &format!("{line}, {}", say::bytes(sent)), 0, 0);
            }
        }
    }
}

impl Drop for Show<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn draw(bar: &ProgressBar, line: &str, done: u64, total: u64) {
    let template = if total > 0 {
        "{spinner} {msg} [{bar:20}] {binary_bytes}/{binary_total_bytes} {eta}"
    } else {
        "{spinner} {msg}"
    };
    if bar.length() != Some(total) {
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_length(total);
    }
    // One line on any terminal: the rest of the sentence is not worth a second one.
    bar.set_message(grid::wrap(line, 44).first().copied().unwrap_or_default().to_owned());
    bar.set_position(done);
}

fn sentence(step: &local::Step) -> String {
    let (phase, message) = (say::phase(step.phase), say::clean(&step.message));
    if message.is_empty() || message == phase {
        phase
    } else if step.phase == 0 {
        message.into_owned()
    } else {
        format!("{phase}: {message}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_the_daemons_from_verified_on() {
        for (phase, expected) in [
            (Phase::Unspecified, false),
            (Phase::Offered, false),
            (Phase::Fetching, false),
            (Phase::Verified, true),
            (Phase::Gating, true),
            (Phase::Failed, true),
        ] {
            assert_eq!(goes_on_by_itself(phase.into()), expected, "{phase:?}");
        }
        assert!(!goes_on_by_itself(9999));
    }

    #[test]
    fn steps_are_sentences() {
        let step = |phase: Phase, message: &str| local::Step {
            phase: phase.into(),
            message: message.into(),
            ..local::Step::default()
        };
        assert_eq!(sentence(&step(Phase::RollingBack, "web is unhealthy")), "rolling back: web is unhealthy");
        assert_eq!(sentence(&step(Phase::Unspecified, "reading")), "reading");
        assert_eq!(sentence(&step(Phase::Applying, "")), "applying");
        assert_eq!(sentence(&step(Phase::RollingBack, "rolling back")), "rolling back");
    }
}
