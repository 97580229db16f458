//! Interrupts of the devices: which input and pin, when, and that both controllers hear of them.

use super::*;

#[test]
fn the_console_works_and_its_interrupt_reaches_both_controllers() {
    let (mut pc, terminal) = pc();
    pc.initialize_pics();
    pc.set_entry(4, 0x34);
    pc.out(0x3fc, 0x08);
    pc.out(0x3f9, 0x01);
    let _set_up = pc.take_attention();
    assert!(terminal.send(b'x'));
    pc.console_input(T0);
    assert!(pc.take_attention().contains(Attention::INTERRUPT));
    let message = pc.take_message().expect("the pin is unmasked");
    assert_eq!(message.vector, Vector(0x34));
    assert_eq!((message.mode, message.trigger), (DeliveryMode::Fixed, TriggerMode::Edge));
    assert_eq!(message.destination, Destination::Physical(0));
    assert!(pc.external_interrupt());
    assert_eq!(pc.acknowledge_external_interrupt(), Vector(0x24));
    assert_eq!(pc.inb(0x3f8), b'x');
    pc.out(0x3f8, b'y');
    assert_eq!(terminal.receive(), Some(b'y'));
}

#[test]
fn the_timer_interrupt_is_input_0_of_the_8259_and_pin_2_of_the_ioapic() {
    let (mut pc, _terminal) = pc();
    pc.initialize_pics();
    pc.set_entry(2, 0x32);
    pc.start_timer(1000);
    let deadline = pc.next_deadline();
    assert_ne!(deadline, Nanos::NEVER);
    pc.advance(Nanos(deadline.0 - 1));
    assert!(!pc.external_interrupt());
    pc.advance(deadline);
    assert_eq!(pc.take_message().map(|message| message.vector), Some(Vector(0x32)));
    assert_eq!(pc.take_message(), None);
    assert_eq!(pc.acknowledge_external_interrupt(), Vector(0x20));
    assert_eq!(pc.next_deadline(), Nanos::NEVER);
}

#[test]
fn the_8259s_output_is_pin_0_of_the_ioapic() {
    let (mut pc, terminal) = pc();
    pc.initialize_pics();
    // Automatic end of interrupt, and ExtINT.
    for (port, value) in [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 3), (0x21, 0)] {
        pc.out(port, value);
    }
    pc.set_entry(0, 0x700);
    pc.out(0x3fc, 0x08);
    pc.out(0x3f9, 0x01);
    pc.start_timer(1000);
    assert!(terminal.send(b'x'));
    pc.console_input(T0);
    assert_eq!(pc.take_message().map(|message| message.mode), Some(DeliveryMode::ExtInt));
    assert_eq!(pc.take_message(), None, "it is up already");
    pc.advance(pc.next_deadline());
    assert_eq!(pc.take_message(), None, "and stays up");
    assert_eq!(pc.acknowledge_external_interrupt(), Vector(0x20));
    assert_eq!(pc.take_message().map(|message| message.mode), Some(DeliveryMode::ExtInt), "there is more");
    assert_eq!(pc.acknowledge_external_interrupt(), Vector(0x24));
    assert_eq!(pc.take_message(), None);
}

#[test]
fn the_power_button_is_a_level_triggered_sci() {
    let (mut pc, _terminal) = pc();
    pc.set_entry(SCI_IRQ, 0x39 | 1 << 15);
    pc.port_write(Port(0x602), Width::Two, 1 << 8, T0);
    pc.press_power_button();
    assert_eq!(pc.take_message().map(|message| message.trigger), Some(TriggerMode::Level));
    pc.end_of_interrupt(Vector(0x39), T0);
    assert!(pc.take_message().is_some());
    pc.port_write(layout::PM1A_EVENT, Width::Two, 1 << 8, T0);
    pc.end_of_interrupt(Vector(0x39), T0);
    assert_eq!(pc.take_message(), None);
}

