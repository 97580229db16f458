//! What a processor is and how the first one starts.
//!
//! Sources: SDM Vol. 2A, "CPUID"; Xen, "x86/HVM direct boot ABI".

use anyhow::Result;
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2, kvm_segment};
use kvm_ioctls::{Cap, Kvm, VcpuFd};

use crate::guest::START_INFO;

/// What KVM supports, and the TSC-deadline timer, which it reports as a capability instead.
pub(crate) fn supported(kvm: &Kvm) -> Result<CpuId> {
    const TSC_DEADLINE: u32 = 1 << 24;
    const HYPERVISOR: u32 = 1 << 31;
    let mut cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
    for leaf in cpuid.as_mut_slice().iter_mut().filter(|leaf| leaf.function == 1) {
        leaf.ecx |= HYPERVISOR;
        if kvm.check_extension(Cap::TscDeadlineTimer) {
            leaf.ecx |= TSC_DEADLINE;
        }
    }
    Ok(cpuid)
}

/// CPUID of processor `number` of `cpus`, all of them cores of one package: `supported` with the topology put right.
pub(crate) fn cpuid(supported: &CpuId, number: u8, cpus: u8) -> Result<CpuId> {
    const TOPOLOGY_LEAVES: [u32; 2] = [0xb, 0x1f];
    let id_bits = u32::from(cpus).next_power_of_two().trailing_zeros();
    let (id, count) = (u32::from(number), u32::from(cpus));
    let mut leaves: Vec<kvm_cpuid_entry2> = supported
        .as_slice()
        .iter()
        .copied()
        .filter(|leaf| !TOPOLOGY_LEAVES.contains(&leaf.function))
        .map(|mut leaf| {
            match leaf.function {
                1 => {
                    const SEVERAL: u32 = 1 << 28;
                    leaf.ebx = leaf.ebx & 0xffff | count << 16 | id << 24;
                    leaf.edx = if cpus > 1 { leaf.edx | SEVERAL } else { leaf.edx & !SEVERAL };
                }
                // Addressable cores in the package, and processors that share the cache: each has its own.
                4 if leaf.eax & 0x1f != 0 => leaf.eax = leaf.eax & 0x3fff | ((1 << id_bits) - 1) << 26,
                _ => {}
            }
            leaf
        })
        .collect();
    let level = |index, eax, ebx, ecx| kvm_cpuid_entry2 {
        function: 0xb,
        index,
        flags: kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax,
        ebx,
        ecx,
        edx: id,
        ..Default::default()
    };
    // One thread a core; all cores; nothing above them.
    leaves.extend([level(0, 0, 1, 1 << 8), level(1, id_bits, count, 2 << 8 | 1), level(2, 0, 0, 2)]);
    Ok(CpuId::from_entries(&leaves)?)
}

/// 32-bit protected mode with flat segments and paging off.
pub(crate) fn set_start_state(vcpu: &VcpuFd, entry: u64) -> Result<()> {
    const CODE: u8 = 0xb;
    const DATA: u8 = 0x3;
    const BUSY_TSS: u8 = 0xb;
    let flat = |kind| kvm_segment {
        limit: u32::MAX,
        type_: kind,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..Default::default()
    };
    let mut sregs = vcpu.get_sregs()?;
    sregs.cs = flat(CODE);
    for segment in [&mut sregs.ds, &mut sregs.es, &mut sregs.fs, &mut sregs.gs, &mut sregs.ss] {
        *segment = flat(DATA);
    }
    sregs.tr = kvm_segment { limit: 0x67, type_: BUSY_TSS, present: 1, ..Default::default() };
    sregs.cr0 = 0x11;
    sregs.cr4 = 0;
    sregs.efer = 0;
    vcpu.set_sregs(&sregs)?;
    let mut regs = vcpu.get_regs()?;
    regs.rip = entry;
    regs.rbx = START_INFO;
    regs.rflags = 2;
    vcpu.set_regs(&regs)?;
    Ok(())
}
