//! Behaviour of the bus, as an enumerating operating system and its drivers see it.

use super::*;
use bus::{Destination, IrqBank};
use proptest::prelude::*;

const T0: Nanos = Nanos(0);
/// Device 1 is the test function.
const TEST: u32 = 1 << 11;
const LPC: u32 = 0x1f << 11;
const ECAM: u64 = 0xb000_0000;

/// Capabilities of the test function.
const EXPRESS: u32 = 0x40;
const MSI: u32 = 0x7c;
const MSIX: u32 = 0x94;

struct Bus {
    pci: PciHost,
    lines: IrqBank,
}

impl Bus {
    fn new(functions: usize) -> Self {
        let lines = IrqBank::new();
        let pirqs = [0, 1, 2, 3, 4, 5, 6, 7].map(|pirq| lines.line(pirq));
        let endpoint = || Endpoint::Test(Box::new(Function::new(TestFunction::new())));
        Self {
            pci: PciHost::new(pirqs, (0..functions).map(|_| endpoint()).collect(), StartedBy::Loader),
            lines,
        }
    }

    fn config(&mut self, address: u32) -> u32 {
        self.pci.write_address(ENABLE | address);
        self.pci.read_data(0, Width::Four)
    }

    fn set_config(&mut self, address: u32, value: u32) {
        self.pci.write_address(ENABLE | address);
        self.pci.write_data(0, Width::Four, value);
    }

    fn load(&mut self, gpa: u64, width: Width) -> u64 {
        self.pci.read_memory(Gpa::new(gpa), width, T0)
    }

    fn store(&mut self, gpa: u64, width: Width, value: u64) {
        self.pci.write_memory(Gpa::new(gpa), width, value, T0);
    }

    /// Puts the test function's ranges where firmware could, and turns all on.
    fn set_up(&mut self, function: u32) {
        self.set_config(function + 0x10, 0xc000);
        self.set_config(function + 0x14, 0xc000_0000);
        self.set_config(function + 0x18, 0);
        self.set_config(function + 0x1c, 0x10);
        self.set_config(function + 4, 7);
    }

    fn set_register(&mut self, offset: u64, value: u32) {
        self.store(0xc000_0000 + offset, Width::Four, u64::from(value));
    }

    fn register(&mut self, offset: u64) -> u32 {
        low_word(self.load(0xc000_0000 + offset, Width::Four))
    }

    fn vectors(&mut self) -> Vec<u8> {
        core::iter::from_fn(|| self.pci.take_message()).map(|message| message.vector.0).collect()
    }

    /// Enables MSI with 2^`order` vectors from 0x40 on.
    fn enable_msi(&mut self, order: u32) {
        self.set_config(TEST + MSI + 4, 0xfee0_1000);
        self.set_config(TEST + MSI + 12, 0x40);
        self.set_config(TEST + MSI, (order << 4 | 1) << 16);
    }

    /// Fills in entry `index` of the MSI-X table, and unmasks it.
    fn set_entry(&mut self, index: u64, vector: u32) {
        for (offset, value) in [(0, 0xfee0_0000), (4, 0), (8, vector), (12, 0)] {
            self.set_register(0x1000 + 16 * index + offset, value);
        }
    }
}

#[test]
fn the_address_register_keeps_its_bits() {
    let mut bus = Bus::new(0);
    bus.pci.write_address(0xffff_ffff);
    assert_eq!(bus.pci.read_address(), 0x80ff_fffc);
    bus.pci.write_address(0x8000_0000);
    assert_eq!(bus.pci.read_address(), 0x8000_0000);
}

#[test]
fn the_bridges_say_what_they_are_in_any_access_size() {
    let mut bus = Bus::new(0);
    assert_eq!((bus.config(0), bus.config(8)), (0x29c0_8086, 0x0600_0002));
    assert_eq!((bus.config(LPC), bus.config(LPC + 8)), (0x2918_8086, 0x0601_0002));
    bus.pci.write_address(ENABLE | 8);
    assert_eq!(bus.pci.read_data(2, Width::Two), 0x0600);
    assert_eq!(bus.pci.read_data(3, Width::One), 0x06);
    assert!((0x0c..0x40).step_by(4).all(|offset| bus.config(offset) == 0), "one function, no base addresses");
}

