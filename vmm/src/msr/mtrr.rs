//! Memory type range registers, as a guest writes and reads them, and the type that they give to an address.
//!
//! SDM Vol. 3A, "Memory Type Range Registers (MTRRs)". They are the guest's to program, with every rule of the manual, and
//! have no effect on what the processor does: EPT does not consult them (ADR 0018).

use super::Refused;
use crate::MemoryType;
use arch::{Gpa, Msr};

/// Pairs of base and mask.
const PAIRS: usize = 8;
/// IA32_MTRRCAP: eight pairs, fixed ranges, write-combining; no SMRRs.
pub(super) const CAPABILITIES: u64 = PAIRS as u64 | 1 << 8 | 1 << 10;
/// The fixed-range registers, in the order of their addresses.
const FIXED: [u32; 11] = [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];
/// Where the fixed ranges end.
const FIXED_END: u64 = 0x10_0000;
/// IA32_MTRR_DEF_TYPE: fixed ranges are on, MTRRs are on.
const FIXED_ON: u64 = 1 << 10;
const ON: u64 = 1 << 11;
/// IA32_MTRR_PHYSMASKn: the pair is on.
const VALID: u64 = 1 << 11;
/// Write-back in every byte.
const ALL_WRITE_BACK: u64 = 0x0606_0606_0606_0606;
/// The register of 0xA0000 to 0xBFFFF, where a PC has its screen.
const SCREEN: usize = 2;
/// Devices are from here to 4 GiB.
const DEVICES: u64 = 0xc000_0000;

/// One pair: a range whose size is a power of two, or several that are alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Pair {
    base: u64,
    mask: u64,
}

/// The registers of one processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mtrrs {
    default: u64,
    fixed: [u64; FIXED.len()],
    pairs: [Pair; PAIRS],
    /// The bits of an address, from the page's on.
    address_bits: u64,
}

/// A register, by what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Register {
    Default,
    Fixed(usize),
    Base(usize),
    Mask(usize),
}

impl Register {
    fn of(msr: Msr) -> Option<Self> {
        if msr == Msr::MTRR_DEF_TYPE {
            return Some(Self::Default);
        }
        if let Some(index) = FIXED.iter().position(|number| *number == msr.0) {
            return Some(Self::Fixed(index));
        }
        let index = usize::try_from(msr.0.checked_sub(Msr::MTRR_PHYSBASE0.0)?).ok()?;
        let pair = index / 2;
        let register = if index & 1 == 0 { Self::Base(pair) } else { Self::Mask(pair) };
        (pair < PAIRS).then_some(register)
    }
}

const fn low_type(value: u64) -> Option<MemoryType> {
    MemoryType::from_encoding(value.to_le_bytes()[0])
}

impl Mtrrs {
    /// As firmware leaves them: on, RAM write-back by default, the screen's and the devices' addresses uncacheable.
    pub(super) const fn from_firmware(physical_address_bits: u8) -> Self {
        let bits = if physical_address_bits > 52 { 52 } else { physical_address_bits };
        let address_bits = ((1_u64 << bits) - 1) & !0xfff;
        let mut mtrrs = Self {
            default: MemoryType::WriteBack.encoding() as u64 | ON | FIXED_ON,
            fixed: [ALL_WRITE_BACK; FIXED.len()],
            pairs: [Pair { base: 0, mask: 0 }; PAIRS],
            address_bits,
        };
        mtrrs.fixed[SCREEN] = 0;
        mtrrs.pairs[0] = Pair { base: DEVICES, mask: !(arch::GIB - 1) & address_bits | VALID };
        mtrrs
    }

    /// As after the processor's reset: off, and nothing is set.
    pub(super) const fn after_reset(self) -> Self {
        Self {
            default: 0,
            fixed: [0; FIXED.len()],
            pairs: [Pair { base: 0, mask: 0 }; PAIRS],
            address_bits: self.address_bits,
        }
    }

    /// Reads a register, `None` if `msr` is none of these.
    pub(super) fn read(&self, msr: Msr) -> Option<u64> {
        Some(match Register::of(msr)? {
            Register::Default => self.default,
            Register::Fixed(index) => self.fixed[index],
            Register::Base(index) => self.pairs[index].base,
            Register::Mask(index) => self.pairs[index].mask,
        })
    }

