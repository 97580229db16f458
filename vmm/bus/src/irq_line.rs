//! Interrupt lines from devices to interrupt controllers.
//!
//! A device holds an [`IrqLine`] and never learns its number. The controller side looks at its [`IrqBank`] after
//! each access: levels as they are now, and which lines rose since it last looked, so that a pulse between two
//! looks is an edge all the same.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

#[derive(Debug, Default)]
struct Wires {
    level: AtomicU32,
    rose: AtomicU32,
    changed: AtomicU32,
}

/// Up to 32 interrupt lines, seen from the controllers' side.
#[derive(Clone, Debug, Default)]
pub struct IrqBank(Arc<Wires>);

/// What happened on a bank since the last look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LineChanges {
    /// The lines as they are now, one bit each.
    pub level: u32,
    /// The lines that rose at least once.
    pub rose: u32,
    /// The lines that rose or fell at least once.
    pub changed: u32,
}

impl IrqBank {
    /// A bank with all lines low.
    pub fn new() -> Self {
        Self::default()
    }

    /// The line with `number` (0 to 31), to be handed to one device.
    pub fn line(&self, number: u8) -> IrqLine {
        assert!(number < 32, "a bank has 32 lines");
        IrqLine { wires: Arc::clone(&self.0), mask: 1 << number }
    }

    /// Takes what changed since the last call, `None` if nothing did. Cheap when nothing did.
    #[inline]
    pub fn take_changes(&self) -> Option<LineChanges> {
        if self.0.changed.load(Ordering::Relaxed) == 0 {
            return None;
        }
        Some(self.take())
    }

    #[cold]
    fn take(&self) -> LineChanges {
        let changed = self.0.changed.swap(0, Ordering::AcqRel);
        let rose = self.0.rose.swap(0, Ordering::AcqRel);
        LineChanges { level: self.0.level.load(Ordering::Acquire), rose, changed }
    }

    /// The lines as they are now, one bit each.
    pub fn levels(&self) -> u32 {
        self.0.level.load(Ordering::Acquire)
    }
}

/// A device's end of an interrupt line.
#[derive(Clone, Debug)]
pub struct IrqLine {
    wires: Arc<Wires>,
    mask: u32,
}

impl IrqLine {
    /// Drives the line high (`true`) or low.
    #[inline]
    pub fn set(&self, level: bool) {
        // Devices drive their line after every access, mostly to where it is: that must not cost a locked write.
        if self.is_high() == level {
            return;
        }
        let before = if level {
            self.wires.level.fetch_or(self.mask, Ordering::AcqRel)
        } else {
            self.wires.level.fetch_and(!self.mask, Ordering::AcqRel)
        };
        if (before & self.mask != 0) != level {
            if level {
                self.wires.rose.fetch_or(self.mask, Ordering::AcqRel);
            }
            self.wires.changed.fetch_or(self.mask, Ordering::AcqRel);
        }
    }

    /// A pulse: high, then low.
    pub fn pulse(&self) {
        self.set(true);
        self.set(false);
    }

    /// Whether the line is high.
    pub fn is_high(&self) -> bool {
        self.wires.level.load(Ordering::Acquire) & self.mask != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_between_looks_is_still_an_edge() {
        let bank = IrqBank::new();
        let line = bank.line(4);
        line.pulse();
        let changes = bank.take_changes().expect("the line moved");
        assert_eq!((changes.level, changes.rose, changes.changed), (0, 1 << 4, 1 << 4));
        assert_eq!(bank.take_changes(), None);
    }

    #[test]
    fn driving_the_same_level_again_changes_nothing() {
        let bank = IrqBank::new();
        let line = bank.line(0);
        line.set(true);
        assert!(bank.take_changes().is_some());
        line.set(true);
        assert_eq!(bank.take_changes(), None);
        assert_eq!(bank.levels(), 1);
    }
}
