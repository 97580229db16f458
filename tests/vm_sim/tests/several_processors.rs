//! Several processors in one machine: start-up, interprocessor interrupts, devices that interrupt any of them.
//!
//! SDM Vol. 3A, "Multiple-Processor (MP) Initialization", "Issuing Interprocessor Interrupts".

use arch::{Msr, SegmentRegister, Vector};
use proptest::prelude::*;
use vm_sim::{Machine, Setup, Step};
use vmm::{Event, Leave, RunState, StopReason, VcpuBackend, VmExit};

const ICR: Msr = Msr(0x830);
const INIT: u64 = 0x4500;
const START_UP: u64 = 0x4600;
const FIXED: u64 = 0x4000;
const LOWEST_PRIORITY: u64 = 0x4100;
const NMI: u64 = 0x4400;
const LOGICAL: u64 = 1 << 11;
const ALL: u64 = 2 << 18;
const OTHERS: u64 = 3 << 18;

fn machine(vcpus: usize) -> Machine {
    let mut machine = Machine::new(Setup { vcpus, ..Setup::default() });
    machine.switch_to_x2apic();
    machine
}

fn to(id: u64) -> u64 {
    id << 32
}

/// The processor that executes sends `command`.
fn send(machine: &mut Machine, command: u64) {
    machine.wrmsr(ICR, command).expect("a legal command");
}

/// Starts processor `index` at page 0x12 and has it enable its local APIC; processor 0 executes afterwards.
fn start(machine: &mut Machine, index: usize) {
    send(machine, to(index as u64) | INIT);
    send(machine, to(index as u64) | START_UP | 0x12);
    machine.turn_to(index);
    assert!(machine.poll());
    machine.switch_to_x2apic();
    machine.enable_interrupts();
    machine.turn_to(0);
    machine.take_wakes();
}

/// A machine whose processors all run, interrupts on.
fn started(vcpus: usize) -> Machine {
    let mut machine = machine(vcpus);
    for index in 1..vcpus {
        start(&mut machine, index);
    }
    machine.enable_interrupts();
    machine
}

/// The interrupts that processor `index` takes next.
fn taken(machine: &mut Machine, index: usize) -> Vec<u8> {
    machine.turn_to(index);
    let vectors = machine.run_for(10).interrupts.iter().map(|vector| vector.0).collect();
    machine.turn_to(0);
    vectors
}

#[test]
fn others_wait_for_their_start_up_and_begin_at_its_page() {
    let mut machine = machine(2);
    machine.turn_to(1);
    assert_eq!(machine.play([]), Leave::Halted);
    assert_eq!(machine.vcpu.run_state(), RunState::WaitForSipi);
    machine.turn_to(0);
    send(&mut machine, to(1) | INIT);
    assert_eq!(machine.take_wakes(), [1]);
    machine.turn_to(1);
    assert!(!machine.poll(), "INIT alone starts nothing");
    machine.turn_to(0);
    send(&mut machine, to(1) | START_UP | 0x9a);
    send(&mut machine, to(1) | START_UP | 0x55);
    assert_eq!(machine.take_wakes(), [1], "the second finds it told already");
    machine.turn_to(1);
    assert!(machine.poll());
    assert_eq!(machine.play([Step::run(1).expect_rip(0)]), Leave::HostInterrupt);
    let code = machine.cpu().segment(SegmentRegister::Cs);
    assert_eq!((code.selector, code.base), (0x9a00, 0x9_a000), "the first start-up counts");
}

#[test]
fn the_8259s_interrupt_any_processor_by_way_of_the_io_apic() {
    let mut machine = started(2);
    machine.initialize_pics();
    machine.enable_uart();
    // LINT0 is masked; ExtINT to processor 1 at pin 0.
    machine.wrmsr(Msr(0x835), 0x1_0700).expect("LINT0");
    machine.store(0xfec0_0000, 0x11);
    machine.store(0xfec0_0010, 1 << 24);
    machine.set_ioapic_pin(0, 0x700);
    machine.turn_to(1);
    assert_eq!(machine.play([Step::exit(VmExit::Hlt).length(1)]), Leave::Halted);
    machine.turn_to(0);
    machine.take_wakes();
    machine.type_in(b"a");
    assert_eq!(machine.take_wakes(), [1, 0]);
    assert_eq!(machine.run_for(1).interrupts, []);
    machine.turn_to(1);
    assert!(machine.poll());
    assert!(machine.vcpu.save(machine.now()).external_pending);
    assert_eq!(machine.run_for(1).interrupts, [Vector(0x24)]);
    assert_eq!(machine.take_wakes(), [0], "the line to its LINT0 went down");
    machine.iret();
    assert_eq!(machine.run_for(1).interrupts, []);
    machine.turn_to(0);
    assert_eq!(machine.inb(0x3f8), b'a');
    machine.outb(0x20, 0x20);
    machine.type_in(b"b");
    assert_eq!(taken(&mut machine, 1), [0x24]);
}

