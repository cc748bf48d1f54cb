//! One virtual machine and its one vCPU.

use std::fmt;
use std::io;

use boot::Start;
use kvm_bindings::{
    CpuId, KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES, kvm_fpu, kvm_sregs, kvm_userspace_memory_region,
};
use kvm_ioctls::{Cap, IoEventAddress, Kvm, VcpuExit, VcpuFd, VmFd};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use vmm_sys_util::eventfd::EventFd;

use crate::registers;

/// Why /dev/kvm cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenFailure {
    /// There is no such device.
    #[error(
        "/dev/kvm does not exist: switch virtualization on in the firmware (VT-x, AMD-V) or in the \
         hypervisor (nested), and load the module: modprobe kvm_intel or kvm_amd"
    )]
    Missing,
    /// The user may not open it.
    #[error(
        "/dev/kvm may not be opened by this user: join its group (sudo usermod -aG kvm $USER, then \
         log in again)"
    )]
    Forbidden,
    /// Something else.
    #[error("/dev/kvm cannot be opened")]
    Other(#[source] io::Error),
    /// A KVM of another age.
    #[error(
        "/dev/kvm speaks version {0} of its interface; portspace needs version 12 (any Linux since 2.6.22)"
    )]
    Version(i32),
    /// A capability that every KVM since Linux 3.15 has.
    #[error("this KVM lacks {0:?}; portspace needs a newer kernel")]
    Lacks(Cap),
}

/// A KVM call that failed.
#[derive(Debug, thiserror::Error)]
#[error("KVM refused to {doing}; `portspace doctor` shows what this KVM can do")]
pub struct Failure {
    doing: &'static str,
    #[source]
    source: io::Error,
}

/// Names what a KVM call was for.
pub(crate) fn doing(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Failure {
    move |error| Failure { doing: what, source: error.into() }
}

/// Opens /dev/kvm and checks that it has what portspace needs.
pub(crate) fn open() -> Result<Kvm, OpenFailure> {
    let kvm = Kvm::new().map_err(|error| match io::Error::from(error) {
        error if error.kind() == io::ErrorKind::NotFound => OpenFailure::Missing,
        error if error.kind() == io::ErrorKind::PermissionDenied => OpenFailure::Forbidden,
        error => OpenFailure::Other(error),
    })?;
    let version = kvm.get_api_version();
    if version != KVM_API_VERSION as i32 {
        return Err(OpenFailure::Version(version));
    }
    for capability in [Cap::UserMemory, Cap::Ioeventfd, Cap::ExtCpuid, Cap::SetTssAddr] {
        if !kvm.check_extension(capability) {
            return Err(OpenFailure::Lacks(capability));
        }
    }
    Ok(kvm)
}

/// A virtual machine with its memory; it makes one [`Vcpu`].
pub struct Machine {
    vm: VmFd,
    cpuid: CpuId,
    memory: GuestMemoryMmap,
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").finish_non_exhaustive()
    }
}

impl Machine {
    /// A machine over `memory`, without interrupt controllers: the native guest takes none.
    ///
    /// # Errors
    /// [`OpenFailure`] as the first cause where /dev/kvm itself is the trouble.
    pub fn new(memory: GuestMemoryMmap) -> Result<Machine, NewFailure> {
        let kvm = open()?;
        let vm = kvm.create_vm().map_err(doing("create a virtual machine"))?;
        for (slot, region) in memory.iter().enumerate() {
            let host = memory
                .get_host_address(region.start_addr())
                .expect("a region of the map has a host address");
            let region = kvm_userspace_memory_region {
                slot: slot as u32,
                flags: 0,
                guest_phys_addr: region.start_addr().0,
                memory_size: region.len(),
                userspace_addr: host as u64,
            };
            // SAFETY: the region is a mapping of `memory`, which the machine keeps until its
            // descriptor is closed (fields drop in order), and it is never given out as Rust
            // references: vm-memory accesses are volatile.
            unsafe { vm.set_user_memory_region(region) }.map_err(doing("map guest memory"))?;
        }
        let cpuid = kvm
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(doing("tell which processor features a guest may use"))?;
        Ok(Machine { vm, cpuid, memory })
    }

