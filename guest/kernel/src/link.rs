//! The one network's link: virtio-net's packets on one side, smoltcp's frames on
//! the other, with checksums and segmentation left to the device where it offers that.

mod mss;
mod transport;

use core::cell::Cell;
use core::num::{NonZeroU16, NonZeroUsize};
use core::ops::Deref;

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium, PacketMeta};
use smoltcp::time::Instant;

use crate::hardware::{Frames, Queues, Room, Wire};
use mss::SmallPeers;
use transport::Transport;

/// Bytes of `struct virtio_net_hdr` with VERSION_1 (virtio 1.2 5.1.6).
pub const HEADER: usize = 12;

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

/// The longest packet either way: headers, and an IP packet of 64 KiB.
pub const LONGEST: usize = HEADER + ETHERNET + 65_535;

/// Of the header's flags: the checksum is to be filled in, or was checked by the device.
const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

/// Of the header's GSO types.
const GSO_TCP_V4: u8 = 1;
const GSO_TCP_V6: u8 = 4;

/// How many buffers a packet from the device spans: `num_buffers` of its header.
pub fn buffers(packet: &[u8]) -> usize {
    packet.get(10..HEADER).map_or(1, |count| u16::from_le_bytes([count[0], count[1]]).into())
}

/// What is left to the device, of what it offers (virtio 1.2 5.1.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// It fills in the checksums of TCP and UDP.
    pub sums_out: bool,
    /// It says of which packets the checksum need not be checked, and may deliver long ones.
    pub sums_in: bool,
    /// It cuts long TCP segments.
    pub segments_out: bool,
    /// It spreads packets over several buffers, and counts these.
    pub merge: bool,
}

impl Offloads {
    const CSUM: u32 = 1;
    const GUEST_CSUM: u32 = 1 << 1;
    const MTU: u32 = 1 << 3;
    const MAC: u32 = 1 << 5;
    const GUEST_TSO: u32 = 1 << 7 | 1 << 8;
    const HOST_TSO: u32 = 1 << 11 | 1 << 12;
    const MERGE: u32 = 1 << 15;

    /// The features to accept of those offered. MTU and address are those of the start page,
    /// which come from the same place as the device's.
    pub fn accept(offered: u32) -> u32 {
        let mut accepted = offered
            & (Offloads::CSUM
                | Offloads::GUEST_CSUM
                | Offloads::MTU
                | Offloads::MAC
                | Offloads::MERGE);
        // Both families or none: the two differ in no way that matters to a device.
        if accepted & Offloads::CSUM != 0 && offered & Offloads::HOST_TSO == Offloads::HOST_TSO {
            accepted |= Offloads::HOST_TSO;
        }
        // Long packets take buffers that can be merged.
        let both = Offloads::GUEST_CSUM | Offloads::MERGE;
        if accepted & both == both {
            accepted |= offered & Offloads::GUEST_TSO;
        }
        accepted
    }

    /// What the accepted features mean.
    pub fn of(accepted: u32) -> Offloads {
        let has = |feature| accepted & feature != 0;
        Offloads {
            sums_out: has(Offloads::CSUM),
            sums_in: has(Offloads::GUEST_CSUM),
            segments_out: has(Offloads::HOST_TSO),
            merge: has(Offloads::MERGE),
        }
    }
}

/// The link over virtio-net's queues.
pub struct Link<F> {
    frames: F,
    offload: Offload,
    refused: u64,
}

impl<F: Frames> Link<F> {
    /// A link of this MTU (bytes of IP packet) over `frames`.
    pub fn new(frames: F, offloads: Offloads, mtu: usize) -> Link<F> {
        let offload =
            Offload { offloads, mtu, small_peers: SmallPeers::default(), long: Cell::new(0) };
        Link { frames, offload, refused: 0 }
    }
}

impl<F: Frames> Queues for Link<F> {
    fn pending(&self) -> bool {
        self.frames.pending()
    }

    fn arm(&mut self) -> bool {
        self.frames.arm()
    }

    fn kick(&mut self) -> u32 {
        self.frames.kick()
    }
}

impl<F: Frames> Wire for Link<F> {
    fn mtu(&self) -> usize {
        self.offload.mtu
    }

    fn send_packet(&mut self, packet: &[u8]) -> bool {
        let Some(room) = self.frames.room() else { return false };
        // One that no buffer takes is gone, as on any wire.
        if packet.len() <= room.longest() {
            room.send(packet.len(), |bytes| bytes.copy_from_slice(packet));
        }
        true
    }

    fn refused(&self) -> u64 {
        self.refused + self.frames.malformed()
    }

    fn long(&self) -> u64 {
        self.offload.long.get()
    }
}

/// What turns frames into packets and back.
struct Offload {
    offloads: Offloads,
    mtu: usize,
    small_peers: SmallPeers,
    /// Packets longer than the MTU so far.
    long: Cell<u64>,
}

impl Offload {
    fn count(&self, frame: &[u8]) -> bool {
        let is_long = frame.len() > ETHERNET + self.mtu;
        self.long.set(self.long.get() + u64::from(is_long));
        is_long
    }

