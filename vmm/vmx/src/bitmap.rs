//! What the MSR and I/O bitmaps let a guest do without an exit.
//!
//! SDM Vol. 3C, "MSR-Bitmap Address" and "I/O-Bitmap Addresses".

use crate::ApicMode;
use arch::Msr;
use core::ops::RangeInclusive;

/// Size of the MSR bitmap in bytes: reads low, reads high, writes low, writes high, 1 KiB each.
pub const MSR_BITMAP_BYTES: usize = 4096;

/// Registers that the processor switches or the core saves between vCPUs, and that a guest may hold any value
/// in: reads and writes never exit.
const FREE: &[Msr] = &[
    Msr::FS_BASE,
    Msr::GS_BASE,
    Msr::KERNEL_GS_BASE,
    Msr::SYSENTER_CS,
    Msr::SYSENTER_ESP,
    Msr::SYSENTER_EIP,
    Msr::PAT,
];

/// Registers that a guest may read without an exit: the TSC (with its offset), EFER, and those that stay in the processor
/// and are written once in the life of a guest. The core sees these writes, so that it need not read the registers when it
/// turns to another vCPU.
const READABLE: &[Msr] = &[Msr::TSC, Msr::EFER, Msr::STAR, Msr::LSTAR, Msr::CSTAR, Msr::FMASK];

/// x2APIC registers that a guest reads from the virtual-APIC page, which the processor keeps: TPR, PPR, then ISR, TMR
/// and IRR (SDM Vol. 3C, "Virtualizing MSR-Based APIC Accesses"). All others are not in the page.
const VIRTUAL_READABLE: [RangeInclusive<u32>; 3] = [0x808..=0x808, 0x80a..=0x80a, 0x810..=0x827];

/// x2APIC registers whose writes the processor carries out itself: TPR, EOI, SELF IPI.
const VIRTUAL_WRITABLE: [RangeInclusive<u32>; 3] = [0x808..=0x808, 0x80b..=0x80b, 0x83f..=0x83f];

/// Whether `msr` is a register of the local APIC in one of `ranges`, and the processor delivers interrupts itself.
fn is_virtual(ranges: &[RangeInclusive<u32>], msr: Msr, mode: ApicMode) -> bool {
    match mode {
        ApicMode::Software | ApicMode::Page => false,
        ApicMode::Virtual => ranges.iter().any(|range| range.contains(&msr.0)),
    }
}

/// Position of `msr`'s bit in the read bitmap.
const fn read_bit(msr: Msr) -> Option<usize> {
    match msr.0 {
        0..=0x1fff => Some(msr.0 as usize),
        0xc000_0000..=0xc000_1fff => Some(8192 + (msr.0 & 0x1fff) as usize),
        _ => None,
    }
}

/// Whether RDMSR of `msr` runs without an exit; `rdtscp` gives TSC_AUX to the guest.
pub fn reads_freely(msr: Msr, rdtscp: bool, mode: ApicMode) -> bool {
    FREE.contains(&msr)
        || READABLE.contains(&msr)
        || rdtscp && msr == Msr::TSC_AUX
        || is_virtual(&VIRTUAL_READABLE, msr, mode)
}

/// Whether WRMSR to `msr` runs without an exit.
pub fn writes_freely(msr: Msr, mode: ApicMode) -> bool {
    FREE.contains(&msr) || is_virtual(&VIRTUAL_WRITABLE, msr, mode)
}

/// Fills `bitmap` (a set bit exits) for guests whose interrupts are delivered in `mode`: everything exits but the
/// registers of the allow-lists.
pub fn fill_msr_bitmap(bitmap: &mut [u8; MSR_BITMAP_BYTES], rdtscp: bool, mode: ApicMode) {
    bitmap.fill(0xff);
    let mut clear = |bit: usize| bitmap[bit / 8] &= !(1 << (bit % 8));
    let plain = FREE.iter().chain(READABLE).chain(&[Msr::TSC_AUX]).copied();
    for msr in plain.chain((Msr::X2APIC_FIRST.0..=Msr::X2APIC_LAST.0).map(Msr)) {
        let Some(bit) = read_bit(msr) else { continue };
        if reads_freely(msr, rdtscp, mode) {
            clear(bit);
        }
        if writes_freely(msr, mode) {
            clear(bit + 2048 * 8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exits(bitmap: &[u8; MSR_BITMAP_BYTES], bit: usize) -> bool {
        bitmap[bit / 8] & 1 << (bit % 8) != 0
    }

    fn filled(mode: ApicMode) -> [u8; MSR_BITMAP_BYTES] {
        let mut bitmap = [0; MSR_BITMAP_BYTES];
        fill_msr_bitmap(&mut bitmap, true, mode);
        bitmap
    }

    #[test]
    fn only_the_allow_list_is_open() {
        for mode in [ApicMode::Software, ApicMode::Virtual, ApicMode::Page] {
            let bitmap = filled(mode);
            for number in (0..0x2000).chain(0xc000_0000..0xc000_2000) {
                let msr = Msr(number);
                let bit = read_bit(msr).expect("in range");
                assert_eq!(exits(&bitmap, bit), !reads_freely(msr, true, mode), "read {number:#x}");
                assert_eq!(exits(&bitmap, bit + 16384), !writes_freely(msr, mode), "write {number:#x}");
            }
        }
    }

    #[test]
    fn the_local_apic_is_open_only_where_the_processor_keeps_it() {
        let (software, hardware) = (filled(ApicMode::Software), filled(ApicMode::Virtual));
        let open = |bitmap: &[u8; MSR_BITMAP_BYTES], base: usize| -> Vec<usize> {
            (0x800..=0x8ff).filter(|number| !exits(bitmap, base + number)).collect()
        };
        assert_eq!(open(&software, 0), [], "every read exits");
        assert_eq!(open(&software, 16384), [], "every write exits");
        let read: Vec<usize> = [0x808, 0x80a].into_iter().chain(0x810..=0x827).collect();
        assert_eq!(open(&hardware, 0), read);
        assert_eq!(open(&hardware, 16384), [0x808, 0x80b, 0x83f]);
    }

    #[test]
    fn writes_of_what_the_host_keeps_exit() {
        let mode = ApicMode::Virtual;
        for msr in [Msr::EFER, Msr::TSC, Msr::STAR, Msr::LSTAR, Msr::CSTAR, Msr::FMASK, Msr::TSC_AUX] {
            assert!(!writes_freely(msr, mode) && reads_freely(msr, true, mode), "{msr}");
        }
        assert!(!reads_freely(Msr::TSC_AUX, false, mode));
        assert!(writes_freely(Msr::KERNEL_GS_BASE, mode), "SWAPGS writes it anyway");
    }
}
