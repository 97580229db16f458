//! Interrupts from device to handler: I/O APIC, 8259, windows, shadows, NMIs, re-injection.

use arch::{Exception, Gpa, Gpr, Gva, RFlags, Vector};
use bus::Platform;
use proptest::prelude::*;
use vm_sim::{CODE, Effect, Machine, Setup, Step, handler};
use vmm::{EptFault, Event, Interruptibility, Leave, MemoryAccess, StopReason, VcpuBackend, VmExit};

const COM1_PIN: u8 = 4;
const COM1_VECTOR: Vector = Vector(0x34);
const LEVEL: u32 = 1 << 15;
const MASKED: u32 = 1 << 16;
const EOI: u64 = 0xfee0_00b0;
const SVR: u64 = 0xfee0_00f0;
const LINT0: u64 = 0xfee0_0350;
const LINT1: u64 = 0xfee0_0360;

/// A guest in xAPIC mode whose serial port interrupts through the I/O APIC, with IF clear.
fn with_uart(entry: u32) -> Machine {
    let mut machine = Machine::default();
    machine.store(SVR, 0x1ff);
    machine.enable_uart();
    machine.set_ioapic_pin(COM1_PIN, u32::from(COM1_VECTOR.0) | entry);
    machine
}

/// A guest with a self-IPI of `vector` waiting.
fn with_waiting(vector: u8) -> Machine {
    let mut machine = Machine::default();
    machine.switch_to_x2apic();
    machine.wrmsr(arch::Msr(0x83f), vector.into()).expect("SELF IPI");
    machine
}

fn events(machine: &Machine) -> Vec<Event> {
    machine.cpu().deliveries().iter().map(|delivery| delivery.event).collect()
}

#[test]
fn a_key_interrupts_the_guest_once_and_again_after_its_eoi() {
    for entry in [0, LEVEL] {
        let mut machine = with_uart(entry);
        machine.enable_interrupts();
        machine.type_in(b"a");
        assert_eq!(machine.run_for(10).interrupts, [COM1_VECTOR], "{entry:#x}");
        assert_eq!(machine.cpu().rip(), handler(COM1_VECTOR));
        assert_eq!(machine.run_for(10).interrupts, [], "once");
        // The handler turns interrupts on early: its own vector is still in service.
        machine.enable_interrupts();
        assert_eq!(machine.run_for(10).interrupts, []);
        assert_eq!(machine.inb(0x3f8), b'a');
        machine.type_in(b"b");
        assert_eq!(machine.run_for(10).interrupts, [], "before the EOI");
        assert_eq!(machine.store(EOI, 0).interrupts, [COM1_VECTOR], "after the EOI");
        assert_eq!(machine.inb(0x3f8), b'b');
        machine.store(EOI, 0);
        machine.iret();
        machine.iret();
        assert_eq!(machine.run_for(10).interrupts, []);
    }
}

#[test]
fn a_level_that_is_still_high_at_the_eoi_interrupts_again_and_an_edge_does_not() {
    for (entry, again) in [(LEVEL, vec![COM1_VECTOR]), (0, vec![])] {
        let mut machine = with_uart(entry);
        machine.enable_interrupts();
        machine.type_in(b"a");
        assert_eq!(machine.run_for(1).interrupts, [COM1_VECTOR]);
        machine.enable_interrupts();
        assert_eq!(machine.store(EOI, 0).interrupts, again, "{entry:#x}");
    }
}

#[test]
fn a_masked_pin_keeps_a_level_and_forgets_an_edge() {
    for (entry, after) in [(LEVEL, vec![COM1_VECTOR]), (0, vec![])] {
        let mut machine = with_uart(entry | MASKED);
        machine.enable_interrupts();
        machine.type_in(b"a");
        assert_eq!(machine.run_for(1).interrupts, []);
        machine.store(0xfec0_0000, 0x10 + 2 * u32::from(COM1_PIN));
        let executed = machine.store(0xfec0_0010, u32::from(COM1_VECTOR.0) | entry);
        assert_eq!(executed.interrupts, after, "{entry:#x}");
    }
}

