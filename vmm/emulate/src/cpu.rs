//! What the emulator needs of its caller: the stopped processor's registers, and the devices.

use arch::{
    Cr0Flags, Cr4Flags, EferFlags, Gpa, Gpr, Port, RFlags, Segment, SegmentRegister, VectorRegister,
    VectorValue, Width, XCr0Flags,
};

/// What the guest's CPUID says of paging; it decides which page-table bits are reserved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PagingFeatures {
    /// MAXPHYADDR: the width of a guest-physical address in bits. Values outside 32 to 52 are clamped.
    pub physical_address_bits: u8,
    /// Whether 1-GiB pages exist.
    pub gib_pages: bool,
}

/// The registers of a stopped processor, as the guest sees them.
pub trait Cpu {
    /// All 64 bits of a general-purpose register, RSP included.
    fn gpr(&self, register: Gpr) -> u64;

    /// Sets all 64 bits of a general-purpose register, RSP included.
    fn set_gpr(&mut self, register: Gpr, value: u64);

    /// RIP. The emulator never sets it: the caller does, from [`crate::Emulated::Done`].
    fn rip(&self) -> u64;

    /// RFLAGS.
    fn rflags(&self) -> RFlags;

    /// Sets RFLAGS.
    fn set_rflags(&mut self, flags: RFlags);

    /// A segment register with its hidden part.
    fn segment(&self, register: SegmentRegister) -> Segment;

    /// The access rights of a segment register alone, laid out as in [`Segment::access_rights`].
    fn access_rights(&self, register: SegmentRegister) -> u32 {
        self.segment(register).access_rights
    }

    /// CR0 as the guest sees it.
    fn cr0(&self) -> Cr0Flags;

    /// CR3.
    fn cr3(&self) -> u64;

    /// CR4 as the guest sees it.
    fn cr4(&self) -> Cr4Flags;

    /// IA32_EFER.
    fn efer(&self) -> EferFlags;

    /// CR0, CR4 and IA32_EFER as far as they decide over modes and paging: where one of those bits changes, so does this.
    fn paging_registers(&self) -> [u64; 3] {
        [self.cr0().bits(), self.cr4().bits(), self.efer().bits()]
    }

    /// The current privilege level, 0 to 3. SDM Vol. 3C, "Guest Register State": it is the DPL of SS, in every
    /// mode.
    fn cpl(&self) -> u8 {
        // The mask leaves two bits.
        ((self.access_rights(SegmentRegister::Ss) >> 5) & 3).to_le_bytes()[0]
    }

    /// What the guest's CPUID says of paging: the same at all times.
    fn paging_features(&self) -> PagingFeatures;

    /// The PDPTE registers of PAE paging, or `None` to have the entries read from memory instead. Asked for
    /// only under PAE paging.
    fn pdptes(&self) -> Option<[u64; 4]> {
        None
    }

    /// XCR0. Asked for only by instructions that need CR4.OSXSAVE, with that set.
    fn xcr0(&self) -> XCr0Flags;

    /// A vector register.
    fn vector(&self, register: VectorRegister) -> VectorValue;

    /// Sets a vector register. Parts that the processor does not have are ignored.
    fn set_vector(&mut self, register: VectorRegister, value: &VectorValue);

    /// DR7.
    fn dr7(&self) -> u64;

    /// DR0 to DR3. Asked for only while DR7 enables one of them.
    fn breakpoints(&self) -> [u64; 4];

    /// The instruction, or the iteration of it that was just done, met these breakpoints, a bit each from bit 0 on: it
    /// is to end in a debug exception behind it.
    fn meet_breakpoints(&mut self, met: u64);

    /// PKRU. Asked for only with CR4.PKE set, so a caller whose guests have no protection keys leaves it alone.
    fn pkru(&self) -> u32 {
        0
    }
}

/// Device memory: everything guest-physical that is not RAM.
pub trait Mmio {
    /// A read of `width` at `gpa`, which need not be aligned and does not cross a page. Holes read all ones.
    fn mmio_read(&mut self, gpa: Gpa, width: Width) -> u64;

    /// A write of `width` at `gpa`, which need not be aligned and does not cross a page. Holes ignore it.
    fn mmio_write(&mut self, gpa: Gpa, width: Width, value: u64);
}

/// The I/O ports.
pub trait Ports {
    /// A read of one, two or four bytes at `port`. Ports without a device read all ones.
    fn port_read(&mut self, port: Port, width: Width) -> u32;

    /// A write of one, two or four bytes at `port`. Ports without a device ignore it.
    fn port_write(&mut self, port: Port, width: Width, value: u32);
}
