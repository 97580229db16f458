//! How software reads and writes the registers: through memory in xAPIC mode, through MSRs in x2APIC mode.
//!
//! SDM Vol. 3A, "Local APIC Register Address Map", "x2APIC Register Address Space", "Reserved Bit Checking".

use super::spec::{
    Command, DFR_FLAT, DIVIDE_WRITABLE, Errors, FIRST_LEGAL_VECTOR, Lvt, LvtEntry, Register, SVR_ENABLED,
    SVR_NO_FOCUS, Shorthand, low_byte, svr_writable, version, x2apic_logical,
};
use super::{Effect, GeneralProtection, Ipi, LocalApic, Mode, Recipients};
use arch::{Msr, Tsc, Vector, Width};
use bus::{DeliveryMode, Destination, InterruptMessage, TriggerMode};

/// The EOI register in x2APIC mode, the one MSR of the range that is hot.
const X2APIC_EOI: Msr = Msr(0x80b);

impl LocalApic {
    /// A read of `width` at `offset` in the register page. Every register is 32 bits wide at a multiple of 16;
    /// the manual leaves other reads undefined: parts of a register read as such, all else as zero. Outside of
    /// xAPIC mode nothing answers: all ones.
    pub fn read_mmio(&mut self, offset: u16, width: Width, now: Tsc) -> u64 {
        if self.mode != Mode::XApic {
            return width.mask();
        }
        let Some(register) = mmio_register(offset) else {
            self.note_error(Errors::ILLEGAL_REGISTER);
            return 0;
        };
        let value = u64::from(self.read(register, now));
        match offset & 0xf {
            byte @ 0..4 => value >> (byte * 8) & width.mask(),
            _ => 0,
        }
    }

    /// A write of `width` at `offset` in the register page. Only aligned 32-bit writes count; the manual leaves
    /// others undefined. Outside of xAPIC mode nothing listens.
    #[inline]
    pub fn write_mmio(&mut self, offset: u16, width: Width, value: u64, now: Tsc) -> Effect {
        if offset & 0xf != 0 || width != Width::Four || self.mode != Mode::XApic {
            return Effect::None;
        }
        match mmio_register(offset) {
            Some(Register::EndOfInterrupt) => self.end_of_interrupt(),
            Some(register) => self.write(register, Command(value).low(), now),
            None => {
                self.note_error(Errors::ILLEGAL_REGISTER);
                Effect::None
            }
        }
    }

    /// Reads IA32_APIC_BASE, IA32_TSC_DEADLINE, or an MSR of the x2APIC range.
    ///
    /// # Errors
    /// [`GeneralProtection`] where the processor raises it.
    pub fn read_msr(&mut self, msr: Msr, now: Tsc) -> Result<u64, GeneralProtection> {
        match msr {
            Msr::APIC_BASE => Ok(self.base()),
            Msr::TSC_DEADLINE if self.has_tsc_deadline() => Ok(self.tsc_deadline(now).0),
            #[expect(clippy::wildcard_enum_match_arm, reason = "all other registers are read alike")]
            _ => match self.x2apic_register(msr)? {
                Register::EndOfInterrupt | Register::SelfIpi => Err(GeneralProtection),
                Register::CommandLow => Ok(self.command.0),
                register => Ok(u64::from(self.read(register, now))),
            },
        }
    }

    /// Writes IA32_APIC_BASE, IA32_TSC_DEADLINE, or an MSR of the x2APIC range.
    ///
    /// # Errors
    /// [`GeneralProtection`] where the processor raises it; nothing changes then.
    #[inline]
    pub fn write_msr(&mut self, msr: Msr, value: u64, now: Tsc) -> Result<Effect, GeneralProtection> {
        if msr == X2APIC_EOI && self.mode == Mode::X2Apic && value == 0 {
            return Ok(self.end_of_interrupt());
        }
        self.write_other_msr(msr, value, now)
    }

