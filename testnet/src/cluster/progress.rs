//! Telling whoever waits which phase a run is in: a bar on a terminal, a line for each phase elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// The phases of a run, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Start,
    Mesh,
    Load,
    Drain,
    Stop,
}

impl Phase {
    const COUNT: usize = 5;

    fn title(self) -> &'static str {
        match self {
            Self::Start => "starting nodes",
            Self::Mesh => "forming the mesh",
            Self::Load => "spreading messages",
            Self::Drain => "waiting for the rest",
            Self::Stop => "stopping nodes",
        }
    }
}

/// The progress of a run.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    /// Whether there is no terminal to draw a bar on.
    plain: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        // indicatif draws on standard error, and on nothing if that is no terminal.
        let bar = ProgressBar::new(1);
        let style = ProgressStyle::with_template("{spinner} {prefix:28} {bar:32} {msg}");
        bar.set_style(style.expect("the template is well-formed").progress_chars("=> "));
        bar.enable_steady_tick(Duration::from_millis(120));
        Self { bar, plain: !std::io::stderr().is_terminal() }
    }

    /// Begins a phase of `length` steps.
    pub(super) fn begin(&self, phase: Phase, length: u64) {
        let number = phase as usize + 1;
        self.bar.set_prefix(format!("[{number}/{}] {}", Phase::COUNT, phase.title()));
        self.bar.set_length(length.max(1));
        self.bar.set_position(0);
        self.bar.set_message("");
        if self.plain {
            note!("[{number}/{}] {}", Phase::COUNT, phase.title());
        }
    }

    /// Says how far the phase is.
    pub(super) fn update(&self, position: u64, message: String) {
        self.bar.set_position(position);
        self.bar.set_message(message);
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
