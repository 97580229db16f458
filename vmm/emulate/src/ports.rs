//! Whether an instruction may use a port.
//!
//! SDM Vol. 1, "Protected-Mode I/O", "I/O Permission Bit Map".

use crate::access::Machine;
use crate::context::Mode;
use crate::{Cpu, Mmio};
use arch::{Exception, Gva, Port, SegmentRegister, Width};
use memory::GuestMemory;

impl<C: Cpu, M: GuestMemory + ?Sized, D: Mmio> Machine<'_, C, M, D> {
    /// Checks I/O privilege, then the permission bitmap in the TSS.
    ///
    /// # Errors
    /// #GP(0) when the port is denied, #PF when the TSS is not mapped.
    pub(crate) fn check_port(&mut self, port: Port, width: Width) -> Result<(), Exception> {
        let iopl = (self.context.rflags.bits() >> 12) & 3;
        let by_bitmap = match self.context.mode {
            Mode::Real => false,
            Mode::Virtual8086 => true,
            Mode::Protected | Mode::Long => u64::from(self.context.cpl) > iopl,
        };
        if by_bitmap { self.check_port_bitmap(port, width) } else { Ok(()) }
    }

    fn check_port_bitmap(&mut self, port: Port, width: Width) -> Result<(), Exception> {
        /// Where a TSS keeps the offset of its bitmap.
        const BITMAP_OFFSET: u64 = 0x66;
        const DENIED: Exception = Exception::GeneralProtection(0);
        let tss = self.cpu.segment(SegmentRegister::Tr);
        let limit = u64::from(tss.limit);
        // Types 9 and 11: a 32-bit or 64-bit TSS. A 16-bit one has no bitmap.
        let has_bitmap = matches!(tss.access_rights & 0x1f, 9 | 11);
        if tss.is_unusable() || !has_bitmap || limit < BITMAP_OFFSET + 1 {
            return Err(DENIED);
        }
        let bitmap = self.load_system(Gva::new(tss.base.wrapping_add(BITMAP_OFFSET)), Width::Two)?;
        let offset = bitmap + u64::from(port.0 / 8);
        // Two bytes are read even where the ports' bits lie in one.
        if offset + 1 > limit {
            return Err(DENIED);
        }
        let bits = self.load_system(Gva::new(tss.base.wrapping_add(offset)), Width::Two)?;
        let mask = (1 << width.bytes()) - 1;
        if (bits >> (port.0 % 8)) & mask == 0 { Ok(()) } else { Err(DENIED) }
    }
}