#[test]
fn the_8259_interrupts_through_the_virtual_wire() {
    let mut machine = Machine::default();
    machine.initialize_pics();
    machine.enable_uart();
    machine.enable_interrupts();
    machine.type_in(b"a");
    assert_eq!(machine.run_for(1).interrupts, [Vector(0x24)]);
    machine.enable_interrupts();
    assert_eq!(machine.run_for(1).interrupts, [], "in service");
    assert_eq!(machine.inb(0x3f8), b'a');
    machine.outb(0x20, 0x20);
    machine.type_in(b"b");
    assert_eq!(machine.run_for(1).interrupts, [Vector(0x24)]);
}

#[test]
fn a_masked_lint0_cuts_the_virtual_wire() {
    let mut machine = Machine::default();
    machine.initialize_pics();
    machine.enable_uart();
    machine.switch_to_x2apic();
    machine.wrmsr(arch::Msr(0x835), 0x1_0700).expect("LINT0");
    machine.enable_interrupts();
    machine.type_in(b"a");
    assert_eq!(machine.run_for(1).interrupts, []);
    assert!(machine.vm.platform().external_interrupt());
    assert_eq!(
        machine.wrmsr(arch::Msr(0x835), 0x700).map(|executed| executed.interrupts),
        Ok(vec![Vector(0x24)])
    );
}

#[test]
fn the_8259_interrupts_as_the_vector_table_says() {
    for (entry, expected) in [(0x45_u32, Vector(0x45)), (0x400, Vector(2)), (0x8046, Vector(0x46))] {
        let mut machine = Machine::default();
        machine.initialize_pics();
        machine.enable_uart();
        machine.store(SVR, 0x1ff);
        machine.store(LINT0, entry);
        machine.enable_interrupts();
        machine.type_in(b"a");
        assert_eq!(machine.run_for(1).interrupts, [expected], "{entry:#x}");
        assert!(machine.vm.platform().external_interrupt(), "nobody acknowledged it at the 8259");
        assert_eq!(machine.run_for(1).interrupts, [], "once");
        machine.iret();
        let again = if entry == 0x8046 { vec![expected] } else { vec![] };
        assert_eq!(machine.store(EOI, 0).interrupts, again, "{entry:#x}");
    }
}

#[test]
fn the_nmi_line_reaches_the_processors_whose_lint1_lets_it() {
    let mut machine = Machine::new(Setup { vcpus: 2, ..Setup::default() });
    machine.store(SVR, 0x1ff);
    machine.vm.pulse_nmi_line();
    assert_eq!(machine.take_wakes(), [0, 1]);
    assert_eq!(machine.run_for(1).interrupts, [], "masked after reset");
    machine.store(LINT1, 0x400);
    machine.vm.pulse_nmi_line();
    machine.vm.pulse_nmi_line();
    assert_eq!(machine.run_for(1).interrupts, [Vector(2)]);
    machine.iret();
    assert_eq!(machine.run_for(1).interrupts, []);
    machine.turn_to(1);
    machine.poll();
    assert!(!machine.vcpu.save(machine.now()).nmi_pending);
}

/// The local APIC does not tell the I/O APIC, so the guest does.
#[test]
fn an_end_that_is_not_broadcast_is_told_to_the_io_apic_by_its_own_register() {
    let mut machine = with_uart(LEVEL);
    machine.store(SVR, 0x11ff);
    machine.enable_interrupts();
    machine.type_in(b"a");
    assert_eq!(machine.run_for(1).interrupts, [COM1_VECTOR]);
    machine.iret();
    assert_eq!(machine.store(EOI, 0).interrupts, []);
    assert_eq!(machine.run_for(1).interrupts, [], "remote IRR is still set");
    assert_eq!(machine.store(0xfec0_0040, COM1_VECTOR.0.into()).interrupts, [COM1_VECTOR]);
}

