//! MOV to and from control registers, CLTS, LMSW, XSETBV.

use arch::{Cr0Flags, EferFlags, Exception, Gpa, Gpr, Msr, SegmentRegister};
use memory::GuestMemory;
use vm_sim::{CpuMode, Machine, Step};
use vmm::{CrAccess, VcpuBackend, VmExit};

const GP: Exception = Exception::GeneralProtection(0);
const PE: u64 = 1;
const TS: u64 = 1 << 3;
const ET: u64 = 1 << 4;
const NE: u64 = 1 << 5;
const WP: u64 = 1 << 16;
const NW: u64 = 1 << 29;
const CD: u64 = 1 << 30;
const PG: u64 = 1 << 31;
const PAE: u64 = 1 << 5;
const OSXSAVE: u64 = 1 << 18;

fn write_cr0(machine: &mut Machine, value: u64) -> Result<(), Exception> {
    machine.access_cr(CrAccess::WriteCr0(Gpr::Rbx), value)
}

fn write_cr4(machine: &mut Machine, value: u64) -> Result<(), Exception> {
    machine.access_cr(CrAccess::WriteCr4(Gpr::Rbx), value)
}

#[test]
fn cr0_takes_legal_values_and_refuses_impossible_ones() {
    let cases = [
        (CpuMode::Flat32, PE | NE | CD | NW, Some(PE | NE | CD | NW | ET)),
        (CpuMode::Flat32, PE | NE | CD, Some(PE | NE | CD | ET)),
        (CpuMode::Flat32, 0, Some(ET)),
        (CpuMode::Flat32, PE | 1 << 17, Some(PE | ET)),
        (CpuMode::Flat32, PE | NW, None),
        (CpuMode::Flat32, PG | NE, None),
        (CpuMode::Flat32, PE | PG, Some(PE | PG | ET)),
        (CpuMode::Long64, PE | PG | NE | WP | TS, Some(PE | PG | NE | WP | TS | ET)),
        (CpuMode::Long64, PE | PG | 1 << 32, None),
        (CpuMode::Long64, 1 << 63, None),
        // Paging cannot go while 64-bit code runs.
        (CpuMode::Long64, PE, None),
        (CpuMode::Long64, 0, None),
    ];
    for (mode, value, after) in cases {
        let mut machine = Machine::in_mode(mode);
        let before = machine.cpu().cr0().bits();
        assert_eq!(write_cr0(&mut machine, value).is_ok(), after.is_some(), "{mode:?} {value:#x}");
        assert_eq!(machine.cpu().cr0().bits(), after.unwrap_or(before), "{mode:?} {value:#x}");
    }
}

#[test]
fn outside_of_64_bit_mode_the_upper_half_of_the_operand_does_not_count() {
    let mut machine = Machine::in_mode(CpuMode::Flat32);
    assert_eq!(write_cr0(&mut machine, 0xffff_ffff_0000_0000 | PE | NE), Ok(()));
    assert_eq!(machine.cpu().cr0().bits(), PE | NE | ET);
}

#[test]
fn long_mode_is_activated_and_left_through_cr0() {
    let mut machine = Machine::in_mode(CpuMode::Flat32);
    machine.wrmsr(Msr::EFER, EferFlags::LONG_MODE_ENABLE.bits()).expect("no paging yet");
    assert_eq!(write_cr0(&mut machine, PE | PG), Err(GP), "without PAE");
    assert!(!machine.cpu().efer().contains(EferFlags::LONG_MODE_ACTIVE));
    write_cr4(&mut machine, PAE).expect("legal");
    write_cr0(&mut machine, PE | PG).expect("legal");
    assert!(machine.cpu().efer().contains(EferFlags::LONG_MODE_ACTIVE));
    assert_eq!(write_cr4(&mut machine, 0), Err(GP), "PAE cannot go in long mode");
    write_cr0(&mut machine, PE).expect("compatibility mode may leave");
    assert!(!machine.cpu().efer().contains(EferFlags::LONG_MODE_ACTIVE));
    let code = SegmentRegister::Cs as usize;
    machine.cpu_mut().state_mut().segments[code].access_rights |= 1 << 13;
    assert_eq!(write_cr0(&mut machine, PE | PG), Err(GP), "a code segment with L set cannot enter");
}

#[test]
fn cr4_takes_what_cpuid_offers() {
    for bit in 0..64 {
        let mut machine = Machine::in_mode(CpuMode::Flat32);
        // VME PVI TSD DE PSE PAE MCE PGE PCE OSFXSR OSXMMEXCPT UMIP FSGSBASE OSXSAVE SMEP SMAP PKE; PCIDE
        // needs long mode; LA57, VMXE, SMXE and CET are not offered. The upper half is cut off outside of long mode.
        let offered = 0x0077_0fff & !(1_u64 << 13 | 1 << 14 | 1 << 17) | u64::MAX << 32;
        let result = write_cr4(&mut machine, 1 << bit);
        assert_eq!(result.is_ok(), offered & 1 << bit != 0, "bit {bit}");
    }
    let mut machine = Machine::in_mode(CpuMode::Long64);
    assert_eq!(write_cr4(&mut machine, PAE | 1 << 17), Ok(()), "PCIDE in long mode");
    assert_eq!(write_cr4(&mut machine, PAE | 1 << 12), Err(GP), "LA57 is not offered");
    assert_eq!(write_cr4(&mut machine, PAE | 1 << 40), Err(GP));
    let mut machine = Machine::in_mode(CpuMode::Long64);
    machine.cpu_mut().state_mut().cr3 |= 5;
    assert_eq!(write_cr4(&mut machine, PAE | 1 << 17), Err(GP), "PCIDE with a PCID in CR3");
}

