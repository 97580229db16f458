//! What the firmware's tables say of the machine: CPUs, interrupt controllers, power, the timer.
//!
//! Advanced Configuration and Power Interface specification, "ACPI Software Programming Model".

mod parse;
mod soft_off;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use arch::{Hpa, Port};

pub use parse::{AcpiError, PhysicalMemory, parse};

use crate::memory::direct_map;

/// The machine as the tables describe it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Platform {
    /// CPUs that can be used, in the tables' order.
    pub cpus: Vec<Cpu>,
    /// I/O APICs.
    pub io_apics: Vec<IoApic>,
    /// ISA interrupts that are not where, or how, ISA has them.
    pub overrides: Vec<Override>,
    /// Physical address of the local APICs' registers.
    pub local_apic: u64,
    /// The power-management timer.
    pub pm_timer: Option<PmTimer>,
    /// How to turn the machine off and reset it.
    pub power: Power,
}

/// A CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// Its local APIC's ID.
    pub apic_id: u32,
}

/// An I/O APIC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IoApic {
    /// Its ID.
    pub id: u8,
    /// Physical address of its registers.
    pub address: u64,
    /// Global system interrupt of its first input.
    pub first_gsi: u32,
}

/// Which level of a line means an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Polarity {
    /// High.
    ActiveHigh,
    /// Low.
    ActiveLow,
}

/// What of a line means an interrupt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trigger {
    /// Its rise or fall.
    Edge,
    /// Its state.
    Level,
}

/// An ISA interrupt that differs from the rule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Override {
    /// The line's number on the 8259s.
    pub irq: u8,
    /// Where it is.
    pub line: IsaLine,
}

/// Where and how an ISA interrupt comes in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IsaLine {
    /// Global system interrupt.
    pub gsi: u32,
    /// Its polarity.
    pub polarity: Polarity,
    /// Its trigger.
    pub trigger: Trigger,
}

/// The ACPI timer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PmTimer {
    /// The port of its counter.
    pub port: Port,
    /// Whether the counter has 32 bits rather than 24.
    pub is_32_bit: bool,
}

/// How to turn the machine off and on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Power {
    /// Soft off, state S5.
    pub soft_off: Option<SoftOff>,
    /// Port and value that switch the machine to ACPI mode.
    pub acpi_enable: Option<(Port, u8)>,
    /// Register and value that reset the machine.
    pub reset: Option<(Register, u8)>,
}

/// How to enter state S5.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SoftOff {
    /// PM1a control register.
    pub pm1a_control: Port,
    /// PM1b control register, where there is one.
    pub pm1b_control: Option<Port>,
    /// Sleep type for PM1a.
    pub type_a: u8,
    /// Sleep type for PM1b.
    pub type_b: u8,
}

/// A register in the tables' generic form.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Register {
    /// The address space.
    pub place: Place,
    /// The address in it.
    pub address: u64,
}

/// An address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// I/O ports.
    Port,
    /// Physical memory.
    Memory,
}

/// Where a PC's first I/O APIC is unless tables say otherwise. 82093AA datasheet, "Register Description".
const IO_APIC_DEFAULT: u64 = 0xfec0_0000;
/// Where local APICs are after reset. SDM Vol. 3A, "Local APIC Status and Location".
const LOCAL_APIC_DEFAULT: u64 = 0xfee0_0000;

impl Platform {
    /// What every PC has, for firmware without tables: the CPU that booted, with `apic_id`, and one I/O APIC.
    pub fn plain_pc(apic_id: u32) -> Self {
        Self {
            cpus: [Cpu { apic_id }].into(),
            io_apics: [IoApic { id: 0, address: IO_APIC_DEFAULT, first_gsi: 0 }].into(),
            overrides: Vec::new(),
            local_apic: LOCAL_APIC_DEFAULT,
            pm_timer: None,
            power: Power::default(),
        }
    }

    /// Where the ISA interrupt `irq` comes in: as the overrides say, or where ISA has it.
    pub fn isa_line(&self, irq: u8) -> IsaLine {
        self.overrides.iter().find(|entry| entry.irq == irq).map_or(
            IsaLine { gsi: u32::from(irq), polarity: Polarity::ActiveHigh, trigger: Trigger::Edge },
            |entry| entry.line,
        )
    }
}

/// The machine's memory, as far as it is mapped.
struct Mapped;

impl PhysicalMemory for Mapped {
    fn bytes(&self, hpa: Hpa, length: u64) -> Option<&[u8]> {
        // SAFETY: only firmware tables are asked for, and nobody writes those.
        unsafe { direct_map::bytes(hpa, length) }
    }
}

/// Reads the machine's tables from the root pointer at `rsdp` on.
///
/// # Safety
/// `rsdp` is what the boot loader reported.
pub(crate) unsafe fn read(rsdp: Hpa) -> Result<Platform, AcpiError> {
    parse(&Mapped, rsdp)
}
