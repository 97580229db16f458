//! The I/O APICs: which device interrupt goes to which CPU as which vector.
//!
//! Intel 82093AA I/O Advanced Programmable Interrupt Controller (IOAPIC) data sheet.

use alloc::vec::Vec;

use arch::{Hpa, Vector};
use spin::Mutex;

use crate::acpi::{self, Polarity, Trigger};
use crate::interrupts::LEGACY_FIRST;
use crate::memory::tables::{self, Caching};

const SELECT: usize = 0x00;
const WINDOW: usize = 0x10;
const VERSION: u32 = 0x01;
const REDIRECTION: u32 = 0x10;

const MASKED: u32 = 1 << 16;
const LEVEL: u32 = 1 << 15;
const ACTIVE_LOW: u32 = 1 << 13;

/// A global system interrupt: an input of some I/O APIC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Gsi(pub u32);

/// No I/O APIC has this input.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoSuchInput(pub Gsi);

struct IoApic {
    registers: usize,
    first: u32,
    inputs: u32,
}

static IO_APICS: Mutex<Vec<IoApic>> = Mutex::new(Vec::new());

impl IoApic {
    fn pointer(&self, offset: usize) -> *mut u32 {
        core::ptr::with_exposed_provenance_mut(self.registers + offset)
    }

    fn read(&self, register: u32) -> u32 {
        // SAFETY: the register page is mapped; selecting has no other effect.
        unsafe { self.pointer(SELECT).write_volatile(register) };
        // SAFETY: as above.
        unsafe { self.pointer(WINDOW).read_volatile() }
    }

    /// # Safety
    /// A redirection entry that is not masked must name a vector with a handler.
    unsafe fn write(&self, register: u32, value: u32) {
        // SAFETY: the register page is mapped; selecting has no other effect.
        unsafe { self.pointer(SELECT).write_volatile(register) };
        // SAFETY: the caller vouches for the value.
        unsafe { self.pointer(WINDOW).write_volatile(value) };
    }
}

/// Maps the I/O APICs and masks all their inputs.
///
/// # Safety
/// The addresses are what the firmware reports; called once.
pub(crate) unsafe fn init(found: &[acpi::IoApic]) {
    let mut list = IO_APICS.lock();
    for entry in found {
        let Some(page) = tables::map_device(Hpa::new(entry.address), 4096, Caching::Uncached) else {
            continue;
        };
        let mut io_apic = IoApic { registers: page.expose_provenance(), first: entry.first_gsi, inputs: 0 };
        io_apic.inputs = (io_apic.read(VERSION) >> 16 & 0xff) + 1;
        for input in 0..io_apic.inputs {
            // SAFETY: masks the input.
            unsafe { io_apic.write(REDIRECTION + 2 * input, MASKED) };
        }
        log::debug!(
            "I/O APIC {} at {:#x}: inputs {}+{}",
            entry.id,
            entry.address,
            entry.first_gsi,
            io_apic.inputs
        );
        list.push(io_apic);
    }
}

/// Sends `gsi` to the CPU with the APIC ID `target` (below 256) as `vector`.
///
/// # Errors
/// [`NoSuchInput`] when no I/O APIC has that input.
pub fn route(
    gsi: Gsi,
    target: u32,
    vector: Vector,
    polarity: Polarity,
    trigger: Trigger,
) -> Result<(), NoSuchInput> {
    assert!(vector.0 >= LEGACY_FIRST, "exceptions are not for devices");
    let list = IO_APICS.lock();
    let io_apic = list
        .iter()
        .find(|io_apic| gsi.0.checked_sub(io_apic.first).is_some_and(|input| input < io_apic.inputs))
        .ok_or(NoSuchInput(gsi))?;
    let input = gsi.0 - io_apic.first;
    let polarity = match polarity {
        Polarity::ActiveHigh => 0,
        Polarity::ActiveLow => ACTIVE_LOW,
    };
    let trigger = match trigger {
        Trigger::Edge => 0,
        Trigger::Level => LEVEL,
    };
    // SAFETY: the entry is masked while its target is set.
    unsafe { io_apic.write(REDIRECTION + 2 * input + 1, target << 24) };
    // SAFETY: every vector has a handler.
    unsafe { io_apic.write(REDIRECTION + 2 * input, u32::from(vector.0) | polarity | trigger) };
    Ok(())
}