#[test]
fn everything_else_is_absent() {
    let mut bus = Bus::new(1);
    for address in [0x100, 0x700, 2 << 11, TEST + 0x100, LPC + 0x700, 0x1_0000, 0xff_ff00] {
        assert_eq!(bus.config(address), 0xffff_ffff, "{address:#x}");
        assert_eq!(bus.pci.read_data(1, Width::One), 0xff);
        bus.set_config(address, 0);
    }
}

#[test]
fn without_the_enable_bit_the_data_port_is_open() {
    let mut bus = Bus::new(0);
    bus.pci.write_address(4);
    assert_eq!(bus.pci.read_data(0, Width::Four), 0xffff_ffff);
    bus.pci.write_data(0, Width::Four, 0xffff_ffff);
    assert_eq!(bus.config(4), 0);
}

#[test]
fn memory_mapped_configuration_space_is_the_same_space() {
    let mut bus = Bus::new(1);
    let test = ECAM + (1 << 15);
    assert_eq!(bus.load(ECAM, Width::Four), 0x29c0_8086);
    assert_eq!(bus.load(test, Width::Eight), 0x0010_0000_7e57_1234);
    assert_eq!(bus.load(test + 2, Width::Two), 0x7e57);
    assert_eq!(bus.load(test + 3, Width::Four), 0x1000_007e, "across registers");
    bus.store(test + 4, Width::One, 6);
    assert_eq!(bus.config(TEST + 4) & 0xffff, 6);
    assert_eq!(bus.load(test + 0x100, Width::Four), 0, "no extended capabilities");
    assert_eq!(bus.load(ECAM + 0x100, Width::Four), 0xffff_ffff, "a conventional function");
    assert_eq!(bus.load(ECAM + (1 << 20), Width::Eight), u64::MAX, "bus 1");
    assert_eq!(bus.load(ECAM + (256 << 20) - 2, Width::Four), 0xffff_ffff, "across the end");
}

#[test]
fn memory_mapped_configuration_space_moves_and_can_be_off() {
    let mut bus = Bus::new(0);
    bus.set_config(0x64, 0x1);
    bus.set_config(0x60, 0xe000_0000 | 2 << 1 | 1);
    assert_eq!(bus.load(ECAM, Width::Four), 0xffff_ffff);
    assert_eq!(bus.load(0x1_e000_0000, Width::Four), 0x29c0_8086);
    assert_eq!(bus.load(0x1_e000_0000 + (64 << 20), Width::Four), 0xffff_ffff, "64 buses");
    bus.store(0x1_e000_0060, Width::One, 0);
    assert_eq!(bus.load(0x1_e000_0000, Width::Four), 0xffff_ffff);
    assert_eq!(bus.config(0x60), 0xe000_0000);
    bus.set_config(0x60, 0xe000_0000 | 3 << 1 | 1);
    assert_eq!(bus.load(0x1_e000_0000, Width::Four), 0xffff_ffff, "a reserved length");
}

#[test]
fn writing_all_ones_tells_the_sizes() {
    let mut bus = Bus::new(1);
    let mut sizes = Vec::new();
    for offset in (0x10..0x28).step_by(4) {
        bus.set_config(TEST + offset, 0xffff_ffff);
        sizes.push(bus.config(TEST + offset));
    }
    assert_eq!(sizes, [0xffff_ffc1, 0xffff_e000, 0xffff_c00c, 0xffff_ffff, 0, 0]);
    bus.set_config(TEST + 0x30, 0xffff_ffff);
    assert_eq!(bus.config(TEST + 0x30), 0, "no expansion ROM");
}

#[test]
fn ranges_are_decoded_where_they_are_put_and_only_while_enabled() {
    let mut bus = Bus::new(1);
    bus.set_up(TEST);
    let magic = u64::from(u32::from_le_bytes(*b"CTST"));
    assert_eq!(bus.load(0xc000_0000, Width::Four), magic);
    assert_eq!(bus.pci.read_port(0xc000, Width::Four, T0), Some(low_word(magic)));
    bus.store(0x10_0000_0008, Width::Eight, 0x1122_3344_5566_7788);
    assert_eq!(bus.load(0x10_0000_0009, Width::Four), 0x4455_6677);

    bus.set_config(TEST + 0x1c, 0x20);
    assert_eq!(bus.load(0x10_0000_0008, Width::Eight), u64::MAX);
    assert_eq!(bus.load(0x20_0000_0008, Width::Eight), 0x1122_3344_5566_7788);
    bus.set_config(TEST + 4, 1);
    assert_eq!(bus.load(0xc000_0000, Width::Four), 0xffff_ffff);
    assert!(bus.pci.read_port(0xc000, Width::One, T0).is_some());
    bus.set_config(TEST + 4, 2);
    assert_eq!(bus.pci.read_port(0xc000, Width::One, T0), None);
    assert!(!bus.pci.write_port(0xc000, Width::One, 0, T0));
    bus.set_config(TEST + 4, 3);
    bus.set_config(TEST + 0x10, 0x3f8);
    assert_eq!(bus.pci.read_port(0x3f8, Width::One, T0), None, "a legacy port");
}