    fn write_other_msr(&mut self, msr: Msr, value: u64, now: Tsc) -> Result<Effect, GeneralProtection> {
        match msr {
            Msr::APIC_BASE => self.set_base(value).map(|()| Effect::None),
            Msr::TSC_DEADLINE if self.has_tsc_deadline() => {
                self.set_tsc_deadline(Tsc(value), now);
                Ok(Effect::None)
            }
            _ => {
                let register = self.x2apic_register(msr)?;
                let allowed = self.x2apic_writable(register).ok_or(GeneralProtection)?;
                if value & !allowed != 0 {
                    return Err(GeneralProtection);
                }
                if register == Register::CommandLow {
                    let command = Command(value);
                    let writable = command.low() & Command::LOW_WRITABLE;
                    return Ok(self.send(Command::from_halves(command.high(), writable)));
                }
                Ok(self.write(register, Command(value).low(), now))
            }
        }
    }

    /// The ID and the vector that a write of `value` to the command register is for, if it sends a fixed interrupt to one
    /// processor in x2APIC mode.
    #[inline]
    pub(crate) fn command_to_one(&self, value: u64) -> Option<(u32, Vector)> {
        // Destination, level assert and vector; all other bits are clear.
        const PLAIN: u64 = 0xffff_ffff_0000_40ff;
        let command = Command(value);
        let is_plain =
            self.mode == Mode::X2Apic && value & !PLAIN == 0 && command.vector().0 >= FIRST_LEGAL_VECTOR;
        is_plain.then_some((command.high(), command.vector()))
    }

    /// The command register was written with `value`, which [`Self::command_to_one`] knew.
    #[inline]
    pub(crate) const fn note_command(&mut self, value: u64) {
        self.command = Command(value);
    }

    /// IA32_TSC_DEADLINE: zero when the timer is disarmed or in another mode.
    pub fn tsc_deadline(&self, now: Tsc) -> Tsc {
        self.timer.tsc_deadline(now)
    }

    /// Writes IA32_TSC_DEADLINE: the timer fires when the guest's TSC reaches `deadline`, at once when it has;
    /// zero disarms. Ignored unless the timer is in that mode.
    #[inline]
    pub fn set_tsc_deadline(&mut self, deadline: Tsc, now: Tsc) {
        self.advance(now);
        self.timer.set_tsc_deadline(deadline);
        self.advance(now);
    }

    fn has_tsc_deadline(&self) -> bool {
        self.config.features.contains(super::Features::TSC_DEADLINE)
    }

    pub(super) fn read(&mut self, register: Register, now: Tsc) -> u32 {
        if register == Register::CurrentCount {
            self.advance(now);
            return self.timer.current(now);
        }
        self.shown(register)
    }

    /// What a register reads as that does not change by itself; the current count, which does, counts as zero.
    #[inline]
    pub(super) fn shown(&self, register: Register) -> u32 {
        match register {
            Register::Id => match self.mode {
                Mode::XApic | Mode::Disabled => self.config.id << 24,
                Mode::X2Apic => self.config.id,
            },
            Register::Version => version(self.config.features),
            Register::TaskPriority => self.task_priority.into(),
            Register::ArbitrationPriority => self.arbitration_priority().into(),
            Register::ProcessorPriority => self.processor_priority().into(),
            Register::EndOfInterrupt | Register::RemoteRead | Register::SelfIpi | Register::CurrentCount => 0,
            Register::LogicalDestination => match self.mode {
                Mode::XApic | Mode::Disabled => self.logical_destination,
                Mode::X2Apic => x2apic_logical(self.config.id),
            },
            Register::DestinationFormat => self.destination_format,
            Register::SpuriousVector => self.spurious,
            Register::InService(index) => self.in_service.register(index),
            Register::Trigger(index) => self.triggered.register(index),
            Register::Request(index) => self.requested.register(index),
            Register::ErrorStatus => self.errors.bits().into(),
            Register::CommandLow => self.command.low(),
            Register::CommandHigh => self.command.high(),
            Register::Lvt(entry) => self.entry(entry).0,
            Register::InitialCount => self.timer.initial(),
            Register::Divide => self.timer.divide(),
        }
    }

