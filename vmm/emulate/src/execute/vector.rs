//! Moves between memory and vector registers.
//!
//! SDM Vol. 2, "Exception Specification": what must be enabled, in the order in which it is checked.

use crate::access::Machine;
use crate::context::Mode;
use crate::instruction::{Instruction, VectorDirection, VectorEncoding, VectorMove};
use crate::{Access, Cpu, Mmio};
use arch::{Cr0Flags, Cr4Flags, Exception, VectorValue, XCr0Flags};
use memory::GuestMemory;

/// What XCR0 must hold for an instruction with a VEX prefix.
const AVX: XCr0Flags = XCr0Flags::SSE.union(XCr0Flags::AVX);
/// What XCR0 must hold for an instruction with an EVEX prefix.
const AVX512: XCr0Flags = AVX.union(XCr0Flags::OPMASK).union(XCr0Flags::ZMM_HI256).union(XCr0Flags::HI16_ZMM);

impl<C: Cpu, M: GuestMemory + ?Sized, D: Mmio> Machine<'_, C, M, D> {
    pub(super) fn vector(&mut self, instruction: &Instruction, moved: VectorMove) -> Result<(), Exception> {
        self.check_vectors_enabled(moved.encoding)?;
        let first = usize::from(moved.offset);
        let range = first..first + usize::from(moved.length);
        let access = match moved.direction {
            VectorDirection::Load | VectorDirection::Merge { .. } => Access::Read,
            VectorDirection::Store => Access::Write,
        };
        let span = self.wide_operand(instruction, u64::from(moved.length), access, moved.alignment)?;
        let mut value: VectorValue = match (moved.direction, moved.encoding) {
            (VectorDirection::Store, _) => {
                let value = self.cpu.vector(moved.register);
                self.store_wide(span, value.get(range).unwrap_or_default());
                return Ok(());
            }
            (_, VectorEncoding::Legacy) => self.cpu.vector(moved.register),
            (_, VectorEncoding::Vex | VectorEncoding::Evex) => [0; 64],
        };
        match moved.direction {
            VectorDirection::Merge { from, bytes } => {
                let from = self.cpu.vector(from);
                for (byte, from) in value.iter_mut().zip(from).take(usize::from(bytes)) {
                    *byte = from;
                }
            }
            VectorDirection::Load | VectorDirection::Store => {
                // Up to the end of the XMM register; AVX has cleared the rest.
                for byte in value.iter_mut().take(16) {
                    *byte = 0;
                }
            }
        }
        self.load_wide(span, value.get_mut(range).unwrap_or_default());
        self.cpu.set_vector(moved.register, &value);
        Ok(())
    }

    fn check_vectors_enabled(&self, encoding: VectorEncoding) -> Result<(), Exception> {
        let cr0 = self.context.paging.cr0();
        let cr4 = self.context.paging.cr4();
        let enabled = match encoding {
            VectorEncoding::Legacy => {
                !cr0.contains(Cr0Flags::EMULATE_COPROCESSOR) && cr4.contains(Cr4Flags::OSFXSR)
            }
            VectorEncoding::Vex => self.has_components(AVX),
            VectorEncoding::Evex => self.has_components(AVX512),
        };
        if !enabled {
            return Err(Exception::InvalidOpcode);
        }
        if cr0.contains(Cr0Flags::TASK_SWITCHED) { Err(Exception::DeviceNotAvailable) } else { Ok(()) }
    }

    /// Whether a prefix is known in this mode and the operating system saves `components`.
    fn has_components(&self, components: XCr0Flags) -> bool {
        let mode = match self.context.mode {
            Mode::Real | Mode::Virtual8086 => false,
            Mode::Protected | Mode::Long => true,
        };
        mode && self.context.paging.cr4().contains(Cr4Flags::OSXSAVE) && self.cpu.xcr0().contains(components)
    }
}