#[test]
fn the_secondary_8259_interrupts_with_its_own_vectors() {
    let mut machine = Machine::default();
    machine.initialize_pics();
    machine.enable_interrupts();
    // The clock's periodic interrupt at 1024 Hz.
    machine.outb(0x70, 0x0b);
    machine.outb(0x71, 0x42);
    machine.outb(0x70, 0x0c);
    assert_eq!(machine.run_for(1_100_000).interrupts, [Vector(0x28)]);
}

#[test]
fn a_request_that_goes_away_before_it_is_taken_is_not_taken() {
    let mut machine = Machine::default();
    machine.initialize_pics();
    machine.enable_uart();
    machine.outb(0x4d0, 0x10);
    machine.type_in(b"a");
    assert!(machine.vm.platform().external_interrupt());
    assert_eq!(machine.inb(0x3f8), b'a');
    machine.enable_interrupts();
    assert_eq!(machine.run_for(1).interrupts, []);
}

#[test]
fn with_interrupts_off_the_window_is_asked_for_and_used_once() {
    let mut machine = with_waiting(0x55);
    let leave = machine.play([
        Step::exit(VmExit::Vmcall).expect_no_event().expect_windows(true, false),
        Step::run(5).does(Effect::SetFlags(RFlags::INTERRUPT_FLAG)),
        Step::run(5).expect_event(Event::Interrupt(Vector(0x55))).expect_windows(false, false),
        Step::exit(VmExit::Vmcall),
        Step::run(5).expect_no_event().expect_windows(false, false),
    ]);
    assert_eq!((leave, machine.cpu().steps_left()), (Leave::HostInterrupt, 0));
    assert_eq!(events(&machine), [Event::Interrupt(Vector(0x55))]);
}

#[test]
fn the_instruction_after_sti_or_mov_ss_is_not_interrupted() {
    for shadow in [Effect::Sti, Effect::MovSs] {
        let mut machine = with_waiting(0x55);
        if shadow == Effect::MovSs {
            machine.enable_interrupts();
            machine.cpu_mut().apply(shadow);
        }
        machine.play([
            Step::run(5).does(shadow),
            // The instruction in the shadow exits: still not the moment.
            Step::exit(VmExit::Cpuid).expect_no_event(),
            Step::run(5).expect_event(Event::Interrupt(Vector(0x55))),
        ]);
        if shadow == Effect::Sti {
            assert_eq!(events(&machine), [Event::Interrupt(Vector(0x55))]);
        }
        assert_eq!(machine.cpu().steps_left(), 0, "{shadow:?}");
    }
}

#[test]
fn a_shadow_that_no_exit_ends_is_over_one_instruction_later() {
    let mut machine = with_waiting(0x55);
    machine.play([Step::run(5).does(Effect::Sti), Step::run(1), Step::run(1)]);
    let [delivery] = machine.cpu().deliveries() else { panic!("one delivery") };
    assert_eq!((delivery.event, delivery.rip), (Event::Interrupt(Vector(0x55)), machine_start(&machine)));
}

/// RIP of the guest whose only delivery was its last.
fn machine_start(machine: &Machine) -> u64 {
    machine.cpu().deliveries()[0].rip
}

#[test]
fn the_more_urgent_vector_comes_first_and_the_other_after_its_eoi() {
    let mut machine = with_waiting(0x41);
    machine.wrmsr(arch::Msr(0x83f), 0x91).expect("SELF IPI");
    machine.enable_interrupts();
    assert_eq!(machine.run_for(1).interrupts, [Vector(0x91)]);
    machine.enable_interrupts();
    assert_eq!(machine.run_for(1).interrupts, []);
    let executed = machine.wrmsr(arch::Msr(0x80b), 0).expect("EOI");
    assert_eq!(executed.interrupts, [Vector(0x41)]);
}

#[test]
fn the_task_priority_holds_interrupts_back_until_it_falls() {
    let mut machine = with_waiting(0x55);
    machine.enable_interrupts();
    machine.cpu_mut().apply(Effect::ClearFlags(RFlags::INTERRUPT_FLAG));
    machine.access_cr(vmm::CrAccess::WriteCr8(arch::Gpr::Rcx), 5).expect("CR8");
    machine.enable_interrupts();
    assert_eq!(machine.run_for(1).interrupts, []);
    assert!(!machine.cpu().entries().last().expect("an entry").interrupt_window);
    machine.access_cr(vmm::CrAccess::WriteCr8(arch::Gpr::Rcx), 4).expect("CR8");
    assert_eq!(events(&machine), [Event::Interrupt(Vector(0x55))]);
}