#[test]
fn an_early_advance_does_nothing_and_a_late_one_catches_up() {
    let (mut pc, _terminal) = pc();
    pc.start_timer(100);
    pc.out(0x70, 0x0b);
    pc.out(0x71, 0x12);
    let _set_up = pc.take_attention();
    pc.advance(Nanos(1));
    assert_eq!(pc.take_attention(), Attention::empty());
    pc.advance(Nanos(1 << 60));
    assert_eq!(pc.next_deadline(), Nanos::NEVER);
    pc.initialize_pics();
    assert_eq!(pc.lines.levels(), 1 << TIMER_IRQ | 1 << RTC_IRQ);
}

#[test]
fn an_hpet_timer_reaches_its_pin_and_says_when_it_will() {
    let (mut pc, _terminal) = pc();
    pc.set_entry(17, 0x51);
    let _set_up = pc.take_attention();
    pc.set_hpet(0x128, 20_000);
    pc.set_hpet(0x120, 17 << 9 | 1 << 2);
    pc.set_hpet(0x10, 1);
    assert_eq!(pc.take_attention(), Attention::DEADLINE);
    assert_eq!(pc.next_deadline(), Nanos(200_000));
    pc.advance(Nanos(200_000));
    assert!(pc.take_attention().contains(Attention::INTERRUPT));
    assert_eq!(pc.take_message().map(|message| message.vector), Some(Vector(0x51)));
    assert!(!pc.external_interrupt());
}

#[test]
fn an_hpet_message_is_taken_like_an_interrupt_of_the_ioapic() {
    let (mut pc, _terminal) = pc();
    pc.set_hpet(0x110, 0xfee0_1000_0000_0061);
    pc.set_hpet(0x108, 20_000);
    pc.set_hpet(0x100, 1 << 14 | 1 << 2);
    pc.set_hpet(0x10, 1);
    let _set_up = pc.take_attention();
    pc.advance(Nanos(200_000));
    assert!(pc.take_attention().contains(Attention::INTERRUPT));
    let message = pc.take_message().expect("the timer matched");
    assert_eq!((message.vector, message.destination), (Vector(0x61), Destination::Physical(1)));
}

#[test]
fn legacy_replacement_takes_the_place_of_interval_timer_and_clock_and_gives_it_back() {
    let (mut pc, _terminal) = pc();
    pc.initialize_pics();
    pc.set_entry(2, 0x32);
    pc.set_entry(8, 0x38);
    pc.start_timer(100);
    for (offset, value) in [(0x108, 50_000), (0x100, 1 << 2), (0x128, 60_000), (0x120, 1 << 2), (0x10, 3)] {
        pc.set_hpet(offset, value);
    }
    // The interval timer has run down by then, and is not heard.
    pc.advance(Nanos(499_990));
    assert_eq!((pc.take_message(), pc.external_interrupt()), (None, false));
    pc.advance(Nanos(500_000));
    assert_eq!(pc.take_message().map(|message| message.vector), Some(Vector(0x32)));
    assert_eq!(pc.acknowledge_external_interrupt(), Vector(0x20));
    pc.out(0x20, 0x20);
    pc.advance(Nanos(600_000));
    assert_eq!(pc.take_message().map(|message| message.vector), Some(Vector(0x38)));
    assert_eq!(pc.acknowledge_external_interrupt(), Vector(0x28));
    // Its output is still up, and an edge for the controllers once it is connected again.
    pc.set_hpet(0x10, 1);
    assert_eq!(pc.take_message().map(|message| message.vector), Some(Vector(0x32)));
}

#[test]
fn a_key_interrupts_at_input_1() {
    let (mut pc, _terminal) = pc();
    pc.initialize_pics();
    pc.out(0x64, 0x60);
    pc.out(0x60, 0x45);
    let _set_up = pc.take_attention();
    assert!(pc.press_keys(&[0x1c]));
    assert!(pc.take_attention().contains(Attention::INTERRUPT));
    assert_eq!(pc.acknowledge_external_interrupt(), Vector(0x21));
    assert_eq!((pc.inb(0x64), pc.inb(0x60), pc.inb(0x64)), (0x15, 0x1e, 0x14));
}
