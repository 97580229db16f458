//! Breakpoints on ports, of accesses that the processor did not carry out itself.
//!
//! SDM Vol. 3B, "Debug Control Register (DR7)", "Data Breakpoint and I/O Breakpoint Exception Conditions". They are
//! traps: the exception comes behind the instruction. Not modelled: of a repeated INS or OUTS, it comes behind the
//! iterations that were done together, not behind the first.

use crate::{IoExit, Vcpu, VcpuBackend};
use arch::{Cr4Flags, Port, Width};

/// DR7: what enables breakpoints, two bits each.
const ENABLES: u64 = 0xff;
/// Kind of a breakpoint: on accesses to ports.
const ON_PORTS: u64 = 0b10;

/// Has the instruction that made `access` end in a debug exception if it met a breakpoint.
#[inline]
pub(super) fn look<B: VcpuBackend>(vcpu: &mut Vcpu<B>, access: IoExit) {
    let dr7 = vcpu.backend.dr7();
    if dr7 & ENABLES != 0 {
        look_at_each(vcpu, access, dr7);
    }
}

#[cold]
fn look_at_each<B: VcpuBackend>(vcpu: &mut Vcpu<B>, access: IoExit, dr7: u64) {
    if !vcpu.backend.cr4().contains(Cr4Flags::DEBUGGING_EXTENSIONS) {
        return;
    }
    let met = met(dr7, vcpu.backend.breakpoints(), access.port(), access.width());
    if met != 0 {
        vcpu.backend.meet_breakpoints(met);
    }
}

/// The enabled breakpoints on ports that an access to `port` meets, as bits of DR6.
fn met(dr7: u64, addresses: [u64; 4], port: Port, width: Width) -> u64 {
    let first = u64::from(port.0);
    let last = first + width.bytes() - 1;
    let mut met = 0;
    for (number, address) in (0..).zip(addresses) {
        let enabled = dr7 >> (2 * number) & 0b11 != 0;
        let kind = dr7 >> (16 + 4 * number) & 0b11;
        let bytes = match dr7 >> (18 + 4 * number) & 0b11 {
            0b00 => 1,
            0b01 => 2,
            0b10 => 8,
            _ => 4,
        };
        let begin = address & !(bytes - 1);
        if enabled && kind == ON_PORTS && begin <= last && first <= begin | (bytes - 1) {
            met |= 1 << number;
        }
    }
    met
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL_0: u64 = 1;
    const PORTS_0: u64 = 0b10 << 16;

    #[test]
    fn a_breakpoint_is_met_by_every_access_that_touches_it() {
        let four_bytes = LOCAL_0 | PORTS_0 | 0b11 << 18;
        let hit = |port, width| met(four_bytes, [0x3f8, 0, 0, 0], Port(port), width);
        assert_eq!((hit(0x3f7, Width::One), hit(0x3f7, Width::Two)), (0, 1));
        assert_eq!((hit(0x3fb, Width::One), hit(0x3fc, Width::Four)), (1, 0));
        let misaligned = met(four_bytes, [0x3fa, 0, 0, 0], Port(0x3f8), Width::One);
        assert_eq!(misaligned, 1, "the length aligns the address");
    }

    #[test]
    fn only_enabled_breakpoints_on_ports_count() {
        let at = [0x80; 4];
        assert_eq!(met(PORTS_0, at, Port(0x80), Width::One), 0);
        assert_eq!(met(LOCAL_0, at, Port(0x80), Width::One), 0, "on execution");
        assert_eq!(met(LOCAL_0 | 0b11 << 16, at, Port(0x80), Width::One), 0, "on data");
        assert_eq!(met(1 << 7 | 0b10 << 28 | LOCAL_0 | PORTS_0, at, Port(0x80), Width::One), 0b1001);
    }
}
