//! Control and debug registers, tried with values that may be refused, and put back.
//!
//! Source: SDM Vol. 3A, "Control Registers"; Vol. 3B, "Debug Registers".

use core::arch::asm;

use super::provoke::Provoked;
use super::trap::{Trap, probe};

/// CR0 bits.
pub(crate) mod cr0 {
    pub(crate) const PE: u64 = 1;
    pub(crate) const MP: u64 = 1 << 1;
    pub(crate) const EM: u64 = 1 << 2;
    pub(crate) const TS: u64 = 1 << 3;
    pub(crate) const ET: u64 = 1 << 4;
    pub(crate) const NE: u64 = 1 << 5;
    pub(crate) const WP: u64 = 1 << 16;
    pub(crate) const AM: u64 = 1 << 18;
    pub(crate) const NW: u64 = 1 << 29;
    pub(crate) const CD: u64 = 1 << 30;
    pub(crate) const PG: u64 = 1 << 31;
}

/// CR4 bits.
pub(crate) mod cr4 {
    pub(crate) const TSD: u64 = 1 << 2;
    pub(crate) const DE: u64 = 1 << 3;
    pub(crate) const PAE: u64 = 1 << 5;
    pub(crate) const PCE: u64 = 1 << 8;
    pub(crate) const OSFXSR: u64 = 1 << 9;
    pub(crate) const OSXMMEXCPT: u64 = 1 << 10;
    pub(crate) const UMIP: u64 = 1 << 11;
    pub(crate) const LA57: u64 = 1 << 12;
    pub(crate) const VMXE: u64 = 1 << 13;
    pub(crate) const SMXE: u64 = 1 << 14;
    pub(crate) const FSGSBASE: u64 = 1 << 16;
    pub(crate) const PCIDE: u64 = 1 << 17;
    pub(crate) const OSXSAVE: u64 = 1 << 18;
    pub(crate) const SMEP: u64 = 1 << 20;
    pub(crate) const SMAP: u64 = 1 << 21;
    pub(crate) const PKE: u64 = 1 << 22;
}

macro_rules! reader {
    ($name:ident, $register:literal) => {
        #[doc = concat!("Reads ", $register, ".")]
        pub(crate) fn $name() -> u64 {
            let value;
            // SAFETY: reading the register changes nothing.
            unsafe {
                asm!(concat!("mov {}, ", $register), out(reg) value, options(nomem, nostack, preserves_flags));
            }
            value
        }
    };
}
reader!(read_cr0, "cr0");
reader!(read_cr2, "cr2");
reader!(read_cr3, "cr3");
reader!(read_cr4, "cr4");
reader!(read_cr8, "cr8");
reader!(read_dr6, "dr6");
reader!(read_dr7, "dr7");

