//! A machine that is saved and restored goes on as if nothing had been.

use arch::{Exception, Gpa, Gpr, Msr, Port, Tsc, Vector, Width};
use memory::GuestMemory;
use proptest::prelude::*;
use vm_sim::{Delivery, Effect, Machine, Setup, Step};
use vmm::{
    BadClock, BadExtendedState, Direction, Event, EventKind, IoExit, Leave, RestoreError, VcpuBackend, VmExit,
};

/// Another host, booted at another time.
const OTHER_HOST: Tsc = Tsc(1 << 50 | 12_345);

/// A machine in the middle of things: timer running, an interrupt in service, another waiting, a key unread.
fn busy() -> Machine {
    let mut machine = Machine::default();
    machine.switch_to_x2apic();
    machine.initialize_pics();
    machine.start_pit(50_000);
    machine.enable_uart();
    machine.wrmsr(Msr(0x83e), 0b1011).expect("divide");
    machine.wrmsr(Msr(0x832), 1 << 17 | 0x60).expect("periodic");
    machine.wrmsr(Msr(0x838), 70_000).expect("starts");
    machine.wrmsr(Msr(0x83f), 0x41).expect("SELF IPI");
    machine.enable_interrupts();
    machine.type_in(b"k");
    machine.run_for(33_333);
    machine.wrmsr(Msr(0x83f), 0x31).expect("SELF IPI");
    machine
}

/// What a guest sees of its machine over the next while: its interrupts, with times from now, and its registers.
fn future(machine: &mut Machine) -> (Vec<Delivery>, Vec<[u64; 4]>) {
    let mut seen = Vec::new();
    let start = machine.now().0;
    let first = machine.cpu().deliveries().len();
    for _ in 0..40 {
        machine.run_for(11_111);
        machine.iret();
        machine.wrmsr(Msr(0x80b), 0).expect("EOI");
        machine.outb(0x20, 0x20);
        let status = machine.input(0x3fd, Width::One);
        let counter = machine.input(0x40, Width::One);
        let tsc = machine.rdmsr(Msr::TSC).expect("TSC");
        let count = machine.rdmsr(Msr(0x839)).expect("current count");
        seen.push([status, counter, tsc, count]);
    }
    let deliveries = machine.cpu().deliveries()[first..].iter();
    (deliveries.map(|delivery| Delivery { at: Tsc(delivery.at.0 - start), ..*delivery }).collect(), seen)
}

#[test]
fn a_restored_machine_has_the_same_future() {
    let mut original = busy();
    let mut copy = Machine::restore(&original.save(), OTHER_HOST);
    let (expected, seen) = (future(&mut original), future(&mut copy));
    assert!(expected.0.len() > 5, "there is a future");
    assert_eq!(seen, expected);
}

#[test]
fn the_guests_time_goes_on_where_it_was() {
    let mut original = busy();
    let saved_at = original.rdmsr(Msr::TSC).expect("TSC");
    let snapshot = original.save();
    original.cpu_mut().elapse(1 << 30);
    for host in [Tsc(5), OTHER_HOST, Tsc(u64::MAX / 2)] {
        let mut copy = Machine::restore(&snapshot, host);
        assert_eq!(copy.rdmsr(Msr::TSC), Ok(saved_at), "{host:?}");
        copy.run_for(100);
        assert_eq!(copy.rdmsr(Msr::TSC), Ok(saved_at + 100));
    }
}

#[test]
fn a_tsc_deadline_survives_and_fires_at_its_guest_time() {
    let mut original = Machine::default();
    original.switch_to_x2apic();
    original.enable_interrupts();
    original.wrmsr(Msr(0x832), 1 << 18 | 0x60).expect("LVT");
    original.wrmsr(Msr::TSC_DEADLINE, 10_000).expect("armed");
    original.run_for(4000);
    let mut copy = Machine::restore(&original.save(), OTHER_HOST);
    let entry = OTHER_HOST + Tsc(10_000 - original.cpu().guest_tsc().0);
    assert_eq!(copy.run_for(5999).interrupts, []);
    assert_eq!(copy.cpu().entries().last().map(|entry| entry.deadline), Some(entry));
    assert_eq!(copy.run_for(1).interrupts, [Vector(0x60)]);
}

#[test]
fn a_halted_machine_is_restored_halted_and_wakes() {
    let mut original = Machine::default();
    original.switch_to_x2apic();
    original.enable_interrupts();
    original.wrmsr(Msr(0x832), 1 << 18 | 0x60).expect("LVT");
    original.wrmsr(Msr::TSC_DEADLINE, 10_000).expect("armed");
    assert_eq!(original.hlt().leave, Leave::Halted);
    let mut copy = Machine::restore(&original.save(), OTHER_HOST);
    assert!(!copy.poll());
    assert!(copy.idle());
    assert_eq!((copy.now(), copy.run_for(1).interrupts), (OTHER_HOST + Tsc(10_000), vec![Vector(0x60)]));
}

#[test]
fn an_nmi_that_waits_is_restored() {
    let mut original = Machine::default();
    original.vcpu.send_nmi();
    let mut copy = Machine::restore(&original.save(), OTHER_HOST);
    assert_eq!(copy.run_for(1).interrupts, [Vector(2)]);
}

