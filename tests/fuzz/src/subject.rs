//! Things with registers, time and a saved state.

use crate::{Bytes, Seen};
use arch::Nanos;
use core::fmt::Debug;

/// The most operations of one input.
const OPERATIONS: u32 = 2000;

/// A device, or several, as the operations of an input see it.
pub trait Subject {
    /// What [`Self::save`] gives.
    type State: PartialEq + Debug;

    /// A new one.
    fn new() -> Self;

    /// Does the operation that `bytes` choose, checks what must hold, and gives a digest of all that could be seen of
    /// it from outside.
    fn act(&mut self, bytes: &mut Bytes<'_>, now: Nanos) -> u64;

    /// Lets time come to `now`, and gives a digest of what could be seen of it from outside.
    fn advance(&mut self, _now: Nanos) -> u64 {
        0
    }

    /// When it wants to be advanced next.
    fn next_deadline(&self) -> Nanos {
        Nanos::NEVER
    }

    /// The state.
    fn save(&self) -> Self::State;

    /// Becomes what was saved.
    fn restore(&mut self, state: &Self::State);
}

/// Plays an input on an `S`: operations, time steps, and restarts from a saved state, after which two of them must go
/// on alike.
///
/// # Panics
/// When something does not hold.
pub fn play<S: Subject>(mut bytes: Bytes<'_>, seen: &mut Seen) {
    let mut original = S::new();
    let mut copy: Option<S> = None;
    let mut now = Nanos(0);
    for _ in 0..OPERATIONS {
        if bytes.is_empty() {
            break;
        }
        let kind = bytes.byte();
        match kind {
            0..=7 => {
                let state = original.save();
                if let Some(copy) = &copy {
                    assert_eq!(copy.save(), state, "the restored one has gone its own way");
                }
                let mut restored = S::new();
                restored.restore(&state);
                assert_eq!(restored.save(), state, "what was saved is not what was restored");
                copy = Some(restored);
            }
            8..=31 => {
                // A machine gets years old, not centuries.
                now = now + Nanos(bytes.magnitude() >> 8);
                settle(&mut original, copy.as_mut(), now, seen);
            }
            32..=63 if original.next_deadline() != Nanos::NEVER => {
                now = now.max(original.next_deadline());
                settle(&mut original, copy.as_mut(), now, seen);
            }
            32..=255 => {
                let mut again = bytes.clone();
                let answer = original.act(&mut bytes, now);
                seen.note(1, answer);
                if let Some(copy) = &mut copy {
                    assert_eq!(copy.act(&mut again, now), answer, "the restored one answers otherwise");
                    assert_eq!(copy.next_deadline(), original.next_deadline());
                }
            }
        }
    }
    if let Some(copy) = &copy {
        assert_eq!(copy.save(), original.save(), "the restored one has gone its own way");
    }
}

fn settle<S: Subject>(original: &mut S, copy: Option<&mut S>, now: Nanos, seen: &mut Seen) {
    let answer = original.advance(now);
    seen.note(0, answer);
    assert!(original.next_deadline() > now, "a timer that is not settled would spin its caller");
    if let Some(copy) = copy {
        assert_eq!(copy.advance(now), answer, "the restored one lives otherwise");
        assert_eq!(copy.next_deadline(), original.next_deadline());
    }
}

/// Puts values together into one that stands for all of them.
pub fn digest(values: &[u64]) -> u64 {
    values.iter().fold(0x51_7cc1_b727_220a, |hash: u64, value| {
        (hash.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}