#[test]
fn the_first_of_overlapping_functions_answers() {
    let mut bus = Bus::new(2);
    bus.set_up(TEST);
    bus.set_register(4, 0x1111);
    bus.set_config(TEST + 0x14, 0xd000_0000);
    bus.set_up(2 << 11);
    bus.set_register(4, 0x2222);
    bus.set_config(TEST + 0x14, 0xc000_0000);
    assert_eq!(bus.register(4), 0x1111);
    bus.set_config(TEST + 4, 0);
    assert_eq!(bus.register(4), 0x2222);
}

#[test]
fn accesses_reach_a_device_whole_and_at_the_end_of_its_range_in_bytes() {
    let mut bus = Bus::new(1);
    bus.set_up(TEST);
    let _value = bus.load(0xc000_0101, Width::Two);
    assert_eq!(bus.register(0x1c), 2 << 28 | 1 << 24 | 0x101);
    bus.store(0x10_0000_3ff8, Width::Eight, 0);
    assert_eq!(bus.register(0x1c), 8 << 28 | 2 << 24 | 1 << 23 | 0x3ff8);
    bus.store(0x10_0000_3ffe, Width::Four, 0x4433_2211);
    assert_eq!(bus.load(0x10_0000_3ffe, Width::Four), 0xffff_2211);
    assert_eq!(bus.register(0x1c), 1 << 28 | 2 << 24 | 0x3fff);
}

#[test]
fn the_pin_drives_the_line_of_its_device_until_it_is_disabled() {
    let mut bus = Bus::new(5);
    // Device 1 has its pin A on PIRQF, device 5 too.
    for device in [1, 5] {
        bus.set_up(device << 11);
        bus.set_register(8, 1);
        bus.set_config((device << 11) + 0x14, 0xd000_0000 + (device << 16));
    }
    assert_eq!(bus.lines.levels(), 1 << 5);
    assert_ne!(bus.config(TEST + 4) & 1 << 19, 0, "interrupt status");
    bus.set_config(TEST + 4, 0x407);
    assert_eq!(bus.lines.levels(), 1 << 5, "the other still drives it");
    bus.set_config((5 << 11) + 4, 0x407);
    assert_eq!(bus.lines.levels(), 0);
    assert_ne!(bus.config(TEST + 4) & 1 << 19, 0, "disabled, the status still tells");
    bus.set_config(TEST + 4, 7);
    assert_eq!(bus.lines.levels(), 1 << 5);
    bus.pci.reset();
    assert_eq!(bus.lines.levels(), 0);
}

#[test]
fn routes_lead_lines_to_isa_interrupts() {
    let mut bus = Bus::new(0);
    assert_eq!(bus.pci.isa_interrupts(0xff), 0, "after reset there are none");
    bus.set_config(LPC + 0x60, 0x8080_800b);
    bus.set_config(LPC + 0x68, 0x8a02_050b);
    assert!(bus.pci.take_route_change() && !bus.pci.take_route_change());
    assert_eq!(bus.pci.isa_interrupts(1), 1 << 11);
    assert_eq!(bus.pci.isa_interrupts(0xff), 1 << 11 | 1 << 5, "interrupt 2 is the cascade");
    assert_eq!(pirq_of(3, 1), 4);
    assert_eq!(pirq_of(0x1f, 3), 3);
}

#[test]
fn msi_replaces_the_pin_and_its_vectors_are_masked_one_by_one() {
    let mut bus = Bus::new(1);
    bus.set_up(TEST);
    bus.set_register(8, 1);
    bus.enable_msi(2);
    assert_eq!((bus.register(0x10), bus.lines.levels()), (1, 0));
    bus.set_register(0xc, 1);
    bus.set_register(0xc, 3);
    bus.set_register(0xc, 6);
    assert!(bus.pci.has_message());
    assert_eq!(bus.vectors(), [0x41, 0x42, 0x43], "message 6 of four is number 2");
    bus.set_config(TEST + MSI + 16, 0xffff_ffff);
    assert_eq!(bus.config(TEST + MSI + 16), 0xf);
    bus.set_register(0xc, 2);
    assert!(!bus.pci.has_message());
    assert_eq!(bus.config(TEST + MSI + 20), 1 << 2);
    bus.set_config(TEST + MSI + 16, !(1 << 2));
    assert_eq!(bus.vectors(), [0x42]);
    assert_eq!(bus.config(TEST + MSI + 20), 0);
}

