//! Device memory: the instruction at RIP is emulated against the local APIC, the I/O APIC and the open bus.

use arch::{Exception, Gpa, Gpr, RFlags};
use memory::GuestMemory;
use proptest::prelude::*;
use vm_sim::{CODE, CpuMode, Effect, Machine, Step};
use vmm::{CpuState, EptFault, Leave, MemoryAccess, StopReason, VcpuBackend, VmExit};

const LAPIC: u64 = 0xfee0_0000;
const HOLE: u64 = 0xd000_0000;

#[test]
fn xapic_registers_are_read_and_written_in_every_paging_mode() {
    for mode in [CpuMode::Long64, CpuMode::Flat32] {
        let mut machine = Machine::in_mode(mode);
        assert_eq!(machine.load(LAPIC + 0x20), 0, "{mode:?}: ID");
        assert_eq!(machine.load(LAPIC + 0x30), 0x0105_0014, "{mode:?}: version");
        machine.store(LAPIC + 0x80, 0x70);
        assert_eq!(machine.load(LAPIC + 0x80), 0x70, "{mode:?}: TPR");
        machine.store(LAPIC + 0xf0, 0x1ff);
        machine.store(LAPIC + 0x3e0, 0b1011);
        machine.store(LAPIC + 0x320, 0x40);
        machine.store(LAPIC + 0x380, 1000);
        machine.run_for(400);
        assert_eq!(machine.load(LAPIC + 0x390), 600, "{mode:?}: current count");
        machine.store(LAPIC + 0x80, 0);
        machine.enable_interrupts();
        assert_eq!(machine.run_for(1000).interrupts, [arch::Vector(0x40)], "{mode:?}");
    }
}

#[test]
fn the_registers_move_with_the_base_register_and_vanish_in_x2apic_mode() {
    let mut machine = Machine::default();
    machine.wrmsr(arch::Msr::APIC_BASE, 0xd000_0900).expect("legal");
    assert_eq!(machine.load(HOLE + 0x30), 0x0105_0014);
    assert_eq!(machine.load(LAPIC + 0x30), u32::MAX);
    let mut machine = Machine::default();
    machine.switch_to_x2apic();
    assert_eq!(machine.load(LAPIC + 0x30), u32::MAX);
}

#[test]
fn the_ioapic_answers_through_its_window() {
    let mut machine = Machine::default();
    machine.store(0xfec0_0000, 1);
    assert_eq!(machine.load(0xfec0_0010) >> 16 & 0xff, 23, "24 pins");
    machine.set_ioapic_pin(7, 0x1_0037);
    assert_eq!(machine.load(0xfec0_0010), 0x1_0037);
}

#[test]
fn holes_read_all_ones_at_every_width_and_swallow_writes() {
    let reads: [(&[u8], u64); 5] = [
        (&[0x8a, 0x03], 0x1122_3344_5566_77ff),
        (&[0x66, 0x8b, 0x03], 0x1122_3344_5566_ffff),
        (&[0x8b, 0x03], 0xffff_ffff),
        (&[0x48, 0x8b, 0x03], u64::MAX),
        (&[0x0f, 0xb6, 0x03], 0xff),
    ];
    for (code, after) in reads {
        for gpa in [HOLE, HOLE + 0xff8, 0xfed0_0400, 0xffff_fff0, 0x4_0000] {
            let mut machine = Machine::default();
            machine.cpu_mut().gprs_mut().set(Gpr::Rax, 0x1122_3344_5566_7788);
            machine.cpu_mut().gprs_mut().set(Gpr::Rbx, gpa);
            let executed = machine.touch(code, gpa, MemoryAccess::Read);
            assert_eq!((executed.leave, executed.fault), (Leave::HostInterrupt, None), "{code:x?}");
            assert_eq!(executed.advanced, code.len() as u64);
            assert_eq!(machine.cpu().gprs().get(Gpr::Rax), after, "{code:x?} {gpa:#x}");
        }
    }
    let mut machine = Machine::default();
    machine.store(HOLE, 0);
    assert_eq!(machine.load(HOLE), u32::MAX);
}

#[test]
fn a_fetch_outside_of_ram_ends_the_machine() {
    let gpa = Gpa::new(HOLE);
    let mut machine = Machine::default();
    let executed = machine.touch(&[0x90], HOLE, MemoryAccess::Fetch);
    assert_eq!(executed.leave, Leave::Stopped(StopReason::FetchOutsideRam(gpa)));
    // The code itself is in a hole while it touches another.
    let mut machine = Machine::default();
    machine.cpu_mut().apply(Effect::Jump(HOLE));
    let fault = EptFault { gpa, gva: arch::Gva::new(HOLE), translated: true, access: MemoryAccess::Read };
    let leave = machine.play([Step::exit(VmExit::Ept(fault))]);
    assert_eq!(leave, Leave::Stopped(StopReason::FetchOutsideRam(gpa)));
}

