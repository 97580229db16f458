//! RDMSR and WRMSR: the allow-list, x2APIC registers, EFER, the time-stamp counter.

use arch::{EferFlags, Exception, Gpr, Msr};
use proptest::prelude::*;
use vm_sim::{CODE, CpuMode, Machine, Step};
use vmm::{Event, VcpuBackend, VmExit};

const GP: Exception = Exception::GeneralProtection(0);

#[test]
fn an_unknown_register_is_a_general_protection_fault_at_the_instruction() {
    let unknown = [
        0x2,
        0x1c,
        0x48,
        0x49,
        0x10a,
        0x186,
        0x199,
        0x210,
        0x280,
        0x345,
        0x38f,
        0x428,
        0x480,
        0x48b,
        0x570,
        0x6e1,
        0x700,
        0x7ff,
        0x900,
        0xc80,
        0xd00,
        0x4000_0000,
        0x4b56_4d02,
        0xc000_0104,
        0xc001_0015,
        u32::MAX,
    ];
    for number in unknown {
        let mut machine = Machine::default();
        machine.play([
            Step::exit(VmExit::ReadMsr).set(Gpr::Rcx, number.into()).set(Gpr::Rax, 7).set(Gpr::Rdx, 8),
            Step::run(0)
                .expect_event(Event::Exception(GP))
                .expect_rip(CODE)
                .expect_register(Gpr::Rax, 7)
                .expect_register(Gpr::Rdx, 8),
        ]);
        assert_eq!(machine.cpu().steps_left(), 0, "{number:#x}");
        machine.iret();
        assert_eq!(machine.wrmsr(Msr(number), 0), Err(GP), "{number:#x}");
        assert_eq!(machine.cpu().rip(), CODE, "{number:#x}");
    }
}

#[test]
fn only_ecx_names_the_register() {
    let mut machine = Machine::default();
    let step = Step::exit(VmExit::ReadMsr).set(Gpr::Rcx, 0xdead_beef_0000_001b);
    let executed = machine.execute(step);
    assert_eq!((executed.fault, executed.advanced), (None, 2));
    assert_eq!(machine.cpu().gprs().edx_eax(), 0xfee0_0900);
}

#[test]
fn known_registers_read_as_firmware_leaves_them() {
    let cases = [
        (Msr::APIC_BASE, 0xfee0_0900),
        (Msr::FEATURE_CONTROL, 1),
        (Msr::MTRRCAP, 0x508),
        (Msr::MTRR_DEF_TYPE, 0xc06),
        (Msr::MCG_CAP, 0x10a),
        (Msr::MCG_CTL, u64::MAX),
        (Msr(0x404), u64::MAX),
        (Msr(0x405), 0),
        (Msr::PAT, 0x0007_0406_0007_0406),
        (Msr::BIOS_SIGN_ID, 0x1234 << 32),
        (Msr::TSC_ADJUST, 0),
        (Msr::XSS, 0),
        (Msr::P5_MC_TYPE, 0),
        (Msr::MTRR_FIX64K_00000, 0x0606_0606_0606_0606),
        (Msr(0x200), 0xc000_0000),
        (Msr(0x201), 0x7f_c000_0800),
    ];
    for (msr, value) in cases {
        assert_eq!(Machine::default().rdmsr(msr), Ok(value), "{msr}");
    }
}

#[test]
fn legal_writes_stay_and_illegal_ones_fault_and_change_nothing() {
    let legal = [
        (Msr(0x200), 0x8000_0006, 0x8000_0006),
        (Msr(0x201), 0x7f_8000_0800, 0x7f_8000_0800),
        (Msr::MTRR_DEF_TYPE, 0x806, 0x806),
        (Msr::MTRR_FIX4K_C0000, 0x0505_0505_0505_0505, 0x0505_0505_0505_0505),
        (Msr::BIOS_SIGN_ID, 0, 0x1234 << 32),
        (Msr::MCG_STATUS, 0, 0),
        (Msr::MCG_STATUS, 4, 4),
        (Msr::MCG_CTL, 0, 0),
        (Msr(0x401), 0, 0),
        (Msr(0x11e), 1 << 19, 0xbe70_2111),
        (Msr::XSS, 0, 0),
    ];
    for (msr, value, after) in legal {
        let mut machine = Machine::default();
        assert!(machine.wrmsr(msr, value).is_ok(), "{msr}");
        assert_eq!(machine.rdmsr(msr), Ok(after), "{msr}");
    }
    let illegal = [
        (Msr(0x200), 2),
        (Msr(0x201), 1 << 40),
        (Msr(0x201), 1),
        (Msr::MTRR_DEF_TYPE, 2),
        (Msr::MTRR_DEF_TYPE, 1 << 12),
        (Msr::MTRR_FIX4K_C0000, 0x0202_0202_0202_0202),
        (Msr::MTRRCAP, 0),
        (Msr::MCG_STATUS, 8),
        (Msr::MCG_CTL, 1),
        (Msr(0x400), 1),
        (Msr(0x401), 1),
        (Msr::XSS, 1 << 8),
        (Msr::FEATURE_CONTROL, 5),
        (Msr::MCG_CAP, 0),
        (Msr::APIC_BASE, 0xfee0_0500),
        (Msr::APIC_BASE, 0xfee0_0901),
        (Msr::APIC_BASE, 1 << 60),
    ];
    for (msr, value) in illegal {
        let mut machine = Machine::default();
        let before = machine.rdmsr(msr);
        assert_eq!(machine.wrmsr(msr, value), Err(GP), "{msr} {value:#x}");
        assert_eq!(machine.rdmsr(msr), before, "{msr} {value:#x}");
    }
}

