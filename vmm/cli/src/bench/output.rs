//! Where a bench's results go: a table or JSON, and plots in a directory.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use serde::Serialize;

use crate::failure::{Outcome, While};

/// What the user asked for.
#[derive(Clone, Debug)]
pub struct Output {
    /// JSON on standard output instead of a table.
    pub json: bool,
    /// The directory for plots.
    pub plots: PathBuf,
}

impl Output {
    /// Prints a report on standard output.
    pub(super) fn print<R: Serialize>(&self, report: &R, text: impl Fn(&R) -> String) {
        print(self.json, report, text);
    }

    /// Makes and opens the directory for plots: to be called before the lab mounts its own
    /// files, which may hide it.
    ///
    /// # Errors
    /// It cannot be made.
    pub(super) fn plots(&self) -> Outcome<Plots> {
        let failed =
            || format!("cannot make {} for the plots; choose one by --plots", self.plots.display());
        std::fs::create_dir_all(&self.plots).or_fail(failed)?;
        let path = std::path::absolute(&self.plots).or_fail(failed)?;
        Ok(Plots { directory: File::open(&self.plots).or_fail(failed)?, path })
    }
}

/// Prints a report on standard output, as JSON or as text.
pub(super) fn print<R: Serialize>(json: bool, report: &R, text: impl Fn(&R) -> String) {
    if json {
        say!("{}", serde_json::to_string_pretty(report).expect("a report is JSON"));
    } else {
        print!("{}", text(report));
    }
}

/// The open directory for plots.
pub(super) struct Plots {
    directory: File,
    path: PathBuf,
}

impl Plots {
    /// Writes one plot, and its path on standard error.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(&self, name: &str, svg: &str) -> Outcome<()> {
        let path = self.path.join(name);
        let failed = || format!("cannot write {}", path.display());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let file = openat(&self.directory, Path::new(name), flags, Mode::from_raw_mode(0o644))
            .or_fail(failed)?;
        File::from(file).write_all(svg.as_bytes()).or_fail(failed)?;
        eprintln!("plot: {}", path.display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_is_written_where_the_directory_was_when_it_was_opened() {
        let root = tempfile::tempdir().unwrap();
        let output = Output { json: false, plots: root.path().join("a/b") };
        let plots = output.plots().unwrap();
        std::fs::rename(root.path().join("a"), root.path().join("moved")).unwrap();
        plots.write("x.svg", "<svg/>").unwrap();
        let written = std::fs::read_to_string(root.path().join("moved/b/x.svg")).unwrap();
        assert_eq!(written, "<svg/>");
    }
}
