//! `portspace bare`: the overlay of a file for this whole host, until ended.

use std::path::Path;

use switch::bare::Options;

use crate::config::Config;
use crate::failure::{Outcome, While};

/// Runs in the foreground until SIGINT or SIGTERM.
pub(super) fn bare(file: &Path, session_keys: Option<&Path>) -> Outcome<()> {
    let config = Config::read(file, session_keys)
        .or_fail(|| "the configuration cannot be used".to_owned())?;
    let (local, peer) = (config.overlay.local, config.overlay.peer);
    let options = Options {
        device: "portspace%d".to_owned(),
        spin_us: config.spin_us.unwrap_or(switch::DEFAULT_SPIN_US),
    };
    let ready = |device: &str| eprintln!("{local} to {peer} goes through {device}; Ctrl-C ends it");
    let failed = || format!("bare IPsec of {} cannot run", file.display());
    switch::bare(config.overlay, &options, ready).map(drop).or_fail(failed)
}
