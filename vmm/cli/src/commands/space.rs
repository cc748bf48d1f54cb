//! `portspace up`, `stop`, `rm`.

use std::path::Path;

use crate::config::{Config, SpaceName};
use crate::failure::{Outcome, While};
use crate::lifecycle::Spaces;

/// Creates and starts a space.
pub(super) fn up(file: &Path, session_keys: Option<&Path>) -> Outcome<()> {
    let config = Config::read(file, session_keys)
        .or_fail(|| "the configuration cannot be used".to_owned())?;
    let (name, address, peer) = (config.name.clone(), config.overlay.local, config.overlay.peer);
    let status = Spaces::open()?.up(file, config)?;
    let ready = status.ready_ns.unwrap_or(status.started_ns) - status.started_ns;
    say!(
        "space {name} is up: {address} to {peer}, process {}, ready after {:.1} ms",
        status.pid,
        ready as f64 / 1e6
    );
    Ok(())
}

/// Ends a space, or what shows its files elsewhere: it has one of the two; its files stay.
pub(super) fn stop(name: &SpaceName) -> Outcome<()> {
    let spaces = Spaces::open()?;
    if let Some(note) = spaces.noted(name)? {
        spaces.hide(name, &note)?;
        say!("space {name} is no longer {}; its files stay until portspace rm {name}", note.at);
        return Ok(());
    }
    spaces.stop(name)?;
    say!("space {name} is stopped; its files stay until portspace rm {name}");
    Ok(())
}

/// Removes a stopped space.
pub(super) fn remove(name: &SpaceName) -> Outcome<()> {
    Spaces::open()?.remove(name)?;
    say!("space {name} is removed");
    Ok(())
}
