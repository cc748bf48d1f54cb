//! How a thread shares its core: scheduling class, slice, and giving way.

use std::io;

use rustix::thread::CpuSet;

/// Scheduling classes for threads that are not the most urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// SCHED_OTHER: as every thread starts.
    Normal,
    /// SCHED_BATCH: does not preempt others when it wakes.
    Batch,
    /// SCHED_IDLE: any waking thread of another class takes the core at once.
    Idle,
}

/// The kernel's struct sched_attr, first version (sched_setattr(2)).
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime_ns: u64,
    deadline_ns: u64,
    period_ns: u64,
}

/// Puts the calling thread into `class`; every class but a real-time one needs no capability.
///
/// # Errors
/// That of sched_setattr(2).
pub fn set_class(class: Class) -> io::Result<()> {
    set(class, 0)
}

/// Puts the calling thread into `class` with slices of `slice_ns` nanoseconds
/// (Linux 6.12; older kernels keep their own slice).
///
/// A thread that runs for short times and asks for short slices is scheduled sooner.
///
/// # Errors
/// That of sched_setattr(2).
pub fn set_class_and_slice(class: Class, slice_ns: u64) -> io::Result<()> {
    set(class, slice_ns)
}

fn set(class: Class, runtime_ns: u64) -> io::Result<()> {
    let policy = match class {
        Class::Normal => libc::SCHED_OTHER,
        Class::Batch => libc::SCHED_BATCH,
        Class::Idle => libc::SCHED_IDLE,
    };
    let attributes = Attributes {
        size: size_of::<Attributes>() as u32,
        policy: policy as u32,
        flags: 0,
        nice: 0,
        priority: 0,
        runtime_ns,
        deadline_ns: 0,
        period_ns: 0,
    };
    // SAFETY: the kernel reads `size` bytes of `attributes`, which is laid out as its
    // struct sched_attr and lives until the call returns; pid 0 is the calling thread.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// How many cores the process may run on.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Who has to keep out of whose way where cores are few.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Threads that wake, work for microseconds and sleep.
    Waking,
    /// Threads that spin: they cannot yield and do not sleep soon.
    Spinning,
}

/// The cores of a process that has two: one for each [`Side`].
///
/// A thread that is woken on the core of one that spins runs at once; but what it then waits for is
/// the other, which it keeps from running. With more cores the scheduler finds a free one, and with
/// one there is no choice.
#[derive(Clone, Copy, Debug)]
pub struct TwoCores {
    waking: CpuSet,
    spinning: CpuSet,
}

impl TwoCores {
    /// Those of the calling thread, if it may run on two and no more.
    pub fn allowed() -> Option<Self> {
        let allowed = rustix::thread::sched_getaffinity(None).ok()?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).map(|core| {
            let mut alone = CpuSet::new();
            alone.set(core);
            alone
        });
        let (waking, spinning) = (cores.next()?, cores.next()?);
        cores.next().is_none().then_some(Self { waking, spinning })
    }

    /// Keeps the calling thread to the core of a side.
    ///
    /// # Errors
    /// Those of sched_setaffinity(2).
    pub fn keep_to(&self, side: Side) -> io::Result<()> {
        let core = match side {
            Side::Waking => &self.waking,
            Side::Spinning => &self.spinning,
        };
        Ok(rustix::thread::sched_setaffinity(None, core)?)
    }
}

/// Lets any other runnable thread of this core go first.
pub fn give_way() {
    rustix::thread::sched_yield();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_step_back_and_shorten_its_slices() {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                set_class_and_slice(Class::Normal, 100_000).unwrap();
                set_class(Class::Batch).unwrap();
                set_class(Class::Idle).unwrap();
                give_way();
                assert!(cores() >= 1);
                let Some(two) = TwoCores::allowed() else { return };
                two.keep_to(Side::Spinning).unwrap();
                assert!(TwoCores::allowed().is_none(), "there is one now");
                two.keep_to(Side::Waking).unwrap();
            });
        });
    }
}
