//! Accesses to device memory through the guest's own paging: across pages, and refused ones.
//!
//! Source: SDM Vol. 3A, "Page-Fault Exceptions"; "Access Rights".

use super::{Check, Checked, Group, check, fault_free};
use crate::apic;
use crate::machine::control::{self, cr0};
use crate::machine::cpu::Mmio;
use crate::machine::pages::{self, ACCESSED, DIRTY, PRESENT, Place, Shown, UNCACHED, WRITABLE};
use crate::machine::snippet::{Registers, Snippet, World, run, run_written};
use crate::machine::snippets as s;
use crate::programs::{exception, expect, expect_fault};

pub(super) const GROUP: Group = Group::new(CHECKS).resting(rest);

const CHECKS: &[Check] = &[
    check("mmio-pages.load-from-memory-into-device", || crossing_load(Order::MemoryFirst)),
    check("mmio-pages.load-from-device-into-memory", || crossing_load(Order::DeviceFirst)),
    check("mmio-pages.store-from-memory-into-device", || crossing_store(Order::MemoryFirst)),
    check("mmio-pages.store-from-device-into-memory", || crossing_store(Order::DeviceFirst)),
    check("mmio-pages.store-reaches-register", store_reaches_register),
    check("mmio-pages.load-into-absent-page", load_absent),
    check("mmio-pages.store-into-absent-page-writes-nothing", store_absent),
    check("mmio-pages.store-into-read-only-page-writes-nothing", store_read_only),
    check("mmio-pages.string-stops-at-absent-page", string_stops),
    check("mmio-pages.string-store-stops-at-absent-page", string_store_stops),
    check("mmio-pages.read-only-device-page", read_only_device),
    check("mmio-pages.read-only-device-page-rmw", || refused(s::ADD_STORE, 0, 3)),
    check("mmio-pages.read-only-device-page-xchg", || refused(s::STORE_XCHG, 0, 3)),
    check("mmio-pages.read-only-without-wp", read_only_without_wp),
    check("mmio-pages.reserved-bit", reserved_bit),
    check("mmio-pages.accessed-by-load", accessed),
    check("mmio-pages.dirty-by-store", dirty),
    check("mmio-pages.dirty-by-rmw", dirty_rmw),
    check("mmio-pages.alias-of-the-local-apic", alias),
    check("mmio-pages.instruction-across-pages", instruction_across_pages),
    check("mmio-pages.data-breakpoint", data_breakpoint),
];

/// The page of the window that shows a device in these checks, and its neighbours show memory.
const DEVICE: usize = 20;
const MEMORY: u64 = 0x0807_0605_0403_0201;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    MemoryFirst,
    DeviceFirst,
}

fn rest() {
    pages::reset();
    apic::stop_timer();
    show(Mmio::Nothing, PRESENT | WRITABLE | UNCACHED);
    pages::map(DEVICE - 1, Shown::Memory(2), PRESENT | WRITABLE);
    pages::map(DEVICE + 1, Shown::Memory(3), PRESENT | WRITABLE);
}

fn show(device: Mmio, flags: u64) {
    pages::map(DEVICE, Shown::Device(device), flags);
}

fn device() -> Place {
    Place::page(DEVICE as u64)
}

fn at(place: Place, rax: u64) -> Registers {
    Registers { rax, rdi: place.address(), ..Registers::ZERO }
}

fn crossing_load(order: Order) -> Checked {
    let (place, want) = match order {
        Order::MemoryFirst => {
            pages::poke(2, 4092, &MEMORY.to_le_bytes());
            (device().plus(-4), 0xffff_ffff_0403_0201u64)
        }
        Order::DeviceFirst => {
            pages::poke(3, 0, &MEMORY.to_le_bytes());
            (device().plus(4096 - 4), 0x0403_0201_ffff_ffff)
        }
    };
    let mut registers = at(place, 0);
    fault_free(run(s::LOAD_RAX, &mut registers))?;
    Ok(expect("RAX", registers.rax, want)?)
}

