//! The switch, seen from the commands: found or started, asked, answered.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use switch::control::{Attached, Client, SpaceStatus, Status};
use switch::overlay::Overlay;

use crate::config::SpaceName;
use crate::failure::{Failure, Outcome, While};
use crate::paths::Paths;
use crate::processes::{Background, Given};

/// Longest wait for the switch to start.
const PATIENCE: Duration = Duration::from_secs(5);

/// Binds a space to its overlay; the switch is started if there is none, and then
/// spins for `spin_us` before it sleeps.
///
/// # Errors
/// The switch cannot start or refuses, in its own words.
pub(crate) fn attach(
    paths: &Paths,
    space: &SpaceName,
    overlay: Overlay,
    spin_us: u32,
) -> Outcome<Attached> {
    find_or_start(paths, spin_us)?
        .attach(space.as_str(), overlay)
        .or_fail(|| "the switch did not take it".to_owned())
}

/// A connection to the switch that runs.
///
/// # Errors
/// There is none.
pub(crate) fn connect(paths: &Paths) -> Outcome<Client> {
    Client::connect(&paths.switch_socket()).map_err(Failure::from_error)
}

/// How the switch and one of its spaces are; `None` if there is no switch or no such space.
///
/// # Errors
/// The switch is there but does not answer.
pub(crate) fn space(paths: &Paths, name: &SpaceName) -> Outcome<Option<(Status, SpaceStatus)>> {
    let Ok(client) = Client::connect(&paths.switch_socket()) else { return Ok(None) };
    let failed = || "cannot ask the switch".to_owned();
    let Some(space) = client.space(name.as_str()).or_fail(failed)? else { return Ok(None) };
    // Asked last: what the space counted happened before.
    Ok(Some((client.summary().or_fail(failed)?, space)))
}

/// The switch and its spaces without their SAs and policies; `None` if no switch answers.
pub(crate) fn overview(paths: &Paths) -> Option<Status> {
    Client::connect(&paths.switch_socket()).ok()?.overview().ok()
}

/// A connection to the switch. Whoever starts it holds a lock, so there is one.
pub(crate) fn find_or_start(paths: &Paths, spin_us: u32) -> Outcome<Client> {
    let socket = paths.switch_socket();
    if let Ok(client) = Client::connect(&socket) {
        return Ok(client);
    }
    let failed = || format!("cannot lock {}", paths.switch_lock().display());
    let lock = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(paths.switch_lock())
        .or_fail(failed)?;
    flock(&lock, FlockOperation::LockExclusive).or_fail(failed)?;
    if let Ok(client) = Client::connect(&socket) {
        return Ok(client);
    }
    // Nobody answers and nobody else is starting one: a killed switch left it behind.
    let _ = fs::remove_file(&socket);
    let path = socket.to_string_lossy();
    let log = paths.switch_log();
    let spin = format!("--spin-us={spin_us}");
    let arguments = ["switch-process", &path, &spin];
    let mut switch = Background::start("the switch", &arguments, Given::default(), &log)?;
    switch.wait_until(PATIENCE, || Client::connect(&socket).ok())
}
