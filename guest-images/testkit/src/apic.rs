//! The local APIC of the CPU that asks, as xAPIC or x2APIC.
//!
//! Source: SDM Vol. 3A, "Advanced Programmable Interrupt Controller (APIC)".

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::machine::cpu::{Mmio, Msr, cpuid, out8, read_msr, write_msr};
use crate::machine::percpu;
use crate::machine::trap::{self, FLUSH_VECTOR};

/// The local APIC's timer.
pub(crate) const TIMER_VECTOR: u8 = 0x41;
/// Interrupts that CPUs send themselves and each other.
pub(crate) const IPI_VECTOR: u8 = 0x52;
const SPURIOUS_VECTOR: u8 = 0xff;
/// The vector of a non-maskable interrupt.
pub(crate) const NMI_VECTOR: u8 = 2;

const ID: u16 = 0x20;
const VERSION: u16 = 0x30;
const EOI: u16 = 0xb0;
const SPURIOUS: u16 = 0xf0;
const LOGICAL_DESTINATION: u16 = 0xd0;
const DESTINATION_FORMAT: u16 = 0xe0;
pub(crate) const ICR_LOW: u16 = 0x300;
pub(crate) const ICR_HIGH: u16 = 0x310;
const LVT_TIMER: u16 = 0x320;
pub(crate) const LVT_LINT0: u16 = 0x350;
const INITIAL_COUNT: u16 = 0x380;
const CURRENT_COUNT: u16 = 0x390;
const ERROR_STATUS: u16 = 0x280;
const DIVIDE: u16 = 0x3e0;

pub(crate) const MASKED: u32 = 1 << 16;
/// Spurious-interrupt register: the local APIC is on.
const SOFTWARE_ENABLED: u32 = 1 << 8;
const APIC_BASE_ENABLED: u64 = 1 << 11;
const APIC_BASE_X2: u64 = 1 << 10;

/// Whether CPUs switch to x2APIC when they start. None goes back: there is no way but through a reset of the local APIC.
static X2APIC: AtomicBool = AtomicBool::new(false);

/// How the timer counts. SDM Vol. 3A, "APIC Timer".
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimerMode {
    /// Once, from a count.
    OneShot,
    /// Over and over, from a count.
    Periodic,
    /// Once, at a time stamp.
    Deadline,
}

/// How a local APIC is driven.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Through its page of memory.
    XApic,
    /// Through MSRs.
    X2Apic,
}

/// Whether CPUID offers the x2APIC mode.
pub(crate) fn has_x2apic() -> bool {
    cpuid(1, 0).ecx & 1 << 21 != 0
}

/// The mode in which CPUs drive their local APICs from now on when they [`start`].
pub(crate) fn chosen_mode() -> Mode {
    if X2APIC.load(Relaxed) { Mode::X2Apic } else { Mode::XApic }
}

/// Chooses the mode for all CPUs; each has to [`start`] again.
pub(crate) fn choose_mode(mode: Mode) {
    X2APIC.store(mode == Mode::X2Apic, Relaxed);
}

/// Switches this CPU's local APIC on, in the chosen mode, and leaves everything else quiet.
pub(crate) fn start() {
    let base = read_msr(Msr::ApicBase);
    match chosen_mode() {
        Mode::XApic => write_msr(Msr::ApicBase, base | APIC_BASE_ENABLED),
        Mode::X2Apic => write_msr(Msr::ApicBase, base | APIC_BASE_ENABLED | APIC_BASE_X2),
    }
    percpu::this().set_x2apic(chosen_mode() == Mode::X2Apic);
    write(SPURIOUS, SOFTWARE_ENABLED | u32::from(SPURIOUS_VECTOR));
    write(LVT_TIMER, MASKED);
    write(LVT_LINT0, MASKED);
}

/// Ends the interrupt in service that has the highest priority.
pub(crate) fn end_of_interrupt() {
    write(EOI, 0);
}

