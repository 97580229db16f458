//! KVM's paravirtual interface as a guest uses it: records in its memory, calls, and an EOI without an exit.
//!
//! The Linux Kernel documentation, "KVM-specific MSRs", "Linux KVM Hypercall".

use arch::{Exception, Gpa, Gpr, Msr, Tsc, Vector};
use memory::GuestMemory;
use vm_sim::{Machine, Setup, Step};
use vmm::{Leave, VcpuBackend, VmExit};

const SYSTEM_TIME: Msr = Msr(0x4b56_4d01);
const STEAL_TIME: Msr = Msr(0x4b56_4d03);
const EOI: Msr = Msr(0x4b56_4d04);
const RECORD: u64 = 0x3_0000;
const ENABLED: u64 = 1;

fn read(machine: &Machine, at: u64) -> u32 {
    machine.vm.memory.read_u32(Gpa::new(at)).expect("RAM")
}

#[test]
fn the_clock_shows_the_machines_time() {
    let mut machine = Machine::default();
    machine.run_for(5_000);
    machine.wrmsr(SYSTEM_TIME, RECORD | ENABLED).expect("offered");
    let field = |at| machine.vm.memory.read_u64(Gpa::new(RECORD + at)).expect("RAM");
    assert_eq!(read(&machine, RECORD) & 1, 0, "the version is even outside of an update");
    // At 1 GHz a tick is a nanosecond.
    let shown = field(16) + (machine.cpu().guest_tsc().0 - field(8));
    let is = machine.time().0;
    assert!(is >= 5_000 && shown.abs_diff(is) <= 2, "shown {shown} ns, is {is} ns");
}

#[test]
fn a_tsc_that_is_written_moves_the_record_and_not_the_time() {
    let mut machine = Machine::default();
    machine.wrmsr(SYSTEM_TIME, RECORD | ENABLED).expect("offered");
    machine.wrmsr(Msr::TSC, 1 << 50).expect("TSC");
    let field = |at| machine.vm.memory.read_u64(Gpa::new(RECORD + at)).expect("RAM");
    assert!(field(8) >= 1 << 50);
    assert!(field(16) < 1_000_000);
}

#[test]
fn one_tsc_apart_ends_the_stable_mark_of_all() {
    const STABLE: u8 = 1;
    let flags = |machine: &Machine, record| {
        let mut byte = [0];
        machine.vm.memory.read(Gpa::new(record + 29), &mut byte).expect("RAM");
        byte[0]
    };
    let mut machine = Machine::new(Setup { vcpus: 2, ..Setup::default() });
    machine.switch_to_x2apic();
    machine.wrmsr(SYSTEM_TIME, RECORD | ENABLED).expect("offered");
    assert_eq!(flags(&machine, RECORD) & STABLE, STABLE);
    for command in [0x4500, 0x4612] {
        machine.wrmsr(Msr(0x830), 1 << 32 | command).expect("ICR");
    }
    machine.turn_to(1);
    machine.poll();
    machine.take_wakes();
    machine.wrmsr(Msr::TSC, 7).expect("TSC");
    assert_eq!(machine.take_wakes(), [0]);
    machine.turn_to(0);
    machine.vcpu.scheduled_in(&machine.vm, || Tsc(0));
    assert_eq!(flags(&machine, RECORD) & STABLE, 0);
}

#[test]
fn steal_time_grows_with_the_wait_and_a_flush_is_carried_out() {
    let mut machine = Machine::default();
    machine.wrmsr(STEAL_TIME, RECORD | ENABLED).expect("offered");
    machine.vcpu.scheduled_in(&machine.vm, || Tsc(1_000));
    let before = machine.vm.memory.read_u64(Gpa::new(RECORD)).expect("RAM");
    let leave = machine.play_until([Step::run(100)], machine.now() + Tsc(50));
    assert_eq!(leave, Leave::SliceEnd);
    machine.vcpu.scheduled_out(&machine.vm, leave);
    let preempted = Gpa::new(RECORD + 16);
    assert_eq!(read(&machine, RECORD + 16) & 0xff, 1, "marked as preempted");
    // Another processor asks for a flush instead of sending an IPI.
    machine.vm.memory.write(preempted, &[1 | 2]).expect("RAM");
    machine.vcpu.scheduled_in(&machine.vm, || Tsc(5_000));
    assert_eq!(machine.cpu().flushes(), 1);
    assert_eq!(read(&machine, RECORD + 16) & 0xff, 0);
    let after = machine.vm.memory.read_u64(Gpa::new(RECORD)).expect("RAM");
    assert_eq!(after - before, 4_000);
}

