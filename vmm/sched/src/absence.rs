//! A core that does something else than running entities for a while.

use crate::entity::{Home, Slot};
use crate::heap::Reach;
use crate::scheduler::Scheduler;
use crate::spec::CoreId;
use arch::Tsc;

impl Scheduler {
    /// `core` does something else for a while before it [asks](Self::pick) again: who runs there goes where a core idles, if
    /// it may, and other cores that idle are told of who waits. Returns whether the one that runs went. Look for cores
    /// to [tell](Self::take_kick) afterwards.
    pub fn step_aside(&self, core: CoreId, now: Tsc) -> bool {
        if self.idle.is_empty() {
            return false;
        }
        let Some(unit) = self.unit(core) else { return false };
        let mut queue = unit.queue.lock();
        let runs = queue.current.as_ref().map(|current| current.slot);
        let leaving = runs.filter(|slot| self.finds_idle_core(slot)).and_then(|slot| {
            // On its way before it is out, so that nobody who has the lock looks for it here.
            slot.set_home(Home::Moving);
            queue.times.pushes += 1;
            queue.stop_current(self, now)
        });
        if let Some(slot) = leaving {
            drop(queue);
            self.send(slot, now);
            queue = unit.queue.lock();
        }
        if !queue.waiting.is_empty() && !self.idle.is_empty() {
            self.offer_all(&queue);
        }
        leaving.is_some()
    }

    fn finds_idle_core(&self, slot: &Slot) -> bool {
        let allowed = || self.allowed(&slot.entity.lock());
        slot.reach() == Reach::Movable && !self.idle.load().and(allowed()).is_empty()
    }
}
