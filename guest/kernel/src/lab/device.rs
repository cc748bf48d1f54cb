//! The device's side of virtio-net in memory: does what it offers (checksums,
//! segmentation, joining segments), and loses and swaps frames when told to.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;

use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket,
};

use super::End;
use crate::hardware::{Frames, Queues, Room};
use crate::link::{ETHERNET, HEADER, LONGEST, Offloads};

/// What the wire does to frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conditions {
    pub(crate) offloads: Offloads,
    pub(crate) mtu: usize,
    /// Every so manyth frame is lost, either way.
    pub(crate) lose: Option<u32>,
    /// Every so manyth frame comes after the next.
    pub(crate) swap: Option<u32>,
}

pub(crate) const PLAIN: Conditions = Conditions {
    offloads: Offloads { sums_out: false, sums_in: false, segments_out: false, merge: false },
    mtu: 1500,
    lose: None,
    swap: None,
};

pub(crate) const ALL: Offloads =
    Offloads { sums_out: true, sums_in: true, segments_out: true, merge: true };

type Packets = Rc<RefCell<VecDeque<Vec<u8>>>>;

/// The driver's side: packets with their headers.
#[derive(Clone, Default)]
pub(crate) struct Port {
    pub(crate) arriving: Packets,
    pub(crate) leaving: Packets,
}

pub(crate) struct Arrived(Vec<u8>);

impl core::ops::Deref for Arrived {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

pub(crate) struct Space(Packets);

impl Room for Space {
    fn longest(&self) -> usize {
        LONGEST
    }

    fn send<R>(self, length: usize, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        // What was sent before is still there.
        let mut packet = alloc::vec![0xa5; length];
        let answer = fill(&mut packet);
        self.0.borrow_mut().push_back(packet);
        answer
    }
}

/// As many packets as a real queue holds long ones.
const ROOM: usize = 8;

impl Frames for Port {
    type Packet<'a> = Arrived;
    type Room<'a> = Space;

    fn receive(&mut self) -> Option<(Arrived, Space)> {
        let packet = self.arriving.borrow_mut().pop_front()?;
        Some((Arrived(packet), Space(self.leaving.clone())))
    }

    fn room(&mut self) -> Option<Space> {
        (self.leaving.borrow().len() < ROOM).then(|| Space(self.leaving.clone()))
    }

    fn malformed(&self) -> u64 {
        0
    }
}

impl Queues for Port {
    fn pending(&self) -> bool {
        !self.arriving.borrow().is_empty()
    }

    fn arm(&mut self) -> bool {
        self.pending()
    }

    fn kick(&mut self) -> u32 {
        0
    }
}

/// The device between a driver and a wire.
pub(crate) struct Device {
    pub(crate) port: Port,
    wire: End,
    conditions: Conditions,
    /// Frames so far, and one that waits for the next to overtake it, each way.
    count: [u32; 2],
    held: [Option<Vec<u8>>; 2],
    /// The longest packets so far, out and in.
    pub(crate) longest: [usize; 2],
}

impl Device {
    pub(crate) fn new(port: Port, wire: End, conditions: Conditions) -> Device {
        Device { port, wire, conditions, count: [0; 2], held: [None, None], longest: [0; 2] }
    }

    /// Carries what is there, both ways.
    pub(crate) fn carry(&mut self) {
        let leaving: Vec<_> = self.port.leaving.borrow_mut().drain(..).collect();
        for packet in leaving {
            self.longest[0] = self.longest[0].max(packet.len());
            for frame in cut(&packet, &self.conditions) {
                for frame in self.disturb(0, frame) {
                    self.wire.leaving.borrow_mut().push_back(frame);
                }
            }
        }
        let arriving: Vec<_> = self.wire.arriving.borrow_mut().drain(..).collect();
        let frames: Vec<_> =
            arriving.into_iter().flat_map(|frame| self.disturb(1, frame)).collect();
        for packet in join(frames, &self.conditions) {
            self.longest[1] = self.longest[1].max(packet.len());
            self.port.arriving.borrow_mut().push_back(packet);
        }
    }

