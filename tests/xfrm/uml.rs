//! Linux's own IPsec: a kernel in user mode (Debian's user-mode-linux), on a
//! cable of its own to host A.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use cli::lab::service::{Service, finish};
use cli::lab::{A, Lab};
use tests::{Linux, SHELL, python};

/// Where both ends serve a directory with one file, the parcel.
pub(crate) const PORT: u16 = 8080;

/// Bytes of the parcel.
const PARCEL: u32 = 300_000;

/// A's end of the cable.
const TAP: &str = "uml0";

/// The Ethernet addresses of the cable's ends: A's and Linux's. Nobody asks for them: the
/// answers of IPv6 would have to be protected.
const MACS: [&str; 2] = ["02:50:53:00:06:0a", "02:50:53:00:06:0b"];

/// What its kernel has as modules and ESP needs, in this order: nothing is loaded on demand.
const MODULES: &str = "hmac sha512_generic drbg ctr ghash-generic gcm seqiv echainiv authenc \
    authencesn cbc crypto_null chacha_generic poly1305_generic chacha20poly1305 xfrm_user ipv6 esp4 esp6";

/// Takes ESP out of UDP datagrams on port 4500 (UDP_ENCAP, UDP_ENCAP_ESPINUDP).
const DECAPSULATE: &str = "import socket, time
sockets = [socket.socket(family, socket.SOCK_DGRAM) for family in (socket.AF_INET, socket.AF_INET6)]
sockets[1].setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
for each in sockets:
    each.setsockopt(socket.IPPROTO_UDP, 100, 2)
    each.bind((\"\", 4500))
open(\"/run/decapsulates\", \"w\")
time.sleep(3600)
";

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const ALL: [Family; 2] = [Family::V4, Family::V6];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    /// The addresses of A and of Linux on the cable.
    pub(crate) fn outer(self) -> [IpAddr; 2] {
        match self {
            Family::V4 => [A.into(), Ipv4Addr::new(192, 0, 2, 60).into()],
            Family::V6 => [0x10, 0x60].map(|last| v6([0x2001, 0xdb8, 0, last])),
        }
    }

    /// The addresses of A and of Linux inside tunnels.
    pub(crate) fn inner(self) -> [IpAddr; 2] {
        match self {
            Family::V4 => [1, 2].map(|net| Ipv4Addr::new(10, net, 0, 1).into()),
            Family::V6 => [1, 2].map(|net| v6([0xfd00, 0xdb8, net, 1])),
        }
    }

    fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }
}

fn v6([a, b, c, last]: [u16; 4]) -> IpAddr {
    Ipv6Addr::new(a, b, c, 0, 0, 0, 0, last).into()
}

/// Linux, and what A has for it.
pub(crate) struct Neighbour {
    pub(crate) linux: Linux,
    _server: Service,
}

/// Boots it; A reaches it by then, and it A.
///
/// # Errors
/// What is missing on this machine.
pub(crate) fn boot(lab: &Lab) -> Result<Neighbour, String> {
    let python = python("socket", "apt-get install python3")?;
    for program in ["linux.uml", "modprobe", "ip", "busybox"] {
        let found = finish(lab.a.command("which").arg(program), Duration::from_secs(5));
        if !found.is_ok_and(|ended| ended.ok()) {
            return Err(format!(
                "there is no {program}: apt-get install user-mode-linux kmod iproute2 busybox-static"
            ));
        }
    }
    connect(lab)?;
    let directory = lab.a.directory.join("uml");
    let path = |name: &str| directory.join(name);
    let www = lab.a.directory.join("www");
    let parcel: Vec<u8> = (0..PARCEL).map(|n| (n.wrapping_mul(n) >> 11) as u8).collect();
    let written = fs::create_dir_all(&directory)
        .and_then(|()| fs::create_dir_all(&www))
        .and_then(|()| fs::write(www.join("parcel"), parcel))
        .and_then(|()| fs::write(path("decapsulate.py"), DECAPSULATE))
        .and_then(|()| fs::write(path("init"), init(&directory, &www, &python.to_string_lossy())))
        .and_then(|()| fs::set_permissions(path("init"), PermissionsExt::from_mode(0o755)));
    written.map_err(|error| error.to_string())?;
    let mut command = lab.a.command("busybox");
    command.args(["httpd", "-f", "-p", &PORT.to_string(), "-h"]).arg(&www);
    let server =
        Service::start(&lab.a, "web server", command).map_err(|failure| failure.chain())?;
    let mut command = lab.a.command("linux.uml");
    command
        .args(["mem=128M", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "quiet"])
        .args(["con=null", "con0=fd:0,fd:1", "random.trust_cpu=on"])
        .arg(format!("vec0:transport=tap,ifname={TAP},depth=64"))
        .arg(format!("init={}", path("init").display()));
    let mut linux =
        Linux::boot(command, &path("log")).map_err(|said| format!("linux.uml: {said}"))?;
    linux.must("until test -e /run/decapsulates; do busybox usleep 10000; done");
    Ok(Neighbour { linux, _server: server })
}

/// The cable, and A's addresses, routes and neighbour on it.
fn connect(lab: &Lab) -> Result<(), String> {
    // A's lab has no IPv6 of its own.
    for device in ["all", "default"] {
        let path = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
        lab.a
            .run(|| fs::write(&path, "0"))
            .map_err(|failure| failure.chain())?
            .map_err(|error| format!("{path}: {error}"))?;
    }
    let mut script = format!(
        "set -e
ip tuntap add mode tap name {TAP}
ip link set {TAP} address {}
ip link set {TAP} up
",
        MACS[0]
    );
    for family in Family::ALL {
        let ([near, far], bits) = (family.outer(), family.bits());
        let nodad = if family == Family::V6 { "nodad" } else { "" };
        script += &format!(
            "ip addr add {near}/{bits} dev {TAP} {nodad}
ip neigh add {far} dev {TAP} lladdr {}
ip route add {far}/{bits} dev {TAP} metric 100
",
            MACS[1]
        );
    }
    let ended = finish(lab.a.command("sh").args(["-c", &script]), Duration::from_secs(10))
        .map_err(|failure| failure.chain())?;
    if ended.ok() { Ok(()) } else { Err(format!("A cannot be joined to Linux: {}", ended.why())) }
}

/// The first program of the kernel.
fn init(directory: &Path, www: &Path, python: &str) -> String {
    let mut addresses = String::new();
    for family in Family::ALL {
        let ([near, far], [inner_near, inner_far]) = (family.outer(), family.inner());
        let bits = family.bits();
        let nodad = if family == Family::V6 { "nodad" } else { "" };
        addresses += &format!(
            "ip addr add {far}/{bits} dev vec0 {nodad}
ip neigh add {near} dev vec0 lladdr {mac}
ip route add {near}/{bits} dev vec0
ip addr add {inner_far}/{bits} dev lo {nodad}
ip route add {inner_near}/{bits} dev vec0 src {inner_far}
",
            mac = MACS[0]
        );
    }
    format!(
        "#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
stty raw -echo
# The modules are not where modprobe looks for them.
mkdir -p /run/root/lib/modules
ln -s /usr/lib/uml/modules/$(uname -r) /run/root/lib/modules/
modprobe -a -d /run/root {MODULES}
ip link set lo up
ip link set vec0 address {mac}
ip link set vec0 up
{addresses}{python} {directory}/decapsulate.py &
busybox httpd -p {PORT} -h {www}
{SHELL}",
        mac = MACS[1],
        directory = directory.display(),
        www = www.display(),
    )
}
