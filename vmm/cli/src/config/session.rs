//! `--session-keys`: pairs of SAs as key management hands them over, JSON.

use std::fmt::Display;
use std::path::Path;

use switch::overlay::{Encapsulation, Mode, SaPair};
use zeroize::Zeroizing;

use super::overlay::Frame;
use super::sa::{lifetime_fits, spi, window_size};
use super::{Keyed, Mistake};

/// Reads a file of pairs; what they are to fit is not known yet.
///
/// # Errors
/// [`Mistake`] if it cannot be read or is something else.
pub(super) fn read(path: &Path) -> Result<Keyed, Mistake> {
    let file = path.display().to_string();
    let text =
        std::fs::read(path).map_err(|source| Mistake::Unreadable { file: file.clone(), source })?;
    let text = Zeroizing::new(text);
    let pairs = serde_json::from_slice(&text).map_err(|error| {
        wrong(&file, format_args!("is no list of SAs ({error}); have it written anew"))
    })?;
    Ok(Keyed::BySession(file, pairs))
}

/// Checks what the types do not say, and fills in the overlay's own remote.
///
/// # Errors
/// The first [`Mistake`], by the place of its pair.
pub(super) fn check(file: &str, pairs: &mut [SaPair], frame: &Frame) -> Result<(), Mistake> {
    if pairs.is_empty() {
        return Err(wrong(file, "holds no SAs; have it written anew"));
    }
    if frame.encapsulation == Encapsulation::Local {
        let what =
            "contradicts encapsulation \"local\", which takes SPIs alone; use [overlay.manual]";
        return Err(wrong(file, what));
    }
    for (at, pair) in pairs.iter().enumerate() {
        let of_pair = |what: &dyn Display| wrong(file, format_args!("pair {at}: {what}"));
        for sa in [&pair.inbound, &pair.outbound] {
            spi(sa.spi).map_err(|what| of_pair(&what))?;
            for (name, found, needed) in [
                ("cipher_key", sa.cipher_key.len(), sa.suite.cipher_key_len()),
                ("auth_key", sa.auth_key.len(), sa.suite.auth_key_len()),
            ] {
                if found != needed {
                    let what = format_args!(
                        "{name} of SPI {:#x} has {found} bytes where {} needs {needed}; have the file written anew",
                        sa.spi, sa.suite
                    );
                    return Err(wrong(file, format_args!("pair {at}: {what}")));
                }
            }
        }
        window_size(pair.window).map_err(|what| of_pair(&what))?;
        lifetime_fits(&pair.lifetime, pair.esn).map_err(|what| of_pair(&what))?;
        let twice = pairs[..at].iter().any(|other| {
            other.inbound.spi == pair.inbound.spi || other.outbound.spi == pair.outbound.spi
        });
        if twice {
            return Err(of_pair(&"has the SPI of another; give each SA an SPI of its own"));
        }
        let remote = &pair.traffic.remote;
        if frame.mode == Mode::Transport && !remote.is_empty() {
            return Err(of_pair(
                &"remote contradicts transport mode, which reaches the peer alone; remove one of the two",
            ));
        }
        if let Some(range) = remote.iter().find(|range| !frame.speaks(range)) {
            let what = format_args!(
                "the space has no address of the family of {range}; remove it, or add one to [space] address"
            );
            return Err(wrong(file, format_args!("pair {at}: {what}")));
        }
        if frame.mode == Mode::Tunnel && remote.is_empty() && frame.remote.is_empty() {
            return Err(of_pair(
                &"tunnel mode needs to know what is behind the peer; add remote to [overlay]",
            ));
        }
    }
    for pair in pairs.iter_mut().filter(|pair| pair.traffic.remote.is_empty()) {
        pair.traffic.remote.clone_from(&frame.remote);
    }
    Ok(())
}

fn wrong(file: &str, what: impl Display) -> Mistake {
    Mistake::Session { file: file.to_owned(), what: what.to_string() }
}
