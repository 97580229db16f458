//! ACPI fixed hardware: PM1a event and control registers, the power-management timer, general-purpose event block 0,
//! and the SMI command port. ACPI Specification, "ACPI Hardware Specification".
//!
//! The machine is in ACPI mode from the start (SCI_EN reads 1), as firmware that hands over to a kernel leaves it; the
//! two commands of the SMI command port leave and enter it, at once. The only sleep state is S5. The system control
//! interrupt is level-triggered: up in ACPI mode while a status bit and its enable bit are both set. In legacy mode
//! events set their status and nothing else, as there is no system-management mode to tell.
//!
//! Registers are read and written by any bytes of them; an access that crosses from one 4-byte block to the next
//! is split by the platform. What is not a register reads zero. The SMI command port and its status byte keep what was
//! written.

mod spec;
#[cfg(test)]
mod tests;

use arch::platform_layout::{ACPI_DISABLE, ACPI_ENABLE, PM_TIMER_HZ, SLEEP_TYPE_S5};
use arch::{Nanos, Width};
use bus::{IrqLine, PowerRequest};
use spec::{CONTROL_KEPT, Events, Register, SCI_ENABLE, SLEEP_ENABLE, SLEEP_TYPE_SHIFT, SMI_ENABLE_VALUE};

use crate::clock::Frequency;
use crate::lanes::{extract, insert, low_half, low_word};

const CLOCK: Frequency = Frequency::new(PM_TIMER_HZ);

/// How many bits the timer counts in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TimerWidth {
    /// 24 bits: the status bit sets every 2.3 seconds.
    Bits24,
    /// 32 bits: the status bit sets every 10 minutes.
    Bits32,
}

impl TimerWidth {
    const fn bits(self) -> u32 {
        match self {
            Self::Bits24 => 24,
            Self::Bits32 => 32,
        }
    }
}

/// Who hears of events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// System-management mode: nobody here.
    Legacy,
    /// The operating system, by the SCI.
    Acpi,
}

/// Everything about the block that a snapshot needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AcpiPmState {
    status: Events,
    enable: Events,
    /// Without [`SCI_ENABLE`], which is `mode`.
    control: u16,
    mode: Mode,
    general_status: u16,
    general_enable: u16,
    /// The SMI command port and its status byte.
    command: [u8; 2],
    /// Up to when the timer's status bit is right.
    looked_at: Nanos,
}

/// The fixed power-management hardware.
#[derive(Debug)]
pub struct AcpiPm {
    timer_width: TimerWidth,
    sci: IrqLine,
    state: AcpiPmState,
}

impl AcpiPm {
    /// The block after reset, with a timer of `timer_width`, which interrupts through `sci`.
    pub fn new(timer_width: TimerWidth, sci: IrqLine) -> Self {
        let state = AcpiPmState {
            status: Events::empty(),
            enable: Events::empty(),
            control: 0,
            mode: Mode::Acpi,
            general_status: 0,
            general_enable: 0,
            command: [0; 2],
            looked_at: Nanos(0),
        };
        Self { timer_width, sci, state }
    }

    /// Reads `width` at `offset` in the block; bytes past a 4-byte block's end read as ones.
    pub fn read(&mut self, offset: u16, width: Width, now: Nanos) -> u32 {
        let register = match Register::at(offset) {
            Register::Timer => low_word(CLOCK.ticks_at(now) & ((1 << self.timer_width.bits()) - 1)),
            Register::Event => {
                self.look(now);
                self.drive_sci();
                u32::from(self.state.status.bits()) | u32::from(self.state.enable.bits()) << 16
            }
            Register::Control => {
                let mode = match self.state.mode {
                    Mode::Legacy => 0,
                    Mode::Acpi => SCI_ENABLE,
                };
                u32::from(self.state.control | mode)
            }
            Register::GeneralEvent => {
                u32::from(self.state.general_status) | u32::from(self.state.general_enable) << 16
            }
        };
        extract(register, offset, width)
    }

