//! From exit reason and qualification to [`VmExit`], once.
//!
//! SDM Vol. 3D, "VMX Basic Exit Reasons" and "Exit Qualification".

use crate::event::{self, Reported};
use crate::{VmcsAccess, field};
use arch::{Gpa, Gpr, Gva, Vector};
use vmm::lapic::DEFAULT_PAGE;
use vmm::{CrAccess, EntryFailure, EptFault, IoExit, MemoryAccess, RawExit, VmExit};

/// The exit reason's bit that marks a failed entry.
const ENTRY_FAILURE: u32 = 1 << 31;

/// Decodes the exit of the current VMCS. Reads only the fields that the reason needs.
#[inline]
pub fn decode(vmcs: &impl VmcsAccess) -> VmExit {
    let reason = vmcs.read(field::EXIT_REASON);
    match reason {
        0 => exception(vmcs, reason),
        1 => external_interrupt(vmcs),
        2 => VmExit::TripleFault,
        3 => VmExit::Init,
        7 => VmExit::InterruptWindow,
        8 => VmExit::NmiWindow,
        9 => VmExit::TaskSwitch,
        10 => VmExit::Cpuid,
        // GETSEC, the VMX instructions, MWAIT, MONITOR, ENCLS, ENCLV.
        11 | 19..=27 | 36 | 39 | 50 | 53 | 59 | 60 | 70 => VmExit::NotOffered,
        12 => VmExit::Hlt,
        // INVD, WBINVD and WBNOINVD.
        13 | 54 => VmExit::CacheFlush,
        15 => VmExit::Rdpmc,
        18 => VmExit::Vmcall,
        28 => control_register(vmcs, reason),
        30 => VmExit::Io(io(vmcs.read(field::EXIT_QUALIFICATION))),
        31 => VmExit::ReadMsr,
        32 => VmExit::WriteMsr,
        40 => VmExit::Pause,
        44 => apic_access(vmcs, reason),
        45 => end_of_interrupt(vmcs.read(field::EXIT_QUALIFICATION)),
        48 => VmExit::Ept(ept_violation(vmcs)),
        52 => VmExit::Deadline,
        55 => VmExit::Xsetbv,
        56 => apic_write(vmcs.read(field::EXIT_QUALIFICATION)),
        _ if reason & ENTRY_FAILURE != 0 => VmExit::EntryFailure(EntryFailure::Refused(raw(vmcs, reason))),
        // 63 and 64 (XSAVES, XRSTORS) need a component in IA32_XSS. 43 (TPR below threshold) needs a TPR shadow without
        // virtual-interrupt delivery. Bits 26 to 30 tell of enclaves, pending MTF exits and SMM. None of these is in use.
        _ => VmExit::Unhandled(raw(vmcs, reason)),
    }
}

#[cold]
#[expect(clippy::cast_possible_truncation, reason = "the basic exit reason is the low half")]
fn raw(vmcs: &impl VmcsAccess, reason: u32) -> RawExit {
    RawExit { reason: reason as u16, qualification: vmcs.read(field::EXIT_QUALIFICATION) }
}

#[cold]
fn exception(vmcs: &impl VmcsAccess, reason: u32) -> VmExit {
    let info = vmcs.read(field::EXIT_INTERRUPTION_INFO);
    match event::reported(info, vmcs.read(field::EXIT_QUALIFICATION)) {
        Reported::Nmi => VmExit::Nmi,
        Reported::Exception(exception) => VmExit::Exception(exception),
        Reported::MachineCheck => VmExit::MachineCheck,
        Reported::Unknown => VmExit::Unhandled(raw(vmcs, reason)),
    }
}

/// An exit that acknowledged the interrupt has taken it from the local APIC: it is handled here and now.
fn external_interrupt(vmcs: &impl VmcsAccess) -> VmExit {
    if let Some(vector) = event::acknowledged(vmcs.read(field::EXIT_INTERRUPTION_INFO)) {
        vmcs.handle_interrupt(vector);
    }
    VmExit::ExternalInterrupt
}

