//! What each CPU has of its own, found through the GS base.
//!
//! A CPU writes its own part; others read it, and hand it jobs.
//!
//! Source: SDM Vol. 3A, "IA32_KERNEL_GS_BASE MSR" and "Segmentation in IA-32e Mode" for the GS base.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};

use super::call::Call;
use super::cpu::{Msr, write_msr};
use crate::programs::Verdict;

/// The most CPUs that are used.
pub(crate) const MAX: usize = 64;

/// One CPU's part.
#[repr(C, align(64))]
pub(crate) struct PerCpu {
    /// Its own address: what the GS base points at.
    address: AtomicU64,
    /// Where a fault inside the running probe continues; 0 outside of probes.
    pub(super) probe_resume: AtomicU64,
    /// Address of the probed instructions.
    pub(super) probe_start: AtomicU64,
    /// The last exception inside a probe.
    pub(super) trap_vector: AtomicU64,
    pub(super) trap_error: AtomicU64,
    pub(super) trap_rip: AtomicU64,
    pub(super) trap_cr2: AtomicU64,
    /// Where the last interrupt's handler returned to.
    pub(super) interrupt_rip: AtomicU64,
    /// The stack of the running guarded call; 0 outside of one. See `guard`.
    pub(super) guard_stack: AtomicU64,
    /// The stack of the running snippet's caller; 0 while none runs. See `snippet`.
    pub(super) snippet_stack: AtomicU64,
    /// The registers of the running snippet.
    snippet_registers: AtomicU64,
    /// A register's value on the way into and out of a snippet.
    snippet_scratch: AtomicU64,
    /// Its place among the CPUs; the one that booted is 0.
    index: AtomicU32,
    /// Its local APIC's identifier in the firmware's table.
    apic_id: AtomicU32,
    /// Whether it drives its local APIC through MSRs.
    x2apic: AtomicBool,
    /// How often it came through the startup code.
    starts: AtomicU64,
    /// The page that its last startup IPI named.
    startup_page: AtomicU64,
    /// What it is to do; nothing while it is idle.
    job: Call<Verdict>,
    /// What came of the last job.
    result: UnsafeCell<Verdict>,
    /// Interrupts handled, by vector.
    pub(super) interrupts: [AtomicU64; 256],
}

/// Offsets for `gs:` in assembly.
pub(crate) const PROBE_RESUME: usize = core::mem::offset_of!(PerCpu, probe_resume);
pub(crate) const PROBE_START: usize = core::mem::offset_of!(PerCpu, probe_start);
pub(super) const GUARD_STACK: usize = core::mem::offset_of!(PerCpu, guard_stack);
pub(super) const SNIPPET_STACK: usize = core::mem::offset_of!(PerCpu, snippet_stack);
pub(super) const SNIPPET_REGISTERS: usize = core::mem::offset_of!(PerCpu, snippet_registers);
pub(super) const SNIPPET_SCRATCH: usize = core::mem::offset_of!(PerCpu, snippet_scratch);
const INTERRUPT_RIP: usize = core::mem::offset_of!(PerCpu, interrupt_rip);
const INTERRUPTS: usize = core::mem::offset_of!(PerCpu, interrupts);
const X2APIC: usize = core::mem::offset_of!(PerCpu, x2apic);

// SAFETY: `result` alone is not atomic. Its CPU writes it only while `job` is set, others read it only while it is not,
// and clearing `job` releases what its reader acquires.
unsafe impl Sync for PerCpu {}

static ALL: [PerCpu; MAX] = [const { PerCpu::new() }; MAX];

impl PerCpu {
    const fn new() -> Self {
        Self {
            address: AtomicU64::new(0),
            probe_resume: AtomicU64::new(0),
            probe_start: AtomicU64::new(0),
            trap_vector: AtomicU64::new(0),
            trap_error: AtomicU64::new(0),
            trap_rip: AtomicU64::new(0),
            trap_cr2: AtomicU64::new(0),
            interrupt_rip: AtomicU64::new(0),
            guard_stack: AtomicU64::new(0),
            snippet_stack: AtomicU64::new(0),
            snippet_registers: AtomicU64::new(0),
            snippet_scratch: AtomicU64::new(0),
            index: AtomicU32::new(0),
            apic_id: AtomicU32::new(0),
            x2apic: AtomicBool::new(false),
            starts: AtomicU64::new(0),
            startup_page: AtomicU64::new(0),
            job: Call::none(),
            result: UnsafeCell::new(Ok(())),
            interrupts: [const { AtomicU64::new(0) }; 256],
        }
    }

    /// Its place among the CPUs.
    pub(crate) fn index(&self) -> usize {
        self.index.load(Relaxed) as usize
    }

