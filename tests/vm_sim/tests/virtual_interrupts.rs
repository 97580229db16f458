//! A processor that delivers the guest's interrupts itself, and posted interrupts: the guest must not be able to tell it
//! from the software path, but by the exits that it does not have.
//!
//! SDM Vol. 3C, "APIC Virtualization and Virtual Interrupts".

use arch::{Exception, Gpr, Msr, Vector};
use proptest::prelude::*;
use vm_sim::{Effect, Machine, MachineSnapshot, Setup, Step};
use vmm::{CrAccess, ExitReason, InterruptSupport, Leave, VcpuBackend, VmExit};

const TPR: Msr = Msr(0x808);
const PPR: Msr = Msr(0x80a);
const EOI: Msr = Msr(0x80b);
const SVR: Msr = Msr(0x80f);
const ISR1: Msr = Msr(0x811);
const TMR1: Msr = Msr(0x819);
const IRR1: Msr = Msr(0x821);
const ESR: Msr = Msr(0x828);
const ICR: Msr = Msr(0x830);
const LVT_TIMER: Msr = Msr(0x832);
const LVT_ERROR: Msr = Msr(0x837);
const INITIAL_COUNT: Msr = Msr(0x838);
const DIVIDE: Msr = Msr(0x83e);
const SELF_IPI: Msr = Msr(0x83f);

const COM1_PIN: u8 = 4;
const LEVEL: u32 = 1 << 15;

fn machine(interrupts: InterruptSupport, vcpus: usize) -> Machine {
    let mut machine = Machine::new(Setup { interrupts, vcpus, ..Setup::default() });
    machine.switch_to_x2apic();
    machine
}

/// A guest with its local APIC lent to the processor.
fn lent() -> Machine {
    let mut machine = machine(InterruptSupport::Posted, 1);
    machine.run_for(1);
    assert!(machine.cpu().delivers_interrupts());
    machine
}

/// Exits of `reason` that `guest` has.
fn exits_of(machine: &mut Machine, reason: ExitReason, guest: impl FnOnce(&mut Machine)) -> u64 {
    let before = machine.vcpu.stats().reason(reason).count;
    guest(machine);
    machine.vcpu.stats().reason(reason).count - before
}

/// All exits that `guest` has, without the host interrupts by which a script ends.
fn exits(machine: &mut Machine, guest: impl FnOnce(&mut Machine)) -> u64 {
    let count = |machine: &Machine| {
        machine.cpu().exits() - machine.vcpu.stats().reason(ExitReason::ExternalInterrupt).count
    };
    let before = count(machine);
    guest(machine);
    count(machine) - before
}

#[test]
fn the_processor_stands_in_for_an_enabled_x2apic_alone() {
    let mut machine = Machine::new(Setup { interrupts: InterruptSupport::Virtual, ..Setup::default() });
    machine.store(0xfee0_00f0, 0x1ff);
    assert!(!machine.cpu().delivers_interrupts(), "xAPIC mode");
    machine.wrmsr(Msr::APIC_BASE, 0xfee0_0d00).expect("x2APIC mode");
    assert!(machine.cpu().delivers_interrupts());
    machine.wrmsr(SVR, 0xff).expect("SVR");
    assert!(!machine.cpu().delivers_interrupts(), "disabled by software");
    machine.wrmsr(SVR, 0x1ff).expect("SVR");
    assert!(machine.cpu().delivers_interrupts());
    machine.wrmsr(Msr::APIC_BASE, 0xfee0_0100).expect("disabled");
    assert!(!machine.cpu().delivers_interrupts(), "no local APIC at all");
    let software = Setup { interrupts: InterruptSupport::Software, ..Setup::default() };
    let mut machine = Machine::new(software);
    machine.switch_to_x2apic();
    assert!(!machine.cpu().delivers_interrupts());
}

#[test]
fn a_periodic_tick_is_one_exit_and_its_end_is_none() {
    let mut machine = lent();
    machine.enable_interrupts();
    machine.wrmsr(DIVIDE, 0b1011).expect("divide by 1");
    machine.wrmsr(LVT_TIMER, 0x2_0040).expect("periodic");
    machine.wrmsr(INITIAL_COUNT, 10_000).expect("a count");
    machine.run_for(10_001);
    machine.wrmsr(EOI, 0).expect("EOI");
    machine.iret();
    let ticks = 20;
    let exits = exits(&mut machine, |machine| {
        for _ in 0..ticks {
            assert_eq!(machine.run_for(10_000).interrupts, [Vector(0x40)]);
            machine.wrmsr(EOI, 0).expect("EOI");
            machine.iret();
        }
    });
    assert_eq!(exits, ticks, "the preemption timer's alone");
}

