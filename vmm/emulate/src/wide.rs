//! Memory operands of 16 bytes and more.
//!
//! Checked and translated whole, like narrow ones, then moved in parts of at most eight bytes, which is how a device
//! sees them.

use crate::access::{Machine, Spot, widest};
use crate::instruction::{Alignment, Instruction};
use crate::operand::effective_address;
use crate::segmentation::linear;
use crate::{Access, Cpu, Mmio};
use arch::Exception;
use memory::GuestMemory;

/// Where a translated access lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WideSpan {
    spot: Spot,
    /// For an access across two pages: the bytes on the first, and where the rest is.
    split: Option<(u64, Spot)>,
}

impl WideSpan {
    /// Where the byte at `done` is, and how many bytes follow on its page of `left` that are wanted.
    fn at(&self, done: u64, left: u64) -> (Spot, u64) {
        match self.split {
            Some((first, second)) if done >= first => (second.plus(done - first), left),
            Some((first, _)) => (self.spot.plus(done), left.min(first - done)),
            None => (self.spot.plus(done), left),
        }
    }
}

impl<C: Cpu, M: GuestMemory + ?Sized, D: Mmio> Machine<'_, C, M, D> {
    /// Resolves the memory operand of `instruction`, `length` bytes long, for `access`.
    ///
    /// # Errors
    /// #GP, #SS, #PF or #AC, as the processor gives it.
    pub(crate) fn wide_operand(
        &mut self,
        instruction: &Instruction,
        length: u64,
        access: Access,
        alignment: Alignment,
    ) -> Result<WideSpan, Exception> {
        let offset = effective_address(self.cpu, &instruction.memory, instruction.address_size);
        let gva = linear(self.cpu, self.context, instruction.memory.segment, offset, length, access)?;
        if !gva.is_aligned(length) {
            match alignment {
                Alignment::Required => return Err(Exception::GeneralProtection(0)),
                // SDM Vol. 3A, "Alignment Check Exception (#AC)": whether moves of 16 bytes and more that may be
                // unaligned are checked is the processor's choice. Here they are not.
                Alignment::Any if self.context.checks_alignment && length <= 8 => {
                    return Err(Exception::AlignmentCheck);
                }
                Alignment::Any => {}
            }
        }
        let spot = self.translate(gva, access)?;
        let split = self.translate_rest(gva, length, access)?;
        self.watch_data(gva, length, access);
        Ok(WideSpan { spot, split })
    }

    /// Reads a translated access, all of it, into `into`.
    pub(crate) fn load_wide(&mut self, span: WideSpan, into: &mut [u8]) {
        let mut done = 0;
        while let Some((spot, width)) = part(&span, done, into.len() as u64) {
            let value = self.load_piece(spot, width).to_le_bytes();
            for (byte, value) in into.iter_mut().skip(done).zip(value).take(usize::from(width as u8)) {
                *byte = value;
            }
            done += usize::from(width as u8);
        }
    }

    /// Writes `from` to a translated access.
    pub(crate) fn store_wide(&mut self, span: WideSpan, from: &[u8]) {
        let mut done = 0;
        while let Some((spot, width)) = part(&span, done, from.len() as u64) {
            let mut value = [0; 8];
            for (byte, from) in value.iter_mut().zip(from.iter().skip(done)).take(usize::from(width as u8)) {
                *byte = *from;
            }
            self.store_piece(spot, width, u64::from_le_bytes(value));
            done += usize::from(width as u8);
        }
    }
}

/// The next part of an access of `length` bytes, of which `done` are done; `None` at its end.
fn part(span: &WideSpan, done: usize, length: u64) -> Option<(Spot, arch::Width)> {
    let done = done as u64;
    let (spot, left) = span.at(done, length.saturating_sub(done));
    widest(left).map(|width| (spot, width))
}