    /// Writes a register. Reserved bits were refused before in x2APIC mode and are ignored in xAPIC mode.
    fn write(&mut self, register: Register, value: u32, now: Tsc) -> Effect {
        match register {
            Register::TaskPriority => self.set_task_priority(low_byte(value).0),
            Register::EndOfInterrupt => return self.end_of_interrupt(),
            Register::LogicalDestination => self.logical_destination = value & 0xff00_0000,
            Register::DestinationFormat => self.destination_format = value | (DFR_FLAT >> 4),
            Register::SpuriousVector => self.write_spurious(value, now),
            Register::ErrorStatus => {
                self.errors = self.new_errors;
                self.new_errors = Errors::empty();
            }
            Register::CommandLow => {
                return self.send(Command::from_halves(self.command.high(), value & Command::LOW_WRITABLE));
            }
            Register::CommandHigh => {
                self.command = Command::from_halves(value & 0xff00_0000, self.command.low());
            }
            Register::Lvt(entry) => self.write_entry(entry, value, now),
            Register::InitialCount => {
                self.advance(now);
                self.timer.set_initial(value, now);
            }
            Register::Divide => {
                self.advance(now);
                self.timer.set_divide(value & DIVIDE_WRITABLE, now);
            }
            Register::SelfIpi => self.send_to_self(low_byte(value), TriggerMode::Edge),
            // Read-only.
            Register::Id
            | Register::Version
            | Register::ArbitrationPriority
            | Register::ProcessorPriority
            | Register::RemoteRead
            | Register::InService(_)
            | Register::Trigger(_)
            | Register::Request(_)
            | Register::CurrentCount => {}
        }
        Effect::None
    }

    fn write_spurious(&mut self, value: u32, now: Tsc) {
        // The timer may have run out before its entry is masked.
        self.advance(now);
        // In x2APIC mode the bit was refused before.
        self.spurious = value & (svr_writable(self.config.features) | SVR_NO_FOCUS);
        if !self.is_software_enabled() {
            for entry in &mut self.lvt {
                *entry = Lvt(entry.0 | Lvt::MASK);
            }
        }
    }

    fn write_entry(&mut self, entry: LvtEntry, value: u32, now: Tsc) {
        // What happened before the write happened under the old entry.
        self.advance(now);
        let mask = if self.spurious & SVR_ENABLED != 0 { 0 } else { Lvt::MASK };
        let kept = self.entry(entry).0 & entry.kept();
        let new = Lvt(value & entry.writable(self.config.features) | mask | kept);
        self.lvt[entry as usize] = new;
        match entry {
            LvtEntry::Timer => self.timer.set_mode(new.timer_mode()),
            LvtEntry::Lint0 | LvtEntry::Lint1 => self.level_entry_written(entry, new),
            LvtEntry::Thermal | LvtEntry::Performance | LvtEntry::Error => {}
        }
    }

    /// A pin's entry is written: one that is no longer level-triggered has no remote IRR, and a level that was masked is
    /// requested as soon as it may.
    fn level_entry_written(&mut self, entry: LvtEntry, new: Lvt) {
        if new.trigger() == TriggerMode::Edge || new.mode() != Some(DeliveryMode::Fixed) {
            self.lvt[entry as usize] = Lvt(new.0 & !Lvt::REMOTE_IRR);
        }
        self.look_at_levels(None);
    }

