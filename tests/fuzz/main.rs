//! Fuzz targets for every parser that a guest, a peer or a user reaches; docs/fuzzing.md.
//!
//! A target takes bytes and panics if something is wrong. Its corpus is readable: seeds that are
//! made here. As tests they run for a bounded time; `cargo bolero` runs them for hours.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disk;
mod guest;
mod peer;
mod seeds;
mod user;

use seeds::Seed;

/// Each target with its seeds, as a test of its own.
macro_rules! targets {
    ($($name:ident: $seeds:expr, $target:expr;)*) => {$(
        #[test]
        fn $name() {
            let (seeds, target): (Vec<Seed>, _) = ($seeds, $target);
            seeds::keep(stringify!($name), &seeds);
            seeds.iter().for_each(|(_, bytes)| target(bytes));
            bolero::check!().for_each(|bytes: &[u8]| {
                target(bytes);
                target(&seeds::varied(&seeds, bytes));
            });
        }
    )*};
}

targets! {
    esp_from_a_stranger: peer::sealed_seeds(), peer::stranger;
    payloads_an_sa_carried: peer::carried_seeds(), peer::carried;
    datagrams_of_the_encapsulation_port: peer::datagram_seeds(), peer::datagram;
    ip_packets: peer::packet_seeds(), peer::packet;
    icmp_that_was_heard: peer::icmp_seeds(), peer::icmp;
    frames_of_a_guest: guest::frame_seeds(), guest::frame;
    headers_of_large_packets: guest::large_seeds(), guest::large;
    virtqueues: guest::queue_seeds(), guest::queue;
    requests_to_a_disk: disk::seeds(), disk::request;
    vhost_user_messages: guest::message_seeds(), guest::messages;
    requests_to_the_switch: user::request_seeds(), user::request;
    configuration_files: user::file_seeds(), user::file;
}
