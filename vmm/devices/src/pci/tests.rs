//! Behaviour of configuration space, as an enumerating operating system sees it.

use super::*;
use proptest::prelude::*;

impl PciHost {
    fn config(&mut self, address: u32, lane: u16, width: Width) -> u32 {
        self.write_address(ENABLE | address);
        self.read_data(lane, width)
    }
}

#[test]
fn the_address_register_keeps_its_bits() {
    let mut pci = PciHost::new();
    pci.write_address(0xffff_ffff);
    assert_eq!(pci.read_address(), 0x80ff_fffc);
    pci.write_address(0x8000_0000);
    assert_eq!(pci.read_address(), 0x8000_0000);
}

#[test]
fn the_bridge_says_what_it_is_in_any_access_size() {
    let mut pci = PciHost::new();
    assert_eq!(pci.config(0, 0, Width::Four), HOST_BRIDGE_ID);
    assert_eq!(pci.config(8, 0, Width::Four), 0x0600_0000);
    assert_eq!(pci.config(8, 2, Width::Two), 0x0600);
    assert_eq!(pci.config(8, 3, Width::One), 0x06);
    assert_eq!(pci.config(0, 2, Width::Two), HOST_BRIDGE_ID >> 16);
    // Header type 0, one function, no base addresses.
    assert!((0x0c..0x100).step_by(4).all(|register| pci.config(register, 0, Width::Four) == 0));
}

#[test]
fn everything_else_is_absent() {
    let mut pci = PciHost::new();
    for address in [0x0000_0100, 0x0000_0700, 0x0000_0800, 0x0001_0000, 0x00ff_ff00] {
        assert_eq!(pci.config(address, 0, Width::Four), 0xffff_ffff);
        assert_eq!(pci.config(address, 1, Width::One), 0xff);
    }
}

#[test]
fn without_the_enable_bit_the_data_port_is_open() {
    let mut pci = PciHost::new();
    pci.write_address(0);
    assert_eq!(pci.read_data(0, Width::Four), 0xffff_ffff);
    pci.write_data(0, Width::Four, 0);
}

#[test]
fn the_command_register_keeps_its_bits_and_sizing_finds_no_base_address() {
    let mut pci = PciHost::new();
    pci.write_address(ENABLE | 4);
    pci.write_data(0, Width::Two, 0xffff);
    assert_eq!(pci.read_data(0, Width::Four), COMMAND_MASK);
    pci.write_data(1, Width::One, 0);
    assert_eq!(pci.read_data(0, Width::Two), COMMAND_MASK & 0xff);
    pci.write_address(ENABLE | 0x10);
    pci.write_data(0, Width::Four, 0xffff_ffff);
    assert_eq!(pci.read_data(0, Width::Four), 0);
}

proptest! {
    #[test]
    fn any_accesses_are_survived_and_restored_functions_go_on_the_same(
        before in prop::collection::vec((any::<u32>(), 0_u16..4, any::<u32>()), 0..40),
        after in prop::collection::vec((any::<u32>(), 0_u16..4, any::<u32>()), 0..40),
    ) {
        let mut original = PciHost::new();
        for (address, lane, value) in before {
            original.write_address(address & 0x8000_00ff);
            original.write_data(lane, Width::One, value);
        }
        let mut copy = PciHost::new();
        copy.restore(&original.save());
        for (address, lane, value) in after {
            prop_assert_eq!(original.read_address(), copy.read_address());
            prop_assert_eq!(original.read_data(lane, Width::One), copy.read_data(lane, Width::One));
            for pci in [&mut original, &mut copy] {
                pci.write_address(address & 0x80ff_ffff);
                pci.write_data(lane, Width::One, value);
            }
        }
    }
}
