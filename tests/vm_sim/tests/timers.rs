//! Timers: the deadlines that the backend gets, and what comes of them.

use arch::{Gpr, Msr, Tsc, Vector};
use proptest::prelude::*;
use vm_sim::{Machine, Step};
use vmm::{Event, VmExit};

const LVT_TIMER: Msr = Msr(0x832);
const INITIAL_COUNT: Msr = Msr(0x838);
const CURRENT_COUNT: Msr = Msr(0x839);
const DIVIDE: Msr = Msr(0x83e);
const DIVIDE_BY_1: u64 = 0b1011;
const VECTOR: Vector = Vector(0x60);
const PERIODIC: u64 = 1 << 17;
const TSC_DEADLINE: u64 = 1 << 18;
const MASKED: u64 = 1 << 16;

/// A guest in x2APIC mode with interrupts on, its timer's entry as `lvt` says.
fn with_timer(lvt: u64) -> Machine {
    let mut machine = Machine::default();
    machine.switch_to_x2apic();
    machine.wrmsr(DIVIDE, DIVIDE_BY_1).expect("divide");
    machine.wrmsr(LVT_TIMER, lvt | u64::from(VECTOR.0)).expect("LVT");
    machine.enable_interrupts();
    machine
}

fn write(msr: Msr, value: u64) -> Step {
    Step::exit(VmExit::WriteMsr)
        .set(Gpr::Rcx, msr.0.into())
        .set(Gpr::Rax, value & 0xffff_ffff)
        .set(Gpr::Rdx, value >> 32)
}

/// The ticks at which the timer's interrupt was taken, from `start`.
fn ticks(machine: &Machine, start: Tsc) -> Vec<u64> {
    let is_tick = |event| event == Event::Interrupt(VECTOR);
    machine.cpu().deliveries().iter().filter(|d| is_tick(d.event)).map(|d| d.at.0 - start.0).collect()
}

/// Ends the interrupt and returns from its handler.
fn finish(machine: &mut Machine) {
    machine.wrmsr(Msr(0x80b), 0).expect("EOI");
    machine.iret();
}

#[test]
fn a_one_shot_timer_is_the_entrys_deadline_and_fires_on_it() {
    for count in [1, 2, 1000, 0xffff_ffff] {
        let mut machine = with_timer(0);
        let start = machine.now();
        machine.play([
            write(INITIAL_COUNT, count),
            Step::run(0).expect_no_event().expect_deadline(start + Tsc(count)),
            Step::run(count),
            Step::run(10).expect_event(Event::Interrupt(VECTOR)).expect_deadline(Tsc::NEVER),
        ]);
        assert_eq!(ticks(&machine, start), [count]);
        assert_eq!(machine.cpu().steps_left(), 0);
        finish(&mut machine);
        machine.run_for(1 << 40);
        assert_eq!(ticks(&machine, start), [count], "once");
    }
}

#[test]
fn the_divider_stretches_the_count() {
    for (code, factor) in [(0b1011, 1), (0, 2), (1, 4), (2, 8), (3, 16), (8, 32), (9, 64), (10, 128)] {
        let mut machine = with_timer(0);
        machine.wrmsr(DIVIDE, code).expect("divide");
        let start = machine.now();
        machine.play([write(INITIAL_COUNT, 100), Step::run(0).expect_deadline(start + Tsc(100 * factor))]);
        assert_eq!(machine.cpu().steps_left(), 0, "{code:#b}");
    }
}

#[test]
fn a_periodic_timer_keeps_its_pace() {
    let mut machine = with_timer(PERIODIC);
    let start = machine.now();
    machine.wrmsr(INITIAL_COUNT, 5000).expect("starts");
    for _ in 0..20 {
        machine.run_for(1717);
        if !machine.cpu().is_open() {
            finish(&mut machine);
        }
    }
    assert_eq!(ticks(&machine, start), [5000, 10_000, 15_000, 20_000, 25_000, 30_000]);
    machine.wrmsr(INITIAL_COUNT, 0).expect("stops");
    machine.run_for(1 << 30);
    assert_eq!(ticks(&machine, start).len(), 6);
}

