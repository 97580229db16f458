//! The PCI function that a hypervisor adds for test programs: ranges that move at run time, and interrupts by pin, MSI and
//! MSI-X.
//!
//! Source: PCI Local Bus Specification 3.0, "Base Addresses", "Message Signaled Interrupts", "MSI-X Capability and Table
//! Structures"; Intel I/O Controller Hub 9 Family datasheet, "PIRQ[n]_ROUT". The function's registers: Craton's
//! vmm/devices/src/pci/test_function/spec.rs.

use super::pci::{config_read, config_write};
use super::{Check, Checked, Group, Stop, check, fault_free, interrupt_flag, rest};
use crate::apic;
use crate::chipset::ioapic_write;
use crate::machine::cpu::{Mmio, in8, in16, in32, out8, out32};
use crate::machine::pages::{self, PRESENT, Place, Shown, UNCACHED, WRITABLE};
use crate::machine::snippet::{Registers, Snippet, run};
use crate::machine::snippets as s;
use crate::machine::trap::{self, FLUSH_VECTOR, interrupts};
use crate::programs::expect;

pub(super) const GROUP: Group = Group::new(CHECKS).needing(|| function().map(drop)).resting(bring_to_rest);

const CHECKS: &[Check] = &[
    check("pci-function.sizes", sizes),
    check("pci-function.registers-in-memory-and-ports", || {
        set_up()?;
        expect("memory", TEST.read(0), MAGIC)?;
        Ok(expect("ports", in32(PORTS), MAGIC)?)
    }),
    check("pci-function.registers-by-byte-and-word", || {
        set_up()?;
        expect("byte", in8(PORTS + 1), MAGIC.to_le_bytes()[1])?;
        Ok(expect("word", u32::from(in16(PORTS + 2)), MAGIC >> 16)?)
    }),
    check("pci-function.memory-moves-at-run-time", memory_moves),
    check("pci-function.ports-move-at-run-time", ports_move),
    check("pci-function.memory-off-reads-all-ones", || {
        set_up()?;
        config(COMMAND, IO)?;
        expect("memory", TEST.read(0), u32::MAX)?;
        Ok(expect("ports", in32(PORTS), MAGIC)?)
    }),
    check("pci-function.ports-off-read-all-ones", || {
        set_up()?;
        config(COMMAND, MEMORY)?;
        expect("ports", in32(PORTS), u32::MAX)?;
        Ok(expect("memory", TEST.read(0), MAGIC)?)
    }),
    check("pci-function.writes-while-off-are-lost", || {
        set_up()?;
        TEST.write(SCRATCH, 0x1111);
        config(COMMAND, 0)?;
        TEST.write(SCRATCH, 0x2222);
        config(COMMAND, ALL)?;
        Ok(expect("scratch", TEST.read(SCRATCH), 0x1111u32)?)
    }),
    check("pci-function.range-above-4-gib", above_4_gib),
    check("pci-function.pin-by-ioapic", pin_by_ioapic),
    check("pci-function.pin-by-8259", pin_by_8259),
    check("pci-function.pin-disabled-keeps-status", pin_disabled),
    check("pci-function.pin-is-silent-with-msi", || {
        set_up()?;
        route_to_8259()?;
        enable_msi(MESSAGE)?;
        TEST.write(PIN, 1);
        Ok(expect("request", requested(), 0u8)?)
    }),
    check("pci-function.msi", || {
        set_up()?;
        enable_msi(MESSAGE)?;
        Ok(expect("taken", sent(MESSAGE, 0), 1u64)?)
    }),
    check("pci-function.msi-numbers-its-messages", || {
        set_up()?;
        enable_msi(MESSAGE)?;
        // Four messages.
        let at = capability(MSI)?;
        config(at, config_read(function()?, at) | 2 << 20)?;
        expect("of number 3", sent(MESSAGE + 3, 3), 1u64)?;
        Ok(expect("of number 5, which is 1", sent(MESSAGE + 1, 5), 1u64)?)
    }),
    check("pci-function.msi-masked-waits", msi_masked),
    check("pci-function.msi-needs-bus-mastering", || {
        set_up()?;
        enable_msi(MESSAGE)?;
        config(COMMAND, IO | MEMORY)?;
        Ok(expect("not taken", sent(MESSAGE, 0), 0u64)?)
    }),
    check("pci-function.msix", || {
        set_up()?;
        enable_msix(0)?;
        set_entry(2, MESSAGE + 2, 0);
        Ok(expect("taken", sent(MESSAGE + 2, 2), 1u64)?)
    }),
    check("pci-function.msix-table-reads-back", msix_table),
    check("pci-function.msix-masked-entry-waits", msix_masked),
    check("pci-function.msix-masked-function-waits", msix_function_masked),
    check("pci-function.msix-other-entries-go", || {
        set_up()?;
        enable_msix(0)?;
        set_entry(0, MESSAGE, 1);
        set_entry(1, MESSAGE + 1, 0);
        expect("masked", sent(MESSAGE, 0), 0u64)?;
        Ok(expect("the other", sent(MESSAGE + 1, 1), 1u64)?)
    }),
];

