//! IPv6 extension headers (RFC 8200 4), walked to the protocol behind them.

use super::{Fragment, protocol};
use crate::Discard;

/// Most extension headers of a packet: RFC 8200 4.1 names six, and a second one
/// of destination options.
const MOST: usize = 8;

/// The extension headers between an IPv6 header and its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Bytes of all of them.
    pub(crate) len: usize,
    /// The protocol behind them.
    pub(crate) protocol: u8,
    /// What a fragment header says.
    pub(crate) fragment: Fragment,
    /// Why transport mode cannot carry them, if it cannot.
    pub(crate) whole_only: Option<Discard>,
}

impl Chain {
    /// Walks the extension headers at the start of `bytes`, which are the first of
    /// `total_len` bytes; `first` says what the first header is.
    ///
    /// # Errors
    /// [`Discard::Extension`] for a routing header of type 0 (RFC 5095), more than
    /// 8 headers, headers that go beyond `bytes`, or a later fragment that hides
    /// its protocol; [`Discard::Malformed`] if they go beyond `total_len` or
    /// hop-by-hop options are not first.
    #[inline]
    pub(crate) fn read(first: u8, bytes: &[u8], total_len: usize) -> Result<Chain, Discard> {
        let mut chain =
            Chain { len: 0, protocol: first, fragment: Fragment::Whole, whole_only: None };
        for _ in 0..MOST {
            if !is_extension(chain.protocol) {
                return Ok(chain);
            }
            if chain.fragment == Fragment::Later {
                return Err(Discard::Extension);
            }
            chain.step(bytes, total_len)?;
        }
        if is_extension(chain.protocol) { Err(Discard::Extension) } else { Ok(chain) }
    }

    /// Goes over one header.
    fn step(&mut self, bytes: &[u8], total_len: usize) -> Result<(), Discard> {
        // Every extension header has at least eight bytes, whatever it says.
        let cut = if self.len + 8 > total_len { Discard::Malformed } else { Discard::Extension };
        let [next, units, a, b, ..] =
            *bytes.get(self.len..).and_then(|rest| rest.first_chunk::<8>()).ok_or(cut)?;
        let units = usize::from(units);
        let len = match self.protocol {
            protocol::HOP_BY_HOP if self.len != 0 => return Err(Discard::Malformed),
            protocol::ROUTING if a == 0 => return Err(Discard::Extension),
            protocol::FRAGMENT => {
                self.fragment = match (u16::from_be_bytes([a, b]) & 0xfff8, b & 1) {
                    (0, 0) => Fragment::Whole,
                    (0, _) => Fragment::First,
                    _ => Fragment::Later,
                };
                8
            }
            protocol::AH => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        let refusal = match self.protocol {
            protocol::HOP_BY_HOP | protocol::ROUTING => Some(Discard::Options),
            protocol::FRAGMENT => Some(Discard::Fragment),
            _ => None,
        };
        self.whole_only = self.whole_only.or(refusal);
        self.len += len;
        self.protocol = next;
        if self.len > total_len {
            Err(Discard::Malformed)
        } else if self.len > bytes.len() {
            Err(Discard::Extension)
        } else {
            Ok(())
        }
    }
}

fn is_extension(protocol: u8) -> bool {
    use protocol::{AH, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING};
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | AH | DESTINATION_OPTIONS)
}

#[cfg(test)]
mod tests;