#[test]
fn an_nmi_is_delivered_with_interrupts_off_and_blocks_the_next_until_iret() {
    let mut machine = Machine::default();
    machine.vcpu.send_nmi();
    assert_eq!(machine.run_for(1).interrupts, [Vector(2)]);
    assert!(machine.cpu().interruptibility().contains(Interruptibility::NMI));
    machine.vcpu.send_nmi();
    machine.vcpu.send_nmi();
    let leave = machine.play([
        Step::exit(VmExit::Vmcall).expect_no_event().expect_windows(false, true),
        Step::run(1).expect_no_event().expect_windows(false, true).does(Effect::Iret),
        Step::run(1).expect_event(Event::Nmi).expect_windows(false, false),
    ]);
    assert_eq!((leave, machine.cpu().steps_left()), (Leave::HostInterrupt, 0));
    assert_eq!(events(&machine), [Event::Nmi, Event::Nmi], "two that wait are one");
}

#[test]
fn an_nmi_waits_for_the_shadow_of_mov_ss() {
    let mut machine = Machine::default();
    machine.vcpu.send_nmi();
    machine.cpu_mut().apply(Effect::MovSs);
    machine.play([Step::exit(VmExit::Cpuid).expect_no_event(), Step::run(1).expect_event(Event::Nmi)]);
    assert_eq!(machine.cpu().steps_left(), 0);
}

#[test]
fn an_nmi_comes_before_an_interrupt() {
    let mut machine = with_waiting(0x55);
    machine.enable_interrupts();
    machine.vcpu.send_nmi();
    machine.play([Step::run(1).expect_event(Event::Nmi).expect_windows(true, false).does(Effect::Iret)]);
    machine.run_for(1);
    assert_eq!(events(&machine), [Event::Nmi, Event::Interrupt(Vector(0x55))]);
}

#[test]
fn an_nmi_sent_to_oneself_arrives() {
    let mut machine = Machine::default();
    machine.switch_to_x2apic();
    let executed = machine.wrmsr(arch::Msr(0x830), 0x400).expect("ICR to APIC ID 0");
    assert_eq!(executed.interrupts, [Vector(2)]);
}

#[test]
fn a_fault_and_an_interrupt_at_once_are_both_delivered_the_fault_first() {
    let mut machine = with_waiting(0x55);
    machine
        .play([Step::exit(VmExit::Rdpmc).does(Effect::SetFlags(RFlags::INTERRUPT_FLAG)).expect_no_event()]);
    let rip = machine.cpu().deliveries().first().expect("the interrupt came through its window").rip;
    assert_eq!(events(&machine)[0], Event::Interrupt(Vector(0x55)));
    assert_eq!(events(&machine)[1], Event::Exception(Exception::GeneralProtection(0)));
    assert!(rip >= CODE);
}

#[test]
fn a_pending_fault_is_not_overwritten_by_an_interrupt_or_an_nmi() {
    let gp = Event::Exception(Exception::GeneralProtection(0));
    let mut machine = Machine::default();
    machine.switch_to_x2apic();
    machine.enable_interrupts();
    machine.wrmsr(arch::Msr(0x832), 0x4_0066).expect("TSC deadline");
    let deadline = machine.cpu().guest_tsc().0 + 100;
    machine.wrmsr(arch::Msr::TSC_DEADLINE, deadline).expect("armed");
    // The timer runs out in the very tick in which the instruction faults.
    machine.vcpu.send_nmi();
    machine.vcpu.backend_mut().apply(Effect::MovSs);
    machine.play([Step::exit(VmExit::Rdpmc).after(100).expect_no_event(), Step::run(0)]);
    let entry = machine.cpu().entries().iter().find(|entry| entry.event == Some(gp)).expect("the fault");
    assert!(entry.interrupt_window && entry.nmi_window, "{entry:?}");
    assert_eq!(events(&machine), [gp, Event::Nmi]);
    machine.iret();
    machine.iret();
    machine.enable_interrupts();
    machine.run_for(1);
    assert_eq!(events(&machine), [gp, Event::Nmi, Event::Interrupt(Vector(0x66))]);
}

