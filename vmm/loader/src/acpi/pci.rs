//! The PCI root bridge in the DSDT: what it has of buses, ports and memory, and where interrupt pins lead.
//!
//! ACPI Specification 6.5, "\_PRT (PCI Routing Table)", "Interrupt Link Devices"; PCI Firmware Specification 3.2, "\_OSC
//! Interface for PCI Host Bridge Devices".
//!
//! Pins are on PCI interrupt lines, which are I/O APIC inputs of their own. An operating system that uses the 8259 pair
//! instead (it says so by `\_PIC`) finds an interrupt link device for each line, which the ISA bridge routes.

use super::dsdt::{Encoded, current, device, hid, path, proximity};
use crate::MemoryLayout;
use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Else, Equal, Field, FieldAccessType,
    FieldEntry, FieldLockRule, FieldUpdateRule, IO, If, Interrupt, Local, Memory32Fixed, Method, MethodCall,
    Name, NotEqual, ONE, OpRegion, OpRegionSpace, Or, Package, PackageBuilder, Path, ResourceTemplate,
    Return, Store, Uuid, ZERO,
};
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use arch::platform_layout as pc;

/// The last bus. Configuration space has room for more, but there are no bridges to any; systems look for devices on every bus
/// that they are told of, one exit each.
pub(super) const LAST_BUS: u8 = 0;
/// Devices on a bus.
const DEVICES: u8 = 32;
/// The LPC bridge's `_ADR`: device in the high half, function in the low half.
const ISA_BRIDGE: u32 = 0x1f << 16;
/// Its routes of the interrupt lines, in its configuration space: A to D, then, behind a gap, E to H.
const ROUTES: u8 = 0x60;
const ROUTES_BYTES: u8 = 0x0c;
/// A route that leads nowhere.
const DISABLED: u8 = 0x80;
/// ISA interrupts that the lines may be routed to: those that no legacy device has.
const CHOICES: [u32; 3] = [5, 10, 11];
/// `_STA` of a device that is there, and of one that is enabled too.
const PRESENT: u8 = 0x9;
const ENABLED: u8 = 0xb;
/// `_OSC` of a host bridge.
const OSC: &str = "33DB4D5B-1FF7-401C-9657-7441C03DD766";

/// `\_PIC` and what it keeps: which interrupt controllers the operating system uses, the I/O APIC if not zero.
pub(super) fn interrupt_model() -> Encoded {
    let mode = path("PICF");
    let mut code = Vec::new();
    Name::new(path("PICF"), &ZERO).to_aml_bytes(&mut code);
    Method::new(path("_PIC"), 1, false, vec![&Store::new(&mode, &Arg(0))]).to_aml_bytes(&mut code);
    Encoded(code)
}

/// The root bridge, with all that is on its bus and cannot be found there. It is near to `node`, if there are nodes.
pub(super) fn root_bridge(layout: &MemoryLayout, node: Option<u8>) -> Encoded {
    device(
        "PCI0",
        vec![
            &hid("PNP0A08"),
            &Name::new(path("_CID"), &acpi_tables::aml::EISAName::new("PNP0A03")),
            &Name::new(path("_UID"), &ZERO),
            &Name::new(path("_BBN"), &ZERO),
            &proximity(node),
            &current(&windows(layout)),
            &control(),
            &isa_bridge(),
            &routing("PRTA", apic_route),
            &routing("PRTP", link_route),
            &Method::new(
                path("_PRT"),
                0,
                false,
                vec![&If::new(&path("PICF"), vec![&Return::new(&path("PRTA"))]), &Return::new(&path("PRTP"))],
            ),
        ],
    )
}

/// The interrupt link devices, and the methods that they share.
pub(super) fn links() -> Vec<Encoded> {
    let mut links = vec![link_status(), link_setting()];
    links.extend((0..pc::PIRQS).map(link));
    links
}

