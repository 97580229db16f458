//! Slices end on time, whatever the guest does; and everything it does is counted.

use arch::{Gpa, Gpr, Gva, Msr, Port, Tsc, Width};
use proptest::prelude::*;
use vm_sim::{Effect, Machine, PROMPT, Step};
use vmm::{Direction, EptFault, Event, ExitReason, IoExit, Leave, MemoryAccess, RECORDED_EXITS, VmExit};

const OUT: VmExit = VmExit::Io(IoExit::new(Port(0x80), Width::One, Direction::Out, false));

#[test]
fn the_end_of_the_slice_is_the_deadline_of_every_entry() {
    let mut machine = Machine::default();
    let end = machine.now() + Tsc(1000);
    let leave = machine.play_until(
        [Step::exit(VmExit::Cpuid).after(300).expect_deadline(end), Step::run(10_000).expect_deadline(end)],
        end,
    );
    assert_eq!((leave, machine.now()), (Leave::SliceEnd, end));
    assert_eq!(machine.play([]), Leave::HostInterrupt, "the rest of the step is played in the next slice");
    assert_eq!(machine.now(), Tsc(end.0 + 9300));
}

#[test]
fn a_slice_that_is_over_before_it_begins_enters_nothing() {
    let mut machine = Machine::default();
    let now = machine.now();
    for end in [Tsc(0), now] {
        assert_eq!(machine.play_until([], end), Leave::SliceEnd);
    }
    assert_eq!(machine.cpu().exits(), 0);
}

#[test]
fn the_end_of_a_slice_loses_no_event() {
    let mut machine = Machine::default();
    let end = machine.now() + Tsc(10);
    let leave = machine.play_until([Step::exit(VmExit::Rdpmc).after(10)], end);
    assert_eq!(leave, Leave::SliceEnd);
    assert_eq!(machine.cpu().deliveries(), []);
    machine.play([Step::run(1)]);
    let [delivery] = machine.cpu().deliveries() else { panic!("one fault") };
    assert_eq!(delivery.event, Event::Exception(arch::Exception::GeneralProtection(0)));
}

#[test]
fn no_storm_of_exits_outlives_its_slice_by_more_than_one() {
    let ept = EptFault {
        gpa: Gpa::new(0xd000_0000),
        gva: Gva::new(0xd000_0000),
        translated: true,
        access: MemoryAccess::Write,
    };
    let storms = [
        OUT,
        VmExit::Cpuid,
        VmExit::Pause,
        VmExit::CacheFlush,
        VmExit::Vmcall,
        VmExit::Rdpmc,
        VmExit::NotOffered,
        VmExit::ReadMsr,
        VmExit::WriteMsr,
        VmExit::Exception(arch::Exception::AlignmentCheck),
        VmExit::Exception(arch::Exception::Debug { dr6: 0 }),
        VmExit::Ept(ept),
    ];
    for exit in storms {
        let mut machine = Machine::default();
        // The code at every handler is the same as at the start: MOV [RBX], EAX.
        machine.write_code(&[0x89, 0x03].repeat(0x100));
        let (start, cost) = (machine.now(), 7);
        let end = start + Tsc(1000);
        let storm = (0..1000).map(|_| {
            let step = Step::exit(exit).after(cost).does(Effect::Jump(vm_sim::CODE));
            step.set(Gpr::Rbx, 0xd000_0000).set(Gpr::Rcx, 0xffff)
        });
        let leave = machine.play_until(storm, end);
        assert_eq!(leave, Leave::SliceEnd, "{exit:?}");
        let late = machine.now() - end;
        assert!(late < Tsc(cost), "{exit:?}: {late:?} late");
        machine.cpu_mut().clear_script();
    }
}

#[test]
fn a_storm_of_timer_interrupts_outlives_no_slice() {
    let mut machine = Machine::default();
    machine.switch_to_x2apic();
    machine.wrmsr(Msr(0x832), 1 << 17 | 0x40).expect("periodic");
    machine.enable_interrupts();
    machine.wrmsr(Msr(0x838), 1).expect("starts");
    let end = machine.now() + Tsc(1_000_000);
    assert_eq!(machine.play_until([Step::run(1 << 40)], end), Leave::SliceEnd);
    assert_eq!(machine.now(), end);
}

#[test]
fn exits_are_counted_by_reason() {
    let mut machine = Machine::default();
    let end = machine.now() + Tsc(1000);
    machine.play_until(
        [
            Step::exit(VmExit::Cpuid).after(10),
            Step::exit(VmExit::Cpuid).after(20),
            Step::exit(OUT).after(30),
            Step::exit(VmExit::Hlt).does(Effect::Sti),
        ],
        end,
    );
    let stats = machine.vcpu.stats();
    let counted = [
        (ExitReason::Cpuid, 2),
        (ExitReason::IoOut, 1),
        (ExitReason::IoIn, 0),
        (ExitReason::Hlt, 1),
        (ExitReason::Deadline, 0),
    ];
    for (reason, count) in counted {
        assert_eq!(stats.reason(reason).count, count, "{}", reason.name());
    }
    assert_eq!((stats.exits(), stats.guest_ticks(), stats.host_ticks()), (4, 60, 0));
}

#[test]
fn the_flight_recorder_keeps_the_last_exits_with_their_times() {
    let mut machine = Machine::default();
    let start = machine.now().0;
    let exits =
        (0..200).map(|number| Step::exit(if number % 2 == 0 { OUT } else { VmExit::Cpuid }).after(10));
    machine.play_until(exits, PROMPT);
    let records: Vec<_> = machine.vcpu.stats().records().copied().collect();
    assert_eq!(records.len(), RECORDED_EXITS);
    let last = records.last().expect("records");
    assert_eq!((last.reason, last.at.0), (ExitReason::ExternalInterrupt, start + 2000));
    let times: Vec<u64> = records.iter().map(|record| record.at.0 - start).collect();
    let expected: Vec<u64> = (138..=200).map(|number| number * 10).chain([2000]).collect();
    assert_eq!(times, expected);
    assert_eq!(records[0].rip, vm_sim::CODE + 2 * 137, "with where they were");
}

proptest! {
    #[test]
    fn any_mixture_of_exits_ends_with_its_slice(
        steps in prop::collection::vec((0_usize..6, 0_u64..100), 1..200),
        slice in 1_u64..3000,
    ) {
        let exits = [OUT, VmExit::Cpuid, VmExit::Rdpmc, VmExit::Pause, VmExit::ReadMsr, VmExit::Xsetbv];
        let mut machine = Machine::default();
        let end = machine.now() + Tsc(slice);
        let total: u64 = steps.iter().map(|(_, ticks)| ticks).sum();
        let script: Vec<Step> =
            steps.iter().map(|(exit, ticks)| Step::exit(exits[*exit]).after(*ticks)).collect();
        let leave = machine.play_until(script, end);
        if total >= slice {
            prop_assert_eq!(leave, Leave::SliceEnd);
            prop_assert_eq!(machine.now(), end);
        } else {
            prop_assert_eq!(leave, Leave::HostInterrupt);
        }
        prop_assert_eq!(machine.vcpu.stats().exits(), machine.cpu().exits());
    }
}
