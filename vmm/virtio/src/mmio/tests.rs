use virtio_queue::QueueT;

use super::*;

fn registers() -> Registers {
    Registers::new(Identity {
        device_id: 4,
        features: EVENT_IDX | 1,
        queue_sizes: vec![8, 16],
        config: vec![1, 2, 3, 4, 5, 6],
    })
}

fn read(registers: &Registers, offset: u64) -> u32 {
    let mut word = [0; 4];
    registers.read(offset, &mut word);
    u32::from_le_bytes(word)
}

fn write(registers: &mut Registers, offset: u64, value: u32) -> Option<Effect> {
    registers.write(offset, &value.to_le_bytes())
}

/// Negotiates like a driver that wants `features`, up to FEATURES_OK; the status then.
fn negotiate(registers: &mut Registers, features: u64) -> u32 {
    for status in [1, 3] {
        assert_eq!(write(registers, 0x070, status), None);
    }
    for half in [0, 1] {
        write(registers, 0x024, half);
        write(registers, 0x020, (features >> (32 * half)) as u32);
    }
    assert_eq!(write(registers, 0x070, 11), None);
    read(registers, 0x070)
}

fn set_up_queue(registers: &mut Registers, index: u32, size: u32, base: u32) -> bool {
    for (offset, value) in [
        (0x030, index),
        (0x038, size),
        (0x080, base),
        (0x090, base + 0x1000),
        (0x0a0, base + 0x2000),
        (0x084, 1),
        (0x044, 1),
    ] {
        assert_eq!(write(registers, offset, value), None);
    }
    read(registers, 0x044) == 1
}

#[test]
fn a_driver_finds_the_device_and_its_configuration() {
    let registers = registers();
    let found = [0x000, 0x004, 0x008, 0x034, 0x070, 0x0fc].map(|at| read(&registers, at));
    assert_eq!(found, [0x7472_6976, 2, 4, 8, 0, 0]);
    let mut config = [9; 4];
    registers.read(0x103, &mut config);
    assert_eq!(config, [4, 5, 6, 0]);
    let mut half = [9; 2];
    registers.read(0x102, &mut half);
    assert_eq!(half, [3, 4]);
}

#[test]
fn a_driver_that_keeps_to_the_order_activates_the_device() {
    let mut registers = registers();
    write(&mut registers, 0x014, 1);
    assert_eq!(read(&registers, 0x010), 1, "VERSION_1 is always offered");
    assert_eq!(negotiate(&mut registers, VERSION_1 | EVENT_IDX), 11);
    assert!(set_up_queue(&mut registers, 1, 4, 0x1_0000));
    assert_eq!(write(&mut registers, QUEUE_NOTIFY, 1), None, "not before DRIVER_OK");
    let Some(Effect::Activate { features, queues }) = write(&mut registers, 0x070, 15) else {
        panic!("DRIVER_OK activates");
    };
    assert_eq!(features, VERSION_1 | EVENT_IDX);
    assert_eq!([queues[0].ready(), queues[1].ready()], [false, true]);
    assert_eq!((queues[1].size(), queues[1].desc_table()), (4, 0x1_0001_0000));
    assert!(queues[1].event_idx_enabled());
    assert_eq!(write(&mut registers, 0x070, 15), None, "once");
    assert_eq!(write(&mut registers, QUEUE_NOTIFY, 1), Some(Effect::Notify(1)));
    for index in [0, 2, 0x1_0001] {
        assert_eq!(write(&mut registers, QUEUE_NOTIFY, index), None, "no such queue in use");
    }
}

#[test]
fn features_that_were_not_offered_or_lack_version_1_are_refused() {
    assert_eq!(negotiate(&mut registers(), VERSION_1 | 2), 3);
    assert_eq!(negotiate(&mut registers(), EVENT_IDX), 3);
    assert_eq!(negotiate(&mut registers(), VERSION_1 | 1 << 63), 3);
    let mut registers = registers();
    assert_eq!(negotiate(&mut registers, VERSION_1), 11);
    write(&mut registers, 0x024, 0);
    write(&mut registers, 0x020, u32::MAX);
    assert!(matches!(
        write(&mut registers, 0x070, 15),
        Some(Effect::Activate { features: VERSION_1, .. })
    ));
}

