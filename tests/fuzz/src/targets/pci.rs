//! The PCI bus: configuration by ports and by memory, and what functions decode.

use super::hpet::sent;
use crate::Bytes;
use crate::subject::{self, digest};
use arch::{Gpa, Nanos, Width};
use bus::IrqBank;
use devices::{Endpoint, Function, PciHost, PciHostState, StartedBy, TestFunction};

/// Functions beside the bridges.
const FUNCTIONS: usize = 2;
/// Addresses of configuration space of all functions that are there, and of one that is not.
const CONFIG: [u32; 5] = [0, 1 << 11, 2 << 11, 0x1f << 11, 3 << 11];
/// Where base addresses are worth a look: apart, overlapping, on top of configuration space, at the ends.
const BASES: [u64; 6] =
    [0xc000_0000, 0xc000_1000, 0x10_0000_0000, 0xb000_0000, 0xb000_8000, u64::MAX - 0x3fff];

/// The bus, and the lines that it drives.
#[derive(Debug)]
pub(super) struct Subject {
    pci: PciHost,
    lines: IrqBank,
}

impl Subject {
    fn set(&mut self, address: u32, value: u32) {
        self.pci.write_address(0x8000_0000 | address);
        self.pci.write_data(0, Width::Four, value);
    }

    /// Lets a function decode everything it has, as firmware would.
    fn set_up(&mut self, function: u32, bytes: &mut Bytes<'_>) {
        let base = bytes.choose(&BASES);
        self.set(function + 0x10, 0xc000);
        self.set(function + 0x14, low(base));
        self.set(function + 0x18, low(base));
        self.set(function + 0x1c, low(base >> 32));
        self.set(function + 4, 7);
    }
}

impl subject::Subject for Subject {
    type State = PciHostState;

    fn new() -> Self {
        let lines = IrqBank::new();
        let endpoint = || Endpoint::Test(Box::new(Function::new(TestFunction::new())));
        let endpoints = (0..FUNCTIONS).map(|_| endpoint()).collect();
        let pci =
            PciHost::new([0, 1, 2, 3, 4, 5, 6, 7].map(|pirq| lines.line(pirq)), endpoints, StartedBy::Loader);
        Self { pci, lines }
    }

    fn act(&mut self, bytes: &mut Bytes<'_>, now: Nanos) -> u64 {
        let (mut read, mut message) = (0, None);
        match bytes.byte() % 16 {
            0 => self.pci.write_address(bytes.dword()),
            1..=3 => {
                let address = bytes.choose(&CONFIG) | u32::from(bytes.below(0x100));
                self.pci.write_address(0x8000_0000 | address);
            }
            4 => read = u64::from(self.pci.read_data(bytes.word(), bytes.port_width())),
            5..=6 => self.pci.write_data(bytes.word(), bytes.port_width(), bytes.dword()),
            7 => {
                let function = bytes.choose(&CONFIG);
                self.set_up(function, bytes);
            }
            8..=9 => {
                let (gpa, width) = (address(bytes), bytes.memory_width());
                read = self.pci.read_memory(gpa, width, now);
                assert_eq!(read & !width.mask(), 0);
            }
            10..=12 => self.pci.write_memory(address(bytes), bytes.memory_width(), bytes.magnitude(), now),
            13 => {
                let (port, width) = (0xbff8 + bytes.below(0x60), bytes.port_width());
                let value = bytes.dword();
                if value & 1 == 0 {
                    read = self.pci.read_port(port, width, now).map_or(u64::MAX, u64::from);
                } else {
                    read = u64::from(self.pci.write_port(port, width, value >> 1, now));
                }
            }
            14 => message = self.pci.take_message(),
            _ => match bytes.byte() % 4 {
                0 => self.pci.reset(),
                _ => read = u64::from(self.pci.isa_interrupts(bytes.byte())),
            },
        }
        // Of lines, where they are: a restored bus drives them to there.
        digest(&[read, sent(message), u64::from(self.pci.has_message()), u64::from(self.lines.levels())])
    }

    fn advance(&mut self, now: Nanos) -> u64 {
        self.pci.advance(now);
        digest(&[u64::from(self.pci.has_message()), u64::from(self.lines.levels())])
    }

    fn next_deadline(&self) -> Nanos {
        self.pci.next_deadline()
    }

    fn save(&self) -> PciHostState {
        self.pci.save()
    }

    fn restore(&mut self, state: &PciHostState) {
        self.pci.restore(state);
    }
}

fn address(bytes: &mut Bytes<'_>) -> Gpa {
    let base = bytes.choose(&BASES);
    // Registers, the MSI-X table, the pending bits, the end.
    let part = bytes.choose(&[0, 0x1000, 0x1800, 0x1ff0]);
    Gpa::new(base.wrapping_add(part + u64::from(bytes.below(0x90))))
}

fn low(value: u64) -> u32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}