    /// Its local APIC's identifier in the firmware's table.
    pub(crate) fn apic_id(&self) -> u32 {
        self.apic_id.load(Relaxed)
    }

    /// Writes down the identifier that the firmware's table has.
    pub(crate) fn set_apic_id(&self, id: u32) {
        self.apic_id.store(id, Relaxed);
    }

    /// Writes down how it drives its local APIC.
    pub(crate) fn set_x2apic(&self, is_x2apic: bool) {
        self.x2apic.store(is_x2apic, Relaxed);
    }

    /// How often it handled the interrupt `vector`.
    pub(crate) fn interrupts(&self, vector: u8) -> u64 {
        self.interrupts[usize::from(vector)].load(Relaxed)
    }

    /// How often it came through the startup code.
    pub(crate) fn starts(&self) -> u64 {
        self.starts.load(Acquire)
    }

    /// The page number that its last startup IPI named.
    pub(crate) fn startup_page(&self) -> u64 {
        self.startup_page.load(Relaxed)
    }

    /// Called by the CPU itself when it came through the startup code at `page`.
    pub(crate) fn note_start(&self, page: u64) {
        self.startup_page.store(page, Relaxed);
        self.starts.store(self.starts.load(Relaxed) + 1, Release);
    }

    /// Whether it has nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.job.get().is_none()
    }

    /// Gives it a job. It must be idle, and has to be woken.
    pub(crate) fn give(&self, job: fn() -> Verdict) {
        assert!(self.is_idle(), "CPU {} is not idle", self.index());
        self.job.set(job);
    }

    /// Forgets its job: it was stopped in the midst of it.
    pub(crate) fn forget_job(&self) {
        self.job.clear();
    }

    /// Does its job, if there is one; called by the CPU itself.
    pub(crate) fn work(&self) -> bool {
        let Some(job) = self.job.get() else { return false };
        let verdict = job();
        // SAFETY: this CPU alone may touch the cell while `job` is set: see `Sync`.
        unsafe { *self.result.get() = verdict };
        self.job.clear();
        true
    }

    /// What came of its last job, once it is idle.
    pub(crate) fn result(&self) -> Option<Verdict> {
        if !self.is_idle() {
            return None;
        }
        // SAFETY: nobody writes the cell while `job` is not set: see `Sync`.
        Some(unsafe { *self.result.get() })
    }
}

/// The part of CPU `index`, below [`MAX`].
pub(crate) fn of(index: usize) -> &'static PerCpu {
    &ALL[index]
}

/// The part of the CPU that asks.
#[inline(always)]
pub(crate) fn this() -> &'static PerCpu {
    let address: *const PerCpu;
    // SAFETY: the GS base points at this CPU's part since `install`, which begins with its own address.
    unsafe {
        asm!("mov {}, gs:[0]", out(reg) address, options(nostack, preserves_flags, pure, readonly));
    }
    // SAFETY: see above; the part is a static, shared and never moved.
    unsafe { &*address }
}

/// Whether the CPU that asks drives its local APIC through MSRs.
#[inline(always)]
pub(crate) fn is_x2apic() -> bool {
    let value: u8;
    // SAFETY: reads a byte of this CPU's part; see `this`.
    unsafe {
        asm!("mov {}, gs:[{x2apic}]", out(reg_byte) value, x2apic = const X2APIC, options(nostack, preserves_flags));
    }
    value != 0
}

/// Counts an interrupt of this CPU, and writes down where its handler returns to. Few instructions: what interrupts cost
/// is measured with them.
#[inline(always)]
pub(super) fn count_interrupt(vector: u8, rip: u64) {
    // SAFETY: writes two words of this CPU's part, which are atomic for everybody else as aligned words are; see `this`.
    unsafe {
        asm!(
            "inc qword ptr gs:[{interrupts} + 8 * {vector}]",
            "mov gs:[{interrupt_rip}], {rip}",
            interrupts = const INTERRUPTS,
            interrupt_rip = const INTERRUPT_RIP,
            vector = in(reg) u64::from(vector),
            rip = in(reg) rip,
            options(nostack)
        );
    }
}

/// Makes part `index` that of the CPU that calls; first thing on each CPU.
pub(crate) fn install(index: usize) {
    let part = of(index);
    let address = (&raw const *part).expose_provenance() as u64;
    part.address.store(address, Relaxed);
    part.index.store(u32::try_from(index).unwrap_or(0), Relaxed);
    part.probe_resume.store(0, Relaxed);
    part.guard_stack.store(0, Relaxed);
    part.snippet_stack.store(0, Relaxed);
    write_msr(Msr::GsBase, address);
}
