//! Processor models: what CPUID says of registers is what RDMSR, WRMSR and MOV to CR4 do, and all of it survives a snapshot.

use arch::{Exception, Gpr, Msr, Tsc};
use vm_sim::{Machine, Setup, Step};
use vmm::{CpuModel, CrAccess, VmExit};

const GP: Exception = Exception::GeneralProtection(0);
const PAE: u64 = 1 << 5;

fn machine(model: CpuModel) -> Machine {
    Machine::new(Setup { model, arch_capabilities: Some(0x21), ..Setup::default() })
}

fn each(test: impl Fn(CpuModel, &mut Machine)) {
    for model in CpuModel::ALL {
        test(model, &mut machine(model));
    }
}

#[test]
fn registers_exist_exactly_where_cpuid_reports_them() {
    each(|model, machine| {
        let (one, seven) = (machine.cpuid(1, 0), machine.cpuid(7, 0));
        let extended = machine.cpuid(0x8000_0001, 0);
        let reported = [
            (Msr::APIC_BASE, one.edx & 1 << 9),
            (Msr::MTRRCAP, one.edx & 1 << 12),
            (Msr::MTRR_DEF_TYPE, one.edx & 1 << 12),
            (Msr::MCG_CAP, one.edx & 1 << 14),
            (Msr::PAT, one.edx & 1 << 16),
            (Msr::TSC_DEADLINE, one.ecx & 1 << 24),
            (Msr::TSC_ADJUST, seven.ebx & 1 << 1),
            (Msr::ARCH_CAPABILITIES, seven.edx & 1 << 29),
            (Msr::SPEC_CTRL, seven.edx & 1 << 26),
            (Msr(0xcf), seven.edx & 1 << 30),
            (Msr::EFER, extended.edx & (1 << 20 | 1 << 29)),
            (Msr(0x345), one.ecx & 1 << 15),
            (Msr::VMX_BASIC, one.ecx & 1 << 5),
            (Msr(0xe8), machine.cpuid(6, 0).ecx & 1),
            (Msr::ENERGY_PERF_BIAS, machine.cpuid(6, 0).ecx & 1 << 3),
            (Msr(0x38f), machine.cpuid(0xa, 0).eax & 0xff),
            (Msr(0x10f), machine.cpuid(7, 0).edx & 1 << 11),
        ];
        for (msr, bit) in reported {
            assert_eq!(machine.rdmsr(msr).is_ok(), bit != 0, "{msr} of {model:?}");
        }
    });
}

#[test]
fn the_banks_are_as_many_as_reported() {
    each(|model, machine| {
        let banks = machine.rdmsr(Msr::MCG_CAP).expect("CPUID reports MCA") & 0xff;
        for bank in 0..32 {
            let number = 0x400 + 4 * u32::try_from(bank).expect("small");
            assert_eq!(machine.rdmsr(Msr(number)).is_ok(), bank < banks, "bank {bank} of {model:?}");
        }
        let pairs = machine.rdmsr(Msr::MTRRCAP).expect("CPUID reports MTRR") & 0xff;
        for pair in 0..16 {
            let number = 0x200 + 2 * u32::try_from(pair).expect("small");
            assert_eq!(machine.rdmsr(Msr(number)).is_ok(), pair < pairs, "pair {pair} of {model:?}");
        }
    });
}

#[test]
fn addresses_are_as_wide_everywhere_as_cpuid_says() {
    each(|model, machine| {
        let width = machine.cpuid(0x8000_0008, 0).eax & 0xff;
        let (inside, outside) = (1_u64 << (width - 1), 1_u64 << width);
        assert!(machine.wrmsr(Msr(0x200), inside | 6).is_ok(), "{model:?}");
        assert_eq!(machine.wrmsr(Msr(0x200), outside | 6), Err(GP), "{model:?}");
        assert!(machine.wrmsr(Msr::APIC_BASE, inside | 0x900).is_ok(), "{model:?}");
        assert_eq!(machine.wrmsr(Msr::APIC_BASE, outside | 0x900), Err(GP), "{model:?}");
    });
}