/// Vendor and device.
const IDENTITY: u32 = 0x7e57_1234;
const MAGIC: u32 = u32::from_le_bytes(*b"CTST");

/// Registers of the function.
const TEST: Mmio = Mmio::TestFunction;
const SCRATCH: u16 = 0x04;
const PIN: u16 = 0x08;
const SEND: u16 = 0x0c;
const TIMER: u16 = 0x14;
/// Pending bits of MSI-X, in the page with the table.
const PENDING: u16 = 0x800;

/// Where the ports are, and where else.
const PORTS: u16 = 0xc000;
const OTHER_PORTS: u16 = 0xd000;

/// Configuration space: command and its bits, base addresses.
const COMMAND: u8 = 4;
const IO: u32 = 1;
const MEMORY: u32 = 2;
const ALL: u32 = 7;
const INTERRUPT_DISABLE: u32 = 1 << 10;
const INTERRUPT_STATUS: u32 = 1 << 19;
const BAR: [u8; 4] = [0x10, 0x14, 0x18, 0x1c];
/// Capabilities.
const MSI: u32 = 0x05;
const MSIX: u32 = 0x11;

/// The bridge with the routes of interrupt lines, and the routes of lines E to H.
const BRIDGE: u16 = 0x1f << 3;
const ROUTES: u8 = 0x68;
const NO_ROUTES: u32 = 0x8080_8080;
/// The ISA interrupt that the checks route to.
const ISA: u8 = 11;
const ISA_BIT: u8 = 1 << (ISA - 8);
/// Vector of the first message.
const MESSAGE: u8 = 0x70;

fn function() -> Checked<u16> {
    (0..32)
        .map(|device: u16| device << 3)
        .find(|function| config_read(*function, 0) == IDENTITY)
        .ok_or(Stop::Skipped("no function for test programs"))
}

fn config(register: u8, value: u32) -> Checked {
    config_write(function()?, register, value);
    Ok(())
}

/// Has the function answer at its first places.
fn set_up() -> Checked {
    config(COMMAND, 0)?;
    let places = [u32::from(PORTS), address(Mmio::TestFunction), 0, ABOVE];
    for (register, value) in BAR.into_iter().zip(places) {
        config(register, value)?;
    }
    config(COMMAND, ALL)
}

/// The address below 4 GiB of a device's registers.
fn address(device: Mmio) -> u32 {
    u32::try_from(device.base()).unwrap_or(0)
}

fn bring_to_rest() {
    pages::reset();
    rest::ioapic();
    if set_up().is_ok() {
        TEST.write(PIN, 0);
        TEST.write(TIMER, 0);
        for kind in [MSI, MSIX] {
            if let Ok(at) = capability(kind) {
                config(at, 0).ok();
            }
        }
        config(COMMAND, 0).ok();
        config_write(BRIDGE, ROUTES, NO_ROUTES);
    }
    rest::pic();
}

/// Where a capability is.
fn capability(kind: u32) -> Checked<u8> {
    let function = function()?;
    let mut at = config_read(function, 0x34).to_le_bytes()[0];
    for _ in 0..48 {
        let header = config_read(function, at);
        if at == 0 || header & 0xff == kind {
            break;
        }
        at = header.to_le_bytes()[1];
    }
    if at == 0 { Err(Stop::Skipped("no such capability")) } else { Ok(at) }
}