fn crossing_store(order: Order) -> Checked {
    const STORE: Snippet = s::XCHG_LOAD_64;
    let (place, frame, offset, want) = match order {
        Order::MemoryFirst => (device().plus(-4), 2, 4088, 0x0403_0201_0000_0000u64),
        Order::DeviceFirst => (device().plus(4096 - 4), 3, 0, 0x0807_0605),
    };
    fault_free(run(STORE, &mut at(place, MEMORY)))?;
    Ok(expect("memory", pages::peek(frame, offset), want)?)
}

/// A store of 8 bytes whose second half is the index register of the I/O APIC.
fn store_reaches_register() -> Checked {
    show(Mmio::IoApic, PRESENT | WRITABLE | UNCACHED);
    Mmio::IoApic.write(0, 0);
    pages::poke(1, 0, &0x0000_0001_1234_5678u64.to_le_bytes());
    let rsi = Place::page(1).address();
    let mut registers = Registers { rcx: 1, rsi, ..at(device().plus(-4), 0) };
    fault_free(run(s::REP_MOVSQ, &mut registers))?;
    expect("memory", pages::peek(2, 4088) >> 32, 0x1234_5678u64)?;
    Ok(expect("index register", Mmio::IoApic.read(0) & 0xff, 1u32)?)
}

/// A page fault with this error code at this address.
fn page_fault(
    what: &'static str,
    result: Result<(), crate::machine::trap::Trap>,
    error: u64,
    place: Place,
) -> Checked {
    let trap = expect_fault(what, result, exception::PF)?;
    expect("error code", trap.error, error)?;
    Ok(expect("address", trap.cr2, place.address())?)
}

fn load_absent() -> Checked {
    pages::map(DEVICE + 1, Shown::Memory(3), 0);
    let end = device().plus(4096);
    page_fault("load", run(s::LOAD_RAX, &mut at(end.plus(-4), 0)), 0, end)
}

fn store_absent() -> Checked {
    pages::map(DEVICE, Shown::Device(Mmio::Nothing), 0);
    page_fault("store", run(s::XCHG_LOAD_64, &mut at(device().plus(-4), MEMORY)), 2, device())?;
    Ok(expect("memory", pages::peek(2, 4088), 0u64)?)
}

fn store_read_only() -> Checked {
    pages::map(DEVICE + 1, Shown::Memory(3), PRESENT);
    show(Mmio::IoApic, PRESENT | WRITABLE | UNCACHED);
    Mmio::IoApic.write(0, 0);
    let end = device().plus(4096);
    page_fault("store", run(s::XCHG_LOAD_64, &mut at(end.plus(-4), MEMORY)), 3, end)
}

/// A string from a device into memory that ends in the middle: what came before the fault is done and counted.
fn string_stops() -> Checked {
    pages::map(DEVICE + 1, Shown::Memory(3), 0);
    let mut registers = Registers {
        rsi: Mmio::Nothing.base() as u64,
        rdi: device().plus(-4096).plus(4096 - 16).address(),
        rcx: 4 + 1024 + 5,
        ..Registers::ZERO
    };
    page_fault("string", run(s::REP_MOVSD, &mut registers), 2, device().plus(4096))?;
    expect("RCX", registers.rcx, 5u64)?;
    expect("RDI", registers.rdi, device().plus(4096).address())?;
    expect("RSI", registers.rsi, Mmio::Nothing.base() as u64 + 16 + 4096)?;
    Ok(expect("memory", pages::peek(2, 4080), u64::MAX)?)
}

fn string_store_stops() -> Checked {
    pages::map(DEVICE + 1, Shown::Memory(3), 0);
    let mut registers = Registers { rdi: device().plus(4096 - 32).address(), rcx: 20, ..Registers::ZERO };
    page_fault("string", run(s::REP_STOSD, &mut registers), 2, device().plus(4096))?;
    Ok(expect("RCX", registers.rcx, 12u64)?)
}

fn refused(snippet: Snippet, flags: u64, error: u64) -> Checked {
    show(Mmio::LocalApic, PRESENT | UNCACHED | flags);
    apic::write(0x380, 0x1234);
    let place = device().plus(0x380);
    page_fault("write", run(snippet, &mut at(place, 1)), error, place)?;
    Ok(expect("register", apic::read(0x380), 0x1234u32)?)
}

