//! The keyboard controller.

use crate::Bytes;
use crate::subject::{self, digest};
use arch::Nanos;
use bus::IrqBank;
use devices::{I8042, I8042Port, I8042State};

const PORTS: [I8042Port; 2] = [I8042Port::Data, I8042Port::Command];

/// The controller and its lines.
#[derive(Debug)]
pub(super) struct Subject {
    device: I8042,
    lines: IrqBank,
}

impl subject::Subject for Subject {
    type State = I8042State;

    fn new() -> Self {
        let lines = IrqBank::new();
        Self { device: I8042::new(lines.line(1), lines.line(12)), lines }
    }

    fn act(&mut self, bytes: &mut Bytes<'_>, _now: Nanos) -> u64 {
        let (mut read, mut resets) = (0, false);
        match bytes.byte() % 4 {
            0 => read = u64::from(self.device.read(bytes.choose(&PORTS))),
            1..=2 => resets = self.device.write(bytes.choose(&PORTS), bytes.byte()).is_some(),
            _ => {
                let codes: Vec<u8> = (0..bytes.byte() % 20).map(|_| bytes.byte()).collect();
                read = u64::from(self.device.keys(&codes));
            }
        }
        let rose = self.lines.take_changes().map_or(0, |changes| changes.rose);
        digest(&[read, u64::from(resets), u64::from(self.lines.levels()), u64::from(rose)])
    }

    fn save(&self) -> I8042State {
        self.device.save()
    }

    fn restore(&mut self, state: &I8042State) {
        self.device.restore(state);
        let _restored = self.lines.take_changes();
    }
}
