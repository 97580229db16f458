//! How the PCI bus is connected: its interrupt lines, its messages, and the accesses that nothing else takes.

use super::{Pc, Screen, TestDevices, Timer};
use crate::lanes::{low_byte, low_half};
use crate::pci::{Endpoint, Function, PciHost, StartedBy, TestFunction};
use crate::vga::Vga;
use alloc::boxed::Box;
use alloc::vec::Vec;
use arch::platform_layout::PIRQ_GSI;
use arch::{Gpa, Nanos, Width};
use bus::{Attention, IrqBank};

/// The bus, on lines [`PIRQ_GSI`] and up of `lines`.
pub(super) fn bus(
    lines: &IrqBank,
    test_devices: TestDevices,
    screen: Screen,
    started_by: StartedBy,
) -> PciHost {
    let mut endpoints = Vec::new();
    match test_devices {
        TestDevices::Present => endpoints.push(Endpoint::Test(Box::new(Function::new(TestFunction::new())))),
        TestDevices::Absent => {}
    }
    match screen {
        Screen::Absent => {}
        Screen::Vga { memory, rom } => {
            endpoints.push(Endpoint::Vga(Box::new(Function::new(Vga::new(memory, rom)))));
        }
    }
    PciHost::new([0, 1, 2, 3, 4, 5, 6, 7].map(|pirq| lines.line(PIRQ_GSI + pirq)), endpoints, started_by)
}

impl Pc {
    /// The inputs of the 8259 pair: ISA interrupts as they are `wired`, and those that the PCI interrupt lines are
    /// routed to, as they are `driven`. The HPET shares their pins, and is not routed.
    #[inline]
    pub(super) fn pic_inputs(&self, wired: u32, driven: u32) -> u16 {
        low_half(wired) | self.pci.isa_interrupts(low_byte(driven >> PIRQ_GSI))
    }

    #[cold]
    pub(super) fn read_pci_memory(&mut self, gpa: Gpa, width: Width, now: Nanos) -> u64 {
        let value = self.pci.read_memory(gpa, width, now);
        self.was_function_access(gpa, now);
        self.notice_pci();
        self.carry_lines();
        value
    }

    #[cold]
    pub(super) fn write_pci_memory(&mut self, gpa: Gpa, width: Width, value: u64, now: Nanos) {
        self.pci.write_memory(gpa, width, value, now);
        self.was_function_access(gpa, now);
        self.notice_pci();
        self.carry_lines();
    }

    /// Reads a port that nothing else is at, if a function decodes all of the access.
    #[cold]
    pub(super) fn read_pci_port(&mut self, port: u16, width: Width, now: Nanos) -> Option<u32> {
        let value = self.pci.read_port(port, width, now);
        self.notice_pci();
        value
    }

    /// Writes a port that nothing else is at. Returns whether a function decodes all of the access.
    #[cold]
    pub(super) fn write_pci_port(&mut self, port: u16, width: Width, value: u32, now: Nanos) -> bool {
        let decoded = self.pci.write_port(port, width, value, now);
        self.notice_pci();
        decoded
    }

    /// Writes the data port of configuration space.
    pub(super) fn write_pci_data(&mut self, lane: u16, width: Width, value: u32) {
        self.pci.write_data(lane, width, value);
        self.look_at_video_windows();
        self.notice_pci();
    }

    pub(super) fn advance_pci(&mut self, now: Nanos) {
        self.pci.advance(now);
        self.notice_pci();
    }

    /// Looks at what an access to the bus set off.
    fn notice_pci(&mut self) {
        self.touched(Timer::Pci);
        if self.pci.take_route_change() {
            let driven = self.lines.levels();
            let level = self.pic_inputs(self.wired(driven), driven);
            self.change_pic(|pic| pic.set_lines(level, 0));
        }
        if self.pci.has_message() {
            self.attention |= Attention::INTERRUPT;
        }
        if self.pci.take_bridge_change() {
            self.look_at_memory();
        }
    }
}