#[test]
fn messages_share_the_vectors_that_msi_was_given() {
    let mut bus = Bus::new(1);
    bus.set_up(TEST);
    bus.enable_msi(1);
    (0..4).for_each(|message| bus.set_register(0xc, message));
    assert_eq!(bus.vectors(), [0x40, 0x41]);
    bus.enable_msi(7);
    bus.set_register(0xc, 3);
    assert_eq!(bus.vectors(), [0x43], "never more than the function has");
}

#[test]
fn no_message_goes_without_bus_mastering_or_to_another_address() {
    let mut bus = Bus::new(1);
    bus.set_up(TEST);
    bus.enable_msi(0);
    bus.set_config(TEST + 4, 3);
    bus.set_register(0xc, 0);
    assert!(!bus.pci.has_message());
    bus.set_config(TEST + 4, 7);
    assert_eq!(bus.vectors(), [0x40]);
    bus.set_config(TEST + MSI + 8, 1);
    bus.set_register(0xc, 0);
    assert_eq!(bus.vectors(), []);
    assert!(!bus.pci.has_message());
    bus.set_config(TEST + MSI, 0);
    bus.set_register(0xc, 0);
    bus.enable_msi(0);
    assert_eq!(bus.vectors(), [], "while it was disabled nothing was sent");
}

#[test]
fn msix_sends_what_the_table_says_and_keeps_what_is_masked() {
    let mut bus = Bus::new(1);
    bus.set_up(TEST);
    assert_eq!(bus.config(TEST + MSIX) >> 16, 7, "eight vectors");
    assert_eq!((bus.config(TEST + MSIX + 4), bus.config(TEST + MSIX + 8)), (0x1001, 0x1801));
    assert_eq!(bus.register(0x100c), 1, "masked after reset");
    bus.set_config(TEST + MSIX, 1 << 31);
    bus.set_entry(2, 0x52);
    bus.set_register(0xc, 1);
    bus.set_register(0xc, 2);
    bus.set_register(0xc, 8);
    assert_eq!(bus.register(0x10), 2);
    assert_eq!(bus.vectors(), [0x52]);
    assert_eq!(bus.register(0x1800), 1 << 1, "pending");
    bus.set_register(0x1800, 0);
    assert_eq!(bus.register(0x1800), 1 << 1, "pending bits are read-only");
    bus.set_entry(1, 0x51);
    assert_eq!(bus.vectors(), [0x51]);
    bus.set_config(TEST + MSIX, 3 << 30);
    bus.set_register(0xc, 2);
    assert!(!bus.pci.has_message());
    assert_eq!(bus.load(0xc000_1800, Width::Eight), 1 << 2);
    bus.set_config(TEST + MSIX, 1 << 31);
    assert_eq!(bus.vectors(), [0x52]);
}

#[test]
fn a_message_names_its_destination() {
    let mut bus = Bus::new(1);
    bus.set_up(TEST);
    bus.enable_msi(0);
    bus.set_register(0xc, 0);
    let message = bus.pci.take_message().expect("it was sent");
    assert_eq!(message.destination, Destination::Physical(1));
}

#[test]
fn the_capability_list_is_complete() {
    let mut bus = Bus::new(1);
    let (mut at, mut found) = (bus.config(TEST + 0x34), Vec::new());
    while at != 0 {
        let register = bus.config(TEST + at);
        found.push((at, register & 0xff));
        at = register >> 8 & 0xff;
    }
    assert_eq!(found, [(EXPRESS, 0x10), (MSI, 5), (MSIX, 0x11)]);
    assert_eq!(bus.config(TEST + EXPRESS) >> 16, 0x92, "version 2, in the root complex");
}

