//! Memory operands: linear address to guest-physical, then RAM or a device.
//!
//! An access is translated whole before any of it is carried out, so a fault on its second page leaves the first
//! untouched. It is split only where it crosses a page or where a part of it has no width of its own.

use crate::breakpoint::Watch;
use crate::context::{Context, Mode};
use crate::segmentation::linear;
use crate::{Access, Cpu, KnownTranslation, Mmio, Privilege};
use arch::{Exception, Gpa, Gva, PAGE_SIZE, Port, RFlags, SegmentRegister, Width};
use memory::GuestMemory;

/// What answers at a guest-physical address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    /// RAM where there is RAM, else a device.
    Any,
    /// A device, as the hardware has found already.
    Device,
}

/// A translated address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Spot {
    gpa: Gpa,
    target: Target,
}

impl Spot {
    #[inline]
    pub(crate) fn plus(self, bytes: u64) -> Self {
        Self { gpa: self.gpa + bytes, target: self.target }
    }
}

/// Where a translated access lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    spot: Spot,
    width: Width,
    /// For an access across two pages: the bytes on the first, and where the rest is.
    split: Option<(u64, Spot)>,
}

/// A page translation that holds for the instruction at hand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct CachedPage {
    gva: Gva,
    spot: Spot,
}

/// The last pages that the instruction read and wrote: what the processor's TLB would hold meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct PageCache {
    read: Option<CachedPage>,
    write: Option<CachedPage>,
}

/// Everything that an instruction works on.
pub(crate) struct Machine<'a, C, M: ?Sized, D> {
    pub(crate) cpu: &'a mut C,
    pub(crate) memory: &'a M,
    pub(crate) devices: &'a mut D,
    pub(crate) context: &'a Context,
    /// RFLAGS as the instruction has changed them so far.
    pub(crate) rflags: RFlags,
    pages: PageCache,
    /// Only while breakpoints are enabled.
    watch: Option<&'a mut Watch>,
}

impl<'a, C: Cpu, M: GuestMemory + ?Sized, D: Mmio> Machine<'a, C, M, D> {
    #[inline]
    pub(crate) fn new(
        cpu: &'a mut C,
        memory: &'a M,
        devices: &'a mut D,
        context: &'a Context,
        known: Option<KnownTranslation>,
        watch: Option<&'a mut Watch>,
    ) -> Self {
        let mut pages = PageCache::default();
        if let Some(known) = known {
            let page = CachedPage {
                gva: known.gva.align_down(PAGE_SIZE),
                spot: Spot { gpa: known.gpa.align_down(PAGE_SIZE), target: Target::Device },
            };
            match known.access {
                Access::Read => pages.read = Some(page),
                Access::Write => pages.write = Some(page),
                Access::Execute => {}
            }
        }
        Self { cpu, memory, devices, context, rflags: context.rflags, pages, watch }
    }

    /// Checks and translates `width` bytes at `offset` in `segment`.
    ///
    /// # Errors
    /// #GP, #SS, #PF or #AC, as the processor gives it.
    #[inline]
    pub(crate) fn span(
        &mut self,
        segment: SegmentRegister,
        offset: u64,
        width: Width,
        access: Access,
    ) -> Result<Span, Exception> {
        let gva = linear(self.cpu, self.context, segment, offset, width.bytes(), access)?;
        if self.context.checks_alignment && !gva.is_aligned(width.bytes()) {
            return Err(Exception::AlignmentCheck);
        }
        let spot = self.translate(gva, access)?;
        let split = self.translate_rest(gva, width.bytes(), access)?;
        self.watch_data(gva, width.bytes(), access);
        Ok(Span { spot, width, split })
    }

    /// Has an access of `length` bytes at `gva` meet the breakpoints there. It has passed every check.
    #[inline]
    pub(crate) fn watch_data(&mut self, gva: Gva, length: u64, access: Access) {
        if let Some(watch) = &mut self.watch {
            watch.note_data(gva, length, access);
        }
    }

    /// Has an access to a port meet the breakpoints there.
    #[inline]
    pub(crate) fn watch_port(&mut self, port: Port, width: Width) {
        if let Some(watch) = &mut self.watch {
            watch.note_port(port, width);
        }
    }

    /// The breakpoints that were met so far, as bits of DR6.
    #[inline]
    pub(crate) fn met(&self) -> u64 {
        self.watch.as_ref().map_or(0, |watch| watch.met)
    }

    /// Translates what of `length` bytes at `gva` is on a second page: the bytes on the first, and where the rest is.
    #[inline]
    pub(crate) fn translate_rest(
        &mut self,
        gva: Gva,
        length: u64,
        access: Access,
    ) -> Result<Option<(u64, Spot)>, Exception> {
        let on_first_page = PAGE_SIZE - gva.get() % PAGE_SIZE;
        if on_first_page >= length {
            return Ok(None);
        }
        let mut next = gva + on_first_page;
        if self.context.mode != Mode::Long {
            next = Gva::new(next.get() & 0xffff_ffff);
        }
        Ok(Some((on_first_page, self.translate(next, access)?)))
    }

