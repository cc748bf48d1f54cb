//! The virtio-mmio transport, driver side (virtio 1.2 4.2.2), with as few exits
//! as the rules allow: a register access costs 19 µs, a start has about 70 of them.
//!
//! A machine starts with its devices reset, so nothing is reset or zeroed here,
//! and the sizes of queues are agreed on in [`abi::layout::QUEUE_SIZE`].

use abi::layout::Place;

use crate::queue::Rings;

const DEVICE_ID: usize = 0x008;
const DEVICE_FEATURES: usize = 0x010;
const DRIVER_FEATURES: usize = 0x020;
const DRIVER_FEATURES_SEL: usize = 0x024;
const QUEUE_SEL: usize = 0x030;
const QUEUE_NUM: usize = 0x038;
const QUEUE_READY: usize = 0x044;
const QUEUE_NOTIFY: usize = 0x050;
const STATUS: usize = 0x070;
const QUEUE_DESC_LOW: usize = 0x080;
const QUEUE_DRIVER_LOW: usize = 0x090;
const QUEUE_DEVICE_LOW: usize = 0x0a0;
const CONFIG: usize = 0x100;

const ACKNOWLEDGE_DRIVER: u32 = 1 | 2;
const FEATURES_OK: u32 = 8;
const DRIVER_OK: u32 = 4;

/// The features of a device's type, as against those of the transport (virtio 1.2 2.2).
const DEVICE_TYPE: u32 = (1 << 24) - 1;
/// VIRTIO_F_EVENT_IDX, in the low half.
const EVENT_IDX: u32 = 1 << 29;
/// VIRTIO_F_VERSION_1, in the high half.
const VERSION_1: u32 = 1;

/// What a device is (virtio 1.2 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// 5.1.
    Net = 1,
    /// 5.2.
    Block = 2,
    /// 5.3.
    Console = 3,
    /// 5.4.
    Entropy = 4,
    /// 5.10.
    Vsock = 19,
    /// 5.11.
    Files = 26,
}

/// A device between being found and [`Device::go`].
#[derive(Debug)]
pub struct Device {
    registers: usize,
    selected: u16,
    features: u32,
}

impl Device {
    /// The device at `place`, its features settled, or `None` if there is no such
    /// device or it cannot do VERSION_1 and EVENT_IDX.
    pub fn find(place: Place, kind: Kind) -> Option<Device> {
        Device::at(place, kind)?.settle()
    }

    /// As [`Device::find`], with those of the features 0 to 23 the device offers that `accept` picks.
    pub fn find_with(place: Place, kind: Kind, accept: impl FnOnce(u32) -> u32) -> Option<Device> {
        let mut device = Device::at(place, kind)?;
        // Selected is the low half, as after every reset.
        let offered = device.read(DEVICE_FEATURES) & DEVICE_TYPE;
        device.features = accept(offered) & offered;
        device.settle()
    }

    fn at(place: Place, kind: Kind) -> Option<Device> {
        let device = Device { registers: place.address() as usize, selected: 0, features: 0 };
        (device.read(DEVICE_ID) == kind as u32).then_some(device)
    }

    fn settle(self) -> Option<Device> {
        let device = self;
        device.write(STATUS, ACKNOWLEDGE_DRIVER);
        device.write(DRIVER_FEATURES_SEL, 1);
        device.write(DRIVER_FEATURES, VERSION_1);
        device.write(DRIVER_FEATURES_SEL, 0);
        device.write(DRIVER_FEATURES, EVENT_IDX | device.features);
        device.write(STATUS, ACKNOWLEDGE_DRIVER | FEATURES_OK);
        (device.read(STATUS) & FEATURES_OK != 0).then_some(device)
    }

    /// Those of the device type's own features (0 to 23) that were agreed on.
    pub fn features(&self) -> u32 {
        self.features
    }

    /// Four bytes of the device's configuration, at an offset that is a multiple of four.
    pub fn configuration(&self, offset: usize) -> u32 {
        assert!(
            offset < 0xf00 && offset.is_multiple_of(4),
            "configuration is read by aligned words"
        );
        self.read(CONFIG + offset)
    }

    /// Gives `rings` to the device as its queue `index`, and returns where to notify it.
    pub(crate) fn enable(&mut self, index: u16, rings: &Rings) -> Doorbell {
        if self.selected != index {
            self.write(QUEUE_SEL, u32::from(index));
            self.selected = index;
        }
        self.write(QUEUE_NUM, u32::from(rings.size()));
        // The high halves are zero after reset, and so are the addresses': memory ends below 4 GiB.
        for (register, address) in
            [QUEUE_DESC_LOW, QUEUE_DRIVER_LOW, QUEUE_DEVICE_LOW].into_iter().zip(rings.addresses())
        {
            self.write(register, u32::try_from(address).expect("guest memory ends below 4 GiB"));
        }
        self.write(QUEUE_READY, 1);
        Doorbell { register: (self.registers + QUEUE_NOTIFY) as *mut u32, index }
    }

    /// Lets the device work; its queues are enabled.
    pub fn go(self) {
        self.write(STATUS, ACKNOWLEDGE_DRIVER | FEATURES_OK | DRIVER_OK);
    }

    fn read(&self, offset: usize) -> u32 {
        let register = (self.registers + offset) as *const u32;
        // SAFETY: `registers` is a place of the virtio-mmio window, which is no memory.
        unsafe { register.read_volatile() }
    }

    fn write(&self, offset: usize, value: u32) {
        let register = (self.registers + offset) as *mut u32;
        // SAFETY: as in `read`; what the device then does to memory is in its queues, which `queue` owns.
        unsafe { register.write_volatile(value) }
    }
}

/// Where a queue's device is told of new buffers.
#[derive(Debug)]
pub(crate) struct Doorbell {
    register: *mut u32,
    index: u16,
}

impl Doorbell {
    /// Tells the device (virtio 1.2 4.2.3.3).
    pub(crate) fn ring(&self) {
        // SAFETY: a device's QueueNotify register, or a test's own word.
        unsafe { self.register.write_volatile(u32::from(self.index)) }
    }

    #[cfg(test)]
    pub(crate) fn for_test(word: &'static mut u32) -> Doorbell {
        Doorbell { register: word, index: 7 }
    }
}
