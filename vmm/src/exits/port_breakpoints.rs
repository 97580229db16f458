//! Breakpoints on ports, of IN and OUT that the processor did not carry out itself: see [`Breakpoints`]. Those of INS and
//! OUTS are met where these are emulated.

use crate::{IoExit, Vcpu, VcpuBackend};
use arch::Cr4Flags;
use emulate::Breakpoints;

/// Has the instruction that made `access` end in a debug exception if it met a breakpoint.
#[inline]
pub(super) fn look<B: VcpuBackend>(vcpu: &mut Vcpu<B>, access: IoExit) {
    let dr7 = vcpu.backend.dr7();
    if Breakpoints::are_enabled(dr7) {
        look_at_each(vcpu, access, dr7);
    }
}

#[cold]
fn look_at_each<B: VcpuBackend>(vcpu: &mut Vcpu<B>, access: IoExit, dr7: u64) {
    if !vcpu.backend.cr4().contains(Cr4Flags::DEBUGGING_EXTENSIONS) {
        return;
    }
    let breakpoints = Breakpoints::new(dr7, vcpu.backend.breakpoints());
    let met = breakpoints.met_by_port(access.port(), access.width());
    if met != 0 {
        vcpu.backend.meet_breakpoints(met);
    }
}