    /// Translates one linear address, by the pages of this instruction if they have it.
    #[inline]
    pub(crate) fn translate(&mut self, gva: Gva, access: Access) -> Result<Spot, Exception> {
        let page = gva.align_down(PAGE_SIZE);
        let offset = gva - page;
        if let Some(known) = self.pages.write
            && known.gva == page
            && access != Access::Execute
        {
            // A page that may be written may be read.
            return Ok(known.spot.plus(offset));
        }
        if let Some(known) = self.pages.read
            && known.gva == page
            && access == Access::Read
        {
            return Ok(known.spot.plus(offset));
        }
        self.translate_by_walk(gva, access)
    }

    /// Translates one linear address by the guest's page tables, and keeps its page for this instruction.
    fn translate_by_walk(&mut self, gva: Gva, access: Access) -> Result<Spot, Exception> {
        let gpa = self.context.paging.walk(self.memory, gva, access, self.context.privilege())?;
        let page = Spot { gpa: gpa.align_down(PAGE_SIZE), target: Target::Any };
        let walked = Some(CachedPage { gva: gva.align_down(PAGE_SIZE), spot: page });
        match access {
            Access::Read => self.pages.read = walked,
            Access::Write => self.pages.write = walked,
            Access::Execute => {}
        }
        Ok(Spot { gpa, target: Target::Any })
    }

    /// Reads a translated access.
    #[inline]
    pub(crate) fn load(&mut self, span: Span) -> u64 {
        match span.split {
            None => self.load_piece(span.spot, span.width),
            Some((first, second)) => {
                let low = self.load_bytes(span.spot, first);
                low | (self.load_bytes(second, span.width.bytes() - first) << (8 * first))
            }
        }
    }

    /// Writes a translated access; bits of `value` past its width are ignored.
    #[inline]
    pub(crate) fn store(&mut self, span: Span, value: u64) {
        match span.split {
            None => self.store_piece(span.spot, span.width, value),
            Some((first, second)) => {
                self.store_bytes(span.spot, first, value);
                self.store_bytes(second, span.width.bytes() - first, value >> (8 * first));
            }
        }
    }

    /// Reads fewer than eight bytes that lie on one page.
    #[cold]
    fn load_bytes(&mut self, spot: Spot, length: u64) -> u64 {
        let mut value = 0;
        let mut done = 0;
        while let Some(width) = widest(length.saturating_sub(done)) {
            value |= self.load_piece(spot.plus(done), width) << (8 * done);
            done += width.bytes();
        }
        value
    }

    /// Writes fewer than eight bytes that lie on one page.
    #[cold]
    fn store_bytes(&mut self, spot: Spot, length: u64, value: u64) {
        let mut done = 0;
        while let Some(width) = widest(length.saturating_sub(done)) {
            self.store_piece(spot.plus(done), width, value >> (8 * done));
            done += width.bytes();
        }
    }

    #[inline]
    pub(crate) fn load_piece(&mut self, spot: Spot, width: Width) -> u64 {
        let ram = match spot.target {
            Target::Any => load_ram(self.memory, spot.gpa, width),
            Target::Device => None,
        };
        match ram {
            Some(value) => value,
            None => self.devices.mmio_read(spot.gpa, width) & width.mask(),
        }
    }

    #[inline]
    pub(crate) fn store_piece(&mut self, spot: Spot, width: Width, value: u64) {
        let stored = match spot.target {
            Target::Any => store_ram(self.memory, spot.gpa, width, value),
            Target::Device => false,
        };
        if !stored {
            self.devices.mmio_write(spot.gpa, width, value & width.mask());
        }
    }

    /// Reads `width` bytes of a system structure at linear address `gva`, with supervisor rights.
    ///
    /// # Errors
    /// #PF.
    pub(crate) fn load_system(&mut self, gva: Gva, width: Width) -> Result<u64, Exception> {
        let mut value = 0;
        for index in 0..width.bytes() {
            let gpa =
                self.context.paging.walk(self.memory, gva + index, Access::Read, Privilege::Implicit)?;
            value |= self.load_piece(Spot { gpa, target: Target::Any }, Width::One) << (8 * index);
        }
        Ok(value)
    }
}

/// The widest access of at most `length` bytes; `None` for none.
pub(crate) const fn widest(length: u64) -> Option<Width> {
    match length {
        0 => None,
        1 => Some(Width::One),
        2 | 3 => Some(Width::Two),
        4..=7 => Some(Width::Four),
        _ => Some(Width::Eight),
    }
}

/// Reads `width` bytes of RAM, or `None` where there is none.
fn load_ram<M: GuestMemory + ?Sized>(memory: &M, gpa: Gpa, width: Width) -> Option<u64> {
    match width {
        Width::One => {
            let mut bytes = [0; 1];
            memory.read(gpa, &mut bytes).ok()?;
            Some(u64::from(bytes[0]))
        }
        Width::Two => {
            let mut bytes = [0; 2];
            memory.read(gpa, &mut bytes).ok()?;
            Some(u64::from(u16::from_le_bytes(bytes)))
        }
        Width::Four => memory.read_u32(gpa).ok().map(u64::from),
        Width::Eight => memory.read_u64(gpa).ok(),
    }
}

/// Writes `width` bytes of RAM; `false` where there is none.
fn store_ram<M: GuestMemory + ?Sized>(memory: &M, gpa: Gpa, width: Width, value: u64) -> bool {
    let bytes = value.to_le_bytes();
    let piece = match width {
        Width::One => bytes.get(..1),
        Width::Two => bytes.get(..2),
        Width::Four => bytes.get(..4),
        Width::Eight => bytes.get(..),
    };
    piece.is_some_and(|piece| memory.write(gpa, piece).is_ok())
}
