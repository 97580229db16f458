//! Which numbers of vCPUs, and so which slots, are free.

use crate::cores::MAX_VCPUS;
use alloc::boxed::Box;
use alloc::vec;
use sched::EntityId;

/// The numbers that the scheduler knows.
#[derive(Debug)]
pub(super) struct Numbers {
    taken: Box<[bool]>,
}

impl Numbers {
    /// All free.
    pub(super) fn new() -> Self {
        Self { taken: vec![false; MAX_VCPUS].into_boxed_slice() }
    }

    /// The `count` lowest free ones, if so many are free.
    pub(super) fn take(&mut self, count: usize) -> Option<Box<[EntityId]>> {
        let free = (0..).map(EntityId).zip(&mut self.taken).filter(|(_, taken)| !**taken).take(count);
        let chosen: alloc::vec::Vec<_> = free.collect();
        if chosen.len() < count {
            return None;
        }
        Some(
            chosen
                .into_iter()
                .map(|(id, taken)| {
                    *taken = true;
                    id
                })
                .collect(),
        )
    }

    /// Gives numbers back.
    pub(super) fn give(&mut self, ids: &[EntityId]) {
        for id in ids {
            if let Some(taken) = usize::try_from(id.0).ok().and_then(|index| self.taken.get_mut(index)) {
                *taken = false;
            }
        }
    }
}