/// Brings this CPU's local APIC to rest: on, every entry of the local vector table masked, no error.
pub(crate) fn quiet() {
    write(SPURIOUS, SOFTWARE_ENABLED | u32::from(SPURIOUS_VECTOR));
    write(INITIAL_COUNT, 0);
    let last = version() >> 16 & 0xff;
    for (index, register) in [LVT_TIMER, 0x360, LVT_LINT0, 0x370, 0x340, 0x330, 0x2f0].into_iter().enumerate()
    {
        if u32::try_from(index).is_ok_and(|index| index <= last) {
            write(register, MASKED);
        }
    }
    write(ERROR_STATUS, 0);
    write(ERROR_STATUS, 0);
}

/// Whether this CPU's local APIC is driven through MSRs.
#[inline(always)]
pub(crate) fn is_x2apic() -> bool {
    percpu::is_x2apic()
}

/// Whether CPUID offers the TSC-deadline mode.
pub(crate) fn has_deadline() -> bool {
    cpuid(1, 0).ecx & 1 << 24 != 0
}

pub(crate) fn read(register: u16) -> u32 {
    if is_x2apic() {
        crate::machine::cpu::halves(read_msr(Msr::X2Apic(register)))[0]
    } else {
        Mmio::LocalApic.read(register)
    }
}

#[inline(always)]
pub(crate) fn write(register: u16, value: u32) {
    if is_x2apic() {
        write_msr(Msr::X2Apic(register), u64::from(value));
    } else {
        Mmio::LocalApic.write(register, value);
    }
}

/// The local APIC's identifier, as wide as its mode has it.
pub(crate) fn id() -> u32 {
    if is_x2apic() { read(ID) } else { read(ID) >> 24 }
}

/// How a logical destination is compared with a local APIC's own, in xAPIC mode.
#[derive(Clone, Copy)]
pub(crate) enum Model {
    /// Eight bits, one a CPU.
    Flat,
    /// A cluster's number in the upper four bits, one bit a CPU in the lower four.
    Cluster,
}

/// Sets this CPU's logical destination (8 bits) in xAPIC mode, and the model.
pub(crate) fn set_logical_destination(model: Model, destination: u8) {
    let format = match model {
        Model::Flat => 0xffff_ffff,
        Model::Cluster => 0x0fff_ffff,
    };
    write(DESTINATION_FORMAT, format);
    write(LOGICAL_DESTINATION, u32::from(destination) << 24);
}

/// This CPU's logical destination register.
pub(crate) fn logical_destination() -> u32 {
    read(LOGICAL_DESTINATION)
}

/// Version register: version in the low byte, last LVT entry in bits 16 to 23.
pub(crate) fn version() -> u32 {
    read(VERSION)
}

/// Called by the trap handler for each interrupt: ends it where it came from.
pub(crate) fn acknowledge(vector: u8) {
    // Nearly all: what an interrupt costs is measured with this.
    if (TIMER_VECTOR..FLUSH_VECTOR).contains(&vector) {
        return write(EOI, 0);
    }
    match vector {
        SPURIOUS_VECTOR => {}
        NMI_VECTOR => trap::call_hook(vector),
        FLUSH_VECTOR => {
            trap::call_hook(vector);
            write(EOI, 0);
        }
        0x30..=0x37 => out8(0x20, 0x20),
        0x38..=0x3f => {
            out8(0xa0, 0x20);
            out8(0x20, 0x20);
        }
        _ => write(EOI, 0),
    }
}

/// Programs the timer's mode; nothing is armed yet.
pub(crate) fn set_timer(mode: TimerMode) {
    let mode_bits = match mode {
        TimerMode::OneShot => 0,
        TimerMode::Periodic => 1 << 17,
        TimerMode::Deadline => 2 << 17,
    };
    write(DIVIDE, 0b1011); // divide by 1
    write(LVT_TIMER, mode_bits | u32::from(TIMER_VECTOR));
}

/// Masks and disarms the timer.
pub(crate) fn stop_timer() {
    write(INITIAL_COUNT, 0);
    write(LVT_TIMER, MASKED | u32::from(TIMER_VECTOR));
}

/// Starts a count in the one-shot and periodic modes; 0 stops.
pub(crate) fn arm_count(count: u32) {
    write(INITIAL_COUNT, count);
}

/// The running count.
pub(crate) fn current_count() -> u32 {
    read(CURRENT_COUNT)
}

/// Arms the deadline mode; 0 disarms.
pub(crate) fn arm_deadline(tsc: u64) {
    write_msr(Msr::TscDeadline, tsc);
}
