//! The real-time clock.

use crate::Bytes;
use crate::subject::{self, digest};
use arch::Nanos;
use bus::IrqBank;
use devices::{MemorySizes, Rtc, RtcState};

/// The clock and its line.
#[derive(Debug)]
pub(super) struct Subject {
    device: Rtc,
    lines: IrqBank,
}

impl subject::Subject for Subject {
    type State = RtcState;

    fn new() -> Self {
        let lines = IrqBank::new();
        let memory = MemorySizes { below_4g: 256 << 20, above_4g: 0 };
        Self { device: Rtc::new(lines.line(8), 1_795_210_162, memory), lines }
    }

    fn act(&mut self, bytes: &mut Bytes<'_>, now: Nanos) -> u64 {
        let mut read = 0;
        match bytes.byte() % 8 {
            0..=1 => read = self.device.read(bytes.word(), now),
            2 => self.device.write(bytes.word(), bytes.byte(), now),
            3 => self.device.write_second_bank(bytes.word(), bytes.byte()),
            4 => read = self.device.read_second_bank(bytes.word()),
            _ => {
                // A register as a whole, mostly one of the clock's.
                self.device.write(0, bytes.byte() & 0x8f, now);
                self.device.write(1, bytes.byte(), now);
            }
        }
        digest(&[u64::from(read), u64::from(self.lines.levels())])
    }

    fn advance(&mut self, now: Nanos) -> u64 {
        self.device.advance(now);
        u64::from(self.lines.levels())
    }

    fn next_deadline(&self) -> Nanos {
        self.device.next_deadline()
    }

    fn save(&self) -> RtcState {
        self.device.save()
    }

    fn restore(&mut self, state: &RtcState) {
        self.device.restore(state);
    }
}
