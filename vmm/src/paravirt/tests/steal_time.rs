//! Steal time and PV TLB flush, with the senders of a guest's other vCPUs.

use super::*;
use crate::paravirt::Departure;

const RECORD: u64 = 0x1_0000 - 64;

fn steal(memory: &impl GuestMemory) -> u64 {
    memory.read_u64(Gpa::new(RECORD)).expect("RAM")
}

fn preempted(memory: &impl GuestMemory) -> u8 {
    let mut byte = [0];
    memory.read(Gpa::new(RECORD + 16), &mut byte).expect("RAM");
    byte[0]
}

/// Linux's sender: it leaves a request if the vCPU is preempted, and returns whether it need not send an IPI.
fn ask_for_flush(memory: &impl GuestMemory) -> bool {
    let state = preempted(memory);
    if state & 1 == 0 {
        return false;
    }
    memory.write(Gpa::new(RECORD + 16), &[state | 2]).expect("RAM");
    true
}

#[test]
fn time_waited_since_registration_is_added_up() {
    let (memory, mut paravirt) = (memory(), paravirt());
    assert_eq!(paravirt.loaded(&memory, Nanos(1000)), Loaded::Ready);
    set(&mut paravirt, STEAL_TIME, RECORD | 1, &memory);
    assert_eq!(steal(&memory), 0, "what was waited before is not the guest's business");
    for (waited, expected) in [(1000, 0), (1300, 300), (1300, 300), (5000, 4000)] {
        assert_eq!(paravirt.loaded(&memory, Nanos(waited)), Loaded::Ready);
        assert_eq!(steal(&memory), expected);
    }
    let version = memory.read_u32(Gpa::new(RECORD + 8)).expect("RAM");
    assert_eq!(version, 4, "two updates");
}

#[test]
fn what_was_waited_while_nobody_counted_is_not_told() {
    let (memory, mut paravirt) = (memory(), paravirt());
    assert!(!paravirt.counts_waits());
    paravirt.loaded_uncounted();
    set(&mut paravirt, STEAL_TIME, RECORD | 1, &memory);
    assert!(paravirt.counts_waits());
    for (waited, expected) in [(9000, 0), (9200, 200)] {
        assert_eq!(paravirt.loaded(&memory, Nanos(waited)), Loaded::Ready);
        assert_eq!(steal(&memory), expected);
    }
}

#[test]
fn the_sum_survives_a_vcpu_that_is_taken_out_and_put_back() {
    let (memory, mut paravirt) = (memory(), paravirt());
    set(&mut paravirt, STEAL_TIME, RECORD | 1, &memory);
    assert_eq!(paravirt.loaded(&memory, Nanos(700)), Loaded::Ready);
    set(&mut paravirt, STEAL_TIME, 0, &memory);
    assert_eq!(paravirt.loaded(&memory, Nanos(900)), Loaded::Ready);
    paravirt.reset();
    assert_eq!(paravirt.loaded(&memory, Nanos(1000)), Loaded::Ready);
    set(&mut paravirt, STEAL_TIME, RECORD | 1, &memory);
    assert_eq!(steal(&memory), 700);
    assert_eq!(paravirt.loaded(&memory, Nanos(1050)), Loaded::Ready);
    assert_eq!(steal(&memory), 750);
}

#[test]
fn a_preempted_vcpu_is_marked_until_it_runs_again() {
    let (memory, mut paravirt) = (memory(), paravirt());
    set(&mut paravirt, STEAL_TIME, RECORD | 1, &memory);
    paravirt.descheduled(&memory, Departure::AtRest);
    assert_eq!(preempted(&memory), 0, "a halted vCPU was not preempted");
    paravirt.descheduled(&memory, Departure::Preempted);
    assert_eq!(preempted(&memory), 1);
    assert_eq!(paravirt.loaded(&memory, Nanos(0)), Loaded::Ready);
    assert_eq!(preempted(&memory), 0);
}

#[test]
fn a_flush_asked_of_a_preempted_vcpu_is_made_once_when_it_runs() {
    let (memory, mut paravirt) = (memory(), paravirt());
    set(&mut paravirt, STEAL_TIME, RECORD | 1, &memory);
    assert!(!ask_for_flush(&memory), "it runs: an IPI is needed");
    paravirt.descheduled(&memory, Departure::Preempted);
    assert!(ask_for_flush(&memory));
    // Descheduled again without having run, as when its turn ended before its entry: the request stays.
    paravirt.descheduled(&memory, Departure::Preempted);
    assert_eq!(preempted(&memory), 3);
    assert_eq!(paravirt.loaded(&memory, Nanos(50)), Loaded::FlushTlb);
    assert_eq!((preempted(&memory), steal(&memory)), (0, 50));
    assert_eq!(paravirt.loaded(&memory, Nanos(50)), Loaded::Ready);
}

#[test]
fn every_request_is_either_flushed_or_sent_as_an_ipi() {
    // All orders of two departures and returns against a sender that looks at any moment.
    for moment in 0..5 {
        let (memory, mut paravirt) = (memory(), paravirt());
        set(&mut paravirt, STEAL_TIME, RECORD | 1, &memory);
        let (mut left, mut flushed) = (false, false);
        for step in 0..5 {
            if step == moment {
                left = ask_for_flush(&memory);
            }
            match step {
                0 | 2 => paravirt.descheduled(&memory, Departure::Preempted),
                1 | 3 => flushed |= paravirt.loaded(&memory, Nanos(step)) == Loaded::FlushTlb,
                _ => {}
            }
        }
        assert_eq!(left, flushed, "at moment {moment}");
    }
}

#[test]
fn a_saved_request_is_carried_out_after_the_restore() {
    let (memory, mut before) = (memory(), paravirt());
    set(&mut before, STEAL_TIME, RECORD | 1, &memory);
    before.descheduled(&memory, Departure::Preempted);
    assert!(ask_for_flush(&memory));
    let mut after = paravirt();
    // The new host counts from another beginning: that is no steal time.
    after.restore(&before.save(), Nanos(12_345)).expect("possible");
    assert_eq!(after.loaded(&memory, Nanos(12_355)), Loaded::FlushTlb);
    assert_eq!(steal(&memory), 10);
}

#[test]
fn a_flush_that_stands_in_a_new_record_is_made() {
    let (memory, mut paravirt) = (memory(), paravirt());
    memory.write(Gpa::new(RECORD + 16), &[3]).expect("RAM");
    let effect = paravirt.write_msr(STEAL_TIME, RECORD | 1, &memory, times);
    assert_eq!(effect, Some(Ok(Loaded::FlushTlb)));
    assert_eq!(preempted(&memory), 0);
}
