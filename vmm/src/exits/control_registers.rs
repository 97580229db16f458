//! Control-register accesses that the guest/host masks intercept.
//!
//! SDM Vol. 2B, "MOV—Move to/from Control Registers"; SDM Vol. 3A, "Control Registers".

use crate::{CrAccess, Outcome, Vcpu, VcpuBackend};
use arch::{Cr0Flags, Cr4Flags, EferFlags, Exception, Gpa, Gpr, SegmentRegister};
use memory::GuestMemory;

const GP: Outcome = Outcome::Fault(Exception::GeneralProtection(0));

pub(super) fn access<B: VcpuBackend>(
    vcpu: &mut Vcpu<B>,
    memory: &impl GuestMemory,
    access: CrAccess,
) -> Outcome {
    match access {
        CrAccess::WriteCr0(source) => {
            let value = source_value(vcpu, source);
            write_cr0(vcpu, memory, value)
        }
        CrAccess::WriteCr4(source) => {
            let value = source_value(vcpu, source);
            write_cr4(vcpu, memory, value)
        }
        CrAccess::WriteCr8(source) => {
            let value = source_value(vcpu, source);
            let Some(class) = u8::try_from(value).ok().filter(|class| *class <= 0xf) else { return GP };
            vcpu.lapic.set_cr8(class);
            vcpu.events_changed = true;
            Outcome::Advance
        }
        CrAccess::ReadCr8(target) => {
            let value = u64::from(vcpu.lapic.cr8());
            if target == Gpr::Rsp {
                vcpu.backend.set_rsp(value);
            } else {
                vcpu.backend.gprs_mut().set(target, value);
            }
            Outcome::Advance
        }
        CrAccess::Clts => {
            let cr0 = vcpu.backend.cr0();
            vcpu.backend.set_cr0(cr0 - Cr0Flags::TASK_SWITCHED);
            Outcome::Advance
        }
        CrAccess::Lmsw(source) => {
            // LMSW loads PE, MP, EM and TS, and cannot clear PE.
            let cr0 = vcpu.backend.cr0().bits();
            let value = cr0 & !0xe | u64::from(source) & 0xf;
            write_cr0(vcpu, memory, value)
        }
    }
}

fn source_value<B: VcpuBackend>(vcpu: &Vcpu<B>, source: Gpr) -> u64 {
    let value = if source == Gpr::Rsp { vcpu.backend.rsp() } else { vcpu.backend.gprs().get(source) };
    // Outside 64-bit mode the operand is the low half of the register.
    let wide = vcpu.backend.efer().contains(EferFlags::LONG_MODE_ACTIVE)
        && vcpu.backend.segment(SegmentRegister::Cs).is_long();
    if wide { value } else { value & 0xffff_ffff }
}

fn write_cr0<B: VcpuBackend>(vcpu: &mut Vcpu<B>, memory: &impl GuestMemory, value: u64) -> Outcome {
    if value >> 32 != 0 {
        return GP;
    }
    // Reserved bits of the low half read as zero and ignore writes; ET is always set.
    let new = Cr0Flags::from_bits_truncate(value) | Cr0Flags::EXTENSION_TYPE;
    let old = vcpu.backend.cr0();
    let paging = new.contains(Cr0Flags::PAGING);
    if paging && !new.contains(Cr0Flags::PROTECTED_MODE_ENABLE)
        || new.contains(Cr0Flags::NOT_WRITE_THROUGH) && !new.contains(Cr0Flags::CACHE_DISABLE)
    {
        return GP;
    }
    let efer = vcpu.backend.efer();
    let cr4 = vcpu.backend.cr4();
    let cs_long = vcpu.backend.segment(SegmentRegister::Cs).is_long();
    if paging && !old.contains(Cr0Flags::PAGING) && efer.contains(EferFlags::LONG_MODE_ENABLE) {
        if !cr4.contains(Cr4Flags::PHYSICAL_ADDRESS_EXTENSION) || cs_long {
            return GP;
        }
        vcpu.backend.set_efer(efer | EferFlags::LONG_MODE_ACTIVE);
    } else if !paging && old.contains(Cr0Flags::PAGING) {
        if cr4.contains(Cr4Flags::PCID) || cs_long && efer.contains(EferFlags::LONG_MODE_ACTIVE) {
            return GP;
        }
        vcpu.backend.set_efer(efer - EferFlags::LONG_MODE_ACTIVE);
    }
    vcpu.backend.set_cr0(new);
    if !reload_pdptes(vcpu, memory) {
        vcpu.backend.set_cr0(old);
        vcpu.backend.set_efer(efer);
        return GP;
    }
    Outcome::Advance
}

fn write_cr4<B: VcpuBackend>(vcpu: &mut Vcpu<B>, memory: &impl GuestMemory, value: u64) -> Outcome {
    let allowed = vcpu.cpuid.cr4_allowed();
    if value & !allowed.bits() != 0 {
        return GP;
    }
    let new = Cr4Flags::from_bits_truncate(value);
    let old = vcpu.backend.cr4();
    let long = vcpu.backend.efer().contains(EferFlags::LONG_MODE_ACTIVE);
    let pae = Cr4Flags::PHYSICAL_ADDRESS_EXTENSION;
    let pcid_on = new.contains(Cr4Flags::PCID) && !old.contains(Cr4Flags::PCID);
    if long && (!new.contains(pae) || (new ^ old).contains(Cr4Flags::L5_PAGING))
        || pcid_on && (!long || vcpu.backend.cr3() & 0xfff != 0)
    {
        return GP;
    }
    vcpu.backend.set_cr4(new);
    if !reload_pdptes(vcpu, memory) {
        vcpu.backend.set_cr4(old);
        return GP;
    }
    Outcome::Advance
}

/// Loads the page-directory-pointer entries when PAE paging is on; `false` when one has reserved bits set.
///
/// SDM Vol. 3A, "PDPTE Registers".
fn reload_pdptes<B: VcpuBackend>(vcpu: &mut Vcpu<B>, memory: &impl GuestMemory) -> bool {
    let pae = vcpu.backend.cr0().contains(Cr0Flags::PAGING)
        && vcpu.backend.cr4().contains(Cr4Flags::PHYSICAL_ADDRESS_EXTENSION)
        && !vcpu.backend.efer().contains(EferFlags::LONG_MODE_ACTIVE);
    if !pae {
        return true;
    }
    let table = Gpa::new(vcpu.backend.cr3() & 0xffff_ffe0);
    let mut entries = [0; 4];
    for (index, entry) in (0_u64..).zip(&mut entries) {
        let Ok(value) = memory.read_u64(table + index * 8) else { return false };
        let reserved = 0xfff0_0000_0000_01e6;
        if value & 1 != 0 && value & reserved != 0 {
            return false;
        }
        *entry = value;
    }
    vcpu.backend.set_pdptes(entries);
    true
}
