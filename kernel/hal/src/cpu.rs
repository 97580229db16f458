//! Instructions that read or steer one CPU and cannot harm memory safety.
//!
//! SDM Vol. 2, "Instruction Set Reference".

use core::arch::asm;
use core::arch::x86_64::{__cpuid_count, _rdtsc};

use arch::{Hpa, Tsc};
use x86_64::registers::control::{Cr2, Cr3, Cr3Flags};
use x86_64::structures::paging::PhysFrame;
use x86_64::{PhysAddr, VirtAddr};

/// The four registers that CPUID returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cpuid {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// CPUID of `leaf` and `subleaf`, whether or not the CPU has that leaf: see [`cpuid`].
#[inline]
pub fn cpuid_raw(leaf: u32, subleaf: u32) -> Cpuid {
    let result = __cpuid_count(leaf, subleaf);
    Cpuid { eax: result.eax, ebx: result.ebx, ecx: result.ecx, edx: result.edx }
}

/// CPUID of `leaf` and `subleaf`; all zeros above the highest leaf of its range, where the hardware would
/// answer with another leaf's data.
pub fn cpuid(leaf: u32, subleaf: u32) -> Cpuid {
    let highest = cpuid_raw(leaf & 0x8000_0000, 0).eax;
    if leaf > highest { Cpuid::default() } else { cpuid_raw(leaf, subleaf) }
}

/// The time-stamp counter.
#[inline]
pub fn rdtsc() -> Tsc {
    // SAFETY: RDTSC reads a counter; CR4.TSD does not matter at privilege level 0.
    Tsc(unsafe { _rdtsc() })
}

/// Turns maskable interrupts off.
#[inline]
pub fn disable_interrupts() {
    x86_64::instructions::interrupts::disable();
}

/// Stops this CPU for good, deaf to everything but NMI.
pub fn halt_forever() -> ! {
    loop {
        disable_interrupts();
        x86_64::instructions::hlt();
    }
}

/// The faulting address of the last page fault.
pub fn cr2() -> u64 {
    Cr2::read_raw()
}

/// The physical address of the active top-level page table.
pub fn cr3() -> Hpa {
    Hpa::new(Cr3::read().0.start_address().as_u64())
}

/// Makes `tables` the active top-level page table.
///
/// # Safety
/// The tables must map all memory in use, at the same addresses and with sufficient rights.
pub unsafe fn set_cr3(tables: Hpa) {
    let frame = PhysFrame::containing_address(PhysAddr::new(tables.get()));
    // SAFETY: the caller vouches for the tables.
    unsafe { Cr3::write(frame, Cr3Flags::empty()) };
}

/// Forgets the translation of the page at `address` on this CPU.
pub fn flush_page(address: u64) {
    x86_64::instructions::tlb::flush(VirtAddr::new(address));
}

/// The frame pointer of the caller's frame.
#[inline(always)]
pub fn frame_pointer() -> u64 {
    let rbp: u64;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, rbp", out(reg) rbp, options(nomem, nostack, preserves_flags)) };
    rbp
}

/// The stack pointer here.
#[inline(always)]
pub fn stack_pointer() -> u64 {
    let rsp: u64;
    // SAFETY: copies a register.
    unsafe { asm!("mov {}, rsp", out(reg) rsp, options(nomem, nostack, preserves_flags)) };
    rsp
}
