//! The debt that a weakened entry leaves: CPUs may still hold the old translation.
//!
//! SDM Vol. 3C, "Guidelines for Use of the INVEPT Instruction".

/// Proof that entries were changed and CPUs may still use what they were. Hand it to
/// [`SecondLevel::settle`](crate::SecondLevel::settle) with the flush before any page that was mapped is used
/// for something else.
#[must_use = "CPUs may still hold the old translations: settle it with a flush before pages are reused"]
#[derive(PartialEq, Eq, Debug)]
pub struct Invalidation {
    debt: Debt,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Debt {
    Nothing,
    Flush,
}

impl Invalidation {
    /// No entry was weakened yet.
    pub(crate) const NOTHING: Self = Self { debt: Debt::Nothing };

    /// An entry was weakened.
    pub(crate) const FLUSH: Self = Self { debt: Debt::Flush };

    /// Whether any CPU may hold a translation that must go.
    pub fn is_needed(&self) -> bool {
        match self.debt {
            Debt::Nothing => false,
            Debt::Flush => true,
        }
    }

    /// One debt out of two, so that several changes cost one flush.
    #[expect(clippy::needless_pass_by_value, reason = "a debt is handed over whole")]
    pub fn and(self, other: Self) -> Self {
        match (self.debt, other.debt) {
            (Debt::Nothing, Debt::Nothing) => Self::NOTHING,
            (Debt::Flush, _) | (_, Debt::Flush) => Self::FLUSH,
        }
    }

    /// Adds `other` to this debt.
    #[expect(clippy::needless_pass_by_value, reason = "a debt is handed over whole")]
    pub(crate) fn add(&mut self, other: Self) {
        if other.is_needed() {
            self.debt = Debt::Flush;
        }
    }
}
