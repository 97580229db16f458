//! A processor's architectural state as plain data: registers, the event on its way, extended state.
//!
//! SDM Vol. 3C, "Guest-State Area" and "VM-Entry Controls for Event Injection"; SDM Vol. 1, "Standard Format of
//! XSAVE Area".

use crate::Interruptibility;
use alloc::boxed::Box;
use arch::{
    Cr0Flags, Cr4Flags, EferFlags, Gprs, Msr, RFlags, Segment, SegmentRegister, TableRegister, Vector,
};

/// The registers that a processor starts or goes on from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CpuState {
    /// The general-purpose registers; RSP's slot holds the guest's RSP here.
    pub gprs: Gprs,
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: RFlags,
    /// CR0 as the guest sees it.
    pub cr0: Cr0Flags,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4 as the guest sees it.
    pub cr4: Cr4Flags,
    /// IA32_EFER.
    pub efer: EferFlags,
    /// The four page-directory-pointer entries that PAE paging holds in the processor.
    pub pdptes: [u64; 4],
    /// ES, CS, SS, DS, FS, GS, LDTR, TR, in the order of [`arch::SegmentRegister::ALL`].
    pub segments: [Segment; 8],
    /// GDTR.
    pub gdtr: TableRegister,
    /// IDTR.
    pub idtr: TableRegister,
    /// DR0 to DR3.
    pub breakpoints: [u64; 4],
    /// DR6.
    pub dr6: u64,
    /// DR7.
    pub dr7: u64,
    /// Traps of the last instruction that are still to be taken, as bits of DR6 (SDM Vol. 3C, "Guest Non-Register
    /// State").
    pub pending_debug: u64,
    /// IA32_PAT.
    pub pat: u64,
    /// IA32_SYSENTER_CS.
    pub sysenter_cs: u32,
    /// IA32_SYSENTER_ESP.
    pub sysenter_esp: u64,
    /// IA32_SYSENTER_EIP.
    pub sysenter_eip: u64,
    /// IA32_STAR.
    pub star: u64,
    /// IA32_LSTAR.
    pub lstar: u64,
    /// IA32_CSTAR.
    pub cstar: u64,
    /// IA32_FMASK; its upper half is reserved.
    pub fmask: u32,
    /// IA32_KERNEL_GS_BASE.
    pub kernel_gs_base: u64,
    /// IA32_TSC_AUX; its upper half is reserved. 0 where the guest has none.
    pub tsc_aux: u32,
    /// Event blocking.
    pub interruptibility: Interruptibility,
}

impl CpuState {
    /// The state after reset (SDM Vol. 3A, "Processor State After Reset").
    pub const fn reset() -> Self {
        let data = Segment { selector: 0, base: 0, limit: 0xffff, access_rights: 0x93 };
        let code = Segment { selector: 0xf000, base: 0xffff_0000, limit: 0xffff, access_rights: 0x9b };
        let ldtr = Segment { selector: 0, base: 0, limit: 0xffff, access_rights: 0x82 };
        let tr = Segment { selector: 0, base: 0, limit: 0xffff, access_rights: 0x8b };
        Self {
            gprs: Gprs([0; 16]),
            rip: 0xfff0,
            rflags: RFlags::from_bits_retain(2),
            cr0: Cr0Flags::from_bits_retain(0x6000_0010),
            cr2: 0,
            cr3: 0,
            cr4: Cr4Flags::empty(),
            efer: EferFlags::empty(),
            pdptes: [0; 4],
            segments: [data, code, data, data, data, data, ldtr, tr],
            gdtr: TableRegister { base: 0, limit: 0xffff },
            idtr: TableRegister { base: 0, limit: 0xffff },
            breakpoints: [0; 4],
            dr6: 0xffff_0ff0,
            dr7: 0x400,
            pending_debug: 0,
            pat: 0x0007_0406_0007_0406,
            sysenter_cs: 0,
            sysenter_esp: 0,
            sysenter_eip: 0,
            star: 0,
            lstar: 0,
            cstar: 0,
            fmask: 0,
            kernel_gs_base: 0,
            tsc_aux: 0,
            interruptibility: Interruptibility::empty(),
        }
    }

