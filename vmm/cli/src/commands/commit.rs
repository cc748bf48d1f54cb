//! `portspace commit` and `discard`: what a space changed goes to the parent, or away.

use std::io::{IsTerminal, stderr, stdin, stdout};
use std::path::PathBuf;

use clap::Args;
use cowfs::{Change, CommitFailure, Comparison, OwnLayer, shown};

use super::diff;
use super::listing::print_json;
use crate::config::SpaceName;
use crate::failure::{Failure, Outcome, While};
use crate::files::{self, OwnFiles};
use crate::lifecycle::Spaces;
use crate::locks;
use crate::mounting::is_shown;
use crate::progress::Progress;
use crate::table::count;

/// Refused changes that are named one by one.
const MOST_NAMED: usize = 50;

/// What `portspace commit` is told.
#[derive(Args)]
pub(super) struct CommitOptions {
    /// The space, which neither runs nor is mounted
    name: SpaceName,
    /// Paths inside, from the space's root; a directory means all below it [default: all]
    paths: Vec<PathBuf>,
    /// Override what the parent changed meanwhile
    #[arg(long)]
    force: bool,
    /// Say what would be committed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON: an array of what is committed
    #[arg(long)]
    json: bool,
}

/// What `portspace discard` is told.
#[derive(Args)]
pub(super) struct DiscardOptions {
    /// The space, which neither runs nor is mounted
    name: SpaceName,
    /// Paths inside, from the space's root; a directory means all below it [default: all]
    paths: Vec<PathBuf>,
    /// Discard everything without a question
    #[arg(long, short)]
    yes: bool,
    /// Say what would be discarded, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON: an array of what is discarded
    #[arg(long)]
    json: bool,
}

/// Applies a space's changes to its parent: all that are named, or none.
pub(super) fn commit(options: &CommitOptions) -> Outcome<()> {
    let spaces = Spaces::open()?;
    let files = gathered(&spaces, &options.name)?;
    let name = &files.name;
    let recipient = spaces.recipient(&files)?;
    if recipient.is_none() && files.root.is_none() {
        return Err(Failure::new(format!(
            "space {name} sees nothing of the parent, so there is nowhere to commit to; set root in [files]"
        )));
    }
    let (mut own, mut compared) = taken(&spaces, &files)?;
    if let Some(failure) = compared.parent.take() {
        return Err(failure).or_fail(|| format!("space {name} cannot be committed"));
    }
    if compared.changes.is_empty() && compared.unreadable.is_empty() {
        return said_nothing(options.json, &files);
    }
    let failed = || format!("space {name} cannot be committed to {}", files.parent());
    if let Some(parent) = recipient {
        let plan = parent.plan(&own, &compared, &options.paths, options.force);
        let plan = plan.map_err(told).or_fail(failed)?;
        if options.dry_run {
            return list(
                plan.changes(),
                options.json,
                &format!("would be committed to {}", files.parent()),
            );
        }
        spaces.hand(name, own, &plan, &parent).or_fail(failed)?;
        return list(plan.changes(), options.json, &format!("committed to {}", files.parent()));
    }
    let plan = own.plan(&compared, &options.paths, options.force);
    let plan = plan.map_err(told).or_fail(failed)?;
    let changes = plan.changes().to_vec();
    if options.dry_run {
        drop(plan);
        return list(&changes, options.json, &format!("would be committed to {}", files.parent()));
    }
    let progress = stderr().is_terminal().then(Progress::new);
    if let Some(progress) = &progress {
        progress.step(&format!("committing {}", count(changes.len() as u64, "change")));
    }
    let committed = own.commit(plan).map_err(told).or_fail(failed)?;
    drop(progress);
    for left in &committed.left {
        eprintln!(
            "portspace: what was replaced cannot be removed; remove {} yourself",
            shown(left)
        );
    }
    if let Some(why) = committed.unsettled {
        eprintln!(
            "portspace: space {name} still holds what was committed ({why}); the next up, mount, commit or discard removes it"
        );
    }
    list(&changes, options.json, &format!("committed to {}", files.parent()))
}

/// The files of a space, all that it wrote being in its own layer.
fn gathered(spaces: &Spaces, name: &SpaceName) -> Outcome<OwnFiles> {
    let files = OwnFiles::of(spaces, name)?;
    if files.lineage.as_ref().is_none_or(|lineage| lineage.own().next().is_none()) {
        return Ok(files);
    }
    must_be_idle(spaces, name)?;
    let progress = stderr().is_terminal().then(Progress::new);
    spaces.gather(&files, &progress)?;
    OwnFiles::of(spaces, name)
}