#[test]
fn a_start_up_to_one_that_runs_is_ignored() {
    let mut machine = started(2);
    send(&mut machine, to(1) | START_UP | 0x77);
    machine.turn_to(1);
    let before = machine.cpu().rip();
    machine.run_for(5);
    assert_eq!(machine.cpu().rip(), before);
}

#[test]
fn init_stops_one_that_runs_and_keeps_the_mode_of_its_local_apic() {
    let mut machine = started(2);
    send(&mut machine, to(1) | NMI);
    send(&mut machine, to(1) | FIXED | 0x40);
    send(&mut machine, to(1) | INIT);
    machine.turn_to(1);
    assert_eq!(machine.play([]), Leave::Halted);
    assert_eq!(machine.vcpu.run_state(), RunState::WaitForSipi);
    assert!(!machine.poll(), "neither the NMI nor the interrupt outlives it");
    machine.turn_to(0);
    send(&mut machine, to(1) | START_UP | 1);
    machine.turn_to(1);
    assert_eq!(machine.run_for(5).interrupts, []);
    assert_eq!(machine.rdmsr(Msr::APIC_BASE), Ok(0xfee0_0d00), "still in x2APIC mode");
}

#[test]
fn init_to_oneself_ends_the_program() {
    let mut machine = started(2);
    machine.turn_to(1);
    assert_eq!(
        machine.execute(Step::exit(VmExit::WriteMsr)).leave,
        Leave::HostInterrupt,
        "a harmless one first"
    );
    let step = Step::exit(VmExit::WriteMsr)
        .set(arch::Gpr::Rcx, ICR.0.into())
        .set(arch::Gpr::Rax, INIT)
        .set(arch::Gpr::Rdx, 1);
    assert_eq!(machine.play([step]), Leave::Halted);
    assert_eq!(machine.vcpu.run_state(), RunState::WaitForSipi);
}

#[test]
fn shorthands_reach_whom_they_name() {
    let mut machine = started(3);
    send(&mut machine, OTHERS | FIXED | 0x41);
    assert_eq!(machine.take_wakes(), [1, 2]);
    assert_eq!((taken(&mut machine, 1), taken(&mut machine, 2)), (vec![0x41], vec![0x41]));
    assert_eq!(taken(&mut machine, 0), []);
    let executed = machine.wrmsr(ICR, ALL | FIXED | 0x42).expect("legal");
    assert_eq!(executed.interrupts, [Vector(0x42)]);
    machine.turn_to(2);
    machine.wrmsr(Msr(0x80b), 0).expect("EOI");
    machine.iret();
    machine.turn_to(0);
    assert_eq!(taken(&mut machine, 2), [0x42]);
}

#[test]
fn logical_destinations_are_a_set_of_a_cluster() {
    let mut machine = started(4);
    send(&mut machine, to(0b1010) | LOGICAL | FIXED | 0x50);
    assert_eq!(machine.take_wakes(), [1, 3]);
    assert_eq!(taken(&mut machine, 2), []);
    assert_eq!(taken(&mut machine, 3), [0x50]);
}

#[test]
fn lowest_priority_reaches_exactly_one_of_its_destination() {
    let mut machine = started(4);
    for vector in 0x40..0x50_u64 {
        send(&mut machine, to(0b1110) | LOGICAL | LOWEST_PRIORITY | vector);
        let told = machine.take_wakes();
        assert_eq!(told.len(), 1, "{told:?}");
        let reached: Vec<usize> = (0..4).filter(|index| !taken(&mut machine, *index).is_empty()).collect();
        assert_eq!(reached, told);
        machine.turn_to(told[0]);
        machine.wrmsr(Msr(0x80b), 0).expect("EOI");
        machine.iret();
        machine.turn_to(0);
    }
}

#[test]
fn an_nmi_wakes_one_that_halts_with_interrupts_off() {
    let mut machine = started(2);
    machine.turn_to(1);
    machine.disable_interrupts();
    assert_eq!(machine.play([Step::exit(VmExit::Hlt).length(1)]), Leave::Halted);
    assert!(!machine.poll());
    machine.turn_to(0);
    send(&mut machine, to(1) | NMI);
    assert_eq!(machine.take_wakes(), [1]);
    machine.turn_to(1);
    assert!(machine.poll());
    machine.play([Step::run(1).expect_event(Event::Nmi)]);
}

