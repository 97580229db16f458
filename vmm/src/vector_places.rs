//! Where vector registers are in an XSAVE area of standard format.
//!
//! SDM Vol. 1, "XSAVE-Supported Features and State-Component Bitmaps", "Legacy Region of an XSAVE Area", "Extended
//! Region of an XSAVE Area".

use arch::VectorRegister;
use core::ops::Range;

/// Where XMM0 is in the legacy region.
const XMM: usize = 160;
/// The state components that hold vector registers: SSE, AVX, the upper halves of ZMM0 to ZMM15, ZMM16 to ZMM31.
const SSE: u32 = 1;
const AVX: u32 = 2;
const ZMM_HI256: u32 = 6;
const HI16_ZMM: u32 = 7;

/// Where the parts of vector registers begin that the legacy region does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VectorPlaces {
    avx: Option<usize>,
    zmm_hi256: Option<usize>,
    hi16_zmm: Option<usize>,
}

/// A part of a register.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VectorPart {
    /// Where it is in the area, in bytes.
    pub at: usize,
    /// Which bytes of the register it is.
    pub bytes: Range<usize>,
}

impl VectorPlaces {
    /// The places in an area with `components`, bits of XCR0; `offset` tells where one of them begins (CPUID.(0DH,n):EBX).
    pub fn new(components: u64, offset: impl Fn(u32) -> usize) -> Self {
        let place = |component: u32| (components & 1 << component != 0).then(|| offset(component));
        Self { avx: place(AVX), zmm_hi256: place(ZMM_HI256), hi16_zmm: place(HI16_ZMM) }
    }

    /// The components that are in use once a vector register is written, as bits of XCR0.
    pub fn components(self) -> u64 {
        let bit = |place: Option<usize>, component: u32| if place.is_some() { 1 << component } else { 0 };
        1 << SSE | bit(self.avx, AVX) | bit(self.zmm_hi256, ZMM_HI256) | bit(self.hi16_zmm, HI16_ZMM)
    }

    /// The parts of `register` that the area has.
    pub fn parts(self, register: VectorRegister) -> impl Iterator<Item = VectorPart> {
        let index = register.index();
        let upper_sixteen = index.checked_sub(16);
        let whole = upper_sixteen.and_then(|index| {
            let at = self.hi16_zmm? + index * 64;
            Some(VectorPart { at, bytes: 0..64 })
        });
        let lower = |at: Option<usize>, bytes: Range<usize>| {
            let at = at.filter(|_| upper_sixteen.is_none())? + index * bytes.len();
            Some(VectorPart { at, bytes })
        };
        let parts = [whole, lower(Some(XMM), 0..16), lower(self.avx, 16..32), lower(self.zmm_hi256, 32..64)];
        parts.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// Where Intel's processors have them.
    fn offset(component: u32) -> usize {
        match component {
            2 => 576,
            6 => 1152,
            _ => 1664,
        }
    }

    fn parts(components: u64, register: u8) -> Vec<(usize, Range<usize>)> {
        VectorPlaces::new(components, offset)
            .parts(VectorRegister::from_encoding(register))
            .map(|part| (part.at, part.bytes))
            .collect()
    }

    #[test]
    fn a_register_is_where_its_components_are() {
        assert_eq!(parts(0b11, 3), [(160 + 48, 0..16)]);
        assert_eq!(parts(0b111, 15), [(400, 0..16), (816, 16..32)]);
        assert_eq!(parts(0xe7, 1), [(176, 0..16), (592, 16..32), (1184, 32..64)]);
        assert_eq!(parts(0xe7, 17), [(1728, 0..64)]);
        assert_eq!(parts(0b111, 17), []);
    }

    #[test]
    fn parts_of_different_registers_never_overlap() {
        let mut used = alloc::vec![false; 2688];
        for register in 0..32 {
            for (at, bytes) in parts(0xe7, register) {
                for byte in &mut used[at..at + bytes.len()] {
                    assert!(!core::mem::replace(byte, true), "register {register}");
                }
            }
        }
    }

    #[test]
    fn what_is_written_is_in_use() {
        assert_eq!(VectorPlaces::default().components(), 0b10);
        assert_eq!(VectorPlaces::new(0xe7, offset).components(), 0b1100_0110);
    }
}
