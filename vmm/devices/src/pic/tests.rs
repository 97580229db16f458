//! Behaviour of the 8259 pair as a PC's interrupt code sees it.

use super::*;
use proptest::prelude::*;

const BASE: u8 = 0x20;
const BASE_SECONDARY: u8 = 0x28;

/// A pair initialized as operating systems do it, with nothing masked.
fn initialized(icw4: u8) -> PicPair {
    let mut pic = PicPair::new();
    for (chip, base, icw3) in [(Chip::Primary, BASE, 4), (Chip::Secondary, BASE_SECONDARY, 2)] {
        pic.write(chip, 0, 0x11);
        pic.write(chip, 1, base);
        pic.write(chip, 1, icw3);
        pic.write(chip, 1, icw4);
        pic.write(chip, 1, 0);
    }
    pic
}

fn raise(pic: &mut PicPair, lines: u16) {
    pic.set_lines(lines, lines);
}

fn non_specific_eoi(pic: &mut PicPair, chip: Chip) {
    pic.write(chip, 0, 0x20);
}

#[test]
fn at_power_on_everything_is_masked() {
    let mut pic = PicPair::new();
    raise(&mut pic, 0xffff);
    assert!(!pic.output());
    assert_eq!((pic.read(Chip::Primary, 1), pic.read(Chip::Secondary, 1)), (0xff, 0xff));
}

#[test]
fn the_mask_can_be_probed_without_initialization() {
    let mut pic = PicPair::new();
    pic.write(Chip::Primary, 1, 0xfb);
    assert_eq!(pic.read(Chip::Primary, 1), 0xfb);
}

#[test]
fn an_edge_is_requested_acknowledged_and_ended() {
    let mut pic = initialized(1);
    raise(&mut pic, 1 << 4);
    assert!(pic.output());
    assert_eq!(pic.read(Chip::Primary, 0), 1 << 4);
    assert_eq!(pic.acknowledge(), Vector(BASE + 4));
    assert!(!pic.output());
    pic.write(Chip::Primary, 0, 0x0b);
    assert_eq!(pic.read(Chip::Primary, 0), 1 << 4);
    non_specific_eoi(&mut pic, Chip::Primary);
    assert_eq!(pic.read(Chip::Primary, 0), 0);
    // The line is still up, but an edge counts once.
    assert!(!pic.output());
}

#[test]
fn a_higher_priority_interrupts_a_lower_one_and_not_the_reverse() {
    let mut pic = initialized(1);
    raise(&mut pic, 1 << 4);
    assert_eq!(pic.acknowledge(), Vector(BASE + 4));
    pic.set_lines(1 << 4 | 1 << 6, 1 << 6);
    assert!(!pic.output());
    pic.set_lines(1 << 4 | 1 << 6 | 1, 1);
    assert_eq!(pic.acknowledge(), Vector(BASE));
    non_specific_eoi(&mut pic, Chip::Primary);
    non_specific_eoi(&mut pic, Chip::Primary);
    assert_eq!(pic.acknowledge(), Vector(BASE + 6));
}

#[test]
fn a_request_that_goes_away_is_spurious_and_not_in_service() {
    let mut pic = initialized(1);
    raise(&mut pic, 1 << 3);
    pic.set_lines(0, 0);
    assert!(!pic.output());
    assert_eq!(pic.acknowledge(), Vector(BASE + 7));
    pic.write(Chip::Primary, 0, 0x0b);
    assert_eq!(pic.read(Chip::Primary, 0), 0);
}

#[test]
fn a_pulse_between_two_looks_is_an_interrupt() {
    let mut pic = initialized(1);
    pic.set_lines(0, 1 << 5);
    assert_eq!(pic.acknowledge(), Vector(BASE + 5));
}

#[test]
fn the_secondary_comes_through_the_cascade() {
    let mut pic = initialized(1);
    raise(&mut pic, 1 << 8 | 1 << 14);
    assert_eq!(pic.acknowledge(), Vector(BASE_SECONDARY));
    assert!(!pic.output());
    non_specific_eoi(&mut pic, Chip::Secondary);
    non_specific_eoi(&mut pic, Chip::Primary);
    assert!(pic.output());
    assert_eq!(pic.acknowledge(), Vector(BASE_SECONDARY + 6));
    for chip in [Chip::Secondary, Chip::Primary] {
        non_specific_eoi(&mut pic, chip);
    }
    assert!(!pic.output());
}