#[test]
fn a_user_process_that_runs_in_a_hole_ends_alone() {
    let mut machine = Machine::default();
    let cpu = machine.cpu_mut();
    let mut state = cpu.save();
    state.segments[arch::SegmentRegister::Ss as usize].access_rights |= 3 << 5;
    cpu.restore(&state);
    let executed = machine.touch(&[0x90], HOLE, MemoryAccess::Fetch);
    assert_eq!((executed.leave, executed.fault), (Leave::HostInterrupt, Some(Exception::InvalidOpcode)));
}

#[test]
fn vector_registers_are_moved_to_and_from_device_memory() {
    let mut machine = Machine::default();
    let cr4 = machine.cpu().cr4() | arch::Cr4Flags::OSFXSR;
    machine.cpu_mut().set_cr4(cr4);
    let register = arch::VectorRegister::from_encoding(1);
    machine.cpu_mut().set_vector(register, &[0x5a; 64]);
    machine.cpu_mut().gprs_mut().set(Gpr::Rbx, HOLE);
    let executed = machine.touch(&[0x0f, 0x10, 0x0b], HOLE, MemoryAccess::Read); // movups xmm1, [rbx]
    assert_eq!((executed.fault, executed.advanced), (None, 3));
    let value = machine.cpu().vector(register);
    assert_eq!((&value[..16], &value[16..]), (&[0xff; 16][..], &[0x5a; 48][..]));
}

#[test]
fn an_instruction_that_is_not_emulated_ends_the_machine_with_its_bytes() {
    let mut machine = Machine::default();
    machine.cpu_mut().gprs_mut().set(Gpr::Rbx, HOLE);
    // FLD [RBX].
    let executed = machine.touch(&[0xdd, 0x03], HOLE, MemoryAccess::Read);
    let mut bytes = [0; 15];
    bytes[..2].copy_from_slice(&[0xdd, 0x03]);
    assert_eq!(executed.leave, Leave::Stopped(StopReason::NotEmulated { bytes, length: 2 }));
    assert_eq!(machine.vcpu.last_rip(), CODE, "RIP is still there");
}

#[test]
fn a_jump_through_device_memory_moves_rip() {
    let mut machine = Machine::default();
    machine.cpu_mut().gprs_mut().set(Gpr::Rbx, HOLE);
    // JMP [RBX].
    let executed = machine.touch(&[0xff, 0x23], HOLE, MemoryAccess::Read);
    assert_eq!((executed.leave, executed.fault), (Leave::HostInterrupt, None));
    assert_eq!(machine.cpu().rip(), u64::MAX);
}

#[test]
fn a_breakpoint_on_data_traps_behind_the_access() {
    /// Breakpoint 2, four bytes long, on writes.
    const ON_WRITES: u64 = 0b1101 << 24 | 1 << 4;
    for (address, access, dr6) in [
        (HOLE, MemoryAccess::Write, Some(0b0100)),
        (HOLE + 4, MemoryAccess::Write, None),
        (HOLE, MemoryAccess::Read, None),
    ] {
        let mut machine = Machine::default();
        let cpu = machine.cpu_mut();
        let state = cpu.save();
        cpu.restore(&CpuState { breakpoints: [0, 0, address, 0], dr7: ON_WRITES, ..state });
        cpu.gprs_mut().set(Gpr::Rbx, HOLE);
        let code = if access == MemoryAccess::Write { [0x89, 0x03] } else { [0x8b, 0x03] };
        let executed = machine.touch(&code, HOLE, access);
        let trap = dr6.map(|dr6| Exception::Debug { dr6 });
        assert_eq!((executed.fault, executed.advanced), (trap, 2), "{address:#x} {access:?}");
    }
}

#[test]
fn a_breakpoint_on_an_element_traps_there_beside_the_single_step() {
    const ON_WRITES: u64 = 0b1101 << 16 | 1;
    for (flags, left, dr6) in [(RFlags::empty(), 3, 1), (RFlags::TRAP_FLAG, 4, 1 << 14)] {
        let mut machine = Machine::default();
        let cpu = machine.cpu_mut();
        let state = cpu.save();
        let breakpoints = [HOLE + 4, 0, 0, 0];
        cpu.restore(&CpuState { breakpoints, dr7: ON_WRITES, rflags: state.rflags | flags, ..state });
        cpu.gprs_mut().set(Gpr::Rdi, HOLE);
        cpu.gprs_mut().set(Gpr::Rcx, 5);
        // REP STOSD.
        let executed = machine.touch(&[0xf3, 0xab], HOLE, MemoryAccess::Write);
        assert_eq!((executed.fault, executed.advanced), (Some(Exception::Debug { dr6 }), 0));
        assert_eq!(machine.cpu().gprs().get(Gpr::Rcx), left);
    }
}

#[test]
fn an_invalid_instruction_is_the_guests_own_fault() {
    let mut machine = Machine::default();
    // PUSH ES, which 64-bit mode has not, put there after the access was made.
    let executed = machine.touch(&[0x06], HOLE, MemoryAccess::Read);
    assert_eq!((executed.leave, executed.fault), (Leave::HostInterrupt, Some(Exception::InvalidOpcode)));
    assert_eq!(executed.advanced, 0);
}