    /// Writes a register, which must exist and take the value.
    pub(super) fn write(&mut self, msr: Msr, value: u64) -> Result<(), Refused> {
        let register = Register::of(msr).ok_or(Refused)?;
        let (reserved, has_types) = match register {
            Register::Default => (!(ON | FIXED_ON | 0xff), low_type(value).is_some()),
            Register::Fixed(_) => {
                (0, value.to_le_bytes().iter().all(|byte| MemoryType::from_encoding(*byte).is_some()))
            }
            Register::Base(_) => (!(self.address_bits | 0xff), low_type(value).is_some()),
            Register::Mask(_) => (!(self.address_bits | VALID), true),
        };
        if value & reserved != 0 || !has_types {
            return Err(Refused);
        }
        match register {
            Register::Default => self.default = value,
            Register::Fixed(index) => self.fixed[index] = value,
            Register::Base(index) => self.pairs[index].base = value,
            Register::Mask(index) => self.pairs[index].mask = value,
        }
        Ok(())
    }

    /// The type of the memory at `gpa` (SDM Vol. 3A, "MTRR Precedences").
    pub fn memory_type(&self, gpa: Gpa) -> MemoryType {
        let address = gpa.get();
        if self.default & ON == 0 {
            return MemoryType::Uncacheable;
        }
        if self.default & FIXED_ON != 0 && address < FIXED_END {
            return self.fixed_type(address);
        }
        self.pairs
            .iter()
            .filter(|pair| {
                pair.mask & VALID != 0 && (pair.base ^ address) & pair.mask & self.address_bits == 0
            })
            .filter_map(|pair| low_type(pair.base))
            .reduce(MemoryType::overlapped)
            .or_else(|| low_type(self.default))
            .unwrap_or(MemoryType::Uncacheable)
    }