#[test]
fn an_interrupt_that_a_fault_on_its_way_cut_off_stops_the_machine_with_a_reason() {
    let mut machine = with_waiting(0x55);
    machine.enable_interrupts();
    let fault = EptFault {
        gpa: Gpa::new(0xd000_0000),
        gva: Gva::new(0xd000_0000),
        translated: true,
        access: MemoryAccess::Write,
    };
    let leave = machine.play([Step::exit(VmExit::Ept(fault)).cutting_off()]);
    assert!(matches!(leave, Leave::Stopped(StopReason::NotEmulated { length: 0, .. })), "{leave:?}");
}

#[test]
fn exceptions_of_the_guests_own_come_back_to_it() {
    for (exception, advanced) in [
        (Exception::AlignmentCheck, 0),
        (Exception::Debug { dr6: 1 << 14 }, 0),
        (Exception::Debug { dr6: 0b101 }, 0),
    ] {
        let mut machine = Machine::default();
        let executed = machine.execute(Step::exit(VmExit::Exception(exception)));
        assert_eq!((executed.fault, executed.advanced), (Some(exception), advanced));
    }
}

#[test]
fn debug_exceptions_show_in_dr6() {
    let mut machine = Machine::default();
    machine.execute(Step::exit(VmExit::Exception(Exception::Debug { dr6: 0b0101 })));
    assert_eq!(machine.cpu().dr6(), 0xffff_0ff5);
    machine.execute(Step::exit(VmExit::Exception(Exception::Debug { dr6: 1 << 14 | 0b0010 })));
    assert_eq!(machine.cpu().dr6(), 0xffff_4ff2, "B0 to B3 are of the last one, BS stays");
}

#[test]
fn a_debug_exception_gives_the_debug_registers_to_its_handler() {
    let mut machine = Machine::default();
    machine.cpu_mut().state_mut().dr7 = 0x2701;
    machine.execute(Step::exit(VmExit::Exception(Exception::Debug { dr6: 1 << 13 })));
    assert_eq!(machine.cpu().dr7(), 0x701, "GD is clear, the breakpoints stay");
    assert_eq!(machine.cpu().dr6(), 0xffff_2ff0, "BD");
}

#[test]
fn an_interrupt_that_an_exception_displaced_comes_after_it() {
    let mut machine = with_waiting(0x55);
    machine.enable_interrupts();
    machine.play([
        Step::exit(VmExit::Exception(Exception::AlignmentCheck)).cutting_off(),
        // A more urgent one comes while the handler runs; the displaced one was accepted before.
        Step::exit(VmExit::WriteMsr)
            .set(Gpr::Rcx, 0x83f)
            .set(Gpr::Rax, 0xe0)
            .set(Gpr::Rdx, 0)
            .expect_event(Event::Exception(Exception::AlignmentCheck))
            .expect_windows(true, false),
        Step::run(1).expect_windows(true, false),
        Step::run(0).does(Effect::Iret),
        Step::run(1).expect_event(Event::Interrupt(Vector(0x55))),
    ]);
    assert_eq!(machine.cpu().steps_left(), 0);
    machine.enable_interrupts();
    machine.run_for(1);
    let alignment = Event::Exception(Exception::AlignmentCheck);
    let expected = [alignment, Event::Interrupt(Vector(0x55)), Event::Interrupt(Vector(0xe0))];
    assert_eq!(events(&machine), expected);
}

#[test]
fn an_nmi_that_an_exception_displaced_comes_after_it() {
    let debug = Exception::Debug { dr6: 1 };
    let mut machine = Machine::default();
    machine.vcpu.send_nmi();
    machine.play([Step::exit(VmExit::Exception(debug)).cutting_off(), Step::run(1)]);
    assert_eq!(events(&machine), [Event::Exception(debug), Event::Nmi]);
}

