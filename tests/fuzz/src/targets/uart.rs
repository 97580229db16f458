//! The serial port. What its pipe holds is not part of its state, so nothing is typed while two are compared: input
//! comes by loopback.

use crate::Bytes;
use crate::subject::{self, digest};
use arch::Nanos;
use bus::{IrqBank, Pipe, PipeEnd};
use devices::{Uart, UartState};

/// The port, its line, and the other end of its pipe.
#[derive(Debug)]
pub(super) struct Subject {
    device: Uart,
    lines: IrqBank,
    terminal: PipeEnd,
}

impl Subject {
    /// What was sent, how the line is, and how it moved since the last call.
    fn moved(&self) -> u64 {
        let rose = self.lines.take_changes().map_or(0, |changes| changes.rose);
        let sent = core::iter::from_fn(|| self.terminal.receive()).map(u64::from).collect::<Vec<_>>();
        digest(&[u64::from(rose), u64::from(self.lines.levels()), digest(&sent)])
    }
}

impl subject::Subject for Subject {
    type State = UartState;

    fn new() -> Self {
        let (terminal, console) = Pipe::ends();
        let lines = IrqBank::new();
        Self { device: Uart::new(console, lines.line(4)), lines, terminal }
    }

    fn act(&mut self, bytes: &mut Bytes<'_>, now: Nanos) -> u64 {
        let mut read = 0;
        match bytes.byte() % 8 {
            0..=2 => read = self.device.read(bytes.word(), now),
            3..=6 => self.device.write(bytes.word(), bytes.byte(), now),
            _ => self.device.poll(now),
        }
        digest(&[u64::from(read), self.moved()])
    }

    fn advance(&mut self, now: Nanos) -> u64 {
        self.device.advance(now);
        self.moved()
    }

    fn next_deadline(&self) -> Nanos {
        self.device.next_deadline()
    }

    fn save(&self) -> UartState {
        self.device.save()
    }

    fn restore(&mut self, state: &UartState) {
        self.device.restore(state);
        let _restored = self.lines.take_changes();
    }
}