#[test]
fn x2apic_registers_exist_in_that_mode_alone() {
    for number in 0x800..0x900 {
        assert_eq!(Machine::default().rdmsr(Msr(number)), Err(GP), "{number:#x} in xAPIC mode");
    }
    let mut machine = Machine::default();
    machine.switch_to_x2apic();
    let readable = [
        (0x802, 0),
        (0x803, 0x0105_0014),
        (0x808, 0),
        (0x80a, 0),
        (0x80d, 1),
        (0x80f, 0x1ff),
        (0x810, 0),
        (0x820, 0),
        (0x828, 0),
        (0x830, 0),
        (0x832, 0x1_0000),
        (0x835, 0x700),
        (0x836, 0x1_0000),
        (0x838, 0),
        (0x839, 0),
        (0x83e, 0),
    ];
    for (number, value) in readable {
        assert_eq!(machine.rdmsr(Msr(number)), Ok(value), "{number:#x}");
    }
    for number in [0x800, 0x801, 0x804, 0x809, 0x80b, 0x80c, 0x80e, 0x831, 0x83a, 0x83f, 0x840, 0x8ff] {
        assert_eq!(machine.rdmsr(Msr(number)), Err(GP), "{number:#x}");
    }
    let refused = [
        (0x802, 0),
        (0x803, 0),
        (0x808, 0x100),
        (0x80b, 1),
        (0x80d, 0),
        (0x80f, 1 << 9),
        (0x810, 0),
        (0x828, 1),
        (0x830, 1 << 13),
        (0x832, 1 << 20),
        (0x838, 1 << 32),
        (0x839, 0),
        (0x83e, 4),
        (0x83f, 0x100),
    ];
    for (number, value) in refused {
        assert_eq!(machine.wrmsr(Msr(number), value), Err(GP), "{number:#x}");
    }
}

#[test]
fn xapic_mode_cannot_be_entered_from_x2apic_mode() {
    let mut machine = Machine::default();
    machine.switch_to_x2apic();
    assert_eq!(machine.wrmsr(Msr::APIC_BASE, 0xfee0_0900), Err(GP));
    assert!(machine.wrmsr(Msr::APIC_BASE, 0xfee0_0100).is_ok());
    assert_eq!(machine.wrmsr(Msr::APIC_BASE, 0xfee0_0d00), Err(GP), "nor x2APIC mode from disabled");
    assert!(machine.wrmsr(Msr::APIC_BASE, 0xfee0_0900).is_ok());
}

#[test]
fn efer_takes_its_known_bits_and_long_mode_only_without_paging() {
    let cases = [
        (CpuMode::Flat32, 0x100, Some(0x100)),
        (CpuMode::Flat32, 0x901, Some(0x901)),
        (CpuMode::Flat32, 0x400, Some(0)),
        (CpuMode::Flat32, 0x2, None),
        (CpuMode::Flat32, 0x1000, None),
        (CpuMode::Flat32, 1 << 63, None),
        (CpuMode::Long64, 0x500, Some(0x500)),
        (CpuMode::Long64, 0x100, Some(0x500)),
        (CpuMode::Long64, 0xd01, Some(0xd01)),
        (CpuMode::Long64, 0x400, None),
        (CpuMode::Long64, 0, None),
    ];
    for (mode, value, after) in cases {
        let mut machine = Machine::in_mode(mode);
        let before = machine.rdmsr(Msr::EFER);
        let written = machine.wrmsr(Msr::EFER, value);
        assert_eq!(written.is_ok(), after.is_some(), "{mode:?} {value:#x}");
        assert_eq!(machine.rdmsr(Msr::EFER), after.map_or(before, Ok), "{mode:?} {value:#x}");
    }
    assert!(Machine::in_mode(CpuMode::Long64).cpu().efer().contains(EferFlags::LONG_MODE_ACTIVE));
}

#[test]
fn the_time_stamp_counter_starts_at_zero_and_runs_with_the_hosts() {
    let mut machine = Machine::default();
    assert_eq!(machine.rdmsr(Msr::TSC), Ok(0));
    machine.run_for(12_345);
    assert_eq!(machine.rdmsr(Msr::TSC), Ok(12_345));
}

proptest! {
    #[test]
    fn the_tsc_and_its_adjustment_move_together(start in any::<u64>(), adjust in any::<u64>(), ticks in 0_u64..1 << 40) {
        let mut machine = Machine::default();
        machine.cpu_mut().elapse(100);
        prop_assert!(machine.wrmsr(Msr::TSC, start).is_ok());
        prop_assert_eq!(machine.rdmsr(Msr::TSC_ADJUST), Ok(start.wrapping_sub(100)));
        machine.cpu_mut().elapse(ticks);
        prop_assert_eq!(machine.rdmsr(Msr::TSC), Ok(start.wrapping_add(ticks)));
        prop_assert!(machine.wrmsr(Msr::TSC_ADJUST, adjust).is_ok());
        prop_assert_eq!(machine.rdmsr(Msr::TSC), Ok(adjust.wrapping_add(100 + ticks)));
        prop_assert_eq!(machine.cpu().guest_tsc().0, adjust.wrapping_add(100 + ticks));
    }

    #[test]
    fn no_number_and_no_value_do_worse_than_fault(number in any::<u32>(), low in 0_u32..0x1000, value in any::<u64>()) {
        for number in [number, low, 0xc000_0000 | low] {
            let mut machine = Machine::default();
            let read = machine.rdmsr(Msr(number));
            prop_assert!(matches!(read, Ok(_) | Err(GP)));
            let written = machine.wrmsr(Msr(number), value).map(|executed| executed.advanced);
            prop_assert!(matches!(written, Ok(2) | Err(GP)));
        }
    }
}