/// Forgets a space's changes: the parent's files are seen again.
pub(super) fn discard(options: &DiscardOptions) -> Outcome<()> {
    let spaces = Spaces::open()?;
    let is_all = options.paths.is_empty();
    // What is discarded as a whole need not be copied before.
    let files = match is_all {
        true => OwnFiles::of(&spaces, &options.name)?,
        false => gathered(&spaces, &options.name)?,
    };
    let name = &files.name;
    let (mut own, compared) = taken(&spaces, &files)?;
    let failed = || format!("the changes of space {name} cannot be discarded");
    // What cannot be looked at goes with everything else.
    let changes: Vec<&Change> = match is_all {
        true => compared.changes.iter().collect(),
        false => {
            own.discarded(&compared, &options.paths).map_err(Failure::from_error).or_fail(failed)?
        }
    };
    if options.dry_run {
        return list(&changes, options.json, "would be discarded");
    }
    if is_all && !options.yes {
        confirm(name, &changes)?;
    }
    own.discard(&compared, &options.paths).map_err(Failure::from_error).or_fail(failed)?;
    drop(own);
    if is_all {
        spaces.forget_sealed(&files).or_fail(failed)?;
    }
    list(&changes, options.json, "discarded")
}

/// Whoever serves a space has its files.
fn must_be_idle(spaces: &Spaces, name: &SpaceName) -> Outcome<()> {
    let paths = spaces.paths.space(name);
    if locks::is_held(&paths.lock())? {
        return Err(Failure::new(format!(
            "space {name} is running, and what runs inside has its files; first: portspace stop {name}"
        )));
    }
    if let Some(note) = spaces.noted(name)? {
        return Err(is_shown(name, Some(&note)));
    }
    Ok(())
}

/// The layer, locked, and compared.
fn taken(spaces: &Spaces, files: &OwnFiles) -> Outcome<(OwnLayer, Comparison)> {
    let name = &files.name;
    must_be_idle(spaces, name)?;
    let failed = || format!("the own files of space {name} cannot be opened");
    let own = files.config.take().or_fail(failed)?;
    let progress = stderr().is_terminal().then(Progress::new);
    let mut looked = |number| files::counted(&progress, "comparing", number);
    let compared = own.compare(&mut looked).or_fail(failed)?;
    Ok((own, compared))
}

/// Names what was refused, each in a line; the sentence remains.
fn told(failure: CommitFailure) -> Failure {
    if let CommitFailure::Refused(refused) = &failure
        && refused.len() > 1
    {
        for (path, why) in refused.iter().take(MOST_NAMED) {
            eprintln!("portspace: {}: {why}", shown(path));
        }
        if let Some(more) = refused.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
            eprintln!("portspace: and {more} more");
        }
    }
    Failure::from_error(failure)
}

fn said_nothing(json: bool, files: &OwnFiles) -> Outcome<()> {
    if json {
        return print_json(&[(); 0]);
    }
    say!("space {} has changed nothing of {}", files.name, files.parent());
    Ok(())
}

fn list(changes: &[&Change], json: bool, what: &str) -> Outcome<()> {
    if json {
        let entries: Vec<_> = changes.iter().map(|change| diff::entry(change)).collect();
        return print_json(&entries);
    }
    let colours = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for change in changes {
        say!("{}", diff::line(change, colours));
    }
    match changes.is_empty() {
        true => say!("nothing {what}"),
        false => say!("{} {what}", count(changes.len() as u64, "change")),
    }
    Ok(())
}

/// Asks on a terminal; elsewhere it has to be said beforehand.
fn confirm(name: &SpaceName, changes: &[&Change]) -> Outcome<()> {
    if !stdin().is_terminal() || !stderr().is_terminal() {
        return Err(Failure::new(format!(
            "without paths all that space {name} has of its own is discarded; say so with --yes, or name paths"
        )));
    }
    eprint!(
        "discard all that space {name} has of its own ({})? [y/N] ",
        count(changes.len() as u64, "change")
    );
    let mut answer = String::new();
    stdin().read_line(&mut answer).or_fail(|| "the answer cannot be read".to_owned())?;
    match matches!(answer.trim(), "y" | "Y" | "yes") {
        true => Ok(()),
        false => Err(Failure::new("nothing was discarded")),
    }
}
