//! The pair of 8259s.

use crate::Bytes;
use crate::subject::{self, digest};
use arch::Nanos;
use devices::{Chip, PicPair, PicPairState};

const CHIPS: [Chip; 2] = [Chip::Primary, Chip::Secondary];

/// The pair alone; its lines are arguments.
#[derive(Debug)]
pub(super) struct Subject(PicPair);

impl subject::Subject for Subject {
    type State = PicPairState;

    fn new() -> Self {
        Self(PicPair::new())
    }

    fn act(&mut self, bytes: &mut Bytes<'_>, _now: Nanos) -> u64 {
        let mut read = 0;
        match bytes.byte() % 8 {
            0 => read = self.0.read(bytes.choose(&CHIPS), bytes.word()),
            1..=2 => self.0.write(bytes.choose(&CHIPS), bytes.word(), bytes.byte()),
            3..=4 => self.0.set_lines(bytes.word(), bytes.word()),
            5 => read = self.0.acknowledge().0,
            6 => {
                self.0.write_elcr(bytes.choose(&CHIPS), bytes.byte());
                read = self.0.read_elcr(bytes.choose(&CHIPS));
            }
            _ => {
                // An initialization as a whole.
                let chip = bytes.choose(&CHIPS);
                self.0.write(chip, 0, 0x10 | bytes.byte() & 0x0f);
                for _ in 0..4 {
                    self.0.write(chip, 1, bytes.byte());
                }
            }
        }
        digest(&[u64::from(read), u64::from(self.0.output())])
    }

    fn save(&self) -> PicPairState {
        self.0.save()
    }

    fn restore(&mut self, state: &PicPairState) {
        self.0.restore(state);
    }
}
