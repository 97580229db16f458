//! Interrupts and exceptions: the table, the entry stubs, and who handles which vector.
//!
//! SDM Vol. 3A, "Interrupt and Exception Handling".

mod exceptions;
mod stubs;
mod table;

use core::arch::asm;
use core::sync::atomic::Ordering;

use arch::Vector;
use spin::Once;

use crate::percpu::PerCpu;
use crate::{apic, flight, percpu};

pub use exceptions::last_fault;
pub use stubs::TrapFrame;
pub(crate) use table::{load_table, table_base};

/// Vectors 0x20 to 0x2f: where the 8259s would interrupt. They are masked; only spurious interrupts come.
pub const LEGACY_FIRST: u8 = 0x20;
/// Last vector of the 8259s.
pub const LEGACY_LAST: u8 = 0x2f;
/// The serial line.
pub const SERIAL: u8 = 0x34;
/// The local APIC's timer.
pub const TIMER: u8 = 0x40;
/// Another CPU has work for this one: see [`smp::kick`](crate::smp::kick).
pub const WAKE: u8 = 0x41;
/// Another CPU posted interrupts for the guest that runs here, which takes them without an exit: see
/// [`vmx::notify`](crate::vmx::notify).
pub const NOTIFY: u8 = 0x42;
/// First vector for drivers.
pub const DRIVERS_FIRST: u8 = 0x50;
/// The local APIC's spurious interrupt; its low four bits are set, as older APICs want.
pub const SPURIOUS: u8 = 0xff;

/// What to do at an interrupt besides waking the CPU's loop: a few instructions, no locks that others hold with
/// interrupts on. The timer and [`WAKE`] do nothing else.
static ACTIONS: [Once<fn()>; 256] = [const { Once::new() }; 256];

/// Registers the action of `vector`. The first registration stays.
pub fn register(vector: Vector, action: fn()) {
    ACTIONS[usize::from(vector.0)].call_once(|| action);
}

/// Handles the device interrupt `vector` on this CPU, as if it had been taken through the descriptor table: for
/// interrupts that a VM exit acknowledged.
#[inline]
pub fn handle_device(vector: Vector) {
    let cpu = percpu::current();
    match vector.0 {
        // The 8259s are masked: this is their spurious interrupt, and nothing waits for an EOI.
        LEGACY_FIRST..=LEGACY_LAST | SPURIOUS => {
            cpu.spurious_count.fetch_add(1, Ordering::Relaxed);
        }
        // They say only that there may be work, and come often: not worth a record.
        TIMER | WAKE | NOTIFY => {
            cpu.interrupt_count.fetch_add(1, Ordering::Relaxed);
            cpu.set_pending();
            apic::end_of_interrupt();
        }
        _ => handle_apic(cpu, vector),
    }
}

fn handle_apic(cpu: &PerCpu, vector: Vector) {
    flight::record(flight::Tag::Interrupt, u64::from(vector.0), u64::from(cpu.index));
    cpu.interrupt_count.fetch_add(1, Ordering::Relaxed);
    if let Some(action) = ACTIONS[usize::from(vector.0)].get() {
        action();
    }
    cpu.set_device();
    cpu.set_pending();
    apic::end_of_interrupt();
}

/// Lets waiting interrupts in, all of them, and closes again.
#[inline]
pub fn open_window() {
    // SAFETY: the handlers are in place, and the code here holds no lock. STI delays by one instruction, so the
    // interrupts come at NOP's end.
    unsafe { asm!("sti", "nop", "cli", options(nostack)) };
}
