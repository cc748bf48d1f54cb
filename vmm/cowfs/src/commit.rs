//! Committing what a space changed to its parent: all of it, or nothing.
//!
//! Copies are made beside their places, a journal says what is to be done, renames do
//! it. Whoever opens the layer next finishes what was interrupted, or undoes it.

mod apply;
mod journal;
mod layer;
mod plan;
mod refusal;
mod settle;
mod stage;

use crate::changes::{Comparison, Unselectable, path_of, shown};
use crate::host::Directory;
use crate::own::OwnLayer;
use apply::{Parent, StepFailure};
use fuse::Errno;
pub(crate) use journal::Desk;
use journal::{Journal, Phase};
use std::path::PathBuf;

pub use layer::{LayerPlan, Leaves};
pub use plan::Plan;
pub use refusal::Refusal;

/// Why nothing was committed.
#[derive(Debug, thiserror::Error)]
pub enum CommitFailure {
    /// The paths do not say what.
    #[error(transparent)]
    Selection(#[from] Unselectable),
    /// A layer cannot be opened.
    #[error(transparent)]
    Open(#[from] crate::OpenFailure),
    /// The parent is no live directory, or there are several.
    #[error(
        "the parent is no directory of the host; only what lies directly on one can be committed"
    )]
    NotBase,
    /// The parent's directory cannot be opened.
    #[error("the parent {} cannot be opened: {why}; make it accessible again", shown(path))]
    Parent {
        /// The directory.
        path: PathBuf,
        /// What the host said.
        why: std::io::Error,
    },
    /// Some of it cannot be the parent's.
    #[error("{}", first(.0))]
    Refused(Vec<(PathBuf, Refusal)>),
    /// The host refuses; the parent is as it was.
    #[error(
        "{} cannot be committed: {why}; nothing was changed, commit again once that is remedied",
        shown(path)
    )]
    Host {
        /// What was being committed.
        path: PathBuf,
        /// What the host said.
        why: Errno,
    },
    /// The parent changed something since it was compared; it is as it was.
    #[error(
        "the parent changed {} at this moment; nothing was committed, run commit again",
        shown(path)
    )]
    Meanwhile {
        /// What it changed.
        path: PathBuf,
    },
    /// Half of it could not be undone either: the journal remembers it.
    #[error(
        "{} could not be committed, and what was done could not be undone yet: {why}; commit again once that is remedied",
        shown(path)
    )]
    Interrupted {
        /// Where.
        path: PathBuf,
        /// What the host said.
        why: Errno,
    },
}

/// The first thing that is refused, and how many more.
fn first(refused: &[(PathBuf, Refusal)]) -> String {
    let one = refused.first().map(|(path, why)| format!("{}: {why}", shown(path)));
    let one = one.unwrap_or_default();
    match refused.len() {
        0 | 1 => format!("{one}; nothing was committed"),
        more => format!("{one}; and {} more; nothing was committed", more - 1),
    }
}

/// What is left of a commit that is done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Directories with what the parent had before that could not be removed.
    pub left: Vec<PathBuf>,
    /// Why the layer still holds what was committed, if it does; it is removed when the layer is
    /// opened again.
    pub unsettled: Option<Errno>,
}

/// What became of an interrupted commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovered {
    Nothing,
    Finished,
    Undone,
}

