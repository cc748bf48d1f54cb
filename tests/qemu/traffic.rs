//! What the machine sends and receives through the switch.

use std::fs;
use std::time::Duration;

use cli::lab::service::{Ended, Service, finish};
use cli::lab::{A, Host, Lab, Peer};
use switch::overlay::Cipher;
use tests::{Linux, Space, eventually, ignore};

use crate::machine::{Image, card};

/// Bytes of the files that are fetched, both ways.
const PARCEL: u32 = 4 << 20;

/// What is dropped of a sound machine: what came when it had no room or was not there, and the
/// questions a Linux host asks its network.
const USUAL: [&str; 3] = ["guest_full", "multicast", "neighbour"];

/// Longest wait for one of them: the machine is emulated.
const FETCH: Duration = Duration::from_secs(60);

pub(crate) fn plugged(lab: &Lab) {
    let image = Image::build(lab).unwrap_or_else(|missing| ignore(missing));
    let red = Space::up(lab, "red", Peer::B, Cipher::AesCbc256, None);
    let blue = Space::configure(lab, "blue", Peer::C, Cipher::AesCbc256, None);
    let c = lab.peer(Peer::C);
    let _server = serve(c);
    let bare = c.portspace(&["bare", blue.far_file.to_str().expect("a plain path")]);
    let mut bare = Service::start(c, "bare IPsec", bare).expect("bare can be started");

    let socket = lab.a.directory.join("blue.sock");
    let arguments = ["plug", blue.file.to_str().expect("a plain path"), "--socket", "blue.sock"];
    let mut plug = Service::start(&lab.a, "plug", lab.a.portspace(&arguments)).expect("it starts");
    eventually("the socket is there", || {
        plug.must_run().expect("plug runs");
        socket.exists()
    });
    let (mac, mtu) = (blue.switch().mac, blue.switch().mtu);
    // The second machine finds SAs that the first was killed over.
    for _ in 0..2 {
        let mut linux = image.boot(lab, &card(&socket, mac, mtu));
        eventually("QEMU's queues run", || blue.switch().running);
        pings(&mut linux, c, mtu);
        fetches(&mut linux, c);
        bare.must_run().expect("bare IPsec still runs");
        drop(linux);
        eventually("the switch has noticed", || !blue.switch().running);
        assert!(red.run(&["ping", "192.0.2.20", "-c", "1"]).ok(), "the other space goes on");
    }
    let drops = blue.drops();
    let is_usual = |reason: &String| USUAL.contains(&reason.as_str());
    assert!(drops.keys().all(is_usual), "all of it was in order: {drops:?}");
}

fn pings(linux: &mut Linux, c: &Host, mtu: u16) {
    assert_eq!(linux.must("cat /sys/class/net/eth0/mtu").trim(), mtu.to_string());
    linux.must(&format!("ping -c 2 -W 10 {}", c.address));
    // As long as fits: headers of IP and ICMP.
    let longest = mtu - 28;
    linux.must(&format!("ping -c 1 -W 10 -s {longest} {}", c.address));
    let pinged = on(c, &format!("busybox ping -c 1 -W 10 -s {longest} {A}"));
    assert!(pinged.ok(), "{}", pinged.out);
}

/// A file from the peer, and one from the machine.
fn fetches(linux: &mut Linux, c: &Host) {
    let fetch =
        |whom| format!("busybox wget -q -O - http://{whom}:8080/parcel | busybox sha256sum");
    let expected = on(c, "busybox sha256sum <www/parcel").out;
    let fetched = linux.must(&format!("timeout 30 {}", fetch(c.address)));
    assert_eq!(fetched.trim(), expected.trim(), "from the peer");
    linux.must(&format!("mkdir -p /tmp/www; head -c {PARCEL} /dev/urandom >/tmp/www/parcel"));
    linux.must("httpd -p 8080 -h /tmp/www");
    let expected = linux.must("sha256sum </tmp/www/parcel");
    let fetched = on(c, &fetch(A));
    assert_eq!(fetched.out.trim(), expected.trim(), "from the machine: {}", fetched.why());
}

fn on(host: &Host, script: &str) -> Ended {
    finish(host.command("sh").args(["-c", script]), FETCH).expect("a shell can be started")
}

/// A web server with a parcel.
fn serve(host: &Host) -> Service {
    let bytes: Vec<u8> = (0..PARCEL).map(|n| (n.wrapping_mul(n) >> 11) as u8).collect();
    let www = host.directory.join("www");
    fs::create_dir_all(&www)
        .and_then(|()| fs::write(www.join("parcel"), bytes))
        .expect("the lab's disk takes a file");
    let mut server = host.command("busybox");
    server.args(["httpd", "-f", "-p", "8080", "-h", "www"]);
    let mut server = Service::start(host, "web server", server).expect("busybox runs");
    server.answers(host, (host.address, 8080).into()).expect("it answers");
    server
}