#[test]
fn a_timer_of_a_function_raises_its_interrupts() {
    let mut bus = Bus::new(2);
    bus.set_up(TEST);
    bus.set_register(0x14, 500);
    assert_eq!(bus.pci.next_deadline(), Nanos(500));
    bus.pci.advance(Nanos(499));
    assert_eq!((bus.pci.next_deadline(), bus.lines.levels()), (Nanos(500), 0));
    bus.pci.advance(Nanos(500));
    assert_eq!((bus.pci.next_deadline(), bus.lines.levels()), (Nanos::NEVER, 1 << 5));
    assert_eq!((bus.register(8), bus.register(0xc), bus.register(0x14)), (1, 1, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Config(u32, u16, Width, Option<u32>),
    Memory(u64, Width, Option<u64>),
    Port(u16, Width, Option<u32>),
    SetUp(u32),
    Take,
    Wait(u64),
}

fn width() -> impl Strategy<Value = Width> {
    prop::sample::select(vec![Width::One, Width::Two, Width::Four, Width::Eight])
}

fn step() -> impl Strategy<Value = Step> {
    let function = || prop::sample::select(vec![0, TEST, 2 << 11, LPC]);
    let offset = || prop_oneof![0_u32..0x100, 0_u32..0x30, 0x7c_u32..0xa0];
    let value = || prop_oneof![any::<u32>(), Just(u32::MAX), Just(0), Just(0xc000_0000), Just(7)];
    let base = || {
        prop::sample::select(vec![
            0xc000_0000,
            0xc000_1000,
            0x10_0000_0000,
            ECAM,
            ECAM + 0x8000,
            u64::MAX - 64,
        ])
    };
    prop_oneof![
        4 => (function(), offset(), 0_u16..4, width(), prop::option::of(value()))
            .prop_map(|(function, offset, lane, width, value)| Step::Config(ENABLE | function | offset, lane, width, value)),
        6 => (base(), 0_u64..0x90, width(), prop::option::of(any::<u64>()))
            .prop_map(|(base, offset, width, value)| Step::Memory(base.wrapping_add(offset), width, value)),
        2 => (0xbff8_u16..0xc048, width(), prop::option::of(value()))
            .prop_map(|(port, width, value)| Step::Port(port, width, value)),
        1 => function().prop_map(Step::SetUp),
        1 => Just(Step::Take),
        1 => (0_u64..1 << 33).prop_map(Step::Wait),
    ]
}

type Seen = (u64, Option<InterruptMessage>, bool, u32, Nanos);

fn take(bus: &mut Bus, step: &Step, now: &mut Nanos) -> Seen {
    let (mut read, mut message) = (0, None);
    match *step {
        Step::Config(address, lane, width, value) => {
            bus.pci.write_address(address);
            match value {
                Some(value) => bus.pci.write_data(lane, width, value),
                None => read = u64::from(bus.pci.read_data(lane, width)),
            }
        }
        Step::Memory(gpa, width, Some(value)) => bus.pci.write_memory(Gpa::new(gpa), width, value, *now),
        Step::Memory(gpa, width, None) => read = bus.pci.read_memory(Gpa::new(gpa), width, *now),
        Step::Port(port, width, Some(value)) => {
            bus.pci.write_port(port, width, value, *now);
        }
        Step::Port(port, width, None) => {
            read = bus.pci.read_port(port, width, *now).map_or(u64::MAX, u64::from);
        }
        Step::SetUp(function) => bus.set_up(function),
        Step::Take => message = bus.pci.take_message(),
        Step::Wait(ns) => {
            *now = *now + Nanos(ns);
            bus.pci.advance(*now);
            assert!(bus.pci.next_deadline() > *now, "a timer that is not settled would spin the caller");
        }
    }
    (read, message, bus.pci.has_message(), bus.lines.levels(), bus.pci.next_deadline())
}

proptest! {
    #[test]
    fn any_accesses_are_survived_and_a_restored_bus_goes_on_the_same(
        before in prop::collection::vec(step(), 0..120),
        after in prop::collection::vec(step(), 0..120),
    ) {
        let mut original = Bus::new(2);
        let mut now = T0;
        original.set_up(TEST);
        for step in &before {
            let _seen = take(&mut original, step, &mut now);
        }
        let mut copy = Bus::new(2);
        copy.pci.restore(&original.pci.save());
        prop_assert_eq!(copy.lines.levels(), original.lines.levels());
        let mut copy_now = now;
        for step in &after {
            prop_assert_eq!(take(&mut original, step, &mut now), take(&mut copy, step, &mut copy_now));
        }
        prop_assert_eq!(original.pci.save(), copy.pci.save());
    }
}
