//! PCI configuration by its two ports.

use crate::Bytes;
use crate::subject::{self, digest};
use arch::Nanos;
use devices::{PciHost, PciHostState};

/// The host bridge and what is behind it.
#[derive(Debug)]
pub(super) struct Subject(PciHost);

impl subject::Subject for Subject {
    type State = PciHostState;

    fn new() -> Self {
        Self(PciHost::new())
    }

    fn act(&mut self, bytes: &mut Bytes<'_>, _now: Nanos) -> u64 {
        let mut read = 0;
        match bytes.byte() % 4 {
            0 => self.0.write_address(bytes.dword()),
            1 => self.0.write_address(0x8000_0000 | u32::from(bytes.below(0x1000))),
            2 => read = self.0.read_data(bytes.word(), bytes.port_width()),
            _ => self.0.write_data(bytes.word(), bytes.port_width(), bytes.dword()),
        }
        digest(&[u64::from(read), u64::from(self.0.read_address())])
    }

    fn save(&self) -> PciHostState {
        self.0.save()
    }

    fn restore(&mut self, state: &PciHostState) {
        self.0.restore(state);
    }
}
