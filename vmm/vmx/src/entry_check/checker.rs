//! What the sections of the checks share: the VMCS, the modes that its fields say the guest will be in, and the
//! tests of addresses.

use super::Violation;
use super::bits::{
    BASIC_32_BIT_ADDRESSES, CR3_LINEAR_ADDRESS_MASKING, CR4_LINEAR_ADDRESS_MASKING, S_CET_RESERVED,
    S_CET_SUPPRESS_AND_TRACKER,
};
use super::entry_controls::Injection;
use crate::field::{self, Field, FieldWidth};
use crate::{Capabilities, Entry, Exit, PinBased, ProcessorBased, Secondary, VmcsAccess};
use arch::{Cr0Flags, Cr4Flags, EferFlags, RFlags, Segment, SegmentRegister};

/// A VMCS under check.
pub(super) struct Checker<'a, V> {
    vmcs: &'a V,
    pub(super) capabilities: &'a Capabilities,
    /// MAXPHYADDR.
    physical_bits: u32,
    report: &'a mut dyn FnMut(Violation, bool),
    section: &'static str,
    pub(super) pin: PinBased,
    pub(super) processor: ProcessorBased,
    /// Zero while the primary controls do not activate them.
    pub(super) secondary: Secondary,
    pub(super) exit: Exit,
    pub(super) entry: Entry,
    /// Guest CR0, as it is in the register.
    pub(super) cr0: Cr0Flags,
    /// Guest CR4, as it is in the register.
    pub(super) cr4: Cr4Flags,
    /// Guest RFLAGS.
    pub(super) rflags: RFlags,
    /// The event that the entry injects.
    pub(super) injection: Option<Injection>,
}

impl<'a, V: VmcsAccess> Checker<'a, V> {
    pub(super) fn new(
        vmcs: &'a V,
        capabilities: &'a Capabilities,
        physical_address_bits: u8,
        report: &'a mut dyn FnMut(Violation, bool),
    ) -> Self {
        let processor = ProcessorBased::from_bits_retain(vmcs.read(field::PROCESSOR_BASED_CONTROLS));
        let secondary = if processor.contains(ProcessorBased::SECONDARY) {
            Secondary::from_bits_retain(vmcs.read(field::SECONDARY_CONTROLS))
        } else {
            Secondary::empty()
        };
        Self {
            vmcs,
            capabilities,
            physical_bits: u32::from(physical_address_bits),
            report,
            section: "",
            pin: PinBased::from_bits_retain(vmcs.read(field::PIN_BASED_CONTROLS)),
            processor,
            secondary,
            exit: Exit::from_bits_retain(vmcs.read(field::VM_EXIT_CONTROLS)),
            entry: Entry::from_bits_retain(vmcs.read(field::VM_ENTRY_CONTROLS)),
            cr0: Cr0Flags::from_bits_retain(vmcs.read(field::GUEST_CR0)),
            cr4: Cr4Flags::from_bits_retain(vmcs.read(field::GUEST_CR4)),
            rflags: RFlags::from_bits_retain(vmcs.read(field::GUEST_RFLAGS)),
            injection: Injection::from_info(vmcs.read(field::VM_ENTRY_INTERRUPTION_INFO)),
        }
    }

    /// The rules that follow are of the section with this title.
    pub(super) fn section(&mut self, title: &'static str) {
        self.section = title;
    }

    /// Reports `rule` about `value`, and whether it `holds`.
    pub(super) fn rule(&mut self, rule: &'static str, value: impl Into<u64>, holds: bool) {
        (self.report)(Violation { rule, section: self.section, value: value.into() }, holds);
    }

    /// A rule that holds when there are no `offending` bits.
    pub(super) fn no_bits(&mut self, rule: &'static str, offending: impl Into<u64>) {
        let offending = offending.into();
        self.rule(rule, offending, offending == 0);
    }

    pub(super) fn read<K, W: FieldWidth>(&self, field: Field<K, W>) -> W {
        self.vmcs.read(field)
    }

    pub(super) fn segment(&self, register: SegmentRegister) -> Segment {
        let fields = &field::SEGMENTS[register as usize];
        Segment {
            selector: self.read(fields.selector),
            base: self.read(fields.base),
            limit: self.read(fields.limit),
            access_rights: self.read(fields.access_rights),
        }
    }

    pub(super) fn has_unrestricted_guest(&self) -> bool {
        self.secondary.contains(Secondary::UNRESTRICTED_GUEST)
    }

    /// Whether the guest will be in IA-32e mode, by the manual's definition.
    pub(super) fn is_ia32e(&self) -> bool {
        self.entry.contains(Entry::IA32E_MODE_GUEST)
    }

    /// Whether the guest will be in virtual-8086 mode.
    pub(super) fn is_virtual_8086(&self) -> bool {
        self.rflags.contains(RFlags::VIRTUAL_8086_MODE)
    }

    /// How many bits the processor's linear addresses have: 57 where CR4.LA57 may be set.
    pub(super) fn linear_bits(&self) -> u32 {
        if self.capabilities.cr4_fixed1 & Cr4Flags::L5_PAGING.bits() == 0 { 48 } else { 57 }
    }

    /// Whether `address` is canonical for the widest linear addresses of the processor.
    pub(super) fn is_canonical(&self, address: u64) -> bool {
        let above = address >> (self.linear_bits() - 1);
        above == 0 || above == u64::MAX >> (self.linear_bits() - 1)
    }

    /// The bits of `address` beyond the processor's physical addresses.
    pub(super) fn beyond_physical(&self, address: u64) -> u64 {
        address & u64::MAX.checked_shl(self.physical_bits).unwrap_or(0)
    }

    /// The bits of `address` beyond those that pointers in the VMCS may have.
    pub(super) fn beyond_pointer(&self, address: u64) -> u64 {
        let high =
            if self.capabilities.basic & BASIC_32_BIT_ADDRESSES == 0 { 0 } else { address >> 32 << 32 };
        self.beyond_physical(address) | high
    }

    /// The bits of a value of CR3 that must be 0.
    pub(super) fn cr3_reserved(&self, value: u64) -> u64 {
        let masking = self.capabilities.cr4_fixed1 & CR4_LINEAR_ADDRESS_MASKING != 0;
        self.beyond_physical(value) & if masking { !CR3_LINEAR_ADDRESS_MASKING } else { u64::MAX }
    }

    /// Whether `value` can be loaded into IA32_S_CET.
    pub(super) fn is_s_cet(&self, value: u64) -> bool {
        self.is_canonical(value)
            && value & S_CET_RESERVED == 0
            && value & S_CET_SUPPRESS_AND_TRACKER != S_CET_SUPPRESS_AND_TRACKER
    }
}

/// The bits of an IA32_EFER that are reserved.
pub(super) fn efer_reserved(value: u64) -> u64 {
    let defined = EferFlags::SYSTEM_CALL_EXTENSIONS
        | EferFlags::LONG_MODE_ENABLE
        | EferFlags::LONG_MODE_ACTIVE
        | EferFlags::NO_EXECUTE_ENABLE;
    value & !defined.bits()
}