/// The ports and memory that the bus has: those of the legacy devices, which the ISA bridge passes on, the
/// configuration ports, and what base addresses may have.
fn windows(layout: &MemoryLayout) -> [Encoded; 6] {
    let (first, last) = layout.high_pci_window();
    [
        encoded(&AddressSpace::new_bus_number(0, u16::from(LAST_BUS))),
        encoded(&IO::new(pc::PCI_CONFIG.0, pc::PCI_CONFIG.0, 1, 8)),
        encoded(&AddressSpace::new_io(0, pc::PCI_CONFIG.0 - 1, None)),
        encoded(&AddressSpace::new_io(pc::PCI_PORTS.0, u16::MAX, None)),
        encoded(&AddressSpace::new_memory(
            AddressSpaceCacheable::NotCacheable,
            true,
            low_half(pc::PCI_WINDOW.get()),
            low_half(pc::PCI_WINDOW_END.get() - 1),
            None,
        )),
        encoded(&AddressSpace::new_memory(
            AddressSpaceCacheable::Cacheable,
            true,
            first.get(),
            last.get(),
            None,
        )),
    ]
}

/// The memory-mapped configuration space, as a resource of the board.
pub(super) fn configuration_space() -> Encoded {
    encoded(&Memory32Fixed::new(true, low_half(pc::ECAM_BASE.get()), low_half(pc::ECAM_BYTES)))
}

/// `_OSC`: the operating system may control what it asks for of PCI Express; there is no firmware that would.
fn control() -> Encoded {
    /// Native and standard hot-plug, power-management events, error reporting, the PCI Express capability.
    const GRANTED: u8 = 0x1f;
    const UNKNOWN_REVISION: u8 = 1 << 3;
    const UNKNOWN_UUID: u8 = 1 << 2;
    const MASKED: u8 = 1 << 4;
    let (status, wanted, granted) = (path("CDW1"), path("CDW3"), Local(0));
    encoded(&Method::new(
        path("_OSC"),
        4,
        true,
        vec![
            &CreateDWordField::new(&status, &Arg(3), &ZERO),
            &If::new(
                &Equal::new(&Arg(0), &Uuid::new(OSC)),
                vec![
                    &CreateDWordField::new(&wanted, &Arg(3), &8_u8),
                    &And::new(&granted, &wanted, &GRANTED),
                    &If::new(
                        &NotEqual::new(&Arg(1), &ONE),
                        vec![&Or::new(&status, &status, &UNKNOWN_REVISION)],
                    ),
                    &If::new(&NotEqual::new(&wanted, &granted), vec![&Or::new(&status, &status, &MASKED)]),
                    &Store::new(&wanted, &granted),
                ],
            ),
            &Else::new(vec![&Or::new(&status, &status, &UNKNOWN_UUID)]),
            &Return::new(&Arg(3)),
        ],
    ))
}

/// The LPC bridge, for its routes.
fn isa_bridge() -> Encoded {
    const BYTE: usize = 8;
    let mut fields: Vec<FieldEntry> = Vec::new();
    for pirq in 0..pc::PIRQS {
        if pirq == 4 {
            fields.push(FieldEntry::Reserved(4 * BYTE));
        }
        fields.push(FieldEntry::Named(route_name(pirq), BYTE));
    }
    device(
        "ISA_",
        vec![
            &Name::new(path("_ADR"), &ISA_BRIDGE),
            &OpRegion::new(path("PIRQ"), OpRegionSpace::PCIConfig, &ROUTES, &ROUTES_BYTES),
            &Field::new(
                path("PIRQ"),
                FieldAccessType::Byte,
                FieldLockRule::NoLock,
                FieldUpdateRule::Preserve,
                fields,
            ),
        ],
    )
}

/// The field that is the route of a line.
fn route_name(pirq: u8) -> [u8; 4] {
    [b'P', b'R', b'Q', b'A' + pirq]
}

/// The same, from anywhere.
fn route(pirq: u8) -> Path {
    path(&format!("\\_SB_.PCI0.ISA_.PRQ{}", char::from(b'A' + pirq)))
}

fn link_name(pirq: u8) -> Path {
    path(&format!("LNK{}", char::from(b'A' + pirq)))
}

/// A routing table: for each pin of each device what `to` says.
fn routing(name: &str, to: impl Fn(u8, u8) -> Encoded) -> Encoded {
    let mut table = PackageBuilder::new();
    for device in 0..DEVICES {
        for pin in 0..4 {
            table.add_element(&to(device, pin));
        }
    }
    encoded(&Name::new(path(name), &table))
}

