//! The page with which the native guest starts.

/// What the monitor tells the native guest, at [`crate::layout::START_PAGE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct StartPage {
    /// [`MAGIC`].
    pub magic: u64,
    /// Bytes of guest memory, from address 0; all mapped one to one, writable, user.
    pub memory_bytes: u64,
    /// First byte after the image and its stack: the heap starts here.
    pub heap_start: u64,
    /// Time-stamp counter ticks per second.
    pub tsc_hz: u64,
    /// Wall-clock time at the start, nanoseconds since 1970.
    pub wall_ns: u64,
    /// Longest spin on the used rings before sleeping, microseconds.
    pub spin_us: u32,
    /// The one network's MTU, bytes of IP packet.
    pub mtu: u32,
    /// The space's own IPv4 address, network order bytes.
    pub address: [u8; 4],
    /// The overlay's peer: pinged once at the start so that its reachability is known.
    /// All zero: none.
    pub peer: [u8; 4],
    /// The space's Ethernet address.
    pub mac: [u8; 6],
    /// Zero.
    pub reserved: [u8; 2],
}

/// "portspac" as bytes.
pub const MAGIC: u64 = u64::from_le_bytes(*b"portspac");
