//! Further SAs for a switch: spaces without a machine that hold them.

use std::os::fd::OwnedFd;

use ::switch::control::{Client, Failure};
use ::switch::overlay::{Mode, SaPair, Suite};

use crate::bench::fresh;
use crate::failure::{Outcome, While};
use crate::lab::{A, Lab, Peer};

/// Pairs of one message: with the longest keys it stays below the switch's limit.
const PER_MESSAGE: u32 = 150;

/// Pairs of one space: its first message and those that extend it.
const PER_SPACE: u32 = 100 * PER_MESSAGE;

/// The first SPI of the fill: far from those of spaces that run.
const FIRST_SPI: u32 = 0x0100_0000;

/// SAs beside those of the busy space.
pub(super) struct Fill {
    client: Client,
    suite: Suite,
    /// The number of each space's first pair; and its connection, held because a space is
    /// attached while that is open.
    spaces: Vec<(u32, OwnedFd)>,
    pairs: u32,
}

impl Fill {
    /// None yet, in the switch of A.
    pub(super) fn new(lab: &Lab, suite: Suite) -> Outcome<Self> {
        let socket = lab.a.directory.join("run/switch.sock");
        let client = Client::connect(&socket).or_fail(|| "cannot ask the switch".to_owned())?;
        Ok(Self { client, suite, spaces: Vec::new(), pairs: 0 })
    }

    /// How many pairs there are.
    pub(super) fn pairs(&self) -> u32 {
        self.pairs
    }

    /// Adds SAs until there are `pairs`, or the switch takes no more.
    pub(super) fn grow_to(&mut self, pairs: u32) -> Outcome<()> {
        while self.pairs < pairs {
            let in_space = self.spaces.last().map_or(PER_SPACE, |(first, _)| self.pairs - first);
            let room = if in_space < PER_SPACE { PER_SPACE - in_space } else { PER_SPACE };
            let count = PER_MESSAGE.min(room).min(pairs - self.pairs);
            let sas = fresh::pairs(self.suite, FIRST_SPI + self.pairs, count)?;
            match self.add(in_space < PER_SPACE, sas) {
                Ok(()) => self.pairs += count,
                // As many as it can hold: what it holds is what is measured.
                Err(Failure::Refused(_)) if self.pairs > 0 => return Ok(()),
                Err(failure) => {
                    return Err(failure).or_fail(|| "the switch cannot be filled".to_owned());
                }
            }
        }
        Ok(())
    }

    /// Adds pairs to the last space, or to a new one.
    fn add(&mut self, to_last: bool, sas: Vec<SaPair>) -> Result<(), Failure> {
        if let (true, Some((first, _))) = (to_last, self.spaces.last()) {
            return self.client.extend(&name(*first), sas);
        }
        let overlay = fresh::overlay(A, Peer::B.address(), Mode::Transport, sas);
        let attached = self.client.attach(&name(self.pairs), overlay)?;
        self.spaces.push((self.pairs, attached.vhost_user));
        Ok(())
    }

    /// Takes spaces away until there are `pairs` at most.
    pub(super) fn shrink_to(&mut self, pairs: u32) -> Outcome<()> {
        while self.pairs > pairs
            && let Some((first, _connection)) = self.spaces.pop()
        {
            let failed = || "the switch cannot be emptied".to_owned();
            self.client.detach(&name(first)).or_fail(failed)?;
            self.pairs = first;
        }
        Ok(())
    }
}

/// The space whose first pair has this number.
fn name(first: u32) -> String {
    format!("fill-{first}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_message_of_every_suite_is_short_enough() {
        for suite in Suite::ALL {
            let sas = fresh::pairs(suite, FIRST_SPI, PER_MESSAGE).unwrap();
            let overlay = fresh::overlay(A, Peer::B.address(), Mode::Transport, sas);
            let space = "fill-1000000".to_owned();
            let request = ::switch::control::Request::Attach { space, overlay };
            let length = serde_json::to_vec(&request).unwrap().len();
            assert!(length <= sys::seqpacket::MAX_MESSAGE, "{suite}: {length}");
        }
    }
}
