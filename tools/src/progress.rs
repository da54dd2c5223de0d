//! Progress on stderr, and only where a person watches: on a terminal, and not under `--quiet`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::report;
use crate::train::TrainProgress;
use crate::train::checkpoint::Checkpoints;

/// How often a bar is drawn at most, and a spinner turned.
const DRAW_PER_SECOND: u8 = 10;

static SILENT: AtomicBool = AtomicBool::new(false);

/// Shows no progress and no notes from now on, in the whole process: `--quiet`.
pub fn silence() {
    SILENT.store(true, Ordering::Relaxed);
}

/// Whether [`silence`] was called.
pub fn is_silent() -> bool {
    SILENT.load(Ordering::Relaxed)
}

/// One line of progress. Clones share it; all methods take `&self`, from any thread.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// Where a training run that this watches keeps what it has reached.
    checkpoints: Option<Checkpoints>,
}

impl Progress {
    /// A bar that counts to `total`; a spinner where the total is not known and given as 0.
    pub fn bar(label: &str, total: u64) -> Self {
        let visible = report::stderr_is_terminal() && !is_silent();
        let target =
            if visible { ProgressDrawTarget::stderr_with_hz(DRAW_PER_SECOND) } else { ProgressDrawTarget::hidden() };
        let progress = Self { bar: ProgressBar::with_draw_target(None, target), checkpoints: None };
        progress.start(label, total);
        progress
    }

    /// Progress that nobody sees: for tests, and for work inside other work.
    pub fn hidden() -> Self {
        Self { bar: ProgressBar::hidden(), checkpoints: None }
    }

    /// The same, of training runs that keep what they have reached.
    #[must_use]
    pub fn keeping(mut self, checkpoints: Option<Checkpoints>) -> Self {
        self.checkpoints = checkpoints;
        self
    }

    /// Begins the next stage of the work on the same line, at 0 of `total`; 0 where the total is not known.
    pub fn start(&self, label: &str, total: u64) {
        self.bar.set_style(style(total > 0));
        self.bar.set_message(label.to_owned());
        self.bar.reset();
        if total > 0 {
            self.bar.disable_steady_tick();
            self.bar.set_length(total);
        } else {
            self.bar.enable_steady_tick(Duration::from_secs(1) / u32::from(DRAW_PER_SECOND));
        }
    }

    /// `n` more are done.
    pub fn inc(&self, n: u64) {
        self.bar.inc(n);
    }

    /// `done` are done.
    pub fn set(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Ends the progress and removes its line.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// Prints something else while the line of progress is off the screen.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bar.suspend(print)
    }

    /// What is being done, `done` of `total`; begins a new stage when the label changes.
    pub fn step(&self, label: &str, done: u64, total: u64) {
        if self.bar.message() != label || self.bar.length().unwrap_or(0) != total {
            self.start(label, total);
        }
        self.set(done);
    }
}

impl TrainProgress for Progress {
    fn step(&self, stage: &str, done: u64, total: u64) {
        Progress::step(self, stage, done, total);
    }

    fn checkpoints(&self) -> Option<&Checkpoints> {
        self.checkpoints.as_ref()
    }
}

impl kindred_index::build::Progress for Progress {
    fn step(&self, stage: &str, done: u64, total: u64) {
        Progress::step(self, stage, done, total);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // indicatif leaves the line of an abandoned bar on the terminal, in front of the next output.
        // A clone that goes away while another works only causes the line to be drawn anew.
        if !self.bar.is_finished() && !self.bar.is_hidden() {
            self.bar.suspend(|| ());
        }
    }
}

fn style(total_known: bool) -> ProgressStyle {
    let template = if total_known {
        "{msg:32} [{bar:30}] {human_pos}/{human_len} {elapsed} (left {eta})"
    } else {
        "{msg:32} {spinner} {human_pos} {elapsed}"
    };
    // The templates are fixed and right; were one not, a plain bar is better than a panic.
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    style.progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_label_begins_a_new_stage() {
        let progress = Progress::hidden();
        progress.step("read", 5, 10);
        progress.step("read", 7, 10);
        assert_eq!((progress.bar.position(), progress.bar.length()), (7, Some(10)));
        progress.step("sort", 1, 3);
        assert_eq!((progress.bar.position(), progress.bar.length()), (1, Some(3)));
        assert_eq!(progress.bar.message(), "sort");
        progress.finish();
        assert!(progress.bar.is_finished());
    }
}
