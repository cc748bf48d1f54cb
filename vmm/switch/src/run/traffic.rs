//! One turn of the loop: packets in, frames out.

use esp::offload::Run;
use sys::clock::monotonic_ns;

use super::Switch;
use super::spaces::Spaces;
use crate::port::{Exits, Turn};
use crate::tunnel::{Arrived, Place, Tunnels};

/// Frames taken from one space before the others get their turn.
const FRAMES: usize = 64;

/// Bytes likewise: about what a peer's socket holds, and short enough for who waits meanwhile.
const BYTES: usize = 128 * 1024;

/// The same while other spaces move packets.
const SHARED_BYTES: usize = 16 * 1024;

/// Spaces whose packets are put together at the same time.
const RUNS: usize = 4;

impl Switch {
    /// Receives once, takes a bounded number of frames from each busy space, and sends.
    pub(super) fn turn(&mut self, now_ns: u64) -> bool {
        let mut worked = false;
        for at in 0..self.sockets.len() {
            worked |= self.receive(at, now_ns);
        }
        // A guest that needs no notification spins: its answer is a moment away.
        if worked && self.notify() == 0 {
            let spaces = &self.spaces;
            self.spin.briefly(monotonic_ns, || spaces.has_work(now_ns));
        }
        let frames = self.transmit(now_ns);
        if !self.batch.crossing.is_empty() {
            self.cross(now_ns);
        }
        if !self.batch.is_empty() {
            if self.taps.wants_outer() {
                self.tap_outgoing(now_ns);
            }
            self.sockets.send(&mut self.batch, &mut self.counters);
        }
        if frames > 0 {
            self.notify();
        }
        self.taps.flush();
        worked || frames > 0
    }

    /// Shows sealed packets to who wants to see them.
    #[cold]
    fn tap_outgoing(&mut self, now_ns: u64) {
        for (route, packet) in self.batch.packets() {
            if let Some(place) = self.tunnels.sender(route.to, packet) {
                self.taps.outer_out(place, now_ns, (route.from, route.to), route.tos, packet);
            }
        }
    }

    fn receive(&mut self, at: usize, now_ns: u64) -> bool {
        self.counters.receive_calls += 1;
        let Some(port) = self.sockets.receive(at, &mut self.received) else { return false };
        let mut runs = Runs::default();
        let mut bytes = 0;
        for (envelope, datagram) in self.received.datagrams() {
            bytes += datagram.len();
            if self.taps.wants_outer()
                && let Some(place) = self.tunnels.receiver(datagram)
            {
                let ends = (envelope.from, (envelope.to, port).into());
                self.taps.outer_in(place, now_ns, ends, envelope.tos, datagram);
            }
            if let Some(arrived) = self.tunnels.open(port, &envelope, datagram) {
                self.taps.inner_in(arrived.place, now_ns, &[&arrived.made, arrived.rest]);
                runs.take(arrived, &mut self.spaces, &mut self.tunnels, now_ns);
            }
        }
        runs.finish(&mut self.spaces, &mut self.tunnels, now_ns);
        self.placement.received(bytes, runs.frames, now_ns);
        true
    }

    /// Takes frames from the spaces that have been busy of late.
    fn transmit(&mut self, now_ns: u64) -> usize {
        let bytes = if self.spaces.busy().len() > 1 { SHARED_BYTES } else { BYTES };
        let turn = Turn { frames: FRAMES, bytes, now_ns };
        let mut frames = 0;
        for at in 0..self.spaces.busy().len() {
            let place = self.spaces.busy()[at];
            let Some(space) = self.spaces.get_mut(place) else { continue };
            let Some(backend) = &space.backend else { continue };
            let mut device = backend.queues();
            if !device.port.has_work() {
                continue;
            }
            let mut exits = Exits {
                place,
                mac: device.mac(),
                tunnels: &mut self.tunnels,
                limiter: &mut space.limiter,
                batch: &mut self.batch,
                taps: &mut self.taps,
            };
            let taken = device.port.transmit(turn, &mut exits);
            drop(device);
            if taken > 0 {
                self.spaces.touch(place, now_ns);
                frames += taken;
            }
        }
        frames
    }

    /// Gives what spaces of this host sent to others to these.
    fn cross(&mut self, now_ns: u64) {
        let mut crossing = std::mem::take(&mut self.batch.crossing);
        let mut arrived = Vec::new();
        self.tunnels.cross(&mut crossing, &mut arrived);
        let mut runs = Runs::default();
        for packet in arrived {
            self.taps.inner_in(packet.place, now_ns, &[&packet.made, packet.rest]);
            runs.take(packet, &mut self.spaces, &mut self.tunnels, now_ns);
        }
        runs.finish(&mut self.spaces, &mut self.tunnels, now_ns);
        drop(runs);
        crossing.clear();
        self.batch.crossing = crossing;
    }

    /// Tells the guests whose chains were given back, each at most once per queue, and only those
    /// that wait; gives how many notifications that took.
    fn notify(&mut self) -> u64 {
        let notifications = self.spaces.notify();
        self.counters.notifications += notifications;
        notifications
    }
}

/// Packets of a batch that are put together for guests that take large ones.
#[derive(Default)]
struct Runs<'a> {
    open: heapless::Vec<(Place, Run<'a>), RUNS>,
    /// What was delivered.
    frames: usize,
}

impl<'a> Runs<'a> {
    /// Adds a packet to its space's run, and delivers what it does not continue.
    fn take(
        &mut self,
        arrived: Arrived<'a>,
        spaces: &mut Spaces,
        tunnels: &mut Tunnels,
        now_ns: u64,
    ) {
        let Arrived { place, made, rest } = arrived;
        let at = match self.open.iter().position(|(other, _)| *other == place) {
            Some(at) => at,
            None => {
                if self.open.is_full() {
                    let (place, mut run) = self.open.remove(0);
                    self.frames += flush(place, &mut run, spaces, tunnels, now_ns);
                }
                let run = Run::new(spaces.accepts(place));
                let pushed = self.open.push((place, run));
                assert!(pushed.is_ok(), "room was made");
                self.open.len() - 1
            }
        };
        let run = &mut self.open[at].1;
        if run.push(&made, rest).is_err() {
            self.frames += flush(place, run, spaces, tunnels, now_ns);
            run.push(&made, rest).expect("a run of nothing takes every packet");
        }
    }

    /// Delivers what is left.
    fn finish(&mut self, spaces: &mut Spaces, tunnels: &mut Tunnels, now_ns: u64) {
        for (place, run) in &mut self.open {
            self.frames += flush(*place, run, spaces, tunnels, now_ns);
        }
    }
}

/// Delivers a run; gives how many frames that made.
fn flush(
    place: Place,
    run: &mut Run<'_>,
    spaces: &mut Spaces,
    tunnels: &mut Tunnels,
    now_ns: u64,
) -> usize {
    let mut frames = 0;
    run.flush(|packet| {
        frames += 1;
        if let Err(reason) = spaces.deliver(place, &packet, now_ns)
            && let Some(tunnel) = tunnels.get_mut(place)
        {
            let packets = packet.payloads.len() as u64;
            tunnel.drops.count_many(reason, packets);
        }
    });
    frames
}
