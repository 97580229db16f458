//! The high-precision event timer.

use crate::Bytes;
use crate::subject::{self, digest};
use arch::Nanos;
use bus::{InterruptMessage, IrqBank};
use devices::{Hpet, HpetLines, HpetState};

/// The timer and its lines.
#[derive(Debug)]
pub(super) struct Subject {
    device: Hpet,
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
    type State = HpetState;

    fn new() -> Self {
        let lines = IrqBank::new();
        let wires = HpetLines {
            legacy: [0, 8].map(|number| lines.line(number)),
            routed: [16, 17, 18, 19].map(|number| lines.line(number)),
        };
        Self { device: Hpet::new(wires), lines }
    }

    fn act(&mut self, bytes: &mut Bytes<'_>, now: Nanos) -> u64 {
        let (mut read, mut message) = (0, None);
        match bytes.byte() % 8 {
            0 => {
                let width = bytes.memory_width();
                read = self.device.read(u64::from(bytes.below(0x408)), width, now);
                assert_eq!(read & !width.mask(), 0);
            }
            1 => self.device.write(u64::from(bytes.below(0x408)), bytes.memory_width(), bytes.qword(), now),
            2 => self.device.write(0x10, arch::Width::Eight, u64::from(bytes.byte()), now),
            3 => self.device.write(0xf0, arch::Width::Eight, bytes.magnitude(), now),
            4 => self.device.write(0x20, arch::Width::Four, u64::from(bytes.byte()), now),
            5 => message = self.device.take_message(),
            6 => {
                let register = 0x108 + 0x20 * u64::from(bytes.byte() % 3);
                self.device.write(register, arch::Width::Eight, bytes.magnitude(), now);
            }
            _ => {
                let timer = 0x100 + 0x20 * u64::from(bytes.byte() % 3);
                self.device.write(timer, arch::Width::Eight, u64::from(bytes.word()), now);
                self.device.write(timer + 0x14, arch::Width::Four, bytes.choose(&[0xfee0_0000, 0]), now);
            }
        }
        digest(&[read, sent(message), self.moved()])
    }

    fn advance(&mut self, now: Nanos) -> u64 {
        self.device.advance(now);
        self.moved()
    }

    fn next_deadline(&self) -> Nanos {
        self.device.next_deadline()
    }

    fn save(&self) -> HpetState {
        self.device.save()
    }

    fn restore(&mut self, state: &HpetState) {
        self.device.restore(state);
        let _restored = self.lines.take_changes();
    }
}

/// A message as a number.
pub(super) fn sent(message: Option<InterruptMessage>) -> u64 {
    let Some(message) = message else { return 0 };
    let (kind, id) = match message.destination {
        bus::Destination::Physical(id) => (1, id),
        bus::Destination::Logical(id) => (2, id),
    };
    digest(&[kind, u64::from(id), message.mode as u64, message.trigger as u64, u64::from(message.vector.0)])
}
