//! VMX instructions, one function each. Results as the manual names them.
//!
//! SDM Vol. 3D, "VMX Instruction Reference", "Conventions".

use arch::Hpa;
use core::arch::asm;

/// Why a VMX instruction failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum VmFail {
    /// VMfailInvalid: no current VMCS, or VMXON refused.
    Invalid,
    /// VMfailValid: the current VMCS holds the error number.
    Valid,
}

const fn result(carry: u8, zero: u8) -> Result<(), VmFail> {
    if carry | zero == 0 {
        return Ok(());
    }
    Err(if carry == 0 { VmFail::Valid } else { VmFail::Invalid })
}

macro_rules! with_operand {
    ($(#[$doc:meta])* $name:ident, $mnemonic:literal) => {
        $(#[$doc])*
        pub(super) unsafe fn $name(region: Hpa) -> Result<(), VmFail> {
            let operand = region.get();
            let (carry, zero): (u8, u8);
            // SAFETY: the caller vouches for the region.
            unsafe {
                asm!(
                    concat!($mnemonic, " [{operand}]"),
                    "setc {carry}",
                    "setz {zero}",
                    operand = in(reg) &raw const operand,
                    carry = lateout(reg_byte) carry,
                    zero = lateout(reg_byte) zero,
                    options(nostack),
                );
            }
            result(carry, zero)
        }
    };
}

with_operand! {
    /// VMXON.
    ///
    /// # Safety
    /// CR4.VMXE is set; `region` is a VMXON region with the right revision that nobody else uses.
    vmxon, "vmxon"
}
with_operand! {
    /// VMPTRLD.
    ///
    /// # Safety
    /// In VMX root operation; `region` is a VMCS region with the right revision, not active on another CPU.
    vmptrld, "vmptrld"
}
with_operand! {
    /// VMCLEAR.
    ///
    /// # Safety
    /// In VMX root operation; `region` is a VMCS region, not active on another CPU.
    vmclear, "vmclear"
}

/// VMREAD of the current VMCS; any value if there is none or it has no such field.
///
/// # Safety
/// In VMX root operation.
#[inline(always)]
pub(super) unsafe fn vmread(encoding: u32) -> u64 {
    let value: u64;
    // SAFETY: reads the current VMCS; a failure leaves what was in the register, which is some number too.
    unsafe {
        asm!("vmread {value}, {field}", value = lateout(reg) value, field = in(reg) u64::from(encoding), options(nostack));
    }
    value
}

/// VMWRITE to the current VMCS; a failure changes nothing.
///
/// # Safety
/// In VMX root operation; the field and its value must keep host state intact at the next exit.
#[inline(always)]
pub(super) unsafe fn vmwrite(encoding: u32, value: u64) {
    // SAFETY: the caller vouches for the field.
    unsafe {
        asm!("vmwrite {field}, {value}", field = in(reg) u64::from(encoding), value = in(reg) value, options(nostack));
    }
}

/// The operand of INVEPT and INVVPID.
#[repr(C, align(16))]
struct Descriptor([u64; 2]);

/// INVEPT of all contexts.
///
/// # Safety
/// In VMX root operation, on a CPU that has INVEPT for all contexts.
pub(super) unsafe fn invept_all() {
    const ALL_CONTEXTS: u64 = 2;
    let descriptor = Descriptor([0; 2]);
    // SAFETY: drops cached translations only.
    unsafe {
        asm!("invept {kind}, [{at}]", kind = in(reg) ALL_CONTEXTS, at = in(reg) &raw const descriptor, options(nostack));
    };
}

/// What INVVPID drops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u64)]
pub(super) enum InvvpidKind {
    /// What was cached under one identifier.
    SingleContext = 1,
    /// What was cached under any identifier but 0.
    AllContexts = 2,
}

/// INVVPID; `vpid` matters for single contexts only.
///
/// # Safety
/// In VMX root operation, on a CPU that has INVVPID of this kind; `vpid` is not 0 for a single context.
pub(super) unsafe fn invvpid(kind: InvvpidKind, vpid: u16) {
    let descriptor = Descriptor([u64::from(vpid), 0]);
    // SAFETY: drops cached translations only.
    unsafe {
        asm!("invvpid {kind}, [{at}]", kind = in(reg) kind as u64, at = in(reg) &raw const descriptor, options(nostack));
    };
}
