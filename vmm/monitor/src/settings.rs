//! What a VM process is told at its start.

use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One space's machine, as the command line decided it. Holds no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// When this process was spawned (CLOCK_MONOTONIC): the boot is measured from here.
    pub spawned_ns: u64,
    /// The space's name.
    pub name: String,
    /// The addresses the guest has as its own, at most one of each family.
    pub addresses: Vec<IpAddr>,
    /// The overlay's peer; the guest asks it for one echo at its start.
    pub peer: Option<IpAddr>,
    /// The guest's Ethernet address, as the switch gave it.
    pub mac: [u8; 6],
    /// Bytes of IP packet the overlay takes.
    pub mtu: u16,
    /// Bytes of guest memory.
    pub memory_bytes: u64,
    /// Longest spin of the guest before it sleeps, microseconds.
    pub spin_us: u32,
    /// Its files.
    pub files: cowfs::Settings,
    /// Where it is asked to hold its files still while they are sealed ([`seal::serve`]).
    pub seal: Option<PathBuf>,
    /// Its disks, in the order in which it sees them; at most [`abi::layout::Place::DISKS`].
    pub disks: Vec<Disk>,
}

/// One disk: files that are opened before the guest starts, and never by name after that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The raw image, absolute; it is never written.
    pub image: PathBuf,
    /// The maps of the layers over it, the lowest first ([`cowdisk::host::Config::layers`]).
    pub layers: Vec<PathBuf>,
    /// Whether the topmost layer takes writes; it is created if it is not there.
    pub writable: bool,
}