/// SDM Vol. 3C, "EOI Virtualization": the vector.
#[expect(clippy::cast_possible_truncation, reason = "the vector is the low byte")]
const fn end_of_interrupt(qualification: u64) -> VmExit {
    VmExit::EoiInduced(Vector(qualification as u8))
}

/// SDM Vol. 3C, "APIC-Write VM Exits": the offset in the page.
const fn apic_write(qualification: u64) -> VmExit {
    VmExit::ApicWrite((qualification & 0xfff) as u16)
}

/// SDM Vol. 3C, "Exit Qualification for APIC-Access VM Exits from Linear Accesses and Guest-Physical Accesses": the offset in
/// bits 11:0, the type of access in bits 15:12. Neither the linear address nor the guest-physical one is in the VMCS.
#[cold]
fn apic_access(vmcs: &impl VmcsAccess, reason: u32) -> VmExit {
    let qualification = vmcs.read(field::EXIT_QUALIFICATION);
    let access = match qualification >> 12 & 0xf {
        // While an event was delivered (3), and of the guest's tables or at an address that is not told (10, 15), reads and
        // writes are not told apart.
        0 | 3 | 10 | 15 => MemoryAccess::Read,
        1 => MemoryAccess::Write,
        2 => MemoryAccess::Fetch,
        _ => return VmExit::Unhandled(raw(vmcs, reason)),
    };
    let gpa = DEFAULT_PAGE + (qualification & 0xfff);
    VmExit::ApicAccess(EptFault { gpa, gva: Gva::new(0), translated: false, access })
}

/// SDM Vol. 3C, "Exit Qualification for I/O Instructions".
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the upper half is reserved")]
const fn io(qualification: u64) -> IoExit {
    IoExit::from_packed(qualification as u32)
}

/// SDM Vol. 3C, "Exit Qualification for EPT Violations".
fn ept_violation(vmcs: &impl VmcsAccess) -> EptFault {
    let qualification = vmcs.read(field::EXIT_QUALIFICATION);
    let access = if qualification & 2 != 0 {
        MemoryAccess::Write
    } else if qualification & 4 != 0 {
        MemoryAccess::Fetch
    } else {
        MemoryAccess::Read
    };
    // Bit 7: the linear address is valid; bit 8: the access was to its translation, not to a paging structure.
    EptFault {
        gpa: Gpa::new(vmcs.read(field::GUEST_PHYSICAL_ADDRESS)),
        gva: Gva::new(vmcs.read(field::GUEST_LINEAR_ADDRESS)),
        translated: qualification & 0x180 == 0x180,
        access,
    }
}

