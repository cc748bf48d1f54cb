//! What files cost through a space, against other ways to show them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::Spread;

/// All of a `bench files`; its JSON, which stays stable.
#[derive(Clone, Debug, Serialize)]
pub struct Files {
    /// Where.
    pub disk: String,
    /// What was compared.
    pub systems: Vec<FileSystem>,
    /// What was done.
    pub jobs: Vec<Job>,
    /// The first `ls` in trees of two sizes, if it was asked for.
    pub first_ls: Vec<Growth>,
}

/// One way to show files.
#[derive(Clone, Debug, Serialize)]
pub struct FileSystem {
    /// Which.
    pub name: &'static str,
    /// Of its program, if it says so.
    pub version: Option<String>,
    /// Why it was not measured.
    pub left_out: Option<String>,
}

/// One thing to do with files.
#[derive(Clone, Debug, Serialize)]
pub struct Job {
    /// What.
    pub name: &'static str,
    /// Milliseconds, by system.
    pub ms: BTreeMap<&'static str, Spread>,
    /// Ours over overlayfs, round by round.
    pub over_overlayfs: Option<Spread>,
    /// Ours over fuse-overlayfs, round by round.
    pub over_fuse_overlayfs: Option<Spread>,
    /// The goal: at most so many times overlayfs.
    pub limit_over_overlayfs: Option<f64>,
}

/// The first `ls` of one system.
#[derive(Clone, Debug, Serialize)]
pub struct Growth {
    /// Which.
    pub name: &'static str,
    /// Milliseconds with mounting, ten files.
    pub ten_ms: Spread,
    /// A million.
    pub million_ms: Spread,
    /// The million over the ten, round by round.
    pub ratio: Spread,
}

/// The columns of the table.
const COLUMNS: [&str; 4] = ["plain", "overlayfs", "fuse-overlayfs", "portspace"];

impl Job {
    /// Whether both goals are reached, as far as they were measured.
    pub fn is_reached(&self) -> bool {
        let over = |ratio: Option<Spread>, limit: Option<f64>| match (ratio, limit) {
            (Some(ratio), Some(limit)) => ratio.median > limit,
            _ => false,
        };
        !over(self.over_overlayfs, self.limit_over_overlayfs)
            && !over(self.over_fuse_overlayfs, Some(1.0))
    }

    /// The goals, and a mark if one is missed.
    fn goals(&self) -> String {
        let mut goals = Vec::new();
        if let (Some(limit), Some(_)) = (self.limit_over_overlayfs, self.over_overlayfs) {
            goals.push(format!("{limit} overlayfs"));
        }
        if self.over_fuse_overlayfs.is_some() {
            goals.push("1 fuse".to_owned());
        }
        let mark = if self.is_reached() { "" } else { "  MISSED" };
        format!("{}{mark}", goals.join(", "))
    }

    /// The ratios alone.
    pub(crate) fn line(&self) -> String {
        let ratio = |ratio: Option<Spread>| ratio.map_or("-".to_owned(), |ratio| ratio.text());
        let (kernel, fuse) = (ratio(self.over_overlayfs), ratio(self.over_fuse_overlayfs));
        format!("{}: / overlayfs {kernel}, / fuse-overlayfs {fuse}", self.name)
    }
}

impl Files {
    /// The table for a person.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a String takes every write");
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\non {}", self.disk)?;
        for system in &self.systems {
            match (&system.left_out, &system.version) {
                (Some(why), _) => writeln!(out, "{} was left out: {why}", system.name)?,
                (None, Some(version)) => writeln!(out, "{} is version {version}", system.name)?,
                (None, None) => {}
            }
        }
        let [plain, kernel, fuse, own] = COLUMNS;
        writeln!(
            out,
            "\n{:<32} {plain:>9} {kernel:>9} {fuse:>14} {own:>9}  {:<20} {:<20} at most",
            "ms, medians", "/ overlayfs", "/ fuse-overlayfs"
        )?;
        for job in &self.jobs {
            write!(out, "{:<32}", job.name)?;
            for (name, width) in COLUMNS.iter().zip([9, 9, 14, 9]) {
                let ms = job.ms.get(name).map_or("-".to_owned(), |ms| format!("{:.1}", ms.median));
                write!(out, " {ms:>width$}")?;
            }
            let ratio = |ratio: Option<Spread>| ratio.map_or("-".to_owned(), |ratio| ratio.text());
            let (kernel, fuse) = (ratio(job.over_overlayfs), ratio(job.over_fuse_overlayfs));
            writeln!(out, "  {kernel:<20} {fuse:<20} {}", job.goals())?;
        }
        if self.first_ls.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\n{:<32} {:>9} {:>9}  a million / ten",
            "mount and first ls, ms", "ten files", "a million"
        )?;
        for Growth { name, ten_ms, million_ms, ratio } in &self.first_ls {
            let (ten, million) = (ten_ms.median, million_ms.median);
            writeln!(out, "{name:<32} {ten:>9.1} {million:>9.1}  {}", ratio.text())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(kernel: f64, fuse: f64) -> Job {
        let spread = |median| Some(Spread { median, min: median, max: median });
        Job {
            name: "find",
            ms: BTreeMap::new(),
            over_overlayfs: spread(kernel),
            over_fuse_overlayfs: spread(fuse),
            limit_over_overlayfs: Some(1.5),
        }
    }

    #[test]
    fn a_goal_that_is_missed_is_marked() {
        assert!(job(1.5, 0.9).is_reached());
        assert!(!job(1.51, 0.9).is_reached());
        assert!(!job(1.2, 1.01).is_reached());
        assert_eq!(job(2.0, 0.5).goals(), "1.5 overlayfs, 1 fuse  MISSED");
        let alone = Job { over_overlayfs: None, over_fuse_overlayfs: None, ..job(9.0, 9.0) };
        assert!(alone.is_reached() && alone.goals().is_empty());
    }

    #[test]
    fn what_was_left_out_is_named_with_the_reason() {
        let left_out = Some("there is none".to_owned());
        let systems = vec![FileSystem { name: "overlayfs", version: None, left_out }];
        let report =
            Files { disk: String::new(), systems, jobs: vec![job(1.0, 0.5)], first_ls: Vec::new() };
        assert!(report.text().contains("overlayfs was left out: there is none"));
        assert!(report.text().contains("1.00 (1.00-1.00)"));
    }
}
