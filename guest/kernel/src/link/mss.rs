//! Peers whose segments over IPv6 must be shorter than the MTU allows: smoltcp
//! knows, but does not say with a long segment of that family.

use alloc::collections::VecDeque;

use super::ETHERNET;
use super::transport::{TCP, Transport};

/// Most connections to such peers that are told apart.
const KEPT: usize = 64;

/// Fewer bytes than this are no segment (as smoltcp has it).
const LEAST: u16 = 48;

/// One direction of a connection: the peer's end, then ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flow {
    addresses: [u8; 32],
    ports: [u16; 2],
}

/// What peers with a small MSS said in their SYN.
#[derive(Debug)]
pub(super) struct SmallPeers {
    flows: VecDeque<(Flow, u16)>,
    /// The smallest that had to be forgotten: it holds for everybody then.
    forgotten: u16,
}

impl Default for SmallPeers {
    fn default() -> SmallPeers {
        SmallPeers { flows: VecDeque::new(), forgotten: u16::MAX }
    }
}

impl SmallPeers {
    /// Hears a segment that arrived.
    pub(super) fn hear(&mut self, transport: &Transport, frame: &[u8], mtu: usize) {
        if !(transport.is_v6 && transport.is_tcp && transport.is_syn(frame)) {
            return;
        }
        let Ok(addresses) = transport.addresses(frame).try_into() else { return };
        let flow = Flow { addresses, ports: transport.ports(frame) };
        self.flows.retain(|(kept, _)| *kept != flow);
        // Without the option it is 1220 (RFC 9293 3.7.1).
        let mss = transport.mss(frame).map_or(1220, |(_, mss)| mss.max(LEAST));
        if usize::from(mss) + TCP + transport.start - ETHERNET < mtu {
            if self.flows.len() == KEPT {
                let oldest = self.flows.pop_front().map_or(u16::MAX, |(_, mss)| mss);
                self.forgotten = self.forgotten.min(oldest);
            }
            self.flows.push_back((flow, mss));
        }
    }

    /// The most a segment of the connection may carry to which this leaving frame belongs.
    pub(super) fn most(&self, transport: &Transport, frame: &[u8]) -> usize {
        if !transport.is_v6 || (self.flows.is_empty() && self.forgotten == u16::MAX) {
            return usize::MAX;
        }
        let (own, peer) = transport.addresses(frame).split_at(16);
        let [near, far] = transport.ports(frame);
        let known = self.flows.iter().find(|(flow, _)| {
            flow.ports == [far, near]
                && flow.addresses[..16] == *peer
                && flow.addresses[16..] == *own
        });
        known.map_or(self.forgotten, |(_, mss)| *mss).into()
    }
}