#[test]
fn a_request_that_the_secondary_withdraws_is_gone_from_the_cascade() {
    let mut pic = initialized(1);
    raise(&mut pic, 1 << 10);
    pic.set_lines(0, 0);
    assert!(!pic.output());
    assert_eq!(pic.acknowledge(), Vector(BASE + 7));
}

#[test]
fn special_fully_nested_lets_the_secondary_interrupt_itself() {
    for (icw4, nests) in [(0x01, false), (0x11, true)] {
        let mut pic = initialized(icw4);
        raise(&mut pic, 1 << 12);
        assert_eq!(pic.acknowledge(), Vector(BASE_SECONDARY + 4));
        pic.set_lines(1 << 12 | 1 << 9, 1 << 9);
        assert_eq!(pic.output(), nests);
    }
}

#[test]
fn a_level_triggered_line_requests_until_it_falls() {
    let mut pic = initialized(1);
    pic.write_elcr(Chip::Secondary, 1 << 3);
    raise(&mut pic, 1 << 11);
    assert_eq!(pic.acknowledge(), Vector(BASE_SECONDARY + 3));
    for chip in [Chip::Secondary, Chip::Primary] {
        non_specific_eoi(&mut pic, chip);
    }
    assert!(pic.output());
    pic.set_lines(0, 0);
    assert!(!pic.output());
}

#[test]
fn elcr_cannot_make_timer_keyboard_cascade_clock_or_fpu_level_triggered() {
    let mut pic = PicPair::new();
    assert_eq!((pic.read_elcr(Chip::Primary), pic.read_elcr(Chip::Secondary)), (0, 1 << 1));
    pic.write_elcr(Chip::Primary, 0xff);
    pic.write_elcr(Chip::Secondary, 0xff);
    assert_eq!((pic.read_elcr(Chip::Primary), pic.read_elcr(Chip::Secondary)), (0xf8, 0xde));
}

#[test]
fn auto_eoi_leaves_nothing_in_service() {
    let mut pic = initialized(0x03);
    raise(&mut pic, 1 << 1);
    assert_eq!(pic.acknowledge(), Vector(BASE + 1));
    pic.write(Chip::Primary, 0, 0x0b);
    assert_eq!(pic.read(Chip::Primary, 0), 0);
    pic.set_lines(1 << 1 | 1 << 6, 1 << 6);
    assert_eq!(pic.acknowledge(), Vector(BASE + 6));
}

#[test]
fn rotation_gives_the_served_input_the_lowest_priority() {
    let mut pic = initialized(1);
    raise(&mut pic, 1 << 3);
    assert_eq!(pic.acknowledge(), Vector(BASE + 3));
    pic.write(Chip::Primary, 0, 0xa0);
    pic.set_lines(0, 0);
    raise(&mut pic, 1 << 3 | 1 << 4);
    assert_eq!(pic.acknowledge(), Vector(BASE + 4));
}

#[test]
fn set_priority_and_specific_rotation_choose_the_lowest() {
    let mut pic = initialized(1);
    pic.write(Chip::Primary, 0, 0xc0 | 5);
    raise(&mut pic, 1 | 1 << 6);
    assert_eq!(pic.acknowledge(), Vector(BASE + 6));
    pic.write(Chip::Primary, 0, 0xe0 | 6);
    raise(&mut pic, 1 | 1 << 7);
    assert_eq!(pic.acknowledge(), Vector(BASE + 7));
}

#[test]
fn rotation_in_auto_eoi_mode_rotates_on_acknowledge() {
    let mut pic = initialized(0x03);
    pic.write(Chip::Primary, 0, 0x80);
    raise(&mut pic, 1 | 1 << 1);
    assert_eq!(pic.acknowledge(), Vector(BASE));
    pic.set_lines(0, 0);
    raise(&mut pic, 1 | 1 << 1);
    assert_eq!(pic.acknowledge(), Vector(BASE + 1));
    pic.write(Chip::Primary, 0, 0x00);
    pic.set_lines(0, 0);
    raise(&mut pic, 1 << 5);
    assert_eq!(pic.acknowledge(), Vector(BASE + 5));
    pic.set_lines(0, 0);
    raise(&mut pic, 1 | 1 << 5);
    // Input 1 is still the lowest: 5 comes before 0.
    assert_eq!(pic.acknowledge(), Vector(BASE + 5));
}