macro_rules! attempt {
    ($(#[$doc:meta])* $name:ident, $reader:ident, $register:literal) => {
        $(#[$doc])*
        /// Puts the old value back at once; returns what the register read as meanwhile.
        pub(crate) fn $name(set: u64, clear: u64) -> Result<u64, Trap> {
            let old = $reader();
            let mut seen = 0u64;
            probe!(
                [
                    concat!("mov ", $register, ", {new}"),
                    concat!("mov {seen}, ", $register),
                    concat!("mov ", $register, ", {old}")
                ],
                new = in(reg) old & !clear | set, old = in(reg) old, seen = inout(reg) seen
            )?;
            Ok(seen)
        }
    };
}
attempt! {
    /// Loads CR0 with some bits set and cleared: none that the running code needs, unless the change is refused.
    try_cr0, read_cr0, "cr0"
}
attempt! {
    /// Loads CR4 with some bits set and cleared: none that the running code needs, unless the change is refused.
    try_cr4, read_cr4, "cr4"
}
attempt! {
    /// Loads CR3 with some bits set and cleared: reserved ones, which are refused, or caching and PCID bits.
    try_cr3, read_cr3, "cr3"
}
attempt! {
    /// Loads CR8 with some bits set and cleared.
    try_cr8, read_cr8, "cr8"
}
attempt! {
    /// Loads DR6 with some bits set and cleared.
    try_dr6, read_dr6, "dr6"
}
attempt! {
    /// Loads DR7 with some bits set and cleared.
    try_dr7, read_dr7, "dr7"
}

/// Bits of CR4 that can be on while the program runs: it uses none of what they change.
const CR4_HARMLESS: u64 = cr4::TSD
    | cr4::DE
    | cr4::PCE
    | cr4::OSFXSR
    | cr4::OSXMMEXCPT
    | cr4::UMIP
    | cr4::FSGSBASE
    | cr4::OSXSAVE
    | cr4::SMEP
    | cr4::SMAP
    | cr4::PKE;
/// The same of CR0, on or off.
const CR0_HARMLESS: u64 = cr0::MP | cr0::EM | cr0::TS | cr0::NE | cr0::WP | cr0::AM;

/// Sets and clears bits of CR4 until [`restore`].
pub(crate) fn change_cr4(set: u64, clear: u64) -> Provoked {
    let new = read_cr4() & !(clear & CR4_HARMLESS) | set & CR4_HARMLESS;
    probe!(["mov cr4, {new}"], new = in(reg) new)
}

/// Sets and clears bits of CR0 until [`restore`].
pub(crate) fn change_cr0(set: u64, clear: u64) -> Provoked {
    let new = read_cr0() & !(clear & CR0_HARMLESS) | set & CR0_HARMLESS;
    probe!(["mov cr0, {new}"], new = in(reg) new)
}

/// Writes a breakpoint address, 0 to 3.
pub(crate) fn set_breakpoint(number: u8, address: u64) {
    match number {
        // SAFETY: an address alone does nothing; DR7 switches it on.
        0 => unsafe { asm!("mov dr0, {}", in(reg) address, options(nostack)) },
        // SAFETY: as above.
        1 => unsafe { asm!("mov dr1, {}", in(reg) address, options(nostack)) },
        // SAFETY: as above.
        2 => unsafe { asm!("mov dr2, {}", in(reg) address, options(nostack)) },
        // SAFETY: as above.
        _ => unsafe { asm!("mov dr3, {}", in(reg) address, options(nostack)) },
    }
}

/// Reads a breakpoint address, 0 to 3.
pub(crate) fn breakpoint(number: u8) -> u64 {
    let value;
    match number {
        // SAFETY: reading the register changes nothing.
        0 => unsafe { asm!("mov {}, dr0", out(reg) value, options(nostack)) },
        // SAFETY: as above.
        1 => unsafe { asm!("mov {}, dr1", out(reg) value, options(nostack)) },
        // SAFETY: as above.
        2 => unsafe { asm!("mov {}, dr2", out(reg) value, options(nostack)) },
        // SAFETY: as above.
        _ => unsafe { asm!("mov {}, dr3", out(reg) value, options(nostack)) },
    }
    value
}

/// Writes DR7 until [`restore`]: the watched places must be the check's own.
pub(crate) fn watch(dr7: u64) {
    // SAFETY: what it watches raises #DB, which a probe catches, or the guarded call.
    unsafe {
        asm!("mov dr7, {}", in(reg) dr7, options(nostack));
    }
}

/// Writes DR6.
pub(crate) fn write_dr6(value: u64) {
    // SAFETY: a status register; reserved bits keep to the low half.
    unsafe {
        asm!("mov dr6, {}", in(reg) value & 0xffff_ffff, options(nostack));
    }
}

/// What the control registers were when the suite began.
#[derive(Clone, Copy)]
pub(crate) struct Baseline {
    pub(crate) cr0: u64,
    pub(crate) cr4: u64,
}

/// Takes down what [`restore`] is to bring back.
pub(crate) fn baseline() -> Baseline {
    Baseline { cr0: read_cr0(), cr4: read_cr4() }
}

/// Brings control registers, debug registers, segments and flags back.
pub(crate) fn restore(baseline: &Baseline) {
    // SAFETY: all of this is what the program began with.
    unsafe {
        asm!(
            "cli", "cld",
            "mov cr0, {cr0}", "mov cr4, {cr4}",
            "xor {t:e}, {t:e}", "mov dr7, {t}", "mov dr0, {t}", "mov dr1, {t}", "mov dr2, {t}", "mov dr3, {t}",
            "mov cr8, {t}",
            "lldt {t:x}",
            "mov {t:e}, 0xffff0ff0", "mov dr6, {t}",
            "mov {t:e}, 0x10", "mov ds, {t:e}", "mov es, {t:e}", "mov fs, {t:e}", "mov ss, {t:e}",
            cr0 = in(reg) baseline.cr0, cr4 = in(reg) baseline.cr4, t = out(reg) _
        );
    }
}