/// The `_PRT` address of all functions of a device.
fn all_functions(device: u8) -> u32 {
    u32::from(device) << 16 | 0xffff
}

fn apic_route(device: u8, pin: u8) -> Encoded {
    let gsi = pc::PIRQ_GSI + pc::pirq_of(device, pin);
    encoded(&Package::new(vec![&all_functions(device), &pin, &ZERO, &gsi]))
}

fn link_route(device: u8, pin: u8) -> Encoded {
    let link = link_name(pc::pirq_of(device, pin));
    encoded(&Package::new(vec![&all_functions(device), &pin, &link, &ZERO]))
}

/// `LSTA`: the `_STA` of a link with the route that is given.
fn link_status() -> Encoded {
    encoded(&Method::new(
        path("LSTA"),
        1,
        false,
        vec![
            &If::new(&And::new(&ZERO, &Arg(0), &DISABLED), vec![&Return::new(&PRESENT)]),
            &Return::new(&ENABLED),
        ],
    ))
}

/// `LCRS`: the `_CRS` of a link with the route that is given.
fn link_setting() -> Encoded {
    let (buffer, number) = (path("PRR0"), path("PRRI"));
    let none = interrupts(&[0]);
    let template = ResourceTemplate::new(vec![&none]);
    encoded(&Method::new(
        path("LCRS"),
        1,
        true,
        vec![
            &Name::new(path("PRR0"), &template),
            &CreateDWordField::new(&number, &buffer, &FIRST_INTERRUPT),
            &If::new(
                &Equal::new(&And::new(&ZERO, &Arg(0), &DISABLED), &ZERO),
                vec![&And::new(&number, &Arg(0), &0x0f_u8)],
            ),
            &Return::new(&buffer),
        ],
    ))
}

/// Where an extended interrupt descriptor has its first interrupt.
const FIRST_INTERRUPT: u8 = 5;

/// The interrupt link device of a line.
fn link(pirq: u8) -> Encoded {
    let (route, chosen) = (route(pirq), path("PRRI"));
    let choices = interrupts(&CHOICES);
    encoded(&acpi_tables::aml::Device::new(
        link_name(pirq),
        vec![
            &hid("PNP0C0F"),
            &Name::new(path("_UID"), &pirq),
            &Method::new(
                path("_STA"),
                0,
                false,
                vec![&Return::new(&MethodCall::new(path("LSTA"), vec![&route]))],
            ),
            &Method::new(path("_DIS"), 0, false, vec![&Or::new(&route, &route, &DISABLED)]),
            &Method::new(
                path("_CRS"),
                0,
                false,
                vec![&Return::new(&MethodCall::new(path("LCRS"), vec![&route]))],
            ),
            &Name::new(path("_PRS"), &ResourceTemplate::new(vec![&choices])),
            &Method::new(
                path("_SRS"),
                1,
                true,
                vec![
                    &CreateDWordField::new(&chosen, &Arg(0), &FIRST_INTERRUPT),
                    &Store::new(&route, &chosen),
                ],
            ),
        ],
    ))
}

/// A choice of interrupts: level-triggered, active high as the board wires them, shared.
fn interrupts(numbers: &[u32]) -> Encoded {
    let mut code = Vec::new();
    Interrupt::new(true, false, false, true, 0).to_aml_bytes(&mut code);
    let [_tag, length, _, _flags, count, ..] = code.as_mut_slice() else { return Encoded(code) };
    let bytes = size_of_val(numbers);
    *length = u8::try_from(2 + bytes).expect("a few interrupts");
    *count = u8::try_from(numbers.len()).expect("a few interrupts");
    code.truncate(usize::from(FIRST_INTERRUPT));
    code.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
    Encoded(code)
}

fn encoded(aml: &dyn Aml) -> Encoded {
    let mut code = Vec::new();
    aml.to_aml_bytes(&mut code);
    Encoded(code)
}

/// An address below 4 GiB.
#[expect(clippy::cast_possible_truncation, reason = "the windows that use it are below 4 GiB")]
const fn low_half(address: u64) -> u32 {
    address as u32
}