#[test]
fn a_step_without_the_one_before_does_not_happen() {
    let mut registers = registers();
    assert_eq!(write(&mut registers, 0x070, 4 | 2), None);
    assert_eq!(read(&registers, 0x070), 0);
    assert!(!set_up_queue(&mut registers, 0, 8, 0), "not before FEATURES_OK");
    negotiate(&mut registers, VERSION_1);
    assert_eq!(write(&mut registers, 0x070, 1), None);
    assert_eq!(read(&registers, 0x070), 11, "only a reset clears bits");
}

#[test]
fn a_queue_of_bad_size_or_alignment_does_not_become_ready() {
    let mut registers = registers();
    negotiate(&mut registers, VERSION_1);
    for (index, size, base) in [(0, 16, 0), (0, 0, 0), (0, 6, 0), (0, 8, 8), (2, 8, 0)] {
        assert!(!set_up_queue(&mut registers, index, size, base), "{index} {size} {base}");
    }
    assert!(!set_up_queue(&mut registers, 0, 0x1_0008, 0), "the size has 32 bits");
    assert!(set_up_queue(&mut registers, 0, 8, 0));
    write(&mut registers, 0x038, 3);
    write(&mut registers, 0x080, 1);
    let Some(Effect::Activate { queues, .. }) = write(&mut registers, 0x070, 15) else {
        panic!("DRIVER_OK activates");
    };
    assert_eq!((queues[0].size(), queues[0].desc_table()), (8, 1 << 32));
}

#[test]
fn a_reset_forgets_everything_the_driver_did() {
    let mut registers = registers();
    negotiate(&mut registers, VERSION_1);
    set_up_queue(&mut registers, 0, 8, 0);
    write(&mut registers, 0x070, 15);
    registers.interrupt().raise();
    registers.needs_reset();
    assert_eq!(read(&registers, 0x070), 15 | 64);
    assert_eq!(read(&registers, 0x060), 3);
    assert_eq!(write(&mut registers, 0x070, 0), Some(Effect::Reset));
    assert_eq!([0x070, 0x060, 0x044].map(|at| read(&registers, at)), [0; 3]);
    assert_eq!(negotiate(&mut registers, VERSION_1), 11);
}

#[test]
fn interrupts_stay_until_acknowledged() {
    let mut registers = registers();
    let interrupt = registers.interrupt();
    interrupt.raise();
    interrupt.raise_config();
    assert_eq!(read(&registers, 0x060), 3);
    write(&mut registers, 0x064, 1);
    assert_eq!((read(&registers, 0x060), interrupt.pending()), (2, 2));
}

#[test]
fn a_new_configuration_has_a_new_generation() {
    let mut registers = registers();
    registers.set_config(vec![7]);
    assert_eq!((read(&registers, 0x0fc), read(&registers, 0x100)), (1, 7));
    assert_eq!(registers.interrupt().pending(), 0, "nobody to tell before DRIVER_OK");
}

#[test]
fn whatever_a_driver_writes_the_status_only_grows_until_a_reset() {
    let accesses = bolero::generator::produce::<Vec<(u16, u32, u8, u8)>>();
    bolero::check!().with_generator(accesses).for_each(|accesses| {
        let mut registers = registers();
        for &(offset, value, width, kind) in accesses {
            // Most accesses hit a register, in its width, with a value that means something.
            let offset = match kind % 4 {
                0 => u64::from(offset) << (kind >> 2),
                _ => u64::from(offset) % 0x42 * 4,
            };
            let width = if kind % 8 == 0 { usize::from(width) % 9 } else { 4 };
            let value = if kind % 16 < 8 { value % 16 } else { value };
            let before = registers.status;
            registers.read(offset, &mut [0; 8][..width]);
            let mut bytes = [0; 8];
            bytes[..4].copy_from_slice(&value.to_le_bytes());
            match registers.write(offset, &bytes[..width]) {
                Some(Effect::Reset) => assert_eq!(registers.status, 0),
                Some(Effect::Activate { features, queues }) => {
                    assert_eq!(before & 4, 0);
                    assert_eq!(features & !(EVENT_IDX | VERSION_1 | 1), 0);
                    assert_eq!(queues.len(), 2);
                }
                Some(Effect::Notify(index)) => assert!(registers.active() && index < 2),
                None => assert_eq!(registers.status & before, before),
            }
        }
    });
}