#[test]
fn a_period_too_short_to_serve_is_stretched() {
    let mut machine = with_timer(PERIODIC);
    let start = machine.now();
    machine.wrmsr(INITIAL_COUNT, 1).expect("starts");
    let entries = machine.cpu().entries().len();
    machine.run_for(1_000_000);
    assert!(machine.cpu().entries().len() - entries < 2100, "one tick in 1000 ticks at most");
    assert_eq!(ticks(&machine, start), [1000]);
}

#[test]
fn the_tsc_deadline_is_in_the_guests_time() {
    let mut machine = with_timer(TSC_DEADLINE);
    machine.run_for(777);
    let (host, guest) = (machine.now(), machine.cpu().guest_tsc());
    machine.play([
        write(Msr::TSC_DEADLINE, guest.0 + 500),
        Step::run(499).expect_no_event().expect_deadline(host + Tsc(500)),
    ]);
    assert_eq!(machine.rdmsr(Msr::TSC_DEADLINE), Ok(guest.0 + 500));
    assert_eq!(machine.run_for(10).interrupts, [VECTOR]);
    assert_eq!(ticks(&machine, host), [500]);
    assert_eq!(machine.rdmsr(Msr::TSC_DEADLINE), Ok(0), "disarmed");
}

#[test]
fn a_deadline_in_the_past_fires_at_once() {
    for back in [0, 1, 1000] {
        let mut machine = with_timer(TSC_DEADLINE);
        machine.run_for(5000);
        let guest = machine.cpu().guest_tsc().0;
        let executed = machine.wrmsr(Msr::TSC_DEADLINE, guest - back).expect("armed");
        assert_eq!(executed.interrupts, [VECTOR], "{back} ticks ago");
    }
}

#[test]
fn a_deadline_that_never_comes_costs_the_guest_nothing() {
    for deadline in [u64::MAX, u64::MAX - 1, 1 << 63] {
        let mut machine = with_timer(TSC_DEADLINE);
        machine.wrmsr(Msr::TSC_DEADLINE, deadline).expect("armed");
        let entries = machine.cpu().entries().len();
        assert_eq!(machine.run_for(1 << 41).interrupts, []);
        assert_eq!(machine.cpu().entries().len() - entries, 1, "{deadline:#x}");
    }
}

#[test]
fn zero_and_a_change_of_mode_disarm() {
    let mut machine = with_timer(TSC_DEADLINE);
    let soon = machine.cpu().guest_tsc().0 + 1000;
    machine.wrmsr(Msr::TSC_DEADLINE, soon).expect("armed");
    machine.wrmsr(Msr::TSC_DEADLINE, 0).expect("disarmed");
    assert_eq!(machine.run_for(5000).interrupts, []);
    let soon = machine.cpu().guest_tsc().0 + 1000;
    machine.wrmsr(Msr::TSC_DEADLINE, soon).expect("armed");
    machine.wrmsr(LVT_TIMER, VECTOR.0.into()).expect("one-shot");
    machine.wrmsr(LVT_TIMER, TSC_DEADLINE | u64::from(VECTOR.0)).expect("deadline");
    assert_eq!(machine.run_for(5000).interrupts, []);
}

#[test]
fn a_masked_timer_counts_silently() {
    let mut machine = with_timer(MASKED);
    machine.wrmsr(INITIAL_COUNT, 1000).expect("starts");
    assert_eq!(machine.cpu().entries().last().map(|entry| entry.deadline), Some(Tsc::NEVER));
    machine.run_for(400);
    assert_eq!(machine.rdmsr(CURRENT_COUNT), Ok(600));
    assert_eq!(machine.run_for(5000).interrupts, []);
    assert_eq!(machine.rdmsr(CURRENT_COUNT), Ok(0));
}