fn read_only_device() -> Checked {
    refused(s::STORE_EAX, 0, 3)?;
    let mut registers = at(device().plus(0x380), 0);
    fault_free(run(s::LOAD_EAX, &mut registers))?;
    Ok(expect("a load is fine", registers.rax, 0x1234u64)?)
}

fn read_only_without_wp() -> Checked {
    show(Mmio::LocalApic, PRESENT | UNCACHED);
    fault_free(control::change_cr0(0, cr0::WP))?;
    fault_free(run(s::STORE_EAX, &mut at(device().plus(0x380), 0x77)))?;
    Ok(expect("register", apic::read(0x380), 0x77u32)?)
}

fn reserved_bit() -> Checked {
    show(Mmio::LocalApic, PRESENT | WRITABLE | UNCACHED | pages::RESERVED);
    page_fault("load", run(s::LOAD_EAX, &mut at(device(), 0)), 9, device())
}

fn accessed() -> Checked {
    expect("before", pages::flags(DEVICE) & (ACCESSED | DIRTY), 0u64)?;
    fault_free(run(s::LOAD_EAX, &mut at(device(), 0)))?;
    Ok(expect("behind", pages::flags(DEVICE) & (ACCESSED | DIRTY), ACCESSED)?)
}

fn dirty() -> Checked {
    fault_free(run(s::STORE_EAX, &mut at(device(), 0)))?;
    Ok(expect("behind", pages::flags(DEVICE) & (ACCESSED | DIRTY), ACCESSED | DIRTY)?)
}

fn dirty_rmw() -> Checked {
    fault_free(run(s::LOCK_OR, &mut at(device(), 0)))?;
    Ok(expect("behind", pages::flags(DEVICE) & (ACCESSED | DIRTY), ACCESSED | DIRTY)?)
}

fn alias() -> Checked {
    show(Mmio::LocalApic, PRESENT | WRITABLE | UNCACHED);
    fault_free(run(s::STORE_EAX, &mut at(device().plus(0x380), 0x4321)))?;
    expect("register", apic::read(0x380), 0x4321u32)?;
    let mut registers = at(device().plus(0x30), 0);
    fault_free(run(s::LOAD_EAX, &mut registers))?;
    Ok(expect("version", registers.rax, apic::version())?)
}

/// The instruction itself lies across two pages that are not neighbours in memory.
fn instruction_across_pages() -> Checked {
    pages::map(30, Shown::Memory(4), PRESENT | WRITABLE);
    pages::map(31, Shown::Memory(1), PRESENT | WRITABLE);
    pages::map(32, Shown::Memory(6), PRESENT | WRITABLE);
    // Two bytes of MOV EAX, [RDI]: one on each page.
    pages::poke(4, 4095, &[0x8b]);
    pages::poke(1, 0, &[0x07, 0x0f, 0x0b]);
    let mut registers = Registers { rsp: Place::page(32).plus(2048).address(), ..at(device(), 0) };
    fault_free(run_written(World::Kernel64, Place::page(30).plus(4095), 2, &mut registers))?;
    Ok(expect("RAX", registers.rax, 0xffff_ffffu64)?)
}

/// A breakpoint on the address of a register stops behind the access.
fn data_breakpoint() -> Checked {
    /// Breakpoint 0: reads and writes of 4 bytes.
    const ON: u64 = 1 << 10 | 1 | 0b1111 << 16;
    // The I/O APIC's index: accesses there are carried out by software on every processor.
    show(Mmio::IoApic, PRESENT | WRITABLE | UNCACHED);
    let place = device();
    control::set_breakpoint(0, place.address());
    control::watch(ON);
    let result = run(s::STORE_EAX, &mut at(place, 0x99));
    let status = control::read_dr6();
    control::watch(1 << 10);
    let trap = expect_fault("store", result, exception::DB)?;
    expect("behind the instruction", trap.rip_offset.cast_unsigned(), s::STORE_EAX.length())?;
    expect("which one", status & 0xf, 1u64)?;
    Ok(expect("register", Mmio::IoApic.read(0), 0x99u32)?)
}