fn sizes() -> Checked {
    config(COMMAND, 0)?;
    let masks = [0xffff_ffc1u32, 0xffff_e000, 0xffff_c00c, 0xffff_ffff];
    for (register, mask) in BAR.into_iter().zip(masks) {
        config(register, u32::MAX)?;
        expect("mask", config_read(function()?, register), mask)?;
    }
    Ok(())
}

fn memory_moves() -> Checked {
    set_up()?;
    TEST.write(SCRATCH, 0x1234);
    config(BAR[1], address(Mmio::TestElsewhere))?;
    expect("nothing is left", TEST.read(0), u32::MAX)?;
    expect("there", Mmio::TestElsewhere.read(0), MAGIC)?;
    expect("the same registers", Mmio::TestElsewhere.read(SCRATCH), 0x1234u32)?;
    config(BAR[1], address(Mmio::TestFunction))?;
    expect("nothing is left there", Mmio::TestElsewhere.read(0), u32::MAX)?;
    Ok(expect("back", TEST.read(0), MAGIC)?)
}

fn ports_move() -> Checked {
    set_up()?;
    config(BAR[0], u32::from(OTHER_PORTS))?;
    expect("nothing is left", in32(PORTS), u32::MAX)?;
    expect("there", in32(OTHER_PORTS), MAGIC)?;
    out32(OTHER_PORTS + SCRATCH, 0x77);
    Ok(expect("the same registers", TEST.read(SCRATCH), 0x77u32)?)
}

/// The upper half of where the 64-bit range is, and of where else.
const ABOVE: u32 = 8;
const FURTHER_ABOVE: u32 = 9;
/// The page of the window that shows it.
const WINDOW: usize = 20;

/// Runs a move between RAX and the first bytes of the 64-bit range at `device`.
fn move_above(device: Mmio, snippet: Snippet, rax: u64) -> Checked<u64> {
    pages::map(WINDOW, Shown::Device(device), PRESENT | WRITABLE | UNCACHED);
    let mut registers = Registers { rax, rdi: Place::page(WINDOW as u64).address(), ..Registers::ZERO };
    fault_free(run(snippet, &mut registers))?;
    Ok(registers.rax)
}

fn above_4_gib() -> Checked {
    set_up()?;
    move_above(Mmio::TestAbove, s::STORE_EAX, 0x1234_5678)?;
    expect("kept", move_above(Mmio::TestAbove, s::LOAD_EAX, 0)?, 0x1234_5678u64)?;
    config(BAR[3], FURTHER_ABOVE)?;
    expect("nothing is left", move_above(Mmio::TestAbove, s::LOAD_EAX, 0)?, 0xffff_ffffu64)?;
    Ok(expect("moved", move_above(Mmio::TestFurtherAbove, s::LOAD_EAX, 0)?, 0x1234_5678u64)?)
}

/// The number of the interrupt line that pin A is wired to, counted from line E.
fn line() -> Checked<u16> {
    Ok((function()? >> 3) & 3)
}

fn pin_by_ioapic() -> Checked {
    const LEVEL_LOW: u32 = 1 << 15 | 1 << 13;
    set_up()?;
    trap::on_flush(|| TEST.write(PIN, 0));
    let entry = 0x10 + 2 * (20 + u32::from(line()?));
    ioapic_write(entry + 1, apic::id() << 24);
    ioapic_write(entry, LEVEL_LOW | u32::from(FLUSH_VECTOR));
    for _ in 0..2 {
        let before = interrupts(FLUSH_VECTOR);
        TEST.write(PIN, 1);
        interrupt_flag();
        interrupt_flag();
        expect("taken until it is low", interrupts(FLUSH_VECTOR) - before, 1u64)?;
    }
    Ok(())
}

/// Routes the pin to the 8259, level-triggered.
fn route_to_8259() -> Checked {
    let shift = 8 * u32::from(line()?);
    config_write(BRIDGE, ROUTES, NO_ROUTES & !(0xff << shift) | u32::from(ISA) << shift);
    out8(0x4d1, in8(0x4d1) | ISA_BIT);
    Ok(())
}

/// The 8259's request for it.
fn requested() -> u8 {
    out8(0xa0, 0x0a);
    in8(0xa0) & ISA_BIT
}