#[test]
fn impossible_registers_fault() {
    let mut machine = Machine::default();
    let fault = Err(Exception::GeneralProtection(0));
    assert_eq!(machine.wrmsr(STEAL_TIME, RECORD | 0x3f).map(|_| ()), fault);
    assert_eq!(machine.wrmsr(EOI, 1 << 60 | ENABLED).map(|_| ()), fault);
    assert_eq!(machine.wrmsr(Msr(0x4b56_4d02), 0).map(|_| ()), fault, "no asynchronous page faults");
}

#[test]
fn an_interrupt_is_ended_in_memory_without_an_exit() {
    let mut machine = Machine::default();
    machine.switch_to_x2apic();
    machine.wrmsr(EOI, RECORD | ENABLED).expect("offered");
    machine.wrmsr(Msr(0x83f), 0x50).expect("SELF IPI");
    machine.enable_interrupts();
    assert_eq!(machine.run_for(1).interrupts, [Vector(0x50)]);
    assert_eq!(read(&machine, RECORD), 1, "the EOI is offered");
    // The handler takes the offer, and returns.
    machine.vm.memory.write(Gpa::new(RECORD), &[0]).expect("RAM");
    machine.iret();
    assert_eq!(machine.wrmsr(Msr(0x83f), 0x41).expect("SELF IPI").interrupts, [Vector(0x41)], "a lower one");
}

#[test]
fn no_eoi_is_offered_while_another_interrupt_waits_or_for_a_level() {
    let mut machine = Machine::default();
    machine.switch_to_x2apic();
    machine.wrmsr(EOI, RECORD | ENABLED).expect("offered");
    for vector in [0x50, 0x60] {
        machine.wrmsr(Msr(0x83f), vector).expect("SELF IPI");
    }
    machine.enable_interrupts();
    assert_eq!(machine.run_for(1).interrupts, [Vector(0x60)]);
    assert_eq!(read(&machine, RECORD), 0, "0x50 is to follow");
}

#[test]
fn a_call_interrupts_every_processor_that_it_names() {
    let mut machine = Machine::new(Setup { vcpus: 3, ..Setup::default() });
    machine.switch_to_x2apic();
    machine.enable_interrupts();
    for id in [1, 2] {
        for command in [0x4500, 0x4612] {
            machine.wrmsr(Msr(0x830), id << 32 | command).expect("ICR");
        }
        let index = usize::try_from(id).expect("small");
        machine.turn_to(index);
        machine.poll();
        machine.switch_to_x2apic();
        machine.enable_interrupts();
        machine.turn_to(0);
    }
    machine.take_wakes();
    // Processors 0, 1, 2 and one that does not exist.
    let call = Step::exit(VmExit::Vmcall)
        .set(Gpr::Rax, 10)
        .set(Gpr::Rbx, 0b1111)
        .set(Gpr::Rcx, 0)
        .set(Gpr::Rdx, 0)
        .set(Gpr::Rsi, 0x4055);
    let executed = machine.execute(call);
    assert_eq!(executed.interrupts, [Vector(0x55)]);
    assert_eq!(machine.cpu().gprs().get(Gpr::Rax), 3);
    assert_eq!(machine.take_wakes(), [1, 2]);
    machine.turn_to(2);
    assert_eq!(machine.run_for(1).interrupts, [Vector(0x55)]);
}

#[test]
fn the_interface_is_saved_and_restored() {
    let mut machine = Machine::default();
    machine.wrmsr(SYSTEM_TIME, RECORD | ENABLED).expect("offered");
    machine.wrmsr(STEAL_TIME, (RECORD + 0x100) | ENABLED).expect("offered");
    let mut copy = Machine::restore(&machine.save(), Tsc(77));
    assert_eq!(copy.rdmsr(SYSTEM_TIME), Ok(RECORD | ENABLED));
    assert_eq!(copy.rdmsr(STEAL_TIME), Ok((RECORD + 0x100) | ENABLED));
}
