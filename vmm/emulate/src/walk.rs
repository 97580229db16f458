//! The walk of the guest's own page tables, from a linear to a guest-physical address.
//!
//! SDM Vol. 3A, "Paging": "32-Bit Paging", "PAE Paging", "4-Level Paging and 5-Level Paging", "Access Rights",
//! "Page-Fault Exceptions", "Accessed and Dirty Flags".
//!
//! A page table outside of RAM reads as all ones, as an open bus does. Shadow stacks (CR4.CET), supervisor
//! protection keys (CR4.PKS) and linear-address masking are not modelled: guests are not offered them.

mod entry;
mod rights;

#[cfg(test)]
mod tests;

use crate::{Cpu, PagingFeatures};
use arch::{Cr0Flags, Cr4Flags, EferFlags, Exception, Gpa, Gva, RFlags};
use entry::{Entry, EntrySize, Marked, Trail};
use memory::GuestMemory;
use rights::Rights;

pub(crate) use entry::{MAX_DEPTH, Path};

/// The bits of CR3 that say where the first table of 4-level and 5-level paging is.
pub(crate) const LONG_ROOT: u64 = 0x000f_ffff_ffff_f000;

/// How often a walk begins anew because the guest changes the entries under it.
const MARK_ATTEMPTS: u32 = 8;

/// What an access does with memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Data read.
    Read,
    /// Data write, or a read that the same instruction writes back.
    Write,
    /// Instruction fetch.
    Execute,
}

/// Whose access it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Privilege {
    /// By an instruction at CPL 3.
    User,
    /// By an instruction at CPL 0, 1 or 2.
    Supervisor,
    /// By the processor itself, to a system structure such as the TSS: a supervisor access that RFLAGS.AC does
    /// not exempt from SMAP.
    Implicit,
}

/// How linear addresses are translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// CR0.PG is clear.
    Off,
    /// Two levels of 32-bit entries.
    Legacy,
    /// Three levels of 64-bit entries, the first of them in registers.
    Pae,
    FourLevel,
    FiveLevel,
}

/// The registers that decide how a linear address is translated, read once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Paging {
    mode: Mode,
    cr0: Cr0Flags,
    cr3: u64,
    cr4: Cr4Flags,
    efer: EferFlags,
    /// RFLAGS.AC: explicit supervisor accesses pass SMAP.
    alignment_check: bool,
    pkru: u32,
    pdptes: Option<[u64; 4]>,
    features: PagingFeatures,
}

impl Paging {
    /// The paging of `cpu` as it is now.
    #[inline]
    pub fn of(cpu: &impl Cpu) -> Self {
        Self::with_rflags(cpu, cpu.rflags())
    }

    /// The paging of `cpu`, whose RFLAGS the caller has read already.
    #[inline]
    pub(crate) fn with_rflags(cpu: &impl Cpu, rflags: RFlags) -> Self {
        let (cr0, cr4, efer) = (cpu.cr0(), cpu.cr4(), cpu.efer());
        let mode = if !cr0.contains(Cr0Flags::PAGING) {
            Mode::Off
        } else if efer.contains(EferFlags::LONG_MODE_ACTIVE) {
            if cr4.contains(Cr4Flags::L5_PAGING) { Mode::FiveLevel } else { Mode::FourLevel }
        } else if cr4.contains(Cr4Flags::PHYSICAL_ADDRESS_EXTENSION) {
            Mode::Pae
        } else {
            Mode::Legacy
        };
        let features = cpu.paging_features();
        Self {
            mode,
            cr0,
            cr3: cpu.cr3(),
            cr4,
            efer,
            alignment_check: rflags.contains(RFlags::ALIGNMENT_CHECK),
            pkru: if cr4.contains(Cr4Flags::PROTECTION_KEY_USER) { cpu.pkru() } else { 0 },
            pdptes: if mode == Mode::Pae { cpu.pdptes() } else { None },
            features: PagingFeatures {
                physical_address_bits: features.physical_address_bits.clamp(32, 52),
                gib_pages: features.gib_pages,
            },
        }
    }

    /// CR0 as it was read.
    #[inline]
    pub(crate) const fn cr0(&self) -> Cr0Flags {
        self.cr0
    }

    /// CR4 as it was read.
    pub(crate) const fn cr4(&self) -> Cr4Flags {
        self.cr4
    }

    /// IA32_EFER as it was read.
    #[inline]
    pub(crate) const fn efer(&self) -> EferFlags {
        self.efer
    }

    /// How many low bits of a linear address are significant; the others repeat the highest of them.
    pub(crate) const fn linear_address_bits(&self) -> u32 {
        match self.mode {
            Mode::Off | Mode::Legacy | Mode::Pae => 32,
            Mode::FourLevel => 48,
            Mode::FiveLevel => 57,
        }
    }

