//! A PCI function among the devices: its pin, its messages, its ports.

use super::*;

#[test]
fn a_pci_functions_pin_reaches_both_controllers() {
    let (mut pc, _terminal) = pc();
    pc.set_up_test_function();
    pc.initialize_pics();
    pc.out(0x4d1, 1 << 3);
    // Device 1, pin A: PIRQF, which is pin 21.
    pc.set_entry(21, 0x51 | 1 << 15);
    pc.set_pci_register(8, 1);
    assert!(pc.take_attention().contains(Attention::INTERRUPT));
    let message = pc.take_message().expect("the pin is unmasked");
    assert_eq!((message.vector, message.trigger), (Vector(0x51), TriggerMode::Level));
    assert!(!pc.external_interrupt(), "it is not routed yet");
    pc.set_config(0x1f, 0x68, 0x8080_0b80);
    assert!(pc.external_interrupt());
    assert_eq!(pc.acknowledge_external_interrupt(), Vector(0x2b));
    pc.out(0xa0, 0x20);
    pc.out(0x20, 0x20);
    assert!(pc.external_interrupt(), "a level stays");
    pc.port_write(Port(0xc008), Width::One, 0, T0);
    assert!(!pc.external_interrupt());
    pc.end_of_interrupt(Vector(0x51), T0);
    assert_eq!(pc.take_message(), None);
}

#[test]
fn a_pci_functions_message_asks_for_attention() {
    let (mut pc, _terminal) = pc();
    pc.set_up_test_function();
    pc.set_config(1, 0x94, 1 << 31);
    for (offset, value) in [(0x1000, 0xfee0_0000), (0x1008, 0x61), (0x100c, 0)] {
        pc.set_pci_register(offset, value);
    }
    let _set_up = pc.take_attention();
    pc.port_write(Port(0xc00c), Width::Four, 0, T0);
    assert_eq!(pc.take_attention(), Attention::INTERRUPT);
    assert_eq!(pc.take_message().map(|message| message.vector), Some(Vector(0x61)));
    assert_eq!(pc.take_message(), None);
    pc.set_pci_register(0x14, 1000);
    assert_eq!((pc.take_attention(), pc.next_deadline()), (Attention::DEADLINE, Nanos(1000)));
    pc.advance(Nanos(1000));
    assert_eq!(pc.take_message().map(|message| message.vector), Some(Vector(0x61)));
}

#[test]
fn a_pci_functions_ports_take_wide_accesses_whole() {
    let (mut pc, _terminal) = pc();
    pc.set_up_test_function();
    pc.port_write(Port(0xc004), Width::Four, 0x1122_3344, T0);
    assert_eq!(pc.port_read(Port(0xc01c), Width::Four, T0), 4 << 28 | 1 << 23 | 4);
    assert_eq!(pc.port_read(Port(0xc005), Width::Two, T0), 0x2233);
    assert_eq!(pc.inb(0xc007), 0x11);
    assert_eq!(pc.port_read(Port(0xc03e), Width::Four, T0), 0xffff_0000, "across the end");
    assert_eq!(pc.port_read(Port(0xc040), Width::Four, T0), 0xffff_ffff);
}