#[test]
fn an_interrupt_does_not_wake_one_that_halts_with_interrupts_off_and_is_not_lost() {
    let mut machine = started(2);
    machine.turn_to(1);
    machine.disable_interrupts();
    machine.play([Step::exit(VmExit::Hlt).length(1)]);
    machine.turn_to(0);
    send(&mut machine, to(1) | FIXED | 0x61);
    machine.turn_to(1);
    assert!(!machine.poll());
    machine.turn_to(0);
    send(&mut machine, to(1) | NMI);
    machine.turn_to(1);
    machine.play([Step::run(1).expect_event(Event::Nmi)]);
    machine.iret();
    machine.enable_interrupts();
    assert_eq!(machine.run_for(1).interrupts, [Vector(0x61)]);
}

#[test]
fn the_machine_is_dead_when_the_last_processor_halts_with_interrupts_off() {
    let mut machine = started(2);
    machine.turn_to(1);
    machine.disable_interrupts();
    assert_eq!(machine.play([Step::exit(VmExit::Hlt).length(1)]), Leave::Halted);
    machine.turn_to(0);
    machine.disable_interrupts();
    assert_eq!(machine.play([Step::exit(VmExit::Hlt).length(1)]), Leave::Stopped(StopReason::HaltedForever));
}

#[test]
fn a_message_on_its_way_keeps_the_machine_alive() {
    let mut machine = started(2);
    machine.turn_to(1);
    machine.disable_interrupts();
    machine.play([Step::exit(VmExit::Hlt).length(1)]);
    machine.turn_to(0);
    send(&mut machine, to(1) | NMI);
    machine.disable_interrupts();
    assert_eq!(machine.play([Step::exit(VmExit::Hlt).length(1)]), Leave::Halted);
    machine.turn_to(1);
    assert!(machine.poll(), "and the other one runs on");
}

#[test]
fn a_device_interrupts_the_processor_that_the_io_apic_names() {
    let mut machine = started(2);
    machine.enable_uart();
    machine.store(0xfec0_0000, 0x10 + 2 * 4 + 1);
    machine.store(0xfec0_0010, 1 << 24);
    machine.set_ioapic_pin(4, 0x34);
    machine.take_wakes();
    assert!(machine.console.send(b'x'));
    let time = machine.time();
    machine.vm.platform().console_input(time);
    machine.vm.serve_platform();
    assert_eq!(machine.take_wakes(), [1]);
    assert_eq!(taken(&mut machine, 0), []);
    assert_eq!(taken(&mut machine, 1), [0x34]);
}

#[test]
fn a_timer_that_another_processor_starts_is_served_by_the_first() {
    let mut machine = started(2);
    machine.turn_to(1);
    machine.start_pit(1000);
    machine.turn_to(0);
    assert!(machine.take_wakes().contains(&0));
    machine.run_for(1);
    assert!(machine.vcpu.next_timer() != arch::Tsc::NEVER);
}

#[test]
fn an_illegal_vector_is_an_error_of_the_receiver() {
    let mut machine = started(2);
    send(&mut machine, to(1) | FIXED | 5);
    machine.turn_to(1);
    machine.run_for(1);
    machine.wrmsr(Msr(0x828), 0).expect("ESR");
    let errors = machine.rdmsr(Msr(0x828)).expect("ESR");
    machine.turn_to(0);
    machine.wrmsr(Msr(0x828), 0).expect("ESR");
    let sender = machine.rdmsr(Msr(0x828)).expect("ESR");
    assert!(errors & 0x40 != 0 || sender & 0x20 != 0, "receiver {errors:#x}, sender {sender:#x}");
}

proptest! {
    #[test]
    fn any_commands_leave_the_processors_in_a_defined_state(
        commands in prop::collection::vec((0..3_usize, any::<u64>(), 0..8_u64, any::<bool>()), 1..60),
    ) {
        let mut machine = started(3);
        for (from, command, target, halts) in commands {
            machine.turn_to(from);
            if machine.vcpu.run_state() == RunState::WaitForSipi || !machine.poll() {
                machine.poll();
                continue;
            }
            let command = command & 0xc_cfff | target << 32;
            let step = Step::exit(VmExit::WriteMsr)
                .set(arch::Gpr::Rcx, ICR.0.into())
                .set(arch::Gpr::Rax, command & 0xffff_ffff)
                .set(arch::Gpr::Rdx, command >> 32);
            let leave = machine.play([step]);
            if let Leave::Stopped(reason) = leave {
                prop_assert_eq!(reason, StopReason::HaltedForever);
                return Ok(());
            }
            if halts && machine.vcpu.run_state() == RunState::Runnable {
                machine.play([Step::exit(VmExit::Hlt).length(1)]);
            }
        }
    }
}
