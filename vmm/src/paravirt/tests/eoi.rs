//! PV EOI, with a guest that tests and clears the bit.

use super::*;
use crate::paravirt::Ending;

const WORD: u64 = 0x10_0ffc;

/// The guest's end of interrupt: true if it needs no access to its local APIC.
fn guest_ends(memory: &impl GuestMemory) -> bool {
    memory.swap_u8(Gpa::new(WORD), 0).expect("RAM") & 1 != 0
}

fn enabled(memory: &impl GuestMemory) -> Paravirt {
    let mut paravirt = paravirt();
    set(&mut paravirt, EOI, WORD | 1, memory);
    paravirt
}

#[test]
fn a_guest_that_clears_the_bit_has_ended_its_interrupt() {
    let memory = memory();
    let mut paravirt = enabled(&memory);
    assert!(!guest_ends(&memory), "nothing is offered yet");
    paravirt.offer_eoi(&memory);
    assert!(paravirt.eoi_is_offered());
    assert!(guest_ends(&memory));
    assert_eq!(paravirt.withdraw_eoi(&memory), Ending::Ended);
    assert!(!paravirt.eoi_is_offered());
    assert_eq!(paravirt.withdraw_eoi(&memory), Ending::Open, "it ends once");
}

#[test]
fn an_exit_in_the_handler_withdraws_the_offer() {
    let memory = memory();
    let mut paravirt = enabled(&memory);
    paravirt.offer_eoi(&memory);
    assert_eq!(paravirt.withdraw_eoi(&memory), Ending::Open);
    assert!(!guest_ends(&memory), "the guest writes to its local APIC");
}

#[test]
fn nothing_is_offered_while_it_is_off() {
    let memory = memory();
    let mut paravirt = enabled(&memory);
    set(&mut paravirt, EOI, WORD, &memory);
    paravirt.offer_eoi(&memory);
    assert!(!paravirt.eoi_is_offered());
    assert_eq!(memory.read_u32(Gpa::new(WORD)), Ok(0));
}

#[test]
fn an_offer_ends_with_init_and_with_the_register() {
    let memory = memory();
    let mut paravirt = enabled(&memory);
    paravirt.offer_eoi(&memory);
    paravirt.reset();
    assert!(!paravirt.eoi_is_offered());
    let mut paravirt = enabled(&memory);
    paravirt.offer_eoi(&memory);
    set(&mut paravirt, EOI, WORD | 1, &memory);
    assert!(!paravirt.eoi_is_offered());
}

#[test]
fn other_bits_of_the_word_do_not_end_an_interrupt() {
    let memory = memory();
    let mut paravirt = enabled(&memory);
    paravirt.offer_eoi(&memory);
    memory.write(Gpa::new(WORD), &[0xff]).expect("RAM");
    assert_eq!(paravirt.withdraw_eoi(&memory), Ending::Open);
}
