//! Somebody at the keyboard: keystrokes that wait, and are made one after the other at a pace that software can follow.
//!
//! The keyboard itself keeps 16 bytes. Software that polls it, a boot loader above all, looks now and then.

use crate::i8042::I8042;
use arch::Nanos;

/// From one stroke to the next, in nanoseconds.
const PACE_NS: u64 = 20_000_000;
/// Bytes of a stroke at most.
pub const STROKE_BYTES: usize = 16;
/// Strokes that wait at most.
const MOST_STROKES: usize = 256;

/// Keys that go down and up together: the bytes of scan code set 2 that a keyboard sends for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stroke {
    codes: [u8; STROKE_BYTES],
    length: u8,
}

impl Stroke {
    const NONE: Self = Self { codes: [0; STROKE_BYTES], length: 0 };

    /// The stroke that sends `codes`, unless these are too many.
    pub fn new(codes: &[u8]) -> Option<Self> {
        let mut stroke = Self { length: u8::try_from(codes.len()).ok()?, ..Self::NONE };
        stroke.codes.get_mut(..codes.len())?.copy_from_slice(codes);
        Some(stroke)
    }

    fn codes(&self) -> &[u8] {
        self.codes.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// Strokes that wait, as plain data: a ring.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypistState {
    strokes: [Stroke; MOST_STROKES],
    first: usize,
    count: usize,
    due: Nanos,
}

/// The typist.
#[derive(Debug)]
pub(crate) struct Typist {
    state: alloc::boxed::Box<TypistState>,
}

impl Typist {
    pub(crate) fn new() -> Self {
        let state =
            TypistState { strokes: [Stroke::NONE; MOST_STROKES], first: 0, count: 0, due: Nanos::NEVER };
        Self { state: alloc::boxed::Box::new(state) }
    }

    /// Has `strokes` made behind those that wait, the first at `now` if none does. Returns whether there was room: all
    /// are taken or none.
    pub(crate) fn enqueue(&mut self, strokes: &[Stroke], now: Nanos) -> bool {
        if strokes.len() > MOST_STROKES - self.state.count {
            return false;
        }
        for stroke in strokes {
            let place = (self.state.first + self.state.count) % MOST_STROKES;
            self.state.strokes[place] = *stroke;
            self.state.count += 1;
        }
        if self.state.count > 0 && self.state.due == Nanos::NEVER {
            self.state.due = now;
        }
        true
    }

    /// Makes the stroke that is due at `now`. One that the keyboard has no room for is tried again.
    pub(crate) fn advance(&mut self, now: Nanos, keyboard: &mut I8042) {
        if now < self.state.due {
            return;
        }
        let stroke = self.state.strokes[self.state.first % MOST_STROKES];
        if self.state.count > 0 && keyboard.has_room_for(stroke.codes().len()) {
            let _taken = keyboard.keys(stroke.codes());
            self.state.first = (self.state.first + 1) % MOST_STROKES;
            self.state.count -= 1;
        }
        self.state.due =
            if self.state.count == 0 { Nanos::NEVER } else { Nanos(now.0.saturating_add(PACE_NS)) };
    }

    pub(crate) const fn next_deadline(&self) -> Nanos {
        self.state.due
    }

    /// Forgets what waits.
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }

    pub(crate) fn save(&self) -> alloc::boxed::Box<TypistState> {
        self.state.clone()
    }

    pub(crate) fn restore(&mut self, state: &TypistState) {
        *self.state = state.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::i8042::I8042Port;
    use bus::IrqBank;

    fn keyboard() -> I8042 {
        let lines = IrqBank::new();
        I8042::new(lines.line(1), lines.line(12))
    }

    fn stroke(code: u8) -> Stroke {
        Stroke::new(&[code, 0xf0, code]).expect("short")
    }

    #[test]
    fn strokes_come_one_after_the_other() {
        let (mut typist, mut keyboard) = (Typist::new(), keyboard());
        assert!(typist.enqueue(&[stroke(0x1c), stroke(0x32)], Nanos(5)));
        assert_eq!(typist.next_deadline(), Nanos(5));
        typist.advance(Nanos(4), &mut keyboard);
        assert_eq!(keyboard.read(I8042Port::Command) & 1, 0);
        typist.advance(Nanos(5), &mut keyboard);
        assert_eq!([0; 2].map(|_: u8| keyboard.read(I8042Port::Data)), [0x1e, 0x9e]);
        assert_eq!(keyboard.read(I8042Port::Command) & 1, 0);
        let due = typist.next_deadline();
        assert_eq!(due, Nanos(5 + PACE_NS));
        let mut other = Typist::new();
        other.restore(&typist.save());
        other.advance(due, &mut keyboard);
        assert_eq!([0; 2].map(|_: u8| keyboard.read(I8042Port::Data)), [0x30, 0xb0]);
        assert_eq!(other.next_deadline(), Nanos::NEVER);
    }

    #[test]
    fn what_the_keyboard_has_no_room_for_waits() {
        let (mut typist, mut keyboard) = (Typist::new(), keyboard());
        assert!(typist.enqueue(&[stroke(0x1c); 8], Nanos(0)));
        for _ in 0..20 {
            typist.advance(typist.next_deadline(), &mut keyboard);
        }
        assert!(typist.next_deadline() < Nanos::NEVER);
        let mut read = 0;
        for _ in 0..40 {
            while keyboard.read(I8042Port::Command) & 1 != 0 {
                assert!(matches!(keyboard.read(I8042Port::Data), 0x1e | 0x9e));
                read += 1;
            }
            typist.advance(typist.next_deadline(), &mut keyboard);
        }
        assert_eq!((read, typist.next_deadline()), (16, Nanos::NEVER));
    }

    #[test]
    fn too_many_strokes_are_refused_whole() {
        let mut typist = Typist::new();
        assert!(typist.enqueue(&[stroke(1); 200], Nanos(0)));
        assert!(!typist.enqueue(&[stroke(1); 57], Nanos(0)));
        assert!(typist.enqueue(&[stroke(1); 56], Nanos(0)));
        typist.reset();
        assert_eq!(typist.next_deadline(), Nanos::NEVER);
        assert_eq!(Stroke::new(&[0; 17]), None);
    }
}