    fn disturb(&mut self, way: usize, frame: Vec<u8>) -> Vec<Vec<u8>> {
        self.count[way] += 1;
        let hits =
            |every: Option<u32>| every.is_some_and(|every| self.count[way].is_multiple_of(every));
        if hits(self.conditions.lose) {
            return Vec::new();
        }
        if hits(self.conditions.swap) && self.held[way].is_none() {
            self.held[way] = Some(frame);
            return Vec::new();
        }
        [Some(frame), self.held[way].take()].into_iter().flatten().collect()
    }
}

fn word(bytes: &[u8], at: usize) -> usize {
    u16::from_le_bytes([bytes[at], bytes[at + 1]]).into()
}

/// The frames of a packet from the driver, whose promises are held against it.
fn cut(packet: &[u8], conditions: &Conditions) -> Vec<Vec<u8>> {
    let (header, frame) = packet.split_at(HEADER);
    let mut frame = frame.to_vec();
    let needs_sum = header[0] & 1 != 0;
    assert!(!needs_sum || conditions.offloads.sums_out, "what was not offered is not used");
    if header[1] == 0 {
        assert!(frame.len() <= ETHERNET + conditions.mtu, "a long frame is to be cut");
        if needs_sum {
            let (start, at) = (word(header, 6), word(header, 8));
            let sum = !sum(&frame[start..]);
            frame[start + at..start + at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        return alloc::vec![frame];
    }
    assert!(conditions.offloads.segments_out && needs_sum);
    let (headers, size) = (word(header, 2), word(header, 4));
    assert!(headers + size <= ETHERNET + conditions.mtu, "segments of {size} bytes do not fit");
    let (prefix, payload) = frame.split_at(headers);
    let count = payload.len().div_ceil(size);
    let segments = payload.chunks(size).enumerate();
    segments.map(|(n, part)| segment(prefix, part, n * size, n + 1 == count)).collect()
}

/// One segment: the long one's headers with what differs (RFC 9293 3.1).
fn segment(headers: &[u8], payload: &[u8], offset: usize, is_last: bool) -> Vec<u8> {
    let mut frame = [headers, payload].concat();
    let tcp = |bytes: &mut [u8], from: IpAddress, to: IpAddress| {
        let mut tcp = TcpPacket::new_unchecked(bytes);
        tcp.set_seq_number(tcp.seq_number() + offset);
        if !is_last {
            tcp.set_psh(false);
            tcp.set_fin(false);
        }
        tcp.fill_checksum(&from, &to);
    };
    let mut ethernet = EthernetFrame::new_unchecked(&mut frame[..]);
    if ethernet.ethertype() == EthernetProtocol::Ipv4 {
        let mut ip = Ipv4Packet::new_unchecked(ethernet.payload_mut());
        ip.set_total_len(ip.as_ref().len() as u16);
        ip.fill_checksum();
        let (from, to) = (ip.src_addr().into(), ip.dst_addr().into());
        tcp(ip.payload_mut(), from, to);
    } else {
        let mut ip = Ipv6Packet::new_unchecked(ethernet.payload_mut());
        ip.set_payload_len((headers.len() + payload.len() - ETHERNET - 40) as u16);
        let (from, to) = (ip.src_addr().into(), ip.dst_addr().into());
        tcp(ip.payload_mut(), from, to);
    }
    frame
}

/// Packets for the driver; segments in a row become one if it takes that.
fn join(frames: Vec<Vec<u8>>, conditions: &Conditions) -> Vec<Vec<u8>> {
    let mut packets: Vec<Vec<u8>> = Vec::new();
    let mut next = None;
    for frame in frames {
        let stream = conditions.offloads.sums_in.then(|| Stream::of(&frame)).flatten();
        if let (Some(stream), Some(packet)) = (&stream, packets.last_mut())
            && next == Some(stream.begin())
            && packet.len() + frame.len() < LONGEST
        {
            packet.extend_from_slice(&frame[stream.payload..]);
            lengthen(&mut packet[HEADER..]);
            // Partial: the sum of the payload is not in the checksum any more.
            (packet[0], packet[1]) = (1, 1);
        } else {
            let mut packet = alloc::vec![0; HEADER];
            packet[10] = 1;
            packet[0] = if conditions.offloads.sums_in { 2 } else { 0 };
            packet.extend_from_slice(&frame);
            packets.push(packet);
        }
        next = stream.map(|stream| stream.end());
    }
    packets
}

/// Data of a connection over IPv4 without options.
struct Stream {
    key: Vec<u8>,
    seq: u32,
    payload: usize,
    length: usize,
}

impl Stream {
    fn of(frame: &[u8]) -> Option<Stream> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
        let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
        let is_data = ethernet.ethertype() == EthernetProtocol::Ipv4
            && ip.next_header() == IpProtocol::Tcp
            && !tcp.syn()
            && !tcp.fin()
            && !tcp.rst()
            && !tcp.payload().is_empty();
        let payload = ETHERNET + 20 + usize::from(tcp.header_len());
        // What does not lie in the frame as it ends is padding.
        let is_whole = payload + tcp.payload().len() == frame.len();
        (is_data && is_whole).then(|| Stream {
            key: frame[26..38].to_vec(),
            seq: tcp.seq_number().0 as u32,
            payload,
            length: tcp.payload().len(),
        })
    }

    fn begin(&self) -> (Vec<u8>, u32) {
        (self.key.clone(), self.seq)
    }

    fn end(&self) -> (Vec<u8>, u32) {
        (self.key.clone(), self.seq.wrapping_add(self.length as u32))
    }
}

fn lengthen(frame: &mut [u8]) {
    let mut ip = Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]);
    ip.set_total_len(ip.as_ref().len() as u16);
    ip.fill_checksum();
}

/// RFC 1071, the slow way.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