#[test]
fn special_mask_mode_lets_lower_priorities_through_a_masked_service() {
    let mut pic = initialized(1);
    raise(&mut pic, 1 << 1);
    assert_eq!(pic.acknowledge(), Vector(BASE + 1));
    pic.set_lines(1 << 1 | 1 << 6, 1 << 6);
    assert!(!pic.output());
    pic.write(Chip::Primary, 1, 1 << 1);
    assert!(!pic.output());
    pic.write(Chip::Primary, 0, 0x68);
    assert_eq!(pic.acknowledge(), Vector(BASE + 6));
    // A non-specific EOI ends the one that is visible, not the one that the mask hides.
    non_specific_eoi(&mut pic, Chip::Primary);
    pic.write(Chip::Primary, 0, 0x0b);
    assert_eq!(pic.read(Chip::Primary, 0), 1 << 1);
    pic.write(Chip::Primary, 0, 0x61);
    assert_eq!(pic.read(Chip::Primary, 0), 0);
}

#[test]
fn polling_acknowledges_without_an_interrupt_cycle() {
    let mut pic = initialized(1);
    pic.write(Chip::Primary, 0, 0x0c);
    assert_eq!(pic.read(Chip::Primary, 0) & 0x80, 0);
    raise(&mut pic, 1 << 6);
    pic.write(Chip::Primary, 0, 0x0c);
    assert_eq!(pic.read(Chip::Primary, 0), 0x86);
    assert!(!pic.output());
    // The poll is over: the next read is the mask again.
    assert_eq!(pic.read(Chip::Primary, 1), 0);
}

#[test]
fn during_initialization_no_interrupt_comes_and_old_edges_are_forgotten() {
    let mut pic = initialized(1);
    raise(&mut pic, 1 << 4);
    pic.write(Chip::Primary, 0, 0x11);
    assert!(!pic.output());
    pic.write(Chip::Primary, 1, 0x40);
    pic.write(Chip::Primary, 1, 0x04);
    pic.set_lines(1 << 4 | 1 << 5, 1 << 5);
    assert!(!pic.output());
    pic.write(Chip::Primary, 1, 0x01);
    assert_eq!(pic.acknowledge(), Vector(0x45));
    non_specific_eoi(&mut pic, Chip::Primary);
    assert!(!pic.output());
}

#[test]
fn icw4_is_skipped_when_icw1_says_so() {
    let mut pic = initialized(0x03);
    pic.write(Chip::Primary, 0, 0x12);
    pic.write(Chip::Primary, 1, 0x30);
    pic.write(Chip::Primary, 1, 0xf0);
    assert_eq!(pic.read(Chip::Primary, 1), 0xf0);
}

#[test]
fn restored_in_mid_service_the_same_follows() {
    let mut pic = initialized(1);
    raise(&mut pic, 1 << 4 | 1 << 6 | 1 << 10);
    assert_eq!(pic.acknowledge(), Vector(BASE_SECONDARY + 2));
    let mut copy = PicPair::new();
    copy.restore(&pic.save());
    for pic in [&mut pic, &mut copy] {
        non_specific_eoi(pic, Chip::Secondary);
        non_specific_eoi(pic, Chip::Primary);
        assert_eq!(pic.acknowledge(), Vector(BASE + 4));
    }
    assert_eq!(pic.save(), copy.save());
}

#[test]
fn a_single_primary_takes_the_secondary_for_one_of_its_interrupts() {
    let mut pic = initialized(1);
    pic.write(Chip::Primary, 0, 0x13);
    // No ICW3 follows.
    pic.write(Chip::Primary, 1, BASE);
    pic.write(Chip::Primary, 1, 1);
    pic.write(Chip::Primary, 1, 0);
    raise(&mut pic, 1 << 10);
    assert_eq!(pic.acknowledge(), Vector(BASE + 2));
    pic.write(Chip::Secondary, 0, 0x0b);
    assert_eq!(pic.read(Chip::Secondary, 0), 0);
}

