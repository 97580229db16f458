//! HLT: what it waits for, what wakes it, and when there is nothing to wait for.

use arch::{Exception, Gpr, Msr, RFlags, Tsc, Vector};
use vm_sim::{Effect, Machine, Step};
use vmm::{Leave, RunState, StopReason, VcpuBackend, VmExit};

fn with_x2apic() -> Machine {
    let mut machine = Machine::default();
    machine.switch_to_x2apic();
    machine
}

#[test]
fn a_halt_with_nothing_to_do_leaves_and_stays_until_something_comes() {
    let mut machine = with_x2apic();
    machine.enable_interrupts();
    let executed = machine.hlt();
    assert_eq!((executed.leave, executed.advanced), (Leave::Halted, 1));
    assert_eq!(machine.vcpu.next_timer(), Tsc::NEVER);
    for _ in 0..3 {
        machine.cpu_mut().elapse(1 << 40);
        assert!(!machine.poll());
        assert_eq!(machine.play([]), Leave::Halted);
    }
    assert_eq!(machine.cpu().exits(), 5, "no entry while halted");
}

#[test]
fn a_halt_with_an_interrupt_waiting_does_not_leave() {
    let mut machine = with_x2apic();
    machine.wrmsr(Msr(0x83f), 0x44).expect("SELF IPI");
    let step = Step::exit(VmExit::Hlt).length(1).does(Effect::Sti);
    let executed = machine.execute(step);
    assert_eq!((executed.leave, executed.interrupts), (Leave::HostInterrupt, vec![Vector(0x44)]));
    assert_eq!(executed.advanced, 1, "the handler returns behind the HLT");
}

#[test]
fn a_halt_with_interrupts_off_is_the_end() {
    let mut machine = Machine::default();
    assert_eq!(machine.hlt().leave, Leave::Stopped(StopReason::HaltedForever));
    assert!(!machine.poll());

    // Also when an interrupt waits: it cannot be taken.
    let mut machine = with_x2apic();
    machine.wrmsr(Msr(0x83f), 0x44).expect("SELF IPI");
    assert_eq!(machine.hlt().leave, Leave::Stopped(StopReason::HaltedForever));
}

#[test]
fn a_halt_with_interrupts_off_and_an_nmi_waiting_goes_on() {
    let mut machine = Machine::default();
    machine.cpu_mut().apply(Effect::MovSs);
    machine.vcpu.send_nmi();
    let executed = machine.hlt();
    assert_eq!((executed.leave, executed.interrupts), (Leave::HostInterrupt, vec![Vector(2)]));
}

#[test]
fn a_timer_wakes_a_halted_guest_on_time() {
    let cases: [(u64, Msr, u64); 3] =
        [(0, Msr(0x838), 5000), (1 << 17, Msr(0x838), 5000), (1 << 18, Msr::TSC_DEADLINE, 5000)];
    for (mode, msr, value) in cases {
        let mut machine = with_x2apic();
        machine.enable_interrupts();
        machine.wrmsr(Msr(0x83e), 0b1011).expect("divide by 1");
        machine.wrmsr(Msr(0x832), mode | 0x44).expect("LVT");
        let start = machine.now();
        machine.wrmsr(msr, value).expect("armed");
        assert_eq!(machine.hlt().leave, Leave::Halted);
        assert_eq!(machine.vcpu.next_timer(), start + Tsc(5000));
        machine.cpu_mut().elapse(4999);
        assert!(!machine.poll(), "too early");
        machine.cpu_mut().elapse(1);
        assert!(machine.poll());
        assert_eq!(machine.vcpu.run_state(), RunState::Runnable);
        assert_eq!(machine.run_for(1).interrupts, [Vector(0x44)]);
    }
}

#[test]
fn run_alone_wakes_a_guest_whose_timer_is_due() {
    let mut machine = with_x2apic();
    machine.enable_interrupts();
    machine.wrmsr(Msr(0x832), 1 << 18 | 0x44).expect("LVT");
    machine.wrmsr(Msr::TSC_DEADLINE, 1000).expect("armed");
    assert_eq!(machine.hlt().leave, Leave::Halted);
    machine.cpu_mut().elapse(1000);
    assert_eq!(machine.run_for(1).interrupts, [Vector(0x44)]);
}