    /// Translates `gva` for `access`, and sets the accessed and dirty flags on the way as the processor would.
    ///
    /// The flags are set atomically: a change that another processor of the guest makes to an entry at the same time
    /// is never undone, and the walk begins anew. The address is taken as canonical; segmentation has checked that.
    ///
    /// # Errors
    /// [`Exception::PageFault`] with the exact error code.
    #[inline]
    pub fn walk<M: GuestMemory + ?Sized>(
        &self,
        memory: &M,
        gva: Gva,
        access: Access,
        privilege: Privilege,
    ) -> Result<Gpa, Exception> {
        let walk = Walk { paging: self, memory, gva, access, privilege };
        let found = walk.tables(&mut ())?;
        if found.marked { Ok(found.gpa) } else { walk.and_mark() }
    }

    /// The entries that a walk for `access` goes by, and what it finds; `None` if it faults, or if a flag is still to be
    /// set on the way.
    pub(crate) fn path<M: GuestMemory + ?Sized>(
        &self,
        memory: &M,
        gva: Gva,
        access: Access,
        privilege: Privilege,
    ) -> Option<(Path, Gpa)> {
        let mut path = Path::new();
        let found = Walk { paging: self, memory, gva, access, privilege }.tables(&mut path).ok()?;
        found.marked.then_some((path, found.gpa))
    }

    /// The bits that are reserved in every present 64-bit entry.
    #[inline]
    fn reserved(&self) -> u64 {
        let top = match self.mode {
            // In PAE paging the bits that long mode ignores are reserved too.
            Mode::Off | Mode::Legacy | Mode::Pae => 63,
            Mode::FourLevel | Mode::FiveLevel => 52,
        };
        let beyond = ((1_u64 << top) - 1) & !((1_u64 << self.features.physical_address_bits) - 1);
        if self.efer.contains(EferFlags::NO_EXECUTE_ENABLE) { beyond } else { beyond | Entry::NO_EXECUTE }
    }
}

/// One translation under way.
struct Walk<'a, M: ?Sized> {
    paging: &'a Paging,
    memory: &'a M,
    gva: Gva,
    access: Access,
    privilege: Privilege,
}

/// Where a walk ended.
struct Found {
    gpa: Gpa,
    /// Whether every flag that the access sets is set already.
    marked: bool,
}