#[test]
fn reading_the_count_of_a_timer_that_just_ran_out_does_not_lose_its_interrupt() {
    let mut machine = with_timer(0);
    machine.wrmsr(INITIAL_COUNT, 1000).expect("starts");
    // The exit for the read comes in the tick in which the timer runs out.
    let step = Step::exit(VmExit::ReadMsr).set(Gpr::Rcx, CURRENT_COUNT.0.into()).after(1000);
    let executed = machine.execute(step);
    assert_eq!(executed.interrupts, [VECTOR]);
}

#[test]
fn a_jump_of_the_tsc_moves_deadlines_and_not_counts() {
    let mut machine = with_timer(TSC_DEADLINE);
    machine.wrmsr(Msr::TSC_DEADLINE, 1_000_000).expect("armed");
    assert_eq!(machine.wrmsr(Msr::TSC, 2_000_000).map(|executed| executed.interrupts), Ok(vec![VECTOR]));

    let mut machine = with_timer(0);
    let start = machine.now();
    machine.play([
        write(INITIAL_COUNT, 1000),
        write(Msr::TSC, 1 << 50).after(300),
        Step::run(0).expect_no_event().expect_deadline(start + Tsc(1000)),
        write(Msr::TSC, 0).after(300),
        Step::run(0).expect_no_event().expect_deadline(start + Tsc(1000)),
    ]);
    assert_eq!(machine.cpu().steps_left(), 0);
}

#[test]
fn the_pit_ticks_through_the_8259() {
    let mut machine = Machine::default();
    machine.initialize_pics();
    machine.start_pit(11_932);
    let mut taken = 0;
    for _ in 0..100 {
        machine.enable_interrupts();
        taken += machine.run_for(1_000_000).interrupts.len();
        machine.outb(0x20, 0x20);
    }
    assert!((9..=11).contains(&taken), "{taken} ticks of 10 ms in 100 ms");
}

#[test]
fn the_pit_ticks_through_pin_2_of_the_ioapic() {
    let mut machine = Machine::default();
    machine.store(0xfee0_00f0, 0x1ff);
    machine.set_ioapic_pin(2, 0x72);
    machine.start_pit(11_932);
    machine.enable_interrupts();
    let executed = machine.run_for(10_500_000);
    assert_eq!(executed.interrupts, [Vector(0x72)]);
}

#[test]
fn the_earliest_of_all_timers_is_the_deadline() {
    let mut machine = with_timer(0);
    let start = machine.now();
    machine.start_pit(11_932);
    let pit = machine.cpu().entries().last().expect("an entry").deadline;
    assert!(pit > start && pit < start + Tsc(11_000_000));
    machine.play([
        write(INITIAL_COUNT, 1000),
        Step::run(0).expect_deadline(start + Tsc(1000)),
        write(INITIAL_COUNT, 0xffff_ffff),
        Step::run(0).expect_deadline(pit),
        write(INITIAL_COUNT, 0),
        Step::run(0).expect_deadline(pit),
    ]);
    assert_eq!(machine.cpu().steps_left(), 0);
}

proptest! {
    #[test]
    fn one_shot_timers_fire_on_the_tick_whatever_exits_in_between(
        count in 1_u64..100_000,
        gaps in prop::collection::vec(1_u64..5000, 0..60),
    ) {
        let mut machine = with_timer(0);
        let start = machine.now();
        let steps: Vec<Step> = core::iter::once(write(INITIAL_COUNT, count))
            .chain(gaps.iter().map(|gap| Step::exit(VmExit::Vmcall).after(*gap)))
            .chain([Step::run(200_000)])
            .collect();
        machine.play(steps);
        prop_assert_eq!(ticks(&machine, start), vec![count]);
    }

    #[test]
    fn tsc_deadlines_fire_on_the_tick_whatever_the_guests_tsc_is(tsc in any::<u64>(), distance in 1_u64..1 << 33) {
        let mut machine = with_timer(TSC_DEADLINE);
        machine.wrmsr(Msr::TSC, tsc).expect("sets");
        let due = tsc.wrapping_add(distance);
        let start = machine.now();
        machine.wrmsr(Msr::TSC_DEADLINE, due).expect("armed");
        machine.run_for(1 << 34);
        if due > tsc {
            prop_assert_eq!(ticks(&machine, start), vec![distance]);
        }
    }
}
