//! What a long command is doing: a spinner on a terminal, plain lines elsewhere.
//!
//! All of it on standard error; standard output is for results.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// The steps of one command.
#[derive(Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// Begins; nothing is shown before the first step.
    pub(crate) fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        Self(terminal.then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed:>3} {msg}")
                .expect("the template is well-formed");
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        }))
    }

    /// A step begins.
    pub(crate) fn step(&self, what: &str) {
        match &self.0 {
            Some(bar) => bar.set_message(what.to_owned()),
            None => eprintln!("... {what}"),
        }
    }

    /// A step has ended with something worth a line.
    pub(crate) fn done(&self, what: &str) {
        match &self.0 {
            Some(bar) => bar.println(what),
            None => eprintln!("    {what}"),
        }
    }

    /// Stops the spinner's own wake-ups while something is measured.
    pub(crate) fn quiet<T>(&self, work: impl FnOnce() -> T) -> T {
        if let Some(bar) = &self.0 {
            bar.disable_steady_tick();
            bar.tick();
        }
        let result = work();
        if let Some(bar) = &self.0 {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        result
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