#[test]
fn restoring_into_a_used_vcpu_leaves_nothing_of_what_it_was() {
    let fresh = Machine::default().vcpu.save(Tsc(1 << 40));
    let mut used = busy();
    // It waits for both windows.
    used.disable_interrupts();
    used.vcpu.send_nmi();
    used.run_for(1);
    used.vcpu.send_nmi();
    used.run_for(1);
    let now = used.now();
    used.vm.platform().reset(used.vm.clock.nanos(now));
    used.vcpu.restore(&used.vm, &fresh, now).expect("restores");
    used.play([Step::run(1).expect_no_event().expect_windows(false, false), Step::run(1)]);
    assert_eq!(used.cpu().steps_left(), 0);
}

#[test]
fn an_impossible_state_is_refused_and_changes_nothing() {
    let mut machine = busy();
    let now = machine.now();
    let before = machine.vcpu.save(now);
    let mut broken = before.clone();
    broken.lapic.irr[0] |= 1;
    broken.cpu.rip = 0x6666;
    assert!(machine.vcpu.restore(&machine.vm, &broken, now).is_err());
    assert_eq!(machine.vcpu.save(now), before);
}

#[test]
fn a_fault_on_its_way_is_restored_with_its_error_code() {
    let mut original = busy();
    // The slice ends in the very tick in which the instruction faults.
    let end = Tsc(original.now().0 + 100);
    assert_eq!(original.play_until([Step::exit(VmExit::Rdpmc).after(100)], end), Leave::SliceEnd);
    let snapshot = original.save();
    let event = snapshot.vm().vcpus[0].event.expect("a fault waits");
    assert_eq!(
        (event.kind, event.vector, event.error_code),
        (EventKind::HardwareException, Vector(13), Some(0))
    );
    let mut copy = Machine::restore(&snapshot, OTHER_HOST);
    let fault = Event::Exception(Exception::GeneralProtection(0));
    assert_eq!(copy.cpu().pending(), Some(fault));
    let seen = copy.cpu().deliveries().len();
    let (expected, future_seen) = (future(&mut original), future(&mut copy));
    assert_eq!(copy.cpu().deliveries()[seen].event, fault);
    assert_eq!(future_seen, expected);
}

#[test]
fn an_interrupt_that_an_exception_displaced_is_restored() {
    let mut original = Machine::default();
    original.switch_to_x2apic();
    original.wrmsr(Msr(0x83f), 0x55).expect("SELF IPI");
    original.enable_interrupts();
    original.play([Step::exit(VmExit::Exception(Exception::AlignmentCheck)).cutting_off(), Step::run(1)]);
    assert_eq!(original.save().vm().vcpus[0].displaced, Some(Vector(0x55)));
    let mut copy = Machine::restore(&original.save(), OTHER_HOST);
    copy.iret();
    assert_eq!(copy.run_for(1).interrupts, [Vector(0x55)]);
}

#[test]
fn a_single_step_on_its_way_is_restored() {
    let mut original = Machine::default();
    original.cpu_mut().apply(Effect::SetFlags(arch::RFlags::TRAP_FLAG));
    let end = Tsc(original.now().0 + 10);
    assert_eq!(original.play_until([Step::exit(VmExit::Cpuid).after(10)], end), Leave::SliceEnd);
    let mut copy = Machine::restore(&original.save(), OTHER_HOST);
    copy.play([]);
    let [delivery] = copy.cpu().deliveries() else { panic!("one trap") };
    assert_eq!(delivery.event, Event::Exception(Exception::Debug { dr6: 1 << 14 }));
}

#[test]
fn a_string_input_goes_on_in_the_middle() {
    const BUFFER: u64 = 0x2_0000;
    const BYTES: u64 = 5000;
    let exit = VmExit::Io(IoExit::new(Port(0x40), Width::One, Direction::In, true));
    let start = |machine: &mut Machine| {
        machine.disable_interrupts();
        // REP INSB
        machine.write_code(&[0xf3, 0x6c]);
        for (register, value) in [(Gpr::Rdi, BUFFER), (Gpr::Rcx, BYTES), (Gpr::Rdx, 0x40)] {
            machine.cpu_mut().apply(Effect::Set(register, value));
        }
    };
    let finish = |machine: &mut Machine| {
        let rip = machine.cpu().rip();
        while machine.cpu().rip() == rip {
            machine.play([Step::exit(exit).after(777)]);
        }
        let mut bytes = vec![0; usize::try_from(BYTES).expect("small")];
        machine.vm.memory.read(Gpa::new(BUFFER), &mut bytes).expect("RAM");
        (bytes, *machine.cpu().gprs(), machine.cpu().rip())
    };
    let mut original = busy();
    start(&mut original);
    original.play([Step::exit(exit).after(777)]);
    let left = original.cpu().gprs().get(Gpr::Rcx);
    assert!(0 < left && left < BYTES, "in the middle: {left}");
    let mut copy = Machine::restore(&original.save(), OTHER_HOST);
    let expected = finish(&mut original);
    assert!(expected.0.iter().any(|byte| *byte != expected.0[0]), "the counter counts");
    assert_eq!(finish(&mut copy), expected);
}

