//! Progress bars for long work, on a terminal only.

use super::out;
use indicatif::{ProgressBar, ProgressStyle};
use kedge_bundle::build::Progress;
use std::sync::{Mutex, PoisonError};

/// One bar at a time, on standard error.
#[derive(Debug, Default)]
pub(crate) struct Bars {
    current: Mutex<Option<ProgressBar>>,
}

/// A bar over so many bytes; hidden where there is no terminal.
pub(crate) fn bytes(what: &str, total: Option<u64>) -> ProgressBar {
    let bar = match (out::bars(), total) {
        (false, _) => ProgressBar::hidden(),
        (true, Some(total)) => ProgressBar::new(total),
        (true, None) => ProgressBar::no_length(),
    };
    let template = match total {
        Some(_) => "{msg} {wide_bar} {binary_bytes}/{binary_total_bytes}",
        None => "{msg} {spinner} {binary_bytes}",
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(out::clean(what).into_owned());
    bar
}

impl Bars {
    fn replace(&self, bar: Option<ProgressBar>) {
        if let Some(old) =
            std::mem::replace(&mut *self.current.lock().unwrap_or_else(PoisonError::into_inner), bar)
        {
            old.finish_and_clear();
        }
    }
}

impl Progress for Bars {
    fn begin(&self, what: &str, total: Option<u64>) {
        self.replace(Some(bytes(what, total)));
    }

    fn advance(&self, bytes: u64) {
        if let Some(bar) = &*self.current.lock().unwrap_or_else(PoisonError::into_inner) {
            bar.inc(bytes);
        }
    }

    fn end(&self) {
        self.replace(None);
    }
}

impl Drop for Bars {
    /// An error leaves no half bar behind.
    fn drop(&mut self) {
        self.replace(None);
    }
}
