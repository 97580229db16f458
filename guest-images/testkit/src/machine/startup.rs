//! How the other CPUs come to Rust: the page that a startup IPI names, and what they do when they arrive.
//!
//! Source: SDM Vol. 3A, "Multiple-Processor (MP) Initialization".

use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::{percpu, trap};

/// Page numbers below 1 MiB that hold a copy of the startup code: free memory on every PC, far from what loaders leave
/// for anybody who has read it by now.
pub(crate) const PAGES: [u8; 2] = [0x60, 0x61];

/// The CPU that has each 8-bit APIC identifier; [`NOBODY`] at first.
pub(super) static SLOT_OF_APIC_ID: [AtomicU8; 256] = [const { AtomicU8::new(NOBODY) }; 256];
const NOBODY: u8 = 0xff;

unsafe extern "C" {
    /// The startup code, up to `testkit_startup_end`.
    static testkit_startup: u8;
    static testkit_startup_end: u8;
    /// A real-mode IRET in it.
    static testkit_startup_iret: u8;
}

/// Has the CPU with the APIC identifier `id` arrive as `index`.
pub(crate) fn assign(id: u8, index: usize) {
    SLOT_OF_APIC_ID[usize::from(id)].store(u8::try_from(index).unwrap_or(NOBODY), Relaxed);
}

/// Copies the startup code to both pages, and has real mode ignore an NMI.
pub(crate) fn prepare() {
    /// The real-mode interrupt vector table's entry for NMIs.
    const NMI_ENTRY: u64 = 2 * 4;
    let start = (&raw const testkit_startup).addr() as u64;
    let end = (&raw const testkit_startup_end).addr() as u64;
    for page in PAGES {
        for offset in 0..end - start {
            write_low(u64::from(page) << 12 | offset, super::physical::read_u8(start + offset));
        }
    }
    let iret = (&raw const testkit_startup_iret).addr() as u64 - start;
    let [low, high, ..] = iret.to_le_bytes();
    for (at, byte) in (NMI_ENTRY..).zip([low, high, 0, PAGES[0]]) {
        write_low(at, byte);
    }
}

/// Writes a byte of memory below 1 MiB.
fn write_low(address: u64, value: u8) {
    let at =
        usize::try_from(address).ok().filter(|at| (1..0xa_0000).contains(at)).expect("conventional memory");
    // SAFETY: mapped, and nobody's Rust object: the program's own image is above 1 MiB.
    unsafe { core::ptr::write_volatile(core::ptr::with_exposed_provenance_mut(at), value) };
}

/// Where the startup code calls into Rust: `index` is the CPU's, `segment` what real mode had in CS.
pub(super) extern "C" fn enter(index: u64, segment: u64) -> ! {
    percpu::install(usize::try_from(index).unwrap_or(0));
    trap::load();
    crate::smp::arrive(segment >> 8)
}
