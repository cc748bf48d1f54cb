//! Attached spaces: who is there, who is busy, and how they come and go.

use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};

use backend::{Backend, Ended};
use esp::offload::{Accepts, Merged};
use sys::udp::UdpSocket;

use super::{Event, Switch, path_mtu, random_seed};
use crate::card::{Card, Kick};
use crate::control::Extent;
use crate::drops::Reason;
use crate::frame;
use crate::limiter::Limiter;
use crate::overlay::{Encapsulation, Limits, Overlay, SaPair};
use crate::sockets;
use crate::tunnel::{Place, Refusal};

/// Spaces one switch serves.
const MAX_SPACES: usize = 1024;

/// How long after its last packet a guest is taken to spin, and looked at without being asked to.
const GUEST_SPIN_NS: u64 = super::DEFAULT_GUEST_SPIN_US as u64 * 1000;

/// The way between two spaces of this host, as long as packets go: a usual one.
const LOCAL_MTU: u16 = 1500;

/// Why a space is not attached.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttachRefused {
    #[error("a space of the name {0} is attached already: stop it first (portspace stop {0})")]
    Name(String),
    #[error("the switch serves {MAX_SPACES} spaces already: stop one of them first")]
    Full,
    #[error(transparent)]
    Overlay(#[from] Refusal),
    #[error(transparent)]
    Socket(#[from] sockets::Failure),
    #[error(transparent)]
    Route(#[from] sys::route::Failure),
    #[error("what came with the request is no listening socket: bind one and listen first")]
    NotListening,
    #[error("no more descriptors for {what}: {source}; raise the limit of open files (ulimit -n)")]
    Resources {
        what: &'static str,
        #[source]
        source: std::io::Error,
    },
}

fn resources(what: &'static str) -> impl FnOnce(std::io::Error) -> AttachRefused {
    move |source| AttachRefused::Resources { what, source }
}

/// An attached space.
pub(super) struct Space {
    pub(super) name: String,
    /// Its machine, if there is one.
    pub(super) backend: Option<Backend<Card>>,
    /// Where foreign machines connect, one after the other.
    pub(super) socket: Option<UnixListener>,
    /// The client with whom the space goes, if its machine does not take it along.
    pub(super) client: Option<u32>,
    pub(super) limiter: Limiter,
    pub(super) limits: Limits,
    pub(super) first_answer_ns: Option<u64>,
    pub(super) last_answer_ns: Option<u64>,
    /// Chains were given back since the guest was last told.
    touched: bool,
    /// When packets last moved.
    touched_ns: u64,
    /// It is in the list of busy spaces.
    is_busy: bool,
}

/// All spaces.
#[derive(Default)]
pub(super) struct Spaces {
    /// By place, as in `Tunnels`.
    all: Vec<Option<Space>>,
    /// Those whose queues are looked at in each turn.
    busy: Vec<Place>,
}

impl Spaces {
    pub(super) fn is_empty(&self) -> bool {
        self.all.iter().all(Option::is_none)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Place, &Space)> {
        self.all.iter().enumerate().filter_map(|(place, space)| Some((place, space.as_ref()?)))
    }

    /// The first space at `place` or behind.
    pub(super) fn from(&self, place: Place) -> Option<(Place, &Space)> {
        let spaces = self.all.iter().enumerate().skip(place);
        spaces.filter_map(|(place, space)| Some((place, space.as_ref()?))).next()
    }

    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut Space> {
        self.all.get_mut(place)?.as_mut()
    }

    pub(super) fn get(&self, place: Place) -> Option<&Space> {
        self.all.get(place)?.as_ref()
    }

    pub(super) fn named(&self, name: &str) -> Option<Place> {
        self.iter().find(|(_, space)| space.name == name).map(|(place, _)| place)
    }

    pub(super) fn busy(&self) -> &[Place] {
        &self.busy
    }

    /// How many guests are taken to spin: those that moved packets just now.
    pub(super) fn spinning(&self, now_ns: u64) -> usize {
        let spins = |space: &&Space| now_ns.saturating_sub(space.touched_ns) < GUEST_SPIN_NS;
        self.each_busy().filter(spins).count()
    }

    fn each_busy(&self) -> impl Iterator<Item = &Space> {
        self.busy.iter().filter_map(|place| self.all[*place].as_ref())
    }

    /// Whether some busy guest has frames waiting that it may send.
    pub(super) fn has_work(&self, now_ns: u64) -> bool {
        // Frames that are held would end every look for others at once.
        self.each_busy().filter(|space| space.limiter.held_until(now_ns).is_none()).any(|space| {
            space.backend.as_ref().is_some_and(|backend| backend.queues().port.has_work())
        })
    }

    /// Notes that packets moved, so that the guest is told and looked at.
    pub(super) fn touch(&mut self, place: Place, now_ns: u64) {
        let Some(Some(space)) = self.all.get_mut(place) else { return };
        space.touched = true;
        space.touched_ns = now_ns;
        if !std::mem::replace(&mut space.is_busy, true) {
            self.busy.push(place);
        }
    }

    /// Looks at a guest from now on that has said it has frames, or may have some unsaid.
    pub(super) fn wake(&mut self, place: Place, now_ns: u64) {
        self.touch(place, now_ns);
        if let Some(Some(Space { backend: Some(backend), .. })) = self.all.get(place) {
            backend.queues().port.disarm();
        }
    }

    /// Asks the busy guests to notify, those excepted that have to wait anyway, and looks no more at
    /// those that have been quiet. True if there are frames already.
    pub(super) fn arm(&mut self, now_ns: u64) -> bool {
        let mut more = false;
        let all = &mut self.all;
        self.busy.retain(|place| {
            let Some(space) = all[*place].as_mut() else { return false };
            let Some(backend) = &space.backend else { return true };
            if space.limiter.held_until(now_ns).is_some() {
                return true;
            }
            let has_frames = backend.queues().port.arm();
            more |= has_frames;
            space.is_busy = has_frames || now_ns.saturating_sub(space.touched_ns) < GUEST_SPIN_NS;
            space.is_busy
        });
        more
    }

    /// Asks the busy guests not to notify.
    pub(super) fn disarm(&mut self) {
        for backend in self.each_busy().filter_map(|space| space.backend.as_ref()) {
            backend.queues().port.disarm();
        }
    }

    /// When the first space may send again that has to wait.
    pub(super) fn held_until(&self, now_ns: u64) -> u64 {
        let until = |space: &Space| space.limiter.held_until(now_ns);
        self.each_busy().filter_map(until).min().unwrap_or(u64::MAX)
    }

    /// Tells the guests that wait for chains that were given back; gives how often.
    pub(super) fn notify(&mut self) -> u64 {
        let mut notifications = 0;
        for place in &self.busy {
            let Some(space) = self.all[*place].as_mut() else { continue };
            if let (true, Some(backend)) = (std::mem::take(&mut space.touched), &space.backend) {
                notifications += backend.queues().notify();
            }
        }
        notifications
    }

    /// The large packets a space's guest takes.
    pub(super) fn accepts(&self, place: Place) -> Accepts {
        let backend = self.get(place).and_then(|space| space.backend.as_ref());
        backend.map_or(Accepts::default(), |backend| backend.queues().port.accepts())
    }

    /// Gives a packet to a space's guest.
    pub(super) fn deliver(
        &mut self,
        place: Place,
        packet: &Merged<'_, '_>,
        now_ns: u64,
    ) -> Result<(), Reason> {
        let Some(Some(space)) = self.all.get_mut(place) else { return Ok(()) };
        let backend = space.backend.as_ref().ok_or(Reason::GuestFull)?;
        let mut device = backend.queues();
        let mac = device.mac();
        device.port.deliver(mac, packet)?;
        drop(device);
        space.first_answer_ns.get_or_insert(now_ns);
        space.last_answer_ns = Some(now_ns);
        self.touch(place, now_ns);
        Ok(())
    }
}

impl Switch {
    /// Attaches a space whose machine holds the other end of the connection given back.
    pub(super) fn attach(
        &mut self,
        name: String,
        overlay: Overlay,
    ) -> Result<(Place, UnixStream), AttachRefused> {
        let place = self.add(name, overlay)?;
        let connected = UnixStream::pair()
            .map_err(resources("a connection"))
            .and_then(|(ours, theirs)| self.connect(place, ours).map(|()| theirs));
        match connected {
            Ok(theirs) => Ok((place, theirs)),
            Err(refused) => {
                self.detach(place);
                Err(refused)
            }
        }
    }

    /// Attaches a space whose machine is whoever connects to `socket`, until `client` goes.
    pub(super) fn attach_socket(
        &mut self,
        name: String,
        overlay: Overlay,
        socket: OwnedFd,
        client: u32,
    ) -> Result<Place, AttachRefused> {
        // Another kind of socket would be ready for ever and give nobody.
        if !rustix::net::sockopt::socket_acceptconn(&socket).unwrap_or(false) {
            return Err(AttachRefused::NotListening);
        }
        let place = self.add(name, overlay)?;
        let socket = UnixListener::from(socket);
        let watched = socket
            .set_nonblocking(true)
            .and_then(|()| self.events.add(&socket, Event::Plug(place)));
        if let Some(space) = self.spaces.get_mut(place) {
            (space.socket, space.client) = (Some(socket), Some(client));
        }
        if let Err(source) = watched {
            self.detach(place);
            return Err(AttachRefused::Resources { what: "the front end's socket", source });
        }
        Ok(place)
    }

    /// A space without a machine.
    fn add(&mut self, name: String, overlay: Overlay) -> Result<Place, AttachRefused> {
        if self.spaces.named(&name).is_some() {
            return Err(AttachRefused::Name(name));
        }
        if self.spaces.iter().count() >= MAX_SPACES {
            return Err(AttachRefused::Full);
        }
        let limits = overlay.limits;
        let mtu = match overlay.encapsulation {
            Encapsulation::Local => LOCAL_MTU,
            _ => path_mtu(overlay.local, overlay.peer).or_else(|no_route| {
                // Perhaps the address is none of ours, which binding to it says better.
                UdpSocket::bind((overlay.local, 0).into(), None).map_err(sockets::Failure::from)?;
                Err(AttachRefused::from(no_route))
            })?,
        };
        let place = self.tunnels.add(overlay, mtu, self.upkeep.now_s(), random_seed)?;
        let tunnel = self.tunnels.get(place).expect("just added");
        let (local, peer) = (tunnel.local(), tunnel.peer());
        if !tunnel.is_local() {
            let events = &self.events;
            let opened =
                self.sockets.open(local, None, |socket| events.add(socket, Event::Packets));
            if let Err(failure) = opened {
                self.tunnels.remove(place);
                return Err(failure.into());
            }
        }
        log::info!("space {name} attached: {local} to {peer}");
        let space = Space {
            name,
            backend: None,
            socket: None,
            client: None,
            limiter: Limiter::new(limits.packets_per_s, limits.bytes_per_s),
            limits,
            first_answer_ns: None,
            last_answer_ns: None,
            touched: false,
            touched_ns: 0,
            is_busy: false,
        };
        if self.spaces.all.len() <= place {
            self.spaces.all.resize_with(place + 1, || None);
        }
        self.spaces.all[place] = Some(space);
        self.upkeep.soon();
        Ok(place)
    }

    /// Gives a space its machine.
    fn connect(&mut self, place: Place, stream: UnixStream) -> Result<(), AttachRefused> {
        let mtu = self.tunnels.get(place).expect("a space goes with its tunnel").mtu();
        let backend = Backend::new(stream, Card::new(frame::mac(place), mtu))
            .map_err(resources("a connection"))?;
        // Edge-triggered: half a message must not keep the loop awake.
        self.events.add_edge(&backend, Event::Backend(place)).map_err(resources("its events"))?;
        if let Some(space) = self.spaces.get_mut(place) {
            space.backend = Some(backend);
        }
        Ok(())
    }

    /// Takes the next foreign machine, if the space has none.
    pub(super) fn plug(&mut self, place: Place) {
        let Some(space) = self.spaces.get(place) else { return };
        let Some(socket) = &space.socket else { return };
        match socket.accept() {
            // Who comes second is hung up on: a space has one machine.
            Ok((stream, _)) if space.backend.is_none() => {
                if let Err(refused) = self.connect(place, stream) {
                    log::warn!("a front end was not taken: {refused}");
                }
            }
            _ => {}
        }
    }

    /// Gives a space further pairs of SAs.
    pub(super) fn extend(&mut self, place: Place, sas: Vec<SaPair>) -> Result<(), Refusal> {
        self.tunnels.extend(place, sas, self.upkeep.now_s(), random_seed)
    }

    /// What a space was given.
    pub(super) fn extent(&self, place: Place) -> Extent {
        let mtu = self.tunnels.get(place).map_or(0, |tunnel| tunnel.mtu());
        Extent { mac: frame::mac(place), mtu }
    }

    /// Lets the spaces go that came with a client.
    pub(super) fn detach_of(&mut self, client: u32) {
        let theirs =
            |(place, space): (Place, &Space)| (space.client == Some(client)).then_some(place);
        let places: Vec<_> = self.spaces.iter().filter_map(theirs).collect();
        places.into_iter().for_each(|place| self.detach(place));
    }

    pub(super) fn detach(&mut self, place: Place) {
        self.unplug(place);
        if let Some(space) = self.spaces.all.get_mut(place).and_then(Option::take) {
            self.spaces.busy.retain(|other| *other != place);
            log::info!("space {} detached", space.name);
        }
        self.tunnels.remove(place);
        self.taps.end(place);
        let tunnels = &self.tunnels;
        self.sockets.retain(|local| tunnels.iter().any(|tunnel| tunnel.local() == local));
    }

    /// Takes a space's machine away.
    fn unplug(&mut self, place: Place) {
        let Some(space) = self.spaces.get_mut(place) else { return };
        if let Some(backend) = space.backend.take()
            && let Some(event) = backend.queues().kick()
        {
            // The VM process holds the event as well: closing ours would not end the watch.
            self.events.remove(event);
        }
    }

    /// Handles what a VM process says.
    pub(super) fn serve_backend(&mut self, place: Place) {
        let Some(space) = self.spaces.get_mut(place) else { return };
        let Some(backend) = &mut space.backend else { return };
        let handled = backend.handle();
        let kicks = backend.queues().take_kicks();
        let mut watched = match handled {
            Ok(true) => self.events.report_again(&*backend, Event::Backend(place)),
            _ => Ok(()),
        };
        for kick in kicks {
            match kick {
                Kick::Retired(event) => self.events.remove(&event),
                Kick::Fresh => {
                    if let Some(event) = backend.queues().kick() {
                        watched = watched.and(self.events.add_edge(event, Event::Kick(place)));
                    }
                }
            }
        }
        if handled == Err(Ended::Violation) {
            log::warn!("space {}: its VM process broke the vhost-user protocol", space.name);
        }
        let stays = space.socket.is_some();
        match (handled, watched) {
            (Ok(_), Ok(())) => self.spaces.wake(place, sys::clock::monotonic_ns()),
            // The next front end may come.
            _ if stays => self.unplug(place),
            _ => self.detach(place),
        }
    }
}
