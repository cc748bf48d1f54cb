//! How soon cores that have nothing to do are to wake up (PM QoS,
//! Documentation/power/pm_qos_interface.rst).

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};

const PATH: &str = "/dev/cpu_dma_latency";

/// The driver of machines whose idle cores poll or halt, and do nothing between the two.
pub const HALTING: &str = "haltpoll";

/// The name of the driver that puts idle cores to sleep.
///
/// # Errors
/// Those of reading /sys.
pub fn driver() -> io::Result<String> {
    let name = std::fs::read_to_string("/sys/devices/system/cpu/cpuidle/current_driver")?;
    Ok(name.trim().to_owned())
}

/// What this process demands of all cores, for as long as it lives.
#[derive(Debug)]
pub struct Latency(OwnedFd);

impl Latency {
    /// Demands nothing yet.
    ///
    /// # Errors
    /// EACCES: only root may.
    pub fn open() -> io::Result<Latency> {
        Ok(Latency(rustix::fs::open(PATH, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?))
    }

    /// Demands that each wakes up within so many microseconds; `None`: whenever it likes.
    ///
    /// # Errors
    /// Those of write(2).
    pub fn demand(&self, microseconds: Option<u16>) -> io::Result<()> {
        // PM_QOS_DEFAULT_VALUE (linux/pm_qos.h).
        const ANY: i32 = -1;
        let value = microseconds.map_or(ANY, i32::from);
        rustix::io::write(&self.0, &value.to_ne_bytes())?;
        Ok(())
    }
}
