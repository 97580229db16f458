//! Interrupts sent by the command register in x2APIC mode: the short way for one processor must do what the long way does.
//!
//! SDM Vol. 3A, "Issuing Interprocessor Interrupts", "ICR Operation in x2APIC Mode".

use arch::{Msr, Vector};
use proptest::prelude::*;
use vm_sim::{Machine, Setup};
use vmm::{InterruptSupport, lapic};

const APIC_BASE_DISABLED: u64 = 0xfee0_0000;
const EOI: Msr = Msr(0x80b);
const SVR: Msr = Msr(0x80f);
const ESR: Msr = Msr(0x828);
const TMR2: Msr = Msr(0x81a);
const ICR: Msr = Msr(0x830);
const LINT0: Msr = Msr(0x835);
const LOGICAL: u64 = 1 << 11;

const ALL_SUPPORT: [InterruptSupport; 3] =
    [InterruptSupport::Software, InterruptSupport::Virtual, InterruptSupport::Posted];

/// A machine of two processors in x2APIC mode, both enabled by software; the first executes.
fn two(interrupts: InterruptSupport) -> Machine {
    let mut machine = Machine::new(Setup { interrupts, vcpus: 2, ..Setup::default() });
    machine.switch_to_x2apic();
    machine.wrmsr(ICR, 1 << 32 | 0x4500).expect("INIT");
    machine.wrmsr(ICR, 1 << 32 | 0x4612).expect("start-up");
    machine.turn_to(1);
    assert!(machine.poll());
    machine.switch_to_x2apic();
    machine.run_for(1);
    machine.turn_to(0);
    machine.run_for(1);
    machine.take_wakes();
    machine.take_notified();
    machine
}

fn lapic(machine: &mut Machine, index: usize) -> lapic::State {
    machine.turn_to(index);
    machine.poll();
    let state = machine.vcpu.save(machine.now()).lapic;
    machine.turn_to(0);
    state
}

#[test]
fn one_to_itself_arrives_and_reads_back() {
    for support in ALL_SUPPORT {
        let mut machine = two(support);
        machine.wrmsr(ICR, 0x52).expect("fixed, to ID 0");
        assert_eq!(machine.rdmsr(ICR), Ok(0x52));
        machine.enable_interrupts();
        assert_eq!(machine.run_for(5).interrupts, [Vector(0x52)], "{support:?}");
        machine.wrmsr(EOI, 0).expect("EOI");
        machine.iret();
        assert_eq!(machine.run_for(5).interrupts, [], "{support:?}: once");
    }
}

#[test]
fn one_to_another_arrives_there_and_has_it_told_as_it_takes_it() {
    for (support, woken, notified) in [
        (InterruptSupport::Software, vec![1], vec![]),
        (InterruptSupport::Virtual, vec![1], vec![]),
        (InterruptSupport::Posted, vec![], vec![1]),
    ] {
        let mut machine = two(support);
        machine.wrmsr(ICR, 1 << 32 | 0x4052).expect("fixed, to ID 1");
        assert_eq!((machine.take_wakes(), machine.take_notified()), (woken, notified), "{support:?}");
        machine.turn_to(1);
        machine.enable_interrupts();
        assert_eq!(machine.run_for(5).interrupts, [Vector(0x52)], "{support:?}");
    }
}

#[test]
fn one_to_an_id_that_nobody_has_or_whose_apic_is_off_goes_nowhere() {
    for support in ALL_SUPPORT {
        let mut machine = two(support);
        for id in [2, 63, 64, 0xff, 0x100, 0xffff_fffe_u64] {
            machine.wrmsr(ICR, id << 32 | 0x52).expect("no fault");
            assert_eq!(machine.rdmsr(ICR), Ok(id << 32 | 0x52), "{id:#x}");
        }
        machine.turn_to(1);
        machine.wrmsr(Msr::APIC_BASE, APIC_BASE_DISABLED).expect("legal");
        machine.turn_to(0);
        machine.wrmsr(ICR, 1 << 32 | 0x52).expect("no fault");
        assert_eq!((machine.take_wakes(), machine.take_notified()), (vec![], vec![]), "{support:?}");
        assert_eq!((lapic(&mut machine, 0).irr, lapic(&mut machine, 1).irr), ([0; 4], [0; 4]));
    }
}

#[test]
fn one_that_software_disabled_refuses_what_comes() {
    for support in ALL_SUPPORT {
        let mut machine = two(support);
        machine.wrmsr(SVR, 0xff).expect("legal");
        machine.wrmsr(ICR, 0x52).expect("to itself");
        assert_eq!(lapic(&mut machine, 0).irr, [0; 4], "{support:?}");
    }
}

#[test]
fn an_illegal_vector_is_an_error_and_nothing_is_sent() {
    for support in ALL_SUPPORT {
        let mut machine = two(support);
        for id in [0_u64, 1] {
            machine.wrmsr(ICR, id << 32 | 15).expect("no fault");
            machine.wrmsr(ESR, 0).expect("legal");
            assert_eq!(machine.rdmsr(ESR), Ok(1 << 5), "{support:?} to {id}");
        }
        assert_eq!((machine.take_wakes(), machine.take_notified()), (vec![], vec![]), "{support:?}");
    }
}

/// A level was requested with the vector before: the edge takes its mark off, or its end would be broadcast.
#[test]
fn an_edge_after_a_level_of_the_same_vector_is_an_edge() {
    for support in ALL_SUPPORT {
        let mut machine = two(support);
        machine.initialize_pics();
        machine.enable_uart();
        machine.wrmsr(LINT0, 0x8045).expect("fixed, level");
        machine.enable_interrupts();
        machine.type_in(b"a");
        assert_eq!(machine.run_for(5).interrupts, [Vector(0x45)], "{support:?}");
        assert_eq!(machine.rdmsr(TMR2), Ok(1 << 5));
        assert_eq!(machine.inb(0x3f8), b'a');
        machine.wrmsr(EOI, 0).expect("EOI");
        machine.iret();
        machine.wrmsr(ICR, 0x45).expect("to itself");
        assert_eq!(machine.rdmsr(TMR2), Ok(0), "{support:?}");
    }
}

proptest! {
    /// The logical address of a processor names it as its ID does, and goes the long way.
    #[test]
    fn the_short_way_ends_where_the_long_way_does(
        support in 0..ALL_SUPPORT.len(),
        sent in prop::collection::vec((0..2_u32, any::<u8>()), 1..20),
    ) {
        let (mut short, mut long) = (two(ALL_SUPPORT[support]), two(ALL_SUPPORT[support]));
        for (id, vector) in sent {
            short.wrmsr(ICR, u64::from(id) << 32 | u64::from(vector)).expect("legal");
            long.wrmsr(ICR, 1 << (32 + id) | LOGICAL | u64::from(vector)).expect("legal");
            prop_assert_eq!(short.take_wakes(), long.take_wakes());
            prop_assert_eq!(short.take_notified(), long.take_notified());
        }
        for index in 0..2 {
            let state = |machine: &mut Machine| lapic::State { icr: 0, ..lapic(machine, index) };
            prop_assert_eq!(state(&mut short), state(&mut long));
        }
    }
}