#[test]
fn an_interrupt_that_waits_for_the_flag_asks_for_no_window() {
    let mut machine = lent();
    machine.wrmsr(ICR, 0x4_4041).expect("to itself, by the command register");
    let exits = exits(&mut machine, |machine| {
        machine.execute(Step::run(100).expect_windows(false, false));
        machine.execute(Step::run(10).does(Effect::Sti));
        assert_eq!(machine.run_for(10).interrupts, [Vector(0x41)]);
    });
    assert_eq!(exits, 0);
}

#[test]
fn the_8259_is_still_injected_and_comes_first() {
    let mut machine = lent();
    machine.initialize_pics();
    machine.wrmsr(Msr(0x835), 0x700).expect("LINT0 as ExtINT");
    machine.wrmsr(SELF_IPI, 0xf0).expect("SELF IPI");
    machine.start_pit(1000);
    machine.run_for(2_000_000);
    machine.enable_interrupts();
    assert_eq!(machine.run_for(10).interrupts, [Vector(0x20)], "INTR has no priority");
    machine.enable_interrupts();
    assert_eq!(machine.run_for(10).interrupts, [Vector(0xf0)]);
}

#[test]
fn halting_sees_what_the_processor_holds() {
    let mut machine = lent();
    machine.wrmsr(SELF_IPI, 0x41).expect("SELF IPI");
    machine.wrmsr(TPR, 0x40).expect("TPR");
    machine.enable_interrupts();
    assert_eq!(machine.hlt().leave, Leave::Halted, "the task priority holds it back");
    assert!(!machine.poll());
    let mut machine = lent();
    machine.wrmsr(SELF_IPI, 0x41).expect("SELF IPI");
    let executed = machine.execute(Step::exit(VmExit::Hlt).length(1).does(Effect::Sti));
    assert_eq!((executed.leave, executed.interrupts), (Leave::HostInterrupt, vec![Vector(0x41)]), "sti; hlt");
    machine.iret();
    assert_eq!(machine.hlt().leave, Leave::Halted, "nothing waits any more");
}

/// Both kinds of machine, and whether they behave alike.
struct Pair {
    software: Machine,
    hardware: Machine,
}

impl Pair {
    fn new(hardware: InterruptSupport) -> Self {
        let mut pair =
            Self { software: machine(InterruptSupport::Software, 1), hardware: machine(hardware, 1) };
        pair.each(|machine| {
            machine.enable_uart();
            machine.set_ioapic_pin(COM1_PIN, 0x34 | LEVEL);
            machine.wrmsr(LVT_ERROR, 0x2e).expect("a legal entry").interrupts
        });
        pair
    }

    /// Does the same to both, with the same result.
    fn each<R: PartialEq + core::fmt::Debug>(&mut self, act: impl Fn(&mut Machine) -> R) -> R {
        let (software, hardware) = (act(&mut self.software), act(&mut self.hardware));
        assert_eq!(software, hardware, "software and hardware differ");
        software
    }

    /// The guests see the same registers, and would be saved as the same.
    fn compare(&mut self) {
        let state = |machine: &Machine| {
            let mut state = machine.vcpu.save(machine.now());
            // Exits take no time here, but the host's TSC may differ by what deadlines divided.
            state.guest_tsc = 0;
            (state.lapic, state.cpu.rip, state.cpu.rflags, state.event, state.displaced)
        };
        assert_eq!(state(&self.software), state(&self.hardware));
    }
}