#[test]
fn every_register_is_restored() {
    let mut original = Machine::default();
    original.cpu_mut().extended_mut().area[700] = 0x77;
    let state = original.cpu_mut().state_mut();
    state.pdptes = [1, 2, 3, 4];
    state.breakpoints = [5, 6, 7, 8];
    state.dr6 = 0xffff_2ff1;
    state.dr7 = 0x755;
    (state.sysenter_cs, state.sysenter_esp, state.sysenter_eip) = (9, 10, 11);
    (state.star, state.lstar, state.cstar, state.fmask) = (12, 13, 14, 15);
    (state.kernel_gs_base, state.tsc_aux) = (16, 17);
    let expected = *state;
    let mut copy = Machine::restore(&original.save(), OTHER_HOST);
    assert_eq!(*copy.cpu_mut().state_mut(), expected);
    assert_eq!(copy.cpu().save_extended(), original.cpu().save_extended());
}

#[test]
fn what_the_processor_would_refuse_is_refused_first_and_changes_nothing() {
    let mut machine = busy();
    let now = machine.now();
    let before = machine.save().vm().clone();
    let restore = |machine: &mut Machine, snapshot| machine.resume(snapshot, now);

    let mut broken = before.clone();
    broken.vcpus[0].cpu.lstar = 1 << 60;
    assert_eq!(restore(&mut machine, &broken), Err(RestoreError::NotCanonical(Msr::LSTAR, 1 << 60)));
    let mut broken = before.clone();
    broken.vcpus[0].xcr0 = 6;
    assert_eq!(restore(&mut machine, &broken), Err(RestoreError::XCr0(6)));
    let mut broken = before.clone();
    broken.vcpus[0].extended.area[520] = 1;
    assert_eq!(restore(&mut machine, &broken), Err(RestoreError::Extended(BadExtendedState::Header)));
    let mut broken = before.clone();
    broken.clock.frequency_hz = 2_000_000_000;
    let clock = BadClock { saved_hz: 2_000_000_000, host_hz: Setup::default().tsc_hz };
    assert_eq!(restore(&mut machine, &broken), Err(RestoreError::Clock(clock)));

    assert_eq!(*machine.save().vm(), before);
    assert_eq!(restore(&mut machine, &before), Ok(()));
}

proptest! {
    #[test]
    fn a_snapshot_at_any_moment_changes_nothing(
        steps in prop::collection::vec((0_u8..11, 1_u64..20_000), 1..30),
        at in 0_usize..30,
        host in any::<u32>(),
    ) {
        let mut original = busy();
        let mut copy = None;
        for (index, (kind, ticks)) in steps.iter().enumerate() {
            if index == at {
                copy = Some((Machine::restore(&original.save(), Tsc((1 << 55) + u64::from(host))), original.now()));
            }
            let step = match kind {
                0 => Step::run(*ticks).does(Effect::Sti),
                1 => Step::run(*ticks).does(Effect::Iret),
                2 => Step::exit(VmExit::WriteMsr).set(Gpr::Rcx, 0x80b).set(Gpr::Rax, 0).set(Gpr::Rdx, 0),
                3 => Step::exit(VmExit::WriteMsr).set(Gpr::Rcx, 0x838).set(Gpr::Rax, *ticks).set(Gpr::Rdx, 0),
                4 => Step::exit(VmExit::ReadMsr).set(Gpr::Rcx, 0x839),
                5 => Step::exit(VmExit::ReadMsr).set(Gpr::Rcx, 0x10),
                6 => Step::exit(VmExit::Cpuid).after(*ticks),
                7 => Step::exit(VmExit::Rdpmc).after(*ticks),
                8 => Step::exit(VmExit::Exception(Exception::AlignmentCheck)).cutting_off(),
                9 => Step::exit(VmExit::Exception(Exception::Debug { dr6: ticks & 0xf })),
                _ => Step::run(*ticks),
            };
            original.play([step.clone()]);
            if let Some((copy, _)) = &mut copy {
                copy.play([step]);
                prop_assert_eq!(copy.cpu().gprs(), original.cpu().gprs());
                prop_assert_eq!(copy.cpu().rip(), original.cpu().rip());
            }
        }
        if let Some((copy, since)) = copy {
            let events = |machine: &Machine, start: Tsc| -> Vec<Delivery> {
                let deliveries = machine.cpu().deliveries().iter().filter(|delivery| delivery.at >= start);
                deliveries.map(|d| Delivery { at: Tsc(d.at.0 - start.0), ..*d }).collect()
            };
            let first = Tsc((1 << 55) + u64::from(host));
            let (mine, theirs) = (events(&copy, first), events(&original, since));
            prop_assert!(theirs.ends_with(&mine), "{:?} is not the end of {:?}", mine, theirs);
            let (copy_now, original_now) = (copy.now(), original.now());
            prop_assert_eq!(copy.vcpu.save(copy_now), original.vcpu.save(original_now));
        }
    }
}