impl<M: GuestMemory + ?Sized> Walk<'_, M> {
    #[inline]
    fn tables<T: Trail>(&self, trail: &mut T) -> Result<Found, Exception> {
        let long_root = Gpa::new(self.paging.cr3 & LONG_ROOT);
        let (levels, root) = match self.paging.mode {
            Mode::FourLevel => (4, long_root),
            Mode::FiveLevel => (5, long_root),
            Mode::Pae => (2, self.pae_root()?),
            Mode::Legacy => return self.legacy(trail),
            Mode::Off => return Ok(Found { gpa: Gpa::new(self.gva.get() & 0xffff_ffff), marked: true }),
        };
        self.wide(levels, root, trail)
    }

    /// Walks again and sets the flags of the entries that it goes by now. Seldom: flags stay set.
    #[cold]
    fn and_mark(&self) -> Result<Gpa, Exception> {
        let size = if self.paging.mode == Mode::Legacy { EntrySize::Four } else { EntrySize::Eight };
        let mut attempts = 1;
        loop {
            let mut path = Path::new();
            let found = self.tables(&mut path)?;
            match path.mark(self.memory, size, self.access == Access::Write) {
                Marked::All => return Ok(found.gpa),
                // Entries that never hold still end as if the last change had come after the flags were set.
                Marked::Changed if attempts == MARK_ATTEMPTS => return Ok(found.gpa),
                Marked::Changed => attempts += 1,
            }
        }
    }

    /// 32-bit paging: a directory and a table, or a 4-MiB page.
    fn legacy<T: Trail>(&self, trail: &mut T) -> Result<Found, Exception> {
        let linear = self.gva.get() & 0xffff_ffff;
        let mut rights = Rights::full();

        let at = Gpa::new((self.paging.cr3 & 0xffff_f000) | ((linear >> 22) << 2));
        let directory = self.read_narrow(at)?;
        trail.push(at, directory);
        rights.add(directory);
        if directory.is_large() && self.paging.cr4.contains(Cr4Flags::PAGE_SIZE_EXTENSION) {
            // Bits 20:13 are bits 39:32 of the address (PSE-36), as far as the processor has them.
            let width = u32::from(self.paging.features.physical_address_bits.min(40)) - 32;
            let high = (directory.0 >> 13) & ((1 << width) - 1);
            if directory.0 & 0x003f_e000 != high << 13 {
                return Err(self.fault(rights::PRESENT | rights::RESERVED));
            }
            let gpa = Gpa::new((high << 32) | (directory.0 & 0xffc0_0000) | (linear & 0x003f_ffff));
            return self.finish(gpa, rights, directory);
        }

        let at = Gpa::new((directory.0 & 0xffff_f000) | (((linear >> 12) & 0x3ff) << 2));
        let page = self.read_narrow(at)?;
        trail.push(at, page);
        rights.add(page);
        self.finish(Gpa::new((page.0 & 0xffff_f000) | (linear & 0xfff)), rights, page)
    }

    /// The table that the top level of PAE paging leads to. That level gives no rights and has no accessed flag.
    fn pae_root(&self) -> Result<Gpa, Exception> {
        // SDM Vol. 3A, "PDPTE Registers": bits 2:1 and 8:5 are reserved.
        const RESERVED_IN_PDPTE: u64 = 0x1e6;
        let index = (self.gva.get() >> 30) & 3;
        let pointer = match self.paging.pdptes {
            Some([first, second, third, fourth]) => Entry(match index {
                0 => first,
                1 => second,
                2 => third,
                _ => fourth,
            }),
            None => Entry::read(self.memory, Gpa::new((self.paging.cr3 & 0xffff_ffe0) + index * 8)),
        };
        if !pointer.is_present() {
            return Err(self.fault(0));
        }
        if pointer.0 & (self.paging.reserved() | Entry::NO_EXECUTE | RESERVED_IN_PDPTE) != 0 {
            return Err(self.fault(rights::PRESENT | rights::RESERVED));
        }
        Ok(pointer.frame())
    }

    /// `levels` levels of 64-bit entries from the table at `table`.
    #[inline]
    fn wide<T: Trail>(&self, levels: u32, mut table: Gpa, trail: &mut T) -> Result<Found, Exception> {
        let reserved = self.paging.reserved();
        let linear = self.gva.get();
        let mut rights = Rights::full();
        // The lowest bit of the address that the level does not translate.
        let mut shift = 12 + 9 * (levels - 1);
        loop {
            let at = table + (((linear >> shift) & 0x1ff) << 3);
            let entry = Entry::read(self.memory, at);
            if !entry.is_present() {
                return Err(self.fault(0));
            }
            let is_leaf = shift == 12 || entry.is_large();
            let forbidden = if is_leaf { reserved | self.reserved_in_leaf(shift) } else { reserved };
            if entry.0 & forbidden != 0 {
                return Err(self.fault(rights::PRESENT | rights::RESERVED));
            }
            trail.push(at, entry);
            rights.add(entry);
            if is_leaf {
                let offset = (1_u64 << shift) - 1;
                let gpa = Gpa::new((entry.frame().get() & !offset) | (linear & offset));
                return self.finish(gpa, rights, entry);
            }
            table = entry.frame();
            shift -= 9;
        }
    }

    /// The bits that are reserved in a leaf at this level besides those of every entry.
    #[inline]
    fn reserved_in_leaf(&self, shift: u32) -> u64 {
        match shift {
            12 => 0,
            // Bit 12 of a large page's entry is PAT; the rest of the offset is reserved.
            21 => 0x001f_e000,
            30 if self.paging.features.gib_pages => 0x3fff_e000,
            _ => Entry::LARGE,
        }
    }

    /// A present entry of 32-bit paging.
    fn read_narrow(&self, at: Gpa) -> Result<Entry, Exception> {
        let entry = Entry::read_narrow(self.memory, at);
        if entry.is_present() { Ok(entry) } else { Err(self.fault(0)) }
    }

    /// Checks the rights that the whole path grants.
    #[inline]
    fn finish(&self, gpa: Gpa, rights: Rights, leaf: Entry) -> Result<Found, Exception> {
        let denied = rights.denied(self.paging, leaf, self.access, self.privilege);
        if denied != 0 {
            return Err(self.fault(denied));
        }
        let marked = rights.all_accessed() && (self.access != Access::Write || leaf.is_dirty());
        Ok(Found { gpa, marked })
    }

    /// The page fault for this access; `cause` holds the P, RSVD and PK bits of the error code.
    #[cold]
    fn fault(&self, cause: u32) -> Exception {
        let fetch_is_told = self.paging.cr4.contains(Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION)
            || (self.paging.cr4.contains(Cr4Flags::PHYSICAL_ADDRESS_EXTENSION)
                && self.paging.efer.contains(EferFlags::NO_EXECUTE_ENABLE));
        let access = match self.access {
            Access::Read => 0,
            Access::Write => rights::WRITE,
            Access::Execute if fetch_is_told => rights::FETCH,
            Access::Execute => 0,
        };
        let user = match self.privilege {
            Privilege::User => rights::USER,
            Privilege::Supervisor | Privilege::Implicit => 0,
        };
        let address = match self.paging.mode {
            Mode::Off | Mode::Legacy | Mode::Pae => self.gva.get() & 0xffff_ffff,
            Mode::FourLevel | Mode::FiveLevel => self.gva.get(),
        };
        Exception::PageFault { error_code: cause | access | user, address }
    }
}
