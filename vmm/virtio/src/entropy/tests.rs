use super::*;
use crate::driver::{Chaos, Driver, memory};

#[test]
fn the_guest_gets_random_bytes_bounded_per_chain() {
    let memory = memory();
    let mut driver = Driver::new(&memory, 0, 8);
    let mut entropy = Entropy::new(vec![driver.queue()], &memory).unwrap();
    driver.send(&[], &[3, 2]);
    driver.send(&[], &[0x1_0000]);
    let mut next = 0;
    let served = entropy.serve(&memory, |bytes| {
        for byte in bytes {
            next += 1;
            *byte = next as u8;
        }
    });
    assert!(served.notify);
    assert_eq!(driver.take().unwrap().1, [1, 2, 3, 4, 5]);
    assert_eq!(driver.take().unwrap().1.len(), CHAIN_LIMIT);
}

#[test]
fn a_request_with_bytes_to_read_breaks_the_queue() {
    let memory = memory();
    let mut driver = Driver::new(&memory, 0, 8);
    let mut entropy = Entropy::new(vec![driver.queue()], &memory).unwrap();
    driver.send(&[b"?"], &[3]);
    assert_eq!(entropy.serve(&memory, |_| ()).broken, Some(Broken::TooLong));
}

#[test]
fn whatever_a_driver_writes_the_entropy_device_gives_every_chain_back() {
    let memory = memory();
    bolero::check!().with_type::<[Chaos; 2]>().for_each(|rounds| {
        let mut driver = Driver::new(&memory, 0, 8);
        driver.clear();
        let mut entropy = Entropy::new(vec![driver.queue()], &memory).unwrap();
        for chaos in rounds {
            driver.scribble(chaos);
            let mut calls = 0;
            let served = entropy.serve(&memory, |bytes| {
                calls += 1;
                assert!(bytes.len() <= CHAIN_LIMIT);
            });
            assert!(calls <= 8 && entropy.request.settled());
            assert_eq!(served.broken, entropy.request.broken());
        }
    });
}
