//! What the MSR and I/O bitmaps let a guest do without an exit.
//!
//! SDM Vol. 3C, "MSR-Bitmap Address" and "I/O-Bitmap Addresses".

use arch::Msr;

/// Size of the MSR bitmap in bytes: reads low, reads high, writes low, writes high, 1 KiB each.
pub const MSR_BITMAP_BYTES: usize = 4096;

/// Registers that the processor switches or the core saves between vCPUs, and that a guest may hold any value
/// in: reads and writes never exit.
const FREE: &[Msr] = &[
    Msr::FS_BASE,
    Msr::GS_BASE,
    Msr::KERNEL_GS_BASE,
    Msr::STAR,
    Msr::LSTAR,
    Msr::CSTAR,
    Msr::FMASK,
    Msr::SYSENTER_CS,
    Msr::SYSENTER_ESP,
    Msr::SYSENTER_EIP,
    Msr::PAT,
];

/// Registers that a guest may read without an exit: the TSC (with its offset) and EFER.
const READABLE: &[Msr] = &[Msr::TSC, Msr::EFER];

/// Position of `msr`'s bit in the read bitmap.
const fn read_bit(msr: Msr) -> Option<usize> {
    match msr.0 {
        0..=0x1fff => Some(msr.0 as usize),
        0xc000_0000..=0xc000_1fff => Some(8192 + (msr.0 & 0x1fff) as usize),
        _ => None,
    }
}

/// Whether RDMSR of `msr` runs without an exit; `rdtscp` gives TSC_AUX to the guest.
pub fn reads_freely(msr: Msr, rdtscp: bool) -> bool {
    FREE.contains(&msr) || READABLE.contains(&msr) || rdtscp && msr == Msr::TSC_AUX
}

/// Whether WRMSR to `msr` runs without an exit; `rdtscp` gives TSC_AUX to the guest.
pub fn writes_freely(msr: Msr, rdtscp: bool) -> bool {
    FREE.contains(&msr) || rdtscp && msr == Msr::TSC_AUX
}

/// Fills `bitmap` (a set bit exits): everything exits but the registers of the allow-list.
pub fn fill_msr_bitmap(bitmap: &mut [u8; MSR_BITMAP_BYTES], rdtscp: bool) {
    bitmap.fill(0xff);
    let mut clear = |bit: usize| bitmap[bit / 8] &= !(1 << (bit % 8));
    for msr in FREE.iter().chain(READABLE).chain(&[Msr::TSC_AUX]) {
        let Some(bit) = read_bit(*msr) else { continue };
        if reads_freely(*msr, rdtscp) {
            clear(bit);
        }
        if writes_freely(*msr, rdtscp) {
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

    #[test]
    fn only_the_allow_list_is_open() {
        let mut bitmap = [0; MSR_BITMAP_BYTES];
        fill_msr_bitmap(&mut bitmap, true);
        for number in (0..0x2000).chain(0xc000_0000..0xc000_2000) {
            let msr = Msr(number);
            let bit = read_bit(msr).expect("in range");
            assert_eq!(exits(&bitmap, bit), !reads_freely(msr, true), "read {number:#x}");
            assert_eq!(exits(&bitmap, bit + 16384), !writes_freely(msr, true), "write {number:#x}");
        }
    }

    #[test]
    fn efer_writes_and_tsc_writes_exit() {
        assert!(!writes_freely(Msr::EFER, true) && !writes_freely(Msr::TSC, true));
        assert!(!reads_freely(Msr::TSC_AUX, false));
    }
}