#[test]
fn pae_paging_loads_its_four_entries_and_refuses_reserved_bits() {
    let mut machine = Machine::in_mode(CpuMode::Flat32);
    machine.cpu_mut().state_mut().cr3 = 0x3020;
    for (index, entry) in [0x5001_u64, 0, 0x6001, 0x7001].into_iter().enumerate() {
        machine.vm.memory.write_u64(Gpa::new(0x3020 + 8 * index as u64), entry).expect("RAM");
    }
    write_cr4(&mut machine, PAE).expect("legal");
    write_cr0(&mut machine, PE | PG).expect("legal");
    assert_eq!(machine.cpu().pdptes(), [0x5001, 0, 0x6001, 0x7001]);

    let mut machine = Machine::in_mode(CpuMode::Flat32);
    machine.cpu_mut().state_mut().cr3 = 0x3020;
    machine.vm.memory.write_u64(Gpa::new(0x3020), 0x5003).expect("RAM");
    write_cr4(&mut machine, PAE).expect("legal");
    assert_eq!(write_cr0(&mut machine, PE | PG), Err(GP));
    assert!(!machine.cpu().cr0().contains(Cr0Flags::PAGING));

    machine.cpu_mut().state_mut().cr3 = 0xf000_0000;
    assert_eq!(write_cr0(&mut machine, PE | PG), Err(GP), "the entries are not in RAM");
}

#[test]
fn cr8_is_the_class_of_the_task_priority() {
    let mut machine = Machine::default();
    for value in 0..16 {
        machine.access_cr(CrAccess::WriteCr8(Gpr::R9), value).expect("four bits");
        machine.access_cr(CrAccess::ReadCr8(Gpr::Rsp), 0).expect("reads");
        assert_eq!(machine.cpu().rsp(), value);
        assert_eq!(machine.load(0xfee0_0080), u32::try_from(value).expect("small") << 4);
    }
    for value in [16, 0xff, u64::MAX] {
        assert_eq!(machine.access_cr(CrAccess::WriteCr8(Gpr::R9), value), Err(GP));
    }
}

#[test]
fn clts_and_lmsw_touch_their_bits_alone() {
    let mut machine = Machine::default();
    let before = machine.cpu().cr0();
    write_cr0(&mut machine, before.bits() | TS).expect("legal");
    machine.access_cr(CrAccess::Clts, 0).expect("legal");
    assert_eq!(machine.cpu().cr0(), before);
    machine.access_cr(CrAccess::Lmsw(0xfff0), 0).expect("legal");
    assert_eq!(machine.cpu().cr0(), before, "LMSW cannot clear PE, nor reach what is above TS");
    machine.access_cr(CrAccess::Lmsw(0xe), 0).expect("legal");
    assert_eq!(machine.cpu().cr0().bits(), before.bits() | 0xe);
    let mut machine = Machine::in_mode(CpuMode::Real);
    machine.access_cr(CrAccess::Lmsw(1), 0).expect("legal");
    assert!(machine.cpu().cr0().contains(Cr0Flags::PROTECTED_MODE_ENABLE));
}

#[test]
fn xsetbv_checks_in_the_manuals_order() {
    let xsetbv = |machine: &mut Machine, register: u64, value: u64| {
        let step = Step::exit(VmExit::Xsetbv)
            .length(3)
            .set(Gpr::Rcx, register)
            .set(Gpr::Rax, value & 0xffff_ffff)
            .set(Gpr::Rdx, value >> 32);
        machine.execute(step).fault
    };
    let mut machine = Machine::default();
    assert_eq!(xsetbv(&mut machine, 0, 1), Some(Exception::InvalidOpcode), "without OSXSAVE");
    write_cr4(&mut machine, PAE | OSXSAVE).expect("offered");
    for value in [1, 3, 7, 0xe7, 0x207, 0x2e7] {
        assert_eq!(xsetbv(&mut machine, 0, value), None, "{value:#x}");
        assert_eq!(machine.cpu().xcr0(), value);
    }
    for value in [0, 2, 5, 6, 0x27, 0xe3, 0x47, 0xf, 0x1f, 0x107, 0x401, 1 << 63 | 1, u64::MAX] {
        assert_eq!(xsetbv(&mut machine, 0, value), Some(GP), "{value:#x}");
        assert_eq!(machine.cpu().xcr0(), 0x2e7);
    }
    assert_eq!(xsetbv(&mut machine, 1, 1), Some(GP), "there is only XCR0");
    let stack = SegmentRegister::Ss as usize;
    machine.cpu_mut().state_mut().segments[stack].access_rights |= 3 << 5;
    assert_eq!(xsetbv(&mut machine, 0, 1), Some(GP), "at CPL 3");
}