#[test]
fn a_page_fault_of_the_emulated_access_sets_cr2_and_leaves_rip() {
    let mut machine = Machine::default();
    // The page tables end at 4 GiB, while the report of the access says nothing of its translation.
    let address = 0x1_2345_6000;
    machine.write_code(&[0x8b, 0x03]);
    machine.cpu_mut().gprs_mut().set(Gpr::Rbx, address);
    let fault = EptFault {
        gpa: Gpa::new(HOLE),
        gva: arch::Gva::new(address),
        translated: false,
        access: MemoryAccess::Read,
    };
    let executed = machine.execute(Step::exit(VmExit::Ept(fault)));
    assert_eq!(executed.fault, Some(Exception::PageFault { error_code: 0, address }));
    assert_eq!((executed.advanced, machine.cpu().cr2()), (0, address));
}

#[test]
fn a_long_repetition_is_done_in_slices() {
    let mut machine = Machine::default();
    machine.write_code(&[0xf3, 0xab]);
    let fault = EptFault {
        gpa: Gpa::new(HOLE),
        gva: arch::Gva::new(HOLE),
        translated: true,
        access: MemoryAccess::Write,
    };
    let count = 10_000;
    let gprs = machine.cpu_mut().gprs_mut();
    gprs.set(Gpr::Rdi, HOLE);
    gprs.set(Gpr::Rcx, count);
    let mut exits = 0;
    while machine.cpu().rip() == CODE {
        let left = machine.cpu().gprs().get(Gpr::Rcx);
        assert_eq!(machine.play([Step::exit(VmExit::Ept(fault)).after(1)]), Leave::HostInterrupt);
        assert!(machine.cpu().gprs().get(Gpr::Rcx) < left, "every exit gets on");
        exits += 1;
        assert!(exits < 10_000);
    }
    assert_eq!(machine.cpu().gprs().get(Gpr::Rcx), 0);
    assert_eq!(machine.cpu().gprs().get(Gpr::Rdi), HOLE + 4 * count);
    assert!(exits > 1, "work per exit is bounded");
}

#[test]
fn a_string_move_carries_device_registers_to_ram() {
    let mut machine = Machine::default();
    machine.write_code(&[0xa5]);
    let fault = EptFault {
        gpa: Gpa::new(LAPIC + 0x30),
        gva: arch::Gva::new(LAPIC + 0x30),
        translated: true,
        access: MemoryAccess::Read,
    };
    let step = Step::exit(VmExit::Ept(fault)).set(Gpr::Rsi, LAPIC + 0x30).set(Gpr::Rdi, 0x3_0000);
    assert_eq!(machine.execute(step).advanced, 1);
    assert_eq!(machine.vm.memory.read_u32(Gpa::new(0x3_0000)), Ok(0x0105_0014));
}

#[test]
fn arithmetic_on_device_memory_sets_flags() {
    let mut machine = Machine::default();
    machine.cpu_mut().gprs_mut().set(Gpr::Rbx, HOLE);
    machine.cpu_mut().gprs_mut().set(Gpr::Rax, 1);
    // ADD EAX, [RBX]: 1 + 0xffff_ffff.
    let executed = machine.touch(&[0x03, 0x03], HOLE, MemoryAccess::Read);
    assert_eq!(executed.advanced, 2);
    assert_eq!(machine.cpu().gprs().get(Gpr::Rax), 0);
    let flags = machine.cpu().rflags();
    assert!(flags.contains(RFlags::ZERO_FLAG | RFlags::CARRY_FLAG));
}

proptest! {
    #[test]
    fn any_code_on_any_device_address_does_something_defined(
        code in prop::collection::vec(any::<u8>(), 1..15),
        offset in 0_u64..0x2000,
        rcx in 0_u64..0x2_0000,
        write in any::<bool>(),
        mode in prop::sample::select(vec![CpuMode::Long64, CpuMode::Flat32]),
    ) {
        for base in [LAPIC, 0xfec0_0000, HOLE] {
            let mut machine = Machine::in_mode(mode);
            let gpa = base + offset;
            for register in [Gpr::Rax, Gpr::Rbx, Gpr::Rsi, Gpr::Rdi, Gpr::Rdx] {
                machine.cpu_mut().gprs_mut().set(register, gpa);
            }
            machine.cpu_mut().gprs_mut().set(Gpr::Rcx, rcx);
            let access = if write { MemoryAccess::Write } else { MemoryAccess::Read };
            let executed = machine.touch(&code, gpa, access);
            if executed.leave == Leave::HostInterrupt && executed.fault.is_none() && executed.interrupts.is_empty() {
                // CALL, RET, and the group with JMP and CALL through memory.
                let may_branch = code.iter().any(|byte| matches!(byte, 0xc2 | 0xc3 | 0xe8 | 0xff));
                prop_assert!(executed.advanced <= 15 || may_branch);
            }
        }
    }
}
