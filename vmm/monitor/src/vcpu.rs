//! The vCPU's thread: runs the guest, answers its exits, sleeps with it.

use std::os::fd::OwnedFd;

use abi::layout::{MESSAGE_PORT, POWER_PORT, SLEEP_FOREVER, SLEEP_PORT};
use boot::tables::FAULT;
use kvm::{Vcpu, VcpuExit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sys::sched::{Class, Side, TwoCores};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::End;
use crate::bus::Bus;

/// The longest slice that sched_setattr(2) gives.
const SLICE_NS: u64 = 100_000_000;

/// Most bytes kept of a guest's panic message.
const MAX_MESSAGE: usize = 4096;

/// What the vCPU's thread owns.
pub(crate) struct Runner {
    pub(crate) vcpu: Vcpu,
    pub(crate) bus: Bus,
    pub(crate) memory: GuestMemoryMmap,
    pub(crate) wake: OwnedFd,
    pub(crate) message: Vec<u8>,
}

/// What an exit asks for, freed of the borrow on the vCPU's shared page.
enum Step {
    Go,
    Sleep(u32),
    Power(u32),
    Over(End),
}

impl Runner {
    /// Runs the guest to its end.
    pub(crate) fn run(mut self) -> End {
        // A guest spins, and cannot yield in its ring: with the longest slice there is, any thread
        // that wakes has the earlier deadline and takes the core at once. A kernel that has no
        // such slices (before 6.12) refuses nothing and keeps its own.
        if let Err(error) = sys::sched::set_class_and_slice(Class::Normal, SLICE_NS) {
            log::warn!("the vCPU keeps the usual scheduling slice: {error}");
        }
        // Where this is refused it is slower, not wrong.
        let _ = TwoCores::allowed().map(|two| two.keep_to(Side::Spinning));
        loop {
            match self.step() {
                Step::Go => {}
                Step::Sleep(most_us) => sleep(&self.wake, most_us),
                Step::Power(0) => return End::Stopped,
                Step::Power(code) => return End::Guest(self.last_words(code)),
                Step::Over(end) => return end,
            }
        }
    }

    fn step(&mut self) -> Step {
        let exit = match self.vcpu.run() {
            Ok(exit) => exit,
            Err(failure) => return Step::Over(End::Kvm(chain(&failure))),
        };
        match exit {
            VcpuExit::Intr => Step::Go,
            VcpuExit::MmioRead(address, data) => {
                self.bus.read(address, data);
                Step::Go
            }
            VcpuExit::MmioWrite(address, data) => match self.bus.write(address, data) {
                Ok(()) => Step::Go,
                Err(failure) => {
                    log::error!("{}", chain(&failure));
                    Step::Over(End::SwitchGone)
                }
            },
            VcpuExit::IoOut(SLEEP_PORT, &[a, b, c, d]) => {
                Step::Sleep(u32::from_le_bytes([a, b, c, d]))
            }
            VcpuExit::IoOut(POWER_PORT, &[a, b, c, d]) => {
                Step::Power(u32::from_le_bytes([a, b, c, d]))
            }
            VcpuExit::IoOut(MESSAGE_PORT, bytes) => {
                let room = MAX_MESSAGE - self.message.len();
                self.message.extend_from_slice(&bytes[..bytes.len().min(room)]);
                Step::Go
            }
            VcpuExit::IoOut(..) => Step::Go,
            VcpuExit::IoIn(_, data) => {
                data.fill(0xff);
                Step::Go
            }
            VcpuExit::Shutdown => {
                Step::Over(End::Guest("it lost its tables (triple fault)".into()))
            }
            other => Step::Over(End::Kvm(format!("KVM left the guest with {other:?}"))),
        }
    }

    /// The guest's panic message, or the exception a ring-0 stub reported.
    fn last_words(&self, code: u32) -> String {
        if code & FAULT == 0 {
            return one_line(&self.message);
        }
        let Ok(position) = self.vcpu.position() else { return format!("exception {code:#x}") };
        // The frame is above an error code where the vector has one (AMD64 vol. 2, 8.2).
        let vector = code & 0xff;
        let error_code = matches!(vector, 8 | 10..=14 | 17 | 21 | 29 | 30);
        let frame = GuestAddress(position.stack.wrapping_add(if error_code { 8 } else { 0 }));
        let instruction: u64 = self.memory.read_obj(frame).unwrap_or_default();
        let name = match vector {
            0 => "division error",
            6 => "invalid instruction",
            8 => "double fault",
            13 => "protection fault",
            14 => "page fault",
            _ => "exception",
        };
        match vector {
            14 => {
                format!("{name} at {:#x}, by the instruction at {instruction:#x}", position.missed)
            }
            _ => format!("{name} ({vector}) by the instruction at {instruction:#x}"),
        }
    }
}

/// A guest's words as part of a sentence: on one line, with nothing a terminal would obey.
fn one_line(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(message);
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
    match words.is_empty() {
        true => "it gave no reason".to_owned(),
        false => words.chars().map(shown).collect(),
    }
}

/// Waits for a wake-up, at most `most_us` microseconds, and takes it.
fn sleep(wake: &OwnedFd, most_us: u32) {
    let most = Timespec {
        tv_sec: (most_us / 1_000_000).into(),
        tv_nsec: (most_us % 1_000_000 * 1000).into(),
    };
    let most = (most_us != SLEEP_FOREVER).then_some(&most);
    // Interrupted or not: the guest looks at its rings itself.
    let _ = poll(&mut [PollFd::new(wake, PollFlags::IN)], most);
    let _ = rustix::io::read(wake, &mut [0u8; 8]);
}

/// An error and its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_words_stay_on_one_line_and_command_no_terminal() {
        assert_eq!(
            one_line(b"panicked at x.rs:1:\nno \x1b[2Jheap\n"),
            "panicked at x.rs:1: no \u{fffd}[2Jheap"
        );
        assert_eq!(one_line(b" \n"), "it gave no reason");
    }
}
