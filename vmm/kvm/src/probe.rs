//! What this KVM can do and what it costs, measured by running it.

use std::time::Duration;

use abi::layout::POWER_PORT;
use kvm_ioctls::VcpuExit;
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::machine::{Failure, Machine, NewFailure};
use crate::registers;

/// What a KVM costs on this machine.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// A turn of a two-instruction loop in ring 3.
    pub ring3_turn_ns: f64,
    /// The same in ring 0, or `None` where it does not run.
    pub ring0_turn_ns: Option<f64>,
    /// A port exit to user space and back, from ring 3.
    pub exit_us: f64,
}

impl Costs {
    /// Whether ring 0 is emulated: then only the native guest is of use.
    pub fn emulates_ring0(&self) -> bool {
        self.ring0_turn_ns.is_none_or(|turn| turn > 20.0 * self.ring3_turn_ns)
    }
}

/// Why the measurement could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// No machine to measure.
    #[error(transparent)]
    New(#[from] NewFailure),
    /// KVM gave up in ring 3.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// The probe's code could not be laid out.
    #[error("memory for the measurement could not be prepared")]
    Memory(#[from] boot::LoadFailure),
    /// The probe's memory.
    #[error("no memory for the measurement")]
    Map(#[from] vm_memory::mmap::FromRangesError),
    /// The guest left in a way that its code does not have.
    #[error("a vCPU started in ring 3 does not run here ({0}); portspace cannot start its guest")]
    Strange(String),
}

/// Measures with a few thousand turns; takes some ten milliseconds. `now` is a monotonic clock.
///
/// # Errors
/// There is no usable KVM, or it cannot run a vCPU that starts in ring 3.
pub fn probe(now: impl Fn() -> Duration) -> Result<Costs, ProbeFailure> {
    let (exit, loops) = (16, 100_000);
    let short = time(false, 1, exit, &now)?;
    let long = time(false, loops, exit, &now)?;
    let slow = 200;
    let ring0 = time(true, slow, 2, &now)
        .ok()
        .map(|taken| taken.saturating_sub(short).as_secs_f64() * 1e9 / f64::from(slow));
    Ok(Costs {
        ring3_turn_ns: long.saturating_sub(short).as_secs_f64() * 1e9 / f64::from(loops),
        ring0_turn_ns: ring0,
        exit_us: short.as_secs_f64() * 1e6,
    })
}

/// The shortest of `rounds` runs of a loop of `turns` with one exit.
fn time(
    ring0: bool,
    turns: u32,
    rounds: u32,
    now: &impl Fn() -> Duration,
) -> Result<Duration, ProbeFailure> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4 << 20)])?;
    let start = boot::load_code(&memory, &code(turns))?;
    let machine = Machine::new(memory)?;
    let mut vcpu = machine.vcpu()?;
    vcpu.set(&start, if ring0 { registers::ring0 } else { registers::ring3 })?;
    let mut best = Duration::MAX;
    for round in 0..=rounds {
        let before = now();
        match vcpu.run()? {
            VcpuExit::IoOut(POWER_PORT, _) => {}
            other => return Err(ProbeFailure::Strange(format!("{other:?}"))),
        }
        // The first run fills the shadow page tables.
        if round > 0 {
            best = best.min(now() - before);
        }
    }
    Ok(best)
}

/// `again: mov ecx, turns; turn: dec ecx; jnz turn; mov dx, POWER_PORT; out dx, eax; jmp again`
fn code(turns: u32) -> Vec<u8> {
    let [a, b, c, d] = turns.to_le_bytes();
    let [low, high] = POWER_PORT.to_le_bytes();
    vec![0xb9, a, b, c, d, 0xff, 0xc9, 0x75, 0xfc, 0x66, 0xba, low, high, 0xef, 0xeb, 0xf0]
}
