//! The interval timer.

use crate::Bytes;
use crate::subject::{self, digest};
use arch::Nanos;
use bus::IrqBank;
use devices::{Pit, PitState};

/// The timer and its line.
#[derive(Debug)]
pub(super) struct Subject {
    device: Pit,
    lines: IrqBank,
}

impl Subject {
    /// How the lines are, and how they moved since the last call.
    fn moved(&self) -> u64 {
        let rose = self.lines.take_changes().map_or(0, |changes| changes.rose);
        u64::from(rose) << 32 | u64::from(self.lines.levels())
    }
}

impl subject::Subject for Subject {
    type State = PitState;

    fn new() -> Self {
        let lines = IrqBank::new();
        Self { device: Pit::new(lines.line(0)), lines }
    }

    fn act(&mut self, bytes: &mut Bytes<'_>, now: Nanos) -> u64 {
        let mut read = 0;
        match bytes.byte() % 8 {
            0..=1 => read = self.device.read(bytes.word(), now),
            2..=4 => self.device.write(bytes.word(), bytes.byte(), now),
            5 => read = self.device.read_control_b(now),
            6 => self.device.write_control_b(bytes.byte(), now),
            _ => {
                // A counter with its count as a whole.
                let control = bytes.byte();
                self.device.write(3, control, now);
                self.device.write(u16::from(control >> 6), bytes.byte(), now);
                self.device.write(u16::from(control >> 6), bytes.byte(), now);
            }
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

    fn save(&self) -> PitState {
        self.device.save()
    }

    fn restore(&mut self, state: &PitState) {
        self.device.restore(state);
        let _restored = self.lines.take_changes();
    }
}