    /// The interrupt command register is written: sends what it says.
    fn send(&mut self, command: Command) -> Effect {
        self.command = command;
        let Some(mode) = command.mode() else { return Effect::None };
        if command.is_deassert() && mode == DeliveryMode::Init {
            return Effect::None;
        }
        let fixed = match mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority => true,
            DeliveryMode::Smi
            | DeliveryMode::Nmi
            | DeliveryMode::Init
            | DeliveryMode::StartUp
            | DeliveryMode::ExtInt => false,
        };
        if fixed && command.vector().0 < FIRST_LEGAL_VECTOR {
            self.note_error(Errors::SEND_ILLEGAL_VECTOR);
            return Effect::None;
        }
        let recipients = match command.shorthand() {
            Shorthand::None => Recipients::Destination,
            Shorthand::All => Recipients::All,
            Shorthand::Others => Recipients::Others,
            Shorthand::Myself => {
                // Only fixed interrupts can be sent to oneself by shorthand.
                if fixed {
                    self.send_to_self(command.vector(), TriggerMode::Edge);
                }
                return Effect::None;
            }
        };
        let address = match self.mode {
            Mode::XApic | Mode::Disabled => command.high() >> 24,
            Mode::X2Apic => command.high(),
        };
        let destination = match (command.is_logical(), self.mode) {
            (true, _) => Destination::Logical(address),
            // Not the 8-bit broadcast, but an ID that no processor has.
            (false, Mode::X2Apic) if address == 0xff && recipients == Recipients::Destination => {
                return Effect::None;
            }
            (false, _) => Destination::Physical(address),
        };
        // The trigger mode of an IPI is edge, whatever the register says (SDM Vol. 3A, "Interrupt Command
        // Register (ICR)": it counts for INIT level de-assert alone).
        let message =
            InterruptMessage { destination, mode, trigger: TriggerMode::Edge, vector: command.vector() };
        Effect::SendIpi(Ipi { message, recipients })
    }

    pub(super) fn send_to_self(&mut self, vector: Vector, trigger: TriggerMode) {
        if vector.0 < FIRST_LEGAL_VECTOR {
            self.note_error(Errors::SEND_ILLEGAL_VECTOR);
        } else if self.is_software_enabled() {
            self.request(vector, trigger);
        }
    }

    /// The register behind an MSR of the x2APIC range.
    fn x2apic_register(&self, msr: Msr) -> Result<Register, GeneralProtection> {
        if self.mode != Mode::X2Apic || !msr.is_x2apic() {
            return Err(GeneralProtection);
        }
        match Register::from_number(low_byte(msr.0).0) {
            // These exist in memory alone.
            Some(
                Register::ArbitrationPriority
                | Register::RemoteRead
                | Register::DestinationFormat
                | Register::CommandHigh,
            )
            | None => Err(GeneralProtection),
            Some(register) => Ok(register),
        }
    }

    /// The bits that may be written to a register in x2APIC mode without a fault, `None` for read-only ones.
    fn x2apic_writable(&self, register: Register) -> Option<u64> {
        match register {
            Register::TaskPriority | Register::SelfIpi => Some(0xff),
            Register::EndOfInterrupt | Register::ErrorStatus => Some(0),
            Register::SpuriousVector => Some(svr_writable(self.config.features).into()),
            Register::CommandLow => {
                let low = Command::LOW_WRITABLE | Command::DELIVERY_STATUS;
                Some(0xffff_ffff_0000_0000 | u64::from(low))
            }
            Register::Lvt(entry) => Some((entry.writable(self.config.features) | entry.read_only()).into()),
            Register::InitialCount => Some(0xffff_ffff),
            Register::Divide => Some(DIVIDE_WRITABLE.into()),
            Register::Id
            | Register::Version
            | Register::ArbitrationPriority
            | Register::ProcessorPriority
            | Register::RemoteRead
            | Register::LogicalDestination
            | Register::DestinationFormat
            | Register::InService(_)
            | Register::Trigger(_)
            | Register::Request(_)
            | Register::CommandHigh
            | Register::CurrentCount => None,
        }
    }
}

/// The register at `offset` in the page, `None` for reserved addresses.
#[inline]
pub(super) fn mmio_register(offset: u16) -> Option<Register> {
    let number = u8::try_from(offset >> 4).ok()?;
    // The SELF IPI register exists in x2APIC mode alone.
    Register::from_number(number).filter(|register| *register != Register::SelfIpi)
}