#[test]
fn a_machine_check_during_delivery_loses_no_event() {
    let mut machine = with_waiting(0x55);
    machine.enable_interrupts();
    assert_eq!(machine.play([Step::exit(VmExit::MachineCheck).cutting_off()]), Leave::HostMachineCheck);
    machine.run_for(1);
    assert_eq!(events(&machine), [Event::Interrupt(Vector(0x55))]);
}

#[test]
fn a_guest_that_faults_for_ever_in_delivery_still_gets_its_slices_ended() {
    let mut machine = Machine::default();
    let end = arch::Tsc(machine.now().0 + 1000);
    let storm = (0..100_000).map(|_| Step::exit(VmExit::Exception(Exception::AlignmentCheck)).after(10));
    assert_eq!(machine.play_until(storm, end), Leave::SliceEnd);
    assert!(machine.now().0 <= end.0 + 10);
}

#[test]
fn a_single_step_over_an_emulated_instruction_traps_after_it() {
    for emulated in [false, true] {
        let mut machine = Machine::default();
        machine.cpu_mut().apply(Effect::SetFlags(RFlags::TRAP_FLAG));
        let rip = machine.cpu().rip();
        if emulated {
            machine.write_code(&[0x8b, 0x03]);
            machine.cpu_mut().apply(Effect::Set(arch::Gpr::Rbx, 0xd000_0000));
        }
        let fault = EptFault {
            gpa: Gpa::new(0xd000_0000),
            gva: Gva::new(0xd000_0000),
            translated: true,
            access: MemoryAccess::Read,
        };
        machine.play([Step::exit(if emulated { VmExit::Ept(fault) } else { VmExit::Cpuid })]);
        let [delivery] = machine.cpu().deliveries() else { panic!("one trap") };
        assert_eq!(delivery.event, Event::Exception(Exception::Debug { dr6: 1 << 14 }));
        assert_eq!(delivery.rip, rip + 2, "a trap comes after the instruction");
    }
}

proptest! {
    /// Whatever waits and whatever blocks: each interrupt is delivered once, in order of urgency, and nothing is
    /// lost or doubled.
    #[test]
    fn every_interrupt_is_taken_exactly_once(
        vectors in prop::collection::btree_set(0x20_u8..=0xff, 1..12),
        openings in prop::collection::vec(0_u8..6, 1..8),
    ) {
        let mut machine = Machine::default();
        machine.switch_to_x2apic();
        for vector in &vectors {
            machine.wrmsr(arch::Msr(0x83f), u64::from(*vector)).expect("SELF IPI");
        }
        let mut openings = openings.into_iter().cycle();
        let mut taken = Vec::new();
        for _ in 0..vectors.len() * 10 {
            let seen = machine.cpu().deliveries().len();
            let step = match openings.next() {
                Some(0) => Step::run(3).does(Effect::Sti),
                Some(1) => Step::exit(VmExit::Cpuid).does(Effect::Sti),
                Some(2) => Step::exit(VmExit::Pause).does(Effect::SetFlags(RFlags::INTERRUPT_FLAG)),
                Some(3) => Step::exit(VmExit::Vmcall),
                Some(4) => Step::run(1).does(Effect::ClearFlags(RFlags::INTERRUPT_FLAG)),
                _ => Step::run(1),
            };
            let leave = machine.play([step]);
            machine.check(leave);
            for event in events(&machine).split_off(seen) {
                let Event::Interrupt(vector) = event else { panic!("{event:?}") };
                taken.push(vector.0);
                machine.wrmsr(arch::Msr(0x80b), 0).expect("EOI");
            }
        }
        // The openings may all be closed; then everything still waits.
        machine.enable_interrupts();
        while let Some(vector) = machine.run_for(1).interrupts.first() {
            taken.push(vector.0);
            machine.wrmsr(arch::Msr(0x80b), 0).expect("EOI");
            machine.enable_interrupts();
        }
        let expected: Vec<u8> = vectors.into_iter().rev().collect();
        prop_assert_eq!(taken, expected);
    }
}