    /// The state after an INIT that found the processor in `before` (SDM Vol. 3A, "IA-32 and Intel 64 Processor States
    /// Following Power-up, Reset, or INIT").
    pub(crate) fn after_init(before: &Self) -> Self {
        let caching = Cr0Flags::CACHE_DISABLE | Cr0Flags::NOT_WRITE_THROUGH;
        let reset = Self::reset();
        Self {
            cr0: reset.cr0.difference(caching) | before.cr0 & caching,
            pat: before.pat,
            sysenter_cs: before.sysenter_cs,
            sysenter_esp: before.sysenter_esp,
            sysenter_eip: before.sysenter_eip,
            star: before.star,
            lstar: before.lstar,
            cstar: before.cstar,
            fmask: before.fmask,
            kernel_gs_base: before.kernel_gs_base,
            tsc_aux: before.tsc_aux,
            ..reset
        }
    }

    /// A start-up IPI with `vector` arrives: real mode, at the start of that 4 KiB page.
    pub(crate) const fn start_at_page(&mut self, vector: u8) {
        let code = &mut self.segments[SegmentRegister::Cs as usize];
        code.selector = (vector as u16) << 8;
        code.base = (vector as u64) << 12;
        self.rip = 0;
    }

    /// The first register whose value WRMSR would refuse on a processor with linear addresses of `linear_bits`:
    /// the registers that the host loads itself.
    pub(crate) fn first_not_canonical(&self, linear_bits: u32) -> Option<(Msr, u64)> {
        [
            (Msr::LSTAR, self.lstar),
            (Msr::CSTAR, self.cstar),
            (Msr::KERNEL_GS_BASE, self.kernel_gs_base),
            (Msr::SYSENTER_ESP, self.sysenter_esp),
            (Msr::SYSENTER_EIP, self.sysenter_eip),
        ]
        .into_iter()
        .find(|(_, value)| !is_canonical(*value, linear_bits))
    }
}

/// Whether all bits from the highest implemented one on are the same.
fn is_canonical(address: u64, linear_bits: u32) -> bool {
    let upper = address >> linear_bits.saturating_sub(1).min(63);
    upper == 0 || upper == u64::MAX >> linear_bits.saturating_sub(1).min(63)
}

/// The kinds of event that a processor delivers through its interrupt table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventKind {
    /// An external interrupt.
    Interrupt,
    /// A non-maskable interrupt.
    Nmi,
    /// A fault, trap or abort.
    HardwareException,
    /// INT n.
    SoftwareInterrupt,
    /// INT1.
    PrivilegedSoftwareException,
    /// INT3 and INTO.
    SoftwareException,
}

/// An event that the next entry delivers: injected, or cut off by an exit before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PendingEvent {
    /// What brought it about.
    pub kind: EventKind,
    /// The vector.
    pub vector: Vector,
    /// What is pushed with it.
    pub error_code: Option<u32>,
    /// The length of the instruction that raised it, in bytes; 0 unless an instruction did so on purpose.
    pub instruction_length: u8,
}

/// How a processor lays out extended state: two that differ cannot exchange it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ExtendedLayout {
    /// The state components, as bits of XCR0.
    pub components: u64,
    /// The XSAVE area's size in standard format, in bytes.
    pub bytes: usize,
}

/// x87, vector and protection-key registers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ExtendedState {
    /// The state components in [`Self::area`], as bits of XCR0, whichever the guest has enabled.
    pub components: u64,
    /// An XSAVE area in standard format.
    pub area: Box<[u8]>,
}

/// Why extended state cannot be loaded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadExtendedState {
    /// It is of a processor with another layout: this one.
    Layout(ExtendedLayout),
    /// The XSAVE header is not one of standard format.
    Header,
    /// Reserved bits of MXCSR are set.
    Mxcsr(u32),
}