#[test]
fn without_icw4_the_initialization_ends_after_icw3() {
    let mut pic = initialized(3);
    pic.write(Chip::Primary, 0, 0x10);
    pic.write(Chip::Primary, 1, 0x40);
    pic.write(Chip::Primary, 1, 4);
    pic.write(Chip::Primary, 1, 0x5a);
    assert_eq!(pic.read(Chip::Primary, 1), 0x5a);
    pic.write(Chip::Primary, 1, 0);
    // Automatic EOI of the initialization before is off again.
    raise(&mut pic, 1);
    assert_eq!(pic.acknowledge(), Vector(0x40));
    pic.write(Chip::Primary, 0, 0x0b);
    assert_eq!(pic.read(Chip::Primary, 0), 1);
}

#[test]
fn buffered_mode_changes_nothing_that_a_program_sees() {
    for icw4 in [0x09, 0x0d] {
        let mut pic = initialized(icw4);
        raise(&mut pic, 1 << 9);
        assert_eq!(pic.acknowledge(), Vector(BASE_SECONDARY + 1));
    }
}

#[test]
fn level_triggering_is_not_chosen_by_icw1() {
    let mut pic = initialized(1);
    pic.write(Chip::Primary, 0, 0x19);
    for value in [BASE, 4, 1, 0] {
        pic.write(Chip::Primary, 1, value);
    }
    raise(&mut pic, 1 << 5);
    assert_eq!(pic.acknowledge(), Vector(BASE + 5));
    non_specific_eoi(&mut pic, Chip::Primary);
    // Still up, which is no news of an edge-triggered line.
    assert!(!pic.output());
}

#[derive(Clone, Debug)]
enum Step {
    Read(bool, u16),
    Write(bool, u16, u8),
    Elcr(bool, u8),
    Lines(u16, u16),
    Acknowledge,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<bool>(), 0_u16..2).prop_map(|(chip, offset)| Step::Read(chip, offset)),
        (any::<bool>(), 0_u16..2, any::<u8>())
            .prop_map(|(chip, offset, value)| Step::Write(chip, offset, value)),
        (any::<bool>(), any::<u8>()).prop_map(|(chip, value)| Step::Elcr(chip, value)),
        (any::<u16>(), any::<u16>()).prop_map(|(level, rose)| Step::Lines(level, rose)),
        Just(Step::Acknowledge),
    ]
}

fn take(pic: &mut PicPair, step: &Step) -> (u8, bool) {
    let chip = |secondary: bool| if secondary { Chip::Secondary } else { Chip::Primary };
    let mut seen = 0;
    match *step {
        Step::Read(secondary, offset) => seen = pic.read(chip(secondary), offset),
        Step::Write(secondary, offset, value) => pic.write(chip(secondary), offset, value),
        Step::Elcr(secondary, value) => pic.write_elcr(chip(secondary), value),
        Step::Lines(level, rose) => pic.set_lines(level, rose),
        Step::Acknowledge => seen = pic.acknowledge().0,
    }
    (seen, pic.output())
}

proptest! {
    #[test]
    fn any_accesses_are_survived_and_a_restored_pair_goes_on_the_same(
        before in prop::collection::vec(step(), 0..100),
        after in prop::collection::vec(step(), 0..100),
    ) {
        let mut original = initialized(1);
        for step in &before {
            let _seen = take(&mut original, step);
        }
        let mut copy = PicPair::new();
        copy.restore(&original.save());
        for step in &after {
            prop_assert_eq!(take(&mut original, step), take(&mut copy, step));
        }
        prop_assert_eq!(original.save(), copy.save());
    }

    #[test]
    fn acknowledging_and_ending_everything_comes_to_rest(lines: u16) {
        let mut pic = initialized(1);
        raise(&mut pic, lines);
        let mut served = 0_u16;
        while pic.output() {
            let vector = pic.acknowledge().0;
            let line = vector - BASE;
            prop_assert_eq!(served & 1 << line, 0, "each edge is served once");
            served |= 1 << line;
            if line >= 8 {
                non_specific_eoi(&mut pic, Chip::Secondary);
            }
            non_specific_eoi(&mut pic, Chip::Primary);
            // The system control interrupt is level-triggered: its device answers when it is served.
            if line == SCI_IRQ {
                pic.set_lines(lines & !(1 << SCI_IRQ), 0);
            }
        }
        prop_assert_eq!(served, lines & !(1 << CASCADE));
    }
}
