//! The 16550A serial port. PC16550D datasheet; IBM PC/AT technical reference for OUT2 as the interrupt gate.
//!
//! Characters are sent at once while the console pipe has room. When it has none they wait in the transmit FIFO
//! (or holding register), "transmitter holding register empty" stays clear, and the port looks again every
//! [`RETRY`]; characters beyond the FIFO are lost, as on hardware. Received characters are taken from the pipe only
//! when there is room, so the line never overruns; loopback can. Modem inputs show a terminal that is always there.
//!
//! Every register is one byte; the platform splits wider accesses into bytes at successive ports.
//!
//! Not modelled: the time a character takes to send, word lengths below 8 (all 8 bits travel), parity and framing
//! errors, breaks, DMA mode.

mod fifo;
mod spec;
#[cfg(test)]
mod tests;

use arch::Nanos;
use bus::{IrqLine, PipeEnd};
use fifo::Fifo;
use spec::{
    BASE_BAUD, FIFO_BYTES, FifoControl, IDENTIFICATION_FIFOS_ON, Interrupt, InterruptEnable, LineControl,
    LineStatus, ModemControl, ModemStatus, ReadRegister, WriteRegister,
};

use crate::clock::SECOND_NS;

/// How long the port waits before it looks whether a full pipe has drained.
const RETRY: Nanos = Nanos(1_000_000);
/// Silence after which characters below the trigger level are reported, in characters.
const TIMEOUT_CHARACTERS: u64 = 4;

/// Where the receive timeout stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ReceiveTimeout {
    Off,
    /// Characters wait; they are reported at this time.
    Until(Nanos),
    Expired,
}

/// Everything about the port that a snapshot needs; the pipe's contents are not part of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UartState {
    divisor: u16,
    interrupt_enable: InterruptEnable,
    fifo_control: FifoControl,
    line_control: LineControl,
    modem_control: ModemControl,
    line_errors: LineStatus,
    modem_deltas: ModemStatus,
    scratch: u8,
    receive: Fifo,
    transmit: Fifo,
    receive_timeout: ReceiveTimeout,
    /// The transmit-empty interrupt condition, set when the transmitter empties, cleared by IIR read or THR write.
    transmit_empty_pending: bool,
    /// When to try a full pipe again, [`Nanos::NEVER`] while nothing waits.
    retry: Nanos,
}

impl UartState {
    fn after_reset() -> Self {
        Self {
            divisor: 1,
            interrupt_enable: InterruptEnable::empty(),
            fifo_control: FifoControl::empty(),
            line_control: LineControl::empty(),
            modem_control: ModemControl::empty(),
            line_errors: LineStatus::empty(),
            modem_deltas: ModemStatus::empty(),
            scratch: 0,
            receive: Fifo::default(),
            transmit: Fifo::default(),
            receive_timeout: ReceiveTimeout::Off,
            transmit_empty_pending: false,
            retry: Nanos::NEVER,
        }
    }
}

/// A 16550A.
#[derive(Debug)]
pub struct Uart {
    console: PipeEnd,
    irq: IrqLine,
    state: UartState,
}

impl Uart {
    /// A port after reset, between `console` and `irq`.
    pub fn new(console: PipeEnd, irq: IrqLine) -> Self {
        Self { console, irq, state: UartState::after_reset() }
    }

    /// Sends `byte` of another source out of the console pipe, unless that is full: then the byte is lost.
    pub fn print(&self, byte: u8) {
        let _sent = self.console.send(byte);
    }

    /// Reads the register at `offset` (modulo 8).
    pub fn read(&mut self, offset: u16, now: Nanos) -> u8 {
        self.expire_timeout(now);
        let value = match ReadRegister::at(offset, self.state.line_control) {
            ReadRegister::ReceiveBuffer => self.read_receive_buffer(now),
            ReadRegister::DivisorLow => self.state.divisor.to_le_bytes()[0],
            ReadRegister::InterruptEnable => self.state.interrupt_enable.bits(),
            ReadRegister::DivisorHigh => self.state.divisor.to_le_bytes()[1],
            ReadRegister::InterruptIdentification => self.read_identification(),
            ReadRegister::LineControl => self.state.line_control.bits(),
            ReadRegister::ModemControl => self.state.modem_control.bits(),
            ReadRegister::LineStatus => self.read_line_status(now),
            ReadRegister::ModemStatus => {
                let value = self.modem_inputs() | self.state.modem_deltas;
                self.state.modem_deltas = ModemStatus::empty();
                value.bits()
            }
            ReadRegister::Scratch => self.state.scratch,
        };
        self.drive_irq();
        value
    }

