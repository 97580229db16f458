//! Memory-type range registers: every CPU must have the same, and firmware does not always see to it.
//!
//! SDM Vol. 3A, "Memory Type Range Registers (MTRRs)", "MTRR Considerations in MP Systems".

use core::arch::asm;

use arch::Msr;
use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};

use crate::{cpu, msr};

/// The most pairs of base and mask; IA32_MTRRCAP counts 8 to 10 on CPUs that exist.
const MOST_VARIABLE: usize = 32;
/// The registers of the first MiB.
const FIXED: [Msr; 11] = {
    let mut all = [Msr::MTRR_FIX64K_00000; 11];
    all[1] = Msr::MTRR_FIX16K_80000;
    all[2] = Msr::MTRR_FIX16K_A0000;
    let mut index = 0;
    while index < 8 {
        all[3 + index as usize] = Msr(Msr::MTRR_FIX4K_C0000.0 + index);
        index += 1;
    }
    all
};
/// IA32_MTRRCAP and IA32_MTRR_DEF_TYPE: fixed-range registers there are, and are in use.
const CAP_FIXED: u64 = 1 << 8;
/// IA32_MTRR_DEF_TYPE: MTRRs are in use.
const ENABLE: u64 = 1 << 11;

/// All memory-type range registers of a CPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mtrrs {
    capabilities: u64,
    default_type: u64,
    fixed: [u64; FIXED.len()],
    variable: [(u64, u64); MOST_VARIABLE],
}

/// The registers of the pair numbered `index`.
fn pair(index: u32) -> (Msr, Msr) {
    (Msr(Msr::MTRR_PHYSBASE0.0 + 2 * index), Msr(Msr::MTRR_PHYSBASE0.0 + 2 * index + 1))
}

impl Mtrrs {
    /// This CPU's, if it has any.
    pub(crate) fn read() -> Option<Self> {
        // CPUID.01H:EDX[12].
        if cpu::cpuid(1, 0).edx & (1 << 12) == 0 {
            return None;
        }
        let capabilities = msr::read(Msr::MTRRCAP);
        let mut mtrrs = Self {
            capabilities,
            default_type: msr::read(Msr::MTRR_DEF_TYPE),
            fixed: [0; FIXED.len()],
            variable: [(0, 0); MOST_VARIABLE],
        };
        if capabilities & CAP_FIXED != 0 {
            mtrrs.fixed = FIXED.map(msr::read);
        }
        for (index, (base, mask)) in (0..).zip(mtrrs.variable.iter_mut().take(count(capabilities))) {
            let (base_register, mask_register) = pair(index);
            (*base, *mask) = (msr::read(base_register), msr::read(mask_register));
        }
        Some(mtrrs)
    }

    /// Gives this CPU these registers, as far as it has them, if it has others.
    ///
    /// # Safety
    /// They must be those of a CPU that runs the same system. Interrupts are off, and no other CPU relies on what this
    /// one has cached.
    pub(crate) unsafe fn adopt(&self) {
        if Self::read().is_none_or(|own| own == *self || own.capabilities != self.capabilities) {
            return;
        }
        let (cr0, cr4) = (Cr0::read(), Cr4::read());
        // SAFETY: caches are off while types change; the steps are the manual's.
        unsafe { Cr0::write(cr0 | Cr0Flags::CACHE_DISABLE) };
        write_back_caches();
        // SAFETY: without global pages the next load of CR3 forgets all translations.
        unsafe { Cr4::write(cr4 - Cr4Flags::PAGE_GLOBAL) };
        flush_translations();
        // SAFETY: the steps are the manual's, the values another CPU's.
        unsafe { self.write() };
        write_back_caches();
        flush_translations();
        // SAFETY: back to what it was.
        unsafe { Cr0::write(cr0) };
        // SAFETY: as above.
        unsafe { Cr4::write(cr4) };
    }

    /// Writes all registers, off in the meantime.
    ///
    /// # Safety
    /// As for [`Self::adopt`], with caches off.
    unsafe fn write(&self) {
        // SAFETY: the caller's promise.
        unsafe { msr::write(Msr::MTRR_DEF_TYPE, self.default_type & !ENABLE) };
        if self.capabilities & CAP_FIXED != 0 {
            for (register, value) in FIXED.iter().zip(self.fixed) {
                // SAFETY: as above.
                unsafe { msr::write(*register, value) };
            }
        }
        for (index, (base, mask)) in (0..).zip(self.variable.iter().take(count(self.capabilities))) {
            let (base_register, mask_register) = pair(index);
            // SAFETY: as above.
            unsafe { msr::write(base_register, *base) };
            // SAFETY: as above.
            unsafe { msr::write(mask_register, *mask) };
        }
        // SAFETY: as above.
        unsafe { msr::write(Msr::MTRR_DEF_TYPE, self.default_type) };
    }
}

/// How many pairs IA32_MTRRCAP counts.
fn count(capabilities: u64) -> usize {
    usize::from(capabilities.to_le_bytes()[0]).min(MOST_VARIABLE)
}

fn write_back_caches() {
    // SAFETY: writes modified lines to memory and forgets all lines: nothing changes but time.
    unsafe { asm!("wbinvd", options(nostack, preserves_flags)) };
}

fn flush_translations() {
    let root = cpu::cr3();
    // SAFETY: the tables that are in use.
    unsafe { cpu::set_cr3(root) };
}