fn pin_by_8259() -> Checked {
    set_up()?;
    route_to_8259()?;
    expect("before", requested(), 0u8)?;
    TEST.write(PIN, 1);
    expect("while it is asserted", requested(), ISA_BIT)?;
    config_write(BRIDGE, ROUTES, NO_ROUTES);
    expect("without a route", requested(), 0u8)?;
    route_to_8259()?;
    expect("with it again", requested(), ISA_BIT)?;
    TEST.write(PIN, 0);
    Ok(expect("behind", requested(), 0u8)?)
}

fn pin_disabled() -> Checked {
    set_up()?;
    route_to_8259()?;
    TEST.write(PIN, 1);
    config(COMMAND, ALL | INTERRUPT_DISABLE)?;
    expect("request", requested(), 0u8)?;
    expect("status", config_read(function()?, COMMAND) & INTERRUPT_STATUS, INTERRUPT_STATUS)?;
    config(COMMAND, ALL)?;
    Ok(expect("enabled again", requested(), ISA_BIT)?)
}

/// How often `vector` is taken when message `number` is sent.
fn sent(vector: u8, number: u32) -> u64 {
    let before = interrupts(vector);
    TEST.write(SEND, number);
    interrupt_flag();
    interrupts(vector) - before
}

/// The address that messages to this CPU go to.
fn message_address() -> u32 {
    0xfee0_0000 | apic::id() << 12
}

/// Enables MSI with one message.
fn enable_msi(vector: u8) -> Checked {
    let at = capability(MSI)?;
    config(at + 4, message_address())?;
    config(at + 8, 0)?;
    config(at + 12, u32::from(vector))?;
    config(at + 16, 0)?;
    config(at, 1 << 16)
}

fn msi_masked() -> Checked {
    set_up()?;
    enable_msi(MESSAGE)?;
    let at = capability(MSI)?;
    config(at + 16, 1)?;
    expect("masked", sent(MESSAGE, 0), 0u64)?;
    expect("pending", config_read(function()?, at + 20), 1u32)?;
    let before = interrupts(MESSAGE);
    config(at + 16, 0)?;
    interrupt_flag();
    expect("taken", interrupts(MESSAGE) - before, 1u64)?;
    Ok(expect("pending no more", config_read(function()?, at + 20), 0u32)?)
}

/// Enables MSI-X, with these bits of its control register too.
fn enable_msix(bits: u32) -> Checked {
    for entry in 0..8 {
        set_entry(entry, 0, 1);
    }
    config(capability(MSIX)?, 1 << 31 | bits)
}

/// Sets an entry of the table: 1 as the control masks it.
fn set_entry(entry: u16, vector: u8, control: u32) {
    let words = [message_address(), 0, u32::from(vector), control];
    for (offset, word) in (16 * entry..).step_by(4).zip(words) {
        Mmio::TestTable.write(offset, word);
    }
}

fn msix_table() -> Checked {
    set_up()?;
    set_entry(7, 0x5a, 1);
    expect("address", Mmio::TestTable.read(112), message_address())?;
    expect("data", Mmio::TestTable.read(120), 0x5au32)?;
    expect("control", Mmio::TestTable.read(124), 1u32)?;
    Mmio::TestTable.write(PENDING, u32::MAX);
    Ok(expect("pending bits are read-only", Mmio::TestTable.read(PENDING), 0u32)?)
}

/// Message 3 waits until `free` lets it go.
fn waits(free: impl FnOnce() -> Checked) -> Checked {
    expect("masked", sent(MESSAGE, 3), 0u64)?;
    expect("pending", Mmio::TestTable.read(PENDING), 1u32 << 3)?;
    let before = interrupts(MESSAGE);
    free()?;
    interrupt_flag();
    expect("taken", interrupts(MESSAGE) - before, 1u64)?;
    Ok(expect("pending no more", Mmio::TestTable.read(PENDING), 0u32)?)
}

fn msix_masked() -> Checked {
    set_up()?;
    enable_msix(0)?;
    set_entry(3, MESSAGE, 1);
    waits(|| {
        Mmio::TestTable.write(60, 0);
        Ok(())
    })
}

fn msix_function_masked() -> Checked {
    const FUNCTION_MASK: u32 = 1 << 30;
    set_up()?;
    enable_msix(FUNCTION_MASK)?;
    set_entry(3, MESSAGE, 0);
    waits(|| config(capability(MSIX)?, 1 << 31))
}
