//! Behaviour of the reset ports.

use super::*;
use proptest::prelude::*;

const RESET: Option<PowerRequest> = Some(PowerRequest::Reset);

#[test]
fn the_reset_register_resets_when_bit_2_rises() {
    for value in [0x04, 0x06, 0x0e] {
        let mut ports = ResetControl::new();
        assert_eq!(ports.write(Trigger::ResetControl, 0x02), None);
        assert_eq!(ports.write(Trigger::ResetControl, value), RESET);
        assert_eq!(ports.write(Trigger::ResetControl, value), None);
    }
}

#[test]
fn the_reset_register_reads_what_was_written() {
    let mut ports = ResetControl::new();
    assert_eq!(ports.write(Trigger::ResetControl, 0xfa), None);
    assert_eq!(ports.read(Trigger::ResetControl), 0x0a);
}

#[test]
fn port_92_resets_when_bit_0_rises_and_shows_a20_on() {
    let mut ports = ResetControl::new();
    assert_eq!(ports.read(Trigger::ControlA), 0x02);
    assert_eq!(ports.write(Trigger::ControlA, 0x00), None);
    assert_eq!(ports.read(Trigger::ControlA), 0x00);
    assert_eq!(ports.write(Trigger::ControlA, 0x01), RESET);
    assert_eq!(ports.write(Trigger::ControlA, 0x03), None);
}

proptest! {
    #[test]
    fn restored_ports_go_on_the_same(
        before in prop::collection::vec((0_usize..2, any::<u8>()), 0..30),
        after in prop::collection::vec((0_usize..2, any::<u8>()), 0..30),
    ) {
        let ports = [Trigger::ResetControl, Trigger::ControlA];
        let mut original = ResetControl::new();
        for (port, value) in before {
            let _request = original.write(ports[port], value);
        }
        let mut copy = ResetControl::new();
        copy.restore(&original.save());
        for (port, value) in after {
            prop_assert_eq!(original.write(ports[port], value), copy.write(ports[port], value));
            prop_assert_eq!(original.read(ports[port]), copy.read(ports[port]));
        }
    }
}