    /// Writes the register at `offset` (modulo 8).
    pub fn write(&mut self, offset: u16, value: u8, now: Nanos) {
        self.expire_timeout(now);
        let [low, high] = self.state.divisor.to_le_bytes();
        match WriteRegister::at(offset, self.state.line_control) {
            WriteRegister::TransmitHolding => self.write_transmit_holding(value, now),
            WriteRegister::DivisorLow => self.state.divisor = u16::from_le_bytes([value, high]),
            WriteRegister::DivisorHigh => self.state.divisor = u16::from_le_bytes([low, value]),
            WriteRegister::InterruptEnable => self.write_interrupt_enable(value),
            WriteRegister::FifoControl => self.write_fifo_control(value, now),
            WriteRegister::LineControl => self.state.line_control = LineControl::from_bits_retain(value),
            WriteRegister::ModemControl => self.write_modem_control(value, now),
            WriteRegister::Status => {}
            WriteRegister::Scratch => self.state.scratch = value,
        }
        self.drive_irq();
    }

    /// Looks at the pipe: takes input that arrived, and sends what waits if there is room again.
    pub fn poll(&mut self, now: Nanos) {
        self.expire_timeout(now);
        self.flush(now);
        self.pull(now);
        self.drive_irq();
    }

    /// Runs what is due at `now`.
    pub fn advance(&mut self, now: Nanos) {
        self.expire_timeout(now);
        if now >= self.state.retry {
            self.flush(now);
        }
        self.drive_irq();
    }

    /// When [`Self::advance`] must be called next.
    #[inline]
    pub fn next_deadline(&self) -> Nanos {
        match self.state.receive_timeout {
            ReceiveTimeout::Until(time) if self.timeout_matters() => time.min(self.state.retry),
            ReceiveTimeout::Until(_) | ReceiveTimeout::Off | ReceiveTimeout::Expired => self.state.retry,
        }
    }

    /// The RESET pin: all registers and FIFOs as at power-on. Input that waits in the pipe stays there.
    pub fn reset(&mut self) {
        self.state = UartState::after_reset();
        self.drive_irq();
    }

    /// The state, to be restored later.
    pub fn save(&self) -> UartState {
        self.state.clone()
    }

    /// Becomes the port that [`Self::save`] saw.
    pub fn restore(&mut self, state: &UartState) {
        self.state = state.clone();
        self.drive_irq();
    }

    fn read_receive_buffer(&mut self, now: Nanos) -> u8 {
        let byte = self.state.receive.pop().unwrap_or(0);
        self.pull(now);
        self.rearm_timeout(now);
        byte
    }

    fn read_identification(&mut self) -> u8 {
        let interrupt = self.interrupt();
        if interrupt == Interrupt::TransmitEmpty {
            self.state.transmit_empty_pending = false;
        }
        let fifos = if self.fifos_on() { IDENTIFICATION_FIFOS_ON } else { 0 };
        interrupt.identification() | fifos
    }

    fn read_line_status(&mut self, now: Nanos) -> u8 {
        if !self.state.transmit.is_empty() {
            self.flush(now);
        }
        let mut status = self.state.line_errors;
        self.state.line_errors = LineStatus::empty();
        status.set(LineStatus::DATA_READY, !self.state.receive.is_empty());
        let empty = self.state.transmit.is_empty();
        status.set(LineStatus::TRANSMIT_HOLDING_EMPTY | LineStatus::TRANSMITTER_EMPTY, empty);
        status.bits()
    }

    #[inline]
    fn write_transmit_holding(&mut self, byte: u8, now: Nanos) {
        self.state.transmit_empty_pending = false;
        if self.state.interrupt_enable.contains(InterruptEnable::TRANSMIT_EMPTY) {
            // The interrupt goes away and comes back when the character is sent: an edge that the controller
            // must see even though no time passes between the two.
            self.drive_irq();
        }
        if self.looped_back() {
            self.receive(byte, now);
            self.state.transmit_empty_pending = true;
        } else if self.state.transmit.is_empty() && self.console.send(byte) {
            self.state.transmit_empty_pending = true;
        } else {
            self.queue(byte, now);
        }
    }