#[test]
fn a_key_wakes_a_halted_guest_through_either_controller() {
    for ioapic in [false, true] {
        let mut machine = Machine::default();
        machine.enable_uart();
        if ioapic {
            machine.store(0xfee0_00f0, 0x1ff);
            machine.set_ioapic_pin(4, 0x34);
        } else {
            machine.initialize_pics();
        }
        machine.enable_interrupts();
        assert_eq!(machine.hlt().leave, Leave::Halted);
        machine.type_in(b"x");
        assert!(machine.poll());
        let vector = if ioapic { Vector(0x34) } else { Vector(0x24) };
        assert_eq!(machine.run_for(1).interrupts, [vector]);
    }
}

#[test]
fn the_pit_wakes_a_halted_guest() {
    let mut machine = Machine::default();
    machine.initialize_pics();
    machine.start_pit(1193);
    // Its output rises when it is programmed: the first interrupt.
    machine.enable_interrupts();
    assert_eq!(machine.run_for(1).interrupts, [Vector(0x20)]);
    machine.outb(0x20, 0x20);
    machine.iret();
    assert_eq!(machine.hlt().leave, Leave::Halted);
    assert!(machine.idle());
    assert!((900_000..1_100_000).contains(&machine.time().0), "{:?}", machine.time());
    assert_eq!(machine.run_for(1).interrupts, [Vector(0x20)]);
}

#[test]
fn an_nmi_wakes_a_halted_guest() {
    let mut machine = Machine::default();
    machine.enable_interrupts();
    assert_eq!(machine.hlt().leave, Leave::Halted);
    machine.vcpu.send_nmi();
    assert!(machine.poll());
    assert_eq!(machine.run_for(1).interrupts, [Vector(2)]);
}

#[test]
fn an_interrupt_below_the_task_priority_does_not_wake() {
    let mut machine = with_x2apic();
    machine.wrmsr(Msr(0x808), 0x50).expect("TPR");
    machine.wrmsr(Msr(0x83f), 0x44).expect("SELF IPI");
    machine.enable_interrupts();
    assert_eq!(machine.hlt().leave, Leave::Halted);
    assert!(!machine.poll());
}

#[test]
fn sti_and_hlt_do_not_race() {
    // The interrupt comes between STI and HLT: the shadow keeps it back, and HLT ends at once.
    let mut machine = with_x2apic();
    machine.wrmsr(Msr(0x832), 1 << 18 | 0x44).expect("LVT");
    let due = machine.cpu().guest_tsc().0 + 100;
    machine.wrmsr(Msr::TSC_DEADLINE, due).expect("armed");
    let leave = machine.play([
        Step::run(100).does(Effect::Sti),
        Step::exit(VmExit::Hlt).length(1).expect_no_event(),
        Step::run(1).expect_register(Gpr::Rcx, Msr::TSC_DEADLINE.0.into()),
    ]);
    assert_eq!(leave, Leave::HostInterrupt);
    assert_eq!(machine.cpu().deliveries().len(), 1);
    assert!(machine.cpu().rip() > 0);
}

#[test]
fn a_single_step_over_hlt_traps_instead_of_halting() {
    for flags in [RFlags::TRAP_FLAG, RFlags::TRAP_FLAG | RFlags::INTERRUPT_FLAG] {
        let mut machine = Machine::default();
        machine.cpu_mut().apply(Effect::SetFlags(flags));
        let rip = machine.cpu().rip();
        let executed = machine.hlt();
        assert_eq!(executed.leave, Leave::HostInterrupt, "{flags:?}");
        assert_eq!(executed.fault, Some(Exception::Debug { dr6: 1 << 14 }));
        assert_eq!(machine.cpu().deliveries()[0].rip, rip + 1, "a trap comes after the instruction");
    }
}
