//! Everything outside the processor, as the processor sees it.

use crate::InterruptMessage;
use arch::{Gpa, Nanos, Port, Vector, Width};
use bitflags::bitflags;
use memory::Arrangement;

bitflags! {
    /// What changed outside the processor and wants a look before the next entry.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Attention: u8 {
        /// An interrupt message waits, or the 8259's output changed.
        const INTERRUPT = 1 << 0;
        /// The guest asked for a reset or for power off.
        const POWER = 1 << 1;
        /// The next device deadline moved.
        const DEADLINE = 1 << 2;
        /// Memory was switched: [`Platform::arrangement`] has changed.
        const MEMORY = 1 << 3;
    }
}

/// What a guest asked for that ends its run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PowerRequest {
    /// ACPI S5: power off.
    Off,
    /// Reset, by the ACPI reset register, port 0xCF9, port 0x92, or the keyboard controller.
    Reset,
    /// The debug exit device: stop the machine for good, with this status.
    Exit {
        /// The status, always odd.
        status: u32,
    },
}

/// Devices whose whole state is plain data.
pub trait SavePlatform {
    /// The state of all devices.
    type State;

    /// The state of all devices, to be restored later.
    fn save(&self) -> Self::State;

    /// Becomes the platform that [`Self::save`] saw, at the machine time at which it did.
    fn restore(&mut self, state: &Self::State);
}

/// The devices of one virtual machine. Time is an argument: nothing here has a clock of its own.
pub trait Platform {
    /// A read of `width` at `port`. Ports without a device read all ones.
    fn port_read(&mut self, port: Port, width: Width, now: Nanos) -> u32;

    /// A write of `width` at `port`. Ports without a device ignore it.
    fn port_write(&mut self, port: Port, width: Width, value: u32, now: Nanos);

    /// A read at `gpa`, which is not RAM. Holes read all ones.
    fn mmio_read(&mut self, gpa: Gpa, width: Width, now: Nanos) -> u64;

    /// A write at `gpa`, which is not RAM. Holes ignore it.
    fn mmio_write(&mut self, gpa: Gpa, width: Width, value: u64, now: Nanos);

    /// A local APIC broadcast the EOI of a level-triggered `vector`.
    fn end_of_interrupt(&mut self, vector: Vector, now: Nanos);

    /// Runs every device timer that is due at `now`.
    fn advance(&mut self, now: Nanos);

    /// When [`Self::advance`] must be called next, [`Nanos::NEVER`] if no timer runs.
    fn next_deadline(&self) -> Nanos;

    /// Takes the flags of what changed since the last call. Cheap: called after every access.
    fn take_attention(&mut self) -> Attention;

    /// Takes the next interrupt message that the IOAPIC or an MSI source sent.
    fn take_message(&mut self) -> Option<InterruptMessage>;

    /// Whether the 8259 pair drives INTR.
    fn external_interrupt(&self) -> bool;

    /// The processor's INTA cycle: acknowledges the 8259 pair and returns its vector, the spurious one if the
    /// request is gone.
    fn acknowledge_external_interrupt(&mut self) -> Vector;

    /// Takes a pending request for power off or reset.
    fn take_power_request(&mut self) -> Option<PowerRequest>;

    /// What the windows of the machine's memory are to show.
    fn arrangement(&self) -> Arrangement {
        Arrangement::default()
    }
}