    /// Makes the vCPU; [`Vcpu::start`] says where it begins.
    ///
    /// # Errors
    /// KVM has no room, or refuses the features it told.
    pub fn vcpu(&self) -> Result<Vcpu, Failure> {
        let fd = self.vm.create_vcpu(0).map_err(doing("create a vCPU"))?;
        fd.set_cpuid2(&self.cpuid).map_err(doing("set the vCPU's features"))?;
        // The x87 and SSE control words as after FNINIT and at reset (AMD64 vol. 2, 14.1.3).
        let fpu = kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() };
        fd.set_fpu(&fpu).map_err(doing("set the vCPU's floating-point state"))?;
        Ok(Vcpu { fd, _memory: self.memory.clone() })
    }

    /// Makes a 4-byte write of `value` at `address` a signal of `event`, without an exit to
    /// user space.
    ///
    /// # Errors
    /// The place is taken, or KVM has no room for more.
    pub fn notify(
        &self,
        event: &EventFd,
        address: GuestAddress,
        value: u32,
    ) -> Result<(), Failure> {
        self.vm
            .register_ioevent(event, &IoEventAddress::Mmio(address.0), value)
            .map_err(doing("turn a queue's notification into an event"))
    }
}

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub enum NewFailure {
    /// /dev/kvm cannot be used at all.
    #[error(transparent)]
    Open(#[from] OpenFailure),
    /// It can, but not for this.
    #[error(transparent)]
    Refused(#[from] Failure),
}

/// The vCPU; it is run by the thread that has it.
pub struct Vcpu {
    fd: VcpuFd,
    /// Keeps the memory while the vCPU may still touch it.
    _memory: GuestMemoryMmap,
}

impl fmt::Debug for Vcpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vcpu").finish_non_exhaustive()
    }
}

impl Vcpu {
    /// Makes `start` the next instruction, in ring 3.
    ///
    /// # Errors
    /// What KVM refuses of the registers; some emulations do.
    pub fn start(&self, start: &Start) -> Result<(), Failure> {
        self.set(start, registers::ring3)
    }

    /// Makes `start` the next instruction, with the special registers from `how`.
    pub(crate) fn set(
        &self,
        start: &Start,
        how: impl FnOnce(&mut kvm_sregs, &Start),
    ) -> Result<(), Failure> {
        let mut special = self.fd.get_sregs().map_err(doing("read the vCPU's registers"))?;
        how(&mut special, start);
        self.fd.set_sregs(&special).map_err(doing("start a vCPU in this mode"))?;
        // After the segments: some KVMs judge RFLAGS by the privilege level of the time.
        self.fd.set_regs(&registers::first(start)).map_err(doing("set the vCPU's registers"))
    }

    /// Runs until the guest leaves or a signal reaches this thread ([`VcpuExit::Intr`]).
    ///
    /// # Errors
    /// KVM cannot go on: the guest's state is broken or KVM's emulator gave up.
    pub fn run(&mut self) -> Result<VcpuExit<'_>, Failure> {
        match self.fd.run() {
            Err(error) if matches!(error.errno(), EINTR | EAGAIN) => Ok(VcpuExit::Intr),
            other => other.map_err(doing("run the guest")),
        }
    }

    /// The guest's time-stamp counter, ticks per second.
    ///
    /// # Errors
    /// A KVM that does not tell.
    pub fn tsc_hz(&self) -> Result<u64, Failure> {
        let khz = self.fd.get_tsc_khz().map_err(doing("tell the time-stamp counter's rate"))?;
        Ok(u64::from(khz) * 1000)
    }

    /// Where the guest was when it left and, after a page fault, the address it missed.
    ///
    /// # Errors
    /// KVM does not give out the registers.
    pub fn position(&self) -> Result<Position, Failure> {
        let general = self.fd.get_regs().map_err(doing("read the vCPU's registers"))?;
        let special = self.fd.get_sregs().map_err(doing("read the vCPU's registers"))?;
        Ok(Position { instruction: general.rip, stack: general.rsp, missed: special.cr2 })
    }
}

const EINTR: i32 = 4;
const EAGAIN: i32 = 11;

/// Where a vCPU stands; guest-virtual addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// RIP.
    pub instruction: u64,
    /// RSP.
    pub stack: u64,
    /// CR2.
    pub missed: u64,
}
