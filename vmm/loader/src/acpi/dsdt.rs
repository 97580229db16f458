//! The differentiated system description table: the root of PCI, the devices that no bus enumerates, and how to power
//! off.
//!
//! ACPI Specification 6.5, "Device Identification", "\_Sx (System States)", "Resource Data Types for ACPI"; the
//! device names are those of "Plug and Play Device IDs".

use super::{numa, pci, sdt};
use crate::{MemoryLayout, Nodes};
use acpi_tables::Aml;
use acpi_tables::aml::{
    Device, EISAName, IO, Interrupt, Memory32Fixed, Name, Package, Path, ResourceTemplate, Scope, ZERO,
};
use acpi_tables::sdt::Sdt;
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use arch::{Port, platform_layout as pc};
use core::num::NonZeroU8;

/// Revision 2: integers of 64 bits.
const REVISION: u8 = 2;
/// The node that the root of PCI is in.
const FIRST_NODE: u8 = 0;

/// The table for a machine with `vcpus` processors and memory as in `layout`, divided among `nodes` if there are such.
pub(crate) fn table(vcpus: NonZeroU8, layout: &MemoryLayout, nodes: Option<Nodes>) -> Sdt {
    let mut code = Vec::new();
    power_off().to_aml_bytes(&mut code);
    pci::interrupt_model().to_aml_bytes(&mut code);
    let mut devices: Vec<Box<dyn Aml>> =
        (0..vcpus.get()).map(|id| Box::new(processor(id, vcpus, nodes)) as Box<dyn Aml>).collect();
    let board = [
        pci::root_bridge(layout, nodes.map(|_| FIRST_NODE)),
        serial_port(),
        keyboard(),
        auxiliary_port(),
        clock(),
        interval_timer(),
        interrupt_controllers(),
        event_timer(),
        motherboard(),
    ];
    devices.extend(pci::links().into_iter().chain(board).map(|device| Box::new(device) as Box<dyn Aml>));
    let children = devices.iter().map(|device| &**device).collect();
    Scope::new(path("\\_SB_"), children).to_aml_bytes(&mut code);

    let mut table = sdt(*b"DSDT", REVISION);
    table.append_slice(&code);
    table
}

/// AML that was generated already.
pub(super) struct Encoded(pub(super) Vec<u8>);

impl Aml for Encoded {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}

pub(super) fn path(name: &str) -> Path {
    Path::new(name)
}

/// `\_S5`: the SLP_TYP values for PM1a and PM1b control.
fn power_off() -> Name {
    let package = Package::new(vec![&pc::SLEEP_TYPE_S5, &pc::SLEEP_TYPE_S5, &ZERO, &ZERO]);
    Name::new(path("\\_S5_"), &package)
}

/// A processor device; its UID is the one in the MADT, and its node the one in the SRAT.
fn processor(id: u8, vcpus: NonZeroU8, nodes: Option<Nodes>) -> Encoded {
    let node = proximity(nodes.map(|nodes| numa::node_of(id.into(), nodes, vcpus.into())));
    device(&format!("C{id:03}"), vec![&hid_string("ACPI0007"), &Name::new(path("_UID"), &id), &node])
}

/// `_PXM`: the node that a device is nearest to. Nothing where there are no nodes.
pub(super) fn proximity(node: Option<u8>) -> Encoded {
    let mut code = Vec::new();
    if let Some(node) = node {
        Name::new(path("_PXM"), &node).to_aml_bytes(&mut code);
    }
    Encoded(code)
}

/// COM1.
fn serial_port() -> Encoded {
    let resources = [ports(pc::COM1, 8), edge_interrupt(pc::COM1_IRQ)];
    device("COM1", vec![&hid("PNP0501"), &Name::new(path("_UID"), &1_u8), &current(&resources)])
}

/// The keyboard controller's first port.
fn keyboard() -> Encoded {
    let resources =
        [ports(pc::KEYBOARD_DATA, 1), ports(pc::KEYBOARD_COMMAND, 1), edge_interrupt(pc::KEYBOARD_IRQ)];
    device("KBD_", vec![&hid("PNP0303"), &current(&resources)])
}

/// The keyboard controller's second port. No mouse is on it, but Linux warns of a controller with one port.
fn auxiliary_port() -> Encoded {
    device("MOU_", vec![&hid("PNP0F13"), &current(&[edge_interrupt(pc::AUXILIARY_IRQ)])])
}

/// The 8254. Its interrupt is the one that the MADT moves to another input.
fn interval_timer() -> Encoded {
    device("PIT_", vec![&hid("PNP0100"), &current(&[ports(pc::PIT, 4), edge_interrupt(pc::TIMER_IRQ)])])
}

/// The pair of 8259s.
fn interrupt_controllers() -> Encoded {
    const CASCADE: u8 = 2;
    let resources = [ports(pc::PIC_PRIMARY, 2), ports(pc::PIC_SECONDARY, 2), edge_interrupt(CASCADE)];
    device("PIC_", vec![&hid("PNP0000"), &current(&resources)])
}

/// The HPET, with the page that it is in.
fn event_timer() -> Encoded {
    const BYTES: u32 = 0x1000;
    let base = u32::try_from(pc::HPET_BASE.get()).expect("it is below 4 GiB");
    let mut code = Vec::new();
    Memory32Fixed::new(false, base, BYTES).to_aml_bytes(&mut code);
    device("HPET", vec![&hid("PNP0103"), &current(&[Encoded(code)])])
}

/// The CMOS clock.
fn clock() -> Encoded {
    let resources = [ports(pc::CMOS, 2), edge_interrupt(pc::RTC_IRQ)];
    device("RTC_", vec![&hid("PNP0B00"), &current(&resources)])
}

/// Ports that the LPC bridge decodes for the power-management block. Linux drops what the board reserves if that is
/// only a part of a bridge's range.
const PM_RANGE: u8 = 0x80;

/// Ports and memory that belong to the platform and to no device with a driver.
fn motherboard() -> Encoded {
    let resources = [
        ports(pc::PM_BASE, PM_RANGE),
        ports(pc::ELCR, 2),
        ports(pc::SYSTEM_CONTROL_A, 1),
        pci::configuration_space(),
    ];
    device("MBRD", vec![&hid("PNP0C02"), &Name::new(path("_UID"), &0_u8), &current(&resources)])
}

pub(super) fn device(name: &str, children: Vec<&dyn Aml>) -> Encoded {
    let mut code = Vec::new();
    Device::new(path(name), children).to_aml_bytes(&mut code);
    Encoded(code)
}

pub(super) fn hid(eisa: &str) -> Name {
    Name::new(path("_HID"), &EISAName::new(eisa))
}

fn hid_string(id: &str) -> Name {
    Name::new(path("_HID"), &String::from(id))
}

/// `_CRS`: the resources that a device has and cannot change.
pub(super) fn current(resources: &[Encoded]) -> Name {
    let children = resources.iter().map(|resource| resource as &dyn Aml).collect();
    Name::new(path("_CRS"), &ResourceTemplate::new(children))
}

fn ports(first: Port, count: u8) -> Encoded {
    let mut code = Vec::new();
    IO::new(first.0, first.0, 1, count).to_aml_bytes(&mut code);
    Encoded(code)
}

/// An ISA interrupt: edge-triggered, active high, not shared.
fn edge_interrupt(irq: u8) -> Encoded {
    let mut code = Vec::new();
    Interrupt::new(true, true, false, false, u32::from(irq)).to_aml_bytes(&mut code);
    Encoded(code)
}
