//! Breakpoints on data and on ports, of accesses that the processor did not carry out itself.
//!
//! SDM Vol. 3B, "Debug Control Register (DR7)", "Data Breakpoint and I/O Breakpoint Exception Conditions". They are
//! traps: the exception comes behind the instruction, or behind the iteration of a repeated one.

use crate::{Access, Cpu};
use arch::{Cr4Flags, Gva, Port, Width};

/// DR7: what enables breakpoints, two bits each.
const ENABLES: u64 = 0xff;

/// What a breakpoint is on, as DR7 encodes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Execution,
    Writes,
    Ports,
    ReadsAndWrites,
}

impl Kind {
    const fn of(bits: u64) -> Self {
        match bits & 0b11 {
            0b00 => Self::Execution,
            0b01 => Self::Writes,
            0b10 => Self::Ports,
            _ => Self::ReadsAndWrites,
        }
    }
}

/// The debug registers that say where breakpoints are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Breakpoints {
    dr7: u64,
    addresses: [u64; 4],
}

impl Breakpoints {
    /// The breakpoints of DR7 and of DR0 to DR3.
    pub const fn new(dr7: u64, addresses: [u64; 4]) -> Self {
        Self { dr7, addresses }
    }

    /// Whether DR7 enables any breakpoint: a test cheap enough for every access.
    #[inline]
    pub const fn are_enabled(dr7: u64) -> bool {
        dr7 & ENABLES != 0
    }

    /// The enabled breakpoints on ports that an access to `port` meets, as bits of DR6.
    pub fn met_by_port(&self, port: Port, width: Width) -> u64 {
        self.met(u64::from(port.0), width.bytes(), |kind| kind == Kind::Ports)
    }

    /// The enabled breakpoints on data that an access to `length` bytes at `gva` meets, as bits of DR6.
    pub(crate) fn met_by_data(&self, gva: Gva, length: u64, access: Access) -> u64 {
        self.met(gva.get(), length, |kind| match kind {
            Kind::Execution | Kind::Ports => false,
            Kind::Writes => access == Access::Write,
            Kind::ReadsAndWrites => access != Access::Execute,
        })
    }

    fn met(&self, first: u64, length: u64, counts: impl Fn(Kind) -> bool) -> u64 {
        let mut met = 0;
        for (number, address) in (0..).zip(self.addresses) {
            let enabled = self.dr7 >> (2 * number) & 0b11 != 0;
            let kind = Kind::of(self.dr7 >> (16 + 4 * number));
            let bytes = match self.dr7 >> (18 + 4 * number) & 0b11 {
                0b00 => 1,
                0b01 => 2,
                0b10 => 8,
                _ => 4,
            };
            let begin = address & !(bytes - 1);
            // One of both begins within the other, also across the end of the address space.
            let touches = begin.wrapping_sub(first) < length || first.wrapping_sub(begin) < bytes;
            if enabled && counts(kind) && touches {
                met |= 1 << number;
            }
        }
        met
    }
}

/// What looks at the accesses of an instruction while breakpoints are enabled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Watch {
    breakpoints: Breakpoints,
    /// CR4.DE: there are breakpoints on ports.
    has_ports: bool,
    /// What was met, as bits of DR6.
    pub(crate) met: u64,
}

impl Watch {
    #[cold]
    pub(crate) fn of(cpu: &impl Cpu) -> Self {
        Self {
            breakpoints: Breakpoints::new(cpu.dr7(), cpu.breakpoints()),
            has_ports: cpu.cr4().contains(Cr4Flags::DEBUGGING_EXTENSIONS),
            met: 0,
        }
    }

    #[cold]
    pub(crate) fn note_data(&mut self, gva: Gva, length: u64, access: Access) {
        self.met |= self.breakpoints.met_by_data(gva, length, access);
    }

    #[cold]
    pub(crate) fn note_port(&mut self, port: Port, width: Width) {
        if self.has_ports {
            self.met |= self.breakpoints.met_by_port(port, width);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL_0: u64 = 1;
    const WRITES_0: u64 = 0b01 << 16;
    const PORTS_0: u64 = 0b10 << 16;
    const ACCESSES_0: u64 = 0b11 << 16;
    const FOUR_0: u64 = 0b11 << 18;

    fn at(dr7: u64, address: u64) -> Breakpoints {
        Breakpoints::new(dr7, [address, 0, 0, 0])
    }

    #[test]
    fn a_breakpoint_is_met_by_every_access_that_touches_it() {
        let four_bytes = at(LOCAL_0 | PORTS_0 | FOUR_0, 0x3f8);
        let hit = |port, width| four_bytes.met_by_port(Port(port), width);
        assert_eq!((hit(0x3f7, Width::One), hit(0x3f7, Width::Two)), (0, 1));
        assert_eq!((hit(0x3fb, Width::One), hit(0x3fc, Width::Four)), (1, 0));
        let misaligned = at(LOCAL_0 | PORTS_0 | FOUR_0, 0x3fa);
        assert_eq!(misaligned.met_by_port(Port(0x3f8), Width::One), 1, "the length aligns the address");
        let wide = at(LOCAL_0 | ACCESSES_0, 0x1010);
        assert_eq!(wide.met_by_data(Gva::new(0x1000), 32, Access::Read), 1);
        assert_eq!(wide.met_by_data(Gva::new(0x1011), 32, Access::Read), 0);
    }

    #[test]
    fn only_enabled_breakpoints_on_ports_count_for_ports() {
        let all = |dr7| Breakpoints::new(dr7, [0x80; 4]).met_by_port(Port(0x80), Width::One);
        assert_eq!(all(PORTS_0), 0);
        assert_eq!(all(LOCAL_0), 0, "on execution");
        assert_eq!(all(LOCAL_0 | ACCESSES_0), 0, "on data");
        assert_eq!(all(1 << 7 | 0b10 << 28 | LOCAL_0 | PORTS_0), 0b1001);
    }

    #[test]
    fn reads_meet_breakpoints_on_reads_alone() {
        let met = |dr7, access| at(LOCAL_0 | FOUR_0 | dr7, 0x1000).met_by_data(Gva::new(0x1002), 1, access);
        assert_eq!((met(WRITES_0, Access::Read), met(WRITES_0, Access::Write)), (0, 1));
        assert_eq!((met(ACCESSES_0, Access::Read), met(ACCESSES_0, Access::Write)), (1, 1));
        assert_eq!((met(PORTS_0, Access::Read), met(0, Access::Write)), (0, 0));
    }
}