    /// The type below 1 MiB: eight ranges a register, of 64 KiB each, then of 16 KiB, then of 4 KiB.
    fn fixed_type(&self, address: u64) -> MemoryType {
        let (first_register, start, size) = match address {
            0..0x8_0000 => (0, 0, 0x1_0000),
            0x8_0000..0xc_0000 => (1, 0x8_0000, 0x4000),
            _ => (3, 0xc_0000, 0x1000),
        };
        let range = usize::try_from((address - start) / size).unwrap_or(0);
        self.fixed
            .get(first_register + range / 8)
            .and_then(|register| MemoryType::from_encoding(register.to_le_bytes()[range % 8]))
            .unwrap_or(MemoryType::Uncacheable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PatType, guest_view};
    use arch::Cr0Flags;

    fn mtrrs() -> Mtrrs {
        Mtrrs::from_firmware(39)
    }

    fn set(mtrrs: &mut Mtrrs, number: u32, value: u64) {
        assert_eq!(mtrrs.write(Msr(number), value), Ok(()), "{number:#x} {value:#x}");
        assert_eq!(mtrrs.read(Msr(number)), Some(value));
    }

    #[test]
    fn firmware_leaves_ram_write_back_and_devices_uncacheable() {
        let mtrrs = mtrrs();
        for (address, expected) in [
            (0, MemoryType::WriteBack),
            (0x9_ffff, MemoryType::WriteBack),
            (0xa_0000, MemoryType::Uncacheable),
            (0xb_ffff, MemoryType::Uncacheable),
            (0xc_0000, MemoryType::WriteBack),
            (0xbfff_ffff, MemoryType::WriteBack),
            (0xc000_0000, MemoryType::Uncacheable),
            (0xfee0_0000, MemoryType::Uncacheable),
            (0xffff_ffff, MemoryType::Uncacheable),
            (0x1_0000_0000, MemoryType::WriteBack),
        ] {
            assert_eq!(mtrrs.memory_type(Gpa::new(address)), expected, "{address:#x}");
        }
        let types = |pat| guest_view(Cr0Flags::empty(), &mtrrs, Gpa::new(0xfee0_0000), pat);
        assert_eq!(types(PatType::WriteBack), MemoryType::Uncacheable);
        assert_eq!(types(PatType::WriteCombining), MemoryType::WriteCombining);
        let uncached = guest_view(Cr0Flags::CACHE_DISABLE, &mtrrs, Gpa::new(0), PatType::WriteBack);
        assert_eq!(uncached, MemoryType::Uncacheable);
    }

    #[test]
    fn each_fixed_range_has_its_byte() {
        let sizes = [(0x250, 0, 0x1_0000), (0x258, 0x8_0000, 0x4000), (0x259, 0xa_0000, 0x4000)];
        let pages = (0..8).map(|index| (0x268 + index, 0xc_0000 + u64::from(index) * 0x8000, 0x1000));
        for (number, start, size) in sizes.into_iter().chain(pages) {
            for byte in 0..8_u64 {
                let mut mtrrs = mtrrs();
                set(&mut mtrrs, number, ALL_WRITE_BACK & !(0xff << (byte * 8)) | 5 << (byte * 8));
                let first = start + byte * size;
                for (address, is_it) in [(first, true), (first + size - 1, true), (first + size, false)] {
                    let found = mtrrs.memory_type(Gpa::new(address)) == MemoryType::WriteProtected;
                    assert_eq!(found, is_it, "{number:#x} byte {byte} at {address:#x}");
                }
            }
        }
    }

    #[test]
    fn enable_bits_say_what_counts() {
        let mut mtrrs = mtrrs();
        set(&mut mtrrs, 0x2ff, 6 | ON);
        assert_eq!(mtrrs.memory_type(Gpa::new(0xa_0000)), MemoryType::WriteBack, "fixed ranges are off");
        set(&mut mtrrs, 0x2ff, 6 | FIXED_ON);
        assert_eq!(mtrrs.memory_type(Gpa::new(0)), MemoryType::Uncacheable, "all are off");
        set(&mut mtrrs, 0x2ff, 4 | ON | FIXED_ON);
        assert_eq!(mtrrs.memory_type(Gpa::new(1 << 32)), MemoryType::WriteThrough);
        set(&mut mtrrs, 0x201, 0);
        assert_eq!(mtrrs.memory_type(Gpa::new(0xc000_0000)), MemoryType::WriteThrough, "not valid");
    }

    #[test]
    fn overlapping_pairs_follow_the_precedences() {
        let mut mtrrs = mtrrs();
        let quarter = 0x7f_f000_0000 | VALID;
        set(&mut mtrrs, 0x202, 0x1_0000_0000 | 6);
        set(&mut mtrrs, 0x203, quarter);
        set(&mut mtrrs, 0x204, 0x1_0000_0000 | 4);
        set(&mut mtrrs, 0x205, quarter);
        assert_eq!(mtrrs.memory_type(Gpa::new(0x1_0fff_ffff)), MemoryType::WriteThrough);
        set(&mut mtrrs, 0x206, 0x1_0000_0000);
        set(&mut mtrrs, 0x207, quarter);
        assert_eq!(mtrrs.memory_type(Gpa::new(0x1_0000_0000)), MemoryType::Uncacheable);
        assert_eq!(mtrrs.memory_type(Gpa::new(0x1_1000_0000)), MemoryType::WriteBack, "behind the range");
    }

    #[test]
    fn a_mask_may_have_gaps() {
        let mut mtrrs = mtrrs();
        set(&mut mtrrs, 0x202, 0x2_0000_0000 | 1);
        set(&mut mtrrs, 0x203, 0x2_0000_1000 | VALID);
        for (address, is_it) in [(0x2_0000_0000, true), (0x2_0000_1000, false), (0x3_4567_2000, true)] {
            let found = mtrrs.memory_type(Gpa::new(address)) == MemoryType::WriteCombining;
            assert_eq!(found, is_it, "{address:#x}");
        }
    }

    #[test]
    fn reserved_bits_and_types_are_refused_and_change_nothing() {
        let mut mtrrs = mtrrs();
        let before = mtrrs;
        for (number, value) in [
            (0x200, 2),
            (0x200, 7),
            (0x200, 1 << 8 | 6),
            (0x200, 1 << 11 | 6),
            (0x200, 1 << 39 | 6),
            (0x20f, 1),
            (0x20f, 1 << 10),
            (0x20f, 1 << 39),
            (0x20f, 1 << 63),
            (0x210, 0),
            (0x24f, 0),
            (0x251, 0),
            (0x250, 0x0606_0606_0206_0606),
            (0x26f, 0x0706_0606_0606_0606),
            (0x2ff, 2),
            (0x2ff, 1 << 8),
            (0x2ff, 1 << 9),
            (0x2ff, 1 << 12),
            (0xfe, 0),
        ] {
            assert_eq!(mtrrs.write(Msr(number), value), Err(Refused), "{number:#x} {value:#x}");
        }
        assert_eq!(mtrrs, before);
    }

    #[test]
    fn no_address_is_without_a_type() {
        let mut mtrrs = Mtrrs::from_firmware(52);
        set(&mut mtrrs, 0x202, 0);
        set(&mut mtrrs, 0x203, VALID);
        for address in [0, 0xf_ffff, 0x10_0000, 1 << 51, (1 << 52) - 1, u64::MAX] {
            mtrrs.memory_type(Gpa::new(address));
        }
    }
}