    /// Writes `width` at `offset` in the block, and returns what that asks of the platform.
    pub fn write(&mut self, offset: u16, width: Width, value: u32, now: Nanos) -> Option<PowerRequest> {
        match Register::at(offset) {
            Register::Event => {
                self.look(now);
                // Status bits are cleared by ones: bytes that are not written write zeros.
                let status = low_half(insert(0, offset, width, value));
                self.state.status &= !Events::from_bits_truncate(status);
                let enable = insert(u32::from(self.state.enable.bits()) << 16, offset, width, value) >> 16;
                self.state.enable = Events::from_bits_truncate(low_half(enable)) & Events::ENABLES;
                self.drive_sci();
                None
            }
            Register::Control => {
                let control = low_half(insert(u32::from(self.state.control), offset, width, value));
                self.state.control = control & CONTROL_KEPT;
                let sleep_type = (control >> SLEEP_TYPE_SHIFT) & 7;
                (control & SLEEP_ENABLE != 0 && sleep_type == u16::from(SLEEP_TYPE_S5))
                    .then_some(PowerRequest::Off)
            }
            Register::GeneralEvent => {
                self.state.general_status &= !low_half(insert(0, offset, width, value));
                let enable = insert(u32::from(self.state.general_enable) << 16, offset, width, value) >> 16;
                self.state.general_enable = low_half(enable);
                self.drive_sci();
                None
            }
            Register::Timer => None,
        }
    }

    /// Reads the byte at `offset` of the SMI control and enable register. It says that the command port's interrupt is on,
    /// and takes no writes: firmware then knows that system-management mode is not its own to set up.
    pub fn read_smi_enable(&self, offset: u16) -> u8 {
        SMI_ENABLE_VALUE.to_le_bytes().get(usize::from(offset)).copied().unwrap_or(0)
    }

    /// Reads the SMI command port (`offset` 0) or its status byte (`offset` 1).
    pub fn read_command(&self, offset: u16) -> u8 {
        self.state.command[usize::from(offset & 1)]
    }

    /// Writes the SMI command port (`offset` 0) or its status byte (`offset` 1).
    pub fn write_command(&mut self, offset: u16, value: u8) {
        self.state.command[usize::from(offset & 1)] = value;
        if offset & 1 == 0 {
            match value {
                ACPI_ENABLE => self.state.mode = Mode::Acpi,
                ACPI_DISABLE => self.state.mode = Mode::Legacy,
                _ => {}
            }
            self.drive_sci();
        }
    }

    /// General-purpose event `number` (modulo 16) happened.
    pub fn raise_general_event(&mut self, number: u8) {
        self.state.general_status |= 1 << (number & 15);
        self.drive_sci();
    }

    /// Somebody pressed the power button: the guest's operating system is asked to shut down.
    pub fn press_power_button(&mut self) {
        self.state.status.insert(Events::POWER_BUTTON);
        self.drive_sci();
    }

    /// Sets the timer's status bit if it became due up to `now`.
    pub fn advance(&mut self, now: Nanos) {
        self.look(now);
        self.drive_sci();
    }

    /// When [`Self::advance`] must be called next: when an enabled timer event comes that is not shown yet.
    pub fn next_deadline(&self) -> Nanos {
        if !self.state.enable.contains(Events::TIMER) || self.state.status.contains(Events::TIMER) {
            return Nanos::NEVER;
        }
        CLOCK.time_of((self.half_cycles(self.state.looked_at) + 1) << (self.timer_width.bits() - 1))
    }

    /// As after a reset of the machine. The timer runs on.
    pub fn reset(&mut self, now: Nanos) {
        *self = Self::new(self.timer_width, self.sci.clone());
        self.state.looked_at = now;
        self.drive_sci();
    }

    /// The state, to be restored later.
    pub fn save(&self) -> AcpiPmState {
        self.state.clone()
    }

    /// Becomes the block that [`Self::save`] saw.
    pub fn restore(&mut self, state: &AcpiPmState) {
        self.state = state.clone();
        self.drive_sci();
    }

    /// "TMR_STS is set any time the most significant bit of the counter changes, either way."
    fn look(&mut self, now: Nanos) {
        if now > self.state.looked_at {
            if self.half_cycles(now) != self.half_cycles(self.state.looked_at) {
                self.state.status.insert(Events::TIMER);
            }
            self.state.looked_at = now;
        }
    }

    fn half_cycles(&self, now: Nanos) -> u64 {
        CLOCK.ticks_at(now) >> (self.timer_width.bits() - 1)
    }

    fn drive_sci(&self) {
        let fixed = self.state.status.intersects(self.state.enable);
        let general = self.state.general_status & self.state.general_enable != 0;
        self.sci.set(self.state.mode == Mode::Acpi && (fixed || general));
    }
}
