//! Reads instruction bytes through CS and the guest's page tables.

use crate::context::{Context, Mode};
use crate::segmentation::linear;
use crate::{Access, Cpu, MAX_INSTRUCTION_LENGTH};
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

/// Where the instruction pointer leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Site {
    gpa: Gpa,
    /// Bytes from there to the end of the page or of the segment: at least one.
    reach: u64,
}

/// Checks and translates the first byte at `ip` in CS.
#[inline]
fn locate<C: Cpu, M: GuestMemory + ?Sized>(
    cpu: &C,
    memory: &M,
    context: &Context,
    ip: u64,
) -> Result<Site, Exception> {
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
    Ok(Site { gpa, reach })
}

/// Fetches bytes at `ip` in CS into `into`, as many as lie on one page and within the limit, and returns how
/// many: at least one, unless `into` is empty. What is on the next page is not touched, since an instruction
/// that ends before it must not fault there.
pub(crate) fn fetch_piece<C: Cpu, M: GuestMemory + ?Sized>(
    cpu: &C,
    memory: &M,
    context: &Context,
    ip: u64,
    into: &mut [u8],
) -> Result<usize, FetchError> {
    let site = locate(cpu, memory, context, ip)?;
    let length = usize::try_from(site.reach).unwrap_or(usize::MAX).min(into.len());
    let piece = into.get_mut(..length).unwrap_or_default();
    match memory.read(site.gpa, piece) {
        Ok(()) => Ok(length),
        Err(_) => Err(FetchError::OutsideRam(site.gpa)),
    }
}

/// The bytes at `ip` in CS that [`LeadingBytes`] holds, if the page and the segment reach that far; `None` also
/// when they cannot be fetched.
#[inline]
pub(crate) fn fetch_leading<C: Cpu, M: GuestMemory + ?Sized>(
    cpu: &C,
    memory: &M,
    context: &Context,
    ip: u64,
) -> Option<LeadingBytes> {
    let site = locate(cpu, memory, context, ip).ok()?;
    if site.reach < LeadingBytes::LENGTH {
        return None;
    }
    memory.read_u64(site.gpa).ok().map(LeadingBytes)
}

/// The first eight bytes of an instruction and what follows it: few instructions are longer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LeadingBytes(u64);

impl LeadingBytes {
    /// How many bytes they are.
    pub(crate) const LENGTH: u64 = 8;

    /// The first of `bytes`.
    pub(crate) const fn of(bytes: &[u8; MAX_INSTRUCTION_LENGTH]) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = *bytes;
        Self(u64::from_le_bytes([a, b, c, d, e, f, g, h]))
    }

    /// Whether the first `length` bytes, one to eight, are the same.
    #[inline]
    pub(crate) const fn begin_alike(self, other: Self, length: u8) -> bool {
        let unused_bits = 64_u32.saturating_sub(8 * length as u32);
        // The first byte is the lowest.
        (self.0 ^ other.0).unbounded_shl(unused_bits) == 0
    }
}
