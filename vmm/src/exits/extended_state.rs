//! XSETBV.
//!
//! SDM Vol. 1, "Enabling the XSAVE Feature Set and XSAVE-Enabled Features"; SDM Vol. 2D, "XSETBV".

use crate::{Outcome, Vcpu, VcpuBackend};
use arch::{Cr4Flags, Exception, Gpr, SegmentRegister, XCr0Flags};

const AVX512: u64 = 0b111 << 5;

/// Whether XCR0 may hold `value` when the components of `allowed` are offered.
pub(crate) fn is_valid(value: u64, allowed: u64) -> bool {
    let x87 = XCr0Flags::X87.bits();
    let sse = XCr0Flags::SSE.bits();
    let avx = XCr0Flags::AVX.bits();
    value & x87 != 0
        && value & !allowed == 0
        && (value & avx == 0 || value & sse != 0)
        && (value & AVX512 == 0 || value & (AVX512 | avx) == AVX512 | avx)
        && matches!(value >> 3 & 3, 0 | 3)
        && matches!(value >> 17 & 3, 0 | 3)
}

pub(super) fn xsetbv<B: VcpuBackend>(vcpu: &mut Vcpu<B>) -> Outcome {
    if !vcpu.backend.cr4().contains(Cr4Flags::OSXSAVE) {
        return Outcome::Fault(Exception::InvalidOpcode);
    }
    let gprs = vcpu.backend.gprs();
    let (register, value) = (gprs.get32(Gpr::Rcx), gprs.edx_eax());
    let privileged = vcpu.backend.segment(SegmentRegister::Ss).dpl() == 0;
    if !privileged || register != 0 || !is_valid(value, vcpu.xcr0_allowed) {
        return Outcome::Fault(Exception::GeneralProtection(0));
    }
    vcpu.backend.set_xcr0(value);
    Outcome::Advance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x87_cannot_be_switched_off() {
        assert!(is_valid(1, 0xe7));
        assert!(!is_valid(0, 0xe7));
        assert!(!is_valid(2, 0xe7));
    }

    #[test]
    fn dependent_components_come_together() {
        assert!(is_valid(0b111, 0xe7));
        assert!(!is_valid(0b101, 0xe7), "AVX without SSE");
        assert!(is_valid(0xe7, 0xe7));
        assert!(!is_valid(0x27, 0xe7), "half of AVX-512");
        assert!(!is_valid(0xe3, 0xe7), "AVX-512 without AVX");
        assert!(!is_valid(0x1f, 0xe7), "MPX is not offered");
        assert!(!is_valid(1 << 63 | 1, 0xe7));
    }
}
