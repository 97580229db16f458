//! Instructions and registers: ports, MSRs, CPUID, device memory, interrupt flag.
//!
//! Why these functions are safe to call: the guest owns its machine, no device is ever given an address to write to, and
//! each function reaches only registers whose change cannot touch memory that Rust knows.

use core::arch::asm;

use super::trap::{Trap, probe};

/// The MSRs that the test guest uses with a purpose.
#[derive(Clone, Copy)]
pub(crate) enum Msr {
    /// IA32_APIC_BASE.
    ApicBase,
    /// IA32_TSC_DEADLINE.
    TscDeadline,
    /// IA32_FS_BASE.
    FsBase,
    /// IA32_GS_BASE.
    GsBase,
    /// An x2APIC register, by its xAPIC offset.
    X2Apic(u16),
}

impl Msr {
    /// The number that RDMSR takes.
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::ApicBase => 0x1b,
            Self::TscDeadline => 0x6e0,
            Self::FsBase => 0xc000_0100,
            Self::GsBase => 0xc000_0101,
            Self::X2Apic(offset) => 0x800 + u32::from(offset >> 4),
        }
    }
}

/// RDMSR of a known register. An exception ends the guest with a report.
pub(crate) fn read_msr(msr: Msr) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading an MSR changes nothing; one that is missing raises #GP, which the trap handler reports.
    unsafe {
        asm!("rdmsr", in("ecx") msr.number(), out("eax") low, out("edx") high, options(nomem, nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// WRMSR of a known register.
#[inline(always)]
pub(crate) fn write_msr(msr: Msr, value: u64) {
    let [low, high] = halves(value);
    // SAFETY: the registers in `Msr` steer the local APIC, and the GS base is `percpu`'s alone.
    unsafe {
        asm!("wrmsr", in("ecx") msr.number(), in("eax") low, in("edx") high, options(nostack));
    }
}

/// Low and high half.
pub(crate) fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
    [u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h])]
}

/// The four registers of a CPUID leaf.
#[derive(Clone, Copy)]
pub(crate) struct Leaf {
    pub(crate) eax: u32,
    pub(crate) ebx: u32,
    pub(crate) ecx: u32,
    pub(crate) edx: u32,
}

/// CPUID. Always executed: the answer may depend on CR4 and XCR0.
pub(crate) fn cpuid(leaf: u32, subleaf: u32) -> Leaf {
    let (eax, ecx, edx): (u32, u32, u32);
    let ebx: u64;
    // SAFETY: CPUID reads no memory and changes only the registers named; RBX, which the compiler keeps, is put back.
    unsafe {
        asm!(
            "mov {saved}, rbx", "cpuid", "xchg {saved}, rbx",
            saved = out(reg) ebx,
            inout("eax") leaf => eax,
            inout("ecx") subleaf => ecx,
            out("edx") edx,
            options(nostack)
        );
    }
    Leaf { eax, ebx: halves(ebx)[0], ecx, edx }
}

/// The time stamp counter.
#[inline(always)]
pub(crate) fn rdtsc() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: RDTSC reads a counter.
    unsafe {
        asm!("rdtsc", out("eax") low, out("edx") high, options(nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// OUT of a byte.
pub(crate) fn out8(port: u16, value: u8) {
    // SAFETY: see the module text; no device here writes memory.
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") value, options(nostack));
    }
}

/// OUT of a word.
pub(crate) fn out16(port: u16, value: u16) {
    // SAFETY: as for `out8`.
    unsafe {
        asm!("out dx, ax", in("dx") port, in("ax") value, options(nostack));
    }
}

/// OUT of a double word.
pub(crate) fn out32(port: u16, value: u32) {
    // SAFETY: as for `out8`.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack));
    }
}

/// IN of a byte.
pub(crate) fn in8(port: u16) -> u8 {
    let value: u8;
    // SAFETY: reading a port changes at most the device's own state.
    unsafe {
        asm!("in al, dx", in("dx") port, out("al") value, options(nostack));
    }
    value
}

/// IN of a word.
pub(crate) fn in16(port: u16) -> u16 {
    let value: u16;
    // SAFETY: as for `in8`.
    unsafe {
        asm!("in ax, dx", in("dx") port, out("ax") value, options(nostack));
    }
    value
}

/// IN of a double word.
pub(crate) fn in32(port: u16) -> u32 {
    let value: u32;
    // SAFETY: as for `in8`.
    unsafe {
        asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack));
    }
    value
}

/// A device's registers in memory, each 4 KiB, at the address where the PC platform has it.
#[derive(Clone, Copy)]
pub(crate) enum Mmio {
    /// The first I/O APIC.
    IoApic,
    /// The local APIC in xAPIC mode.
    LocalApic,
    /// The high-precision event timers, where there are any.
    Hpet,
    /// The first function's registers in PCI configuration space, where that is mapped.
    PciFunction,
    /// Memory of a device, where there is one for tests: it remembers.
    Scratch,
    /// A part of the PCI hole where nothing answers.
    Nothing,
    /// Where checks put the registers of the PCI function for test programs.
    TestFunction,
    /// The page behind, with its table of messages.
    TestTable,
    /// Where they put the registers else.
    TestElsewhere,
    /// Where its 64-bit range is, above what is mapped without `pages`.
    TestAbove,
    /// Where that is else.
    TestFurtherAbove,
}

