//! Reads instruction bytes through CS and the guest's page tables.

use crate::context::{Context, Mode};
use crate::segmentation::linear;
use crate::{Access, Cpu};
use arch::{Exception, Gpa, PAGE_SIZE, SegmentRegister};
use memory::GuestMemory;

/// Why bytes could not be fetched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FetchError {
    /// The guest's own mistake.
    Fault(Exception),
    /// The code is not in RAM.
    OutsideRam(Gpa),
}

impl From<Exception> for FetchError {
    fn from(exception: Exception) -> Self {
        Self::Fault(exception)
    }
}

/// Fetches bytes at `ip` in CS into `into`, as many as lie on one page and within the limit, and returns how
/// many: at least one, unless `into` is empty. What is on the next page is not touched, since an instruction
/// that ends before it must not fault there.
#[inline]
pub(crate) fn fetch_piece<C: Cpu, M: GuestMemory + ?Sized>(
    cpu: &C,
    memory: &M,
    context: &Context,
    ip: u64,
    into: &mut [u8],
) -> Result<usize, FetchError> {
    let ip = ip & context.code_size.ip_mask();
    let gva = linear(cpu, context, SegmentRegister::Cs, ip, 1, Access::Execute)?;
    let mut reach = PAGE_SIZE - gva.get() % PAGE_SIZE;
    match context.mode {
        Mode::Long => {}
        Mode::Real | Mode::Virtual8086 | Mode::Protected => {
            let limit = u64::from(cpu.segment(SegmentRegister::Cs).limit);
            reach = reach.min(limit.saturating_sub(ip).saturating_add(1));
        }
    }
    let gpa = context.paging.walk(memory, gva, Access::Execute, context.privilege())?;
    let length = usize::try_from(reach).unwrap_or(usize::MAX).min(into.len());
    let piece = into.get_mut(..length).unwrap_or_default();
    match memory.read(gpa, piece) {
        Ok(()) => Ok(length),
        Err(_) => Err(FetchError::OutsideRam(gpa)),
    }
}
