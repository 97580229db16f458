//! CPUID: values, RIP, and what of the processor's state shows in it.

use arch::{Gpr, Msr};
use vm_sim::{CODE, Machine, Step, host_leaf};
use vmm::{CrAccess, VcpuBackend, VmExit};

const OSXSAVE: u64 = 1 << 18;
const PAE: u64 = 1 << 5;

#[test]
fn every_leaf_moves_rip_by_the_length_of_the_instruction_and_clears_upper_halves() {
    let leaves = (0..0x20).chain(0x4000_0000..0x4000_0004).chain(0x8000_0000..0x8000_000a).chain([u32::MAX]);
    for leaf in leaves {
        for subleaf in [0, 1, 2, 63, u32::MAX] {
            let mut machine = Machine::default();
            let step = Step::exit(VmExit::Cpuid)
                .set(Gpr::Rax, 0xdead_0000_0000_0000 | u64::from(leaf))
                .set(Gpr::Rcx, u64::MAX << 32 | u64::from(subleaf))
                .set(Gpr::Rbx, u64::MAX)
                .set(Gpr::Rdx, u64::MAX)
                .set(Gpr::Rsi, 0x5151);
            let executed = machine.execute(step);
            assert_eq!((executed.advanced, executed.fault), (2, None), "{leaf:#x}");
            let gprs = machine.cpu().gprs();
            for register in [Gpr::Rax, Gpr::Rbx, Gpr::Rcx, Gpr::Rdx] {
                assert_eq!(gprs.get(register) >> 32, 0, "{leaf:#x} {register:?}");
            }
            assert_eq!(gprs.get(Gpr::Rsi), 0x5151);
        }
    }
}

#[test]
fn the_script_can_say_all_of_it_in_one() {
    let mut machine = Machine::default();
    machine.play([
        Step::exit(VmExit::Cpuid)
            .set(Gpr::Rax, 0)
            .expect_rip(CODE)
            .expect_no_event()
            .expect_windows(false, false),
        Step::exit(VmExit::Vmcall)
            .length(3)
            .expect_rip(CODE + 2)
            .expect_register(Gpr::Rbx, host_leaf(0, 0).ebx.into()),
        Step::run(1).expect_rip(CODE + 5).expect_register(Gpr::Rax, 1000_u64.wrapping_neg()),
    ]);
    assert_eq!(machine.cpu().steps_left(), 0);
}

#[test]
fn the_processor_is_the_hosts_with_a_hypervisor_below() {
    let mut machine = Machine::default();
    let vendor = machine.cpuid(0, 0);
    assert_eq!((vendor.ebx, vendor.edx, vendor.ecx), (0x756e_6547, 0x4965_6e69, 0x6c65_746e));
    let one = machine.cpuid(1, 0);
    assert_eq!(one.eax, host_leaf(1, 0).eax);
    assert_eq!(one.ebx >> 24, 0, "the initial APIC ID is the guest's, not the host's");
    assert_ne!(one.ecx & 1 << 31, 0, "hypervisor present");
    assert_ne!(one.ecx & (1 << 21 | 1 << 24), 0, "x2APIC and TSC deadline");
    assert_eq!(one.ecx & (1 << 5 | 1 << 3 | 1 << 6), 0, "neither VMX nor MONITOR nor SMX");
    let hypervisor = machine.cpuid(0x4000_0000, 0);
    assert_eq!(hypervisor.ebx.to_le_bytes(), *b"KVMK");
    assert!(hypervisor.eax >= 0x4000_0001);
}

#[test]
fn the_tsc_frequency_is_told_exactly() {
    let mut machine = Machine::default();
    let leaf = machine.cpuid(0x15, 0);
    assert_eq!(u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax), 1_000_000_000);
    assert_eq!(machine.cpuid(0x16, 0).eax, 1000);
}

#[test]
fn osxsave_follows_cr4() {
    let mut machine = Machine::default();
    assert_eq!(machine.cpuid(1, 0).ecx & 1 << 27, 0);
    machine.access_cr(CrAccess::WriteCr4(Gpr::Rdx), PAE | OSXSAVE).expect("offered");
    assert_ne!(machine.cpuid(1, 0).ecx & 1 << 27, 0);
    machine.access_cr(CrAccess::WriteCr4(Gpr::Rdx), PAE).expect("offered");
    assert_eq!(machine.cpuid(1, 0).ecx & 1 << 27, 0);
}

#[test]
fn the_size_of_the_xsave_area_follows_xcr0() {
    let mut machine = Machine::default();
    machine.access_cr(CrAccess::WriteCr4(Gpr::Rdx), PAE | OSXSAVE).expect("offered");
    for (xcr0, size) in [(1_u64, 576), (3, 576), (7, 832), (0xe7, 2688), (0x2e7, 2696)] {
        let step = Step::exit(VmExit::Xsetbv).set(Gpr::Rcx, 0).set(Gpr::Rdx, 0).set(Gpr::Rax, xcr0);
        assert_eq!(machine.execute(step).fault, None, "{xcr0:#x}");
        let leaf = machine.cpuid(0xd, 0);
        assert_eq!((leaf.ebx, leaf.ecx, leaf.eax), (size, 2696, 0x2e7), "{xcr0:#x}");
    }
}

#[test]
fn the_apic_bit_follows_the_apics_base_register() {
    let mut machine = Machine::default();
    assert_ne!(machine.cpuid(1, 0).edx & 1 << 9, 0);
    machine.wrmsr(Msr::APIC_BASE, 0xfee0_0100).expect("disabling is legal");
    assert_eq!(machine.cpuid(1, 0).edx & 1 << 9, 0);
    machine.wrmsr(Msr::APIC_BASE, 0xfee0_0900).expect("enabling is legal");
    assert_ne!(machine.cpuid(1, 0).edx & 1 << 9, 0);
}
