//! How fast the time stamp counter counts.
//!
//! Source: SDM Vol. 2, "CPUID", leaves 0x15 and 0x16.

use crate::machine::cpu::cpuid;

/// Where the processor does not say: what Bochs is configured for here.
const UNLESS_SAID: u64 = 100_000_000;

/// TSC ticks a second, as the processor says.
pub(super) fn tsc_hz() -> u64 {
    let most = cpuid(0, 0).eax;
    if most >= 0x15 {
        let ratio = cpuid(0x15, 0);
        if ratio.eax != 0 && ratio.ebx != 0 && ratio.ecx != 0 {
            return u64::from(ratio.ecx) * u64::from(ratio.ebx) / u64::from(ratio.eax);
        }
    }
    let base_mhz = if most >= 0x16 { u64::from(cpuid(0x16, 0).eax & 0xffff) } else { 0 };
    if base_mhz == 0 { UNLESS_SAID } else { base_mhz * 1_000_000 }
}
