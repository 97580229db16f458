//! The reset ports.

use crate::Bytes;
use crate::subject::{self, digest};
use arch::Nanos;
use devices::{ResetControl, ResetControlState, Trigger};

const PORTS: [Trigger; 2] = [Trigger::ResetControl, Trigger::ControlA];

/// The ports.
#[derive(Debug)]
pub(super) struct Subject(ResetControl);

impl subject::Subject for Subject {
    type State = ResetControlState;

    fn new() -> Self {
        Self(ResetControl::new())
    }

    fn act(&mut self, bytes: &mut Bytes<'_>, _now: Nanos) -> u64 {
        let port = bytes.choose(&PORTS);
        let request = self.0.write(port, bytes.byte());
        digest(&[u64::from(request.is_some()), u64::from(self.0.read(port))])
    }

    fn save(&self) -> ResetControlState {
        self.0.save()
    }

    fn restore(&mut self, state: &ResetControlState) {
        self.0.restore(state);
    }
}
