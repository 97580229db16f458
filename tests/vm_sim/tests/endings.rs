//! How machines end: every reason, once and for good.

use arch::Exception;
use vm_sim::{CODE, Machine, Step};
use vmm::{EntryFailure, Leave, RawExit, RunState, StopReason, VcpuBackend, VmExit};

#[test]
fn every_fatal_exit_stops_the_machine_with_its_reason() {
    let raw = RawExit { reason: 33, qualification: 4 };
    let cases = [
        (VmExit::TripleFault, StopReason::TripleFault),
        (VmExit::TaskSwitch, StopReason::TaskSwitch),
        (
            VmExit::EntryFailure(EntryFailure::Refused(raw)),
            StopReason::EntryFailure(EntryFailure::Refused(raw)),
        ),
        (
            VmExit::EntryFailure(EntryFailure::Instruction(7)),
            StopReason::EntryFailure(EntryFailure::Instruction(7)),
        ),
        (VmExit::Unhandled(raw), StopReason::Unhandled(raw)),
    ];
    for (exit, reason) in cases {
        let mut machine = Machine::default();
        let executed = machine.execute(Step::exit(exit));
        assert_eq!((executed.leave, executed.advanced), (Leave::Stopped(reason), 0));
        assert_eq!(machine.vcpu.run_state(), RunState::Stopped(reason));
        let exits = machine.cpu().exits();
        assert_eq!(machine.play([Step::exit(VmExit::Cpuid)]), Leave::Stopped(reason));
        assert_eq!(machine.cpu().exits(), exits, "it is never entered again");
        assert!(!reason.is_orderly() && !reason.to_string().is_empty());
    }
}

#[test]
fn the_operator_stops_a_machine_at_any_time() {
    let mut machine = Machine::default();
    machine.run_for(10);
    machine.vcpu.stop(StopReason::Operator);
    assert_eq!(machine.play([]), Leave::Stopped(StopReason::Operator));
    assert!(!machine.poll());
}

#[test]
fn what_the_host_has_to_do_comes_first_and_the_guest_goes_on_where_it_was() {
    for (exit, leave) in [
        (VmExit::ExternalInterrupt, Leave::HostInterrupt),
        (VmExit::Nmi, Leave::HostNmi),
        (VmExit::MachineCheck, Leave::HostMachineCheck),
        (VmExit::Init, Leave::HostInterrupt),
    ] {
        let mut machine = Machine::default();
        assert_eq!(machine.play([Step::exit(exit), Step::exit(VmExit::Cpuid)]), leave);
        assert_eq!((machine.cpu().rip(), machine.cpu().steps_left()), (CODE, 1));
        assert_eq!(machine.play([]), Leave::HostInterrupt);
        assert_eq!(machine.cpu().rip(), CODE + 2);
    }
}

#[test]
fn instructions_without_a_model_fault_or_do_nothing() {
    let cases = [
        (VmExit::NotOffered, Some(Exception::InvalidOpcode), 0),
        (VmExit::Rdpmc, Some(Exception::GeneralProtection(0)), 0),
        (VmExit::CacheFlush, None, 2),
        (VmExit::Pause, None, 2),
        (VmExit::Vmcall, None, 2),
    ];
    for (exit, fault, advanced) in cases {
        let mut machine = Machine::default();
        let executed = machine.execute(Step::exit(exit));
        assert_eq!((executed.fault, executed.advanced), (fault, advanced), "{exit:?}");
    }
}