#[test]
fn control_register_bits_can_be_set_exactly_where_cpuid_reports_them() {
    each(|model, machine| {
        let (one, seven) = (machine.cpuid(1, 0), machine.cpuid(7, 0));
        let reported = [
            (11, seven.ecx & 1 << 2),
            (12, seven.ecx & 1 << 16),
            (13, one.ecx & 1 << 5),
            (14, one.ecx & 1 << 6),
            (16, seven.ebx & 1),
            (17, one.ecx & 1 << 17),
            (18, one.ecx & 1 << 26),
            (20, seven.ebx & 1 << 7),
            (21, seven.ebx & 1 << 20),
            (22, seven.ecx & 1 << 3),
            (23, seven.ecx & 1 << 7),
        ];
        for (bit, reported) in reported {
            let set = machine.access_cr(CrAccess::WriteCr4(Gpr::Rdx), PAE | 1 << bit);
            assert_eq!(set.is_ok(), reported != 0, "CR4 bit {bit} of {model:?}");
        }
    });
}

#[test]
fn xcr0_takes_the_components_that_leaf_13_lists() {
    each(|model, machine| {
        let leaf = machine.cpuid(0xd, 0);
        let offered = u64::from(leaf.edx) << 32 | u64::from(leaf.eax);
        if machine.access_cr(CrAccess::WriteCr4(Gpr::Rdx), PAE | 1 << 18).is_err() {
            assert_eq!(offered, 0, "{model:?}");
            return;
        }
        for xcr0 in [1, 3, 7, 0xe7, 0x203, 0x207, 0x2e7, 0x7, 0xf, 0x60_0007] {
            let step = Step::exit(VmExit::Xsetbv).set(Gpr::Rcx, 0).set(Gpr::Rdx, 0).set(Gpr::Rax, xcr0);
            let fault = machine.execute(step).fault;
            assert_eq!(fault.is_none(), xcr0 & !offered == 0, "XCR0 {xcr0:#x} of {model:?}");
        }
    });
}

#[test]
fn the_models_stay_what_they_are_on_a_host_with_everything() {
    let leaves = |model| {
        let mut machine = machine(model);
        [machine.cpuid(1, 0), machine.cpuid(7, 0), machine.cpuid(0xd, 0), machine.cpuid(0x8000_0001, 0)]
            .map(|leaf| [leaf.eax, leaf.ebx, leaf.ecx, leaf.edx])
    };
    // Whoever changes one of these breaks machines that moved, or are about to.
    assert_eq!(
        leaves(CpuModel::V2),
        [
            [0x0002_06c2, 0x0001_0800, 0x83ba_2203, 0x078b_fbff],
            [0, 0x2, 0, 0],
            [0, 0, 0, 0],
            [0, 0, 0x1, 0x2810_0800],
        ]
    );
    assert_eq!(
        leaves(CpuModel::V3),
        [
            [0x0003_06c3, 0x0001_0800, 0xf7fa_3203, 0x078b_fbff],
            [0, 0x7ab, 0, 0],
            [7, 576, 832, 0],
            [0, 0, 0x21, 0x2c10_0800],
        ]
    );
}

#[test]
fn registers_survive_a_snapshot_in_the_middle_of_being_programmed() {
    each(|model, machine| {
        let written = [
            (Msr::MTRR_DEF_TYPE, 0),
            (Msr(0x203), 0x40_0000_0000),
            (Msr(0x202), 0x1_0000_0001),
            (Msr::MTRR_FIX4K_C0000, 0x0505_0505_0505_0505),
            (Msr::MCG_STATUS, 4),
            (Msr(0x404), 0),
            (Msr::MCG_CTL, 0),
            (Msr::TSC_ADJUST, 77),
            (Msr::MISC_ENABLE, 0x1800),
        ];
        for (msr, value) in written {
            assert!(machine.wrmsr(msr, value).is_ok(), "{msr} of {model:?}");
        }
        let mut restored = Machine::restore(&machine.save(), Tsc(12_345));
        for (msr, value) in written {
            assert_eq!(restored.rdmsr(msr), Ok(value), "{msr} of {model:?}");
        }
        assert_eq!(restored.rdmsr(Msr::ARCH_CAPABILITIES), machine.rdmsr(Msr::ARCH_CAPABILITIES));
    });
}