/// SDM Vol. 3C, "Exit Qualification for Control-Register Accesses".
#[expect(clippy::cast_possible_truncation, reason = "the LMSW operand is bits 31:16")]
fn control_register(vmcs: &impl VmcsAccess, reason: u32) -> VmExit {
    let qualification = vmcs.read(field::EXIT_QUALIFICATION);
    let gpr = Gpr::from_encoding(qualification >> 8);
    let access = match (qualification >> 4 & 3, qualification & 0xf) {
        (0, 0) => CrAccess::WriteCr0(gpr),
        (0, 4) => CrAccess::WriteCr4(gpr),
        (0, 8) => CrAccess::WriteCr8(gpr),
        (1, 8) => CrAccess::ReadCr8(gpr),
        (2, _) => CrAccess::Clts,
        (3, _) => CrAccess::Lmsw((qualification >> 16) as u16),
        _ => return VmExit::Unhandled(raw(vmcs, reason)),
    };
    VmExit::Cr(access)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_vmcs::FakeVmcs;
    use arch::{Port, Width};
    use vmm::Direction;

    fn exit(reason: u32, qualification: u64) -> VmExit {
        let mut vmcs = FakeVmcs::default();
        vmcs.set(field::EXIT_REASON, reason);
        vmcs.set(field::EXIT_QUALIFICATION, qualification);
        decode(&vmcs)
    }

    #[test]
    fn out_dx_al_to_com1() {
        let expected = IoExit::new(Port(0x3f8), Width::One, Direction::Out, false);
        assert_eq!(exit(30, 0x3f8 << 16), VmExit::Io(expected));
    }

    #[test]
    fn a_machine_check_is_not_the_guests() {
        let mut vmcs = FakeVmcs::default();
        vmcs.set(field::EXIT_INTERRUPTION_INFO, 0x8000_0312);
        assert_eq!(decode(&vmcs), VmExit::MachineCheck);
        vmcs.set(field::EXIT_INTERRUPTION_INFO, 0x8000_0b11);
        assert_eq!(decode(&vmcs), VmExit::Exception(arch::Exception::AlignmentCheck));
    }

    #[test]
    fn an_acknowledged_interrupt_is_handled_and_one_that_waits_is_not() {
        let mut vmcs = FakeVmcs::default();
        vmcs.set(field::EXIT_REASON, 1_u32);
        assert_eq!(decode(&vmcs), VmExit::ExternalInterrupt);
        assert_eq!(vmcs.handled.take(), None);
        vmcs.set(field::EXIT_INTERRUPTION_INFO, 0x8000_0041);
        assert_eq!(decode(&vmcs), VmExit::ExternalInterrupt);
        assert_eq!(vmcs.handled.take(), Some(Vector(0x41)));
    }

    #[test]
    fn exits_of_the_virtual_apic_name_vector_and_register() {
        assert_eq!(exit(45, 0x31), VmExit::EoiInduced(Vector(0x31)));
        assert_eq!(exit(56, 0x3f0), VmExit::ApicWrite(0x3f0));
    }

    #[test]
    fn an_access_to_the_apics_page_names_offset_and_kind() {
        let expected = |offset: u64, access| {
            let gpa = Gpa::new(0xfee0_0000 + offset);
            VmExit::ApicAccess(EptFault { gpa, gva: Gva::new(0), translated: false, access })
        };
        assert_eq!(exit(44, 0x390), expected(0x390, MemoryAccess::Read));
        assert_eq!(exit(44, 0x1084), expected(0x84, MemoryAccess::Write));
        assert_eq!(exit(44, 0x2000), expected(0, MemoryAccess::Fetch));
        assert_eq!(exit(44, 0x3080), expected(0x80, MemoryAccess::Read), "while an event is delivered");
        assert_eq!(exit(44, 0xf123), expected(0x123, MemoryAccess::Read), "the guest's own tables");
        assert_eq!(exit(44, 0x5000), VmExit::Unhandled(RawExit { reason: 44, qualification: 0x5000 }));
    }

    #[test]
    fn rep_insd_is_a_string_input() {
        let expected = IoExit::new(Port(0x1f0), Width::Four, Direction::In, true);
        assert_eq!(exit(30, 0x1f0 << 16 | 0x38 | 3), VmExit::Io(expected));
    }

    #[test]
    fn vmx_instructions_are_not_offered() {
        for reason in [19, 20, 21, 22, 23, 24, 25, 26, 27, 50, 53, 59] {
            assert_eq!(exit(reason, 0), VmExit::NotOffered, "{reason}");
        }
    }

    #[test]
    fn a_control_register_write_names_its_source() {
        assert_eq!(exit(28, 0x300), VmExit::Cr(CrAccess::WriteCr0(Gpr::Rbx)));
        assert_eq!(exit(28, 0xf04), VmExit::Cr(CrAccess::WriteCr4(Gpr::R15)));
        assert_eq!(exit(28, 0x18), VmExit::Cr(CrAccess::ReadCr8(Gpr::Rax)));
        assert_eq!(exit(28, 0x0009_0030), VmExit::Cr(CrAccess::Lmsw(9)));
    }

    #[test]
    fn a_refused_entry_is_told_from_an_exit() {
        let refused = RawExit { reason: 33, qualification: 2 };
        assert_eq!(exit(0x8000_0021, 2), VmExit::EntryFailure(EntryFailure::Refused(refused)));
    }

    #[test]
    fn a_walk_of_the_guests_tables_has_no_data_address() {
        let VmExit::Ept(fault) = exit(48, 0x82) else { panic!("an EPT violation") };
        assert_eq!((fault.translated, fault.access), (false, MemoryAccess::Write));
    }

    #[test]
    fn unknown_reasons_are_kept_whole() {
        assert_eq!(exit(77, 5), VmExit::Unhandled(RawExit { reason: 77, qualification: 5 }));
    }
}