    /// Keeps a character that the pipe has no room for.
    fn queue(&mut self, byte: u8, now: Nanos) {
        if !self.fifos_on() {
            // There is one holding register, and writing it again overwrites it.
            self.state.transmit.clear();
        }
        self.state.transmit.push(byte);
        if self.state.retry == Nanos::NEVER {
            self.state.retry = now + RETRY;
        }
    }

    /// Sends what waits, as far as the pipe has room.
    fn flush(&mut self, now: Nanos) {
        if self.state.transmit.is_empty() {
            return;
        }
        while let Some(byte) = self.state.transmit.front() {
            if !self.console.send(byte) {
                self.state.retry = now + RETRY;
                return;
            }
            let _sent = self.state.transmit.pop();
        }
        self.state.retry = Nanos::NEVER;
        self.state.transmit_empty_pending = true;
    }

    fn write_interrupt_enable(&mut self, value: u8) {
        let enabled = InterruptEnable::from_bits_truncate(value);
        let newly = enabled & !self.state.interrupt_enable;
        self.state.interrupt_enable = enabled;
        if newly.contains(InterruptEnable::TRANSMIT_EMPTY) && self.state.transmit.is_empty() {
            self.state.transmit_empty_pending = true;
        }
    }

    fn write_fifo_control(&mut self, value: u8, now: Nanos) {
        let control = FifoControl::from_bits_truncate(value);
        let toggled = control.contains(FifoControl::ENABLE) != self.fifos_on();
        let enabled = control.contains(FifoControl::ENABLE);
        // "Bit 0 must be a 1 when other FCR bits are written to or they will not be programmed."
        if toggled || (enabled && control.contains(FifoControl::CLEAR_RECEIVE)) {
            self.state.receive.clear();
            self.state.receive_timeout = ReceiveTimeout::Off;
        }
        if (toggled || (enabled && control.contains(FifoControl::CLEAR_TRANSMIT)))
            && !self.state.transmit.is_empty()
        {
            self.state.transmit.clear();
            self.state.retry = Nanos::NEVER;
            self.state.transmit_empty_pending = true;
        }
        self.state.fifo_control = if enabled {
            control & !(FifoControl::CLEAR_RECEIVE | FifoControl::CLEAR_TRANSMIT)
        } else {
            FifoControl::empty()
        };
        self.pull(now);
    }

    fn write_modem_control(&mut self, value: u8, now: Nanos) {
        let before = self.modem_inputs();
        self.state.modem_control = ModemControl::from_bits_truncate(value);
        let after = self.modem_inputs();
        let changed = before ^ after;
        let deltas = &mut self.state.modem_deltas;
        deltas.set(
            ModemStatus::DELTA_CTS,
            deltas.contains(ModemStatus::DELTA_CTS) || changed.contains(ModemStatus::CTS),
        );
        deltas.set(
            ModemStatus::DELTA_DSR,
            deltas.contains(ModemStatus::DELTA_DSR) || changed.contains(ModemStatus::DSR),
        );
        deltas.set(
            ModemStatus::DELTA_DCD,
            deltas.contains(ModemStatus::DELTA_DCD) || changed.contains(ModemStatus::DCD),
        );
        if changed.contains(ModemStatus::RI) && before.contains(ModemStatus::RI) {
            deltas.insert(ModemStatus::TRAILING_RI);
        }
        self.pull(now);
    }

    /// Takes input from the pipe while there is room for it.
    fn pull(&mut self, now: Nanos) {
        if self.looped_back() {
            return;
        }
        while self.state.receive.len() < self.depth() {
            let Some(byte) = self.console.receive() else { break };
            self.receive(byte, now);
        }
    }