#[derive(Clone, Copy, Debug)]
enum Act {
    SelfIpi(u8),
    Icr(u8),
    Eoi,
    Tpr(u8),
    Cr8(u8),
    ReadCr8,
    Enable,
    Disable,
    Sti,
    Run(u16),
    Hlt,
    Key(u8),
    TakeKey,
    Timer(u16),
    Read(u8),
    BadWrite(u8),
    SoftwareDisable,
    SoftwareEnable,
    ClearErrors,
    Iret,
    Snapshot,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0x50_u8..).prop_map(Act::SelfIpi),
        1 => (0_u8..16).prop_map(Act::SelfIpi),
        3 => (0x50_u8..).prop_map(Act::Icr),
        6 => Just(Act::Eoi),
        3 => any::<u8>().prop_map(Act::Tpr),
        2 => (0_u8..20).prop_map(Act::Cr8),
        2 => Just(Act::ReadCr8),
        4 => Just(Act::Enable),
        2 => Just(Act::Disable),
        2 => Just(Act::Sti),
        3 => (1_u16..3000).prop_map(Act::Run),
        1 => Just(Act::Hlt),
        2 => any::<u8>().prop_map(Act::Key),
        2 => Just(Act::TakeKey),
        1 => any::<u16>().prop_map(Act::Timer),
        3 => any::<u8>().prop_map(Act::Read),
        1 => any::<u8>().prop_map(Act::BadWrite),
        1 => Just(Act::SoftwareDisable),
        1 => Just(Act::SoftwareEnable),
        1 => Just(Act::ClearErrors),
        3 => Just(Act::Iret),
        1 => Just(Act::Snapshot),
    ]
}