/// Bytes of the legacy region of an XSAVE area.
const LEGACY_BYTES: usize = 512;
/// Bytes of the legacy region and the header.
const FIXED_BYTES: usize = LEGACY_BYTES + 64;
/// Where MXCSR is in the legacy region.
const MXCSR: usize = 24;

impl ExtendedState {
    /// The state after reset in an area of `layout`.
    pub fn reset(layout: ExtendedLayout) -> Self {
        let mut area = alloc::vec![0; layout.bytes.max(FIXED_BYTES)];
        for (byte, value) in area.iter_mut().skip(MXCSR).zip(0x1f80_u32.to_le_bytes()) {
            *byte = value;
        }
        Self { components: layout.components, area: area.into_boxed_slice() }
    }

    /// The layout that this state has.
    pub fn layout(&self) -> ExtendedLayout {
        ExtendedLayout { components: self.components, bytes: self.area.len() }
    }

    /// Whether XRSTOR on a processor of `layout` would load this (SDM Vol. 1, "Operation of XRSTOR").
    ///
    /// # Errors
    /// [`BadExtendedState`]: what it would refuse.
    pub fn check(&self, layout: ExtendedLayout) -> Result<(), BadExtendedState> {
        if self.layout() != layout {
            return Err(BadExtendedState::Layout(self.layout()));
        }
        let word = |at: usize| -> Option<[u8; 8]> { self.area.get(at..at + 8)?.try_into().ok() };
        let (Some(legacy), Some(in_use)) = (word(MXCSR), word(LEGACY_BYTES)) else {
            return Err(BadExtendedState::Header);
        };
        let rest = self.area.get(LEGACY_BYTES + 8..FIXED_BYTES).unwrap_or(&[1]);
        if u64::from_le_bytes(in_use) & !self.components != 0 || rest.iter().any(|byte| *byte != 0) {
            return Err(BadExtendedState::Header);
        }
        let [a, b, c, d, ..] = legacy;
        let mxcsr = u32::from_le_bytes([a, b, c, d]);
        if mxcsr >> 16 != 0 {
            return Err(BadExtendedState::Mxcsr(mxcsr));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AVX: ExtendedLayout = ExtendedLayout { components: 7, bytes: 832 };

    #[test]
    fn addresses_are_canonical_by_the_processors_width() {
        assert!(is_canonical(0x7fff_ffff_ffff, 48) && is_canonical(0xffff_8000_0000_0000, 48));
        assert!(!is_canonical(0x8000_0000_0000, 48) && is_canonical(0x8000_0000_0000, 57));
        assert!(!is_canonical(1 << 57, 57));
    }

    #[test]
    fn a_register_that_wrmsr_would_refuse_is_named() {
        let state = CpuState { kernel_gs_base: 1 << 47, ..CpuState::reset() };
        assert_eq!(state.first_not_canonical(48), Some((Msr::KERNEL_GS_BASE, 1 << 47)));
        assert_eq!(state.first_not_canonical(57), None);
    }

    #[test]
    fn extended_state_of_another_processor_is_refused() {
        let state = ExtendedState::reset(AVX);
        assert_eq!(state.check(AVX), Ok(()));
        let larger = ExtendedLayout { components: 0xe7, bytes: 2688 };
        assert_eq!(state.check(larger), Err(BadExtendedState::Layout(AVX)));
        let cut = ExtendedState { components: 7, area: alloc::vec![0; 20].into() };
        assert!(cut.check(AVX).is_err());
        assert_eq!(cut.check(ExtendedLayout { components: 7, bytes: 20 }), Err(BadExtendedState::Header));
    }

    #[test]
    fn an_area_that_xrstor_would_fault_on_is_refused() {
        for (at, value, error) in [
            (512, 0x08, BadExtendedState::Header),
            (527, 0x80, BadExtendedState::Header),
            (575, 1, BadExtendedState::Header),
            (26, 1, BadExtendedState::Mxcsr(0x1_1f80)),
        ] {
            let mut state = ExtendedState::reset(AVX);
            state.area[at] = value;
            assert_eq!(state.check(AVX), Err(error), "byte {at}");
        }
    }
}