impl OwnLayer {
    /// Finds out what committing the changes at `paths` and below takes; without paths all
    /// changes. `over_conflicts`: also what the parent changed meanwhile.
    ///
    /// # Errors
    /// What cannot be committed; nothing is changed.
    pub fn plan<'c>(
        &self,
        compared: &'c Comparison,
        paths: &[PathBuf],
        over_conflicts: bool,
    ) -> Result<Plan<'c>, CommitFailure> {
        Plan::of(self, compared, paths, over_conflicts)
    }

    /// Commits; the parent has all of it when this returns, or nothing.
    ///
    /// # Errors
    /// The parent is as it was, except after [`CommitFailure::Interrupted`].
    pub fn commit(&mut self, plan: Plan<'_>) -> Result<Committed, CommitFailure> {
        let parent = Parent::open(&plan.journal.root)
            .map_err(|why| CommitFailure::Parent { path: path_of(&plan.journal.root), why })?;
        let mut journal = plan.journal.clone();
        let staged = journal.write(&self.desk).map_err(StepFailure::of(b"")).and_then(|()| {
            parent.make_stages(&journal)?;
            stage::stage(&plan, &parent, &mut journal)?;
            journal.phase = Phase::Take;
            journal.write(&self.desk).map_err(StepFailure::of(b""))
        });
        if let Err(failure) = staged {
            // Nothing but our own directories is there: what cannot be removed now is later.
            journal.phase = Phase::Stage;
            let _ = parent.remove_stages(&journal).and_then(|()| Journal::remove(&self.desk));
            return Err(failure.into());
        }
        if let Err(failure) = parent.forward(&mut journal, &self.desk) {
            return Err(match self.undo(&parent, &mut journal) {
                Ok(()) => failure.into(),
                Err(StepFailure::Host { path, why }) => CommitFailure::Interrupted { path, why },
                Err(StepFailure::Meanwhile { path }) => {
                    CommitFailure::Interrupted { path, why: Errno::EEXIST }
                }
            });
        }
        Ok(self.finish(Some(&parent), &journal))
    }

    /// Gives the parent back what it had.
    fn undo(&mut self, parent: &Parent, journal: &mut Journal) -> Result<(), StepFailure> {
        journal.back = true;
        // On a full disk the journal stays as it is, which is finished instead if we are killed.
        let _ = journal.write(&self.desk);
        parent.back(journal, &self.desk)?;
        self.refresh(parent, journal);
        let _ = parent.remove_stages(journal).and_then(|()| Journal::remove(&self.desk));
        Ok(())
    }

    /// The parent has it all: the layer need not, nor the stages.
    fn finish(&mut self, parent: Option<&Parent>, journal: &Journal) -> Committed {
        let mut committed = Committed::default();
        if let Err(why) = self.settle(&journal.settle) {
            committed.unsettled = Some(why);
            return committed;
        }
        let removed = parent.map_or(Ok(()), |parent| parent.remove_stages(journal));
        match removed {
            Ok(()) => committed.unsettled = Journal::remove(&self.desk).err(),
            Err(_) => committed.left = journal.stage_paths(),
        }
        committed
    }

    /// Finishes a commit that was interrupted, or undoes it.
    pub(crate) fn recover(&mut self) -> Result<Recovered, (PathBuf, std::io::Error)> {
        let io = crate::configuration::io_error;
        let work = self.config.work.clone();
        let Some(mut journal) = Journal::read(&self.desk).map_err(|why| (work, io(why)))? else {
            return Ok(Recovered::Nothing);
        };
        let root = path_of(&journal.root);
        let parent = match (Parent::open(&journal.root), journal.phase) {
            (Ok(parent), _) => Some(parent),
            (Err(_), Phase::Clean) => None,
            (Err(why), _) => return Err((root, why)),
        };
        let failed = |failure: StepFailure| match failure {
            StepFailure::Host { path, why } => (path, io(why)),
            StepFailure::Meanwhile { path } => (path, io(Errno::EEXIST)),
        };
        let Some(open) = &parent else {
            self.finish(None, &journal);
            return Ok(Recovered::Finished);
        };
        match journal.phase {
            Phase::Clean => {}
            Phase::Stage => {
                let _ = open.remove_stages(&journal).and_then(|()| Journal::remove(&self.desk));
                return Ok(Recovered::Undone);
            }
            Phase::Take | Phase::Put => {
                if journal.back || open.forward(&mut journal, &self.desk).is_err() {
                    self.undo(open, &mut journal).map_err(failed)?;
                    return Ok(Recovered::Undone);
                }
            }
        }
        match self.finish(parent.as_ref(), &journal).unsettled {
            Some(why) => Err((self.config.upper.clone(), io(why))),
            None => Ok(Recovered::Finished),
        }
    }
}

impl<'c> Plan<'c> {
    /// What is to be committed, by path.
    pub fn changes(&self) -> &[&'c crate::Change] {
        &self.changes
    }
}

impl Journal {
    fn stage_paths(&self) -> Vec<PathBuf> {
        let root = path_of(&self.root);
        let each = self
            .stages
            .iter()
            .map(|stage| root.join(path_of(&stage.path)).join(path_of(&self.name)));
        each.collect()
    }
}

impl From<StepFailure> for CommitFailure {
    fn from(failure: StepFailure) -> CommitFailure {
        match failure {
            StepFailure::Host { path, why } => CommitFailure::Host { path, why },
            StepFailure::Meanwhile { path } => CommitFailure::Meanwhile { path },
        }
    }
}

/// Recovers in the place of a space that is opened.
pub(crate) fn recover(
    config: &crate::Config,
    upper: &Directory,
    work: &Directory,
) -> Result<Recovered, (PathBuf, std::io::Error)> {
    let failed = |why| (config.work.clone(), why);
    let io = |errno| failed(crate::configuration::io_error(errno));
    // The same open directory, and so the same lock.
    let (upper, work) = (upper.try_clone().map_err(io)?, work.try_clone().map_err(io)?);
    OwnLayer::of(config.clone(), upper, work).map_err(failed)?.recover()
}