impl Mmio {
    /// Guest physical address of the register page.
    pub(crate) const fn base(self) -> usize {
        match self {
            Self::IoApic => 0xfec0_0000,
            Self::LocalApic => 0xfee0_0000,
            Self::Hpet => 0xfed0_0000,
            Self::PciFunction => 0xb000_0000,
            Self::Scratch => 0xfef0_0000,
            Self::Nothing => 0xd000_0000,
            Self::TestFunction => 0xd100_0000,
            Self::TestTable => 0xd100_1000,
            Self::TestElsewhere => 0xd200_0000,
            Self::TestAbove => 0x8_0000_0000,
            Self::TestFurtherAbove => 0x9_0000_0000,
        }
    }

    /// Where the register at `offset` is, a multiple of 4.
    pub(super) fn register(self, offset: u16) -> *mut u32 {
        assert!(offset < 0x1000 && offset.is_multiple_of(4), "not a register");
        assert!(self.base() < 1 << 32, "not mapped");
        core::ptr::with_exposed_provenance_mut(self.base() + usize::from(offset))
    }

    /// Reads the register at `offset`, a multiple of 4.
    pub(crate) fn read(self, offset: u16) -> u32 {
        // SAFETY: `register` stays inside a device page, which is mapped and holds no Rust object.
        unsafe { core::ptr::read_volatile(self.register(offset)) }
    }

    /// Writes the register at `offset`, a multiple of 4.
    pub(crate) fn write(self, offset: u16, value: u32) {
        // SAFETY: as for `read`; neither device writes memory on its own.
        unsafe { core::ptr::write_volatile(self.register(offset), value) }
    }
}

/// Fills the page where nothing answers with one repeated instruction.
pub(crate) fn fill_nothing() {
    // SAFETY: the page is mapped, no memory is behind it, and it holds no Rust object.
    unsafe {
        asm!(
            "rep stosd",
            inout("rdi") Mmio::Nothing.base() => _,
            inout("rcx") 0x1000u64 / 4 => _,
            in("eax") 0,
            options(nostack, preserves_flags)
        );
    }
}

/// STI, with one instruction's grace before the first interrupt.
pub(crate) fn enable_interrupts() {
    // SAFETY: the IDT is complete before any program runs.
    unsafe {
        asm!("sti", "nop", options(nostack));
    }
}

/// CLI.
pub(crate) fn disable_interrupts() {
    // SAFETY: only delays interrupts.
    unsafe {
        asm!("cli", options(nostack));
    }
}

/// `sti; hlt; cli`: waits for one interrupt without losing one that is pending already.
pub(crate) fn wait_for_interrupt() {
    // SAFETY: the IDT is complete before any program runs; every handler returns.
    unsafe {
        asm!("sti", "hlt", "cli", options(nostack));
    }
}

/// PAUSE.
pub(crate) fn pause() {
    core::hint::spin_loop();
}

/// The time stamp counter, not before all earlier loads are done.
pub(crate) fn rdtsc_ordered() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: LFENCE waits, RDTSC reads a counter.
    unsafe {
        asm!("lfence", "rdtsc", out("eax") low, out("edx") high, options(nostack));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Sets the task priority (CR8), 0 to 15: interrupts of that class and below wait.
pub(crate) fn set_task_priority(class: u64) {
    // SAFETY: the mask keeps reserved bits clear; the task priority only delays interrupts.
    unsafe {
        asm!("mov cr8, {}", in(reg) class & 0xf, options(nostack));
    }
}

/// CR4's OSXSAVE bit.
const CR4_OSXSAVE: u64 = 1 << 18;

/// Sets or clears CR4.OSXSAVE; the CPU must have XSAVE when it is set.
pub(crate) fn set_osxsave(on: Switch) {
    let mut cr4: u64;
    // SAFETY: reading CR4 changes nothing.
    unsafe {
        asm!("mov {}, cr4", out(reg) cr4, options(nostack));
    }
    match on {
        Switch::On => cr4 |= CR4_OSXSAVE,
        Switch::Off => cr4 &= !CR4_OSXSAVE,
    }
    // SAFETY: OSXSAVE only decides whether XSETBV and its kin exist; this soft-float program uses none of the state.
    unsafe {
        asm!("mov cr4, {}", in(reg) cr4, options(nostack));
    }
}

/// A feature bit's wanted state.
#[derive(Clone, Copy)]
pub(crate) enum Switch {
    /// Set.
    On,
    /// Clear.
    Off,
}

/// XSETBV: writes extended control register `index`.
pub(crate) fn xsetbv(index: u32, value: u64) -> Result<(), Trap> {
    let [low, high] = halves(value);
    probe!(["xsetbv"], in("ecx") index, in("eax") low, in("edx") high)
}

/// XGETBV: reads extended control register `index`.
pub(crate) fn xgetbv(index: u32) -> Result<u64, Trap> {
    let (low, high): (u32, u32);
    probe!(["xgetbv"], in("ecx") index, inout("eax") 0 => low, inout("edx") 0 => high)?;
    Ok(u64::from(high) << 32 | u64::from(low))
}

/// Leaves an empty IDT and raises an exception: the CPU cannot deliver it, nor the double fault, and shuts down.
pub(crate) fn triple_fault() -> ! {
    let empty = [0u8; 10];
    // SAFETY: nothing runs after this in the guest.
    unsafe {
        asm!("cli", "lidt [{}]", "ud2", in(reg) &raw const empty, options(noreturn));
    }
}

/// Jumps to an address where there is no memory, never to come back other than by an exception.
pub(crate) fn jump_to(address: u64) -> Trap {
    match probe!(["jmp {target}"], target = in(reg) address) {
        Err(trap) => trap,
        Ok(()) => panic!("code was found at {address:#x}"),
    }
}

/// HLT with interrupts off: nothing but an NMI or a reset ends it.
pub(crate) fn halt_forever() -> ! {
    loop {
        // SAFETY: stops the CPU.
        unsafe {
            asm!("cli", "hlt", options(nostack));
        }
    }
}