    /// Whether a packet from the device may be believed; if not it is as if it never came.
    fn takes(&mut self, packet: &[u8]) -> bool {
        let (Some(header), Some(frame)) = (packet.first_chunk::<HEADER>(), packet.get(HEADER..))
        else {
            return false;
        };
        if transport::is_fragment(frame) {
            return false;
        }
        if !self.offloads.sums_in && !self.offloads.segments_out {
            return true;
        }
        let checked = !self.offloads.sums_in || header[0] & (NEEDS_CSUM | DATA_VALID) != 0;
        self.count(frame);
        let Some(transport) = Transport::find(frame) else {
            // Nothing whose checksum smoltcp leaves to us.
            return true;
        };
        if !checked && !transport.is_whole(frame) {
            return false;
        }
        if self.offloads.segments_out {
            self.small_peers.hear(&transport, frame, self.mtu);
        }
        true
    }

    /// Makes `frame` ready to leave and returns its header. `segment`: the most a segment of
    /// it may carry, if smoltcp said.
    fn leave(&self, frame: &mut [u8], segment: Option<NonZeroU16>) -> [u8; HEADER] {
        let mut header = [0; HEADER];
        if !self.offloads.sums_out {
            return header;
        }
        let Some(transport) = Transport::find(frame) else { return header };
        transport.begin_sum(frame);
        header[0] = NEEDS_CSUM;
        header[6..8].copy_from_slice(&(transport.start as u16).to_le_bytes());
        header[8..10].copy_from_slice(&(transport.sum_at as u16).to_le_bytes());
        if !self.offloads.segments_out || !transport.is_tcp {
            return header;
        }
        if transport.is_syn(frame) {
            // smoltcp believes in packets of 64 KiB; the peer must not.
            transport.lower_mss(frame, self.mtu + ETHERNET - transport.start - transport::TCP);
        }
        if self.count(frame) {
            let headers = transport.payload_start(frame);
            let fits = (self.mtu + ETHERNET).saturating_sub(headers).max(1);
            let said = segment.map_or(usize::MAX, |most| most.get().into());
            let size = fits.min(said).min(self.small_peers.most(&transport, frame));
            header[1] = if transport.is_v6 { GSO_TCP_V6 } else { GSO_TCP_V4 };
            header[2..4].copy_from_slice(&(headers as u16).to_le_bytes());
            header[4..6].copy_from_slice(&(size as u16).to_le_bytes());
        }
        header
    }

    /// The longest frame of TCP smoltcp may emit: as many full segments as an IP packet takes.
    fn longest(&self, ip_header: usize) -> Option<NonZeroUsize> {
        let headers = ip_header + transport::TCP;
        let segment = self.mtu.saturating_sub(headers).max(1);
        let payload = (65_535 - headers) / segment * segment;
        self.offloads
            .segments_out
            .then(|| NonZeroUsize::new(ETHERNET + headers + payload))
            .flatten()
    }
}

/// A frame that arrived; one that is not believed is empty.
pub struct Arrived<P> {
    packet: P,
    is_taken: bool,
}

impl<P: Deref<Target = [u8]>> phy::RxToken for Arrived<P> {
    fn consume<R, T: FnOnce(&[u8]) -> R>(self, read: T) -> R {
        // smoltcp passes over an empty frame.
        read(if self.is_taken { &self.packet[HEADER..] } else { &[] })
    }
}

/// Room for a frame.
pub struct Leaving<'a, R> {
    room: R,
    offload: &'a Offload,
    segment: Option<NonZeroU16>,
}

impl<M: Room> phy::TxToken for Leaving<'_, M> {
    fn consume<R, T: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: T) -> R {
        if HEADER + length > self.room.longest() {
            // An answer to something longer than there is room for now: lost, as on any wire.
            return fill(&mut alloc::vec![0; length]);
        }
        self.room.send(HEADER + length, |bytes| {
            let (header, frame) = bytes.split_at_mut(HEADER);
            let answer = fill(frame);
            header.copy_from_slice(&self.offload.leave(frame, self.segment));
            answer
        })
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.segment = meta.segmentation_offload_size;
    }
}

impl<F: Frames> phy::Device for Link<F> {
    type RxToken<'a>
        = Arrived<F::Packet<'a>>
    where
        F: 'a;
    type TxToken<'a>
        = Leaving<'a, F::Room<'a>>
    where
        F: 'a;

    fn receive(&mut self, _: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let (packet, room) = self.frames.receive()?;
        let is_taken = self.offload.takes(&packet);
        self.refused += u64::from(!is_taken);
        let leaving = Leaving { room, offload: &self.offload, segment: None };
        Some((Arrived { packet, is_taken }, leaving))
    }

    fn transmit(&mut self, _: Instant) -> Option<Self::TxToken<'_>> {
        let room = self.frames.room()?;
        Some(Leaving { room, offload: &self.offload, segment: None })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let Offload { offloads, mtu, .. } = self.offload;
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        // With segmentation smoltcp 0.14 takes long IPv4 segments whatever the MTU, but drops
        // IPv6 packets above it: it is told of the longest, and `leave` knows the true one.
        let mtu = if offloads.segments_out { 65_535 } else { mtu };
        capabilities.max_transmission_unit = ETHERNET + mtu;
        let sums = match (offloads.sums_out, offloads.sums_in) {
            (false, false) => Checksum::Both,
            (true, false) => Checksum::Rx,
            (false, true) => Checksum::Tx,
            (true, true) => Checksum::None,
        };
        (capabilities.checksum.tcp, capabilities.checksum.udp) = (sums, sums);
        capabilities.segmentation.tcpv4 = self.offload.longest(20);
        capabilities.segmentation.tcpv6 = self.offload.longest(40);
        capabilities
    }
}

#[cfg(test)]
mod tests;
