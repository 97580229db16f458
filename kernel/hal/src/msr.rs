//! Model-specific registers. SDM Vol. 4, "Model-Specific Registers (MSRs)".

use core::arch::asm;

use arch::Msr;

/// Splits a value as WRMSR takes it: EAX, EDX.
#[expect(clippy::cast_possible_truncation, reason = "the halves are what is asked for")]
const fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

/// Reads `msr`, which the CPU is known to have: panics with the register dump of a #GP when it has not.
#[inline]
pub fn read(msr: Msr) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: RDMSR changes nothing but its outputs; a #GP ends in the exception handler's panic.
    unsafe {
        asm!("rdmsr", in("ecx") msr.0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Reads `msr`; `None` where the CPU answers with #GP. Needs the exception handlers in place.
pub fn try_read(msr: Msr) -> Option<u64> {
    let (mut low, mut high): (u32, u32) = (0, 0);
    let mut failed: u32 = 1;
    // SAFETY: RDMSR changes nothing but its outputs. On a #GP the exception handler finds the entry in `.fixups`
    // and resumes after the instruction that clears `failed`.
    unsafe {
        asm!(
            "2: rdmsr",
            "mov {failed:e}, 0",
            "3:",
            ".pushsection .fixups, \"a\"",
            ".balign 8",
            ".quad 2b, 3b",
            ".popsection",
            failed = inout(reg) failed,
            in("ecx") msr.0,
            inout("eax") low,
            inout("edx") high,
            options(nostack, preserves_flags),
        );
    }
    (failed == 0).then_some(u64::from(high) << 32 | u64::from(low))
}

/// Writes `value` to `msr`. Panics with the register dump of a #GP when the CPU refuses.
///
/// # Safety
/// The write must leave the CPU in a state that the rest of the kernel expects.
#[inline]
pub unsafe fn write(msr: Msr, value: u64) {
    let (low, high) = halves(value);
    // SAFETY: the caller vouches for the effect. It may order memory accesses, so no `nomem`.
    unsafe {
        asm!("wrmsr", in("ecx") msr.0, in("eax") low, in("edx") high, options(nostack, preserves_flags));
    }
}

/// IA32_FEATURE_CONTROL: nothing in it can be changed.
const LOCK: u64 = 1 << 0;
/// IA32_FEATURE_CONTROL: VMXON is allowed outside of SMX.
const VMX_OUTSIDE_SMX: u64 = 1 << 2;

/// Whether VMXON is allowed outside of SMX on this CPU, which must have VMX.
pub(crate) fn vmx_is_enabled_outside_smx() -> bool {
    read(Msr::FEATURE_CONTROL) & (LOCK | VMX_OUTSIDE_SMX) == LOCK | VMX_OUTSIDE_SMX
}

/// Allows VMXON outside of SMX on this CPU and locks that in, when the firmware left the choice open. Without
/// effect on a register that is locked.
///
/// SDM Vol. 3C, "Enabling and Entering VMX Operation". The CPU must have VMX.
pub fn enable_vmx_outside_smx() {
    let now = read(Msr::FEATURE_CONTROL);
    if now & LOCK == 0 {
        // SAFETY: permits an instruction; changes nothing by itself.
        unsafe { write(Msr::FEATURE_CONTROL, now | LOCK | VMX_OUTSIDE_SMX) };
    }
}
