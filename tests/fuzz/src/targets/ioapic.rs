//! The I/O APIC.

use super::hpet::sent;
use crate::Bytes;
use crate::subject::{self, digest};
use arch::{Nanos, Vector, Width};
use devices::{IoApic, IoApicState};

/// The controller alone; its lines are arguments.
#[derive(Debug)]
pub(super) struct Subject(IoApic);

impl subject::Subject for Subject {
    type State = IoApicState;

    fn new() -> Self {
        Self(IoApic::new())
    }

    fn act(&mut self, bytes: &mut Bytes<'_>, _now: Nanos) -> u64 {
        let (mut read, mut message) = (0, None);
        match bytes.byte() % 8 {
            0 => {
                let width = bytes.memory_width();
                read = self.0.read(u64::from(bytes.below(0x1008)), width);
                assert_eq!(read & !width.mask(), 0);
            }
            1 => self.0.write(u64::from(bytes.below(0x48)), bytes.memory_width(), bytes.qword()),
            2..=3 => {
                self.0.write(0, Width::Four, 0x10 + u64::from(bytes.byte() % 0x30));
                self.0.write(0x10, Width::Four, u64::from(bytes.dword()));
                read = self.0.read(0x10, Width::Four);
            }
            4..=5 => self.0.set_lines(bytes.dword(), bytes.dword()),
            6 => self.0.end_of_interrupt(Vector(bytes.byte())),
            _ => message = self.0.take_message(),
        }
        digest(&[read, sent(message), u64::from(self.0.has_message())])
    }

    fn save(&self) -> IoApicState {
        self.0.save()
    }

    fn restore(&mut self, state: &IoApicState) {
        self.0.restore(state);
    }
}