/// What came of `act`, as far as the guest can tell.
fn perform(machine: &mut Machine, act: Act) -> (Vec<Vector>, Option<Exception>, u64) {
    let outcome = |written: Result<vm_sim::Executed, Exception>| match written {
        Ok(executed) => (executed.interrupts, None, executed.advanced),
        Err(fault) => (Vec::new(), Some(fault), 0),
    };
    let nothing = (Vec::new(), None, 0);
    match act {
        Act::SelfIpi(vector) => outcome(machine.wrmsr(SELF_IPI, vector.into())),
        Act::Icr(vector) => outcome(machine.wrmsr(ICR, 0x4_4000 | u64::from(vector))),
        Act::Eoi => outcome(machine.wrmsr(EOI, 0)),
        Act::Tpr(value) => outcome(machine.wrmsr(TPR, value.into())),
        Act::Cr8(value) => {
            (Vec::new(), machine.access_cr(CrAccess::WriteCr8(Gpr::Rbx), value.into()).err(), 0)
        }
        Act::ReadCr8 => {
            machine.access_cr(CrAccess::ReadCr8(Gpr::Rbx), 0).expect("no fault");
            (Vec::new(), None, machine.cpu().gprs().get(Gpr::Rbx))
        }
        Act::Enable => {
            machine.enable_interrupts();
            nothing
        }
        Act::Disable => {
            machine.disable_interrupts();
            nothing
        }
        Act::Sti => (machine.execute(Step::run(2).does(Effect::Sti)).interrupts, None, 0),
        Act::Run(ticks) => (machine.run_for(ticks.into()).interrupts, None, 0),
        Act::Hlt => {
            machine.enable_interrupts();
            let mut interrupts = machine.run_for(1).interrupts;
            if !interrupts.is_empty() {
                // A handler does not halt.
                return (interrupts, None, 0);
            }
            let executed = machine.hlt();
            interrupts.extend(executed.interrupts);
            if executed.leave == Leave::Halted {
                // A key ends every halt that the task priority and the service let it end.
                machine.type_in(b"k");
                if machine.poll() {
                    interrupts.extend(machine.run_for(1).interrupts);
                } else {
                    machine.vcpu.send_nmi();
                    interrupts.extend(machine.run_for(1).interrupts);
                    machine.iret();
                }
            }
            (interrupts, None, 0)
        }
        Act::Key(key) => {
            machine.type_in(&[key]);
            nothing
        }
        Act::TakeKey => (Vec::new(), None, machine.inb(0x3f8).into()),
        Act::Timer(count) => {
            let mut interrupts = Vec::new();
            for (msr, value) in [(LVT_TIMER, 0x41), (INITIAL_COUNT, u64::from(count))] {
                interrupts.extend(machine.wrmsr(msr, value).expect("legal").interrupts);
            }
            (interrupts, None, 0)
        }
        Act::Read(choice) => {
            let msrs =
                [TPR, PPR, ISR1, TMR1, IRR1, ESR, SVR, Msr(0x802), Msr(0x80d), EOI, SELF_IPI, Msr(0x827)];
            match machine.rdmsr(msrs[usize::from(choice) % msrs.len()]) {
                Ok(value) => (Vec::new(), None, value),
                Err(fault) => (Vec::new(), Some(fault), 0),
            }
        }
        Act::BadWrite(choice) => {
            let writes = [(TPR, 0x100), (EOI, 1), (SELF_IPI, 0x1_0000), (EOI, 1 << 32), (PPR, 0), (IRR1, 0)];
            let (msr, value) = writes[usize::from(choice) % writes.len()];
            outcome(machine.wrmsr(msr, value))
        }
        Act::SoftwareDisable => outcome(machine.wrmsr(SVR, 0xff)),
        Act::SoftwareEnable => outcome(machine.wrmsr(SVR, 0x1ff)),
        Act::ClearErrors => outcome(machine.wrmsr(ESR, 0)),
        Act::Iret => {
            machine.iret();
            nothing
        }
        Act::Snapshot => {
            let snapshot: MachineSnapshot = machine.save();
            *machine = Machine::restore(&snapshot, machine.now());
            assert_eq!(machine.save().vm(), snapshot.vm());
            nothing
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever a guest does with its local APIC, it sees the same, and is saved as the same.
    #[test]
    fn the_guest_cannot_tell_software_from_hardware(
        acts in prop::collection::vec(act(), 1..120),
        posted in any::<bool>(),
    ) {
        let support = if posted { InterruptSupport::Posted } else { InterruptSupport::Virtual };
        let mut pair = Pair::new(support);
        for act in acts {
            pair.each(|machine| perform(machine, act));
            pair.compare();
        }
    }
}

#[test]
fn a_level_is_broadcast_at_its_eoi_by_one_exit_and_an_edge_by_none() {
    for (entry, expected) in [(LEVEL, 1), (0, 0)] {
        let mut machine = lent();
        machine.enable_uart();
        machine.set_ioapic_pin(COM1_PIN, 0x34 | entry);
        machine.enable_interrupts();
        machine.type_in(b"a");
        assert_eq!(machine.run_for(10).interrupts, [Vector(0x34)]);
        assert_eq!(machine.rdmsr(TMR1), Ok(u64::from(entry != 0) << 0x14));
        machine.enable_interrupts();
        let end = |machine: &mut Machine| {
            let again = machine.wrmsr(EOI, 0).expect("EOI").interrupts;
            assert_eq!(again.len(), usize::from(entry != 0), "a level that is still high comes again");
        };
        assert_eq!(exits_of(&mut machine, ExitReason::EoiInduced, end), expected);
    }
}

#[test]
fn a_self_ipi_with_an_illegal_vector_is_an_error_behind_the_instruction() {
    let mut machine = lent();
    let rip = machine.cpu().rip();
    let write = |machine: &mut Machine| {
        machine.wrmsr(SELF_IPI, 9).expect("no fault");
    };
    assert_eq!(exits_of(&mut machine, ExitReason::ApicWrite, write), 1);
    assert_eq!(machine.cpu().rip(), rip + 2, "once past it");
    machine.wrmsr(ESR, 0).expect("ESR");
    assert_eq!(machine.rdmsr(ESR), Ok(1 << 5));
}

/// Two processors that both run, with their local APICs lent.
fn two(interrupts: InterruptSupport) -> Machine {
    let mut machine = machine(interrupts, 2);
    machine.wrmsr(ICR, 1 << 32 | 0x4500).expect("INIT");
    machine.wrmsr(ICR, 1 << 32 | 0x4612).expect("start-up");
    machine.turn_to(1);
    assert!(machine.poll());
    machine.switch_to_x2apic();
    machine.enable_interrupts();
    machine.run_for(1);
    machine.turn_to(0);
    machine.take_wakes();
    machine
}

#[test]
fn an_ipi_to_one_that_runs_is_one_exit_of_the_senders() {
    let mut machine = two(InterruptSupport::Posted);
    let sent = exits(&mut machine, |machine| {
        machine.wrmsr(ICR, 1 << 32 | 0x4051).expect("a fixed interrupt");
        machine.wrmsr(ICR, 1 << 32 | 0x4061).expect("another");
    });
    assert_eq!(sent, 2, "one each");
    assert_eq!(
        (machine.take_wakes(), machine.take_notified()),
        (vec![], vec![1]),
        "one notification for both"
    );
    machine.turn_to(1);
    let received = exits(&mut machine, |machine| {
        let taken = machine.execute(Step::run(10).does(Effect::Notification));
        assert_eq!(taken.interrupts, [Vector(0x61)]);
        machine.wrmsr(EOI, 0).expect("EOI");
        machine.iret();
        assert_eq!(machine.run_for(10).interrupts, [Vector(0x51)]);
    });
    assert_eq!(received, 0);
    machine.turn_to(0);
    machine.wrmsr(ICR, 1 << 32 | 0x4051).expect("a fixed interrupt");
    assert_eq!(machine.take_notified(), [1], "it took the last, and is notified anew");
}

#[test]
fn what_was_posted_to_one_that_does_not_run_is_found_at_its_next_turn() {
    let mut machine = two(InterruptSupport::Posted);
    machine.wrmsr(ICR, 1 << 32 | 0x4051).expect("a fixed interrupt");
    machine.turn_to(1);
    // The notification went to a core that it has left.
    assert_eq!(machine.run_for(10).interrupts, [Vector(0x51)]);
}

#[test]
fn a_posted_interrupt_wakes_one_that_halts() {
    let mut machine = two(InterruptSupport::Posted);
    machine.turn_to(1);
    assert_eq!(machine.hlt().leave, Leave::Halted);
    machine.turn_to(0);
    machine.wrmsr(ICR, 1 << 32 | 0x4051).expect("a fixed interrupt");
    assert_eq!(machine.take_notified(), [1]);
    machine.turn_to(1);
    assert!(machine.poll());
    assert_eq!(machine.run_for(10).interrupts, [Vector(0x51)]);
}

#[test]
fn one_in_software_mode_is_woken_and_not_notified() {
    for support in [InterruptSupport::Virtual, InterruptSupport::Software] {
        let mut machine = two(support);
        machine.wrmsr(ICR, 1 << 32 | 0x4051).expect("a fixed interrupt");
        assert_eq!((machine.take_wakes(), machine.take_notified()), (vec![1], vec![]));
    }
    let mut machine = two(InterruptSupport::Posted);
    machine.turn_to(1);
    machine.wrmsr(SVR, 0xff).expect("SVR");
    machine.wrmsr(SVR, 0x1ff).expect("SVR");
    machine.turn_to(0);
    machine.wrmsr(ICR, 1 << 32 | 0x4051).expect("a fixed interrupt");
    assert_eq!(machine.take_notified(), [1], "lent again");
}

#[test]
fn a_notification_for_a_guest_that_took_its_local_apic_back_is_a_host_interrupt() {
    let mut machine = two(InterruptSupport::Posted);
    machine.wrmsr(ICR, 1 << 32 | 0x4051).expect("a fixed interrupt");
    machine.turn_to(1);
    machine.disable_interrupts();
    machine.wrmsr(SVR, 0xff).expect("SVR");
    assert_eq!(machine.rdmsr(Msr(0x822)), Ok(1 << 0x11), "it came before the local APIC was disabled");
    let seen = exits_of(&mut machine, ExitReason::ExternalInterrupt, |machine| {
        machine.execute(Step::run(1).does(Effect::Notification));
    });
    assert_eq!(seen, 1);
}

#[test]
fn init_takes_what_the_processor_holds_with_it() {
    let mut machine = two(InterruptSupport::Posted);
    machine.turn_to(1);
    machine.disable_interrupts();
    machine.wrmsr(SELF_IPI, 0x41).expect("SELF IPI");
    machine.wrmsr(TPR, 0x20).expect("TPR");
    machine.turn_to(0);
    machine.wrmsr(ICR, 1 << 32 | 0x4500).expect("INIT");
    machine.wrmsr(ICR, 1 << 32 | 0x4601).expect("start-up");
    machine.turn_to(1);
    assert!(machine.poll());
    assert_eq!(machine.rdmsr(TPR), Ok(0));
    assert!(!machine.cpu().delivers_interrupts(), "INIT disables by software");
    machine.wrmsr(SVR, 0x1ff).expect("SVR");
    machine.enable_interrupts();
    assert_eq!(machine.run_for(10).interrupts, []);
}
