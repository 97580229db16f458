//! PV TLB flush: a vCPU that was preempted has its TLB flushed when it comes back, instead of an IPI now.
//!
//! The byte `preempted` of the steal-time record (The Linux Kernel documentation, "KVM-specific MSRs",
//! MSR_KVM_STEAL_TIME; "KVM CPUID bits", KVM_FEATURE_PV_TLB_FLUSH). A sender that finds the vCPU preempted adds its
//! request to the byte by compare-and-exchange; the byte is exchanged for zero before the vCPU runs again. So a request
//! is either seen here, or the sender sees a vCPU that runs and sends its IPI.

use super::spec::steal_record::{FLUSH_TLB, IS_PREEMPTED};
use arch::Gpa;
use memory::GuestMemory;

/// What must be done before a vCPU enters its guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Loaded {
    /// Nothing.
    Ready,
    /// Flush all of its guest-virtual translations, global ones too.
    FlushTlb,
}

/// Marks the vCPU whose byte is at `gpa` as preempted. Not to be done twice: a request may stand there already.
pub(super) fn mark_preempted<M: GuestMemory>(memory: &M, gpa: Gpa) -> Result<(), memory::OutsideRam> {
    memory.write(gpa, &[IS_PREEMPTED])
}

/// The vCPU whose byte is at `gpa` is about to run.
pub(super) fn take<M: GuestMemory>(memory: &M, gpa: Gpa) -> Loaded {
    match memory.swap_u8(gpa, 0) {
        Ok(byte) if byte & FLUSH_TLB != 0 => Loaded::FlushTlb,
        Ok(_) | Err(_) => Loaded::Ready,
    }
}
