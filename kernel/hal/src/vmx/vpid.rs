//! Virtual-processor identifiers: handed out once at a time, never 0 (which is the host's).

use spin::Mutex;

const COUNT: usize = 4096;

static TAKEN: Mutex<[u64; COUNT / 64]> = Mutex::new({
    let mut words = [0; COUNT / 64];
    words[0] = 1;
    words
});

/// An identifier, given back when dropped.
#[derive(Debug)]
pub(super) struct Vpid(u16);

impl Vpid {
    /// Takes the lowest free identifier.
    pub(super) fn take() -> Option<Self> {
        let mut taken = TAKEN.lock();
        let (index, word) = taken.iter_mut().enumerate().find(|(_, word)| **word != u64::MAX)?;
        let bit = word.trailing_ones();
        *word |= 1 << bit;
        u16::try_from(index * 64 + bit as usize).ok().map(Self)
    }

    pub(super) const fn number(&self) -> u16 {
        self.0
    }
}

impl Drop for Vpid {
    fn drop(&mut self) {
        TAKEN.lock()[usize::from(self.0) / 64] &= !(1 << (self.0 % 64));
    }
}
