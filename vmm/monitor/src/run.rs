//! Puts a VM process together and runs it to its end.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use ::jail::JailFailure;
use abi::layout::{NET_QUEUE_SIZE, Place};
use abi::start::{MAGIC, StartPage};
use cowfs::FileSpace;
use event_manager::{EventManager, SubscriberOps};
use kvm::{Machine, Vcpu};
use sys::seqpacket::Listener;
use virtio::mmio::{Identity, Registers};
use virtio::{console, entropy, fs, net as net_device, vsock};
use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::bus::{Bus, Files, Owner};
use crate::disks::{self, Keeper};
use crate::event_loop::{self, EventLoop, GUEST_CID, Port, State};
use crate::jail;
use crate::memory::{self, MemoryFailure, OwnMemory};
use crate::net::{Net, NetFailure};
use crate::vcpu::Runner;
use crate::{End, Settings, Signal};

/// virtio-mmio's QueueNotify register (virtio 1.2 4.2.2).
const QUEUE_NOTIFY: u64 = 0x50;

/// Why a VM process did not start or ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// KVM.
    #[error("space {0} cannot start its machine")]
    Machine(String, #[source] kvm::NewFailure),
    /// KVM, later.
    #[error("space {0} cannot start its machine")]
    Start(String, #[source] kvm::Failure),
    /// The guest's image does not fit its memory.
    #[error("space {0} cannot load its guest")]
    Load(String, #[source] boot::LoadFailure),
    /// Guest memory.
    #[error("space {0} has no memory")]
    Memory(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The file space.
    #[error("space {0} cannot open its files")]
    Files(String, #[source] cowfs::OpenFailure),
    /// One of its disks, counted from 0.
    #[error("space {0} cannot open its disk {1}")]
    Disk(String, usize, #[source] cowdisk::host::OpenFailure),
    /// The switch's side of the net device.
    #[error("space {0} has no network")]
    Net(String, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// The kernel does not lock the process in.
    #[error("space {0} cannot be locked into its own files; nothing is run unjailed")]
    Jail(String, #[source] JailFailure),
    /// Descriptors or threads.
    #[error("space {0} cannot set itself up; the machine is out of descriptors or threads")]
    Setup(String, #[source] std::io::Error),
    /// The switch closed the connection.
    #[error(
        "space {0} ended: the switch is gone and took its network along; start both with portspace up"
    )]
    SwitchGone(String),
    /// Its own layer was moved, and the next cannot be served.
    #[error(
        "space {0} ended: its files cannot be served in a new layer: {1}; start it again with portspace up"
    )]
    Sealed(String, String),
    /// The guest.
    #[error("space {0} ended: its guest failed: {1}; start it again with portspace up")]
    Guest(String, String),
    /// KVM, while running.
    #[error("space {0} ended: {1}; portspace doctor shows what this KVM can do")]
    Kvm(String, String),
}

/// Runs the machine until it is stopped (`Ok`) or fails.
///
/// `switch` is the space's vhost-user connection, `control` its listening control socket.
///
/// # Errors
/// [`Failure`] with the cause and what to do.
pub fn run(settings: &Settings, switch: UnixStream, control: UnixListener) -> Result<(), Failure> {
    let name = || settings.name.clone();
    let setup = |error: event_manager::Error| {
        Failure::Setup(name(), std::io::Error::other(error.to_string()))
    };
    // Before the jail, which `assemble` enters.
    let mut manager = EventManager::<EventLoop>::new().map_err(setup)?;
    let (event_loop, disks) = assemble(settings, switch, control)?;
    let subscriber = manager.add_subscriber(event_loop);
    let end = loop {
        let event_loop =
            manager.subscriber_mut(subscriber).expect("the one subscriber is never removed");
        if let Some(end) = event_loop.state.end.take() {
            break end;
        }
        // While the guest starts, try again soon whether it runs programs.
        let wait_ms = if event_loop.ready() { -1 } else { STARTING_MS };
        if manager.run_with_timeout(wait_ms).map_err(setup)? == 0 {
            manager.subscriber_mut(subscriber).expect("it is never removed").ring();
        }
    };
    // Whoever pulls a disk's plug in order finds all of it again.
    disks.into_iter().for_each(Keeper::finish);
    match end {
        End::Stopped => Ok(()),
        End::SwitchGone => Err(Failure::SwitchGone(name())),
        End::Files(words) => Err(Failure::Sealed(name(), words)),
        End::Guest(words) => Err(Failure::Guest(name(), words)),
        End::Kvm(words) => Err(Failure::Kvm(name(), words)),
    }
}

/// How often a starting guest is asked whether it runs programs.
const STARTING_MS: i32 = 2;

/// Makes everything, starts the other threads, and returns the loop and the disks' threads.
fn assemble(
    settings: &Settings,
    switch: UnixStream,
    control: UnixListener,
) -> Result<(EventLoop, Vec<Keeper>), Failure> {
    let name = || settings.name.clone();
    let setup = |error| Failure::Setup(name(), error);
    let event = || EventFd::new(EFD_NONBLOCK).map_err(setup);

    let memory = memory::create(settings.memory_bytes)
        .map_err(|failure: MemoryFailure| Failure::Memory(name(), failure.into()))?;
    let machine =
        Machine::new(memory.clone()).map_err(|failure| Failure::Machine(name(), failure))?;
    let vcpu = start_vcpu(settings, &machine, &memory)?;

    let wake = event()?;
    let kicks = [event()?, event()?];
    let clone = |event: &EventFd| event.try_clone().map_err(setup);
    let net = Net::new(
        switch.try_clone().map_err(setup)?,
        [clone(&kicks[0])?, clone(&kicks[1])?],
        clone(&wake)?,
        memory.clone(),
    )
    .map_err(|failure: NetFailure| Failure::Net(name(), failure.into()))?;
    let features = net.features();

    let (loop_moves, moves) = channel();
    let (tell_end, ends) = channel();
    let bell = event()?;
    let disks = disks::open(settings)?;
    let space = Arc::new(open_files(settings)?);
    let tag = fs::Tag::new(FILES_TAG).expect("the tag is short");
    let files_registers = Registers::new(fs::identity(tag, FILES_QUEUES - 1));
    let files_signal = Signal { interrupt: files_registers.interrupt(), wake: clone(&wake)? };
    let notify_files = Box::new(move |_queue| files_signal.raise());
    let files = Arc::new(Files::new(Arc::clone(&space), notify_files).map_err(setup)?);
    let mut bus = Bus::new(
        net,
        Owner::new(loop_moves, clone(&bell)?),
        Arc::clone(&files),
        disks.iter().map(|disk| disk.owner().map_err(setup)).collect::<Result<_, _>>()?,
        memory.clone(),
    );
    bus.plug(Place::Files, files_registers);
    let notify = |place: Place, queue: usize, kick: &EventFd| {
        machine
            .notify(kick, GuestAddress(place.address() + QUEUE_NOTIFY), queue as u32)
            .map_err(|failure| Failure::Start(name(), failure))
    };
    let mut plug = |place, identity: Identity| {
        let registers = Registers::new(identity);
        let interrupt = registers.interrupt();
        bus.plug(place, registers);
        Ok::<_, Failure>(Signal { interrupt, wake: clone(&wake)? })
    };

    let mut identity = net_device::identity(settings.mac, settings.mtu, NET_QUEUE_SIZE);
    // What is of the device's type is the switch's to offer.
    identity.features = features & (identity.features | DEVICE_TYPE);
    // Its used-buffer notifications come from the switch, past the interrupt register.
    let _ = plug(Place::Net, identity)?;
    let console_signal = plug(Place::Console, console::identity())?;
    let entropy_signal = plug(Place::Entropy, entropy::identity())?;
    let vsock_signal = plug(Place::Vsock, vsock::identity(GUEST_CID))?;
    let disk_signals = disks
        .iter()
        .map(|disk| plug(disk.place(), disk.identity()))
        .collect::<Result<Vec<_>, _>>()?;

    for (queue, kick) in kicks.iter().enumerate() {
        notify(Place::Net, queue, kick)?;
    }
    for queue in 0..usize::from(FILES_QUEUES) {
        notify(Place::Files, queue, files.bell())?;
    }
    for disk in &disks {
        notify(disk.place(), 0, disk.bell())?;
    }
    let port = |place: Place, queues: usize, signal: Signal| {
        let kick = event()?;
        (0..queues).try_for_each(|queue| notify(place, queue, &kick))?;
        Ok::<_, Failure>(Port { kick, signal })
    };
    let event_loop = EventLoop {
        console_port: port(Place::Console, 2, console_signal)?,
        entropy_port: port(Place::Entropy, 1, entropy_signal)?,
        vsock_port: port(Place::Vsock, 3, vsock_signal)?,
        memory: memory.clone(),
        own_memory: OwnMemory::open(),
        spawned_ns: settings.spawned_ns,
        moves,
        ends,
        bell: clone(&bell)?,
        listener: control,
        switch,
        termination: event_loop::termination().map_err(setup)?,
        state: State::default(),
    };
    event_loop.listener.set_nonblocking(true).map_err(setup)?;

    let asked = listening(settings).map_err(setup)?;
    // From here on: no new files but the space's own, no sockets, no programs.
    jail::enter(settings).map_err(|failure| Failure::Jail(name(), failure))?;
    let keepers = disks.into_iter().zip(disk_signals);
    let keepers = keepers.map(|(disk, signal)| disk.serve(memory.clone(), signal));
    let keepers = keepers.collect::<Result<_, _>>().map_err(setup)?;
    let runner = Runner { vcpu, bus, memory, wake: sys::fd::owned(wake), message: Vec::new() };
    for _ in 0..virtiofs::THREADS {
        let files = Arc::clone(&files);
        spawn("files", move || files.run()).map_err(setup)?;
    }
    if let Some((listener, upper, next)) = asked {
        let (tell_end, bell) = (tell_end.clone(), clone(&bell)?);
        spawn("seal", move || {
            let error = seal::serve(&listener, &space, &upper, &next);
            let _ = tell_end.send(End::Files(error.to_string()));
            let _ = bell.write(1);
        })
        .map_err(setup)?;
    }
    spawn("vcpu", move || {
        let end = runner.run();
        files.end();
        // The loop outlives this thread; if not, nobody needs to know.
        let _ = tell_end.send(end);
        let _ = bell.write(1);
    })
    .map_err(setup)?;
    Ok((event_loop, keepers))
}

/// The features of a device's type, as against those of its transport (virtio 1.2 2.2).
const DEVICE_TYPE: u64 = (!0 << 50) | ((1 << 24) - 1);

/// The queues of the file system device.
const FILES_QUEUES: u16 = virtiofs::QUEUES as u16;

/// The name by which the guest mounts its root.
const FILES_TAG: &str = "root";

fn start_vcpu(
    settings: &Settings,
    machine: &Machine,
    memory: &GuestMemoryMmap,
) -> Result<Vcpu, Failure> {
    let failed = |failure| Failure::Start(settings.name.clone(), failure);
    let vcpu = machine.vcpu().map_err(failed)?;
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut page = StartPage {
        magic: MAGIC,
        // The loader knows these two.
        memory_bytes: 0,
        heap_start: 0,
        tsc_hz: vcpu.tsc_hz().map_err(failed)?,
        wall_ns: wall.as_nanos() as u64,
        spin_us: settings.spin_us,
        mtu: settings.mtu.into(),
        address_v4: [0; 4],
        peer_v4: [0; 4],
        address_v6: [0; 16],
        peer_v6: [0; 16],
        mac: settings.mac,
        given: 0,
        disks: settings.disks.len() as u8,
    };
    page.name(&settings.addresses, settings.peer);
    let start = boot::load_native(memory, boot::NATIVE_GUEST, page)
        .map_err(|failure| Failure::Load(settings.name.clone(), failure))?;
    vcpu.start(&start).map_err(failed)?;
    Ok(vcpu)
}

fn open_files(settings: &Settings) -> Result<FileSpace, Failure> {
    FileSpace::open(settings.files.config())
        .map_err(|failure| Failure::Files(settings.name.clone(), failure))
}

/// Where commands ask it to hold still, and the layers they move; before the jail is entered.
fn listening(settings: &Settings) -> std::io::Result<Option<(Listener, PathBuf, PathBuf)>> {
    let (Some(socket), Some((room, _))) = (&settings.seal, &settings.files.sealing) else {
        return Ok(None);
    };
    let _ = std::fs::remove_file(socket);
    let listener = Listener::bind(socket)?;
    Ok(Some((listener, settings.files.upper.clone(), room.join("next"))))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    thread::Builder::new().name(name.into()).spawn(work).map(drop)
}
