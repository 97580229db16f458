//! ACPI fixed hardware.

use crate::Bytes;
use crate::subject::{self, digest};
use arch::Nanos;
use bus::{IrqBank, PowerRequest};
use devices::{AcpiPm, AcpiPmState, TimerWidth};

/// The block and the line of its interrupt.
#[derive(Debug)]
pub(super) struct Subject {
    device: AcpiPm,
    lines: IrqBank,
}

impl subject::Subject for Subject {
    type State = AcpiPmState;

    fn new() -> Self {
        let lines = IrqBank::new();
        Self { device: AcpiPm::new(TimerWidth::Bits24, lines.line(9)), lines }
    }

    fn act(&mut self, bytes: &mut Bytes<'_>, now: Nanos) -> u64 {
        let (mut read, mut off) = (0, false);
        match bytes.byte() % 8 {
            0..=1 => read = self.device.read(bytes.word(), bytes.port_width(), now),
            2..=4 => {
                let request = self.device.write(bytes.below(16), bytes.port_width(), bytes.dword(), now);
                off = request == Some(PowerRequest::Off);
            }
            5 => {
                self.device.write_command(bytes.word(), bytes.choose(&[0xf0, 0xf1, 0]));
                read = u32::from(self.device.read_command(bytes.word()));
            }
            6 => self.device.raise_general_event(bytes.byte()),
            _ => self.device.press_power_button(),
        }
        digest(&[u64::from(read), u64::from(off), u64::from(self.lines.levels())])
    }

    fn advance(&mut self, now: Nanos) -> u64 {
        self.device.advance(now);
        u64::from(self.lines.levels())
    }

    fn next_deadline(&self) -> Nanos {
        self.device.next_deadline()
    }

    fn save(&self) -> AcpiPmState {
        self.device.save()
    }

    fn restore(&mut self, state: &AcpiPmState) {
        self.device.restore(state);
    }
}
