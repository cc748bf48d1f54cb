//! `portspace mount`: a space's files on the host.

use std::os::fd::AsFd;
use std::path::PathBuf;

use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use sys::signal::Termination;

use crate::config::{FilesConfig, SpaceName};
use crate::failure::{Failure, Outcome, While};
use crate::lifecycle::Spaces;
use crate::mounting::{How, Server, ending};

/// What `portspace mount` is told.
#[derive(Args)]
pub(super) struct Options {
    /// The space, or its configuration: a path that ends in .toml
    #[arg(value_name = "NAME|FILE.toml")]
    space: String,
    /// Where: a directory that is there
    directory: PathBuf,
    /// Stay until Ctrl-C or until it is unmounted
    #[arg(long)]
    foreground: bool,
    /// Let idle cores halt between requests: in a virtual machine that is slower, and saves power
    #[arg(long)]
    frugal: bool,
    /// Threads that answer requests
    #[arg(long, default_value_t = ::mount::DEFAULT_THREADS, value_parser = threads, hide = true)]
    threads: usize,
}

fn threads(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=64).contains(number));
    number.ok_or_else(|| "not a number of threads from 1 to 64".to_owned())
}

/// Mounts a space's files.
pub(super) fn mount(options: &Options) -> Outcome<()> {
    let spaces = Spaces::open()?;
    let (files, file) = configuration(&spaces, &options.space)?;
    // Taken over before anything is there that a signal would leave behind.
    let termination = match options.foreground {
        true => Some(Termination::new().or_fail(|| "cannot wait for signals".to_owned())?),
        false => None,
    };
    let Options { threads, frugal, .. } = *options;
    let how = How { threads, frugal, ends_with_us: options.foreground };
    let server = spaces.mount(&files, file.as_deref(), &options.directory, how)?;
    let (name, at) = (&files.name, &server.note.at);
    let Some(termination) = termination else {
        let ending = at.directory().map(ending).unwrap_or_default();
        say!("space {name} is {at}; end it with: {ending}");
        return Ok(());
    };
    say!("space {name} is {at}; Ctrl-C ends it");
    stay(&spaces, name, server, &termination)
}

/// What the space's files are, and the file that says so if it is not the space's own copy.
fn configuration(spaces: &Spaces, space: &str) -> Outcome<(FilesConfig, Option<PathBuf>)> {
    let failed = || "the configuration cannot be used".to_owned();
    if space.ends_with(".toml") {
        let file = PathBuf::from(space);
        return Ok((FilesConfig::read(&file, None).or_fail(failed)?, Some(file)));
    }
    let name: SpaceName = space.parse().map_err(Failure::from_error)?;
    let kept = spaces.paths.space(&name).configuration();
    if !kept.exists() {
        return Err(Failure::new(format!(
            "there is no space {name}; portspace ls lists those there are, or name its FILE.toml"
        )));
    }
    Ok((FilesConfig::read(&kept, Some(&name)).or_fail(failed)?, None))
}

/// Waits for the end of the mount, whoever brings it about.
fn stay(
    spaces: &Spaces,
    name: &SpaceName,
    mut server: Server,
    termination: &Termination,
) -> Outcome<()> {
    let failed = || format!("cannot wait for the end of the mount of {name}");
    if is_interrupted(&server, termination).or_fail(failed)? {
        spaces.hide(name, &server.note)?;
        eprintln!("space {name} is unmounted");
        return Ok(());
    }
    server.process.wait()
}

/// Waits for a signal, or for the end of the process; true if it was a signal.
fn is_interrupted(server: &Server, termination: &Termination) -> rustix::io::Result<bool> {
    let process = server.process.watch()?;
    loop {
        let (process, signals) = (process.as_fd(), termination.as_fd());
        let mut fds = [PollFd::new(&process, PollFlags::IN), PollFd::new(&signals, PollFlags::IN)];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        if !fds[1].revents().is_empty() {
            return Ok(true);
        }
        if !fds[0].revents().is_empty() {
            return Ok(false);
        }
    }
}
