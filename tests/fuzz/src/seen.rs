//! What a target has shown so far.

/// Places in the record; answers that share one by their hash are taken for the same.
const PLACES: usize = 1 << 20;

/// A record of answers, of which only whether it was there is kept.
#[derive(Clone, Debug)]
pub struct Seen {
    places: Box<[bool]>,
    count: usize,
    is_new: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Self { places: vec![false; PLACES].into_boxed_slice(), count: 0, is_new: false }
    }
}

impl Seen {
    /// Notes that `what` (the kind of an operation, say) was answered by `answer`.
    pub fn note(&mut self, what: u8, answer: u64) {
        let hash = (answer ^ u64::from(what) << 56).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44;
        let place = &mut self.places[usize::try_from(hash).unwrap_or(0) % PLACES];
        if !*place {
            *place = true;
            self.count += 1;
            self.is_new = true;
        }
    }

    /// Notes an answer of which only the magnitude matters, as times and counts are always new.
    pub fn note_magnitude(&mut self, what: u8, answer: u64) {
        self.note(what, u64::from(64 - answer.leading_zeros()));
    }

    /// How many different answers there were.
    pub const fn count(&self) -> usize {
        self.count
    }

    /// Whether there was a new one since the last call.
    pub const fn take_new(&mut self) -> bool {
        core::mem::replace(&mut self.is_new, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_new_once() {
        let mut seen = Seen::default();
        seen.note(1, 5);
        assert!(seen.take_new());
        seen.note(1, 5);
        assert!(!seen.take_new());
        seen.note(2, 5);
        assert!(seen.take_new());
        assert_eq!(seen.count(), 2);
    }
}