    /// A character arrives from the line or from the looped-back transmitter.
    fn receive(&mut self, byte: u8, now: Nanos) {
        if self.state.receive.len() >= self.depth() {
            self.state.line_errors.insert(LineStatus::OVERRUN);
            if !self.fifos_on() {
                // Without FIFOs the new character replaces the old one; a full FIFO keeps its own.
                self.state.receive.clear();
                self.state.receive.push(byte);
            }
        } else {
            self.state.receive.push(byte);
        }
        self.rearm_timeout(now);
    }

    fn rearm_timeout(&mut self, now: Nanos) {
        self.state.receive_timeout = if self.fifos_on() && !self.state.receive.is_empty() {
            ReceiveTimeout::Until(now + self.timeout_period())
        } else {
            ReceiveTimeout::Off
        };
    }

    #[inline]
    fn expire_timeout(&mut self, now: Nanos) {
        match self.state.receive_timeout {
            ReceiveTimeout::Until(time) if now >= time => {
                self.state.receive_timeout = ReceiveTimeout::Expired;
            }
            ReceiveTimeout::Until(_) | ReceiveTimeout::Off | ReceiveTimeout::Expired => {}
        }
    }

    fn timeout_period(&self) -> Nanos {
        let divisor = u64::from(self.state.divisor.max(1));
        let bits = TIMEOUT_CHARACTERS * self.state.line_control.bits_per_character();
        Nanos(bits * divisor * SECOND_NS / BASE_BAUD)
    }

    /// Whether a timeout would raise an interrupt that nothing else raises already.
    fn timeout_matters(&self) -> bool {
        self.state.interrupt_enable.contains(InterruptEnable::RECEIVED)
            && self.state.receive.len() < self.trigger()
    }

    fn modem_inputs(&self) -> ModemStatus {
        if !self.looped_back() {
            return ModemStatus::CTS | ModemStatus::DSR | ModemStatus::DCD;
        }
        let control = self.state.modem_control;
        let mut inputs = ModemStatus::empty();
        inputs.set(ModemStatus::CTS, control.contains(ModemControl::RTS));
        inputs.set(ModemStatus::DSR, control.contains(ModemControl::DTR));
        inputs.set(ModemStatus::RI, control.contains(ModemControl::OUT1));
        inputs.set(ModemStatus::DCD, control.contains(ModemControl::OUT2));
        inputs
    }

    /// The interrupt to report: the enabled condition of the highest priority.
    #[inline]
    fn interrupt(&self) -> Interrupt {
        let enabled = self.state.interrupt_enable;
        if enabled.is_empty() {
            Interrupt::None
        } else if enabled.contains(InterruptEnable::LINE_STATUS) && !self.state.line_errors.is_empty() {
            Interrupt::LineStatus
        } else if enabled.contains(InterruptEnable::RECEIVED) && self.state.receive.len() >= self.trigger() {
            Interrupt::ReceivedData
        } else if enabled.contains(InterruptEnable::RECEIVED)
            && self.state.receive_timeout == ReceiveTimeout::Expired
        {
            Interrupt::CharacterTimeout
        } else if enabled.contains(InterruptEnable::TRANSMIT_EMPTY) && self.state.transmit_empty_pending {
            Interrupt::TransmitEmpty
        } else if enabled.contains(InterruptEnable::MODEM_STATUS) && !self.state.modem_deltas.is_empty() {
            Interrupt::ModemStatus
        } else {
            Interrupt::None
        }
    }

    /// Drives the line: on a PC, OUT2 gates it, and loopback forces OUT2 off.
    #[inline]
    fn drive_irq(&self) {
        if self.state.interrupt_enable.is_empty() {
            // As while a kernel prints by polling: nothing can be pending.
            return self.irq.set(false);
        }
        let control = self.state.modem_control;
        let gate = control.contains(ModemControl::OUT2) && !control.contains(ModemControl::LOOPBACK);
        self.irq.set(gate && self.interrupt() != Interrupt::None);
    }

    #[inline]
    fn looped_back(&self) -> bool {
        self.state.modem_control.contains(ModemControl::LOOPBACK)
    }

    fn fifos_on(&self) -> bool {
        self.state.fifo_control.contains(FifoControl::ENABLE)
    }

    fn depth(&self) -> usize {
        if self.fifos_on() { FIFO_BYTES } else { 1 }
    }

    fn trigger(&self) -> usize {
        if self.fifos_on() { self.state.fifo_control.trigger() } else { 1 }
    }
}
